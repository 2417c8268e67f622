//! Rotation: the only code that moves the ring forward.
//!
//! 1. save the ring: without its eldest segment, with a new one
//! 2. create, reserve, fill and sync the new segment, and its name
//! 3. index: records that go there carry their rows with them
//! 4. evict the eldest segment's rows in bounded steps, and unlink its file
//!
//! The ring goes first because readers trust it: a reference into a segment outside the ring is a
//! miss, whatever lies on disk. So a stop after any step costs space, never a wrong answer, and
//! `recovery` frees the space at the next start. Step 4 goes on beside later writes; the next
//! rotation waits for it, so that at most one segment more than the ring holds lies on the disk.

use std::sync::Arc;

use bytes::Bytes;
use kura_core::{
    capacity::SEGMENTS_MIN,
    record::{Nonce, SEGMENT_HEADER_BYTES, SegmentHeader},
    ring::{Member, Ring},
};
use kura_env::{DiskError, DiskErrorKind, DiskPath};

use super::{
    appender::{Active, Appender},
    ring_file,
    segments::{SEGMENT_DIR, Segment, segment_path},
};
use crate::service::Refusal;

impl Appender {
    /// Opens a new segment for appends. Afterwards it is `active`.
    pub(super) async fn rotate(&mut self) -> Result<(), Refusal> {
        while self.has_debts() {
            self.evict_step().await?;
        }
        if let Some(active) = self.active.take() {
            self.freeze(&active).await;
        }
        if !self.unopened {
            let (ring, victims) = self.ring.rotated(self.segments_max, self.next_sequence());
            self.adopt(ring).await?;
            self.unopened = true;
            self.debts.extend(victims.iter().map(|victim| victim.id));
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
                Err(error) if error.kind.is_full() => self.make_space(error).await?,
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
        self.ring = ring;
        let ring = &self.ring;
        self.view.retain(ring.horizon_sequence(), |id| ring.contains(id));
        Ok(())
    }

    /// The disk has no room for a segment: frees what is no longer needed, or else the eldest
    /// segment, down to the fewest that a ring may have.
    async fn make_space(&mut self, error: DiskError) -> Result<(), Refusal> {
        if !self.has_debts() {
            if self.ring.len() <= SEGMENTS_MIN {
                return Err(Refusal::DiskFull(error));
            }
            let Some((ring, eldest)) = self.ring.shrunk() else {
                return Err(Refusal::DiskFull(error));
            };
            self.adopt(ring).await?;
            self.debts.push_back(eldest.id);
            self.metrics.store.evicted_for_space.inc();
        }
        while self.has_debts() {
            self.evict_step().await?;
        }
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
    async fn freeze(&self, active: &Active) {
        if let Err(error) = active.segment.file.freeze().await {
            self.metrics.store.freezes_failed.inc();
            let segment = active.segment.id;
            tracing::warn!(%segment, %error, "a full segment is read without a mapping");
        }
    }
}
