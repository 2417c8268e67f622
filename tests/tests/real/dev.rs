//! `kura dev`: a mesh out of nothing, and nothing of it left behind.

use kura_tests::{
    client::Client,
    dev::Dev,
    node::run,
    process,
    raw::Raw,
    skip::skip,
    wait::{A_MOMENT, until},
};

use crate::{
    bed::{body, put_head},
    ccache::{WRITES_PER_SOURCE, Workshop, has_ccache, storage},
    mesh::has_fetched,
    project,
};

/// Waits until it has complained about this.
async fn complains(dev: &Dev, words: &str) {
    until(words, A_MOMENT, async || dev.stderr().contains(words).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_through_one_node_of_a_laptop_mesh_is_found_through_another() {
    if !has_ccache() {
        let name = "a_build_through_one_node_of_a_laptop_mesh_is_found_through_another";
        return skip(name, "ccache is not installed");
    }
    let mut dev = Dev::start(&[]).await;
    let addrs = dev.addrs();
    assert_eq!((addrs.len(), dev.nodes().len()), (3, 3));
    let said = dev.stdout();
    for line in [
        format!("export CCACHE_REMOTE_STORAGE=\"http://{}/ccache|layout=subdirs\"", addrs[0]),
        format!("bazel build //... --remote_cache=http://{}/bazel", addrs[0]),
        format!("kura status http://{} http://{} http://{}", addrs[0], addrs[1], addrs[2]),
    ] {
        assert!(said.contains(&line), "{line:?} is not in {said}");
    }

    let workshop = Workshop::new();
    let first = workshop.build(&storage(addrs[0], "subdirs"), "-O1", project::SOURCES).await;
    first.assert_all_written();
    has_fetched(addrs[1], WRITES_PER_SOURCE * u64::try_from(project::SOURCES).unwrap()).await;
    let second = workshop.build(&storage(addrs[1], "subdirs"), "-O1", project::SOURCES).await;
    second.assert_all_found(&first);

    assert_eq!(dev.temporaries().len(), 1, "the data lies in one temporary directory");
    dev.signal("INT");
    assert_eq!(dev.ended().await.code(), Some(0));
    dev.nodes_are_gone().await;
    assert_eq!(dev.temporaries().len(), 0, "a temporary directory is left");
}

#[tokio::test]
async fn a_node_that_dies_is_reported_and_the_others_go_on() {
    let mut dev = Dev::start(&[]).await;
    let addrs = dev.addrs();
    let urls: Vec<String> = addrs.iter().map(|addr| format!("http://{addr}")).collect();
    let status = ["status", &urls[0], &urls[1], &urls[2]];
    assert_eq!(run(&status).await.status.code(), Some(0), "all are ready");

    process::signal(dev.nodes()[1], "KILL");
    complains(&dev, "ended by itself (signal: 9 (SIGKILL)); it is not started again, 2 nodes left")
        .await;
    dev.assert_alive();
    assert_eq!(run(&status).await.status.code(), Some(74), "one is gone");
    let mut answered = 0;
    for addr in &addrs {
        if let Ok(mut client) = Client::try_connect(*addr).await {
            assert_eq!(client.put("/a/b", "abc").await.status, 201);
            answered += 1;
        }
    }
    assert_eq!(answered, 2);

    process::signal(dev.nodes()[0], "KILL");
    process::signal(dev.nodes()[2], "KILL");
    assert_eq!(dev.ended().await.code(), Some(74), "no node is left to run");
    assert!(dev.stderr().contains("no node is left"), "{}", dev.stderr());
    assert_eq!(dev.temporaries().len(), 0, "a temporary directory is left");
}

#[tokio::test]
async fn nodes_end_when_their_parent_is_killed_and_what_they_had_is_kept_in_dir() {
    let directory = tempfile::tempdir().unwrap();
    let dir = format!("--dir={}", directory.path().join("mesh").display());
    let mut dev = Dev::start(&["--nodes=2", &dir]).await;
    let path = "/team/key";
    let put = Client::connect(dev.addrs()[0]).await.put(path, "kept").await;
    assert_eq!(put.status, 201);

    dev.signal("KILL");
    dev.ended().await;
    dev.nodes_are_gone().await;

    let mut dev = Dev::start(&["--nodes=2", &dir]).await;
    assert!(dev.stdout().contains("the data stays in "), "{}", dev.stdout());
    for addr in dev.addrs() {
        let answer = Client::connect(addr).await.get(path).await;
        assert_eq!((answer.status, answer.text()), (200, "kept".to_owned()), "at {addr}");
    }
    dev.signal("TERM");
    assert_eq!(dev.ended().await.code(), Some(0));
    dev.nodes_are_gone().await;
}

#[tokio::test]
async fn a_second_signal_kills_nodes_that_wait_for_a_client() {
    let mut dev = Dev::start(&["--nodes=1"]).await;
    let mut raw = Raw::connect(dev.addrs()[0]).await;
    raw.send(put_head("/a/stuck", &["Content-Length: 1000000"])).await;
    raw.send(body(1, 500_000)).await;
    dev.signal("INT");
    complains(&dev, "draining").await;
    dev.signal("INT");
    assert_eq!(dev.ended().await.code(), Some(128 + 2));
    assert!(dev.stdout().contains("1 node killed"), "{}", dev.stdout());
    dev.nodes_are_gone().await;
}
