//! Rotation: the only code that moves the rings forward.
//!
//! 1. save the ring: without its eldest segment, with a new one
//! 2. create, reserve, fill and sync the new segment, and its name
//! 3. index: records that go there carry their rows with them
//! 4. evict the eldest segment's rows in bounded steps, and unlink its file
//!
//! The ring goes first because readers trust it: a reference into a segment outside the ring is a
//! miss, whatever lies on disk. So a stop after any step costs space, never a wrong answer, and
//! `recovery` frees the space at the next start. Step 4 goes on beside later writes, in
//! step with them; a rotation waits for one segment to be gone only while more than [`DEBTS_MAX`] are
//! to be cleared up.
//!
//! A segment of RING whose file cannot be made, because the volume is full, is taken out of RING
//! again as soon as that can be saved (`space`). A stop before that leaves what step 1 leaves.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use kura_core::{
    promise::{Hold, Rules},
    record::{Area, Flow, Nonce, SEGMENT_HEADER_BYTES, SegmentHeader},
    ring::{Member, NoTurn, Ring, Turn},
};
use kura_env::{CatalogError, DiskError, DiskErrorKind, DiskPath, File};

use super::{
    appender::{Active, Appender},
    eviction::Debt,
    ring_file,
    segments::{Segment, segment_dir, segment_path},
};
use crate::{config::StoreConfig, service::Refusal};

/// Evicted segments that may wait for being cleared up. More: less work for each put at a turn of the
/// ring, and that much more than the ring on the disk.
const DEBTS_MAX: usize = 1;

impl Appender {
    /// Opens a new segment for a log, whose first record has the hybrid logical time `age`.
    pub(super) async fn rotate(&mut self, log: (Area, Flow), age: u64) -> Result<(), Refusal> {
        self.work_off(log.0).await?;
        self.make_up_for_full_disk(log.0).await?;
        let (area, flow) = log;
        let unopened = self.logs.entry(log).or_default().unopened;
        let member = match unopened.filter(|member| self.ring.contains(member.id)) {
            Some(member) => member,
            None => {
                self.find_space(area, 0).await?;
                let turn = Turn { area, flow, next_sequence: self.next_sequence, age };
                self.turn(turn).await?
            }
        };
        // Only now: while the ring does not turn, what still fits is appended.
        let open = self.logs.entry(log).or_default();
        open.unopened = Some(member);
        if let Some(active) = open.active.take() {
            self.freeze(&active).await;
        }
        loop {
            match self.open_segment(member).await {
                Ok(active) => {
                    self.measure(&active.segment, &*active.file).await;
                    self.volume.took(self.ring_capacity(area).segment_bytes);
                    self.view.insert(active.segment.clone());
                    let log = self.logs.entry(log).or_default();
                    (log.active, log.unopened) = (Some(active), None);
                    return Ok(());
                }
                Err(error) if error.kind.is_full() => {
                    if !self.give_way(area, Some(member)).await? {
                        return Err(Refusal::DiskFull(error));
                    }
                }
                Err(error) => return Err(Refusal::Disk(error)),
            }
        }
    }

