//! What the rings of a node take in and lose, as seen at its disk, for the invariants about eviction.

use std::collections::BTreeMap;

use kura_core::{
    record::{Area, Flow, SEGMENT_HEADER_BYTES, SEGMENT_HEADER_LEN, SegmentHeader, SegmentId},
    ring::{Member, Ring},
};
use kura_env::{EffectKind, Instant};
use parking_lot::Mutex;
use sim_storage::{Effect, SimDisk};

use super::spoil::Wounds;
use crate::{
    gone::{self, Room},
    invariants::{
        Violation,
        quiet_zone::{self, FullRing, Turning, Victim},
        refresh_bounded::Appended,
    },
    scenario::{NodeSpec, Scenario},
};

/// The rings, the share of the store that each gets in percent, and what they are called.
const RINGS: [(Area, u64, &str); 2] = [(Area::Blobs, 70, "blobs"), (Area::Entries, 5, "entries")];

/// The share of the store that the pool gets at the most, in percent.
const POOL_PERCENT: u64 = 25;

/// Watches the rings of one node over all of its lives.
pub(super) struct Turns {
    node: NodeSpec,
    /// What is spoilt on the disk: a segment that lost its header is no segment any more.
    wounds: Wounds,
    /// Whether the disk tells how much room it has, and never fails where it has some.
    room_is_told: bool,
    /// Whether what was appended to a segment stays in it.
    keeps_segments: bool,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// When each segment was last appended to, by its path, while its file is there.
    written_at: BTreeMap<String, Instant>,
    appended_bytes: u64,
    segments: u64,
    evictions: u64,
    /// The hybrid logical time of the latest data that each ring, when it was full, had no room for.
    too_old: BTreeMap<Area, u64>,
    /// Whether this life has begun to save its ring, which is how recovery ends.
    is_recovered: bool,
    /// Whether the disk had room when the ring that is being saved was decided on. Who shares the disk
    /// may leave before it is saved.
    had_room: bool,
}

/// What is below the data directory at one moment.
struct Moment<'a> {
    disk: &'a SimDisk,
    now: Instant,
    /// How many operations of the disk failed so far.
    disk_errors: u64,
    lens: BTreeMap<String, u64>,
}

impl Turns {
    pub(super) fn new(scenario: &Scenario, node: &str, wounds: Wounds) -> Self {
        use fault_injection::{DiskFault, What};
        let pressure = &scenario.disk.pressure;
        let fills = |what: &What| match what {
            What::DiskError { kind } | What::ShortAppend { kind } => {
                matches!(kind, DiskFault::NoSpace | DiskFault::Quota)
            }
            What::Crash { .. }
            | What::Stall { .. }
            | What::CatalogError { .. }
            | What::NetRefuse
            | What::NetCut { .. }
            | What::NetStall { .. } => false,
        };
        let quota_is_hidden = pressure.quota_bytes.is_some() && !pressure.quota_is_told;
        // An append that others leave no room for seals its segment, unless its room was reserved.
        let meets_the_end = !pressure.preallocation && !scenario.co_tenants.is_empty();
        let spoils = scenario.phases.iter().any(|phase| phase.spoil.artifacts > 0);
        Self {
            wounds,
            node: scenario.node.of(node),
            room_is_told: !quota_is_hidden
                && !pressure.delayed_allocation
                && !scenario.faults.iter().any(|spec| fills(&spec.fault.what)),
            keeps_segments: scenario.node.survives_power_loss
                && pressure.lying_sync_millionths == 0
                && !spoils
                && !meets_the_end,
            seen: Mutex::default(),
        }
    }

