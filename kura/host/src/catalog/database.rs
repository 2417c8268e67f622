//! One opened fjall database: what it is opened with, and the calls that are made to it.

use std::{collections::BTreeMap, ops::Bound, path::Path, thread, time::Duration};

use bytes::Bytes;
use fjall::{KeyspaceCreateOptions, PersistMode};
use kura_env::{CatalogError, Keyspace, Row};

use super::error;

/// Blocks of tables kept in memory. Too low: misses of the index go to the disk. Too high: memory
/// that the page cache could use for bodies.
const CACHE_BYTES: u64 = 32 * 1024 * 1024;

/// What one keyspace collects in memory before it writes a table. Too low: many small tables and
/// more compaction. Too high: memory, several times over, and a longer start.
const MEMTABLE_BYTES: u64 = 16 * 1024 * 1024;

/// Journals on disk before the eldest is forced out. fjall wants 64 MiB at least.
const JOURNALS_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// fjall's own threads, for flushes and compaction. With one, a compaction would hold up flushes.
const WORKER_THREADS: usize = 2;

/// Table files held open.
const OPEN_FILES_MAX: usize = 256;

/// Memtables of a keyspace that wait to be written before commits wait for them. fjall itself waits
/// at four, inside the commit, in a loop that a failed flush never ends. One commit adds two at
/// most (a rotation asked for earlier, and its own), so that loop is never reached from here.
const SEALED_MEMTABLES_MAX: usize = 1;

/// Tables in the first level before commits wait for a compaction; fjall itself waits at 30, in
/// another loop that a failed compaction never ends.
const FIRST_LEVEL_TABLES_MAX: usize = 20;

/// How often a commit that waits for a flush or a compaction looks again.
const STALL_POLL: Duration = Duration::from_millis(5);

pub(super) struct Database {
    spaces: BTreeMap<Keyspace, fjall::Keyspace>,
    fjall: fjall::Database,
}

/// The changes of one or more batches: the last one to a key won already.
pub(super) type Changes = BTreeMap<(Keyspace, Bytes), Option<Bytes>>;

impl Database {
    pub(super) fn open(directory: &Path, spaces: &[Keyspace]) -> Result<Self, CatalogError> {
        error::no_panic(|| {
            let fjall = fjall::Database::builder(directory)
                .cache_size(CACHE_BYTES)
                .max_journaling_size(JOURNALS_BYTES_MAX)
                .max_cached_files(Some(OPEN_FILES_MAX))
                .worker_threads(WORKER_THREADS)
                .open()
                .map_err(|cause| error::of_open(&cause))?;
            let open = |space: &Keyspace| {
                let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
                fjall.keyspace(space.0, options).map(|opened| (*space, opened))
            };
            let spaces = spaces.iter().map(open).collect::<Result<_, _>>();
            Ok(Self { spaces: spaces.map_err(|cause| error::of_open(&cause))?, fjall })
        })
    }

    fn space(&self, space: Keyspace) -> &fjall::Keyspace {
        self.spaces.get(&space).expect("callers use the keyspaces that the catalog was made with")
    }

    pub(super) fn get(&self, space: Keyspace, key: &[u8]) -> Result<Option<Bytes>, CatalogError> {
        let value = self.space(space).get(key).map_err(|cause| error::of(&cause))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    pub(super) fn range(
        &self,
        space: Keyspace,
        from: &[u8],
        to: &[u8],
        rows_max: usize,
    ) -> Result<Vec<Row>, CatalogError> {
        if !to.is_empty() && from >= to {
            return Ok(Vec::new());
        }
        let end = if to.is_empty() { Bound::Unbounded } else { Bound::Excluded(to) };
        let rows = self.space(space).range::<&[u8], _>((Bound::Included(from), end));
        // All rows of an answer share one piece of memory: two for each row were a good part of what a range costs.
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for row in rows.take(rows_max) {
            let (key, value) = row.into_inner().map_err(|cause| error::of(&cause))?;
            bytes.extend_from_slice(&key);
            let key_end = bytes.len();
            bytes.extend_from_slice(&value);
            ends.push((key_end, bytes.len()));
        }
        let (bytes, mut from) = (Bytes::from(bytes), 0);
        let rows = ends.into_iter().map(|(key_end, end)| {
            let row = (bytes.slice(from..key_end), bytes.slice(key_end..end));
            from = end;
            row
        });
        Ok(rows.collect())
    }

    /// Writes all changes as one batch, handed to the system. Waits while flushes or compactions
    /// are behind.
    pub(super) fn write(&self, changes: Changes) -> Result<(), CatalogError> {
        self.wait_for_workers()?;
        error::no_panic(|| {
            let mut batch = self.fjall.batch().durability(Some(PersistMode::Buffer));
            for ((space, key), value) in changes {
                let space = self.space(space);
                match value {
                    Some(value) => batch.insert(space, &key[..], &value[..]),
                    None => batch.remove(space, &key[..]),
                }
            }
            batch.commit().map_err(|cause| error::of(&cause))
        })
    }

    /// Makes everything written so far survive power loss.
    pub(super) fn sync(&self) -> Result<(), CatalogError> {
        self.persist(PersistMode::SyncData)
    }

    fn persist(&self, mode: PersistMode) -> Result<(), CatalogError> {
        error::no_panic(|| self.fjall.persist(mode).map_err(|cause| error::of(&cause)))
    }

    #[expect(clippy::disallowed_methods, reason = "the committer's thread serves nobody meanwhile")]
    fn wait_for_workers(&self) -> Result<(), CatalogError> {
        while self.spaces.values().any(|space| {
            space.sealed_memtable_count() > SEALED_MEMTABLES_MAX
                || space.l0_table_count() >= FIRST_LEVEL_TABLES_MAX
        }) {
            // Fails once the database is poisoned, which is how a failed worker shows.
            self.persist(PersistMode::Buffer)?;
            thread::sleep(STALL_POLL);
        }
        Ok(())
    }
}
