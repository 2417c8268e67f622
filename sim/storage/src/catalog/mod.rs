//! A model of the catalog on the node's own disk: a log of checksummed batches, a snapshot, and the
//! rows in memory. Bytes, full disks, failures and crashes are those of the disk.
//!
//! Commits go in groups: whoever finds nobody writing takes everything that waits, writes it at one
//! go, syncs it if anyone in the group asked for it, and tells all. A committer that is dropped
//! leaves its group to the next one, which writes the same bytes to the same place.

mod config;
mod files;
mod frame;
mod rows;
mod state;

pub use config::{RowCosts, SimCatalogConfig};

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use kura_env::{
    Batch, BoxFuture, Catalog, CatalogError, CatalogHealth, Clock, CommitDurability, Disk,
    Keyspace, Row,
};
use parking_lot::Mutex;

use self::{
    files::{Files, of_disk},
    rows::Rows,
    state::{Outcome, State, Waiting},
};

/// The catalog of one life of a node; the next life makes its own over the same disk.
pub struct SimCatalog {
    files: Files,
    clock: Arc<dyn Clock>,
    spaces: Vec<Keyspace>,
    config: SimCatalogConfig,
    state: Mutex<State>,
}

impl SimCatalog {
    /// A closed catalog with these keyspaces.
    #[must_use]
    pub fn new(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        spaces: &[Keyspace],
        config: SimCatalogConfig,
    ) -> Self {
        Self {
            files: Files { disk, dir: config.dir.clone() },
            clock,
            spaces: spaces.to_vec(),
            config,
            state: Mutex::new(State::new(spaces)),
        }
    }

    /// A row as a reader would see it, without a cost. Nothing if the catalog is closed.
    #[must_use]
    pub fn peek(&self, space: Keyspace, key: &[u8]) -> Option<Bytes> {
        self.state.lock().rows.space(space).get(key).cloned()
    }

    /// All rows of a keyspace, without a cost. None if the catalog is closed.
    #[must_use]
    pub fn peek_rows(&self, space: Keyspace) -> Vec<Row> {
        let state = self.state.lock();
        state.rows.range(space, &[], &[]).map(owned).collect()
    }

    /// Rows of the largest batch that was handed in.
    #[must_use]
    pub fn largest_batch(&self) -> usize {
        self.state.lock().largest_batch
    }

    /// How many rows a keyspace has.
    #[must_use]
    pub fn peek_len(&self, space: Keyspace) -> usize {
        self.state.lock().rows.space(space).len()
    }

    async fn spend(&self, each: Duration, rows: usize) {
        let cost = each.saturating_mul(u32::try_from(rows).unwrap_or(u32::MAX));
        if !cost.is_zero() {
            self.clock.sleep(cost).await;
        }
    }

    /// Waits until nobody commits, opens or closes, and keeps it so. `None` if `unless` came true
    /// before.
    async fn turn(&self, unless: impl Fn() -> bool) -> Option<Turn<'_>> {
        poll_fn(|context| {
            if unless() {
                return Poll::Ready(None);
            }
            let mut state = self.state.lock();
            if state.is_busy {
                if !state.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                    state.wakers.push(context.waker().clone());
                }
                return Poll::Pending;
            }
            state.is_busy = true;
            Poll::Ready(Some(Turn { catalog: self }))
        })
        .await
    }

    /// Lets go of everything that is open.
    fn forget(&self) {
        let mut state = self.state.lock();
        state.refuse_all(&CatalogError::Closed);
        state.health = CatalogHealth::Closed;
        state.rows = Rows::new(&self.spaces);
        state.log = None;
    }

    async fn reopen(&self) -> Result<(), CatalogError> {
        let opened = self.files.open(&self.spaces).await.map_err(files::at_open)?;
        let replayed = usize::try_from(opened.replayed).unwrap_or(usize::MAX);
        self.spend(self.config.costs.replayed, replayed).await;
        let is_forsaken = {
            let mut state = self.state.lock();
            state.refuse_all(&CatalogError::Closed);
            state.generation = state.generation.max(opened.log.generation);
            state.rows = opened.rows;
            state.log = Some(opened.log);
            state.rollover_is_open = false;
            state.log_is_forsaken
        };
        if is_forsaken {
            self.roll_over().await?;
        }
        self.state.lock().health = CatalogHealth::Open;
        Ok(())
    }

    /// Writes everything that waits. The caller has the turn.
    async fn commit_group(&self) {
        if self.state.lock().rollover_is_open
            && let Err(error) = self.roll_over().await
        {
            self.state.lock().poison(&error);
            return;
        }
        let Some((log, writer, rows, synced)) = self.state.lock().next_group() else { return };
        self.spend(self.config.costs.written, rows).await;
        let tail = match files::write(&log, writer).await {
            Ok(tail) => tail,
            Err(error) => return self.state.lock().poison(&error),
        };
        if synced && let Err(error) = log.file.sync_data().await {
            let mut state = self.state.lock();
            state.log_is_forsaken = true;
            return state.poison(&of_disk(error));
        }
        let is_long = {
            let mut state = self.state.lock();
            state.apply_group();
            if let Some(log) = &mut state.log {
                log.tail = tail;
            }
            tail.end_bytes > self.config.log_bytes_max.max(log.snapshot_bytes)
        };
        if is_long && let Err(error) = self.roll_over().await {
            self.state.lock().poison(&error);
        }
    }

    /// Replaces log and snapshot by those of the next generation. The caller has the turn.
    async fn roll_over(&self) -> Result<(), CatalogError> {
        let (old, generation, rows) = {
            let mut state = self.state.lock();
            let old = state.log.as_ref().map_or(state.generation, |log| log.generation);
            state.generation += 1;
            (old, state.generation, state.rows.clone())
        };
        let log = self.files.prepare(generation, &rows).await?;
        self.state.lock().rollover_is_open = true;
        self.files.publish(generation).await?;
        {
            let mut state = self.state.lock();
            state.log = Some(log);
            state.rollover_is_open = false;
            state.log_is_forsaken = false;
        }
        self.files.retire(old).await
    }
}

