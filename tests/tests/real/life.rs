//! Starts and ends: two nodes in one directory, bad settings, drains, kills, and what is there after.

use std::{fs, os::unix::process::ExitStatusExt as _, path::Path, process::Output, time::Duration};

use kura_tests::{
    client::Client,
    node::{Home, SMALL},
    raw::Raw,
    wait::{A_MOMENT, until, within},
};

use crate::bed::{Bed, body, cas_path, put_head};

const MIB: usize = 1024 * 1024;

/// Runs a node that is expected to end by itself.
async fn run_to_its_end(home: &Home, flags: &[&str]) -> Output {
    let mut command = home.command(flags);
    let output = tokio::task::spawn_blocking(move || command.output());
    within("kura ends by itself", A_MOMENT, output).await.unwrap().expect("kura can be started")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn a_second_node_in_the_same_directory_ends_with_75_and_names_the_holder() {
    let mut bed = Bed::start(&[]).await;
    let second = run_to_its_end(&bed.home, &SMALL).await;
    let said = stderr(&second);
    assert_eq!(second.status.code(), Some(75), "{said}");
    assert_eq!(second.stdout, b"", "it must not say that it listens");
    assert!(said.contains(&format!("process id {}", bed.node.pid())), "the holder: {said}");
    assert!(said.contains(bed.home.data_dir().to_str().unwrap()), "the directory: {said}");
    assert_eq!(bed.node.put("/a/b", "abc").await.status, 201, "the first one goes on");
    bed.unharmed_but("/a/b", 200, 1).await;
}

#[tokio::test]
async fn a_lock_ends_with_its_process_however_that_ends() {
    let home = Home::default();
    home.start_small(&[]).await.kill();
    home.start_small(&[]).await.stop().await;
    home.start_small(&[]).await.stop().await;
}

#[tokio::test]
async fn bad_settings_end_with_78_and_name_file_line_key_and_what_is_allowed() {
    let home = Home::default();
    let file = home.path("kura.toml");
    let text = "[http]\n\nidle_timeout = \"fast\"\n[store]\ncapacitty = \"1GiB\"\n";
    fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let output = run_to_its_end(&home, &["--config", file, "--max-body=0B"]).await;
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(78), "{said}");
    for part in [
        &format!("{file}:3"),
        "http.idle_timeout",
        "\"fast\"",
        "from 100ms to 1h",
        &format!("{file}:5"),
        "capacitty",
        "did you mean",
        "--max-body",
    ] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    assert!(!home.data_dir().exists(), "nothing was made");
}

#[tokio::test]
async fn an_unusable_data_directory_ends_with_74_and_is_named() {
    let home = Home::default();
    fs::write(home.data_dir(), "a file").unwrap();
    let output = run_to_its_end(&home, &SMALL).await;
    assert_eq!(output.status.code(), Some(74), "{}", stderr(&output));
    assert!(stderr(&output).contains(home.data_dir().to_str().unwrap()), "{}", stderr(&output));
}

#[tokio::test]
async fn sigterm_lets_an_upload_in_flight_finish_and_ends_with_0() {
    let mut bed = Bed::start(&["--memory-body=4KiB"]).await;
    let whole = body(1, MIB);
    let mut raw = Raw::connect(bed.node.addr()).await;
    raw.send(put_head("/a/in-flight", &[&format!("Content-Length: {MIB}")])).await;
    raw.send(&whole[..MIB / 2]).await;
    bed.staging_in_use().await;

    bed.node.terminate();
    let addr = bed.node.addr();
    until("the node takes no new work", A_MOMENT, async || match Client::try_connect(addr).await {
        Ok(mut client) => match client.try_send(http::Method::GET, "/ready", "".into()).await {
            Ok(answer) => (answer.status == 503).then_some(()),
            Err(_) => Some(()),
        },
        Err(_) => Some(()),
    })
    .await;
    bed.node.assert_alive();
    raw.send(&whole[MIB / 2..]).await;
    assert_eq!(raw.answer().await.status, 201);
    assert_eq!(bed.node.ended(A_MOMENT).await.code(), Some(0));

    let node = bed.home.start_small(&[]).await;
    assert_eq!(node.get("/a/in-flight").await.body, whole);
}

#[tokio::test]
async fn a_drain_cuts_a_client_that_is_stuck_at_its_deadline() {
    let mut bed = Bed::start(&["--drain-completion-timeout=1s"]).await;
    let mut raw = Raw::connect(bed.node.addr()).await;
    raw.send(put_head("/a/stuck", &["Content-Length: 1000000"])).await;
    raw.send(body(1, 500_000)).await;
    bed.staging_in_use().await;
    bed.node.terminate();
    assert_eq!(bed.node.ended(Duration::from_secs(10)).await.code(), Some(0));

    bed.node = bed.home.start_small(&[]).await;
    bed.unharmed("/a/stuck").await;
}

