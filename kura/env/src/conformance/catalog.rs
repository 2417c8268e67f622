//! What every [`Catalog`] keeps as long as nothing fails: ordered rows, batches that are made whole,
//! and rows that are still there after it was opened again.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use futures_util::{future::join_all, join};

use crate::{
    Batch, Catalog, CatalogError, CatalogHealth, CommitDurability, EntropyStream, Keyspace, Row,
};

/// The keyspaces that a catalog under test must have been made with.
pub const SPACES: [Keyspace; 2] = [Keyspace("conformance-a"), Keyspace("conformance-b")];

const A: Keyspace = SPACES[0];
const B: Keyspace = SPACES[1];

/// Holds `catalog`, which is closed and was made with [`SPACES`], to its contract. Leaves it closed
/// and without rows.
///
/// # Panics
///
/// Where the contract is broken.
pub async fn suite(catalog: Arc<dyn Catalog>) {
    let catalog = &*catalog;
    a_closed_catalog_says_so(catalog).await;
    catalog.open().await.expect("open");
    assert_eq!(catalog.health(), CatalogHealth::Open, "after open");
    a_row_is_found_until_it_is_deleted(catalog).await;
    the_last_change_of_a_batch_wins(catalog).await;
    a_batch_reaches_every_keyspace(catalog).await;
    keyspaces_are_apart(catalog).await;
    a_range_is_ordered_and_bounded(catalog).await;
    values_may_be_empty_or_large(catalog).await;
    an_empty_batch_is_a_commit(catalog).await;
    a_thousand_rows_are_one_batch(catalog).await;
    commits_run_side_by_side(catalog).await;
    rows_outlive_a_reopening(catalog).await;
    opening_again_while_open_keeps_rows(catalog).await;
    clear(catalog).await;
    catalog.close().await;
    assert_eq!(catalog.health(), CatalogHealth::Closed, "after close");
}

async fn a_closed_catalog_says_so(catalog: &dyn Catalog) {
    assert_eq!(catalog.health(), CatalogHealth::Closed, "before open");
    let closed = |error| matches!(error, CatalogError::Closed);
    assert!(catalog.get(A, b"key").await.is_err_and(closed), "get");
    assert!(catalog.range(A, b"", b"", 9).await.is_err_and(closed), "range");
    let mut batch = Batch::default();
    batch.put(A, "key", "value");
    let committed = catalog.commit(batch, CommitDurability::Buffered).await;
    assert!(committed.is_err_and(closed), "commit");
}

async fn a_row_is_found_until_it_is_deleted(catalog: &dyn Catalog) {
    for durability in [CommitDurability::Buffered, CommitDurability::Synced] {
        assert_eq!(get(catalog, A, "key").await, None, "before");
        commit(catalog, |batch| batch.put(A, "key", "value"), durability).await;
        assert_eq!(get(catalog, A, "key").await, Some("value".into()), "after put");
        commit(catalog, |batch| batch.put(A, "key", "other"), durability).await;
        assert_eq!(get(catalog, A, "key").await, Some("other".into()), "after another put");
        commit(catalog, |batch| batch.delete(A, "key"), durability).await;
        assert_eq!(get(catalog, A, "key").await, None, "after delete");
        commit(catalog, |batch| batch.delete(A, "key"), durability).await;
        assert_eq!(get(catalog, A, "key").await, None, "deleting what is not there");
    }
}

async fn the_last_change_of_a_batch_wins(catalog: &dyn Catalog) {
    let changes = |batch: &mut Batch| {
        batch.put(A, "twice", "first");
        batch.put(A, "twice", "last");
        batch.put(A, "gone", "value");
        batch.delete(A, "gone");
        batch.delete(A, "back");
        batch.put(A, "back", "value");
    };
    commit(catalog, changes, CommitDurability::Buffered).await;
    assert_eq!(keys(catalog, A).await, ["back", "twice"], "what the batch left");
    assert_eq!(get(catalog, A, "twice").await, Some("last".into()), "the last put");
    clear(catalog).await;
}

async fn a_batch_reaches_every_keyspace(catalog: &dyn Catalog) {
    let changes = |batch: &mut Batch| {
        batch.put(A, "key", "in a");
        batch.put(B, "key", "in b");
    };
    commit(catalog, changes, CommitDurability::Synced).await;
    assert_eq!(get(catalog, A, "key").await, Some("in a".into()));
    assert_eq!(get(catalog, B, "key").await, Some("in b".into()));
    clear(catalog).await;
}

async fn keyspaces_are_apart(catalog: &dyn Catalog) {
    commit(catalog, |batch| batch.put(A, "key", "value"), CommitDurability::Buffered).await;
    commit(catalog, |batch| batch.delete(B, "key"), CommitDurability::Buffered).await;
    assert_eq!(get(catalog, B, "key").await, None, "a row of another keyspace");
    assert_eq!(keys(catalog, B).await, [""; 0], "a range of another keyspace");
    assert_eq!(get(catalog, A, "key").await, Some("value".into()), "a delete of another one");
    clear(catalog).await;
}

