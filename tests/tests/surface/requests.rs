//! What is asked of artifacts, and what is answered.

use std::time::Duration;

use kura_core::digest::Digest;

use crate::bed::{BODY_BYTES_MAX, Bed, DRAIN_BYTES_MAX, put};

#[test]
fn what_is_put_is_got_with_its_length_and_digest() {
    let bed = Bed::new(1);
    let mut client = bed.connect();
    let body = vec![b'x'; 200_000];
    let digest = Digest::of(&body);
    let cas = format!("/cas/{digest}");
    let paths = [cas.as_str(), "/team/3f/key", "/key", "/team/a%20b~_-=."];
    let requests: Vec<(String, Vec<u8>)> =
        paths.iter().map(|path| ((*path).to_owned(), put(path, &body))).collect();
    bed.run(async move {
        for (sequence, (path, request)) in requests.into_iter().enumerate() {
            client.send(&request).await;
            let answer = client.read_answer().await;
            assert!(answer.starts_with("HTTP/1.1 201 Created\r\n"), "{answer}");
            assert!(answer.contains(&format!("x-kura-sequence: {}\r\n", sequence + 1)), "{answer}");
            client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await;
            let answer = client.read_answer().await;
            let (head, got) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
            assert!(head.contains("content-length: 200000"), "{head}");
            assert!(head.contains(&format!("etag: \"{digest}\"")), "{head}");
            assert!(got.as_bytes() == body);
        }
    });
    let head = bed.exchange("HEAD /key HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").text;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("content-length: 200000\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    bed.assert_nothing_staged();
}

#[test]
fn a_namespace_is_deleted_by_its_name() {
    let bed = Bed::new(22);
    let mut client = bed.connect();
    bed.run(async move {
        let keys = ["/team/key", "/team%20b/key", "/key"];
        for path in keys {
            client.send(&put(path, b"body")).await;
            assert!(client.read_answer().await.starts_with("HTTP/1.1 201 "));
        }
        for (query, status) in [
            ("", "400"),
            ("?tenant_id=t", "400"),
            ("?namespace_id=a%2fb", "400"),
            ("?namespace_id=team&namespace_id=other", "400"),
            ("?tenant_id=t&namespace_id=team", "204"),
            ("?namespace_id=team", "204"),
            ("?account_handle=t&project_handle=team%20b", "204"),
            ("?namespace_id=nobody", "204"),
        ] {
            let path = format!("/api/cache/clean{query}");
            client.send(format!("DELETE {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await;
            let answer = client.read_answer().await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
        }
        for (path, status) in keys.into_iter().zip(["404", "404", "200"]) {
            client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await;
            let answer = client.read_answer().await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
        }
        for path in ["/team/key", "/api/cache/clean/x"] {
            client.send(format!("DELETE {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await;
            assert!(client.read_answer().await.starts_with("HTTP/1.1 405 "), "{path}");
        }
    });
}

#[test]
fn of_many_digests_those_that_are_missing_are_told() {
    let bed = Bed::new(21);
    let (here, gone) = (Digest::of(b"here"), Digest::of(b"gone"));
    let mut client = bed.connect();
    let asked = format!("{here}\n{gone}\n");
    let batch = format!(
        "POST /team/cas HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{asked}",
        asked.len()
    );
    bed.run(async move {
        client.send(&put(&format!("/team/cas/{here}"), b"here")).await;
        assert!(client.read_answer().await.starts_with("HTTP/1.1 201 "));
        client.send(batch.as_bytes()).await;
        let answer = client.read_answer().await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{gone}\n")), "{answer}");
        client.send(b"POST /cas HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabc\n").await;
        assert!(client.read_answer().await.starts_with("HTTP/1.1 400 "));
        client.send(b"POST /key HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await;
        assert!(client.read_answer().await.starts_with("HTTP/1.1 405 "));
    });
}

#[test]
fn what_is_not_there_is_a_miss() {
    let bed = Bed::new(2);
    let answer = bed.get("/team/absent");
    assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answer}");
    assert!(answer.contains("content-length: 0\r\n"), "{answer}");
}

#[test]
fn refused_writes_say_why_and_store_nothing() {
    let bed = Bed::new(3);
    let digest = Digest::of(b"other");
    let chunked = "Transfer-Encoding: chunked\r\n\r\n";
    let head = |path: &str, rest: &str| format!("PUT {path} HTTP/1.1\r\nHost: a\r\n{rest}");
    let table = [
        (head(&format!("/cas/{digest}"), "Content-Length: 1\r\n\r\nx"), 400, "wrong-digest"),
        (head("/cas/abc", "Content-Length: 1\r\n\r\nx"), 400, "bad-address"),
        (head("/a/..%2fb", "Content-Length: 1\r\n\r\nx"), 400, "bad-address"),
        (head("/a/%2e%2e/b", "Content-Length: 1\r\n\r\nx"), 400, "bad-address"),
        (head("/a/b%00", "Content-Length: 1\r\n\r\nx"), 400, "bad-address"),
        (head("/a//b", "Content-Length: 1\r\n\r\nx"), 400, "bad-address"),
        (
            head(&format!("/a/{}", "k".repeat(1025)), "Content-Length: 0\r\n\r\n"),
            400,
            "bad-address",
        ),
        (head("/up", "Content-Length: 0\r\n\r\n"), 405, ""),
        (head("/a/b", "\r\n"), 411, "no-length"),
        (head("/a/b", &format!("Content-Length: {}\r\n\r\n", 1_u64 << 60)), 413, "too-large"),
        (head("/a/b", &format!("{chunked}x\r\n")), 400, "broken-body"),
        (head("/a/b", &format!("{chunked}1\r\nab\r\n0\r\n\r\n")), 400, "broken-body"),
    ];
    for (request, status, reason) in table {
        let mut client = bed.connect();
        let sent = request.clone();
        let answer = bed.run(async move {
            client.send(sent.as_bytes()).await;
            client.read_answer().await
        });
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}\n{answer}");
        assert!(answer.contains(reason), "{request:?}\n{answer}");
        assert!(answer.contains("retry-after") == (status == 503), "{answer}");
    }
    assert!(bed.get("/a/b").starts_with("HTTP/1.1 404"));
    bed.assert_nothing_staged();
}

#[test]
fn a_refused_body_is_drained_and_the_connection_goes_on() {
    let bed = Bed::new(4);
    let mut client = bed.connect();
    bed.run(async move {
        // A body over the drain's limit in one piece would not be known to be too large if it came
        // in chunks; this one is just within it.
        let body = vec![b'x'; usize::try_from(DRAIN_BYTES_MAX).unwrap()];
        client.send(&put("/cas/abc", &body)).await;
        let answer = client.read_answer().await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(!answer.contains("connection: close"), "{answer}");
        client.send(b"GET /up HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let answer = client.read_answer().await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    });
    assert_eq!(bed.metric("kura_http_drained_bytes_total"), DRAIN_BYTES_MAX);
}

#[test]
fn a_client_that_sends_a_refused_body_to_its_end_sees_the_answer() {
    let bed = Bed::new(5);
    for over in [0, 1, 50_000] {
        let body = vec![b'x'; usize::try_from(DRAIN_BYTES_MAX + over).unwrap()];
        let declared = put("/cas/abc", &body);
        let chunked = format!(
            "PUT /cas/abc HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
             {:x}\r\n{}\r\n0\r\n\r\n",
            body.len(),
            String::from_utf8_lossy(&body),
        );
        for request in [declared, chunked.into_bytes()] {
            let answers = bed.exchange(request);
            assert_eq!(answers.statuses(), [400], "{answers:?}");
            assert!(!answers.was_reset);
            assert_eq!(answers.text.contains("connection: close"), over > 0, "{answers:?}");
        }
    }
    bed.assert_nothing_staged();
}

#[test]
fn a_body_over_the_limit_is_refused_when_the_limit_is_passed() {
    let bed = Bed::new(6);
    let body = vec![b'x'; usize::try_from(BODY_BYTES_MAX + 1).unwrap()];
    let request = format!(
        "PUT /team/big HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{}\r\n0\r\n\r\n",
        body.len(),
        String::from_utf8_lossy(&body),
    );
    let mut client = bed.connect();
    let answer = bed.run(async move {
        client.send(request.as_bytes()).await;
        client.read_answer().await
    });
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(bed.get("/team/big").starts_with("HTTP/1.1 404"));
    bed.assert_nothing_staged();
}

#[test]
fn chunked_bodies_need_no_length() {
    let bed = Bed::new(7);
    let request = "PUT /team/k HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                   2\r\nab\r\n1;x=y\r\nc\r\n0\r\ntrailer: z\r\n\r\n";
    let mut client = bed.connect();
    bed.run(async move {
        client.send(request.as_bytes()).await;
        assert!(client.read_answer().await.starts_with("HTTP/1.1 201 "));
        client.send(b"GET /team/k HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(client.read_answer().await.ends_with("\r\n\r\nabc"));
    });
}

#[test]
fn a_client_that_waits_to_send_is_told_to_go_on_only_if_it_may() {
    let bed = Bed::new(8);
    let request = |path: &str| {
        format!(
            "PUT {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
        )
    };
    let answers = bed.exchange(request("/cas/abc"));
    assert_eq!(answers.statuses(), [400], "{answers:?}");
    assert!(answers.after < Duration::from_secs(6), "{answers:?}");

    let mut client = bed.connect();
    let accepted = request("/team/k");
    bed.run(async move {
        client.send(accepted.as_bytes()).await;
        let mut go_on = [0; 25];
        tokio::io::AsyncReadExt::read_exact(&mut client.stream, &mut go_on).await.unwrap();
        assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
        client.send(b"abc").await;
        assert!(client.read_answer().await.starts_with("HTTP/1.1 201 "));
    });
}

#[test]
fn other_methods_are_told_which_there_are() {
    let bed = Bed::new(9);
    for (method, path) in
        [("POST", "/team/k"), ("DELETE", "/team/k"), ("PROPFIND", "/"), ("OPTIONS", "*")]
    {
        let answers = bed.exchange(format!(
            "{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\nab"
        ));
        assert_eq!(answers.statuses(), [405], "{method}");
        assert!(answers.text.contains("allow: GET, HEAD, PUT\r\n"), "{answers:?}");
    }
    let answers = bed
        .exchange("PUT /up HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    assert_eq!(answers.statuses(), [405]);
}

#[test]
fn the_pages_of_the_node_answer() {
    let bed = Bed::new(10);
    assert!(bed.get("/up").ends_with("\r\n\r\nup\n"));
    let ready = bed.get("/ready");
    assert!(ready.starts_with("HTTP/1.1 200 "), "{ready}");
    assert!(ready.contains("\"ready\":true") && ready.contains("\"state\":\"serving\""), "{ready}");
    let status = bed.get("/status");
    assert!(status.contains("\"version\":"), "{status}");
    assert_eq!(
        bed.metric("kura_http_requests_total{method=\"GET\",surface=\"pages\",status=\"200\"}"),
        3
    );
    let metrics = bed.get("/metrics");
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
    assert!(metrics.contains("kura_connections 1\n"), "{metrics}");
}

#[test]
fn a_scrub_is_asked_for_and_told_of() {
    let bed = Bed::new(48);
    let ask = |method: &str| {
        bed.exchange(format!(
            "{method} /status/scrub HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        ))
    };
    let before = ask("GET");
    assert_eq!(before.statuses(), [200]);
    assert!(before.text.contains("\"last\":null"), "{before:?}");
    assert_eq!(ask("POST").statuses(), [202]);
    let after = ask("GET");
    assert!(after.text.contains("\"lost\":0") && after.text.contains("\"ended_ms\":"), "{after:?}");
    assert_eq!(ask("DELETE").statuses(), [405]);
}