/// The right to write. Passed on by drop.
struct Turn<'a> {
    catalog: &'a SimCatalog,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let wakers = {
            let mut state = self.catalog.state.lock();
            state.is_busy = false;
            std::mem::take(&mut state.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// A place in the queue. Given up by drop, if the batch is not being written yet.
struct Queued<'a> {
    catalog: &'a SimCatalog,
    outcome: Outcome,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let mut state = self.catalog.state.lock();
        state.queue.retain(|waiting| !Arc::ptr_eq(&waiting.outcome, &self.outcome));
    }
}

fn owned((key, value): (&Bytes, &Bytes)) -> Row {
    (key.clone(), value.clone())
}

impl Catalog for SimCatalog {
    fn open(&self) -> BoxFuture<'_, Result<(), CatalogError>> {
        Box::pin(async move {
            let _turn = self.turn(|| false).await;
            self.reopen().await
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let _turn = self.turn(|| false).await;
            self.forget();
        })
    }

    fn set_aside(&self) -> BoxFuture<'_, Result<(), CatalogError>> {
        Box::pin(async move {
            let _turn = self.turn(|| false).await;
            self.forget();
            self.files.set_aside().await?;
            self.reopen().await
        })
    }

    fn health(&self) -> CatalogHealth {
        self.state.lock().health.clone()
    }

    fn get<'a>(
        &'a self,
        space: Keyspace,
        key: &'a [u8],
    ) -> BoxFuture<'a, Result<Option<Bytes>, CatalogError>> {
        Box::pin(async move {
            let found = {
                let state = self.state.lock();
                state.check_readable()?;
                state.rows.space(space).get(key).cloned()
            };
            let costs = &self.config.costs;
            self.spend(if found.is_some() { costs.hit } else { costs.miss }, 1).await;
            Ok(found)
        })
    }

    fn range<'a>(
        &'a self,
        space: Keyspace,
        from: &'a [u8],
        to: &'a [u8],
        rows_max: usize,
    ) -> BoxFuture<'a, Result<Vec<Row>, CatalogError>> {
        Box::pin(async move {
            let found: Vec<Row> = {
                let state = self.state.lock();
                state.check_readable()?;
                state.rows.range(space, from, to).take(rows_max).map(owned).collect()
            };
            self.spend(self.config.costs.scanned, found.len()).await;
            Ok(found)
        })
    }

    fn commit(
        &self,
        batch: Batch,
        durability: CommitDurability,
    ) -> BoxFuture<'_, Result<(), CatalogError>> {
        Box::pin(async move {
            let outcome = Arc::new(Mutex::new(None));
            {
                let mut state = self.state.lock();
                state.check_writable()?;
                state.largest_batch = state.largest_batch.max(batch.0.len());
                for operation in &batch.0 {
                    state.rows.assert_known(operation);
                }
                let batch = Arc::new(batch);
                let outcome = Arc::clone(&outcome);
                state.queue.push(Waiting { batch, durability, outcome });
            }
            let queued = Queued { catalog: self, outcome };
            loop {
                let turn = self.turn(|| queued.outcome.lock().is_some()).await;
                if let Some(result) = queued.outcome.lock().take() {
                    return result;
                }
                self.commit_group().await;
                drop(turn);
            }
        })
    }
}
