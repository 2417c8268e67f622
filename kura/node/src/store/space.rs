//! Room on the volume: what is asked of it before anything is taken in, and what is given up when
//! there is too little, whoever took it.
//!
//! - before a segment is opened, an object enters the pool or a body is staged: the full check, which
//!   gives up the eldest unpromised data until there is room
//! - every second: whether the volume still has its floor. Below it nothing is taken in, and the
//!   eldest unpromised data is given up in the background, one segment or object at a time

use std::{sync::Arc, time::Duration};

use kura_core::{
    ledger::{Admission, Room, floor_bytes, full_check_bytes},
    promise::Hold,
    record::Area,
    ring::{Member, Ring},
};
use kura_env::{Instant, Space};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{Store, appender::Appender, command::Command, eviction::Debt};
use crate::service::Refusal;

/// How often the volume is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often the catalog is measured: it grows by itself, and slowly.
const CATALOG_EVERY: Duration = Duration::from_secs(10);
/// How long the volume waits for readers of what was evicted before the next segment goes. Too low: a
/// read of the eldest data costs younger data. Too high: one slow reader keeps writers out for longer.
const READERS_PATIENCE: Duration = Duration::from_secs(10);
/// A full volume takes away no more than all but so many segments of a ring.
const SEGMENTS_LEFT: usize = 1;

/// When the appender looks at the volume next.
#[derive(Default)]
pub(super) struct Rounds {
    space_due: Instant,
    catalog_due: Instant,
    /// Since when the end of readers is waited for.
    awaited_since: Option<Instant>,
    /// The ring in memory is ahead of RING.
    pub(super) is_unsaved: bool,
}

impl Rounds {
    /// `is_saved` says whether RING is what the node goes by.
    pub(super) fn new(is_saved: bool) -> Self {
        Self { is_unsaved: !is_saved, ..Self::default() }
    }
}

/// What the volume had when it was looked at last. Shared by all who take room on it.
pub(crate) struct Volume(Mutex<Space>);

impl Volume {
    pub(super) fn new(space: Space) -> Arc<Self> {
        Arc::new(Self(Mutex::new(space)))
    }

    /// As it was when it was looked at last.
    pub(super) fn space(&self) -> Space {
        *self.0.lock()
    }

    /// What always stays free.
    pub(super) fn floor_bytes(&self) -> u64 {
        floor_bytes(self.space().total_bytes)
    }

    /// Whether less is left than always has to be. A volume whose size nobody knows says nothing of
    /// its room either.
    pub(super) fn is_short(&self) -> bool {
        matches!(self.admit(0, 0), Admission::Short { .. })
    }

    /// Whether `wanted_bytes` fit, with `granted_bytes` still to come.
    fn admit(&self, wanted_bytes: u64, granted_bytes: u64) -> Admission {
        let Space { total_bytes, available_bytes, .. } = self.space();
        if total_bytes == 0 {
            return Admission::Granted;
        }
        Room { available_bytes, granted_bytes, floor_bytes: self.floor_bytes() }.admit(wanted_bytes)
    }

    /// As [`Volume::admit`], in the words of a refusal.
    fn check(&self, wanted_bytes: u64, granted_bytes: u64) -> Result<(), Refusal> {
        match self.admit(wanted_bytes, granted_bytes) {
            Admission::Granted => Ok(()),
            Admission::Short { .. } => Err(self.refusal(wanted_bytes)),
        }
    }

    fn refusal(&self, wanted_bytes: u64) -> Refusal {
        Refusal::NoRoom {
            wanted_bytes,
            available_bytes: self.space().available_bytes,
            floor_bytes: self.floor_bytes(),
        }
    }

    /// So much was taken since it was looked at.
    pub(super) fn took(&self, bytes: u64) {
        let mut space = self.0.lock();
        space.available_bytes = space.available_bytes.saturating_sub(bytes);
    }

    /// It was looked at.
    fn seen(&self, space: Space) {
        let was_short = self.is_short();
        *self.0.lock() = space;
        let Space { total_bytes, available_bytes, .. } = space;
        match (was_short, self.is_short()) {
            (false, true) => {
                let floor_bytes = self.floor_bytes();
                tracing::warn!(total_bytes, available_bytes, floor_bytes, "too little is left");
            }
            (true, false) => tracing::info!(available_bytes, "there is room again"),
            (true, true) | (false, false) => {}
        }
    }
}

impl Store {
    /// Refuses while less than the floor is left.
    pub(super) fn keep_out(&self) -> Result<(), Refusal> {
        self.0.volume.check(0, 0).inspect_err(|_| {
            self.metrics().store.space_refused.inc();
        })
    }

