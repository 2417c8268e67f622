//! Staging: bodies in flight that are too large for memory, one file each under `tmp/`, or elsewhere if
//! that was chosen.
//!
//! One task makes and removes all of these files, one after the other. So a file is never made
//! after it was removed, whoever stops waiting for it when, and its reservation is given back only
//! once its name is gone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use kura_core::record::POOL_BODY_OFFSET;
use kura_env::{
    Clock, Disk, DiskError, DiskErrorKind, DiskPath, Elapsed, Env, File, TaskEnd, TaskHandle,
    timeout,
};
use tokio::sync::{mpsc, oneshot};

use super::budget::{Budget, Exhausted, Lane, NoTurn, Reservation, share_bytes};
use crate::{config::StoreConfig, metrics::Metrics, service::Refusal};

/// The directory of staging files, below the data directory.
pub(crate) const STAGING_DIR: &str = "tmp";
/// The directory of staging files where the disk keeps it elsewhere. It holds a lock as well, because
/// another node may have been given the same place.
pub const STAGING_ELSEWHERE: &str = "staging";
/// The name of that lock.
pub(crate) const STAGING_LOCK: &str = "LOCK";

/// How long a body of a client waits for room before it is refused. Too low: a burst is refused that
/// a moment's patience would take in. Too high: the client gives up first; the least patient one that
/// is known leaves a whole `PUT`, sending included, 5 s.
const CLIENT_PATIENCE: Duration = Duration::from_secs(2);
/// How long after a failed removal it is tried again.
const STUCK_RETRY: Duration = Duration::from_secs(5);
/// Files that cannot be removed before no more are made.
const STUCK_MAX: usize = 1024;

/// The staging files of one node.
pub(crate) struct Staging {
    budget: Arc<Budget>,
    clock: Arc<dyn Clock>,
    dir: DiskPath,
    /// On another volume.
    is_elsewhere: bool,
    next: AtomicU64,
    requests: mpsc::UnboundedSender<Request>,
    metrics: Arc<Metrics>,
    /// Runs for as long as the store lives.
    task: TaskHandle,
}

/// One staging file. Removed on drop, and its reservation given back after that.
pub(crate) struct StagedFile {
    file: Arc<dyn File>,
    /// Taken only by `drop`.
    reservation: Option<Reservation>,
    path: DiskPath,
    body_offset: u64,
    requests: mpsc::UnboundedSender<Request>,
}

/// Where the body of a staging file begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyAt {
    /// At the start: it will be copied into a segment.
    Start,
    /// Behind room for a header: it may become an object of the pool as it lies.
    BehindHeader,
}

/// As many of these are under way as there are uploads, so the connection limit bounds the queue.
enum Request {
    Create(DiskPath, Reservation, oneshot::Sender<Result<StagedFile, DiskError>>),
    Remove(DiskPath, Reservation),
}

impl Staging {
    /// Staging in its directory, which must exist and hold no staging file.
    pub(crate) fn new(env: &Env, config: &StoreConfig, metrics: Arc<Metrics>) -> Self {
        let limit_bytes = config.staging_bytes_max;
        let dir = if config.staging_elsewhere { STAGING_ELSEWHERE } else { STAGING_DIR };
        let (requests, queue) = mpsc::unbounded_channel();
        let budget = Budget::shown(limit_bytes, metrics.store.staging_bytes.clone());
        let keeper = Keeper {
            disk: env.disk.clone(),
            clock: env.clock.clone(),
            // A weak sender: the task must end when staging and all of its files are gone.
            requests: requests.downgrade(),
            metrics: metrics.clone(),
            stuck: Vec::new(),
        };
        let task = env.tasks.spawn("staging", Box::pin(keeper.run(queue)));
        let clock = env.clock.clone();
        let dir = DiskPath::new(dir);
        let is_elsewhere = config.staging_elsewhere;
        Self { budget, clock, dir, is_elsewhere, next: AtomicU64::new(1), requests, metrics, task }
    }

