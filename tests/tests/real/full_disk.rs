//! A data directory on a disk that fills up: reads go on, writes are refused or make room, and the
//! node comes back by itself.

use bytes::Bytes;
use kura_tests::{
    node::Home,
    skip::skip,
    small_disk::SmallDisk,
    wait::{A_MOMENT, until},
};

use crate::bed::{Bed, body};

const KIB: usize = 1024;
const MIB: usize = 1024 * 1024;

/// Less than an eighth of a segment: what goes to the ring and not to the pool.
const SMALL_ENOUGH: usize = 768 * KIB;
/// Writes at each stage of the test.
const WRITES: u64 = 40;

/// Writes bodies of `len` bytes, each of which is stored or refused for now. Notes those that were
/// stored, and gives how many were refused.
async fn write_to_a_full_disk(bed: &Bed, len: usize, stored: &mut Vec<(String, Bytes)>) -> u64 {
    let mut refused = 0;
    for number in 0..WRITES {
        let (path, body) = (format!("/full/{len}-{number}"), body(number, len));
        let answer = bed.node.put(&path, body.clone()).await;
        match answer.status {
            201 => stored.push((path, body)),
            503 => {
                assert_eq!(answer.header("retry-after"), "1", "it will pass");
                refused += 1;
            }
            status => panic!("{status}: {}", answer.text()),
        }
    }
    refused
}

#[tokio::test]
async fn a_full_disk_still_serves_reads_and_writes_come_back_with_the_space() {
    let disk = match SmallDisk::mount(192) {
        Ok(disk) => disk,
        Err(reason) => {
            return skip(
                "a_full_disk_still_serves_reads_and_writes_come_back_with_the_space",
                &reason,
            );
        }
    };
    let home = Home::with_data_in(&disk.path().join("data"));
    let flags = ["--cas-capacity=64MiB", "--segment=8MiB", "--memory-body=16KiB"];
    let node = home.start(&flags).await;
    let mut bed = Bed { node, home };
    // Five eighths of one segment.
    let mut kept: Vec<_> =
        (0..5).map(|number| (format!("/a/{number}"), body(number, MIB))).collect();
    for (path, body) in &kept {
        assert_eq!(bed.node.put(path, body.clone()).await.status, 201);
    }

    disk.fill();
    let refused = write_to_a_full_disk(&bed, MIB, &mut kept).await;
    assert_eq!(refused, WRITES, "there is no room for a body to be staged in");
    write_to_a_full_disk(&bed, 4 * KIB, &mut kept).await;
    // All of it is in one segment, whose space was set aside when it was begun.
    for (path, body) in &kept {
        let answer = bed.node.get(path).await;
        assert_eq!((answer.status, answer.body == *body), (200, true), "{path}");
    }
    bed.node.assert_alive();

    disk.relieve();
    let path = "/c/after";
    until("writes come back", A_MOMENT, async || {
        (bed.node.put(path, body(99, MIB)).await.status == 201).then_some(())
    })
    .await;
    assert_eq!(bed.node.get(path).await.body, body(99, MIB));
    let stored = bed.node.metric("kura_store_puts_total").await;
    bed.unharmed_but(path, 200, stored).await;
}

#[tokio::test]
async fn a_ring_that_is_full_evicts_its_eldest_and_never_refuses() {
    let disk = match SmallDisk::mount(192) {
        Ok(disk) => disk,
        Err(reason) => {
            return skip("a_ring_that_is_full_evicts_its_eldest_and_never_refuses", &reason);
        }
    };
    let home = Home::with_data_in(&disk.path().join("data"));
    let flags = ["--cas-capacity=64MiB", "--segment=8MiB", "--write-grace=0s"];
    let node = home.start(&flags).await;
    let mut bed = Bed { node, home };
    for number in 0..200 {
        let answer = bed.node.put(&format!("/a/{number}"), body(number, SMALL_ENOUGH)).await;
        assert_eq!(answer.status, 201, "{number}: {}", answer.text());
    }
    assert!(bed.node.metric("kura_store_evicted_segments_total").await > 0);
    assert_eq!(bed.node.get("/a/0").await.status, 404, "the eldest is gone");
    for number in 170..200 {
        assert_eq!(
            bed.node.get(&format!("/a/{number}")).await.body,
            body(number, SMALL_ENOUGH),
            "{number}"
        );
    }
    bed.unharmed_but("/a/0", 404, 200).await;
}
