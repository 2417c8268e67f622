//! Ordered keyspaces beside the data: an index that may be lost and rebuilt.

use bytes::Bytes;

use crate::BoxFuture;

/// A keyspace by name, of those the catalog was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Keyspace(pub &'static str);

/// A key and its value.
pub type Row = (Bytes, Bytes);

/// One change of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Sets a key to a value.
    Put(Keyspace, Bytes, Bytes),
    /// Removes a key; no error if it is not there.
    Delete(Keyspace, Bytes),
}

/// Changes that take effect together, in order: the last one to a key wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch(pub Vec<Operation>);

impl Batch {
    /// Adds a row.
    pub fn put(&mut self, space: Keyspace, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.0.push(Operation::Put(space, key.into(), value.into()));
    }

    /// Removes a row.
    pub fn delete(&mut self, space: Keyspace, key: impl Into<Bytes>) {
        self.0.push(Operation::Delete(space, key.into()));
    }

    /// How many changes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What a commit waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitDurability {
    /// Handed to the system: survives SIGKILL, not power loss. After power loss a prefix of the
    /// commits is there.
    Buffered,
    /// Synced: survives power loss, and with it every commit before.
    Synced,
}

/// Whether a catalog can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CatalogHealth {
    /// Not opened yet, or closed.
    Closed,
    /// Reads and writes.
    Open,
    /// A write failed: reads go on, writes fail until [`Catalog::open`] is called again.
    Poisoned(String),
    /// A read met what was never written. Other reads may go on, and nothing may be believed:
    /// [`Catalog::set_aside`] is due.
    Damaged(String),
}

/// Why the catalog said no.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CatalogError {
    /// It is not open.
    #[error("the catalog is closed")]
    Closed,
    /// An earlier write failed; open it again.
    #[error("the catalog is poisoned: {0}")]
    Poisoned(String),
    /// The disk is full. A batch that failed so may or may not be there after the next open.
    #[error("the catalog's disk is full: {0}")]
    NoSpace(String),
    /// It would not open: damaged or unreadable.
    #[error("the catalog does not open: {0}")]
    Damaged(String),
    /// The device failed.
    #[error("the catalog's disk failed: {0}")]
    Io(String),
}

/// Ordered keyspaces with atomic batches.
///
/// Contract:
/// - Reads see every commit that returned, in all keyspaces, at once; a batch is there as a whole
///   or not at all, also after a crash.
/// - After power loss the commits that remain are a prefix of those made, at least up to the last
///   [`CommitDurability::Synced`] one. (A damaged disk may break this silently, which is why
///   nothing rests on the catalog that cannot be rebuilt.)
/// - A failed commit is *unknown*: it may be there after the next open. The catalog is poisoned
///   then; reads go on.
/// - One process opens it at a time: it lies below the lock of the data directory.
pub trait Catalog: Send + Sync {
    /// Opens it, or closes and opens it again, in this process.
    fn open(&self) -> BoxFuture<'_, Result<(), CatalogError>>;

    /// Closes it: everything that returned is handed to the system. Does not sync.
    fn close(&self) -> BoxFuture<'_, ()>;

    /// Closes it, moves everything that it holds out of the way, and opens an empty one. Of what was
    /// moved so one is kept: the last. Where the disk has no room even for that, it is removed.
    /// Works on a catalog that does not open.
    fn set_aside(&self) -> BoxFuture<'_, Result<(), CatalogError>>;

    /// Whether it can be used.
    fn health(&self) -> CatalogHealth;

    /// The value of a key.
    fn get<'a>(
        &'a self,
        space: Keyspace,
        key: &'a [u8],
    ) -> BoxFuture<'a, Result<Option<Bytes>, CatalogError>>;

    /// Up to `rows_max` rows with `from <= key < to` in order of their keys; `to` empty means
    /// without end. The rows of an answer may share memory: who keeps a few of them for long copies those.
    fn range<'a>(
        &'a self,
        space: Keyspace,
        from: &'a [u8],
        to: &'a [u8],
        rows_max: usize,
    ) -> BoxFuture<'a, Result<Vec<Row>, CatalogError>>;

    /// Makes the changes of `batch`, all or none.
    fn commit(
        &self,
        batch: Batch,
        durability: CommitDurability,
    ) -> BoxFuture<'_, Result<(), CatalogError>>;
}
