//! Connections that stand still, break, wait, or are drained.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use crate::bed::{Bed, HEADER_TIMEOUT, IDLE_TIMEOUT, put, surface_config};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn silent_connections_and_half_heads_are_closed_in_time() {
    let bed = Bed::new(40);
    for bytes in ["", "GET /up HT", "GET /up HTTP/1.1\r\nHost: a\r\nX", "PRI * HTTP/2.0\r\n\r\nSM"]
    {
        let answers = bed.exchange(bytes);
        assert_eq!(answers.text, "", "{bytes:?}");
        let (least, most) = (HEADER_TIMEOUT - SECOND, HEADER_TIMEOUT + SECOND);
        assert!((least..most).contains(&answers.after), "{bytes:?}: {answers:?}");
    }
    assert_eq!(bed.metric("kura_connection_closes_total{reason=\"header\"}"), 4);
}

#[test]
fn a_head_that_trickles_in_is_closed_in_time_on_a_used_connection_too() {
    let bed = Bed::new(41);
    let (mut client, clock) = (bed.connect(), bed.clock());
    let after = bed.run(async move {
        client.send(b"GET /up HTTP/1.1\r\nHost: a\r\n\r\n").await;
        client.read_answer().await;
        clock.sleep(IDLE_TIMEOUT - 2 * SECOND).await;
        let began = clock.now();
        while client.stream.write_all(b"G").await.is_ok() {
            clock.sleep(SECOND / 2).await;
        }
        clock.now() - began
    });
    assert!(after < HEADER_TIMEOUT + 2 * SECOND, "{after:?}");
}

#[test]
fn an_idle_connection_is_kept_for_a_while_and_then_closed() {
    let bed = Bed::new(42);
    let (mut client, clock) = (bed.connect(), bed.clock());
    let answers = bed.run(async move {
        for _ in 0..3 {
            client.send(b"GET /up HTTP/1.1\r\nHost: a\r\n\r\n").await;
            client.read_answer().await;
            clock.sleep(IDLE_TIMEOUT - SECOND).await;
        }
        client.send(b"GET /up HTTP/1.1\r\nHost: a\r\n\r\n").await;
        client.read_answer().await;
        client.read_to_end().await
    });
    assert!(!answers.was_reset);
    let (least, most) = (IDLE_TIMEOUT - SECOND, IDLE_TIMEOUT + 2 * SECOND);
    assert!((least..most).contains(&answers.after), "{answers:?}");
}

#[test]
fn a_stalled_body_is_answered_and_leaves_nothing() {
    let bed = Bed::new(43);
    for framing in ["Content-Length: 300000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n30000\r\n"]
    {
        let head = format!("PUT /team/k HTTP/1.1\r\nHost: a\r\n{framing}");
        let answers = bed.exchange(head + &"x".repeat(100_000));
        assert_eq!(answers.statuses(), [408], "{answers:?}");
        let (least, most) = (IDLE_TIMEOUT - SECOND, IDLE_TIMEOUT + 7 * SECOND);
        assert!((least..most).contains(&answers.after), "{answers:?}");
    }
    assert!(bed.get("/team/k").starts_with("HTTP/1.1 404"));
    bed.assert_nothing_staged();
}

#[test]
fn a_slow_body_that_moves_is_taken_however_long_it_lasts() {
    let bed = Bed::new(44);
    let (mut client, clock) = (bed.connect(), bed.clock());
    bed.run(async move {
        client.send(b"PUT /team/k HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n").await;
        for _ in 0..20 {
            clock.sleep(IDLE_TIMEOUT - SECOND).await;
            client.send(b"x").await;
        }
        let answer = client.read_answer().await;
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    });
}

#[test]
fn a_body_that_breaks_off_leaves_nothing() {
    let bed = Bed::new(45);
    for framing in ["Content-Length: 300000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n30000\r\n"]
    {
        for is_orderly in [true, false] {
            let mut client = bed.connect();
            let head = format!("PUT /team/k HTTP/1.1\r\nHost: a\r\n{framing}");
            bed.run(async move {
                client.send(head.as_bytes()).await;
                client.send(&vec![b'x'; 150_000]).await;
                if is_orderly {
                    client.stream.shutdown().await.unwrap();
                    client.read_to_end().await;
                }
            });
            assert!(bed.get("/team/k").starts_with("HTTP/1.1 404"));
            bed.assert_nothing_staged();
        }
    }
}