    /// The budget of all staging files together.
    pub(crate) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Bytes that bodies in flight were granted on the volume of the data and have not taken yet.
    pub(crate) fn to_come_bytes(&self) -> u64 {
        if self.is_on_volume() { self.budget.to_come_bytes() } else { 0 }
    }

    /// Whether it lies on the volume of the data.
    pub(crate) fn is_on_volume(&self) -> bool {
        !self.is_elsewhere
    }

    /// Waits for the end of the task that makes and removes the files.
    pub(crate) async fn ended(&self) -> TaskEnd {
        self.task.join().await
    }

    /// Room for a body of a client that has not begun; waits a moment for it, in order of arrival.
    ///
    /// # Errors
    ///
    /// [`Refusal::StagingFull`] if nothing came free in time, or too many wait already.
    pub(crate) async fn reserve(&self, bytes: u64) -> Result<Reservation, Refusal> {
        let exhausted = match self.budget.reserve(Lane::Clients, bytes) {
            Ok(reservation) => return Ok(reservation),
            Err(exhausted) => exhausted,
        };
        let metrics = &self.metrics.store;
        let turn = self.budget.wait(Lane::Clients, bytes);
        match timeout(&*self.clock, CLIENT_PATIENCE, turn).await {
            Ok(Ok(reservation)) => {
                metrics.staging_waited.inc();
                return Ok(reservation);
            }
            Ok(Err(NoTurn::TooLarge)) => {}
            Ok(Err(NoTurn::TooMany)) => {
                metrics.staging_waits_shed.inc();
            }
            Err(Elapsed { .. }) => {
                metrics.staging_waits_timed_out.inc();
            }
        }
        Err(self.refused(exhausted, bytes))
    }

    /// As [`Staging::reserve`], now or not at all: for a body that has begun. Its memory and what it
    /// has of the connection are wanted by others, so it must not wait.
    pub(crate) fn reserve_now(&self, bytes: u64) -> Result<Reservation, Refusal> {
        self.budget
            .reserve(Lane::Clients, bytes)
            .map_err(|exhausted| self.refused(exhausted, bytes))
    }

    /// Room for a replica; waits until the budget has it.
    ///
    /// # Errors
    ///
    /// [`Refusal::TooLarge`] if it never will.
    pub(crate) async fn wait(&self, bytes: u64) -> Result<Reservation, Refusal> {
        self.budget.wait(Lane::Replicas, bytes).await.map_err(|_| Refusal::TooLarge {
            limit_bytes: share_bytes(self.budget.limit_bytes()),
            declared_bytes: Some(bytes),
        })
    }

    /// A new, empty file with what was reserved for it.
    pub(crate) async fn create(
        &self,
        reservation: Reservation,
        at: BodyAt,
    ) -> Result<StagedFile, Refusal> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join(&format!("{number:016x}.part"));
        let (reply, answer) = oneshot::channel();
        // A failed send or a missing answer means that the staging task is gone: the node stops.
        self.requests
            .send(Request::Create(path, reservation, reply))
            .map_err(|_| Refusal::Draining)?;
        let failed = |error: DiskError| {
            if error.kind.is_full() { Refusal::DiskFull(error) } else { Refusal::Disk(error) }
        };
        let mut staged = answer.await.map_err(|_| Refusal::Draining)?.map_err(failed)?;
        if at == BodyAt::BehindHeader {
            // One byte at the end of the gap, so that appends go on behind it. The gap is a hole.
            let last = POOL_BODY_OFFSET - 1;
            staged.file.write_at(last, Bytes::from_static(&[0])).await.map_err(failed)?;
            staged.body_offset = POOL_BODY_OFFSET;
        }
        Ok(staged)
    }

    /// Reserves `more` bytes for a file that grows.
    pub(crate) fn grow(&self, staged: &mut StagedFile, more: u64) -> Result<(), Refusal> {
        let Some(reservation) = &mut staged.reservation else { return Ok(()) };
        reservation.grow(more).map_err(|exhausted| self.refused(exhausted, more))?;
        Ok(())
    }

    fn refused(&self, exhausted: Exhausted, wanted_bytes: u64) -> Refusal {
        self.metrics.store.staging_refused.inc();
        let Exhausted { in_use_bytes } = exhausted;
        Refusal::StagingFull { budget_bytes: self.budget.limit_bytes(), in_use_bytes, wanted_bytes }
    }
}

