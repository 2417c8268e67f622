//! What a catalog knows between two calls: its rows, its log, and who waits for a commit.

use std::{sync::Arc, task::Waker};

use kura_env::{Batch, CatalogError, CatalogHealth, CommitDurability, Keyspace};
use parking_lot::Mutex;

use super::{files::Log, frame::FrameWriter, rows::Rows};

/// A group takes no further batch once it has this many bytes.
const GROUP_BYTES_MAX: usize = 4 << 20;

/// How a commit ended, once it has.
pub(crate) type Outcome = Arc<Mutex<Option<Result<(), CatalogError>>>>;

pub(crate) struct State {
    pub(crate) health: CatalogHealth,
    pub(crate) rows: Rows,
    pub(crate) log: Option<Log>,
    /// A sync of the log failed: what the log holds in memory may never reach the device.
    pub(crate) log_is_forsaken: bool,
    /// A generation may count already while commits still go to the log before it: nothing may be
    /// committed until a newer generation stands.
    pub(crate) rollover_is_open: bool,
    /// The last generation that was prepared.
    pub(crate) generation: u64,
    pub(crate) queue: Vec<Waiting>,
    /// Rows of the largest batch that was handed in.
    pub(crate) largest_batch: usize,
    /// The group that is being written.
    pub(crate) group: Vec<Waiting>,
    /// Somebody commits, opens or closes.
    pub(crate) is_busy: bool,
    pub(crate) wakers: Vec<Waker>,
}

/// A batch in the queue.
#[derive(Clone)]
pub(crate) struct Waiting {
    pub(crate) batch: Arc<Batch>,
    pub(crate) durability: CommitDurability,
    pub(crate) outcome: Outcome,
}

impl State {
    /// Closed, and without rows.
    pub(crate) fn new(spaces: &[Keyspace]) -> Self {
        Self {
            health: CatalogHealth::Closed,
            rows: Rows::new(spaces),
            log: None,
            log_is_forsaken: false,
            rollover_is_open: false,
            generation: 0,
            queue: Vec::new(),
            largest_batch: 0,
            group: Vec::new(),
            is_busy: false,
            wakers: Vec::new(),
        }
    }

    /// What the next group writes: the log, its frames, how many rows, and whether to sync.
    pub(crate) fn next_group(&mut self) -> Option<(Log, FrameWriter, usize, bool)> {
        let log = self.log.clone()?;
        let mut writer = FrameWriter::behind(log.tail);
        for waiting in &self.group {
            writer.batch(&waiting.batch);
        }
        while writer.len() < GROUP_BYTES_MAX && !self.queue.is_empty() {
            let waiting = self.queue.remove(0);
            writer.batch(&waiting.batch);
            self.group.push(waiting);
        }
        let rows = self.group.iter().map(|waiting| waiting.batch.len()).sum();
        let synced = self.group.iter().any(|w| w.durability == CommitDurability::Synced);
        (!self.group.is_empty()).then_some((log, writer, rows, synced))
    }

    pub(crate) fn apply_group(&mut self) {
        for waiting in std::mem::take(&mut self.group) {
            self.rows.apply(&waiting.batch);
            *waiting.outcome.lock() = Some(Ok(()));
        }
    }

    /// A write failed: its group is unknown, and who waits behind it is refused.
    pub(crate) fn poison(&mut self, error: &CatalogError) {
        let reason = error.to_string();
        for waiting in std::mem::take(&mut self.group) {
            *waiting.outcome.lock() = Some(Err(error.clone()));
        }
        self.refuse_all(&CatalogError::Poisoned(reason.clone()));
        self.health = CatalogHealth::Poisoned(reason);
    }

    /// Everybody who waits gets this error.
    pub(crate) fn refuse_all(&mut self, error: &CatalogError) {
        let queued = std::mem::take(&mut self.queue);
        for waiting in std::mem::take(&mut self.group).into_iter().chain(queued) {
            *waiting.outcome.lock() = Some(Err(error.clone()));
        }
    }

    pub(crate) fn check_readable(&self) -> Result<(), CatalogError> {
        match &self.health {
            CatalogHealth::Closed => Err(CatalogError::Closed),
            // The model never says the last: its reads come out of memory.
            CatalogHealth::Open | CatalogHealth::Poisoned(_) | CatalogHealth::Damaged(_) => Ok(()),
        }
    }

    pub(crate) fn check_writable(&self) -> Result<(), CatalogError> {
        match &self.health {
            CatalogHealth::Closed => Err(CatalogError::Closed),
            CatalogHealth::Poisoned(reason) => Err(CatalogError::Poisoned(reason.clone())),
            CatalogHealth::Open | CatalogHealth::Damaged(_) => Ok(()),
        }
    }
}
