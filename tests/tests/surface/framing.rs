//! Requests that leave in doubt where they end.

use std::time::Duration;

use crate::bed::{Bed, put};

#[test]
fn doubtful_requests_are_refused_and_end_their_connection() {
    let bed = Bed::new(20);
    let table = [
        ("Host: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n", "bad-frame"),
        ("Host: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n", "bad-frame"),
        ("Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n", "bad-frame"),
        ("Content-Length: 1\r\n", "bad-frame"),
        ("Host: a\r\nHost: b\r\nContent-Length: 1\r\n", "bad-frame"),
        // These are refused by the library, in its own words.
        ("Host: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n", ""),
        ("Host: a\r\nContent-Length: -1\r\n", ""),
        ("Host: a\r\nTransfer-Encoding: gzip\r\n", ""),
        ("Host: a\r\nno colon\r\n", ""),
    ];
    for (headers, reason) in table {
        let request = format!(
            "PUT /team/k HTTP/1.1\r\n{headers}\r\n1\r\nx\r\n0\r\n\r\nGET /up HTTP/1.1\r\nHost: a\r\n\r\n"
        );
        let answers = bed.exchange(request);
        assert_eq!(answers.statuses(), [400], "{headers:?}: {answers:?}");
        assert!(answers.text.contains(reason), "{answers:?}");
        assert!(!answers.was_reset, "{headers:?}");
        assert!(answers.after < Duration::from_secs(6), "{headers:?}: {answers:?}");
    }
    assert!(bed.get("/team/k").starts_with("HTTP/1.1 404"));
    assert_eq!(bed.metric("kura_connection_closes_total{reason=\"guard\"}"), 5);
    assert_eq!(bed.metric("kura_http_refusals_total{reason=\"bad-frame\"}"), 5);
    bed.assert_nothing_staged();
}

#[test]
fn requests_in_front_of_a_doubtful_one_are_carried_out() {
    let bed = Bed::new(21);
    let mut bytes = put("/team/first", b"abc");
    bytes.extend_from_slice(b"GET /team/first HTTP/1.1\r\nHost: a\r\n\r\n");
    bytes.extend_from_slice(
        b"PUT /team/second HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    );
    let answers = bed.exchange(bytes);
    assert_eq!(answers.statuses(), [201, 200, 400], "{answers:?}");
    assert!(bed.get("/team/first").ends_with("\r\n\r\nabc"));
    assert!(bed.get("/team/second").starts_with("HTTP/1.1 404"));
}

#[test]
fn a_head_over_its_limit_is_refused() {
    let bed = Bed::new(22);
    let line = format!("GET /up HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(70_000));
    assert_eq!(bed.exchange(line).statuses(), [431]);
    let lines = format!("GET /up HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(100));
    assert_eq!(bed.exchange(lines).statuses(), [431]);
}

#[test]
fn http_1_0_needs_no_host() {
    let bed = Bed::new(23);
    let answers = bed.exchange("GET /up HTTP/1.0\r\n\r\n");
    assert!(answers.text.starts_with("HTTP/1.0 200 OK\r\n"), "{answers:?}");
}