    /// So much of a body in flight was written: it is no longer to come, and no longer free.
    pub(super) fn staging_wrote(&self, bytes: u64) {
        if self.0.staging.is_on_volume() {
            self.0.volume.took(bytes);
        }
    }

    /// Makes sure that the volume has room for `bytes` more of a body in flight. Where there is more
    /// than the floor and still too little, the eldest unpromised data goes.
    pub(super) async fn find_room(&self, bytes: u64) -> Result<(), Refusal> {
        self.keep_out()?;
        let volume = &self.0.volume;
        let granted_bytes = self.0.staging.to_come_bytes();
        if volume.check(bytes, granted_bytes).is_ok() {
            return Ok(());
        }
        let (reply, found) = oneshot::channel();
        self.send(Command::FindRoom(bytes, reply)).await?;
        found.await.map_err(|_| Refusal::Draining)?
    }
}

impl Appender {
    /// Makes sure that the volume has room for one more segment, or an object of `incoming_bytes`.
    pub(super) async fn find_space(
        &mut self,
        area: Area,
        incoming_bytes: u64,
    ) -> Result<(), Refusal> {
        let segment_bytes = self.ring_capacity(area).segment_bytes;
        self.free_up(area, full_check_bytes(segment_bytes, incoming_bytes)).await
    }

    /// Gives up what may go until there are `wanted_bytes` above the floor and what was granted.
    pub(super) async fn free_up(&mut self, area: Area, wanted_bytes: u64) -> Result<(), Refusal> {
        loop {
            self.look().await?;
            let Admission::Short { missing_bytes } =
                self.volume.admit(wanted_bytes, self.staging.to_come_bytes())
            else {
                self.rounds.awaited_since = None;
                return Ok(());
            };
            if self.comes_back(missing_bytes) || !self.give_way(area, None).await? {
                self.metrics.store.space_refused.inc();
                return Err(self.volume.refusal(wanted_bytes));
            }
        }
    }

    /// Refuses while less than the floor is left.
    pub(super) fn keep_out(&self) -> Result<(), Refusal> {
        self.volume.check(0, 0).inspect_err(|_| {
            self.metrics.store.space_refused.inc();
        })
    }

    /// Whether what is missing comes back by itself, because it was evicted and is still being read:
    /// evicting more is of no use then. It is waited for, but not for ever: a reader may be slow.
    fn comes_back(&mut self, missing_bytes: u64) -> bool {
        let now = self.env.clock.now();
        let comes_back = self.books.lingering_bytes(&self.view) >= missing_bytes;
        let since = self.rounds.awaited_since.filter(|_| comes_back);
        let is_awaited =
            comes_back && since.is_none_or(|since| now.since(since) < READERS_PATIENCE);
        self.rounds.awaited_since = is_awaited.then(|| since.unwrap_or(now));
        is_awaited
    }

    async fn look(&self) -> Result<(), Refusal> {
        let space = self.env.disk.space().await.map_err(Refusal::Disk)?;
        self.volume.seen(space);
        Ok(())
    }

    /// When the volume is to be looked at again.
    pub(super) fn look_due(&self) -> Instant {
        self.rounds.space_due
    }

    /// Has the volume looked at again at once.
    pub(super) fn look_soon(&mut self) {
        self.rounds.space_due = Instant::default();
    }

    /// Looks at the volume, if it is time to, and gives up one segment or object if there is too
    /// little left.
    pub(super) async fn keep_floor(&mut self) {
        let now = self.env.clock.now();
        if now < self.rounds.space_due {
            return;
        }
        self.rounds.space_due = now + LOOK_EVERY;
        if let Err(refusal) = self.keep_floor_now().await {
            self.metrics.store.eviction_errors.inc();
            tracing::warn!(%refusal, "no room could be made on the volume; it is tried again");
        }
        if now >= self.rounds.catalog_due {
            self.rounds.catalog_due = now + CATALOG_EVERY;
            if let Err(error) = self.books.measure_catalog(&*self.env.disk).await {
                tracing::warn!(%error, "the catalog could not be measured; it is tried again");
            }
        }
    }

    async fn keep_floor_now(&mut self) -> Result<(), Refusal> {
        self.look().await?;
        let Admission::Short { missing_bytes } = self.volume.admit(0, 0) else {
            self.rounds.awaited_since = None;
            self.save_unsaved().await?;
            return self.drop_unopened().await;
        };
        // What is on its way out goes at once, files first: the deletion of its rows may find no room.
        if self.unlink_ahead().await? {
            self.look_soon();
            return Ok(());
        }
        if self.comes_back(missing_bytes) {
            return Ok(());
        }
        let mut areas = [Area::Blobs, Area::Entries, Area::Pool];
        areas.sort_by_key(|area| self.eldest_age(*area));
        if self.give_up_eldest(areas, None).await? {
            self.look_soon();
        }
        Ok(())
    }