    /// An effect is about to be done to the disk, `disk_errors` of which have failed so far.
    ///
    /// # Errors
    ///
    /// If it evicts what must stay.
    pub(super) fn before(
        &self,
        node: &str,
        (effect, disk): (&Effect, &SimDisk),
        now: Instant,
        disk_errors: u64,
    ) -> Result<(), Violation> {
        let change = &effect.change;
        let path = change.path.as_str();
        {
            let mut seen = self.seen.lock();
            if change.kind == EffectKind::Lock {
                seen.is_recovered = false;
            } else if change.kind == EffectKind::Create && path == "RING.new" {
                seen.is_recovered = true;
                seen.had_room = self.has_room(disk);
            }
        }
        if path.ends_with(".seg") {
            let mut seen = self.seen.lock();
            match change.kind {
                EffectKind::Append => {
                    seen.written_at.insert(path.to_owned(), now);
                    seen.appended_bytes += change.len_bytes;
                }
                EffectKind::Create => seen.segments += 1,
                EffectKind::Unlink => {
                    seen.written_at.remove(path);
                }
                EffectKind::Mkdir
                | EffectKind::Allocate
                | EffectKind::WriteAt
                | EffectKind::Rename
                | EffectKind::SyncData
                | EffectKind::SyncDir
                | EffectKind::Lock
                | EffectKind::Freeze => {}
            }
            return Ok(());
        }
        let saves_ring = change.kind == EffectKind::Rename
            && change.to.as_ref().is_some_and(|to| to.as_str() == "RING");
        if !saves_ring {
            return Ok(());
        }
        let (Some(from), Some(to)) = (ring_in(disk, "RING"), ring_in(disk, "RING.new")) else {
            return Ok(());
        };
        if from.members().map(|member| member.id).ne(to.members().map(|member| member.id)) {
            self.note_room(&from, disk);
        }
        if from.members().all(|member| to.contains(member.id)) {
            return Ok(());
        }
        let files = disk.walk().into_iter();
        let lens = files.map(|file| (file.path.as_str().to_owned(), file.len_bytes)).collect();
        let moment = Moment { disk, now, disk_errors, lens };
        RINGS.into_iter().try_for_each(|ring| self.turned(node, ring, (&from, &to), &moment))
    }

    /// The sequence of the large object that `effect` evicts. What recovery unlinks it may only unlink
    /// because it is no object.
    pub(super) fn evicted_object(&self, effect: &Effect) -> Option<u64> {
        let change = &effect.change;
        let (_, name) = change.path.as_str().rsplit_once('/')?;
        let id = SegmentId::from_file_name(Area::Pool, name)?;
        let is_eviction = change.kind == EffectKind::Unlink
            && change.path.as_str() == id.path()
            && self.seen.lock().is_recovered;
        is_eviction.then(|| id.number())
    }

