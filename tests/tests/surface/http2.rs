//! Bodies over HTTP/2, frame by frame.

use std::time::Duration;

use kura_core::digest::Digest;
use tokio::io::AsyncReadExt as _;

use crate::bed::{Bed, Client, put};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;
const CANCEL: u32 = 8;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = len[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// The head of a request, without compression.
fn head(method: &str, path: &str) -> Vec<u8> {
    let mut block = vec![0x86];
    for (name, value) in [(2, method), (4, path), (1, "a")] {
        block.extend_from_slice(&[name, u8::try_from(value.len()).unwrap()]);
        block.extend_from_slice(value.as_bytes());
    }
    block
}

fn opening() -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &[])].concat()
}

/// Reads frames until one of a kind on a stream comes, and gives its payload.
async fn read_frame(client: &mut Client, kind: u8, stream: u32) -> Vec<u8> {
    loop {
        let mut head = [0; 9];
        client.stream.read_exact(&mut head).await.unwrap();
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; len as usize];
        client.stream.read_exact(&mut payload).await.unwrap();
        let of = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        if (head[3], of) == (kind, stream) {
            return payload;
        }
    }
}

/// The status as the static table of HPACK has it, for those that it has.
fn status(block: &[u8]) -> u16 {
    match block[0] {
        0x88 => 200,
        0x8c => 400,
        0x8d => 404,
        // A literal with the name of `:status`, Huffman-coded: 201.
        0x48 => 201,
        other => panic!("{other:#x} begins {block:?}"),
    }
}

#[test]
fn a_put_over_http2_is_got_over_http1_and_back() {
    let bed = Bed::new(60);
    let mut client = bed.connect();
    bed.run(async move {
        client.send(&opening()).await;
        client.send(&frame(HEADERS, END_HEADERS, 1, &head("PUT", "/team/k"))).await;
        client.send(&frame(DATA, 0, 1, b"ab")).await;
        client.send(&frame(DATA, END_STREAM, 1, b"c")).await;
        assert_eq!(status(&read_frame(&mut client, HEADERS, 1).await), 201);
        let get = head("GET", "/team/k");
        client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 3, &get)).await;
        assert_eq!(status(&read_frame(&mut client, HEADERS, 3).await), 200);
        assert_eq!(read_frame(&mut client, DATA, 3).await, b"abc");
    });
    assert!(bed.get("/team/k").ends_with("\r\n\r\nabc"));
}

#[test]
fn a_body_cut_by_a_reset_stores_nothing() {
    let bed = Bed::new(61);
    for code in [NO_ERROR, INTERNAL_ERROR, CANCEL] {
        // With the digest of what did arrive, so that only the missing end can tell.
        let path = format!("/cas/{}", Digest::of(b"part"));
        let mut client = bed.connect();
        let put = head("PUT", &path);
        bed.run(async move {
            client.send(&opening()).await;
            client.send(&frame(HEADERS, END_HEADERS, 1, &put)).await;
            client.send(&frame(DATA, 0, 1, b"part")).await;
            client.send(&frame(RST_STREAM, 0, 1, &code.to_be_bytes())).await;
            // The connection goes on.
            client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 3, &head("GET", "/up"))).await;
            assert_eq!(status(&read_frame(&mut client, HEADERS, 3).await), 200);
        });
        assert!(bed.get(&path).starts_with("HTTP/1.1 404"), "reset with {code}");
        bed.assert_nothing_staged();
    }
}

#[test]
fn an_early_refusal_does_not_cost_the_connection() {
    let bed = Bed::new(62);
    let mut client = bed.connect();
    bed.run(async move {
        client.send(&opening()).await;
        for stream in (1..200).step_by(2) {
            client.send(&frame(HEADERS, END_HEADERS, stream, &head("PUT", "/cas/abc"))).await;
            client.send(&frame(DATA, 0, stream, &[b'x'; 1000])).await;
            client.send(&frame(DATA, END_STREAM, stream, &[b'x'; 1000])).await;
            assert_eq!(status(&read_frame(&mut client, HEADERS, stream).await), 400);
        }
        client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 201, &head("GET", "/up"))).await;
        assert_eq!(status(&read_frame(&mut client, HEADERS, 201).await), 200);
    });
}

#[test]
fn an_idle_connection_is_told_to_go_away() {
    let bed = Bed::new(63);
    let mut client = bed.connect();
    bed.run(async move {
        client.send(&opening()).await;
        client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &head("GET", "/up"))).await;
        read_frame(&mut client, HEADERS, 1).await;
        read_frame(&mut client, GOAWAY, 0).await;
        client.read_to_end().await;
    });
}

/// Settings that give every stream a window of so many bytes.
fn opening_with_window(bytes: u32) -> Vec<u8> {
    let setting = [&4_u16.to_be_bytes()[..], &bytes.to_be_bytes()].concat();
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &setting)].concat()
}

#[test]
fn a_stream_that_stands_still_is_reset_though_its_connection_moves() {
    let bed = Bed::new(64);
    let body = vec![b'x'; 600_000];
    let stored = bed.exchange([put("/team/k", &body), quit()].concat()).text;
    assert!(stored.starts_with("HTTP/1.1 201"), "{stored}");
    let (mut client, clock) = (bed.connect(), bed.clock());
    let began = bed.world.now();
    let ended = bed.run(async move {
        client.send(&opening_with_window(1000)).await;
        client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &head("GET", "/team/k"))).await;
        for _ in 0..12 {
            clock.sleep(Duration::from_secs(10)).await;
            client.send(&frame(PING, 0, 0, &[0; 8])).await;
        }
        read_frame(&mut client, RST_STREAM, 1).await;
        // The connection goes on.
        client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 3, &head("HEAD", "/team/k"))).await;
        assert_eq!(status(&read_frame(&mut client, HEADERS, 3).await), 200);
        clock.now()
    });
    assert_eq!(ended.since(began).as_secs(), 120);
}

#[test]
fn a_stream_that_is_taken_slowly_is_not_reset() {
    let bed = Bed::new(65);
    let body = vec![b'x'; 150_000];
    let stored = bed.exchange([put("/team/k", &body), quit()].concat()).text;
    assert!(stored.starts_with("HTTP/1.1 201"), "{stored}");
    let (mut client, clock) = (bed.connect(), bed.clock());
    let got = bed.run(async move {
        client.send(&opening_with_window(10_000)).await;
        client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &head("GET", "/team/k"))).await;
        let (mut got, mut granted) = (0, 10_000);
        while got < 150_000 {
            while got < granted.min(150_000) {
                got += read_frame(&mut client, DATA, 1).await.len();
            }
            clock.sleep(Duration::from_secs(5)).await;
            granted += 5_000;
            for stream in [0, 1] {
                client.send(&frame(WINDOW_UPDATE, 0, stream, &5_000_u32.to_be_bytes())).await;
            }
        }
        got
    });
    assert_eq!(got, 150_000);
}

fn quit() -> Vec<u8> {
    b"GET /up HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_vec()
}
