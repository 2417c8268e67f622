//! Requests that leave it in doubt where they end or what they are for: 400, and the connection is
//! closed, because nothing behind them can be trusted to be a request.

use kura_tests::{
    raw::{Left, Raw},
    wait::A_MOMENT,
};

use crate::bed::{Bed, put_head};

/// Sends `request` with `abc` and a second request behind it, and expects one refusal and a close.
async fn refused(request: &str) {
    let mut bed = Bed::start(&[]).await;
    let mut raw = Raw::connect(bed.node.addr()).await;
    let smuggled = put_head("/a/smuggled", &["Content-Length: 3"]);
    raw.send(format!("{request}abc{smuggled}abc")).await;
    let answer = raw.answer().await;
    assert_eq!(answer.status, 400, "{request}");
    assert_eq!(answer.header("connection"), "close", "{request}");
    assert_eq!(raw.left(A_MOMENT).await, Left::Closed, "{request}");
    bed.unharmed("/a/smuggled").await;
    bed.unharmed("/a/b").await;
}

#[tokio::test]
async fn two_lengths_that_differ_are_refused() {
    refused(&put_head("/a/b", &["Content-Length: 3", "Content-Length: 4"])).await;
}

#[tokio::test]
async fn two_equal_lengths_are_refused() {
    refused(&put_head("/a/b", &["Content-Length: 3", "Content-Length: 3"])).await;
    refused(&put_head("/a/b", &["Content-Length: 3, 3"])).await;
}

#[tokio::test]
async fn a_length_beside_a_transfer_encoding_is_refused() {
    refused(&put_head("/a/b", &["Content-Length: 3", "Transfer-Encoding: chunked"])).await;
    refused(&put_head("/a/b", &["Transfer-Encoding: chunked", "Content-Length: 3"])).await;
}

#[tokio::test]
async fn a_length_that_is_no_number_is_refused() {
    for length in ["-3", "+3", "3x", "0x3", "", "99999999999999999999"] {
        refused(&put_head("/a/b", &[&format!("Content-Length: {length}")])).await;
    }
}

#[tokio::test]
async fn an_encoding_other_than_chunked_alone_is_refused() {
    refused(&put_head("/a/b", &["Transfer-Encoding: gzip"])).await;
    refused(&put_head("/a/b", &["Transfer-Encoding: chunked, gzip"])).await;
    refused(&put_head("/a/b", &["Transfer-Encoding: gzip, chunked"])).await;
}

#[tokio::test]
async fn a_request_without_host_or_with_two_is_refused() {
    refused("PUT /a/b HTTP/1.1\r\nContent-Length: 3\r\n\r\n").await;
    refused(&put_head("/a/b", &["Host: b", "Content-Length: 3"])).await;
}

#[tokio::test]
async fn what_is_no_request_is_refused() {
    refused("HELLO\r\n\r\n").await;
    refused("PUT /a b HTTP/1.1\r\nHost: a\r\n\r\n").await;
    refused(&put_head("/a/b", &["no colon", "Content-Length: 3"])).await;
}

#[tokio::test]
async fn a_head_over_its_limit_is_answered_431() {
    let mut bed = Bed::start(&[]).await;
    let long = format!("X-Long: {}", "x".repeat(70_000));
    let many: Vec<String> = (0..101).map(|number| format!("X-{number}: a")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for headers in [&[long.as_str()][..], &many] {
        let mut raw = Raw::connect(bed.node.addr()).await;
        raw.send(put_head("/a/b", headers)).await;
        assert_eq!(raw.answer().await.status, 431);
        assert_eq!(raw.left(A_MOMENT).await, Left::Closed);
        bed.unharmed("/a/b").await;
    }
}
