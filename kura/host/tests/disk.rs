//! What the real disk does beyond its contract: groups syncs, serves sealed files from memory, and
//! frees what it reserved.

use std::{os::unix::fs::MetadataExt, path::Path, sync::Arc};

use bytes::Bytes;
use futures_util::future::join_all;
use kura_env::{Disk, DiskErrorKind, DiskPath, File, LockOutcome, Net as _};
use kura_host::{HostDisk, HostNet};
use tokio::io::AsyncWriteExt as _;

const MIB: u64 = 1024 * 1024;

fn disk_in(root: &Path) -> HostDisk {
    HostDisk::new(root, 4).expect("a temporary directory holds a disk")
}

/// A directory on whatever disk the machine builds on, and one in memory.
fn on_disk_and_in_memory() -> [tempfile::TempDir; 2] {
    [env!("CARGO_TARGET_TMPDIR"), "/dev/shm"]
        .map(|parent| tempfile::tempdir_in(parent).expect("a directory for tests can be made here"))
}

fn allocated_bytes(root: &Path, name: &str) -> u64 {
    std::fs::metadata(root.join(name)).expect("the file is there").blocks() * 512
}

async fn file_with(disk: &HostDisk, name: &str, content: Vec<u8>) -> Arc<dyn File> {
    let file = disk.create(&DiskPath::new(name)).await.expect("the name is free");
    file.append(vec![content.into()]).await.expect("there is room");
    file
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_wait_share_a_sync() {
    let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let disk = disk_in(root.path());
    let file = file_with(&disk, "segment", vec![1; 4096]).await;
    let before = disk.stats();
    // All join before anything else runs on this task, so the first sync or the second covers them.
    let outcomes = join_all((0..256).map(|_| file.sync_data())).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let after = disk.stats();
    assert_eq!(after.sync_calls - before.sync_calls, 256);
    let syncs = after.syncs - before.syncs;
    assert!((1..=64).contains(&syncs), "256 callers took {syncs} syncs");
    // One after another nothing is shared: each has writes that the sync before did not cover.
    for _ in 0..3 {
        file.sync_data().await.unwrap();
    }
    assert_eq!(disk.stats().syncs, after.syncs + 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_lie_in_the_order_of_their_first_polls() {
    let root = tempfile::tempdir().unwrap();
    let disk = disk_in(root.path());
    let file = file_with(&disk, "segment", Vec::new()).await;
    // More than one turn takes, in parts.
    let mut expected = Vec::new();
    let mut calls = Vec::new();
    for n in 0..500_u32 {
        let parts = vec![n.to_le_bytes().to_vec().into(), Bytes::new(), vec![0xAA; 60].into()];
        calls.push(file.append(parts));
        expected.extend_from_slice(&n.to_le_bytes());
        expected.extend_from_slice(&[0xAA; 60]);
    }
    let outcomes = join_all(calls).await;
    assert!(outcomes.iter().all(Result::is_ok), "{:?}", outcomes.iter().find(|it| it.is_err()));
    assert_eq!(file.len().await.unwrap(), expected.len() as u64);
    assert!(file.read_at(0, usize::MAX).await.unwrap() == expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_of_more_parts_than_a_call_takes_is_whole() {
    let root = tempfile::tempdir().unwrap();
    let disk = disk_in(root.path());
    let file = file_with(&disk, "segment", b"head".to_vec()).await;
    let parts = (0..3000_u32).map(|n| n.to_le_bytes().to_vec().into()).collect();
    file.append(parts).await.unwrap();
    let expected: Vec<u8> = (0..3000_u32).flat_map(u32::to_le_bytes).collect();
    assert!(file.read_at(4, usize::MAX).await.unwrap() == expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn freezing_frees_what_was_reserved_behind_the_end() {
    for root in on_disk_and_in_memory() {
        let root = root.path();
        let disk = disk_in(root);
        let file = file_with(&disk, "segment", vec![3; 10_000]).await;
        match file.allocate(8 * MIB).await {
            Ok(()) => assert!(allocated_bytes(root, "segment") >= 8 * MIB, "{root:?}"),
            Err(error) => assert_eq!(error.kind, DiskErrorKind::Unsupported, "{root:?}"),
        }
        assert_eq!(file.len().await.unwrap(), 10_000, "the length does not change");
        file.append(vec![vec![4; 5000].into()]).await.unwrap();
        file.sync_data().await.unwrap();
        file.freeze().await.unwrap();
        assert!(allocated_bytes(root, "segment") <= 64 * 1024, "{root:?} keeps its blocks");
        let mut expected = vec![3; 10_000];
        expected.resize(15_000, 4);
        assert!(file.read_at(0, usize::MAX).await.unwrap() == expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reservation_that_does_not_fit_takes_nothing() {
    for root in on_disk_and_in_memory() {
        let disk = disk_in(root.path());
        let file = file_with(&disk, "segment", vec![3; 10_000]).await;
        let before = disk.space().await.unwrap();
        // Twice the file system, but no more than ext4's largest file.
        let mut allocation = file.allocate((before.total_bytes * 2).min(15 << 40));
        let mut least_bytes = before.available_bytes;
        let error = loop {
            tokio::select! {
                biased;
                outcome = &mut allocation => break outcome.unwrap_err(),
                space = disk.space() => least_bytes = least_bytes.min(space.unwrap().available_bytes),
            }
        };
        assert!(error.kind.is_full(), "{error}");
        // Others use the file system too; half of it at once would be a coincidence.
        assert!(least_bytes >= before.available_bytes / 2, "down to {least_bytes} of {before:?}");
        assert!(allocated_bytes(root.path(), "segment") <= MIB);
        assert_eq!(file.len().await.unwrap(), 10_000);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_file_is_read_from_memory_without_a_copy() {
    let root = tempfile::tempdir().unwrap();
    let disk = disk_in(root.path());
    let content: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let file = file_with(&disk, "segment", content.clone()).await;
    file.freeze().await.unwrap();
    let whole = file.read_at(0, usize::MAX).await.unwrap();
    assert!(whole == content);
    let before = disk.stats();
    let part = file.read_at(70_000, 100_000).await.unwrap();
    assert_eq!(part.as_ptr(), whole[70_000..].as_ptr(), "two reads see the same memory");
    assert_eq!(disk.stats().reads_inline, before.reads_inline + 1, "resident, so no thread");
    assert_eq!(file.read_at(199_999, 10).await.unwrap(), content[199_999..]);
    assert!(file.read_at(200_000, 10).await.unwrap().is_empty());
    assert!(file.read_at(u64::MAX, 10).await.unwrap().is_empty());

    // The bytes outlive the name and the handle.
    disk.unlink(&DiskPath::new("segment")).await.unwrap();
    drop(file);
    assert!(part[..] == content[70_000..170_000]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_file_that_is_cut_costs_its_bytes_and_not_the_process() {
    let root = tempfile::tempdir().unwrap();
    let disk = disk_in(root.path());
    let file = file_with(&disk, "segment", vec![7; 300_000]).await;
    file.freeze().await.unwrap();
    let held = file.read_at(100_000, 100_000).await.unwrap();
    assert!(held.iter().all(|&byte| byte == 7));

    let path = root.path().join("segment");
    std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(50_000).unwrap();
    assert!(held.iter().all(|&byte| byte == 0), "what is gone reads as zeros");
    assert!(disk.stats().mapping_faults > 0);
    // Later reads go to the file and see its end.
    assert_eq!(file.read_at(40_000, 20_000).await.unwrap().len(), 10_000);
    assert!(file.read_at(100_000, 100_000).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taken_lock_names_its_holder_and_is_free_after_it() {
    let root = tempfile::tempdir().unwrap();
    let (first, second) = (disk_in(root.path()), disk_in(root.path()));
    let path = DiskPath::new("LOCK");
    // A longer text of an earlier holder must not show through.
    std::fs::write(root.path().join("LOCK"), "somebody with a much longer name").unwrap();
    let LockOutcome::Held(lock) = first.lock(&path, "pid 17").await.unwrap() else {
        panic!("nobody else holds it");
    };
    for _ in 0..2 {
        match second.lock(&path, "pid 18").await.unwrap() {
            LockOutcome::Taken(holder) => assert_eq!(holder, "pid 17"),
            LockOutcome::Held(_) => panic!("two holders"),
        }
    }
    drop(lock);
    assert!(matches!(second.lock(&path, "pid 18").await.unwrap(), LockOutcome::Held(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_to_look_at_reads_everything_and_refuses_every_change() {
    let root = tempfile::tempdir().unwrap();
    let (name, other) = (DiskPath::new("segment"), DiskPath::new("other"));
    file_with(&disk_in(root.path()), "segment", b"abc".to_vec()).await;
    let modified = || std::fs::metadata(root.path()).unwrap().modified().unwrap();
    let before = modified();
    let disk = HostDisk::read_only(root.path(), 1).unwrap();
    let file = disk.open(&name).await.unwrap();
    assert_eq!(file.read_at(1, 2).await.unwrap(), &b"bc"[..]);
    assert_eq!(disk.list(&DiskPath::root()).await.unwrap().len(), 1);
    assert!(disk.space().await.unwrap().total_bytes > 0);
    let refusals = [
        disk.create(&other).await.map(drop),
        disk.mkdir(&other).await,
        disk.rename(&name, &other).await,
        disk.unlink(&name).await,
        disk.sync_dir(&DiskPath::root()).await,
        disk.lock(&other, "me").await.map(drop),
    ];
    for refusal in refusals {
        assert_eq!(refusal.unwrap_err().kind, DiskErrorKind::ReadOnly);
    }
    assert!(file.append(vec![Bytes::from_static(b"d")]).await.is_err(), "it is open for reading");
    assert_eq!(
        (std::fs::read(root.path().join("segment")).unwrap(), modified()),
        (b"abc".to_vec(), before)
    );
    assert!(
        HostDisk::read_only(root.path().join("none"), 1).is_ok()
            && !root.path().join("none").exists()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unlinked_file_keeps_its_space_until_its_last_reader_is_gone() {
    let root = tempfile::tempdir_in("/dev/shm").unwrap();
    let disk = disk_in(root.path());
    // Not appended: the thread that does so may hold the file a moment longer than its caller waits.
    let file = disk.create(&DiskPath::new("segment")).await.unwrap();
    file.write_at(0, vec![7; 64 * 1024 * 1024].into()).await.unwrap();
    file.freeze().await.unwrap();
    let held = file.read_at(0, 10).await.unwrap();
    disk.unlink(&DiskPath::new("segment")).await.unwrap();
    drop(file);
    let with_reader = disk.space().await.unwrap().available_bytes;
    drop(held);
    let without = disk.space().await.unwrap().available_bytes;
    // Others use the file system too; 64 MiB at once would be a coincidence.
    assert!(without >= with_reader + 32 * MIB, "{with_reader} then {without} bytes available");
}

#[tokio::test]
async fn bytes_that_became_zeros_since_they_were_read_are_not_sent() {
    let root = tempfile::tempdir().unwrap();
    let disk = disk_in(root.path());
    let (cut, whole) = (
        file_with(&disk, "cut", vec![7; 100_000]).await,
        file_with(&disk, "whole", vec![7; 100_000]).await,
    );
    let mut bytes = Vec::new();
    for file in [&cut, &whole] {
        file.freeze().await.unwrap();
        bytes.push(file.read_at(0, 100_000).await.unwrap());
    }
    assert!(bytes.iter().all(|bytes| bytes.iter().all(|&byte| byte == 7)), "as they were checked");
    let on_disk = std::fs::OpenOptions::new().write(true).open(root.path().join("cut")).unwrap();
    on_disk.set_len(0).unwrap();
    // Somebody else meets the missing page, and it is replaced.
    assert_eq!(bytes[0][0], 0);

    let listener = HostNet.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let mut stream = HostNet.connect(listener.local_addr()).await.unwrap();
    stream.write_all(&bytes[1][..1000]).await.unwrap();
    let slices = [std::io::IoSlice::new(b"head"), std::io::IoSlice::new(&bytes[0][50_000..60_000])];
    assert!(stream.write_vectored(&slices).await.is_err());
    assert!(stream.write(&bytes[0][50_000..60_000]).await.is_err());
}
