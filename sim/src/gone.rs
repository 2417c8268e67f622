//! What a node need not hold: what it held and has evicted, and what it has no room for, by what lies
//! on its disk, the size of that and the settings.

use std::collections::BTreeMap;

use bytes::Bytes;
use kura_core::{
    address::{Address, Space},
    capacity::LARGE_PART,
    record::{Area, Version, header_bytes},
    ring::Member,
};

use crate::{
    holdings::{Holding, Holdings},
    invariants::quiet_zone::FullRing,
};

/// What one node need not hold.
#[derive(Clone, Debug, Default)]
pub struct Gone {
    /// What it held once and has evicted.
    pub evicted: Holdings,
    /// What others wrote and evicted in this life of the node, and do not hold any more. Whoever has
    /// it still is not asked for it again.
    pub lost: BTreeMap<Bytes, Version>,
    /// Its rings.
    pub rings: BTreeMap<Area, Room>,
    /// Its pool.
    pub pool: Pool,
}

/// What one ring has room for.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// How large it should be.
    pub full: FullRing,
    /// The hybrid logical time of the latest data that a full ring had no room for; 0 if it was never
    /// full.
    pub too_old: u64,
}

/// What lies in the pool.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    limit_bytes: u64,
    /// The bytes of its objects, by the hybrid logical time at which they were written.
    objects: BTreeMap<u64, u64>,
}

impl Gone {
    /// Whether a node that holds nothing of the name `key` need not hold this: it had it, or its writer
    /// does not have it any more, or it would have had to evict something younger for it.
    #[must_use]
    pub fn excuses(&self, key: &Bytes, held: &Holding) -> bool {
        self.lost.get(key).is_some_and(|version| held.version <= *version)
            || self.excuses_to_ready(key, held)
    }

    /// The same where it was compared with a peer that holds it.
    #[must_use]
    pub fn excuses_to_ready(&self, key: &Bytes, held: &Holding) -> bool {
        held.is_met_by(self.evicted.get(key)) || self.has_no_room(key, held)
    }

    fn has_no_room(&self, key: &Bytes, held: &Holding) -> bool {
        let Ok(address) = Address::decode(key) else { return false };
        let record_bytes = record_bytes(&address, held);
        let area = match address.space() {
            Space::Plain | Space::Cas => Area::Blobs,
            Space::Ac => Area::Entries,
        };
        let Some(room) = self.rings.get(&area) else { return false };
        if record_bytes > room.full.segment_bytes / LARGE_PART {
            return self.pool.has_no_room(held.version.time, record_bytes);
        }
        held.version.time <= room.too_old
    }
}

fn record_bytes(address: &Address, held: &Holding) -> u64 {
    let header_bytes = u64::try_from(header_bytes(address, held.body_bytes));
    held.body_bytes.saturating_add(header_bytes.unwrap_or(u64::MAX))
}

impl Pool {
    /// A pool that may hold `limit_bytes` and holds these objects.
    #[must_use]
    pub fn new(limit_bytes: u64, held: &Holdings) -> Self {
        let mut objects: BTreeMap<u64, u64> = BTreeMap::new();
        for (key, held) in held {
            let Ok(address) = Address::decode(key) else { continue };
            *objects.entry(held.version.time).or_default() += record_bytes(&address, held);
        }
        Self { limit_bytes, objects }
    }

    /// Whether something that was written at `time` does not fit beside what was written since.
    fn has_no_room(&self, time: u64, record_bytes: u64) -> bool {
        let younger_bytes: u64 = self.objects.range(time..).map(|(_, bytes)| bytes).sum();
        younger_bytes.saturating_add(record_bytes) > self.limit_bytes
    }
}

/// The hybrid logical time of the latest data that a ring has no room for: all that would have to go
/// for another segment is younger. `None` unless the ring has as many segments as it should have, and
/// they are three quarters full but for the two that are open. `members` are its segments, the eldest
/// first, with the lengths of their files.
#[must_use]
pub fn too_old(members: &[(Member, u64)], full: FullRing) -> Option<u64> {
    let last = members.len().checked_sub(full.segments)?;
    let sealed = u64::try_from(members.len().saturating_sub(2)).ok()?;
    let held_bytes: u64 = members.iter().map(|(_, len_bytes)| len_bytes).sum();
    if held_bytes < sealed * (full.segment_bytes / 4 * 3) {
        return None;
    }
    members.get(last).map(|(member, _)| member.age)
}

#[cfg(test)]
mod tests {
    use kura_core::record::{Flow, SegmentId};

    use super::*;
    use crate::holdings::sample::{holdings, key};

    fn ring(segments: u64, len_bytes: u64) -> Vec<(Member, u64)> {
        let member = |number| Member {
            id: SegmentId::new(Area::Blobs, number),
            base_sequence: number,
            age: number * 10,
            flow: Flow::Live,
            promised_until_ms: 0,
        };
        (1..=segments).map(|number| (member(number), len_bytes)).collect()
    }

    const FULL: FullRing = FullRing { segments: 5, segment_bytes: 8000 };

    #[test]
    fn a_full_ring_has_no_room_for_what_is_older_than_all_that_would_go() {
        assert_eq!(too_old(&ring(4, 8000), FULL), None, "there is room for another one");
        assert_eq!(too_old(&ring(5, 8000), FULL), Some(10));
        assert_eq!(too_old(&ring(6, 8000), FULL), Some(20), "two have to go");
        assert_eq!(too_old(&ring(5, 3600), FULL), Some(10), "two are open and may be empty");
        assert_eq!(too_old(&ring(5, 3500), FULL), None, "they are not full");
    }

    #[test]
    fn only_what_was_evicted_or_is_too_old_is_excused() {
        let (evicted, held) = (holdings(&[("had", 50)]), holdings(&[("it", 30), ("had", 50)]));
        let excuses = |too_old, name| {
            let rings = BTreeMap::from([(Area::Blobs, Room { full: FULL, too_old })]);
            let gone = Gone { evicted: evicted.clone(), rings, ..Gone::default() };
            gone.excuses(&key(name), &held[&key(name)])
        };
        assert!(excuses(0, "had"));
        assert!(!excuses(29, "it") && excuses(30, "it"));
        let lost_at = |time| {
            let lost = BTreeMap::from([(key("it"), Version { time, node: 1 })]);
            Gone { lost, ..Gone::default() }.excuses(&key("it"), &held[&key("it")])
        };
        assert!(!lost_at(29) && lost_at(30), "its writer has evicted it");
        assert!(!Gone::default().excuses(&key("it"), &held[&key("it")]));
    }

    #[test]
    fn a_large_object_is_held_against_the_pool_alone() {
        let large = Holding { body_bytes: 2000, ..holdings(&[("it", 30)])[&key("it")] };
        let excuses = |limit_bytes, objects: &[(u64, u64)]| {
            let rings = BTreeMap::from([(Area::Blobs, Room { full: FULL, too_old: 99 })]);
            let pool = Pool { limit_bytes, objects: objects.iter().copied().collect() };
            Gone { rings, pool, ..Gone::default() }.excuses(&key("it"), &large)
        };
        assert!(!excuses(9000, &[(40, 5000)]), "both fit");
        assert!(excuses(6000, &[(40, 5000)]));
        assert!(!excuses(6000, &[(20, 5000)]), "the elder one goes for it");
    }
}
