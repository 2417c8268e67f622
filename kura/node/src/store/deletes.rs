//! Deletes of namespaces: the file TOMBSTONES, what readers see of it, and the purge behind it.
//!
//! 1. the appender merges a delete of its own, or those that a peer told of, into the set
//! 2. the file is replaced, synced
//! 3. readers miss what is covered from then on, and whoever deleted is answered
//! 4. rows of what is covered are purged from the catalog in bounded steps; the last of them is synced before
//!    the file says that a namespace is purged
//!
//! What a purge has not reached yet is hidden by step 3, and stays so: until then no tombstone is forgotten. See
//! `kura_core::tombstones`.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use kura_core::{
    address::Address,
    hlc::{DRIFT_MAX, too_far_ahead},
    place::Place,
    record::{Area, SegmentId, Version},
    tombstones::{InvalidTombstones, Merged, Tombstones},
};
use kura_env::{Batch, Disk, DiskError, DiskErrorKind, DiskPath, Instant};
use parking_lot::RwLock;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

use super::{
    PLACES_SPACE, Store,
    appender::{Appender, FAILURE_REST},
    command::Command,
    recovery::RecoverError,
    repair::QUARANTINE,
    state_file,
    versions::Known,
};
use crate::{metrics::Metrics, service::Refusal};

pub(crate) const TOMBSTONES: &str = "TOMBSTONES";
const TOMBSTONES_NEW: &str = "TOMBSTONES.new";

/// Rows that one step of a purge looks at. Higher holds up the writers that wait for longer.
const STEP_ROWS_MAX: usize = 256;
/// Large objects that one step unlinks, for the same reason.
const STEP_OBJECTS_MAX: usize = 4;
/// Purged namespaces of which the file is told together, and the catalog synced for. Higher: a crash has more of
/// them looked over once more.
const PURGED_TOGETHER_MAX: usize = 256;
/// Deletes of clients that may wait. Each is a file that is synced, and keeps writers waiting.
const DELETES_WAITING_MAX: usize = 16;

/// The delete of a namespace, as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delete {
    pub(crate) namespace: String,
    /// As a peer tells of it; `None`: now.
    pub(crate) version: Option<Version>,
}

/// What became of deletes that were to be taken in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// These were not known.
    pub(crate) new: u64,
    /// These are too far ahead of the clock here, and were not taken in.
    pub(crate) ahead: u64,
}

/// The deletes that are known, as readers and peers see them.
#[derive(Default)]
pub(crate) struct Deletes {
    known: RwLock<Arc<Tombstones>>,
    /// That of `known`; 0 as long as there are none.
    print: AtomicU64,
    /// Whether one of them is to be purged.
    has_unpurged: AtomicBool,
    changed: Notify,
}

impl Deletes {
    /// Whether an artifact is deleted.
    pub(super) fn covers(&self, address: &Address, version: Version) -> bool {
        // Most stores have none, and every read asks.
        self.print() != 0 && self.known.read().covers_address(address, version)
    }

    pub(super) fn known(&self) -> Arc<Tombstones> {
        self.known.read().clone()
    }

    /// Equal on nodes that know the same deletes.
    fn print(&self) -> u64 {
        self.print.load(Ordering::Acquire)
    }

    /// These are known, and durable.
    pub(super) fn set(&self, tombstones: Tombstones) {
        let print = tombstones.print();
        self.has_unpurged.store(tombstones.unpurged().next().is_some(), Ordering::Release);
        *self.known.write() = Arc::new(tombstones);
        if self.print.swap(print, Ordering::AcqRel) != print {
            self.changed.notify_waiters();
        }
    }

    /// Reads them back. Where the file is not what was written, or cannot be read, none are known: peers
    /// tell of them again.
    ///
    /// # Errors
    ///
    /// If the file is of another version, or the disk fails otherwise than by reading it.
    pub(super) async fn load(
        &self,
        disk: &dyn Disk,
        metrics: &Metrics,
    ) -> Result<(), RecoverError> {
        state_file::remove(disk, &DiskPath::new(TOMBSTONES_NEW)).await?;
        let damage = match load_file(disk).await? {
            SavedTombstones::Here(tombstones) => {
                self.set(tombstones);
                return Ok(());
            }
            SavedTombstones::Invalid(format @ InvalidTombstones::Format(_)) => {
                return Err(RecoverError::TombstonesFormat(format));
            }
            SavedTombstones::Invalid(invalid) => {
                // Where it cannot be moved the next start tells of it again.
                match set_aside(disk).await {
                    Ok(kept) => format!("it has {invalid}, and is in {kept}"),
                    Err(error) => format!("it has {invalid}, and cannot be set aside: {error}"),
                }
            }
            SavedTombstones::Unreadable(error) => error.to_string(),
        };
        metrics.store.tombstones_lost.inc();
        tracing::error!(
            damage,
            "TOMBSTONES cannot be read: deletes of namespaces are forgotten until a peer tells of them; \
             what they covered and is not purged yet is served again"
        );
        Ok(())
    }
}

