//! What becomes of large bodies whose answer breaks in the middle.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use kura_core::resume::GOES_ON_MAX;
use kura_node::metrics::ReasonLabels;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    bed::{Bed, body},
    puppet::{Asked, Log, Told, compared, feed, hello, pretend, row},
};

const SECOND: Duration = Duration::from_secs(1);
/// What a frame has in front of a body.
const HEAD_BYTES: usize = 9;
const CAME: usize = 300_000;
const WHOLE: usize = 600_000;

/// Lets host `number` hold one body, and answer the requests for it, counted from 0, by `answer`.
fn holder(
    bed: &Bed,
    number: usize,
    body: Bytes,
    answer: impl Fn(usize, &Asked) -> Told + Send + Sync + 'static,
) -> Log {
    let times = Arc::new(AtomicUsize::new(0));
    pretend(bed, number, move |asked| match asked.what.as_str() {
        "hello" => hello(77),
        "compare" => compared(&[row("key", &body)]),
        "feed" => feed(&[], 1),
        _ => answer(times.fetch_add(1, Ordering::Relaxed), asked),
    })
}

/// From where on the body was asked for, each time.
fn froms(log: &Log) -> Vec<u64> {
    let log = log.lock().unwrap();
    log.iter().filter(|asked| asked.what == "bodies").map(|asked| asked.from).collect()
}

/// How many parts were given up for this reason.
fn given_up(bed: &Bed, reason: &'static str) -> u64 {
    let family = bed.metrics(0).replication.partials_dropped.clone();
    family.get_or_create(&ReasonLabels { reason }).get()
}

#[test]
fn the_rest_of_a_body_that_broke_is_asked_for_and_no_more() {
    let mut bed = Bed::new(1, 2, |_| ());
    let wanted = body(1, WHOLE);
    let sent = wanted.clone();
    let log = holder(&bed, 1, wanted.clone(), move |nth, asked| match nth {
        0 => Told::bodies(std::slice::from_ref(&sent)).cut_after(HEAD_BYTES + CAME),
        _ => Told::rest(asked.from, &sent[usize::try_from(asked.from).unwrap()..]),
    });
    bed.start(0);
    bed.until_ready(0, 60 * SECOND);
    assert_eq!(bed.get(0, "key"), Some(wanted));
    assert_eq!(froms(&log), [0, CAME as u64]);
    let metrics = bed.metrics(0);
    assert_eq!(metrics.replication.resumed.get(), 1);
    assert_eq!(metrics.replication.resumed_bytes.get(), CAME as u64);
    assert_eq!(metrics.replication.set_aside.get(), 0);
}

#[test]
fn a_peer_that_knows_of_no_offsets_sends_the_whole_body_again() {
    let mut bed = Bed::new(2, 2, |_| ());
    let wanted = body(2, WHOLE);
    let sent = wanted.clone();
    let log = holder(&bed, 1, wanted.clone(), move |nth, _| {
        let whole = Told::bodies(std::slice::from_ref(&sent));
        if nth == 0 { whole.cut_after(HEAD_BYTES + CAME) } else { whole }
    });
    bed.start(0);
    bed.until_ready(0, 60 * SECOND);
    assert_eq!(bed.get(0, "key"), Some(wanted));
    assert_eq!(froms(&log), [0, CAME as u64]);
    assert_eq!(bed.metrics(0).replication.resumed.get(), 0);
}

#[test]
fn another_peer_sends_the_rest() {
    let mut bed = Bed::new(3, 3, |_| ());
    let wanted = body(3, WHOLE);
    let (first, second) = (wanted.clone(), wanted.clone());
    // Too little to be gone on with at once: the other peer's turn comes.
    let came = 50_000;
    let of_first = holder(&bed, 1, wanted.clone(), move |nth, _| match nth {
        0 => Told::bodies(std::slice::from_ref(&first)).cut_after(HEAD_BYTES + came),
        _ => Told::failure(),
    });
    let of_second = holder(&bed, 2, wanted.clone(), move |_, asked| match asked.from {
        0 => Told::failure(),
        from => Told::rest(from, &second[usize::try_from(from).unwrap()..]),
    });
    bed.start(0);
    bed.until_ready(0, 120 * SECOND);
    assert_eq!(bed.get(0, "key"), Some(wanted));
    assert_eq!(froms(&of_first)[0], 0);
    assert_eq!(froms(&of_second).last(), Some(&(came as u64)));
    assert_eq!(bed.metrics(0).replication.resumed_bytes.get(), came as u64);
}