    /// Takes one step of the ring and saves it. The segment that is to be opened.
    async fn turn(&mut self, turn: Turn) -> Result<Member, Refusal> {
        let rules = self.promise_rules();
        let now_ms = self.steady_ms();
        let ring = self.ring.clone();
        let is_held = |member: &Member| {
            let written_ms = self.graces.written_ms(member, now_ms);
            rules.hold(now_ms, member.promised_until_ms, written_ms) != Hold::Free
                || self.pledges.holds(member.id, now_ms)
        };
        // What is promised in the eldest segment is being copied forward, which needs room: for that
        // long the ring has one segment more, in which that room is kept. Two have to go then
        // for the next one; if only the first of them may, the ring keeps its one more.
        let segments_max = self.ring_capacity(turn.area).segments_max;
        let due = (ring.len(turn.area) + 1).saturating_sub(segments_max);
        let is_pledged = |member: Member| self.pledges.holds(member.id, now_ms);
        let makes_copies = turn.flow == Flow::Live;
        let extra = makes_copies && ring.eldest(turn.area).is_some_and(is_pledged)
            || ring.members_of(turn.area).take(due).skip(1).any(|member| {
                // In a segment of what is caught up with there is no room for copies.
                is_held(&member) && (makes_copies || !is_pledged(member))
            });
        // The room that was kept for copies is lost with an open segment that failed.
        let is_lost = extra && makes_copies && !self.has_open_segment(turn.area);
        let segments_max = segments_max + usize::from(extra) + usize::from(is_lost);
        let (ring, victims) =
            ring.rotated(turn, segments_max, is_held).map_err(|reason| match reason {
                NoTurn::Held(member) => {
                    self.metrics.store.turns_held.inc();
                    if self.pledges.holds(member.id, now_ms) {
                        self.pledges.are_waited_for = true;
                    }
                    let written_ms = self.graces.written_ms(&member, now_ms);
                    let hold = rules.hold(now_ms, member.promised_until_ms, written_ms);
                    promised(hold)
                }
                NoTurn::TooOld => {
                    self.metrics.store.replicas_too_old.inc();
                    Refusal::TooOld
                }
            })?;
        let member = ring.newest(turn.area, turn.flow).ok_or(Refusal::Recovering)?;
        self.adopt(ring).await?;
        self.owe(&victims);
        self.metrics.store.rotations.inc();
        Ok(member)
    }

    fn has_open_segment(&self, area: Area) -> bool {
        self.logs.get(&(area, Flow::Live)).is_some_and(|log| log.active.is_some())
    }

    /// Segments that have left the ring are cleared up from now on.
    pub(super) fn owe(&mut self, victims: &[Member]) {
        for victim in victims {
            self.debts.push_back(Debt::of(victim.id));
            self.pledges.forget(victim.id, &mut self.unindexed);
        }
        let ring = &self.ring;
        for log in self.logs.values_mut() {
            // The eldest may be one that is still open: a flow that has been idle for a whole turn.
            log.active.take_if(|active| !ring.contains(active.segment.id));
        }
    }

    /// Saves a changed ring; from then on it is the one that counts.
    pub(super) async fn adopt(&mut self, ring: Ring) -> Result<(), Refusal> {
        let ring = ring.with_ceiling(self.next_sequence, self.hlc());
        let marked = ring.clone().promised_later_by(self.wall_ahead_ms());
        let saved = ring_file::save(&*self.env.disk, &marked).await.map_err(|error| {
            if error.kind.is_full() { Refusal::DiskFull(error) } else { Refusal::Disk(error) }
        })?;
        self.books.replaced(ring_file::RING, saved);
        self.use_ring(ring);
        Ok(())
    }

    pub(super) fn use_ring(&mut self, ring: Ring) {
        self.view.adopt(Arc::new(ring.clone()));
        let now_ms = self.steady_ms();
        self.graces.follow(&self.ring, &ring, now_ms);
        self.ring = ring;
    }