/// Moves the file to where people can look at it.
async fn set_aside(disk: &dyn Disk) -> Result<DiskPath, DiskError> {
    let dir = DiskPath::new(QUARANTINE);
    let kept = dir.join(TOMBSTONES);
    disk.mkdir(&dir).await?;
    disk.rename(&DiskPath::new(TOMBSTONES), &kept).await?;
    disk.sync_dir(&dir).await?;
    disk.sync_dir(&DiskPath::root()).await?;
    Ok(kept)
}

/// What lies in TOMBSTONES.
pub(crate) enum SavedTombstones {
    /// These deletes, or none if there is no file.
    Here(Tombstones),
    Invalid(InvalidTombstones),
    /// The device fails at it.
    Unreadable(DiskError),
}

/// Reads TOMBSTONES.
pub(crate) async fn load_file(disk: &dyn Disk) -> Result<SavedTombstones, DiskError> {
    match state_file::load(disk, TOMBSTONES).await {
        Ok(None) => Ok(SavedTombstones::Here(Tombstones::default())),
        Ok(Some(bytes)) => Ok(match Tombstones::decode(&bytes) {
            Ok(tombstones) => SavedTombstones::Here(tombstones),
            Err(invalid) => SavedTombstones::Invalid(invalid),
        }),
        Err(error) if error.kind == DiskErrorKind::Io => Ok(SavedTombstones::Unreadable(error)),
        Err(error) => Err(error),
    }
}

/// As many deletes of clients as may wait.
pub(super) fn turns() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(DELETES_WAITING_MAX))
}

/// A purge that is under way.
pub(super) struct Purge {
    namespace: String,
    version: Version,
    /// Where in `places` it goes on.
    from: Bytes,
}

impl Purge {
    fn of(namespace: &str, version: Version) -> Self {
        let from = [namespace.as_bytes(), &[0]].concat();
        Self { namespace: namespace.to_owned(), version, from: from.into() }
    }

    /// Behind the last row of the namespace.
    fn end(&self) -> Vec<u8> {
        [self.namespace.as_bytes(), &[1]].concat()
    }
}

/// What the appender needs for deletes.
#[derive(Default)]
pub(super) struct Purger {
    purge: Option<Purge>,
    /// Nothing of these is in the index any more, and the file does not say so yet.
    done: BTreeMap<String, Version>,
    /// Large objects that go once their rows are gone: some from before a commit of which nobody knows what came of it.
    objects: Vec<SegmentId>,
    /// A step failed; there is none before this.
    rests_until: Instant,
}

impl Appender {
    /// Steps 1 to 3.
    pub(super) async fn delete(
        &mut self,
        deletes: Vec<Delete>,
        reply: oneshot::Sender<Result<Taken, Refusal>>,
    ) {
        let merged = self.merge_deletes(deletes).await;
        if let Err(refusal) = &merged {
            tracing::warn!(%refusal, "a delete could not be made durable");
        }
        // Who stopped waiting does not learn that it is done, and it is.
        reply.send(merged).ok();
    }

    async fn merge_deletes(&mut self, deletes: Vec<Delete>) -> Result<Taken, Refusal> {
        let mut tombstones = Tombstones::clone(&self.deletes.known());
        let (mut taken, mut forgotten) = (Taken::default(), 0);
        for Delete { namespace, version } in deletes {
            if version.is_some_and(|it| too_far_ahead(it.time, self.wall_ms()).is_some()) {
                // What is written here from now on would be deleted, or drag the clock along.
                taken.ahead += 1;
                continue;
            }
            let version = match version {
                Some(version) => version,
                None => self.delete_now()?,
            };
            if let Merged::New { forgot } = tombstones.merge(&namespace, version) {
                taken.new += 1;
                forgotten += u64::from(forgot);
                tracing::info!(namespace, ?version, "a namespace is deleted");
            }
            // What is written from now on is later than the delete, whatever the clock says.
            self.hlc = self.hlc.witness(version.time);
        }
        if taken.new > 0 {
            // On a full disk the eldest data makes room.
            while let Err(refusal) = self.save_deletes(tombstones.clone()).await {
                self.make_space(Area::Blobs, refusal).await?;
            }
            self.metrics.store.deletes.inc_by(taken.new);
            self.metrics.store.tombstones_forgotten.inc_by(forgotten);
        }
        Ok(taken)
    }

