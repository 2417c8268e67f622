//! Answers given before the body is drained (`early_answer_storm`): the client sees the status, not
//! a reset, also when many are refused at once.

use std::time::{Duration, Instant};

use http::Method;
use kura_tests::{
    client::Client,
    raw::{Left, Raw},
    wait::{A_MOMENT, until},
};
use tokio::task::JoinSet;

use crate::bed::{Bed, body, cas_path, put_head};

const MIB: usize = 1024 * 1024;

/// Clients at once.
const CLIENTS: u64 = 64;

/// Uploads that wait for staging at once.
const PUTS: u64 = 8;

#[tokio::test]
async fn clients_that_are_refused_early_and_at_once_all_see_the_status() {
    let mut bed = Bed::start(&["--drain-body-max=2MiB", "--max-body=3MiB"]).await;
    let addr = bed.node.addr();
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        // Made before the head is sent: the node waits a moment for the body and no longer.
        let content = body(number, 2 * MIB);
        clients.spawn(async move {
            let mut raw = Raw::connect(addr).await;
            // Refused by its name, before anything of the body is read.
            raw.send(put_head("/cas/none", &[&format!("Content-Length: {}", 2 * MIB)])).await;
            // All of it is sent before the client listens.
            raw.send(content).await;
            let status = raw.answer().await.status;
            raw.send("GET /up HTTP/1.1\r\nHost: a\r\n\r\n").await;
            (status, raw.answer().await.status)
        });
    }
    while let Some(done) = clients.join_next().await {
        assert_eq!(done.unwrap(), (400, 200), "the refusal, and the next request behind it");
    }
    bed.unharmed_but("/cas/none", 400, 0).await;
}

#[tokio::test]
async fn a_client_whose_refused_body_is_too_long_to_drain_sees_the_status_and_a_close() {
    let mut bed = Bed::start(&["--drain-body-max=64KiB", "--max-body=1MiB"]).await;
    let mut raw = Raw::connect(bed.node.addr()).await;
    raw.send(put_head("/a/long", &[&format!("Content-Length: {}", 64 * MIB)])).await;
    raw.send(body(1, 1000)).await;
    let answer = raw.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (413, "close"));
    raw.finish().await;
    assert_eq!(raw.left(A_MOMENT).await, Left::Closed);
    bed.unharmed("/a/long").await;
}

#[tokio::test]
async fn a_client_that_never_stops_sending_is_left_within_a_bound() {
    let mut bed = Bed::start(&["--drain-body-max=1MiB", "--max-body=1MiB"]).await;
    let mut raw = Raw::connect(bed.node.addr()).await;
    raw.send(put_head("/a/endless", &["Content-Length: 99999999999"])).await;
    let piece = body(1, MIB);
    let mut sent_bytes = 0;
    while raw.try_send(&piece).await.is_ok() {
        sent_bytes += piece.len();
        assert!(sent_bytes < 256 * MIB, "the node reads on and on");
    }
    bed.unharmed("/a/endless").await;
}

/// Puts that come at once, each half of the budget: the status and `Retry-After` of each answer.
async fn put_at_once(bed: &Bed) -> JoinSet<(u16, String)> {
    let mut clients = JoinSet::new();
    for number in 1..=PUTS {
        let mut client = Client::connect(bed.node.addr()).await;
        clients.spawn(async move {
            let answer = client.put(&format!("/a/{number}"), body(number, 2 * MIB)).await;
            (answer.status, answer.header("retry-after").to_owned())
        });
    }
    clients
}

#[tokio::test]
async fn uploads_beyond_the_staging_budget_wait_a_moment_and_are_told_to_come_back() {
    let flags = ["--tmp-dir-max=4MiB", "--max-body=2MiB", "--memory-body=4KiB", "--write-grace=0s"];
    let mut bed = Bed::start(&flags).await;
    // Each holds half of the budget for as long as it takes.
    let mut holders = Vec::new();
    for name in ["one", "other"] {
        let mut holder = Raw::connect(bed.node.addr()).await;
        let length = format!("Content-Length: {}", 2 * MIB);
        holder.send(put_head(&format!("/a/{name}"), &[&length])).await;
        holder.send(body(0, MIB)).await;
        holders.push(holder);
    }
    until("both hold their part", A_MOMENT, async || {
        (bed.node.staging_bytes().await == 4 << 20).then_some(())
    })
    .await;
    let asked_at = Instant::now();
    for (status, retry_after) in put_at_once(&bed).await.join_all().await {
        assert_eq!((status, retry_after.as_str()), (503, "1"));
    }
    assert!(asked_at.elapsed() >= Duration::from_secs(2), "they were not let wait");
    let timed_out = bed.node.metric("kura_store_staging_waits_timed_out_total").await;
    assert_eq!(timed_out, PUTS);

    let clients = put_at_once(&bed).await;
    until("they wait", A_MOMENT, async || {
        let status = bed.node.json("/status").await;
        (status["staging"]["clients_waiting"] == PUTS).then_some(())
    })
    .await;
    for mut holder in holders {
        holder.send(body(1, MIB)).await;
        assert_eq!(holder.answer().await.status, 201, "who has a reservation keeps it");
    }
    for (status, _) in clients.join_all().await {
        assert_eq!(status, 201, "there was room in time");
    }
    assert_eq!(bed.node.metric("kura_store_staging_waited_total").await, PUTS);
    bed.unharmed_but("/a/none", 404, PUTS + 2).await;
}

#[tokio::test]
async fn a_client_that_waits_to_be_told_to_go_on_is_told_so_only_if_its_body_is_wanted() {
    let mut bed = Bed::start(&["--max-body=1MiB"]).await;
    let long = format!("Content-Length: {}", 2 * MIB);
    for (path, length, status) in
        [("/a/long", long.as_str(), 413), ("/cas/none", "Content-Length: 3", 400)]
    {
        let mut raw = Raw::connect(bed.node.addr()).await;
        raw.send(put_head(path, &[length, "Expect: 100-continue"])).await;
        assert_eq!(raw.answer().await.status, status, "{path}: no 100 before it");
        assert_eq!(raw.left(A_MOMENT).await, Left::Closed, "{path}");
    }
    bed.unharmed("/a/long").await;

    let wanted = body(1, 1000);
    let path = cas_path(&wanted);
    let mut raw = Raw::connect(bed.node.addr()).await;
    raw.send(put_head(&path, &["Content-Length: 1000", "Expect: 100-continue"])).await;
    assert_eq!(raw.answer().await.status, 100);
    raw.send(&wanted).await;
    assert_eq!(raw.answer().await.status, 201);
    assert_eq!(bed.node.get(&path).await.body, wanted);
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_and_are_served_in_the_end() {
    let mut bed = Bed::start(&["--max-connections=2", "--idle-timeout=10s"]).await;
    let mut first = Client::connect(bed.node.addr()).await;
    let mut second = Client::connect(bed.node.addr()).await;
    assert_eq!(first.get("/up").await.status, 200);
    assert_eq!(second.get("/up").await.status, 200);
    let mut third = Raw::connect(bed.node.addr()).await;
    third.send("GET /up HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(!third.hears_within(Duration::from_millis(200)).await, "there are two places");
    drop(first);
    assert_eq!(third.answer().await.status, 200);
    assert_eq!(second.send(Method::HEAD, "/a/b", bytes::Bytes::new()).await.status, 404);
    drop((second, third));
    bed.unharmed("/a/b").await;
}
