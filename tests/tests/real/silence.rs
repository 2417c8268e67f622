//! Clients that stop in the middle: each connection ends within its bound, and not before.

use std::time::{Duration, Instant};

use kura_tests::{
    raw::{Left, Raw},
    wait::A_MOMENT,
};

use crate::bed::{Bed, body, put_head};

/// The bound under test; the other one is the default of many seconds.
const BOUND: Duration = Duration::from_millis(500);

/// How much earlier than the bound the clock of the client may see the end: none but rounding.
const EARLY: Duration = Duration::from_millis(20);

/// Waits until the node leaves, no earlier than the bound and long before any other.
async fn leaves(raw: &mut Raw, since: Instant) {
    assert_eq!(raw.left(A_MOMENT).await, Left::Closed);
    bounded(since);
}

fn bounded(since: Instant) {
    let took = since.elapsed();
    assert!(took >= BOUND - EARLY, "{took:?} is before the bound");
    assert!(took < BOUND + Duration::from_secs(5), "{took:?} is long after the bound");
}

#[tokio::test]
async fn a_silent_connection_is_closed_within_the_header_timeout() {
    let mut bed = Bed::start(&["--header-timeout=500ms"]).await;
    let since = Instant::now();
    let mut raw = Raw::connect(bed.node.addr()).await;
    leaves(&mut raw, since).await;
    bed.unharmed("/a/b").await;
}

#[tokio::test]
async fn a_half_sent_header_is_closed_within_the_header_timeout() {
    let mut bed = Bed::start(&["--header-timeout=500ms"]).await;
    let since = Instant::now();
    let mut raw = Raw::connect(bed.node.addr()).await;
    raw.send("PUT /a/b HTTP/1.1\r\nHost: a\r\nContent-Le").await;
    leaves(&mut raw, since).await;
    bed.unharmed("/a/b").await;
}

#[tokio::test]
async fn a_header_that_drips_byte_by_byte_is_closed_within_the_header_timeout() {
    let mut bed = Bed::start(&["--header-timeout=500ms"]).await;
    let since = Instant::now();
    let mut raw = Raw::connect(bed.node.addr()).await;
    raw.send("GET /up HTTP/1.1\r\nHost: ").await;
    while !raw.hears_within(Duration::from_millis(50)).await {
        // Refused once the node has left.
        if raw.try_send("a").await.is_err() {
            break;
        }
        assert!(since.elapsed() < A_MOMENT, "the drip keeps the connection open");
    }
    bounded(since);
    bed.unharmed("/a/b").await;
}

#[tokio::test]
async fn a_stalled_body_is_answered_408_and_closed_within_the_idle_timeout() {
    let mut bed = Bed::start(&["--idle-timeout=500ms", "--memory-body=4KiB"]).await;
    for (path, framing) in
        [("/a/declared", "Content-Length: 100000"), ("/a/chunked", "Transfer-Encoding: chunked")]
    {
        let mut raw = Raw::connect(bed.node.addr()).await;
        raw.send(put_head(path, &[framing])).await;
        // Ends within a chunk; as part of a body of known length it is like any other.
        raw.send([b"fff0\r\n".to_vec(), body(1, 50_000).to_vec()].concat()).await;
        let since = Instant::now();
        bed.staging_in_use().await;
        let answer = raw.answer().await;
        bounded(since);
        assert_eq!((answer.status, answer.header("connection")), (408, "close"), "{path}");
        assert_eq!(raw.left(A_MOMENT).await, Left::Closed, "{path}");
        bed.unharmed(path).await;
    }
}

#[tokio::test]
async fn a_body_that_moves_may_take_many_idle_timeouts() {
    const PIECES: usize = 12;
    let mut bed = Bed::start(&["--idle-timeout=500ms", "--header-timeout=500ms"]).await;
    let body = body(1, PIECES * 1000);
    let mut raw = Raw::connect(bed.node.addr()).await;
    let since = Instant::now();
    raw.send(put_head("/a/slow", &[&format!("Content-Length: {}", body.len())])).await;
    for piece in body.chunks(1000) {
        raw.send(piece).await;
        // The client's pace; an answer would be an early refusal.
        if raw.hears_within(BOUND / 4).await {
            break;
        }
    }
    assert_eq!(raw.answer().await.status, 201);
    assert!(since.elapsed() > 2 * BOUND, "the body was not slow: {:?}", since.elapsed());
    assert_eq!(bed.node.get("/a/slow").await.body, body);
    bed.unharmed_but("/a/slow", 200, 1).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_within_the_idle_timeout() {
    let mut bed = Bed::start(&["--idle-timeout=500ms"]).await;
    let mut raw = Raw::connect(bed.node.addr()).await;
    raw.send("GET /up HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(raw.answer().await.status, 200);
    leaves(&mut raw, Instant::now()).await;
    bed.unharmed("/a/b").await;
}