#[tokio::test]
async fn a_second_sigterm_ends_a_drain_at_once() {
    let mut bed = Bed::start(&["--drain-completion-timeout=1h"]).await;
    let mut raw = Raw::connect(bed.node.addr()).await;
    raw.send(put_head("/a/stuck", &["Content-Length: 1000000"])).await;
    raw.send(body(1, 500_000)).await;
    bed.staging_in_use().await;
    bed.node.terminate();
    until("the drain has begun", A_MOMENT, async || {
        bed.node.log().contains("draining").then_some(())
    })
    .await;
    bed.node.terminate();
    assert_eq!(bed.node.ended(A_MOMENT).await.code(), Some(128 + 15));
}

#[tokio::test]
async fn sigterm_is_safe_from_the_first_instant() {
    let home = Home::default();
    let node = home.start_small(&[]).await;
    assert_eq!(node.put("/a/kept", "kept").await.status, 201);
    node.stop().await;
    // From before the program has begun to run to when it serves. The system ends a process that has
    // had no time to say that it hears the signal.
    for pause_ms in [0, 0, 1, 2, 5, 10, 20, 40] {
        let mut node = home.spawn(&SMALL);
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        node.terminate();
        let status = node.ended(A_MOMENT).await;
        let unheard = status.signal() == Some(15);
        assert!(status.code() == Some(0) || unheard, "after {pause_ms} ms: {status}");
    }
    for _ in 0..4 {
        let mut node = home.launch(&SMALL).await;
        // It listens, and may still be recovering.
        node.terminate();
        assert_eq!(node.ended(A_MOMENT).await.code(), Some(0));
    }
    let node = home.start_small(&[]).await;
    assert_eq!(node.get("/a/kept").await.text(), "kept");
}

#[tokio::test]
async fn artifacts_survive_a_clean_end_and_a_kill() {
    let home = Home::default();
    let artifacts: Vec<(String, bytes::Bytes)> = (0..40)
        .map(|number| {
            let body = body(number, usize::try_from(number * number * 700).unwrap());
            let path = if number % 2 == 0 { cas_path(&body) } else { format!("/team/{number}") };
            (path, body)
        })
        .collect();
    let mut node = home.start_small(&[]).await;
    for (path, body) in &artifacts {
        assert_eq!(node.put(path, body.clone()).await.status, 201, "{path}");
    }
    for round in ["stopped", "killed", "stopped again"] {
        if round == "killed" {
            node.kill();
        } else {
            node.stop().await;
        }
        node = home.start_small(&[]).await;
        for (path, body) in &artifacts {
            let answer = node.get(path).await;
            assert_eq!(answer.status, 200, "{path} after {round}");
            assert_eq!(answer.body, body, "{path} after {round}");
        }
    }
}

#[tokio::test]
async fn an_overwritten_key_holds_the_last_acknowledged_body_after_a_kill() {
    let home = Home::default();
    let mut node = home.start_small(&[]).await;
    for round in 0..10 {
        assert_eq!(node.put("/a/key", body(round, 5000)).await.status, 201);
    }
    node.kill();
    let node = home.start_small(&[]).await;
    assert_eq!(node.get("/a/key").await.body, body(9, 5000));
}

#[tokio::test]
async fn staging_left_by_a_kill_is_cleared_at_the_next_start() {
    let mut bed = Bed::start(&["--memory-body=4KiB"]).await;
    let mut raw = Raw::connect(bed.node.addr()).await;
    raw.send(put_head("/a/left", &[&format!("Content-Length: {}", 8 * MIB)])).await;
    raw.send(body(1, 4 * MIB)).await;
    until("a staging file holds bytes", A_MOMENT, async || {
        staged_bytes(bed.home.data_dir()).filter(|bytes| *bytes > 0)
    })
    .await;
    bed.node.kill();
    assert!(bed.home.staging_files() > 0, "the kill left nothing to clear");
    bed.node = bed.home.start_small(&[]).await;
    assert!(bed.node.metric("kura_store_staging_cleared_total").await > 0);
    bed.unharmed("/a/left").await;
}

/// The bytes of all staging files; nothing if there is none.
fn staged_bytes(data_dir: &Path) -> Option<u64> {
    let entries = fs::read_dir(data_dir.join("tmp")).unwrap();
    // A file may go between the two looks.
    entries
        .map(|entry| entry.unwrap().metadata().map_or(0, |found| found.len()))
        .reduce(|a, b| a + b)
}

#[tokio::test]
async fn what_the_disk_and_the_catalog_did_is_in_the_metrics() {
    let bed = Bed::start(&[]).await;
    assert_eq!(bed.node.put("/a/key", body(1, 1000)).await.status, 201);
    let text = bed.node.get("/metrics").await.text();
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name} in {text}")).trim().parse::<u64>().unwrap()
    };
    assert!(
        value("kura_host_disk_syncs_total") >= 1 && value("kura_host_catalog_commits_total") >= 1
    );
    assert_eq!(value("kura_host_mapping_faults_total"), 0);
}
