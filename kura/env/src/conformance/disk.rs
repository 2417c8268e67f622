//! What every [`Disk`] keeps as long as nothing crashes: names, bytes, space and locks. What a crash
//! leaves can only be tried where crashes can be had, in `sim-storage`.
//!
//! Works below one directory of its own, which is empty afterwards.

mod model;
mod space;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{future::join_all, join};

use crate::{BoxFuture, Disk, DiskError, DiskErrorKind, DiskPath, File, FileKind, LockOutcome};

pub use model::random_operations;
pub use space::alone;

/// Where the suite works.
const BASE: &str = "conformance";

/// Holds `disk` to its contract.
///
/// # Panics
///
/// Where the contract is broken.
pub async fn suite(disk: Arc<dyn Disk>) {
    let disk = &*disk;
    prepare(disk).await;
    names(disk).await;
    bytes(disk).await;
    space::suite(disk).await;
    assert_eq!(names_in(disk, &base()).await, [""; 0], "the suite left something behind");
}

async fn names(disk: &dyn Disk) {
    a_name_is_created_once(disk).await;
    what_is_not_there_is_not_found(disk).await;
    a_directory_is_made_once_and_again(disk).await;
    a_listing_is_sorted_and_tells_kinds(disk).await;
    a_rename_replaces(disk).await;
    a_handle_follows_its_file(disk).await;
    names_can_be_synced(disk).await;
    a_lock_names_its_holder_and_ends_with_it(disk).await;
}

async fn bytes(disk: &dyn Disk) {
    parts_lie_behind_one_another(disk).await;
    appends_keep_the_order_of_their_first_poll(disk).await;
    reads_end_where_the_file_ends(disk).await;
    a_gap_reads_as_zeros(disk).await;
    writes_replace_bytes_and_nothing_else(disk).await;
    large_bytes_come_back(disk).await;
    an_unlinked_file_is_read_through_its_handle(disk).await;
    two_handles_see_one_file(disk).await;
    reads_and_writes_run_side_by_side(disk).await;
    a_frozen_file_is_read_as_before(disk).await;
}

async fn a_name_is_created_once(disk: &dyn Disk) {
    let path = at("once");
    let file = create(disk, &path).await;
    assert_eq!(file.path(), &path, "a file knows its name");
    assert_eq!(len(&*file).await, 0, "a new file is empty");
    let again = disk.create(&path).await;
    assert_eq!(kind(again.map(drop)), DiskErrorKind::AlreadyExists, "created twice");
    let over = disk.create(&base()).await;
    assert_eq!(kind(over.map(drop)), DiskErrorKind::AlreadyExists, "created over a directory");
    remove(disk, &path).await;
    drop(create(disk, &path).await);
    remove(disk, &path).await;
}

async fn what_is_not_there_is_not_found(disk: &dyn Disk) {
    let (nobody, below) = (at("nobody"), at("nowhere/file"));
    let opened = disk.open(&nobody).await;
    assert_eq!(kind(opened.map(drop)), DiskErrorKind::NotFound, "open");
    assert_eq!(kind(disk.unlink(&nobody).await), DiskErrorKind::NotFound, "unlink");
    let renamed = disk.rename(&nobody, &at("somebody")).await;
    assert_eq!(kind(renamed), DiskErrorKind::NotFound, "rename");
    let listed = disk.list(&at("nowhere")).await;
    assert_eq!(kind(listed.map(drop)), DiskErrorKind::NotFound, "list");
    let created = disk.create(&below).await;
    assert_eq!(kind(created.map(drop)), DiskErrorKind::NotFound, "create below nothing");
    assert_eq!(kind(disk.mkdir(&below).await), DiskErrorKind::NotFound, "mkdir below nothing");
}

async fn a_directory_is_made_once_and_again(disk: &dyn Disk) {
    for _ in 0..2 {
        disk.mkdir(&base()).await.expect("mkdir of what is there");
    }
    let entries = disk.list(&DiskPath::root()).await.expect("list the root");
    let found = entries.iter().find(|entry| entry.name == BASE).expect("it is listed");
    assert_eq!(found.kind, FileKind::Directory, "what mkdir made");
    assert_eq!(found.len_bytes, 0, "only files have a length");
}