async fn a_range_is_ordered_and_bounded(catalog: &dyn Catalog) {
    let changes = |batch: &mut Batch| {
        for key in ["b", "ab", "a", "c", "b\0", "\u{ff}"] {
            batch.put(A, key, key);
        }
    };
    commit(catalog, changes, CommitDurability::Buffered).await;
    let table: [(&str, &str, usize, &[&str]); 10] = [
        ("", "", 99, &["a", "ab", "b", "b\0", "c", "\u{ff}"]),
        ("", "b", 99, &["a", "ab"]),
        ("b", "", 99, &["b", "b\0", "c", "\u{ff}"]),
        ("b", "c", 99, &["b", "b\0"]),
        ("aa", "bb", 99, &["ab", "b", "b\0"]),
        ("b", "b", 99, &[]),
        ("c", "a", 99, &[]),
        ("\u{ff}a", "", 99, &[]),
        ("a", "", 2, &["a", "ab"]),
        ("", "", 0, &[]),
    ];
    for (from, to, rows_max, expected) in table {
        let rows = range(catalog, A, from, to, rows_max).await;
        let found: Vec<&[u8]> = rows.iter().map(|(key, _)| &key[..]).collect();
        let expected: Vec<&[u8]> = expected.iter().map(|key| key.as_bytes()).collect();
        assert_eq!(found, expected, "at most {rows_max} from {from:?} to {to:?}");
        assert!(rows.iter().all(|(key, value)| key == value), "values go with their keys");
    }
    clear(catalog).await;
}

async fn values_may_be_empty_or_large(catalog: &dyn Catalog) {
    let large = Bytes::from(vec![7; 256 * 1024]);
    let changes = |batch: &mut Batch| {
        batch.put(A, "empty", "");
        batch.put(A, "large", large.clone());
        batch.put(A, Bytes::from_static(&[0, 255, 0]), "binary");
    };
    commit(catalog, changes, CommitDurability::Synced).await;
    assert_eq!(get(catalog, A, "empty").await, Some(Bytes::new()), "an empty value is a value");
    assert!(get(catalog, A, "large").await == Some(large), "a large value came back changed");
    let binary = catalog.get(A, &[0, 255, 0]).await.expect("get");
    assert_eq!(binary, Some("binary".into()), "keys are any bytes");
    clear(catalog).await;
}

async fn an_empty_batch_is_a_commit(catalog: &dyn Catalog) {
    for durability in [CommitDurability::Buffered, CommitDurability::Synced] {
        commit(catalog, |batch| batch.put(A, "before", "row"), CommitDurability::Buffered).await;
        commit(catalog, |_| (), durability).await;
        commit(catalog, |batch| batch.put(A, "after", "row"), CommitDurability::Buffered).await;
        reopen(catalog).await;
        assert_eq!(keys(catalog, A).await, ["after", "before"], "rows around an empty batch");
        clear(catalog).await;
    }
}

async fn a_thousand_rows_are_one_batch(catalog: &dyn Catalog) {
    let changes = |batch: &mut Batch| {
        for number in 0..1000 {
            batch.put(B, format!("{number:04}"), format!("value {number}"));
        }
    };
    commit(catalog, changes, CommitDurability::Buffered).await;
    let rows = range(catalog, B, "", "", 2000).await;
    assert_eq!(rows.len(), 1000, "all rows of a batch");
    for (number, row) in rows.iter().enumerate() {
        let expected = (format!("{number:04}").into(), format!("value {number}").into());
        assert_eq!(*row, expected, "row {number}");
    }
    assert_eq!(range(catalog, B, "0500", "0600", 2000).await.len(), 100, "a part of them");
    clear(catalog).await;
}

async fn commits_run_side_by_side(catalog: &dyn Catalog) {
    let commits = (0..64_u32).map(|number| {
        let mut batch = Batch::default();
        batch.put(A, format!("{number:02}"), "value");
        // Overwritten by every commit: some commit's value stays, not a mixture.
        batch.put(A, "shared", format!("{number:02}"));
        batch.put(B, "shared", format!("{number:02}"));
        let durability = match number % 2 {
            0 => CommitDurability::Buffered,
            _ => CommitDurability::Synced,
        };
        catalog.commit(batch, durability)
    });
    let (commits, seen) = join!(join_all(commits), catalog.get(A, b"shared"));
    seen.expect("a read beside commits");
    for result in commits {
        result.expect("commit");
    }
    assert_eq!(keys(catalog, A).await.len(), 65, "a row of every commit");
    let (a, b) = (get(catalog, A, "shared").await, get(catalog, B, "shared").await);
    assert_eq!(a, b, "the last batch reached both keyspaces");
    clear(catalog).await;
}