    /// The version of a delete of our own. Where that would be too far ahead of the clock, peers would take it in hours
    /// later, and with it what was put meanwhile.
    fn delete_now(&mut self) -> Result<Version, Refusal> {
        let next = self.hlc.next(self.wall_ms());
        if let Some(ahead) = too_far_ahead(next.0, self.wall_ms()) {
            let (ahead_seconds, limit_seconds) = (ahead.as_secs(), DRIFT_MAX.as_secs());
            return Err(Refusal::Ahead { ahead_seconds, limit_seconds });
        }
        self.hlc = next;
        Ok(Version { time: next.0, node: self.node })
    }

    /// Replaces the file, and lets readers see what it says.
    async fn save_deletes(&mut self, tombstones: Tombstones) -> Result<(), Refusal> {
        let files = (TOMBSTONES, TOMBSTONES_NEW);
        let replaced = state_file::replace(&*self.env.disk, files, tombstones.encode()).await;
        let bytes = replaced.map_err(|error| match error.kind.is_full() {
            true => Refusal::DiskFull(error),
            false => Refusal::Disk(error),
        })?;
        self.books.replaced(TOMBSTONES, bytes);
        self.metrics.store.tombstones.set(i64::try_from(tombstones.len()).unwrap_or(i64::MAX));
        self.deletes.set(tombstones);
        Ok(())
    }

    /// When the next step of a purge may be taken; `None` if nothing is to be purged.
    pub(super) fn purge_due(&self) -> Option<Instant> {
        let is_needed = self.deletes.has_unpurged.load(Ordering::Acquire);
        is_needed.then_some(self.purger.rests_until)
    }

    /// One bounded step beside other work, if one is due. After an error it rests.
    pub(super) async fn purge_some(&mut self) {
        let now = self.env.clock.now();
        if self.purge_due().is_none_or(|due| now < due) {
            return;
        }
        if let Err(refusal) = self.purge_step().await {
            self.metrics.store.purge_errors.inc();
            tracing::warn!(%refusal, "what was deleted could not be purged; tried again");
            self.purger.rests_until = now + FAILURE_REST;
        }
    }

    /// Takes away a bounded number of rows of what is deleted, or says that namespaces are purged.
    async fn purge_step(&mut self) -> Result<(), Refusal> {
        // Rows of what was deleted may not have come in yet.
        self.index_leftovers().await?;
        let known = self.deletes.known();
        let is_latest = |namespace: &str, version| {
            known.get(namespace).is_some_and(|it| it.version == version && !it.is_purged)
        };
        // A later delete of a namespace has it looked over again.
        self.purger.done.retain(|namespace, version| is_latest(namespace, *version));
        let done = &self.purger.done;
        let next = || {
            let mut left = known.unpurged().filter(|(namespace, _)| !done.contains_key(*namespace));
            left.next().map(|(namespace, version)| Purge::of(namespace, version))
        };
        let purge = self.purger.purge.take().filter(|it| is_latest(&it.namespace, it.version));
        let Some(mut purge) = purge.or_else(next) else { return self.save_purged().await };
        let purged = self.purge_rows(&mut purge).await;
        if purged.as_ref().is_ok_and(|is_last| *is_last) {
            self.purger.done.insert(purge.namespace, purge.version);
        } else {
            self.purger.purge = Some(purge);
        }
        purged?;
        if self.purger.done.len() < PURGED_TOGETHER_MAX { Ok(()) } else { self.save_purged().await }
    }

    /// Has the file say which namespaces are purged, once the catalog has that synced: or a crash would keep some of
    /// the rows for ever.
    async fn save_purged(&mut self) -> Result<(), Refusal> {
        if let Err(error) = self.stamps.commit(&self.env, Batch::default()).await {
            tracing::warn!(%error, "the catalog could not be synced and is opened again");
            self.reopen_catalog().await.map_err(Refusal::Catalog)?;
            let synced = self.stamps.commit(&self.env, Batch::default()).await;
            synced.map_err(Refusal::Catalog)?;
        }
        let mut tombstones = Tombstones::clone(&self.deletes.known());
        for (namespace, version) in &self.purger.done {
            tombstones.purged(namespace, *version);
        }
        self.save_deletes(tombstones).await?;
        let namespaces = self.purger.done.len();
        self.purger.done.clear();
        tracing::info!(namespaces, "deleted namespaces are purged");
        Ok(())
    }

