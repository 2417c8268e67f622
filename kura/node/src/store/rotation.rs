//! Rotation: the only code that moves the ring forward.
//!
//! 1. save the ring: without its eldest segment, with a new one
//! 2. create, reserve, fill and sync the new segment, and its name
//! 3. index: records that go there carry their rows with them
//! 4. evict the eldest segment's rows in bounded steps, and unlink its file
//!
//! The ring goes first because readers trust it: a reference into a segment outside the ring is a
//! miss, whatever lies on disk. So a stop after any step costs space, never a wrong answer, and
//! `recovery` frees the space at the next start. Step 4 goes on beside later writes, in step with
//! them; the next rotation waits for one segment to be gone, so that at most one more than the ring
//! holds lies on the disk, or what a start found.

use std::sync::Arc;

use bytes::Bytes;
use kura_core::{
    capacity::SEGMENTS_MIN,
    record::{Nonce, SEGMENT_HEADER_BYTES, SegmentHeader},
    ring::{Member, Ring},
};
use kura_env::{CatalogError, DiskError, DiskErrorKind, DiskPath};

use super::{
    appender::{Active, Appender},
    eviction::Debt,
    ring_file,
    segments::{SEGMENT_DIR, Segment, segment_path},
};
use crate::service::Refusal;

impl Appender {
    /// Opens a new segment for appends. Afterwards it is `active`.
    pub(super) async fn rotate(&mut self) -> Result<(), Refusal> {
        self.work_off().await?;
        self.make_up_for_full_disk().await?;
        if let Some(active) = self.active.take() {
            self.freeze(&active).await;
        }
        if !self.unopened {
            let victims = loop {
                let (ring, victims) = self.ring.rotated(self.segments_max, self.next_sequence());
                match self.adopt(ring).await {
                    Ok(()) => break victims,
                    Err(refusal) => self.make_space(refusal).await?,
                }
            };
            self.unopened = true;
            self.debts.extend(victims.iter().map(|victim| Debt::of(victim.id)));
            self.metrics.store.rotations.inc();
        }
        let Some(newest) = self.ring.newest() else { return Err(Refusal::Recovering) };
        loop {
            match self.open_segment(newest).await {
                Ok(active) => {
                    self.view.insert(active.segment.clone());
                    self.active = Some(active);
                    self.unopened = false;
                    return Ok(());
                }
                Err(error) if error.kind.is_full() => {
                    self.make_space(Refusal::DiskFull(error)).await?;
                }
                Err(error) => return Err(Refusal::Disk(error)),
            }
        }
    }

    /// Saves a changed ring; from then on it is the one that counts.
    pub(super) async fn adopt(&mut self, ring: Ring) -> Result<(), Refusal> {
        let ring = ring.with_ceiling(self.next_sequence(), self.hlc());
        ring_file::save(&*self.env.disk, &ring).await.map_err(|error| {
            if error.kind.is_full() { Refusal::DiskFull(error) } else { Refusal::Disk(error) }
        })?;
        self.use_ring(ring);
        Ok(())
    }

    fn use_ring(&mut self, ring: Ring) {
        self.ring = ring;
        let ring = &self.ring;
        self.view.retain(ring.horizon_sequence(), |id| ring.contains(id));
    }

    /// Clears up one segment that is due, so that there are never more of them than before: a long
    /// backlog, as after the capacity was lowered, does not hold up the writers as a whole.
    async fn work_off(&mut self) -> Result<(), Refusal> {
        let debts = self.debts.len();
        while self.has_debts() && self.debts.len() >= debts {
            if let Err(refusal) = self.evict_step().await {
                self.make_space(refusal).await?;
                return Ok(());
            }
        }
        Ok(())
    }

    /// After an append that found the disk full: the next one would find the same, one segment on,
    /// where space cannot be reserved.
    async fn make_up_for_full_disk(&mut self) -> Result<(), Refusal> {
        while let Some(error) = self.ran_full.clone() {
            let space = self.env.disk.space().await.map_err(Refusal::Disk)?;
            if space.available_bytes >= self.config.segment_bytes {
                self.ran_full = None;
            } else {
                self.make_space(Refusal::DiskFull(error)).await?;
            }
        }
        Ok(())
    }

    /// The disk had no room for something, as `refusal` says: frees what is no longer needed, or
    /// else the eldest segment, down to the fewest that a ring may have.
    ///
    /// # Errors
    ///
    /// `refusal`, if it is about something else or nothing can be freed.
    pub(super) async fn make_space(&mut self, refusal: Refusal) -> Result<(), Refusal> {
        if !is_full(&refusal) {
            return Err(refusal);
        }
        if self.unlink_ahead().await? {
            return Ok(());
        }
        let shrunk = self.ring.shrunk().filter(|(ring, _)| ring.len() >= SEGMENTS_MIN);
        let Some((ring, eldest)) = shrunk else { return Err(refusal) };
        match self.adopt(ring.clone()).await {
            Ok(()) => {}
            // Not even the ring can be saved. A start that finds the eldest in the ring and not on
            // the disk drops it.
            Err(refusal) if is_full(&refusal) => self.use_ring(ring),
            Err(refusal) => return Err(refusal),
        }
        self.debts.push_back(Debt::of(eldest.id));
        self.metrics.store.evicted_for_space.inc();
        self.unlink_ahead().await?;
        Ok(())
    }

    /// Creates the file of the newest member of the ring, whose id was never used before.
    async fn open_segment(&mut self, member: Member) -> Result<Active, DiskError> {
        let disk = self.env.disk.clone();
        let path = segment_path(member.id);
        let opened = self.fill_segment(member, &path).await;
        if opened.is_err() {
            // Nothing refers to it yet. If it cannot be removed now, the next attempt does it.
            disk.unlink(&path).await.ok();
        }
        opened
    }

    async fn fill_segment(&mut self, member: Member, path: &DiskPath) -> Result<Active, DiskError> {
        let mut nonce = [0; 16];
        self.nonces.fill(&mut nonce);
        let nonce = Nonce(nonce);
        let file = match self.env.disk.create(path).await {
            // An earlier attempt failed and could not remove what it had made. The id was never
            // used, so nothing refers to it.
            Err(error) if error.kind == DiskErrorKind::AlreadyExists => {
                self.env.disk.unlink(path).await?;
                self.env.disk.create(path).await?
            }
            created => created?,
        };
        match file.allocate(self.config.segment_bytes).await {
            Err(error) if error.kind != DiskErrorKind::Unsupported => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let header = SegmentHeader { id: member.id, nonce, base_sequence: member.base_sequence };
        file.append(vec![Bytes::from(header.encode())]).await?;
        file.sync_data().await?;
        self.env.disk.sync_dir(&DiskPath::new(SEGMENT_DIR)).await?;
        let segment = Arc::new(Segment { id: member.id, nonce, file });
        Ok(Active { segment, end: SEGMENT_HEADER_BYTES })
    }

    /// No more appends go there: what was reserved behind its end is freed, and reads may be served
    /// from a mapping.
    pub(super) async fn freeze(&self, active: &Active) {
        if let Err(error) = active.segment.file.freeze().await {
            self.metrics.store.freezes_failed.inc();
            let segment = active.segment.id;
            tracing::warn!(%segment, %error, "a full segment is read without a mapping");
        }
    }
}

fn is_full(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::DiskFull(_) | Refusal::Catalog(CatalogError::NoSpace(_)))
}
