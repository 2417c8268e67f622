//! Bodies that are not what was announced: another digest, another length, too long, cut off.

use kura_tests::{
    client::Client,
    raw::{Left, Raw},
    wait::A_MOMENT,
};

use crate::bed::{Bed, body, cas_path, put_head};

/// `body` in chunks of `chunk_bytes`, without the chunk that ends it.
fn chunked(body: &[u8], chunk_bytes: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in body.chunks(chunk_bytes) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

#[tokio::test]
async fn a_body_with_another_digest_is_refused() {
    let mut bed = Bed::start(&["--memory-body=4KiB"]).await;
    // One fits in memory, the other goes through a staging file.
    for len in [100, 100_000] {
        let path = cas_path(&body(1, len));
        let mut client = Client::connect(bed.node.addr()).await;
        let answer = client.put(&path, body(2, len)).await;
        assert_eq!(answer.status, 400);
        assert!(answer.text().starts_with("wrong-digest: "), "{}", answer.text());
        assert!(answer.text().contains(&path[5..]), "the digest of the path: {}", answer.text());
        assert!(answer.text().contains(&cas_path(&body(2, len))[5..]), "and that of the body");
        assert_eq!(client.get("/up").await.status, 200, "the connection goes on");
        bed.unharmed(&path).await;
    }
    let right = body(1, 100);
    assert_eq!(bed.node.put(&cas_path(&right), right.clone()).await.status, 201);
    assert_eq!(bed.node.get(&cas_path(&right)).await.body, right);
}

#[tokio::test]
async fn a_body_that_ends_before_its_declared_length_is_not_stored() {
    let mut bed = Bed::start(&["--memory-body=4KiB"]).await;
    for (path, declared, sent) in [("/a/short", 1000, 10), ("/a/staged", 100_000, 60_000)] {
        let mut raw = Raw::connect(bed.node.addr()).await;
        raw.send(put_head(path, &[&format!("Content-Length: {declared}")])).await;
        raw.send(body(1, sent)).await;
        raw.finish().await;
        let answer = raw.answer().await;
        assert_eq!(answer.status, 400, "{path}");
        assert_eq!(answer.header("connection"), "close", "{path}");
        assert_eq!(raw.left(A_MOMENT).await, Left::Closed, "{path}");
        bed.unharmed(path).await;
    }
}

#[tokio::test]
async fn a_client_that_vanishes_in_its_body_leaves_nothing() {
    let mut bed = Bed::start(&["--memory-body=4KiB"]).await;
    let mut raw = Raw::connect(bed.node.addr()).await;
    raw.send(put_head("/a/gone", &["Content-Length: 100000"])).await;
    raw.send(body(1, 60_000)).await;
    bed.staging_in_use().await;
    drop(raw);
    bed.unharmed("/a/gone").await;
}

#[tokio::test]
async fn a_chunked_body_that_breaks_off_or_is_ill_framed_is_not_stored() {
    let mut bed = Bed::start(&["--memory-body=4KiB"]).await;
    let whole = chunked(&body(1, 60_000), 1000);
    for (path, tail) in
        [("/a/cut", ""), ("/a/no-size", "zz\r\n"), ("/a/no-end", "5\r\nabcdefgh\r\n")]
    {
        let mut raw = Raw::connect(bed.node.addr()).await;
        raw.send(put_head(path, &["Transfer-Encoding: chunked"])).await;
        raw.send([&whole, tail.as_bytes()].concat()).await;
        raw.finish().await;
        assert_eq!(raw.answer().await.status, 400, "{path}");
        assert_eq!(raw.left(A_MOMENT).await, Left::Closed, "{path}");
        bed.unharmed(path).await;
    }
}

#[tokio::test]
async fn a_chunked_body_is_stored_though_its_length_was_unknown() {
    let mut bed = Bed::start(&["--memory-body=4KiB"]).await;
    for (stored, len) in [(1, 0), (2, 100), (3, 5_000), (4, 3_000_000)] {
        let (path, body) = (format!("/a/chunked-{len}"), body(1, len));
        let mut raw = Raw::connect(bed.node.addr()).await;
        raw.send(put_head(&path, &["Transfer-Encoding: chunked"])).await;
        raw.send([chunked(&body, 70_000), b"0\r\n\r\n".to_vec()].concat()).await;
        assert_eq!(raw.answer().await.status, 201, "{path}");
        assert_eq!(bed.node.get(&path).await.body, body, "{path}");
        bed.unharmed_but(&path, 200, stored).await;
    }
}

#[tokio::test]
async fn a_put_without_length_and_without_chunks_is_answered_411() {
    let mut bed = Bed::start(&[]).await;
    let mut raw = Raw::connect(bed.node.addr()).await;
    raw.send(put_head("/a/none", &[])).await;
    assert_eq!(raw.answer().await.status, 411);
    bed.unharmed("/a/none").await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_answered_413_however_it_is_framed() {
    const LIMIT: usize = 1024 * 1024;
    let mut bed = Bed::start(&["--max-body=1MiB", "--drain-body-max=4MiB"]).await;
    let over = body(1, LIMIT + 1);
    let mut client = Client::connect(bed.node.addr()).await;
    let answer = client.put("/a/declared", over.clone()).await;
    assert_eq!(answer.status, 413);
    assert!(answer.text().contains("1048576"), "the limit is named: {}", answer.text());
    assert_eq!(client.get("/up").await.status, 200, "the connection goes on");
    bed.unharmed("/a/declared").await;

    let mut raw = Raw::connect(bed.node.addr()).await;
    raw.send(put_head("/a/chunked", &["Transfer-Encoding: chunked"])).await;
    raw.send([chunked(&over, 65_536), b"0\r\n\r\n".to_vec()].concat()).await;
    assert_eq!(raw.answer().await.status, 413);
    bed.unharmed("/a/chunked").await;

    let most = body(1, LIMIT);
    assert_eq!(bed.node.put("/a/most", most.clone()).await.status, 201);
    assert_eq!(bed.node.get("/a/most").await.body, most);
}