    /// The hybrid logical time of the eldest data of an area: its writing, or for the pool its use.
    fn eldest_age(&self, area: Area) -> u64 {
        match area {
            Area::Blobs | Area::Entries => self.ring.eldest(area).map_or(u64::MAX, |it| it.age),
            Area::Pool => {
                let pool = self.pool.lock();
                let eldest = pool.eldest_first().next();
                eldest.and_then(|id| pool.used(id)).unwrap_or(u64::MAX)
            }
        }
    }

    /// Saves a ring that could not be saved when it changed.
    pub(super) async fn save_unsaved(&mut self) -> Result<(), Refusal> {
        if self.rounds.is_unsaved {
            self.adopt(self.ring.clone()).await?;
            self.rounds.is_unsaved = false;
        }
        Ok(())
    }

    /// Takes a segment out of the ring that never got a file. While the volume is full even that may
    /// not be saved, and it stays until it can: nothing refers to it.
    async fn drop_unopened(&mut self) -> Result<(), Refusal> {
        let unopened = self.logs.values().find_map(|log| log.unopened);
        let Some(member) = unopened else { return Ok(()) };
        self.adopt(self.ring.without(member.id)).await?;
        for log in self.logs.values_mut() {
            log.unopened.take_if(|unopened| unopened.id == member.id);
        }
        // Its file may be there in part: removing that may have failed as well.
        if self.unlink_segment(member.id).await.is_err() {
            self.debts.push_back(Debt::of(member.id));
        }
        self.look_soon();
        Ok(())
    }

    /// The volume has no room: frees what is no longer needed, or else the eldest that may go, first
    /// of `area`. Whether anything could be freed.
    pub(super) async fn give_way(
        &mut self,
        area: Area,
        except: Option<Member>,
    ) -> Result<bool, Refusal> {
        // Files first: where the disk is full, the deletion of rows may find no room.
        if self.unlink_ahead().await? {
            return Ok(true);
        }
        let other = if area == Area::Entries { Area::Blobs } else { Area::Entries };
        let mut areas = [area, other, Area::Pool];
        if self.next_is_unread() {
            // Nothing that can be read goes before what cannot.
            areas.rotate_right(1);
        }
        self.give_up_eldest(areas, except).await
    }

    /// Gives up the eldest segment or object that may go, of the first area that has one.
    async fn give_up_eldest(
        &mut self,
        areas: [Area; 3],
        except: Option<Member>,
    ) -> Result<bool, Refusal> {
        let rules = self.promise_rules();
        let now_ms = self.steady_ms();
        for area in areas {
            if area == Area::Pool {
                if self.give_up_object().await? {
                    return Ok(true);
                }
                continue;
            }
            if self.ring.len(area) <= SEGMENTS_LEFT {
                continue;
            }
            let is_held = |member: &Member| {
                let written_ms = self.graces.written_ms(member, now_ms);
                let held = rules.hold(now_ms, member.promised_until_ms, written_ms) != Hold::Free;
                held || except.is_some_and(|except| except.id == member.id)
                    || self.pledges.holds(member.id, now_ms)
            };
            if let Some((ring, eldest)) = self.ring.shrunk(area, self.next_sequence, is_held) {
                match self.adopt(ring.clone()).await {
                    Ok(()) => self.owe(&[eldest]),
                    Err(Refusal::DiskFull(_)) => self.unlink_first(ring, eldest).await?,
                    Err(refusal) => return Err(refusal),
                }
                self.metrics.store.evicted_for_space.inc();
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Appender {
    /// Gives up the eldest segment where the volume is so full that not even RING can be saved: its
    /// file goes first, and RING is saved as soon as that can be done. A start before that finds a
    /// segment in RING that has no file, and drops it. Readers go by the ring in memory.
    async fn unlink_first(&mut self, ring: Ring, eldest: Member) -> Result<(), Refusal> {
        // With the ceiling that was saved: nothing above it may be given out.
        self.use_ring(ring);
        self.owe(&[eldest]);
        self.metrics.store.unlinked_first.inc();
        self.rounds.is_unsaved = true;
        self.unlink_segment(eldest.id).await?;
        match self.adopt(self.ring.clone()).await {
            Ok(()) => self.rounds.is_unsaved = false,
            // Whoever filled the volume may have taken this space as well.
            Err(Refusal::DiskFull(_)) => {}
            Err(refusal) => return Err(refusal),
        }
        Ok(())
    }
}
