//! Ten times what a small disk holds, written while it is read: no client sees the disk full, nothing
//! that is read is wrong, and what is missing was evicted as designed.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use kura_tests::{
    client::Client,
    node::{self, Home, Kura},
    skip::skip,
    small_disk::{SmallDisk, space_bytes},
    wait::{A_MOMENT, until, within},
};
use tokio::task::JoinSet;

use crate::mixed_load::{MixedLoad, Place};

const NAME: &str = "ten_times_the_disk_are_put_and_no_client_sees_it_full";
const MIB: u64 = 1024 * 1024;
const DISK_MIB: usize = 256;
/// Promise and write grace.
const KEPT_FOR: Duration = Duration::from_secs(1);
/// Refused uploads rest for a second, and so the others have work meanwhile.
const UPLOADERS: u64 = 16;
const READERS: u64 = 3;
const SLOW_READERS: u64 = 2;
/// Many times what it takes.
const TIME_MAX: Duration = Duration::from_secs(240);
/// Health is no matter of space; this is what a busy machine may add.
const UP_MS_MAX: u64 = 5_000;
/// How often the volume is looked at from outside.
const SAMPLE_EVERY: Duration = Duration::from_millis(20);

/// The volume as it is seen from outside, and the health of the node meanwhile.
#[derive(Default)]
struct Watch {
    lowest_available_bytes: AtomicU64,
    slowest_up_ms: AtomicU64,
    is_over: AtomicBool,
}

impl Watch {
    async fn space(self: Arc<Self>, path: PathBuf) {
        self.lowest_available_bytes.store(u64::MAX, Ordering::Relaxed);
        while !self.is_over.load(Ordering::Relaxed) {
            let (_, available_bytes) = space_bytes(&path);
            self.lowest_available_bytes.fetch_min(available_bytes, Ordering::Relaxed);
            tokio::time::sleep(SAMPLE_EVERY).await;
        }
    }

    async fn health(self: Arc<Self>, addr: SocketAddr) {
        let mut client = Client::connect(addr).await;
        while !self.is_over.load(Ordering::Relaxed) {
            let asked = Instant::now();
            assert_eq!(client.get("/up").await.status, 200);
            let took_ms = u64::try_from(asked.elapsed().as_millis()).unwrap();
            self.slowest_up_ms.fetch_max(took_ms, Ordering::Relaxed);
            tokio::time::sleep(SAMPLE_EVERY).await;
        }
    }
}

/// Puts all there is to put, with readers beside.
async fn run(load: &Arc<MixedLoad>, watch: &Arc<Watch>, disk: &SmallDisk, node: &Kura) {
    let mut beside = JoinSet::new();
    beside.spawn(watch.clone().space(disk.path().to_owned()));
    beside.spawn(watch.clone().health(node.addr()));
    for seed in 0..READERS {
        let load = load.clone();
        beside.spawn(async move { load.read(seed).await });
    }
    for seed in 0..SLOW_READERS {
        let load = load.clone();
        beside.spawn(async move { load.read_slowly(READERS + seed).await });
    }
    let mut uploaders = JoinSet::new();
    for _ in 0..UPLOADERS {
        let load = load.clone();
        uploaders.spawn(async move { load.upload().await });
    }
    while let Some(ended) = uploaders.join_next().await {
        ended.expect("an upload failed");
    }
    load.end();
    watch.is_over.store(true, Ordering::Relaxed);
    while let Some(ended) = beside.join_next().await {
        ended.expect("what ran beside failed");
    }
}

/// What the node counts: it evicted as designed, and refused for no other reason than it may.
async fn judge_counters(node: &Kura, missing: &BTreeMap<Place, u64>) {
    for name in [
        "http_broken_bodies",
        "store_damaged_reads",
        "store_index_failures",
        "store_segments_given_up",
        "store_sources_failed",
        "store_unlinked_first",
        "store_eviction_errors",
    ] {
        assert_eq!(node.metric(&format!("kura_{name}_total")).await, 0, "{name}");
    }
    let text = node.get("/metrics").await.text();
    let refusals = text.lines().filter_map(|line| line.strip_prefix("kura_http_refusals_total"));
    for line in refusals {
        let may_be = ["promised", "no-room"].map(|reason| format!("reason=\"{reason}\""));
        assert!(may_be.iter().any(|reason| line.contains(reason)), "{line}");
    }
    assert!(node.metric("kura_store_evicted_segments_total").await > 0, "rings turn");
    let objects = node.metric("kura_store_evicted_objects_total").await;
    assert_eq!(missing[&Place::Pool], objects, "objects are missing that were not evicted");
    assert!(objects > 0, "the pool turns");
}

/// The books as they are when nothing is under way any more.
async fn settled_books(node: &Kura) -> serde_json::Value {
    until("nothing is under way", A_MOMENT, async || {
        let status = node.json("/status").await;
        let ledger = &status["disk"]["ledger"];
        (ledger["staging"] == 0 && ledger["unlinked"] == 0).then(|| ledger.clone())
    })
    .await
}

/// Offline: nothing is damaged, and books, directory and file system tell of the same bytes.
async fn verify(disk: &SmallDisk, home: &Home, books: &serde_json::Value) {
    let data_dir = home.data_dir().to_str().unwrap();
    let output = node::run(&["verify", "--json", "--data-dir", data_dir]).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let found: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&found["problem_count"], &found["beside_bytes"]), (&0.into(), &0.into()), "{said}");
    for account in ["blobs", "entries", "pool", "staging", "unlinked"] {
        assert_eq!(found["ledger"][account], books[account], "{account}: {said}");
    }
    let (total_bytes, available_bytes) = space_bytes(disk.path());
    assert_eq!(found["walked_bytes"], total_bytes - available_bytes, "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_times_the_disk_are_put_and_no_client_sees_it_full() {
    let disk = match SmallDisk::mount(DISK_MIB) {
        Ok(disk) => disk,
        Err(reason) => return skip(NAME, &reason),
    };
    let home = Home::with_data_in(&disk.path().join("data"));
    // More than the disk has: four fifths of it are given.
    let flags = ["--cas-capacity=1GiB", "--segment=4MiB", "--promise=1s", "--write-grace=1s"];
    let mut node = home.start(&flags).await;
    let goal_bytes = 10 * DISK_MIB as u64 * MIB;
    let load = Arc::new(MixedLoad::new(node.addr(), KEPT_FOR, goal_bytes));
    let watch = Arc::new(Watch::default());
    let begun = Instant::now();
    within("ten times the disk are put", TIME_MAX, run(&load, &watch, &disk, &node)).await;
    let lowest_bytes = watch.lowest_available_bytes.load(Ordering::Relaxed);
    eprintln!("{:?}, at least {lowest_bytes} free: {:?}", begun.elapsed(), load.counts);
    assert!(load.counts.put_bytes.load(Ordering::Relaxed) >= goal_bytes);
    for (what, count) in load.counts.reads() {
        assert!(count > 0, "there were no {what}");
    }
    let floor_bytes = node.metric("kura_disk_floor_bytes").await;
    assert!(lowest_bytes >= floor_bytes, "{lowest_bytes} were left, the floor is {floor_bytes}");
    let up_ms = watch.slowest_up_ms.load(Ordering::Relaxed);
    assert!(up_ms < UP_MS_MAX, "/up took {up_ms} ms");

    let missing = load.read_all().await;
    judge_counters(&node, &missing).await;
    node.assert_alive();
    assert_eq!(node.log().matches("kura::serve: started").count(), 1, "it is the same process");
    let books = settled_books(&node).await;
    node.stop().await;
    verify(&disk, &home, &books).await;
}