    /// Takes away what is deleted among the next rows of a namespace. Whether they were the last ones.
    async fn purge_rows(&mut self, purge: &mut Purge) -> Result<bool, Refusal> {
        let catalog = self.env.catalog.clone();
        let rows = catalog.range(PLACES_SPACE, &purge.from, &purge.end(), STEP_ROWS_MAX).await;
        let rows = rows.map_err(Refusal::Catalog)?;
        let (mut batch, mut known) = (Batch::default(), Known::new());
        let (mut places, mut objects, mut bytes) = (Vec::new(), 0, 0);
        let mut next = rows.last().filter(|_| rows.len() == STEP_ROWS_MAX).map(|(key, _)| key);
        for (key, row) in &rows {
            let Some(place) = Place::decode(row).filter(|it| it.version <= purge.version) else {
                continue;
            };
            batch.delete(PLACES_SPACE, key.clone());
            self.unpledge(&place, &mut batch);
            known.insert(key.clone(), Some(place));
            bytes += place.body_bytes;
            places.push(place);
            if place.segment.area() == Area::Pool {
                self.purger.objects.push(place.segment);
                objects += 1;
                if objects == STEP_OBJECTS_MAX {
                    next = Some(key);
                    break;
                }
            }
        }
        if !batch.is_empty() {
            self.commit(batch, &known).await?;
        }
        places.iter().for_each(|place| self.pledges.remove(place));
        self.metrics.store.deleted_artifacts.inc_by(places.len() as u64);
        self.metrics.store.deleted_bytes.inc_by(bytes);
        for object in std::mem::take(&mut self.purger.objects) {
            if let Err(refusal) = self.remove_object(object).await {
                tracing::warn!(%object, %refusal, "cleared up later");
            }
        }
        if let Some(key) = next {
            purge.from = [key, &[0][..]].concat().into();
        }
        Ok(next.is_none())
    }
}

impl Store {
    /// Deletes everything that is in a namespace now, here and, as soon as they hear of it, on all peers. A
    /// return means that it is gone for good, also after a loss of power; what is put here later stays. A name that can
    /// be none of a namespace covers nothing.
    ///
    /// # Errors
    ///
    /// [`Refusal::Busy`] while many deletes wait; [`Refusal::Ahead`] where the clock was set back by more than is believed; [`Refusal::DiskFull`], [`Refusal::Disk`], [`Refusal::DiskStalled`], or [`Refusal::Draining`]: it may
    /// be deleted or not.
    pub async fn delete(&self, namespace: String) -> Result<(), Refusal> {
        let Ok(turn) = self.0.delete_turns.clone().try_acquire_owned() else {
            return Err(Refusal::Busy { waiting: DELETES_WAITING_MAX, limit: DELETES_WAITING_MAX });
        };
        let deletes = vec![Delete { namespace, version: None }];
        self.tell_deletes(deletes, Some(turn)).await.map(drop)
    }

    /// Takes in deletes that a peer knows, but for those that are too far ahead of the clock here.
    ///
    /// # Errors
    ///
    /// As [`Store::delete`].
    pub(crate) async fn merge_deletes(
        &self,
        told: Vec<(String, Version)>,
    ) -> Result<Taken, Refusal> {
        let deletes = told.into_iter();
        let deletes =
            deletes.map(|(namespace, version)| Delete { namespace, version: Some(version) });
        self.tell_deletes(deletes.collect(), None).await
    }

    /// `turn` is held until it is done, whoever still waits for it.
    async fn tell_deletes(
        &self,
        deletes: Vec<Delete>,
        turn: Option<OwnedSemaphorePermit>,
    ) -> Result<Taken, Refusal> {
        self.keep_moving()?;
        let told = async {
            let (reply, answer) = oneshot::channel();
            self.send(Command::Delete(deletes, turn, reply)).await?;
            answer.await.map_err(|_| Refusal::Draining)?
        };
        self.unless_stalled(told).await
    }

    /// All deletes that are known.
    pub(crate) fn deletes(&self) -> Arc<Tombstones> {
        self.0.deletes.known()
    }

    /// Equal on nodes that know the same deletes; 0 where there are none.
    pub(crate) fn deletes_print(&self) -> u64 {
        self.0.deletes.print()
    }

    /// Waits until other deletes are known than those of this fingerprint.
    pub(crate) async fn deletes_other_than(&self, print: u64) {
        loop {
            let mut changed = pin!(self.0.deletes.changed.notified());
            // Enabled before the look, so that nothing is missed between the two.
            changed.as_mut().enable();
            if self.deletes_print() != print {
                return;
            }
            changed.await;
        }
    }
}
