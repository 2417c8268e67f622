//! A quota that is used up while the volume has room: no measure of space tells it, only the calls that fail.
//! The node takes that for a full disk.
//!
//! On btrfs, which charges every change to the quota, also of a name or a length, so less goes on than where
//! a quota counts blocks of files alone.

use std::{
    fs, io,
    os::unix::fs::FileExt as _,
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use kura_tests::{
    btrfs_disk::BtrfsDisk,
    node::{Home, Kura},
    skip::skip,
    small_disk::space_bytes,
    wait::{A_MOMENT, until},
};

use crate::{
    bed::{body, reads_all, stores_all},
    kills::{judge_counters, stop_and_verify},
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const VOLUME_MIB: u64 = 1024;
const QUOTA_MIB: u64 = 128;
const RAISED_MIB: u64 = 256;
/// Below what is there by then, so that nothing at all fits. In a quota that is used up a small change may
/// fit now and then: btrfs sets aside more than a change needs, until it is committed.
const LOWERED_MIB: u64 = 1;
/// Far more than a node leaves free, which is a fiftieth of the volume.
const FREE_BYTES_MIN: u64 = 512 << 20;
/// How soon writes must be refused, and how soon they must be back.
const CHANGE_TIME_MAX: Duration = Duration::from_secs(10);
const FLAGS: [&str; 2] = ["--cas-capacity=64MiB", "--segment=4MiB"];
/// To the rings and to the pool.
const LENS: [usize; 6] = [100, 10 * KIB, 100 * KIB, 400 * KIB, 700 * KIB, 2 * MIB];

/// Takes what the quota leaves, as another program of the same owner would.
fn use_up(disk: &Path) {
    let filler = fs::File::options().create(true).append(true).open(disk.join("filler")).unwrap();
    for step in [MIB, 4 * KIB] {
        let piece = vec![1; step];
        let mut at = filler.metadata().unwrap().len();
        let refusal = loop {
            match filler.write_all_at(&piece, at).and_then(|()| filler.sync_data()) {
                Ok(()) => at += step as u64,
                Err(error) => break error,
            }
        };
        assert_eq!(refusal.kind(), io::ErrorKind::QuotaExceeded, "{refusal}");
    }
}

/// Whether so large a body is refused; where it is, in the right words.
async fn is_refused(node: &Kura, len: usize) -> bool {
    let (path, body) = (format!("/late/{len}"), body(7, len));
    let answer = node.put(&path, body.clone()).await;
    if answer.status == 201 {
        assert_eq!(node.get(&path).await.body, body, "{path}");
        return false;
    }
    let said = (answer.status, answer.header("retry-after"));
    assert_eq!(said, (503, "1"), "{path}: {}", answer.text());
    true
}

/// Whether every page says that the disk is full.
async fn is_told_full(node: &Kura) -> bool {
    let disk = &node.json("/status").await["disk"];
    let ready = node.get("/ready").await;
    assert_eq!(ready.status, 200, "it can be read: {}", ready.text());
    disk["state"] == "full"
        && disk["takes_writes"] == false
        && ready.text().contains("the disk is full")
        && node.metric("kura_disk_state{state=\"full\"}").await == 1
}

/// What needs space is refused for now, and nothing else suffers.
async fn goes_on_without_quota(node: &Kura, disk: &Path, artifacts: &[(String, Bytes)]) {
    reads_all(node, artifacts).await;
    for len in LENS {
        until("a write is refused", CHANGE_TIME_MAX, async || {
            is_refused(node, len).await.then_some(())
        })
        .await;
    }
    // A probe may fit where a body does not, so both are asked for at once.
    until("the pages tell it", CHANGE_TIME_MAX, async || {
        (is_refused(node, 2 * MIB).await && is_told_full(node).await).then_some(())
    })
    .await;
    for page in ["/up", "/ready", "/metrics", "/status"] {
        assert_eq!(node.get(page).await.status, 200, "{page}");
    }
    reads_all(node, artifacts).await;
    let (_, available_bytes) = space_bytes(disk);
    assert!(available_bytes >= FREE_BYTES_MIN, "the volume has room: {available_bytes}");
}

/// All sizes are written again by themselves, nothing was lost, and the pages know.
async fn comes_back(home: &Home, node: Kura, artifacts: &[(String, Bytes)]) {
    let raised = Instant::now();
    until("writes come back", CHANGE_TIME_MAX, async || {
        let small = node.put("/back/small", body(8, 100)).await.status;
        let large = node.put("/back/large", body(9, 2 * MIB)).await.status;
        (small == 201 && large == 201).then_some(())
    })
    .await;
    eprintln!("writes were back after {:?}", raised.elapsed());
    assert_eq!(node.get("/back/large").await.body, body(9, 2 * MIB));
    until("the pages tell it", CHANGE_TIME_MAX, async || {
        let disk = &node.json("/status").await["disk"];
        (disk["state"] == "writable" && disk["takes_writes"] == true).then_some(())
    })
    .await;
    eprintln!("and the pages told it after {:?}", raised.elapsed());
    reads_all(&node, artifacts).await;
    judge_counters(&node).await;
    stop_and_verify(home, node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_used_up_quota_is_a_full_disk_until_it_is_raised() {
    let disk = match BtrfsDisk::mount(VOLUME_MIB, QUOTA_MIB) {
        Ok(disk) => disk,
        Err(reason) => return skip("a_used_up_quota_is_a_full_disk_until_it_is_raised", &reason),
    };
    let at = disk.path();
    let home = Home::with_data_in(&at.join("data"));
    let mut node = home.start(&FLAGS).await;
    let artifacts = stores_all(&node, &LENS).await;

    use_up(&at);
    goes_on_without_quota(&node, &at, &artifacts).await;
    for is_stopped in [false, true] {
        if is_stopped {
            node.stop().await;
        } else {
            node.kill();
        }
        // What the node gave back while it ended.
        use_up(&at);
        let begun = Instant::now();
        node = home.start(&FLAGS).await;
        eprintln!("a start on a used-up quota took {:?}", begun.elapsed());
        goes_on_without_quota(&node, &at, &artifacts).await;
    }

    disk.limit(RAISED_MIB).unwrap();
    comes_back(&home, node, &artifacts).await;
}

/// The catalog cuts its journal to length when it opens after a kill, and even that is a change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn below_what_it_holds_a_node_reads_on_and_starts_once_the_quota_is_raised() {
    let name = "below_what_it_holds_a_node_reads_on_and_starts_once_the_quota_is_raised";
    let disk = match BtrfsDisk::mount(VOLUME_MIB, QUOTA_MIB) {
        Ok(disk) => disk,
        Err(reason) => return skip(name, &reason),
    };
    let home = Home::with_data_in(&disk.path().join("data"));
    let mut node = home.start(&FLAGS).await;
    let artifacts = stores_all(&node, &LENS).await;

    disk.limit(LOWERED_MIB).unwrap();
    goes_on_without_quota(&node, &disk.path(), &artifacts).await;
    node.kill();
    let mut node = home.spawn(&FLAGS);
    assert_eq!(node.ended(A_MOMENT).await.code(), Some(74), "{}", node.log());
    assert!(node.log().contains("the catalog's disk is full"), "it says why: {}", node.log());

    disk.limit(RAISED_MIB).unwrap();
    let node = home.start(&FLAGS).await;
    reads_all(&node, &artifacts).await;
    comes_back(&home, node, &artifacts).await;
}
