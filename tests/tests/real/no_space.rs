//! Another program on the same disk takes it all, to the last byte: the node goes on, starts in that state,
//! and writes again by itself soon after the space is back.

use std::{
    fs,
    os::unix::fs::FileExt as _,
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use kura_tests::{
    ext4_disk::Ext4Disk,
    node::{Home, Kura},
    skip::skip,
    small_disk::{SmallDisk, space_bytes},
    wait::until,
};

use crate::{
    bed::{body, reads_all, stores_all},
    kills::{judge_counters, stop_and_verify},
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
/// How soon writes must be back.
const RESUME_TIME_MAX: Duration = Duration::from_secs(10);
/// The node looks at the volume every second.
const LOOK_TIME_MAX: Duration = Duration::from_secs(5);
const FLAGS: [&str; 2] = ["--cas-capacity=64MiB", "--segment=4MiB"];
/// To the rings and to the pool.
const LENS: [usize; 6] = [100, 10 * KIB, 100 * KIB, 400 * KIB, 700 * KIB, 2 * MIB];

/// Takes everything that is left, down to pieces of one byte; again, for as long as that gives anything.
fn fill(disk: &Path) {
    let filler = fs::File::options().create(true).append(true).open(disk.join("filler")).unwrap();
    for step in [MIB, 4 * KIB, 1] {
        let piece = vec![1; step];
        let mut at = filler.metadata().unwrap().len();
        while filler.write_all_at(&piece, at).and_then(|()| filler.sync_data()).is_ok() {
            at += step as u64;
        }
    }
    assert_eq!(space_bytes(disk).1, 0, "it is full to the last byte");
}

/// What needs space is refused for now, and nothing else suffers. A small body may still find room in a
/// segment that was begun before, for as long as the node has not looked at the volume.
async fn goes_on_without_space(node: &Kura, artifacts: &[(String, Bytes)]) {
    reads_all(node, artifacts).await;
    for len in [2 * MIB, 100 * KIB] {
        until("a write is refused", LOOK_TIME_MAX, async || {
            let (path, body) = (format!("/full/{len}-late"), body(7, len));
            let answer = node.put(&path, body.clone()).await;
            if answer.status == 201 {
                assert_eq!(node.get(&path).await.body, body, "{path}");
                return None;
            }
            assert_eq!((answer.status, answer.header("retry-after")), (503, "1"), "{path}");
            Some(())
        })
        .await;
    }
    for page in ["/up", "/ready", "/metrics", "/status"] {
        assert_eq!(node.get(page).await.status, 200, "{page}");
    }
    reads_all(node, artifacts).await;
}

async fn fills_up_and_comes_back(what: &str, disk: &Path) {
    let home = Home::with_data_in(&disk.join("data"));
    let mut node = home.start(&FLAGS).await;
    let artifacts = stores_all(&node, &LENS).await;

    fill(disk);
    goes_on_without_space(&node, &artifacts).await;
    for is_stopped in [false, true] {
        if is_stopped {
            node.stop().await;
        } else {
            node.kill();
        }
        // What the node gave back while it ended.
        fill(disk);
        node = home.start(&FLAGS).await;
        fill(disk);
        goes_on_without_space(&node, &artifacts).await;
    }

    fs::remove_file(disk.join("filler")).unwrap();
    let relieved = Instant::now();
    until("writes come back", RESUME_TIME_MAX, async || {
        let small = node.put("/full/small", body(8, 100)).await.status;
        let large = node.put("/full/large", body(9, 2 * MIB)).await.status;
        (small == 201 && large == 201).then_some(())
    })
    .await;
    eprintln!("{what}: writes were back after {:?}", relieved.elapsed());
    assert_eq!(node.get("/full/large").await.body, body(9, 2 * MIB));
    reads_all(&node, &artifacts).await;
    judge_counters(&node).await;
    stop_and_verify(&home, node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_memory_disk_without_a_byte_left_is_read_and_started_on() {
    match SmallDisk::mount(192) {
        Ok(disk) => fills_up_and_comes_back("memory", disk.path()).await,
        Err(reason) => {
            skip("a_memory_disk_without_a_byte_left_is_read_and_started_on", &reason);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ext4_without_a_byte_left_is_read_and_started_on() {
    match Ext4Disk::mount(192) {
        Ok(disk) => fills_up_and_comes_back("ext4", &disk.path()).await,
        Err(reason) => skip("an_ext4_without_a_byte_left_is_read_and_started_on", &reason),
    }
}