/// What the socket took is minutes of such a link, and it takes nothing more before a good part of
/// that is gone.
#[test]
fn a_client_behind_a_slow_link_gets_all_of_it() {
    let bed = Bed::new(47);
    bed.slow_down(1_500);
    let (mut client, clock) = (bed.connect(), bed.clock());
    let body = vec![b'x'; 400_000];
    let request = put("/team/big", &body);
    bed.run(async move {
        client.send(&request).await;
        client.read_answer().await;
        let began = clock.now();
        client.send(b"GET /team/big HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let answer = client.read_answer().await;
        assert_eq!(answer.split_once("\r\n\r\n").map(|(_, came)| came.len()), Some(body.len()));
        assert!(clock.now() - began > 4 * IDLE_TIMEOUT);
    });
}

#[test]
fn a_client_that_stops_reading_is_dropped() {
    let bed = Bed::new(46);
    let (mut client, clock) = (bed.connect(), bed.clock());
    let body = vec![b'x'; 1_000_000];
    let request = put("/team/big", &body);
    bed.run(async move {
        client.send(&request).await;
        client.read_answer().await;
        client.send(b"GET /team/big HTTP/1.1\r\nHost: a\r\n\r\n").await;
        // The node looks every few seconds whether bytes left the socket, and they did at first.
        clock.sleep(IDLE_TIMEOUT + 10 * SECOND).await;
        let answers = client.read_to_end().await;
        assert!(
            answers.text.len() < body.len(),
            "{} bytes came within {:?}, reset: {}",
            answers.text.len(),
            answers.after,
            answers.was_reset
        );
    });
    assert_eq!(bed.metric("kura_connection_closes_total{reason=\"idle\"}"), 1);
}

#[test]
fn connections_over_the_cap_wait() {
    let bed =
        Bed::with(47, kura_node::config::SurfaceConfig { connections_max: 2, ..surface_config() });
    let (first, second, mut third) = (bed.connect(), bed.connect(), bed.connect());
    let clock = bed.clock();
    let waited = bed.run(async move {
        third.send(b"GET /up HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let began = clock.now();
        let answer = third.read_answer().await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        drop((first, second));
        clock.now() - began
    });
    // The first two are silent, and so are closed first.
    let (least, most) = (HEADER_TIMEOUT - SECOND, HEADER_TIMEOUT + SECOND);
    assert!((least..most).contains(&waited), "{waited:?}");
    assert!(bed.metric("kura_connection_cap_waits_total") >= 1);
}

#[test]
fn a_drain_finishes_what_is_in_flight_and_closes_what_is_idle() {
    let mut bed = Bed::new(48);
    let (mut idle, mut busy) = (bed.connect(), bed.connect());
    let request = put("/team/k", &[b'x'; 1000]);
    let (first, rest) = (request[..500].to_vec(), request[500..].to_vec());
    let (mut idle, mut busy) = bed.run(async move {
        idle.send(b"GET /up HTTP/1.1\r\nHost: a\r\n\r\n").await;
        idle.read_answer().await;
        busy.send(&first).await;
        (idle, busy)
    });
    bed.world.run_to(bed.world.now() + SECOND);
    let began = bed.world.now();
    let ended = bed.drain();
    let clock = bed.clock();
    let finished = bed.run(async move {
        let closed = idle.read_to_end().await;
        assert!(closed.after < SECOND && !closed.was_reset, "{closed:?}");
        clock.sleep(5 * SECOND).await;
        busy.send(&rest).await;
        let answers = busy.read_to_end().await;
        assert_eq!(answers.statuses(), [201], "{answers:?}");
        assert!(answers.text.contains("connection: close"), "{answers:?}");
        clock.now()
    });
    let flag = ended.clone();
    bed.world.run_until(|_| flag.lock().unwrap().is_some(), finished + 5 * SECOND);
    let ended = ended.lock().unwrap().expect("the drain has ended");
    assert!((5 * SECOND..7 * SECOND).contains(&(ended - began)), "{:?}", ended - began);
}

#[test]
fn a_drain_does_not_wait_for_a_client_that_is_stuck() {
    let mut bed = Bed::new(49);
    let mut stuck = bed.connect();
    let request = put("/team/k", &[b'x'; 1000]);
    let _stuck = bed.run(async move {
        stuck.send(&request[..500]).await;
        stuck
    });
    bed.world.run_to(bed.world.now() + SECOND);
    let began = bed.world.now();
    let ended = bed.drain();
    let flag = ended.clone();
    bed.world.run_until(|_| flag.lock().unwrap().is_some(), began + 60 * SECOND);
    let ended = ended.lock().unwrap().expect("the drain has ended");
    assert!((ended - began) < 22 * SECOND, "{:?}", ended - began);
}
