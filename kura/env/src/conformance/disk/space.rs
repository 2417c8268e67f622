//! What a disk tells of its space, and who holds it.

use std::sync::Arc;

use bytes::Bytes;

use super::{append, at, base, create, len, names_in, prepare, read, remove, reserve, write_at};
use crate::{Disk, DiskError, DiskErrorKind, DiskPath, File};

/// What each of the stories takes of the disk.
const TAKEN_BYTES: u64 = 4 << 20;
/// What a file system may hold beside the blocks of a file: its own bookkeeping.
const SLACK_BYTES: u64 = 1 << 20;
/// How much is written at once where a disk is filled.
const PIECE_BYTES: usize = 64 << 10;
/// How often a disk is asked whether space is free at last.
const QUESTIONS_MAX: usize = 20_000;

pub(super) async fn suite(disk: &dyn Disk) {
    space_is_consistent(disk).await;
    reserving_does_not_change_the_length(disk).await;
    blocks_follow_what_is_written(disk).await;
}

/// Holds a disk to what it tells of its space. Only on a file system that nobody else uses, of at
/// least 32 MiB and at most a few hundred, for it is filled up; and where files can be mapped.
///
/// # Panics
///
/// Where the contract is broken.
pub async fn alone(disk: Arc<dyn Disk>) {
    let disk = &*disk;
    prepare(disk).await;
    what_is_unlinked_and_open_holds_its_space(disk).await;
    what_is_unlinked_and_mapped_holds_its_space(disk).await;
    what_is_reserved_and_frozen_is_given_back(disk).await;
    a_full_disk_says_so_and_keeps_what_is_reserved(disk).await;
    assert_eq!(names_in(disk, &base()).await, [""; 0], "the suite left something behind");
}

async fn space_is_consistent(disk: &dyn Disk) {
    let space = disk.space().await.expect("space");
    assert!(space.block_bytes.is_power_of_two(), "blocks of {} bytes", space.block_bytes);
    assert!(space.total_bytes > 0, "a disk has a size");
    assert!(space.available_bytes <= space.total_bytes, "more available than there is");
}

async fn reserving_does_not_change_the_length(disk: &dyn Disk) {
    let path = at("reserved");
    let file = create(disk, &path).await;
    append(&*file, &[b"some"]).await;
    if reserve(&*file, 1 << 20).await {
        let entry = disk.list(&base()).await.expect("list").remove(0);
        assert!(entry.allocated_bytes >= 1 << 20, "reserved {}", entry.allocated_bytes);
        assert_eq!(entry.len_bytes, 4, "the listing tells the old length");
        file.allocate(1).await.expect("reserving less than there is");
    }
    assert_eq!(len(&*file).await, 4, "the length is the same");
    append(&*file, &[b" more"]).await;
    assert_eq!(read(&*file, 0, 99).await, "some more", "appends go to the end, not behind");
    remove(disk, &path).await;
}

async fn blocks_follow_what_is_written(disk: &dyn Disk) {
    let path = at("blocks");
    let file = create(disk, &path).await;
    assert_eq!(allocated(disk).await, 0, "an empty file holds no blocks");
    append(&*file, &[&[1; 100_000]]).await;
    // Before any sync: who counts blocks need not wait for one.
    assert!(allocated(disk).await >= 100_000, "{} for 100,000", allocated(disk).await);
    file.sync_data().await.expect("sync");
    let held = allocated(disk).await;
    write_at(&*file, 10, &[2; 50_000]).await;
    file.sync_data().await.expect("sync");
    assert_eq!(allocated(disk).await, held, "writing over what is there takes nothing");
    write_at(&*file, 1 << 30, b"far out").await;
    file.sync_data().await.expect("sync");
    let sparse = allocated(disk).await;
    assert!(sparse > held && sparse < held + SLACK_BYTES, "{sparse}: a gap holds no blocks");
    remove(disk, &path).await;
}

async fn what_is_unlinked_and_open_holds_its_space(disk: &dyn Disk) {
    let before = available(disk).await;
    let path = at("open");
    let file = filled(disk, &path).await;
    assert_taken(before, available(disk).await, "a file that was written");
    let other = disk.open(&path).await.expect("open");
    remove(disk, &path).await;
    assert_taken(before, available(disk).await, "a file without a name and with two handles");
    drop(file);
    assert_taken(before, available(disk).await, "a file without a name and with one handle");
    assert_eq!(read(&*other, TAKEN_BYTES - 3, 99).await.len(), 3, "it is read all the while");
    drop(other);
    assert_free(disk, before, "a file without a name and a handle").await;
}

