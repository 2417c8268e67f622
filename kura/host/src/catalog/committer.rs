//! The committer: one thread that makes all changes, in groups.
//!
//! fjall syncs once per commit, so eight writers get no more synced commits a second than the disk
//! has syncs. Here whatever was queued while the last group was written becomes the next group: one
//! journal batch, and one sync if anybody in it asked for one.

use kura_env::{Batch, CatalogError, CatalogHealth, CommitDurability, Operation};
use tokio::sync::{mpsc, oneshot};

use super::{
    State,
    database::{Changes, Database},
    error, quarantine,
};

/// Changes of one group; the group ends with the commit that reaches it. Too low: more syncs per
/// commit. Too high: the first of a group waits for all of it.
const GROUP_CHANGES_MAX: usize = 10_000;

/// Commits of one group.
const GROUP_COMMITS_MAX: usize = 1024;

type Answer<T> = oneshot::Sender<T>;

pub(super) enum Request {
    Open { answer: Answer<Result<(), CatalogError>> },
    Close { answer: Answer<()> },
    SetAside { answer: Answer<Result<(), CatalogError>> },
    Commit { batch: Batch, durability: CommitDurability, answer: Answer<Result<(), CatalogError>> },
}

/// Commits that are written together.
#[derive(Default)]
struct Group {
    changes: Changes,
    operations: usize,
    buffered: Vec<Answer<Result<(), CatalogError>>>,
    synced: Vec<Answer<Result<(), CatalogError>>>,
}

/// Serves requests in their order until the catalog is dropped.
pub(super) fn run(state: &State, mut queue: mpsc::Receiver<Request>) {
    let mut next = queue.blocking_recv();
    while let Some(request) = next.take() {
        match request {
            // Nobody may wait for an answer any more; the work was asked for all the same.
            Request::Open { answer } => drop(answer.send(state.reopen())),
            Request::Close { answer } => {
                state.close();
                answer.send(()).unwrap_or_default();
            }
            Request::SetAside { answer } => drop(answer.send(state.set_aside())),
            Request::Commit { batch, durability, answer } => {
                let mut group = Group::default();
                group.add(batch, durability, answer);
                next = group.gather(&mut queue);
                state.commit(group);
            }
        }
        if next.is_none() {
            next = queue.blocking_recv();
        }
    }
    state.close();
}

impl Group {
    fn add(
        &mut self,
        batch: Batch,
        durability: CommitDurability,
        answer: Answer<Result<(), CatalogError>>,
    ) {
        self.operations += batch.len();
        for operation in batch.0 {
            match operation {
                Operation::Put(space, key, value) => {
                    self.changes.insert((space, key), Some(value));
                }
                Operation::Delete(space, key) => {
                    self.changes.insert((space, key), None);
                }
            }
        }
        match durability {
            CommitDurability::Buffered => self.buffered.push(answer),
            CommitDurability::Synced => self.synced.push(answer),
        }
    }

    fn commits(&self) -> usize {
        self.buffered.len() + self.synced.len()
    }

    /// Adds what is queued, up to the bounds; returns the first request that is no commit.
    fn gather(&mut self, queue: &mut mpsc::Receiver<Request>) -> Option<Request> {
        while self.operations < GROUP_CHANGES_MAX && self.commits() < GROUP_COMMITS_MAX {
            match queue.try_recv() {
                Ok(Request::Commit { batch, durability, answer }) => {
                    self.add(batch, durability, answer);
                }
                Ok(
                    other @ (Request::Open { .. }
                    | Request::Close { .. }
                    | Request::SetAside { .. }),
                ) => return Some(other),
                // Empty, or the last of a catalog that was dropped.
                Err(_) => return None,
            }
        }
        None
    }
}

impl State {
    fn reopen(&self) -> Result<(), CatalogError> {
        let mut database = self.database.write();
        *self.health.lock() = CatalogHealth::Closed;
        drop(database.take());
        *database = Some(Database::open(&self.directory, &self.spaces)?);
        *self.health.lock() = CatalogHealth::Open;
        Ok(())
    }

    fn set_aside(&self) -> Result<(), CatalogError> {
        self.close();
        quarantine::set_aside(&self.directory, &self.quarantine).map_err(error::of_io)?;
        self.reopen()
    }

    fn close(&self) {
        let mut database = self.database.write();
        *self.health.lock() = CatalogHealth::Closed;
        drop(database.take());
    }

    /// Writes a group and answers everybody in it. The answers are sent once the lock is released, and
    /// what they tell of is counted before.
    fn commit(&self, mut group: Group) {
        let outcome = self.write(std::mem::take(&mut group.changes));
        if outcome.is_ok() {
            let mut stats = self.stats.lock();
            stats.batches += 1;
            stats.commits += group.buffered.len() as u64;
        }
        answer_all(group.buffered, &outcome);
        if group.synced.is_empty() {
            return;
        }
        let outcome = outcome.and_then(|()| self.sync());
        if outcome.is_ok() {
            let mut stats = self.stats.lock();
            stats.syncs += 1;
            stats.commits += group.synced.len() as u64;
        }
        answer_all(group.synced, &outcome);
    }

    fn write(&self, changes: Changes) -> Result<(), CatalogError> {
        self.change(|database| database.write(changes))
    }

    fn sync(&self) -> Result<(), CatalogError> {
        self.change(Database::sync)
    }

    /// Runs a change unless an earlier one failed, and remembers a failure.
    fn change(
        &self,
        change: impl FnOnce(&Database) -> Result<(), CatalogError>,
    ) -> Result<(), CatalogError> {
        if let CatalogHealth::Poisoned(text) = &*self.health.lock() {
            return Err(CatalogError::Poisoned(text.clone()));
        }
        let database = self.database.read();
        let Some(database) = &*database else {
            return Err(CatalogError::Closed);
        };
        change(database).inspect_err(|error| {
            tracing::error!(%error, "the catalog is poisoned");
            *self.health.lock() = CatalogHealth::Poisoned(error.to_string());
        })
    }
}

fn answer_all(answers: Vec<Answer<Result<(), CatalogError>>>, outcome: &Result<(), CatalogError>) {
    for answer in answers {
        // Whoever gave up waiting does not need the answer.
        drop(answer.send(outcome.clone()));
    }
}