    /// Clears up one segment that is due, if there are too many: a long backlog, as after the capacity
    /// was lowered, does not hold up the writers as a whole.
    async fn work_off(&mut self, area: Area) -> Result<(), Refusal> {
        let debts = self.debts.len();
        while debts > DEBTS_MAX && self.debts.len() >= debts {
            match self.evict_step().await {
                Ok(()) => {}
                Err(refusal) if is_full(&refusal) => {
                    self.make_space(area, refusal).await?;
                    return Ok(());
                }
                // It takes room and nothing else; whether that is left is asked for separately.
                Err(refusal) => {
                    self.leave_for_later(&refusal);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// After an append that found the disk full: the next one would find the same, one segment on,
    /// where space cannot be reserved.
    async fn make_up_for_full_disk(&mut self, area: Area) -> Result<(), Refusal> {
        while let Some(error) = self.ran_full.clone() {
            let space = self.env.disk.space().await.map_err(Refusal::Disk)?;
            if space.available_bytes >= self.ring_capacity(area).segment_bytes {
                self.ran_full = None;
            } else {
                self.make_space(area, Refusal::DiskFull(error)).await?;
            }
        }
        Ok(())
    }

    /// The disk had no room for something, as `refusal` says: frees what is no longer needed, or
    /// else the eldest that may go.
    ///
    /// # Errors
    ///
    /// `refusal`, if it is about something else or nothing can be freed.
    pub(super) async fn make_space(&mut self, area: Area, refusal: Refusal) -> Result<(), Refusal> {
        if !is_full(&refusal) || !self.give_way(area, None).await? {
            return Err(refusal);
        }
        Ok(())
    }

    pub(super) fn promise_rules(&self) -> Rules {
        promise_rules(&self.config)
    }

    /// Creates the file of a member of the ring, whose id was never used before.
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
        let nonce = self.nonce();
        let file = match self.env.disk.create(path).await {
            // An earlier attempt failed and could not remove what it had made. The id was never
            // used, so nothing refers to it.
            Err(error) if error.kind == DiskErrorKind::AlreadyExists => {
                self.env.disk.unlink(path).await?;
                self.env.disk.create(path).await?
            }
            created => created?,
        };
        let segment_bytes = self.ring_capacity(member.id.area()).segment_bytes;
        match file.allocate(segment_bytes).await {
            Err(error) if error.kind != DiskErrorKind::Unsupported => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let header = SegmentHeader {
            id: member.id,
            nonce,
            base_sequence: member.base_sequence,
            age: member.age,
            flow: member.flow,
            first_offset: u32::try_from(SEGMENT_HEADER_BYTES).expect("64 fits"),
        };
        file.append(vec![Bytes::from(header.encode())]).await?;
        file.sync_data().await?;
        self.env.disk.sync_dir(&segment_dir(member.id)).await?;
        let segment = Arc::new(Segment { id: member.id, nonce, file: Some(file.clone()) });
        Ok(Active { segment, file, end: SEGMENT_HEADER_BYTES })
    }

    /// A secret for a new segment.
    pub(super) fn nonce(&mut self) -> Nonce {
        let mut nonce = [0; 16];
        self.nonces.fill(&mut nonce);
        Nonce(nonce)
    }

    /// No more appends go there: what was reserved behind its end is freed, and reads may be served
    /// from a mapping.
    pub(super) async fn freeze(&self, active: &Active) {
        if let Err(error) = active.file.freeze().await {
            self.metrics.store.freezes_failed.inc();
            let segment = active.segment.id;
            tracing::warn!(%segment, %error, "a full segment is read without a mapping");
        }
        self.measure(&active.segment, &*active.file).await;
    }

    /// Enters what the file of a segment holds into the books.
    pub(super) async fn measure(&self, segment: &Segment, file: &dyn File) {
        match file.allocated_bytes().await {
            Ok(bytes) => self.books.holds(segment.id, bytes),
            Err(error) => {
                tracing::warn!(segment = %segment.id, %error, "what it holds cannot be told");
            }
        }
    }
}

/// For how long promises and graces last.
pub(super) fn promise_rules(config: &StoreConfig) -> Rules {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Rules { promise_ms: millis(config.promise), write_grace_ms: millis(config.write_grace) }
}

fn promised(hold: Hold) -> Refusal {
    let for_ms = match hold {
        Hold::Held { for_ms } => for_ms,
        // By artifacts alone that are being copied forward.
        Hold::Free => 1_000,
    };
    Refusal::Promised { for_seconds: for_ms.div_ceil(1000) }
}

fn is_full(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::DiskFull(_) | Refusal::Catalog(CatalogError::NoSpace(_)))
}
