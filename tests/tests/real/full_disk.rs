//! A data directory on a disk that fills up: reads go on, writes are refused or make room, and the
//! node comes back by itself.
//!
//! The disk is a small file system in memory, which takes the right to mount.

use std::{fs, path::Path, process::Command};

use bytes::Bytes;
use kura_tests::{
    node::Home,
    skip::skip,
    wait::{A_MOMENT, until},
};
use tempfile::TempDir;

use crate::bed::{Bed, body};

const KIB: usize = 1024;
const MIB: usize = 1024 * 1024;

/// A mounted file system of its own; unmounted on drop.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// Mounts one, or says why that cannot be.
    fn mount(size_mib: usize) -> Result<Self, String> {
        let at = tempfile::tempdir().expect("there is room for a directory");
        let options = format!("size={size_mib}m,mode=700");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "kura-test"]).arg(at.path());
        match mount.output() {
            Ok(output) if output.status.success() => Ok(Self(at)),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(format!("mount: {error}")),
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all of the space that is left, as another program on the same disk would.
    fn fill(&self) {
        let filler = fs::File::create(self.path().join("filler")).unwrap();
        let mut at = 0;
        for step in [MIB, 4 * KIB] {
            let piece = vec![1; step];
            while std::os::unix::fs::FileExt::write_all_at(&filler, &piece, at).is_ok() {
                at += step as u64;
            }
        }
    }

    /// Gives that space back.
    fn relieve(&self) {
        fs::remove_file(self.path().join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a node that a failing test leaves behind may still have files open.
        Command::new("umount").arg("--lazy").arg(self.path()).status().ok();
    }
}

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
    let node = home.start(&["--cas-capacity=64MiB", "--segment=8MiB"]).await;
    let mut bed = Bed { node, home };
    for number in 0..200 {
        let answer = bed.node.put(&format!("/a/{number}"), body(number, MIB)).await;
        assert_eq!(answer.status, 201, "{number}: {}", answer.text());
    }
    assert!(bed.node.metric("kura_store_evicted_segments_total").await > 0);
    assert_eq!(bed.node.get("/a/0").await.status, 404, "the eldest is gone");
    for number in 170..200 {
        assert_eq!(bed.node.get(&format!("/a/{number}")).await.body, body(number, MIB), "{number}");
    }
    bed.unharmed_but("/a/0", 404, 200).await;
}