async fn rows_outlive_a_reopening(catalog: &dyn Catalog) {
    commit(catalog, |batch| batch.put(A, "synced", "1"), CommitDurability::Synced).await;
    commit(catalog, |batch| batch.put(A, "buffered", "2"), CommitDurability::Buffered).await;
    commit(catalog, |batch| batch.delete(A, "synced"), CommitDurability::Buffered).await;
    reopen(catalog).await;
    assert_eq!(keys(catalog, A).await, ["buffered"], "rows after close and open");
    assert_eq!(get(catalog, A, "buffered").await, Some("2".into()));
    clear(catalog).await;
    reopen(catalog).await;
    assert_eq!(keys(catalog, A).await, [""; 0], "deleted rows stay deleted");
}

async fn opening_again_while_open_keeps_rows(catalog: &dyn Catalog) {
    commit(catalog, |batch| batch.put(B, "key", "value"), CommitDurability::Buffered).await;
    catalog.open().await.expect("open what is open");
    assert_eq!(catalog.health(), CatalogHealth::Open, "after opening again");
    assert_eq!(get(catalog, B, "key").await, Some("value".into()), "after opening again");
    commit(catalog, |batch| batch.put(B, "other", "value"), CommitDurability::Synced).await;
    assert_eq!(keys(catalog, B).await, ["key", "other"], "and it goes on");
}

/// Runs `count` drawn operations against an open `catalog` without rows and against a plain model
/// in memory, and compares what both tell.
///
/// # Panics
///
/// Where they differ; the message tells the operation's number.
pub async fn random_operations(
    catalog: Arc<dyn Catalog>,
    draws: &mut dyn EntropyStream,
    count: usize,
) {
    let catalog = &*catalog;
    let mut model: BTreeMap<(Keyspace, String), String> = BTreeMap::new();
    for step in 0..count {
        let mut batch = Batch::default();
        for _ in 0..below(draws, 20) {
            let space = SPACES[usize::from(below(draws, 2) == 1)];
            let key = format!("{:03}", below(draws, 200));
            if below(draws, 3) == 0 {
                model.remove(&(space, key.clone()));
                batch.delete(space, key);
            } else {
                let value = format!("{step}: {:x}", draws.next_u64());
                batch.put(space, key.clone(), value.clone());
                model.insert((space, key), value);
            }
        }
        let durability = match below(draws, 4) {
            0 => CommitDurability::Synced,
            _ => CommitDurability::Buffered,
        };
        catalog.commit(batch, durability).await.expect("commit");
        if below(draws, 40) == 0 {
            reopen(catalog).await;
        }
        for space in SPACES {
            let (low, high) = (below(draws, 200), below(draws, 200));
            let (low, high) = (format!("{low:03}"), format!("{high:03}"));
            let expected: Vec<Row> = model
                .iter()
                .filter(|((of, key), _)| *of == space && *key >= low && *key < high)
                .map(|((_, key), value)| (key.clone().into(), value.clone().into()))
                .collect();
            let found = range(catalog, space, &low, &high, usize::MAX).await;
            assert_eq!(found, expected, "step {step}: {space:?} from {low} to {high}");
        }
    }
    clear(catalog).await;
}

fn below(draws: &mut dyn EntropyStream, bound: u64) -> u64 {
    draws.next_u64() % bound
}

async fn commit(
    catalog: &dyn Catalog,
    fill: impl FnOnce(&mut Batch),
    durability: CommitDurability,
) {
    let mut batch = Batch::default();
    fill(&mut batch);
    catalog.commit(batch, durability).await.expect("commit");
}

async fn get(catalog: &dyn Catalog, space: Keyspace, key: &str) -> Option<Bytes> {
    catalog.get(space, key.as_bytes()).await.expect("get")
}

async fn range(
    catalog: &dyn Catalog,
    space: Keyspace,
    from: &str,
    to: &str,
    rows_max: usize,
) -> Vec<Row> {
    catalog.range(space, from.as_bytes(), to.as_bytes(), rows_max).await.expect("range")
}

async fn keys(catalog: &dyn Catalog, space: Keyspace) -> Vec<Bytes> {
    let rows = range(catalog, space, "", "", usize::MAX).await;
    rows.into_iter().map(|(key, _)| key).collect()
}

async fn reopen(catalog: &dyn Catalog) {
    catalog.close().await;
    catalog.open().await.expect("open after close");
}

async fn clear(catalog: &dyn Catalog) {
    let mut batch = Batch::default();
    for space in SPACES {
        for key in keys(catalog, space).await {
            batch.delete(space, key);
        }
    }
    catalog.commit(batch, CommitDurability::Buffered).await.expect("clear");
}