#[test]
fn a_body_that_breaks_again_and_again_leaves_others_their_turn() {
    let mut bed = Bed::new(9, 2, |_| ());
    let (wanted, step) = (body(9, 1_500_000), 100_000);
    let sent = wanted.clone();
    let log = holder(&bed, 1, wanted.clone(), move |nth, asked| {
        let rest = &sent[usize::try_from(asked.from).unwrap()..];
        let told = if nth == 0 {
            Told::bodies(std::slice::from_ref(&sent))
        } else {
            Told::rest(asked.from, rest)
        };
        // The head of a rest is the longer one.
        if rest.len() > step { told.cut_after(2 * HEAD_BYTES + step) } else { told }
    });
    bed.start(0);
    bed.until_ready(0, 120 * SECOND);
    assert_eq!(bed.get(0, "key"), Some(wanted));
    let log = log.lock().unwrap();
    let asked: Vec<_> = log.iter().filter(|asked| asked.what == "bodies").collect();
    let pauses = asked.windows(2).filter(|two| two[1].at.since(two[0].at) > SECOND / 2).count();
    assert!(asked.len() > 14, "a step each time");
    assert_eq!(pauses, 1, "behind the first {GOES_ON_MAX} that were gone on with at once");
    assert!(asked.windows(2).all(|two| two[0].from < two[1].from), "and nothing comes twice");
    assert_eq!(bed.metrics(0).replication.set_aside.get(), 0);
}

#[test]
fn another_peer_sends_the_rest_of_what_is_gone_from_the_first() {
    for gone in [vec![0], vec![2]] {
        let mut bed = Bed::new(10, 3, |_| ());
        let wanted = body(3, WHOLE);
        let (first, second) = (wanted.clone(), wanted.clone());
        holder(&bed, 1, wanted.clone(), move |nth, _| match nth {
            0 => Told::bodies(std::slice::from_ref(&first)).cut_after(HEAD_BYTES + CAME),
            _ => Told::raw(gone.clone()),
        });
        let of_second = holder(&bed, 2, wanted.clone(), move |_, asked| match asked.from {
            0 => Told::failure(),
            from => Told::rest(from, &second[usize::try_from(from).unwrap()..]),
        });
        bed.start(0);
        bed.until_ready(0, 120 * SECOND);
        assert_eq!(bed.get(0, "key"), Some(wanted));
        assert_eq!(froms(&of_second).last(), Some(&(CAME as u64)));
    }
}

#[test]
fn a_rest_that_does_not_belong_to_what_came_is_noticed_and_the_body_begins_anew_once() {
    let mut bed = Bed::new(4, 2, |_| ());
    let (wanted, other) = (body(4, WHOLE), body(5, WHOLE));
    let sent = wanted.clone();
    let log = holder(&bed, 1, wanted.clone(), move |nth, asked| match (nth, asked.from) {
        (0, _) => Told::bodies(std::slice::from_ref(&sent)).cut_after(HEAD_BYTES + CAME),
        (_, 0) => Told::bodies(std::slice::from_ref(&sent)),
        (_, from) => Told::rest(from, &other[usize::try_from(from).unwrap()..]),
    });
    bed.start(0);
    let took = bed.until_ready(0, 60 * SECOND);
    assert!(took < SECOND, "it did not count as a failure: {took:?}");
    assert_eq!(bed.get(0, "key"), Some(wanted));
    assert_eq!(froms(&log), [0, CAME as u64, 0]);
    assert_eq!(given_up(&bed, "wrong_digest"), 1);
}

#[test]
fn a_body_that_is_wrong_each_time_is_set_aside() {
    let mut bed = Bed::new(5, 2, |_| ());
    let (wanted, other) = (body(6, WHOLE), body(7, WHOLE));
    let log = holder(&bed, 1, wanted, move |nth, asked| match (nth % 2, asked.from) {
        (0, 0) => Told::bodies(std::slice::from_ref(&other)).cut_after(HEAD_BYTES + CAME),
        (_, 0) => Told::bodies(std::slice::from_ref(&other)),
        (_, from) => Told::rest(from, &other[usize::try_from(from).unwrap()..]),
    });
    bed.start(0);
    bed.until_ready(0, 300 * SECOND);
    assert_eq!(bed.get(0, "key"), None);
    assert_eq!(bed.metrics(0).replication.set_aside.get(), 1);
    assert!(froms(&log).len() <= 20, "{:?}", froms(&log));
}