async fn a_listing_is_sorted_and_tells_kinds(disk: &dyn Disk) {
    for name in ["b", "a", "c.seg", "B", "10", "9"] {
        write(disk, &at(name), &vec![7; name.len()]).await;
    }
    let entries = disk.list(&base()).await.expect("list");
    let told: Vec<_> = entries.iter().map(|entry| (entry.name.as_str(), entry.len_bytes)).collect();
    assert_eq!(told, [("10", 2), ("9", 1), ("B", 1), ("a", 1), ("b", 1), ("c.seg", 5)]);
    assert!(entries.iter().all(|entry| entry.kind == FileKind::File), "kinds of files");
    for (name, _) in told {
        remove(disk, &at(name)).await;
    }
}

async fn a_rename_replaces(disk: &dyn Disk) {
    let (new, old) = (at("RING.new"), at("RING"));
    write(disk, &old, b"old").await;
    let reader = open(disk, &old).await;
    write(disk, &new, b"newer").await;
    disk.rename(&new, &old).await.expect("rename over a file");
    assert_eq!(names_in(disk, &base()).await, ["RING"], "one name is left");
    assert_eq!(content(disk, &old).await, "newer", "the name tells the new file");
    assert_eq!(read(&*reader, 0, 99).await, "old", "a handle keeps what was replaced");
    disk.rename(&old, &old).await.expect("rename to itself");
    assert_eq!(content(disk, &old).await, "newer", "a rename to itself changes nothing");
    remove(disk, &old).await;
}

async fn a_handle_follows_its_file(disk: &dyn Disk) {
    let (from, to) = (at("from"), at("to"));
    let file = create(disk, &from).await;
    append(&*file, &[b"one"]).await;
    disk.rename(&from, &to).await.expect("rename");
    append(&*file, &[b" two"]).await;
    assert_eq!(content(disk, &to).await, "one two", "bytes go to the file, not to the name");
    assert_eq!(file.path(), &from, "a handle keeps the name it was made with");
    remove(disk, &to).await;
}

async fn names_can_be_synced(disk: &dyn Disk) {
    disk.sync_dir(&base()).await.expect("sync a directory");
    disk.sync_dir(&DiskPath::root()).await.expect("sync the root");
    let missing = disk.sync_dir(&at("nowhere")).await;
    assert_eq!(kind(missing), DiskErrorKind::NotFound, "sync of no directory");
}

async fn a_lock_names_its_holder_and_ends_with_it(disk: &dyn Disk) {
    let path = at("LOCK");
    let LockOutcome::Held(first) = disk.lock(&path, "first, a long name").await.expect("lock")
    else {
        panic!("nobody holds the lock, and it is taken");
    };
    match disk.lock(&path, "second").await.expect("lock") {
        LockOutcome::Held(_) => panic!("two hold one lock"),
        LockOutcome::Taken(holder) => assert_eq!(holder, "first, a long name", "who holds it"),
    }
    drop(first);
    let LockOutcome::Held(third) = disk.lock(&path, "third").await.expect("lock") else {
        panic!("a lock outlives its holder");
    };
    match disk.lock(&path, "fourth").await.expect("lock") {
        LockOutcome::Held(_) => panic!("two hold one lock"),
        LockOutcome::Taken(holder) => assert_eq!(holder, "third", "a shorter name is whole"),
    }
    drop(third);
    remove(disk, &path).await;
}

async fn parts_lie_behind_one_another(disk: &dyn Disk) {
    let path = at("parts");
    let file = create(disk, &path).await;
    append(&*file, &[b"one", b"", b" two", b" three"]).await;
    append(&*file, &[]).await;
    append(&*file, &[b" four"]).await;
    assert_eq!(read(&*file, 0, 99).await, "one two three four", "parts in their order");
    assert_eq!(len(&*file).await, 18, "the length of all parts");
    file.sync_data().await.expect("sync");
    remove(disk, &path).await;
}

async fn appends_keep_the_order_of_their_first_poll(disk: &dyn Disk) {
    let path = at("ordered");
    let file = create(disk, &path).await;
    let appends = (0..50_u32).map(|number| {
        // Small and large ones, of one part and of several.
        let size = if number % 3 == 0 { 9000 } else { 4 };
        let part = Bytes::from(vec![u8::try_from(number).unwrap_or(0); size]);
        file.append(vec![part.slice(..2), part.slice(2..)])
    });
    for result in join_all(appends).await {
        result.expect("append");
    }
    let mut offset = 0;
    for number in 0..50_u32 {
        let size = if number % 3 == 0 { 9000 } else { 4 };
        let found = read(&*file, offset, size).await;
        assert_eq!(found.len(), size, "append {number} is whole");
        assert!(found.iter().all(|byte| u32::from(*byte) == number), "append {number} in order");
        offset += wide(size);
    }
    assert_eq!(len(&*file).await, offset, "nothing else was written");
    remove(disk, &path).await;
}

