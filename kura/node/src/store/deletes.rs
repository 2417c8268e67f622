//! Deletes of namespaces: the file TOMBSTONES, what readers see of it, and the purge behind it.
//!
//! 1. the appender merges a delete of its own, or those that a peer told of, into the set
//! 2. the file is replaced, synced
//! 3. readers miss what is covered from then on, and whoever deleted is answered
//! 4. rows of what is covered are purged from the catalog in bounded steps; the last of them is synced before
//!    the file says that a namespace is purged
//!
//! What a purge has not reached yet is hidden by step 3, and stays so: tombstones are kept. See
//! `kura_core::tombstones`.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use kura_core::{
    address::Address,
    place::Place,
    record::{Area, Version},
    tombstones::{InvalidTombstones, Merged, Tombstones},
};
use kura_env::{Batch, Disk, DiskError, DiskErrorKind, DiskPath, Instant};
use parking_lot::RwLock;
use tokio::sync::{Notify, oneshot};

use super::{
    PLACES_SPACE, Store,
    appender::{Appender, FAILURE_REST},
    command::Command,
    recovery::RecoverError,
    state_file,
    versions::Known,
};
use crate::{metrics::Metrics, service::Refusal};

pub(crate) const TOMBSTONES: &str = "TOMBSTONES";
const TOMBSTONES_NEW: &str = "TOMBSTONES.new";

/// Rows that one step of a purge looks at. Higher holds up the writers that wait for longer.
const STEP_ROWS_MAX: usize = 256;

/// The delete of a namespace, as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delete {
    pub(crate) namespace: String,
    /// As a peer tells of it; `None`: now.
    pub(crate) version: Option<Version>,
}

/// The deletes that are known, as readers and peers see them.
#[derive(Default)]
pub(crate) struct Deletes {
    known: RwLock<Arc<Tombstones>>,
    /// That of `known`; 0 as long as there are none.
    print: AtomicU64,
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
                // So that it is told of once. Where there is no room for that, by the next start as well.
                let nothing = Tombstones::default().encode();
                state_file::replace(disk, (TOMBSTONES, TOMBSTONES_NEW), nothing).await.ok();
                format!("it has {invalid}")
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
    /// A step failed; there is none before this.
    rests_until: Instant,
}

impl Appender {
    /// Steps 1 to 3. How many of the deletes were new.
    pub(super) async fn delete(
        &mut self,
        deletes: Vec<Delete>,
        reply: oneshot::Sender<Result<usize, Refusal>>,
    ) {
        let merged = self.merge_deletes(deletes).await;
        if let Err(refusal) = &merged {
            tracing::warn!(%refusal, "a delete could not be made durable");
        }
        // Who stopped waiting does not learn that it is done, and it is.
        reply.send(merged).ok();
    }

    async fn merge_deletes(&mut self, deletes: Vec<Delete>) -> Result<usize, Refusal> {
        let mut tombstones = Tombstones::clone(&self.deletes.known());
        let (mut new, mut forgotten) = (0, 0);
        for Delete { namespace, version } in deletes {
            let version = version.unwrap_or_else(|| {
                self.hlc = self.hlc.next(self.wall_ms());
                Version { time: self.hlc.0, node: self.node }
            });
            if let Merged::New { forgot } = tombstones.merge(&namespace, version) {
                new += 1;
                forgotten += u64::from(forgot);
                tracing::info!(namespace, ?version, "a namespace is deleted");
            }
            // What is written from now on is later than the delete, whatever the clock says.
            self.hlc = self.hlc.witness(version.time);
        }
        if new > 0 {
            self.save_deletes(tombstones).await?;
            self.metrics.store.deletes.inc_by(new);
            self.metrics.store.tombstones_forgotten.inc_by(forgotten);
        }
        Ok(usize::try_from(new).unwrap_or(usize::MAX))
    }

    /// Replaces the file, making room for it on a full disk, and lets readers see what it says.
    async fn save_deletes(&mut self, tombstones: Tombstones) -> Result<(), Refusal> {
        let files = (TOMBSTONES, TOMBSTONES_NEW);
        let bytes = loop {
            let replaced = state_file::replace(&*self.env.disk, files, tombstones.encode()).await;
            let refusal = match replaced {
                Ok(bytes) => break bytes,
                Err(error) if error.kind.is_full() => Refusal::DiskFull(error),
                Err(error) => Refusal::Disk(error),
            };
            self.make_space(Area::Blobs, refusal).await?;
        };
        self.books.replaced(TOMBSTONES, bytes);
        self.metrics.store.tombstones.set(i64::try_from(tombstones.len()).unwrap_or(i64::MAX));
        self.deletes.set(tombstones);
        Ok(())
    }