async fn what_is_unlinked_and_mapped_holds_its_space(disk: &dyn Disk) {
    let before = available(disk).await;
    let path = at("mapped");
    let file = filled(disk, &path).await;
    file.sync_data().await.expect("sync");
    file.freeze().await.expect("freeze");
    let whole = read(&*file, 0, 1 << 20).await;
    let part = whole.slice(1000..1010);
    remove(disk, &path).await;
    drop((file, whole));
    assert_taken(before, available(disk).await, "ten bytes of a mapping");
    drop(part);
    assert_free(disk, before, "nobody has it mapped").await;
}

async fn what_is_reserved_and_frozen_is_given_back(disk: &dyn Disk) {
    let before = available(disk).await;
    let path = at("reserved");
    let file = create(disk, &path).await;
    if reserve(&*file, TAKEN_BYTES).await {
        assert_taken(before, available(disk).await, "what was reserved");
    }
    append(&*file, &[&[3; 5000]]).await;
    file.sync_data().await.expect("sync");
    file.freeze().await.expect("freeze");
    assert_free(disk, before, "a frozen file of 5000 bytes").await;
    remove(disk, &path).await;
}

async fn a_full_disk_says_so_and_keeps_what_is_reserved(disk: &dyn Disk) {
    let before = available(disk).await;
    let (kept, filler) = (at("kept"), at("filler"));
    let file = create(disk, &kept).await;
    append(&*file, &[b"in place"]).await;
    file.sync_data().await.expect("sync");
    let has_reserve = reserve(&*file, TAKEN_BYTES).await;
    let full = fill(&*create(disk, &filler).await, before).await;
    assert!(full.is_full(), "a full disk says {full}");
    write_at(&*file, 0, b"In").await;
    file.sync_data().await.expect("what has its blocks is written on a full disk");
    if has_reserve {
        let rest = vec![4; usize::try_from(TAKEN_BYTES).expect("a small number") - 8];
        append(&*file, &[&rest]).await;
        file.sync_data().await.expect("what was reserved is there on a full disk");
        assert_eq!(len(&*file).await, TAKEN_BYTES, "all of it");
    }
    assert_eq!(read(&*file, 0, 8).await, "In place", "a full disk is read");
    disk.rename(&kept, &at("moved")).await.expect("rename on a full disk");
    remove(disk, &filler).await;
    remove(disk, &at("moved")).await;
    drop(file);
    assert_free(disk, before, "everything was unlinked").await;
}

/// Appends to a file until the disk says no, which may be as late as at a sync.
async fn fill(file: &dyn File, available_bytes: u64) -> DiskErrorKind {
    let piece = Bytes::from(vec![5; PIECE_BYTES]);
    let mut left = available_bytes + SLACK_BYTES;
    while left > 0 {
        let written: Result<(), DiskError> = match file.append(vec![piece.clone()]).await {
            Ok(()) => file.sync_data().await,
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            return error.kind;
        }
        left = left.saturating_sub(super::wide(PIECE_BYTES));
    }
    panic!("the disk takes more than the {available_bytes} bytes that it had available");
}

async fn filled(disk: &dyn Disk, path: &DiskPath) -> Arc<dyn File> {
    let file = create(disk, path).await;
    let bytes = vec![7; usize::try_from(TAKEN_BYTES).expect("a small number")];
    append(&*file, &[&bytes]).await;
    file
}

/// The blocks of the only file there is.
async fn allocated(disk: &dyn Disk) -> u64 {
    disk.list(&base()).await.expect("list").remove(0).allocated_bytes
}

async fn available(disk: &dyn Disk) -> u64 {
    disk.space().await.expect("space").available_bytes
}

fn assert_taken(before: u64, now: u64, what: &str) {
    let taken = before.saturating_sub(now);
    let right = TAKEN_BYTES..=TAKEN_BYTES + SLACK_BYTES;
    assert!(right.contains(&taken), "{what} holds {taken} bytes, not {TAKEN_BYTES}");
}

/// A host may close files in the background, so it is asked for a while.
async fn assert_free(disk: &dyn Disk, before: u64, what: &str) {
    let mut taken = u64::MAX;
    for _ in 0..QUESTIONS_MAX {
        taken = before.saturating_sub(available(disk).await);
        if taken < SLACK_BYTES {
            return;
        }
    }
    panic!("{what}: {taken} bytes are still held");
}
