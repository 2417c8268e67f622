//! Bodies over HTTP/2 that are cut: by a reset of the stream, whatever reason it names, by the end of
//! the connection, or by an end that comes too early (`truncated_upload_taken_as_complete`).
//!
//! The frames are written by hand, because no client library resets a stream without a reason.

use kura_tests::raw::Raw;

use crate::bed::{Bed, body};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Larger than what fits in memory, and within the window that a connection begins with.
const BODY_BYTES: usize = 60_000;

/// The largest frame that every server takes.
const FRAME_BYTES: usize = 16_384;

/// The one stream of a connection here.
const STREAM: u32 = 1;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![len[1], len[2], len[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// One header of a list, spelled out.
fn literal(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| {
        assert!(text.len() < 127, "a length that fits one byte");
        [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
    };
    [vec![0], text(name), text(value)].concat()
}

/// Opens a connection and the stream of a PUT.
fn opening(path: &str, declared: Option<usize>) -> Vec<u8> {
    let mut list = [
        literal(":method", "PUT"),
        literal(":scheme", "http"),
        literal(":path", path),
        literal(":authority", "a"),
    ]
    .concat();
    if let Some(declared) = declared {
        list.extend(literal("content-length", &declared.to_string()));
    }
    [PREFACE.to_vec(), frame(SETTINGS, 0, 0, &[]), frame(HEADERS, END_HEADERS, STREAM, &list)]
        .concat()
}

fn data(body: &[u8], last_flags: u8) -> Vec<u8> {
    let frames = body.chunks(FRAME_BYTES).enumerate().map(|(index, chunk)| {
        let is_last = (index + 1) * FRAME_BYTES >= body.len();
        frame(DATA, if is_last { last_flags } else { 0 }, STREAM, chunk)
    });
    frames.flatten().collect()
}

async fn start() -> Bed {
    Bed::start(&["--memory-body=4KiB"]).await
}

/// A connection with an upload under way, all of whose bytes so far are with the node.
async fn upload(bed: &Bed, path: &str, declared: Option<usize>) -> Raw {
    let mut raw = Raw::connect(bed.node.addr()).await;
    raw.send([opening(path, declared), data(&body(1, BODY_BYTES), 0)].concat()).await;
    bed.staging_in_use().await;
    raw
}

#[tokio::test]
async fn a_body_that_comes_to_its_end_is_stored() {
    let mut bed = start().await;
    let whole = body(1, BODY_BYTES);
    for (stored, path, declared) in [(1, "/a/open", None), (2, "/a/declared", Some(BODY_BYTES))] {
        let mut raw = Raw::connect(bed.node.addr()).await;
        raw.send([opening(path, declared), data(&whole, END_STREAM)].concat()).await;
        kura_tests::wait::until("it is stored", kura_tests::wait::A_MOMENT, async || {
            (bed.node.get(path).await.body == whole).then_some(())
        })
        .await;
        bed.unharmed_but(path, 200, stored).await;
    }
}

#[tokio::test]
async fn a_body_cut_by_a_reset_is_not_stored_whatever_reason_the_reset_names() {
    let mut bed = start().await;
    // NO_ERROR, INTERNAL_ERROR, CANCEL, and a number that means nothing.
    for reason in [0_u32, 2, 8, 0xFFFF] {
        for declared in [None, Some(BODY_BYTES), Some(2 * BODY_BYTES)] {
            let path = format!("/a/reset-{reason}-{}", declared.unwrap_or_default());
            let mut raw = upload(&bed, &path, declared).await;
            raw.send(frame(RST_STREAM, 0, STREAM, &reason.to_be_bytes())).await;
            bed.unharmed(&path).await;
        }
    }
}

#[tokio::test]
async fn a_body_cut_by_the_end_of_its_connection_is_not_stored() {
    let mut bed = start().await;
    let mut finished = upload(&bed, "/a/finished", None).await;
    finished.finish().await;
    bed.unharmed("/a/finished").await;
    drop(upload(&bed, "/a/dropped", None).await);
    bed.unharmed("/a/dropped").await;
}

#[tokio::test]
async fn a_body_that_ends_before_its_declared_length_over_http2_is_not_stored() {
    let mut bed = start().await;
    let mut raw = upload(&bed, "/a/short", Some(BODY_BYTES + 1)).await;
    raw.send(frame(DATA, END_STREAM, STREAM, &[])).await;
    bed.unharmed("/a/short").await;
}
