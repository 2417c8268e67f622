//! Space: what is full says so, at the byte where it is full.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;

use bytes::Bytes;
use kura_env::{Disk, DiskErrorKind, DiskPath, File};
use sim_storage::{Crash, Keep, SimDisk, SimDiskConfig};
use support::{Handle, JumpingClock};

const BLOCK: u64 = 4096;

/// A device with this many blocks beside the one of its root directory.
fn device(blocks: u64) -> (Arc<JumpingClock>, SimDisk) {
    let clock = JumpingClock::shared();
    let config = SimDiskConfig::instant((blocks + 1) * BLOCK, 1);
    let device = SimDisk::new(config, Arc::new(Handle(Arc::clone(&clock))));
    (clock, device)
}

fn at(path: &str) -> DiskPath {
    DiskPath::new(path)
}

async fn create(disk: &dyn Disk, path: &str) -> Arc<dyn File> {
    disk.create(&at(path)).await.unwrap()
}

fn bytes(len: u64) -> Bytes {
    Bytes::from(vec![1; usize::try_from(len).unwrap()])
}

#[test]
fn an_append_that_does_not_fit_leaves_the_prefix_that_does() {
    let (clock, device) = device(4);
    let disk = device.attach();
    clock.block_on(async {
        let file = create(&*disk, "a").await;
        file.append(vec![bytes(100)]).await.unwrap();
        let error = file.append(vec![bytes(10_000), bytes(10_000)]).await.unwrap_err();
        assert_eq!(error.kind, DiskErrorKind::NoSpace);
        assert_eq!(file.len().await.unwrap(), 4 * BLOCK, "up to the last byte of the last block");
        assert_eq!(file.append(vec![bytes(1)]).await.unwrap_err().kind, DiskErrorKind::NoSpace);
        assert_eq!(disk.space().await.unwrap().available_bytes, 0);
        // Without new blocks all goes on.
        file.write_at(50, bytes(4000)).await.unwrap();
        drop(create(&*disk, "empty").await);
        disk.rename(&at("empty"), &at("still-empty")).await.unwrap();
        assert_eq!(disk.mkdir(&at("dir")).await.unwrap_err().kind, DiskErrorKind::NoSpace);
        disk.unlink(&at("a")).await.unwrap();
        assert_eq!(disk.space().await.unwrap().available_bytes, 0, "it is still open");
        drop(file);
        assert_eq!(disk.space().await.unwrap().available_bytes, 4 * BLOCK);
    });
}

#[test]
fn reserved_space_is_never_missing_later() {
    let (clock, device) = device(8);
    let disk = device.attach();
    clock.block_on(async {
        let reserved = create(&*disk, "reserved").await;
        reserved.allocate(5 * BLOCK).await.unwrap();
        assert_eq!(disk.space().await.unwrap().available_bytes, 3 * BLOCK);
        let other = create(&*disk, "other").await;
        other.append(vec![bytes(9 * BLOCK)]).await.unwrap_err();
        assert_eq!(other.len().await.unwrap(), 3 * BLOCK);
        reserved.append(vec![bytes(5 * BLOCK)]).await.unwrap();
        reserved.append(vec![bytes(1)]).await.unwrap_err();
        let error = reserved.allocate(6 * BLOCK).await.unwrap_err();
        assert_eq!(error.kind, DiskErrorKind::NoSpace);
    });
}

#[test]
fn freezing_gives_back_what_was_reserved_behind_the_end() {
    let (clock, device) = device(8);
    let disk = device.attach();
    clock.block_on(async {
        let file = create(&*disk, "a").await;
        file.allocate(8 * BLOCK).await.unwrap();
        file.append(vec![bytes(BLOCK + 1)]).await.unwrap();
        file.freeze().await.unwrap();
        assert_eq!(disk.space().await.unwrap().available_bytes, 6 * BLOCK);
        assert_eq!(device.dir_bytes("").unwrap().allocated_bytes, 2 * BLOCK);
    });
}

#[test]
#[should_panic(expected = "was promised not to change")]
fn writing_to_a_frozen_file_is_a_broken_promise() {
    let (clock, device) = device(8);
    let disk = device.attach();
    clock.block_on(async {
        let file = create(&*disk, "a").await;
        file.freeze().await.unwrap();
        drop(file.append(vec![bytes(1)]).await);
    });
}

#[test]
fn others_on_the_file_system_take_their_share() {
    let (clock, device) = device(8);
    let disk = device.attach();
    device.set_foreign_bytes(6 * BLOCK);
    clock.block_on(async {
        let file = create(&*disk, "a").await;
        file.append(vec![bytes(3 * BLOCK)]).await.unwrap_err();
        assert_eq!(file.len().await.unwrap(), 2 * BLOCK);
        device.set_foreign_bytes(0);
        file.append(vec![bytes(BLOCK)]).await.unwrap();
        // More than there is room for: what is available is none, not less.
        device.set_foreign_bytes(100 * BLOCK);
        assert_eq!(disk.space().await.unwrap().available_bytes, 0);
    });
}

#[test]
fn a_sparse_file_holds_only_what_was_written() {
    let (clock, device) = device(8);
    let disk = device.attach();
    clock.block_on(async {
        let file = create(&*disk, "a").await;
        file.write_at(1000 * BLOCK, bytes(1)).await.unwrap();
        assert_eq!(device.used_bytes(), 2 * BLOCK);
        assert_eq!(device.walk()[0].len_bytes, 1000 * BLOCK + 1);
    });
}

#[test]
fn blocks_of_a_file_that_could_come_back_are_not_given_away() {
    for keep in [Keep::Nothing, Keep::Everything, Keep::Sampled] {
        let (clock, device) = device(4);
        let disk = device.attach();
        clock.block_on(async {
            let file = create(&*disk, "old").await;
            file.append(vec![bytes(3 * BLOCK)]).await.unwrap();
            file.sync_data().await.unwrap();
            disk.sync_dir(&DiskPath::root()).await.unwrap();
            drop(file);
            disk.unlink(&at("old")).await.unwrap();
            // Needs the blocks of the old file, so the journal has to commit the unlink first.
            let file = create(&*disk, "new").await;
            file.append(vec![bytes(4 * BLOCK)]).await.unwrap();
        });
        device.crash(Crash::PowerLoss { keep });
        assert_eq!(device.peek("old"), None, "{keep:?}");
        assert!(device.used_bytes() <= 5 * BLOCK, "{keep:?}: more is used than there is");
    }
}

#[test]
fn planted_files_are_durable_and_free_of_charge() {
    let (_, device) = device(8);
    device.plant("tmp/old/upload", &Bytes::from_static(&[1; 5000])).unwrap();
    assert_eq!(device.effect_count(), 0);
    device.crash(Crash::PowerLoss { keep: Keep::Nothing });
    assert_eq!(device.peek("tmp/old/upload").unwrap(), [1; 5000][..]);
    assert_eq!(device.used_bytes(), BLOCK + 2 * BLOCK + 2 * BLOCK);
    let full = device.plant("big", &bytes(100 * BLOCK));
    assert_eq!(full, Err(DiskErrorKind::NoSpace));
}
