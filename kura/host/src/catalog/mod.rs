//! The catalog on fjall.
//!
//! fjall blocks, and stalls writers with sleeping loops, so every call runs on threads of its own:
//! two for reads, and one, the committer, for everything that changes it.

mod committer;
mod database;
mod error;
mod quarantine;

use std::{io, path::PathBuf, sync::Arc, thread};

use bytes::Bytes;
use kura_env::{
    Batch, BoxFuture, Catalog, CatalogError, CatalogHealth, CommitDurability, Keyspace, Operation,
    Row,
};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, oneshot};

use self::{committer::Request, database::Database};
use crate::threads::Pool;

/// Threads for reads. Most are answered from memory; two keep one slow disk read from holding up
/// all others.
const READ_THREADS: usize = 2;

/// Reads that are queued or running; further ones wait in order.
const READ_QUEUE_MAX: usize = 1024;

/// Commits that wait for the committer; further ones wait in order.
const COMMIT_QUEUE_MAX: usize = 1024;

/// The longest key that fjall takes.
const KEY_BYTES_MAX: usize = 65_535;

/// A catalog in a directory of its own. Made closed: [`Catalog::open`] opens it.
///
/// Dropping it lets the committer finish what is queued and close; only [`Catalog::close`] waits
/// for that.
pub struct HostCatalog {
    requests: mpsc::Sender<Request>,
    reads: Pool,
    state: Arc<State>,
}

struct State {
    directory: PathBuf,
    /// Where a damaged one goes.
    quarantine: PathBuf,
    spaces: Vec<Keyspace>,
    /// Read-locked by every read; write-locked to close and to open, so that nothing holds the old
    /// database, and its lock file, when a new one is opened.
    database: RwLock<Option<Database>>,
    health: Mutex<CatalogHealth>,
    stats: Mutex<CatalogStats>,
}

/// What the committer did since the catalog was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CatalogStats {
    /// Commits that succeeded.
    pub commits: u64,
    /// Journal batches that they were written in.
    pub batches: u64,
    /// Syncs of the journal that they took.
    pub syncs: u64,
}

impl HostCatalog {
    /// A catalog in `directory`, which need not exist, with these keyspaces. One that is set aside
    /// goes to a directory of the same name in `quarantine/` beside it.
    ///
    /// # Errors
    ///
    /// If the system has no threads left.
    pub fn new(directory: impl Into<PathBuf>, spaces: &[Keyspace]) -> io::Result<Self> {
        let directory = directory.into();
        let state = Arc::new(State {
            quarantine: quarantine::place_of(&directory),
            directory,
            spaces: spaces.to_vec(),
            database: RwLock::new(None),
            health: Mutex::new(CatalogHealth::Closed),
            stats: Mutex::default(),
        });
        let (requests, queue) = mpsc::channel(COMMIT_QUEUE_MAX);
        let committed = state.clone();
        thread::Builder::new()
            .name("kura-commit".to_owned())
            .spawn(move || committer::run(&committed, queue))?;
        let reads = Pool::start("kura-catalog", READ_THREADS, READ_QUEUE_MAX)?;
        Ok(Self { requests, reads, state })
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> CatalogStats {
        *self.state.stats.lock()
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Database) -> Result<T, CatalogError> + Send + 'static,
    ) -> Result<T, CatalogError> {
        let state = self.state.clone();
        let work = move || {
            // Held until the damage is told: it is that of this database, not of one that takes its place.
            let open = state.database.read();
            let outcome = match &*open {
                Some(database) => error::no_panic(|| read(database)),
                None => Err(CatalogError::Closed),
            };
            if let Err(CatalogError::Damaged(cause)) = &outcome {
                *state.health.lock() = CatalogHealth::Damaged(cause.clone());
            }
            drop(open);
            outcome
        };
        self.reads.run(work).await
    }

    /// Hands a request to the committer and waits for its answer.
    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(request(answer)).await.ok()?;
        answered.await.ok()
    }
}

impl Catalog for HostCatalog {
    fn open(&self) -> BoxFuture<'_, Result<(), CatalogError>> {
        Box::pin(async move {
            self.ask(|answer| Request::Open { answer }).await.unwrap_or(Err(CatalogError::Closed))
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // Without an answer the committer is gone, and with it the database.
            self.ask(|answer| Request::Close { answer }).await.unwrap_or_default();
        })
    }

    fn set_aside(&self) -> BoxFuture<'_, Result<(), CatalogError>> {
        Box::pin(async move {
            let done = self.ask(|answer| Request::SetAside { answer }).await;
            done.unwrap_or(Err(CatalogError::Closed))
        })
    }

    fn health(&self) -> CatalogHealth {
        self.state.health.lock().clone()
    }

    fn get<'a>(
        &'a self,
        space: Keyspace,
        key: &'a [u8],
    ) -> BoxFuture<'a, Result<Option<Bytes>, CatalogError>> {
        let key = Bytes::copy_from_slice(key);
        Box::pin(self.read(move |database| database.get(space, &key)))
    }

    fn range<'a>(
        &'a self,
        space: Keyspace,
        from: &'a [u8],
        to: &'a [u8],
        rows_max: usize,
    ) -> BoxFuture<'a, Result<Vec<Row>, CatalogError>> {
        let (from, to) = (Bytes::copy_from_slice(from), Bytes::copy_from_slice(to));
        Box::pin(self.read(move |database| database.range(space, &from, &to, rows_max)))
    }

    /// # Panics
    ///
    /// On an empty key and on one over 65,535 bytes: keys are made from ids of our own.
    fn commit(
        &self,
        batch: Batch,
        durability: CommitDurability,
    ) -> BoxFuture<'_, Result<(), CatalogError>> {
        for operation in &batch.0 {
            let (Operation::Put(_, key, _) | Operation::Delete(_, key)) = operation;
            let length = key.len();
            assert!((1..=KEY_BYTES_MAX).contains(&length), "a catalog key of {length} bytes");
        }
        Box::pin(async move {
            let done = self.ask(|answer| Request::Commit { batch, durability, answer }).await;
            done.unwrap_or(Err(CatalogError::Closed))
        })
    }
}
