//! More slow uploads than there is staging for: some are told to come back, the node stays well
//! meanwhile, and nothing is left of it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use kura_tests::{
    raw::{Raw, RawAnswer},
    wait::{A_MOMENT, until, within},
};
use tokio::task::JoinSet;

use crate::bed::{Bed, body, put_head};

const BODY_BYTES: usize = 1024 * 1024;
/// Uploads that take the whole budget and keep it until all others were refused.
const HOLDERS: u64 = 4;
/// Those of them that leave in the middle.
const LEAVERS: u64 = 2;
/// Uploads for which there is nothing left. Every other one does not say how long it is.
const LATE: u64 = 8;
/// How often a refused upload comes back.
const ATTEMPTS_MAX: u32 = 60;
/// How much a slow client sends at a time, and how long it rests then.
const PIECE_BYTES: usize = 64 * 1024;
const REST: Duration = Duration::from_millis(20);
/// The node may let uploads wait for staging for some seconds.
const TIME_MAX: Duration = Duration::from_secs(180);
/// Health is no matter of staging; this is what a busy machine may add.
const UP_TIME_MAX: Duration = Duration::from_secs(2);

#[derive(Default)]
struct Shared {
    /// Late uploads that were refused once at least.
    refused: AtomicU64,
    refusals: AtomicU64,
    is_over: AtomicBool,
}

fn path(number: u64) -> String {
    format!("/slow/{number}")
}

/// Holds its part of the budget, byte by byte, until all others were refused; then it goes on to the
/// end, or leaves.
async fn hold(addr: SocketAddr, number: u64, shared: Arc<Shared>) {
    let body = body(number, BODY_BYTES);
    let mut raw = Raw::connect(addr).await;
    raw.send(put_head(&path(number), &[&format!("Content-Length: {BODY_BYTES}")])).await;
    let mut sent = PIECE_BYTES;
    raw.send(&body[..sent]).await;
    while shared.refused.load(Ordering::Relaxed) < LATE {
        assert!(!raw.hears_within(REST).await, "upload {number} was admitted and then given up");
        raw.send(&body[sent..=sent]).await;
        sent += 1;
    }
    if number < LEAVERS {
        return;
    }
    raw.send(&body[sent..]).await;
    assert_eq!(raw.answer().await.status, 201, "upload {number}");
}

/// One attempt at an upload, slow, that listens between the pieces.
async fn attempt(addr: SocketAddr, number: u64) -> RawAnswer {
    let body = body(number, BODY_BYTES);
    let mut raw = Raw::connect(addr).await;
    let is_declared = number.is_multiple_of(2);
    let framing = if is_declared {
        format!("Content-Length: {BODY_BYTES}")
    } else {
        "Transfer-Encoding: chunked".to_owned()
    };
    raw.send(put_head(&path(number), &[&framing])).await;
    for piece in body.chunks(PIECE_BYTES) {
        let piece = if is_declared {
            piece.to_vec()
        } else {
            [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()
        };
        // A node that has refused closes in the end; its answer is there to be read all the same.
        if raw.try_send(piece).await.is_err() || raw.hears_within(REST).await {
            return raw.answer().await;
        }
    }
    if !is_declared {
        raw.try_send("0\r\n\r\n").await.ok();
    }
    raw.answer().await
}

/// Uploads until it is stored, coming back when it is told to.
async fn come_late(addr: SocketAddr, number: u64, shared: Arc<Shared>) {
    for tried in 0..ATTEMPTS_MAX {
        let answer = attempt(addr, number).await;
        match answer.status {
            201 => {
                assert!(tried > 0, "upload {number} had no room and was stored");
                return;
            }
            503 => {
                let seconds = answer.header("retry-after").parse();
                shared.refused.fetch_add(u64::from(tried == 0), Ordering::Relaxed);
                shared.refusals.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_secs(seconds.expect("when to come back"))).await;
            }
            status => panic!("upload {number}: {status}"),
        }
    }
    panic!("upload {number} was refused {ATTEMPTS_MAX} times");
}

/// Asks for health all the time. The longest that an answer took.
async fn watch_health(bed: &Bed, shared: &Shared) -> Duration {
    let mut longest = Duration::ZERO;
    while !shared.is_over.load(Ordering::Relaxed) {
        let asked = Instant::now();
        assert_eq!(bed.node.get("/up").await.status, 200);
        longest = longest.max(asked.elapsed());
        tokio::time::sleep(REST).await;
    }
    longest
}

/// All uploads, the holders first.
async fn upload_all(bed: &Bed, shared: &Arc<Shared>) {
    let addr = bed.node.addr();
    let mut uploads = JoinSet::new();
    for number in 0..HOLDERS {
        uploads.spawn(hold(addr, number, shared.clone()));
    }
    until("the budget is used up", A_MOMENT, async || {
        (bed.node.staging_bytes().await == HOLDERS * BODY_BYTES as u64).then_some(())
    })
    .await;
    for number in HOLDERS..HOLDERS + LATE {
        uploads.spawn(come_late(addr, number, shared.clone()));
    }
    while let Some(ended) = uploads.join_next().await {
        ended.expect("an upload failed");
    }
    shared.is_over.store(true, Ordering::Relaxed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_uploads_beyond_the_staging_budget_come_back_and_leave_nothing_behind() {
    let flags = ["--tmp-dir-max=4MiB", "--memory-max=64KiB", "--memory-body=4KiB"];
    let mut bed = Bed::start(&flags).await;
    let begun = Instant::now();
    let shared = Arc::new(Shared::default());
    let both = async { tokio::join!(upload_all(&bed, &shared), watch_health(&bed, &shared)) };
    let ((), longest) = within("all uploads end", TIME_MAX, both).await;
    assert!(longest < UP_TIME_MAX, "/up took {longest:?}");
    let refusals = shared.refusals.load(Ordering::Relaxed);
    eprintln!("{refusals} refusals, /up took {longest:?} at most, {:?} in all", begun.elapsed());
    let counted = bed.node.metric("kura_http_refusals_total{reason=\"staging-full\"}").await;
    assert_eq!(counted, refusals, "each refusal is for lack of staging");
    for number in LEAVERS..HOLDERS + LATE {
        let answer = bed.node.get(&path(number)).await;
        assert_eq!(answer.status, 200, "upload {number}");
        assert!(answer.body == body(number, BODY_BYTES), "upload {number}: another body");
    }
    bed.unharmed_but(&path(0), 404, HOLDERS - LEAVERS + LATE).await;
}
