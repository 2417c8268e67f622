//! Names that are none, after percent-decoding.

use kura_tests::raw::Raw;

use crate::bed::{Bed, put_head};

async fn refused(bed: &Bed, path: &str) -> String {
    let mut raw = Raw::connect(bed.node.addr()).await;
    raw.send(put_head(path, &["Content-Length: 3"])).await;
    raw.send("abc").await;
    let answer = raw.answer().await;
    assert_eq!(answer.status, 400, "PUT {path}");
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(text.starts_with("bad-address: "), "PUT {path}: {text}");
    raw.send("GET /up HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(raw.answer().await.status, 200, "the connection goes on behind {path}");
    text
}

#[tokio::test]
async fn names_that_are_none_after_decoding_are_refused_with_a_reason() {
    let mut bed = Bed::start(&[]).await;
    let long_key = format!("/a/{}", "k".repeat(1025));
    let long_namespace = format!("/{}/k", "n".repeat(129));
    let table = [
        ("/a/../b", "\"..\""),
        ("/a/%2e%2E/b", "\"..\""),
        ("/../../etc/passwd", "\"..\""),
        ("/a/./b", "\".\""),
        ("/a/%00", "U+0000"),
        ("/a/b%0Ac", "U+000A"),
        ("/a//b", "empty"),
        ("/a/", "empty"),
        ("/", "empty"),
        ("/a/b%2Fc", "encoded slash"),
        ("/a/%FF%FE", "not UTF-8"),
        (&long_key, "1025 bytes"),
        (&long_namespace, "129 bytes"),
        ("/cas/abc", "SHA-256"),
        ("/up/a", "reserved"),
    ];
    for (path, reason) in table {
        let text = refused(&bed, path).await;
        assert!(text.contains(reason), "{path}: {reason:?} is not in {text:?}");
        bed.unharmed_but(path, 400, 0).await;
    }
    // Nothing of it came near the file system.
    let mut names: Vec<_> = std::fs::read_dir(bed.home.data_dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["IDENTITY", "LOCK", "RING", "STAMP", "blobs", "catalog", "entries", "pool", "tmp"]
    );
}

#[tokio::test]
async fn names_at_their_longest_are_stored() {
    let mut bed = Bed::start(&[]).await;
    let path = format!("/{}/{}", "n".repeat(128), "k".repeat(1024));
    assert_eq!(bed.node.put(&path, "abc").await.status, 201);
    assert_eq!(bed.node.get(&path).await.text(), "abc");
    bed.unharmed_but(&path, 200, 1).await;
}

#[tokio::test]
async fn a_method_that_is_not_offered_is_answered_405_with_those_that_are() {
    let mut bed = Bed::start(&[]).await;
    for method in ["POST", "DELETE", "PATCH", "OPTIONS"] {
        let mut raw = Raw::connect(bed.node.addr()).await;
        raw.send(format!("{method} /a/b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"))
            .await;
        let answer = raw.answer().await;
        assert_eq!((answer.status, answer.header("allow")), (405, "GET, HEAD, PUT"), "{method}");
    }
    bed.unharmed("/a/b").await;
}