    /// What a ring loses from one saved state to the next.
    fn turned(
        &self,
        node: &str,
        (area, percent, name): (Area, u64, &'static str),
        (from, to): (&Ring, &Ring),
        moment: &Moment<'_>,
    ) -> Result<(), Violation> {
        let members: Vec<Member> = from.members_of(area).collect();
        let gone = members.iter().enumerate().filter(|(_, member)| !to.contains(member.id));
        // What is not there, or was never begun, holds nothing that could be lost.
        let header = (0, SEGMENT_HEADER_BYTES);
        let gone = gone.filter(|(_, member)| {
            moment.is_segment(member.id) && !self.wounds.meet(&member.id.path(), header)
        });
        let victims: Vec<Victim> =
            gone.map(|(at, member)| self.victim(at, member, moment)).collect();
        if victims.is_empty() {
            return Ok(());
        }
        self.seen.lock().evictions += 1;
        let space = moment.disk.space();
        let NodeSpec { capacity_bytes, segment_bytes, .. } = self.node;
        let full = FullRing::of(percent, space.total_bytes, capacity_bytes, segment_bytes);
        let had_room = self.seen.lock().had_room && self.has_room(moment.disk);
        let turning = Turning {
            ring: name,
            full,
            segments: members.len(),
            sparse: if self.keeps_segments { moment.sparse(&members, full) } else { 0 },
            has_room: self.room_is_told && had_room,
            victims,
        };
        quiet_zone::check(node, &turning, self.node.write_grace)
    }

    /// Whether the disk has room for everything that may be on its way.
    fn has_room(&self, disk: &SimDisk) -> bool {
        let space = disk.space();
        let NodeSpec { segment_bytes, body_bytes_max, staging_bytes_max, .. } = self.node;
        let may_come_bytes = 2 * segment_bytes.max(body_bytes_max)
            + staging_bytes_max
            + (space.total_bytes / 50).min(1 << 30);
        space.total_bytes == 0 || space.available_bytes >= may_come_bytes
    }

    fn victim(&self, position: usize, member: &Member, moment: &Moment<'_>) -> Victim {
        let written_at = self.seen.lock().written_at.get(&member.id.path()).copied();
        let written_at = written_at.filter(|_| member.flow == Flow::Live);
        Victim { position, unwritten_for: written_at.map(|at| moment.now.since(at)) }
    }

    /// What its rings have room for now, and had when they were full.
    pub(super) fn rooms(&self, disk: &SimDisk) -> BTreeMap<Area, Room> {
        if let Some(ring) = ring_in(disk, "RING") {
            self.note_room(&ring, disk);
        }
        let too_old = self.seen.lock().too_old.clone();
        let room = |(area, percent, _)| {
            let too_old = too_old.get(&area).copied().unwrap_or(0);
            (area, Room { full: self.full(percent, disk), too_old })
        };
        RINGS.into_iter().map(room).collect()
    }

    /// What is left of the store for the pool, in bytes.
    pub(super) fn pool_bytes(&self, disk: &SimDisk) -> u64 {
        let store_bytes = self.store_bytes(disk.space().total_bytes);
        let of_rings = RINGS.into_iter().map(|(_, percent, _)| self.full(percent, disk).bytes());
        let left_bytes = store_bytes.saturating_sub(of_rings.sum());
        left_bytes.min(store_bytes / 100 * POOL_PERCENT)
    }

    fn full(&self, percent: u64, disk: &SimDisk) -> FullRing {
        let NodeSpec { capacity_bytes, segment_bytes, .. } = self.node;
        FullRing::of(percent, disk.space().total_bytes, capacity_bytes, segment_bytes)
    }

    /// Notes what the rings of `ring`, which is on the disk, have no room for.
    fn note_room(&self, ring: &Ring, disk: &SimDisk) {
        let files = disk.walk().into_iter();
        let lens: BTreeMap<String, u64> =
            files.map(|file| (file.path.as_str().to_owned(), file.len_bytes)).collect();
        for (area, percent, _) in RINGS {
            let held = ring.members_of(area).filter_map(|member| {
                lens.get(&member.id.path()).map(|len_bytes| (member, *len_bytes))
            });
            let held: Vec<(Member, u64)> = held.collect();
            if let Some(too_old) = gone::too_old(&held, self.full(percent, disk)) {
                let mut seen = self.seen.lock();
                let latest = seen.too_old.entry(area).or_default();
                *latest = too_old.max(*latest);
            }
        }
    }

    fn store_bytes(&self, disk_bytes: u64) -> u64 {
        self.node.capacity_bytes.unwrap_or(disk_bytes / 2).min(disk_bytes / 10 * 8)
    }

    /// How often something was evicted.
    pub(super) fn evictions(&self) -> u64 {
        self.seen.lock().evictions
    }

    /// What was appended, to be completed by what may explain it.
    pub(super) fn appended(&self, disk_bytes: u64) -> Appended {
        let seen = self.seen.lock();
        Appended {
            bytes: seen.appended_bytes,
            segments: seen.segments,
            capacity_bytes: self.store_bytes(disk_bytes),
            ..Appended::default()
        }
    }
}

fn ring_in(disk: &SimDisk, path: &str) -> Option<Ring> {
    disk.peek(path).and_then(|bytes| Ring::decode(&bytes).ok())
}

impl Moment<'_> {
    /// Whether there is a file of this segment, with a header.
    fn is_segment(&self, id: SegmentId) -> bool {
        let len = u64::try_from(SEGMENT_HEADER_LEN).unwrap_or(u64::MAX);
        let head = self.disk.peek_at(&id.path(), 0, len).unwrap_or_default();
        SegmentHeader::decode(&head).is_ok_and(|header| header.id == id)
    }

    /// How many of these segments were sealed with much room in them, beyond one for each failure of
    /// the disk.
    fn sparse(&self, members: &[Member], full: FullRing) -> u64 {
        let live = || members.iter().filter(|member| member.flow == Flow::Live);
        let newest = live().map(|member| member.id).max();
        let sealed = live().filter(|member| Some(member.id) != newest);
        let lens = sealed.filter_map(|member| self.lens.get(&member.id.path()));
        let sparse = lens.filter(|len| **len < full.segment_bytes / 4 * 3).count();
        u64::try_from(sparse).unwrap_or(u64::MAX).saturating_sub(self.disk_errors)
    }
}