    /// When the next step of a purge may be taken; `None` if nothing is to be purged.
    pub(super) fn purge_due(&self) -> Option<Instant> {
        let is_needed = self.purger.purge.is_some() || self.deletes.known().unpurged().is_some();
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

    /// Takes away a bounded number of rows of what is deleted.
    async fn purge_step(&mut self) -> Result<(), Refusal> {
        // Rows of what was deleted may not have come in yet.
        self.index_leftovers().await?;
        let known = self.deletes.known();
        let purge = self.purger.purge.take();
        // A later delete of the namespace begins anew.
        let is_latest = |purge: &Purge| {
            known.iter().any(|(namespace, it)| {
                (namespace, it.version, it.is_purged) == (&purge.namespace, purge.version, false)
            })
        };
        let next = || known.unpurged().map(|(namespace, version)| Purge::of(namespace, version));
        let Some(mut purge) = purge.filter(is_latest).or_else(next) else { return Ok(()) };
        let purged = self.purge_rows(&mut purge).await;
        if !purged.as_ref().is_ok_and(|is_last| *is_last) {
            self.purger.purge = Some(purge);
            return purged.map(drop);
        }
        // Synced before the file says so, or a crash would keep some of the rows for ever.
        let synced = self.stamps.commit(&self.env, Batch::default()).await;
        synced.map_err(Refusal::Catalog)?;
        let mut tombstones = Tombstones::clone(&self.deletes.known());
        if tombstones.purged(&purge.namespace, purge.version) {
            self.save_deletes(tombstones).await?;
            tracing::info!(namespace = purge.namespace, "a deleted namespace is purged");
        }
        Ok(())
    }

    /// Takes away what is deleted among the next rows of a namespace. Whether they were the last ones.
    async fn purge_rows(&mut self, purge: &mut Purge) -> Result<bool, Refusal> {
        let catalog = self.env.catalog.clone();
        let rows = catalog.range(PLACES_SPACE, &purge.from, &purge.end(), STEP_ROWS_MAX).await;
        let rows = rows.map_err(Refusal::Catalog)?;
        let (mut batch, mut known) = (Batch::default(), Known::new());
        let (mut objects, mut bytes) = (Vec::new(), 0);
        for (key, row) in &rows {
            let Some(place) = Place::decode(row).filter(|it| it.version <= purge.version) else {
                continue;
            };
            batch.delete(PLACES_SPACE, key.clone());
            known.insert(key.clone(), Some(place));
            bytes += place.body_bytes;
            if place.segment.area() == Area::Pool {
                objects.push(place.segment);
            }
        }
        let artifacts = known.len() as u64;
        if artifacts > 0 {
            self.commit(batch, &known).await?;
        }
        self.metrics.store.deleted_artifacts.inc_by(artifacts);
        self.metrics.store.deleted_bytes.inc_by(bytes);
        for object in objects {
            if let Err(refusal) = self.remove_object(object).await {
                tracing::warn!(%object, %refusal, "cleared up later");
            }
        }
        let last = rows.last().filter(|_| rows.len() == STEP_ROWS_MAX);
        if let Some((key, _)) = last {
            purge.from = [key, &[0][..]].concat().into();
        }
        Ok(last.is_none())
    }
}

impl Store {
    /// Deletes everything that is in a namespace now, here and, as soon as they hear of it, on all peers. A
    /// return means that it is gone for good, also after a loss of power; what is put later stays.
    ///
    /// # Errors
    ///
    /// [`Refusal::DiskFull`], [`Refusal::Disk`], [`Refusal::DiskStalled`], or [`Refusal::Draining`]: it may
    /// be deleted or not.
    pub async fn delete(&self, namespace: String) -> Result<(), Refusal> {
        self.tell_deletes(vec![Delete { namespace, version: None }]).await.map(drop)
    }

    /// Takes in deletes that a peer knows. How many of them were new.
    ///
    /// # Errors
    ///
    /// As [`Store::delete`].
    pub(crate) async fn merge_deletes(
        &self,
        told: Vec<(String, Version)>,
    ) -> Result<usize, Refusal> {
        let deletes = told.into_iter();
        let deletes =
            deletes.map(|(namespace, version)| Delete { namespace, version: Some(version) });
        self.tell_deletes(deletes.collect()).await
    }

    async fn tell_deletes(&self, deletes: Vec<Delete>) -> Result<usize, Refusal> {
        self.keep_moving()?;
        let told = async {
            let (reply, answer) = oneshot::channel();
            self.send(Command::Delete(deletes, reply)).await?;
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