async fn reads_end_where_the_file_ends(disk: &dyn Disk) {
    let path = at("short");
    write(disk, &path, b"0123456789").await;
    let file = open(disk, &path).await;
    let table = [(0, 10, "0123456789"), (0, 99, "0123456789"), (7, 99, "789"), (3, 2, "34")];
    for (offset, len_bytes, expected) in table {
        assert_eq!(read(&*file, offset, len_bytes).await, expected, "{len_bytes} at {offset}");
    }
    for (offset, len_bytes) in [(10, 1), (11, 5), (1 << 40, 1), (0, 0)] {
        assert_eq!(read(&*file, offset, len_bytes).await, "", "{len_bytes} at {offset}");
    }
    remove(disk, &path).await;
}

async fn a_gap_reads_as_zeros(disk: &dyn Disk) {
    let path = at("gap");
    let file = create(disk, &path).await;
    append(&*file, &[b"head"]).await;
    write_at(&*file, 10_000, b"tail").await;
    assert_eq!(len(&*file).await, 10_004, "the write moved the end");
    let all = read(&*file, 0, 20_000).await;
    assert_eq!(&all[..4], b"head", "before the gap");
    assert!(all[4..10_000].iter().all(|byte| *byte == 0), "the gap reads as zeros");
    assert_eq!(&all[10_000..], b"tail", "behind the gap");
    append(&*file, &[b"end"]).await;
    assert_eq!(read(&*file, 10_000, 99).await, "tailend", "an append goes to the new end");
    remove(disk, &path).await;
}

async fn writes_replace_bytes_and_nothing_else(disk: &dyn Disk) {
    let path = at("replace");
    let file = create(disk, &path).await;
    append(&*file, &[&[1; 9000]]).await;
    write_at(&*file, 4090, &[2; 20]).await;
    write_at(&*file, 8990, &[3; 20]).await;
    let mut expected = vec![1; 9010];
    expected[4090..4110].fill(2);
    expected[8990..].fill(3);
    assert_eq!(read(&*file, 0, 9999).await, expected, "only what was written changed");
    remove(disk, &path).await;
}

async fn large_bytes_come_back(disk: &dyn Disk) {
    let path = at("large");
    let file = create(disk, &path).await;
    let block: Vec<u8> = (0..=250).cycle().take(1 << 20).collect();
    let block = Bytes::from(block);
    for _ in 0..8 {
        file.append(vec![block.clone()]).await.expect("append");
    }
    file.sync_data().await.expect("sync");
    for index in 0..8 {
        let found = read(&*file, index << 20, 1 << 20).await;
        assert!(found == block, "mebibyte {index} came back changed");
    }
    let across = read(&*file, (1 << 20) - 3, 6).await;
    assert_eq!(across, [&block[block.len() - 3..], &block[..3]].concat(), "across two appends");
    let stat = disk.list(&base()).await.expect("list");
    assert_eq!(stat[0].len_bytes, 8 << 20, "the listing tells the length");
    assert!(stat[0].allocated_bytes >= 8 << 20, "and the blocks: {}", stat[0].allocated_bytes);
    remove(disk, &path).await;
}

async fn an_unlinked_file_is_read_through_its_handle(disk: &dyn Disk) {
    let path = at("unlinked");
    write(disk, &path, b"still here").await;
    let file = open(disk, &path).await;
    disk.unlink(&path).await.expect("unlink");
    let opened = disk.open(&path).await;
    assert_eq!(kind(opened.map(drop)), DiskErrorKind::NotFound, "the name is gone");
    append(&*file, &[b" and more"]).await;
    assert_eq!(read(&*file, 0, 99).await, "still here and more", "the bytes are not");
    write(disk, &path, b"another").await;
    assert_eq!(read(&*file, 0, 99).await, "still here and more", "nor are they another file's");
    remove(disk, &path).await;
}

async fn two_handles_see_one_file(disk: &dyn Disk) {
    let path = at("shared");
    let writer = create(disk, &path).await;
    let reader = open(disk, &path).await;
    append(&*writer, &[b"written"]).await;
    assert_eq!(read(&*reader, 0, 99).await, "written", "through another handle");
    append(&*reader, &[b" twice"]).await;
    assert_eq!(read(&*writer, 0, 99).await, "written twice", "appends go to the common end");
    remove(disk, &path).await;
}

