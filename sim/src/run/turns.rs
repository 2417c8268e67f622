//! What the rings of a node take in and lose, as seen at its disk, for the invariants about eviction.

use std::collections::BTreeMap;

use kura_core::{
    record::{Area, Flow, SEGMENT_HEADER_LEN, SegmentHeader, SegmentId},
    ring::{Member, Ring},
};
use kura_env::{EffectKind, Instant};
use parking_lot::Mutex;
use sim_storage::{Effect, SimDisk};

use crate::{
    invariants::{
        Violation,
        quiet_zone::{self, FullRing, Turning, Victim},
        refresh_bounded::Appended,
    },
    scenario::{NodeSpec, Scenario},
};

/// The rings, the share of the store that each gets in percent, and what they are called.
const RINGS: [(Area, u64, &str); 2] = [(Area::Blobs, 70, "blobs"), (Area::Entries, 5, "entries")];

/// Watches the rings of one node over all of its lives.
pub(super) struct Turns {
    node: NodeSpec,
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
    /// Whether this life has begun to save its ring, which is how recovery ends.
    is_recovered: bool,
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
    pub(super) fn new(scenario: &Scenario) -> Self {
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
            node: scenario.node.clone(),
            room_is_told: !quota_is_hidden
                && !pressure.delayed_allocation
                && !scenario.faults.iter().any(|spec| fills(&spec.fault.what)),
            keeps_segments: scenario.node.survives_power_loss && !spoils && !meets_the_end,
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
        let ring = |path| disk.peek(path).and_then(|bytes| Ring::decode(&bytes).ok());
        let (Some(from), Some(to)) = (ring("RING"), ring("RING.new")) else { return Ok(()) };
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
        let gone = gone.filter(|(_, member)| moment.is_segment(member.id));
        let victims: Vec<Victim> =
            gone.map(|(at, member)| self.victim(at, member, moment)).collect();
        if victims.is_empty() {
            return Ok(());
        }
        self.seen.lock().evictions += 1;
        let space = moment.disk.space();
        let NodeSpec { capacity_bytes, segment_bytes, body_bytes_max, .. } = self.node;
        let full = FullRing::of(percent, space.total_bytes, capacity_bytes, segment_bytes);
        let may_come_bytes = 2 * segment_bytes.max(body_bytes_max)
            + self.node.staging_bytes_max
            + (space.total_bytes / 50).min(1 << 30);
        let knows_room = space.total_bytes == 0 || space.available_bytes >= may_come_bytes;
        let turning = Turning {
            ring: name,
            full,
            segments: members.len(),
            sparse: if self.keeps_segments { moment.sparse(&members, full) } else { 0 },
            has_room: self.room_is_told && knows_room,
            victims,
        };
        quiet_zone::check(node, &turning, self.node.write_grace)
    }

    fn victim(&self, position: usize, member: &Member, moment: &Moment<'_>) -> Victim {
        let written_at = self.seen.lock().written_at.get(&member.id.path()).copied();
        let written_at = written_at.filter(|_| member.flow == Flow::Live);
        Victim { position, unwritten_for: written_at.map(|at| moment.now.since(at)) }
    }

    /// How often something was evicted.
    pub(super) fn evictions(&self) -> u64 {
        self.seen.lock().evictions
    }

    /// What was appended, to be completed by what may explain it.
    pub(super) fn appended(&self, disk_bytes: u64) -> Appended {
        let seen = self.seen.lock();
        let ceiling_bytes = disk_bytes / 10 * 8;
        let capacity_bytes = self.node.capacity_bytes.unwrap_or(disk_bytes / 2).min(ceiling_bytes);
        Appended {
            bytes: seen.appended_bytes,
            segments: seen.segments,
            capacity_bytes,
            ..Appended::default()
        }
    }
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
