//! A file system that stands still for a while, as one does for a snapshot: nothing that needs no disk waits
//! for it, and everything goes on by itself afterwards.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Method;
use kura_core::device::STALL_AFTER;
use kura_tests::{
    client::Client,
    endurance::{rounds, seed},
    ext4_disk::Ext4Disk,
    node::Home,
    skip::skip,
    wait::until,
};

use crate::{
    acknowledged::{Acknowledged, Room},
    bed::body,
    kills::{judge_counters, stop_and_verify},
};

const NAME: &str = "health_and_cached_reads_do_not_wait_for_a_frozen_disk";
const PROMISE: Duration = Duration::from_secs(900);
const MIB: u64 = 1024 * 1024;
/// For how long anything that needs no disk may take to answer, on a busy machine.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);
/// How soon after the thaw a write must succeed.
const RESUME_TIME_MAX: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Asks for pages, for a body in the page cache, and whether it is there, again and again. The slowest
/// answer of each.
async fn watch(
    addr: SocketAddr,
    warm: String,
    is_over: Arc<AtomicBool>,
) -> Vec<(Method, String, Duration)> {
    let pages = ["/up", "/ready", "/metrics", "/status", &warm].map(|path| (Method::GET, path));
    let asked = pages.into_iter().chain([(Method::HEAD, &*warm)]);
    let mut slowest: Vec<_> =
        asked.map(|(method, path)| (method, path.to_owned(), Duration::ZERO)).collect();
    let mut client = Client::connect(addr).await;
    while !is_over.load(Ordering::Relaxed) {
        for (method, path, time) in &mut slowest {
            let asked = Instant::now();
            let answer = client.send(method.clone(), path, Bytes::new()).await;
            assert!(answer.status == 200 || path == "/ready", "{method} {path}: {}", answer.status);
            *time = asked.elapsed().max(*time);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    slowest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_and_cached_reads_do_not_wait_for_a_frozen_disk() {
    let mut disk = match Ext4Disk::mount(1024) {
        Ok(disk) => disk,
        Err(reason) => return skip(NAME, &reason),
    };
    let frozen_for = Duration::from_secs(rounds(4, 20));
    let home = Home::with_data_in(&disk.path().join("data"));
    let node = home.start(&["--cas-capacity=512MiB", "--segment=4MiB"]).await;
    // Under a plain key: whether a content address is here is a promise, and waits as writes do.
    let warm = "/warm/body".to_owned();
    assert_eq!(node.put(&warm, body(1, 10_000)).await.status, 201);
    let mut clients = Acknowledged::new(seed("freeze"), Room::ForAll, PROMISE);
    let is_over = Arc::<AtomicBool>::default();
    let watching = tokio::spawn(watch(node.addr(), warm, is_over.clone()));
    let mut frozen = Ok(());
    let (mut waited, mut resumed) = (Duration::ZERO, Duration::ZERO);
    let freeze = async || {
        frozen = disk.freeze(frozen_for);
        let asked = Instant::now();
        let answer = node.put("/during/freeze", "frozen").await;
        if frozen_for < STALL_AFTER {
            assert_eq!(answer.status, 201, "a write waits");
        } else {
            assert_eq!(answer.status, 503, "a write does not wait for a stalled disk");
            assert!(answer.text().contains("disk-stalled"), "{}", answer.text());
            let ready = node.get("/ready").await;
            assert_eq!(ready.status, 503, "{}", ready.text());
            assert!(ready.text().contains("the disk is stalled"), "{}", ready.text());
        }
        waited = asked.elapsed();
        until("the thaw", frozen_for * 2, async || (!disk.is_frozen()).then_some(())).await;
        let thawed = Instant::now();
        until("a write succeeds", RESUME_TIME_MAX, async || {
            (node.put("/after/thaw", "thawed").await.status == 201).then_some(())
        })
        .await;
        resumed = thawed.elapsed();
    };
    clients.work_until(node.addr(), 4 * MIB, false, freeze).await;
    is_over.store(true, Ordering::Relaxed);
    let slowest = watching.await.expect("every page was answered");
    if let Err(reason) = frozen {
        return skip(NAME, &reason);
    }
    eprintln!(
        "frozen for {frozen_for:?}, a write waited {waited:?}, one {resumed:?} after the thaw"
    );
    assert!(waited > frozen_for / 2, "nothing was frozen");
    for (method, path, time) in slowest {
        eprintln!("slowest {method} {path}: {time:?}");
        assert!(time < ANSWER_TIME_MAX, "{method} {path} took {time:?}");
    }
    clients.judge(&node, true).await;
    judge_counters(&node).await;
    stop_and_verify(&home, node).await;
}