impl StagedFile {
    pub(crate) fn file(&self) -> &Arc<dyn File> {
        &self.file
    }

    /// Where the body begins in the file, in bytes.
    pub(crate) fn body_offset(&self) -> u64 {
        self.body_offset
    }

    /// Its name, which it loses when it becomes an object of the pool.
    pub(crate) fn path(&self) -> &DiskPath {
        &self.path
    }

    /// So much was appended to it.
    pub(crate) fn wrote(&mut self, bytes: u64) {
        if let Some(reservation) = &mut self.reservation {
            reservation.wrote(bytes);
        }
    }

    pub(crate) fn reserved_bytes(&self) -> u64 {
        self.reservation.as_ref().map_or(0, Reservation::bytes)
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if let Some(reservation) = self.reservation.take() {
            // Without its task staging is over; what lies there goes at the next start.
            self.requests.send(Request::Remove(self.path.clone(), reservation)).ok();
        }
    }
}

struct Keeper {
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    requests: mpsc::WeakUnboundedSender<Request>,
    metrics: Arc<Metrics>,
    /// Files that could not be removed. Their bytes stay reserved, because they still lie there.
    /// While there are [`STUCK_MAX`] no file is made, so there are never more than that and those
    /// that were there.
    stuck: Vec<(DiskPath, Reservation)>,
}

impl Keeper {
    async fn run(mut self, mut queue: mpsc::UnboundedReceiver<Request>) {
        let mut retry_at = self.clock.now() + STUCK_RETRY;
        loop {
            let request = tokio::select! {
                biased;
                () = self.clock.sleep_until(retry_at), if !self.stuck.is_empty() => {
                    for (path, reservation) in std::mem::take(&mut self.stuck) {
                        self.remove(path, reservation).await;
                    }
                    retry_at = self.clock.now() + STUCK_RETRY;
                    continue;
                }
                request = queue.recv() => request,
            };
            match request {
                Some(Request::Create(path, reservation, reply)) => {
                    let created = self.create(path, reservation).await;
                    // If nobody waits any more the file is dropped here, which asks for its removal.
                    reply.send(created).ok();
                }
                Some(Request::Remove(path, reservation)) => {
                    if self.stuck.is_empty() {
                        retry_at = self.clock.now() + STUCK_RETRY;
                    }
                    self.remove(path, reservation).await;
                }
                None => return,
            }
        }
    }

    async fn create(
        &mut self,
        path: DiskPath,
        reservation: Reservation,
    ) -> Result<StagedFile, DiskError> {
        if self.stuck.len() >= STUCK_MAX {
            let text = format!("{} staging files cannot be removed", self.stuck.len());
            let kind = DiskErrorKind::Other { errno: 0, text };
            return Err(DiskError { action: "create", path, kind });
        }
        let file = self.disk.create(&path).await?;
        let Some(requests) = self.requests.upgrade() else {
            // The store is gone while this was under way.
            self.remove(path.clone(), reservation).await;
            return Err(DiskError { action: "create", path, kind: DiskErrorKind::NotFound });
        };
        Ok(StagedFile { file, reservation: Some(reservation), path, body_offset: 0, requests })
    }

    async fn remove(&mut self, path: DiskPath, reservation: Reservation) {
        match self.disk.unlink(&path).await {
            Ok(()) => drop(reservation),
            Err(error) if error.kind == DiskErrorKind::NotFound => drop(reservation),
            Err(error) => {
                tracing::warn!(%error, "a staging file could not be removed; it is tried again");
                self.metrics.store.staging_stuck.inc();
                self.stuck.push((path, reservation));
            }
        }
    }
}
