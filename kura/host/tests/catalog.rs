//! What the real catalog does beyond its contract: groups commits, and keeps them across a reopen.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use kura_env::{
    Batch, Catalog, CatalogError, CatalogHealth, CommitDurability, Keyspace, Operation,
};
use kura_host::HostCatalog;

const ROWS: Keyspace = Keyspace("rows");
const OTHER: Keyspace = Keyspace("other");

fn catalog_in(root: &std::path::Path) -> HostCatalog {
    HostCatalog::new(root.join("catalog"), &[ROWS, OTHER]).expect("the system has threads")
}

fn put(key: u32, value: u32) -> Batch {
    let row = |space| {
        let key = Bytes::copy_from_slice(&key.to_be_bytes());
        Operation::Put(space, key, Bytes::copy_from_slice(&value.to_be_bytes()))
    };
    Batch(vec![row(ROWS), row(OTHER)])
}

async fn value_of(catalog: &HostCatalog, space: Keyspace, key: u32) -> Option<u32> {
    let value = catalog.get(space, &key.to_be_bytes()).await.expect("it is open")?;
    Some(u32::from_be_bytes(value[..].try_into().expect("values are four bytes")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_that_wait_share_a_batch_and_a_sync() {
    let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let catalog = catalog_in(root.path());
    catalog.open().await.unwrap();
    let commits = (0..512).map(|n| catalog.commit(put(n, n), CommitDurability::Synced));
    let outcomes = join_all(commits).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let stats = catalog.stats();
    assert_eq!(stats.commits, 512);
    assert!(stats.syncs <= 64, "512 commits took {} syncs", stats.syncs);
    assert_eq!(stats.batches, stats.syncs);

    catalog.commit(put(1000, 1), CommitDurability::Buffered).await.unwrap();
    assert_eq!(catalog.stats().syncs, stats.syncs, "a buffered commit does not sync");
    for n in 0..512 {
        assert_eq!(value_of(&catalog, ROWS, n).await, Some(n));
        assert_eq!(value_of(&catalog, OTHER, n).await, Some(n));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_change_to_a_key_wins_within_a_batch_and_within_a_group() {
    let root = tempfile::tempdir().unwrap();
    let catalog = catalog_in(root.path());
    catalog.open().await.unwrap();
    let mut batch = put(1, 1);
    batch.delete(ROWS, 1_u32.to_be_bytes().to_vec());
    batch.put(OTHER, 1_u32.to_be_bytes().to_vec(), 9_u32.to_be_bytes().to_vec());
    let commits = (0..100).map(|n| catalog.commit(put(2, n), CommitDurability::Buffered));
    // They are handed over in this order, as long as the runtime does not make one of them wait for its
    // turn: it does so after 128 steps of a task.
    let all = async {
        tokio::join!(catalog.commit(batch, CommitDurability::Buffered), join_all(commits))
    };
    let (first, rest) = tokio::task::unconstrained(all).await;
    first.unwrap();
    assert!(rest.iter().all(Result::is_ok));
    for _ in 0..2 {
        assert_eq!(value_of(&catalog, ROWS, 1).await, None);
        assert_eq!(value_of(&catalog, OTHER, 1).await, Some(9));
        assert_eq!(value_of(&catalog, ROWS, 2).await, Some(99));
        catalog.open().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reopening_in_process_waits_for_readers_and_keeps_every_commit() {
    let root = tempfile::tempdir().unwrap();
    let catalog = Arc::new(catalog_in(root.path()));
    assert_eq!(catalog.health(), CatalogHealth::Closed);
    assert!(matches!(catalog.get(ROWS, b"key").await, Err(CatalogError::Closed)));
    let early = catalog.commit(put(0, 0), CommitDurability::Synced).await;
    assert!(matches!(early, Err(CatalogError::Closed)));

    catalog.open().await.unwrap();
    for round in 0..5 {
        catalog.commit(put(round, round), CommitDurability::Buffered).await.unwrap();
        let reader = catalog.clone();
        let reading = tokio::spawn(async move {
            for _ in 0..200 {
                reader.range(ROWS, &[], &[], 100).await.expect("a reader never meets a closed one");
            }
        });
        catalog.open().await.unwrap();
        assert_eq!(catalog.health(), CatalogHealth::Open);
        reading.await.unwrap();
    }
    let rows = catalog.range(ROWS, &[], &[], 100).await.unwrap();
    assert_eq!(rows.len(), 5);

    catalog.close().await;
    assert_eq!(catalog.health(), CatalogHealth::Closed);
    let second = catalog_in(root.path());
    second.open().await.unwrap();
    assert_eq!(value_of(&second, ROWS, 4).await, Some(4), "the directory is free after a close");
    assert!(catalog.open().await.is_err(), "one at a time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_the_memtables_hold_goes_in_without_a_stop() {
    let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let catalog = catalog_in(root.path());
    catalog.open().await.unwrap();
    // 128 MiB against memtables of 16.
    let value = Bytes::from(vec![0xA5; 64 * 1024]);
    for n in 0..2048_u32 {
        let mut batch = Batch::default();
        batch.put(ROWS, n.to_be_bytes().to_vec(), value.clone());
        catalog.commit(batch, CommitDurability::Buffered).await.unwrap();
    }
    let from = 2000_u32.to_be_bytes();
    let rows = catalog.range(ROWS, &from, &[], 1000).await.unwrap();
    assert_eq!(rows.len(), 48);
    assert!(rows.iter().all(|(_, stored)| *stored == value));
}