async fn reads_and_writes_run_side_by_side(disk: &dyn Disk) {
    let path = at("busy");
    let file = create(disk, &path).await;
    append(&*file, &[&[5; 5000]]).await;
    let more = file.append(vec![Bytes::from_static(&[6; 5000])]);
    let (more, synced, head) = join!(more, file.sync_data(), file.read_at(0, 5000));
    more.expect("append");
    synced.expect("sync");
    assert!(head.expect("read").iter().all(|byte| *byte == 5), "what was there before");
    assert_eq!(len(&*file).await, 10_000, "all of it is there");
    remove(disk, &path).await;
}

async fn a_frozen_file_is_read_as_before(disk: &dyn Disk) {
    let path = at("frozen");
    let file = create(disk, &path).await;
    reserve(&*file, 1 << 20).await;
    append(&*file, &[&[8; 5000], b"end"]).await;
    file.sync_data().await.expect("sync");
    file.freeze().await.expect("freeze");
    assert_eq!(len(&*file).await, 5003, "freezing keeps the length");
    assert_eq!(read(&*file, 4998, 99).await, "\u{8}\u{8}end", "and the bytes");
    let other = open(disk, &path).await;
    assert_eq!(read(&*other, 5000, 99).await, "end", "through any handle");
    let entry = disk.list(&base()).await.expect("list").remove(0);
    assert!(entry.allocated_bytes < 1 << 20, "what was reserved behind the end is free again");
    let allocated_bytes = file.allocated_bytes().await.expect("allocated bytes");
    assert_eq!(allocated_bytes, entry.allocated_bytes, "the file tells what the listing tells");
    file.freeze().await.expect("freeze again");
    let kept = read(&*file, 0, 5000).await;
    drop((file, other));
    remove(disk, &path).await;
    assert!(kept.iter().all(|byte| *byte == 8), "bytes that were read outlive file and name");
}

fn base() -> DiskPath {
    DiskPath::new(BASE)
}

fn at(name: &str) -> DiskPath {
    base().join(name)
}

fn wide(len: usize) -> u64 {
    u64::try_from(len).expect("a length fits 64 bits")
}

fn kind(result: Result<(), DiskError>) -> DiskErrorKind {
    result.expect_err("a call that must fail went through").kind
}

async fn prepare(disk: &dyn Disk) {
    disk.mkdir(&base()).await.expect("mkdir");
    assert_eq!(names_in(disk, &base()).await, [""; 0], "the suite wants a directory of its own");
}

async fn names_in(disk: &dyn Disk, path: &DiskPath) -> Vec<String> {
    let entries = disk.list(path).await.expect("list");
    entries.into_iter().map(|entry| entry.name).collect()
}

async fn create(disk: &dyn Disk, path: &DiskPath) -> Arc<dyn File> {
    disk.create(path).await.expect("create")
}

async fn open(disk: &dyn Disk, path: &DiskPath) -> Arc<dyn File> {
    disk.open(path).await.expect("open")
}

async fn remove(disk: &dyn Disk, path: &DiskPath) {
    disk.unlink(path).await.expect("unlink");
}

async fn write(disk: &dyn Disk, path: &DiskPath, bytes: &[u8]) {
    append(&*create(disk, path).await, &[bytes]).await;
}

async fn append(file: &dyn File, parts: &[&[u8]]) {
    let parts = parts.iter().map(|part| Bytes::copy_from_slice(part)).collect();
    file.append(parts).await.expect("append");
}

async fn write_at(file: &dyn File, offset: u64, bytes: &[u8]) {
    file.write_at(offset, Bytes::copy_from_slice(bytes)).await.expect("write_at");
}

async fn read(file: &dyn File, offset: u64, len_bytes: usize) -> Bytes {
    file.read_at(offset, len_bytes).await.expect("read_at")
}

async fn content(disk: &dyn Disk, path: &DiskPath) -> Bytes {
    read(&*open(disk, path).await, 0, 1 << 20).await
}

fn len(file: &dyn File) -> BoxFuture<'_, u64> {
    Box::pin(async move { file.len().await.expect("len") })
}

/// Reserves space where the file system can, and tells whether it could.
async fn reserve(file: &dyn File, len_bytes: u64) -> bool {
    match file.allocate(len_bytes).await {
        Ok(()) => true,
        Err(error) => {
            assert_eq!(error.kind, DiskErrorKind::Unsupported, "allocate: {error}");
            false
        }
    }
}