/// A peer that holds `wanted`, of which the first piece is all that ever comes.
fn holds_its_first_piece(bed: &Bed, wanted: Bytes) {
    let sent = wanted.clone();
    holder(bed, 1, wanted, move |nth, _| match nth {
        0 => Told::bodies(std::slice::from_ref(&sent)).cut_after(HEAD_BYTES + 50_000),
        _ => Told::failure(),
    });
}

#[test]
fn a_part_that_nobody_goes_on_with_is_given_up_and_so_is_its_room() {
    let mut bed = Bed::new(6, 2, |_| ());
    let wanted = body(8, WHOLE);
    holds_its_first_piece(&bed, wanted);
    bed.start(0);
    bed.pass(20 * SECOND);
    assert_eq!(bed.metrics(0).replication.partials_kept.get(), 1);
    assert_eq!(bed.metrics(0).store.staging_bytes.get(), i64::try_from(WHOLE).unwrap());
    bed.pass(1200 * SECOND);
    assert_eq!(bed.metrics(0).replication.partials_kept.get(), 0);
    assert_eq!(given_up(&bed, "late"), 1);
    assert_eq!(bed.metrics(0).store.staging_bytes.get(), 0);
}

#[test]
fn a_part_makes_room_for_a_client_that_waits_for_it() {
    let mut bed = Bed::new(7, 2, |config| config.store.staging_bytes_max = 1 << 20);
    let wanted = body(9, 500_000);
    holds_its_first_piece(&bed, wanted);
    bed.start(0);
    bed.pass(5 * SECOND);
    assert_eq!(bed.metrics(0).replication.partials_kept.get(), 1);
    bed.put(0, "mine", body(10, 900_000)).unwrap();
    assert_eq!(given_up(&bed, "room"), 1);
}

/// What the first host answers to a request of the second one, without its head.
fn ask(bed: &Bed, method: &str, path: &str, asked: &str) -> Vec<u8> {
    let (net, ..) = bed.seams(1);
    let len = asked.len();
    // As HTTP/1.0, so that the end of the answer is that of the connection.
    let request =
        format!("{method} {path} HTTP/1.0\r\nhost: x\r\ncontent-length: {len}\r\n\r\n{asked}");
    bed.run(async move {
        let mut stream = net.connect("10.0.0.1:7000".parse().unwrap()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.0 200"), "{}", String::from_utf8_lossy(&answer));
        let head = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        answer.split_off(head + 4)
    })
}

#[test]
fn a_node_sends_what_lies_behind_any_offset() {
    let mut bed = Bed::new(8, 2, |_| ());
    bed.start(0);
    bed.pass(SECOND);
    for (key, len) in [("large", 700_000), ("small", 100_000)] {
        let wanted = body(11, len);
        bed.put(0, key, wanted.clone()).unwrap();
        let hello: Value = serde_json::from_slice(&ask(&bed, "GET", "/peer/v1/hello", "")).unwrap();
        let incarnation = hello["life"]["incarnation"].as_u64().unwrap();
        let feed = format!("/peer/v1/feed?incarnation={incarnation}&from=1&rows=9&wait_ms=0");
        let feed: Value = serde_json::from_slice(&ask(&bed, "GET", &feed, "")).unwrap();
        let rows = feed["rows"].as_array().unwrap();
        let mut row = rows.iter().find(|row| row["key"] == key).unwrap().clone();
        for from in [0, 1, 65_535, 65_536, 65_537, len - 1, len, len + 1, len / 2] {
            row["from"] = from.into();
            let answer = ask(&bed, "POST", "/peer/v1/bodies", &json!([row]).to_string());
            let is_whole = from == 0 || from >= len;
            let (kind, behind, head) = if is_whole { (1, 0, 9) } else { (3, from, 17) };
            assert_eq!(answer[0], kind, "{key} from {from}");
            assert_eq!(answer[head - 8..head], ((len - behind) as u64).to_le_bytes(), "{from}");
            assert!(answer[head..] == wanted[behind..], "{key} from {from}");
        }
        // The rest of another body is of no use to anybody.
        (row["from"], row["digest"]) = (5.into(), "0".repeat(64).into());
        assert_eq!(ask(&bed, "POST", "/peer/v1/bodies", &json!([row]).to_string()), [0]);
    }
}
