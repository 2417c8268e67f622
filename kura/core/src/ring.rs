//! The rings: which segments count, in the order of the age of their data, and what their position
//! means. There are two, one for bodies and one for entries, of the same kind.
//!
//! ```text
//! eldest                                             newest
//! [ old: a fifth ][ middle                ][ young          ]   <- clients' writes go to the newest
//!   next to be evicted; a read here deserves a second chance
//! ```
//!
//! What a node catches up with is older than what its clients write, and goes into segments of its
//! own, which take their place by the age of their first record: so a node that joins does not evict
//! its newest data first, and what is older than everything here is not taken in at all once the
//! ring is full.
//!
//! Generations are computed from positions and kept nowhere, so a restart changes nothing. Readers
//! trust the ring alone: a reference into a segment outside of it is a miss, whatever lies on disk.

use std::collections::{BTreeMap, VecDeque};

use crate::record::{Area, Flow, SegmentId};

/// A segment of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which segment.
    pub id: SegmentId,
    /// No record of a client's write in it has a lower sequence.
    pub base_sequence: u64,
    /// The hybrid logical time that orders it: that at which it was opened for clients' writes, or
    /// that of the first body it caught up with.
    pub age: u64,
    /// What is appended to it.
    pub flow: Flow,
    /// Wall time in milliseconds until which something in it is promised; 0 if nothing ever was.
    pub promised_until_ms: u64,
}

/// The state of both rings, as it is saved in RING.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    blobs: Turns,
    entries: Turns,
    /// Objects of the pool of which something is promised, and until when, in milliseconds.
    pool_promises: BTreeMap<SegmentId, u64>,
    /// The number of the next segment that is opened, in whichever ring.
    next_number: u64,
    /// No sequence at or above this was ever given out.
    sequence_ceiling: u64,
    /// No hybrid logical time above this was given out before RING was saved.
    hlc: u64,
}

/// One ring.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Turns {
    /// By age, the eldest first; of the same age by id. Ids differ.
    members: VecDeque<Member>,
    /// No client's write of this or a higher sequence was evicted.
    horizon_sequence: u64,
}

/// What a read of a segment asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterRead {
    /// It is old: copy the artifact forward, or it goes with its segment.
    Refresh,
    /// It is young enough.
    Keep,
    /// The ring moved on while it was read.
    Forget,
}

/// How many segments are old, middle and young.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generations {
    /// Next to be evicted.
    pub old: usize,
    /// Between.
    pub middle: usize,
    /// Written last.
    pub young: usize,
}

impl Generations {
    /// A fifth is old, and the rest is halved.
    #[must_use]
    pub fn of(total: usize) -> Self {
        let old = total / 5;
        let middle = (total - old) / 2;
        Self { old, middle, young: total - old - middle }
    }
}

/// Why no segment can be opened now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoTurn {
    /// The eldest segment may not go yet.
    Held(Member),
    /// What comes in is older than everything here, and the ring is full.
    TooOld,
}

/// Why bytes are not a saved ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRing {
    /// Not as long as it says.
    #[error("wrong length")]
    Length,
    /// Damaged, or something else.
    #[error("wrong magic or checksum")]
    Checksum,
    /// Written by another version.
    #[error("format {0}, this version reads 2 only")]
    Format(u32),
    /// The checksum fits, and still it makes no sense.
    #[error("members out of order")]
    Order,
}

/// A saved ceiling reaches this far above the sequence that is given out next, so that RING is not
/// saved for each write.
pub const SEQUENCES_PER_SAVE: u64 = 1 << 20;

/// More sequences than one segment can ever take.
const SEQUENCES_PER_SEGMENT_MAX: u64 = 1 << 40;

const MAGIC: [u8; 8] = *b"KURARING";
const FORMAT: u32 = 2;
const HEAD_BYTES: usize = 64;
const PROMISE_BYTES: usize = 16;
const MEMBER_BYTES: usize = 40;

impl Default for Turns {
    fn default() -> Self {
        Self { members: VecDeque::new(), horizon_sequence: 1 }
    }
}

impl Turns {
    fn insert(&mut self, member: Member) {
        let behind = |other: &Member| (other.age, other.id) < (member.age, member.id);
        let at = self.members.partition_point(behind);
        self.members.insert(at, member);
    }

    fn live(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.flow == Flow::Live)
    }

    /// Moves the horizon to what is left of clients' writes; to `next_sequence` if nothing is.
    fn settle(&mut self, next_sequence: u64) {
        let eldest = self.live().map(|member| member.base_sequence).min();
        self.horizon_sequence = self.horizon_sequence.max(eldest.unwrap_or(next_sequence));
    }

    fn take(&mut self, id: SegmentId) -> Option<Member> {
        let at = self.members.iter().position(|member| member.id == id)?;
        self.members.remove(at)
    }

    /// Evicts a segment. Elder ones may stay because they are held; the horizon passes them as well,
    /// because it says what is there above it, not what is gone below.
    fn remove(&mut self, id: SegmentId, next_sequence: u64) {
        if let Some(Member { flow: Flow::Live, .. }) = self.take(id) {
            let end = self.after(id).unwrap_or(next_sequence);
            self.horizon_sequence = self.horizon_sequence.max(end);
        }
    }

    /// The base sequence of the segment that was opened for clients' writes after `id`.
    fn after(&self, id: SegmentId) -> Option<u64> {
        let later = self.live().filter(|member| member.id > id);
        later.min_by_key(|member| member.id).map(|member| member.base_sequence)
    }

    fn is_ordered(&self) -> bool {
        let key = |member: &Member| (member.age, member.id);
        self.members.iter().zip(self.members.iter().skip(1)).all(|(a, b)| key(a) < key(b))
    }
}

impl Default for Ring {
    fn default() -> Self {
        Self {
            blobs: Turns::default(),
            entries: Turns::default(),
            pool_promises: BTreeMap::new(),
            next_number: 1,
            sequence_ceiling: 1,
            hlc: 0,
        }
    }
}

impl Ring {
    fn turns(&self, area: Area) -> &Turns {
        match area {
            Area::Blobs | Area::Pool => &self.blobs,
            Area::Entries => &self.entries,
        }
    }

    fn turns_mut(&mut self, area: Area) -> &mut Turns {
        match area {
            Area::Blobs | Area::Pool => &mut self.blobs,
            Area::Entries => &mut self.entries,
        }
    }

    /// The segments of both rings, each the eldest first.
    pub fn members(&self) -> impl Iterator<Item = Member> + '_ {
        self.blobs.members.iter().chain(&self.entries.members).copied()
    }

    /// The segments of one ring, the eldest first.
    pub fn members_of(&self, area: Area) -> impl DoubleEndedIterator<Item = Member> + '_ {
        self.turns(area).members.iter().copied()
    }

    /// How many segments a ring has.
    #[must_use]
    pub fn len(&self, area: Area) -> usize {
        self.turns(area).members.len()
    }

    /// Whether both rings are empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blobs.members.is_empty() && self.entries.members.is_empty()
    }

    /// Whether the segment is in its ring.
    #[must_use]
    pub fn contains(&self, segment: SegmentId) -> bool {
        self.member(segment).is_some()
    }

    /// The segment, if it is in its ring.
    #[must_use]
    pub fn member(&self, segment: SegmentId) -> Option<Member> {
        let area = segment.area();
        self.members_of(area).find(|member| member.id == segment && area != Area::Pool)
    }

    /// The segment of a flow that was opened last.
    #[must_use]
    pub fn newest(&self, area: Area, flow: Flow) -> Option<Member> {
        self.members_of(area).filter(|member| member.flow == flow).max_by_key(|member| member.id)
    }

    /// Whether the segment is the one of its flow that was opened last, and may take appends.
    #[must_use]
    pub fn is_newest(&self, segment: SegmentId) -> bool {
        let newest = |member: Member| self.newest(segment.area(), member.flow);
        self.member(segment).and_then(newest).is_some_and(|newest| newest.id == segment)
    }

    /// The one to be evicted next.
    #[must_use]
    pub fn eldest(&self, area: Area) -> Option<Member> {
        self.turns(area).members.front().copied()
    }

    /// Whether something younger would have to go for data of the hybrid logical time `age`: the ring
    /// has `segments_max` segments or more, and of those that one more takes away not all are older.
    #[must_use]
    pub fn is_too_old(&self, area: Area, age: u64, segments_max: usize) -> bool {
        let last = self.len(area).checked_sub(segments_max.max(1));
        last.and_then(|last| self.turns(area).members.get(last)).is_some_and(|it| age <= it.age)
    }

    /// No client's write to this ring of this or a higher sequence was evicted.
    #[must_use]
    pub fn horizon_sequence(&self, area: Area) -> u64 {
        self.turns(area).horizon_sequence
    }

    /// No sequence at or above this was given out before the ring was saved.
    #[must_use]
    pub fn sequence_ceiling(&self) -> u64 {
        self.sequence_ceiling
    }

    /// No hybrid logical time above this was given out before the ring was saved.
    #[must_use]
    pub fn hlc(&self) -> u64 {
        self.hlc
    }

    /// How a ring divides.
    #[must_use]
    pub fn generations(&self, area: Area) -> Generations {
        Generations::of(self.len(area))
    }

    /// Decides whether an artifact read from `segment` needs a second chance.
    #[must_use]
    pub fn after_read(&self, segment: SegmentId) -> AfterRead {
        let area = segment.area();
        match self.members_of(area).position(|member| member.id == segment) {
            Some(position) if position < self.generations(area).old => AfterRead::Refresh,
            Some(_) => AfterRead::Keep,
            // The ring moved on while the body was streaming. The bytes served were right; only the
            // place is gone.
            None => AfterRead::Forget,
        }
    }

    /// The ring with a new segment, and without those that have to go for it: as many of the eldest
    /// as it has more than `segments_max`.
    ///
    /// # Errors
    ///
    /// [`NoTurn`] if one of those may not go, as `is_held` says, or if the new one would be the
    /// eldest of a full ring. The ring stays as it is.
    pub fn rotated(
        &self,
        turn: Turn,
        segments_max: usize,
        is_held: impl Fn(&Member) -> bool,
    ) -> Result<(Self, Vec<Member>), NoTurn> {
        let Turn { area, flow, next_sequence, age } = turn;
        let mut ring = self.clone();
        let id = SegmentId::new(area, ring.next_number);
        ring.next_number += 1;
        let turns = ring.turns_mut(area);
        let mut victims = Vec::new();
        while turns.members.len() >= segments_max.max(1) {
            let Some(eldest) = turns.members.front().copied() else { break };
            if flow == Flow::CatchUp && age <= eldest.age {
                return Err(NoTurn::TooOld);
            }
            if is_held(&eldest) {
                return Err(NoTurn::Held(eldest));
            }
            turns.remove(eldest.id, next_sequence);
            victims.push(eldest);
        }
        // Live segments stay in the order in which they were opened, whatever the clock said.
        let newest = turns.live().map(|member| member.age).max().unwrap_or(0);
        let age = if flow == Flow::Live { age.max(newest) } else { age };
        let base_sequence = next_sequence;
        turns.insert(Member { id, base_sequence, age, flow, promised_until_ms: 0 });
        Ok((ring, victims))
    }

    /// The ring without the eldest segment of `area` that `is_held` does not hold, and that segment;
    /// `None` if there is none, or it is the only one.
    #[must_use]
    pub fn shrunk(
        &self,
        area: Area,
        next_sequence: u64,
        is_held: impl Fn(&Member) -> bool,
    ) -> Option<(Self, Member)> {
        let mut ring = self.clone();
        let turns = ring.turns_mut(area);
        if turns.members.len() < 2 {
            return None;
        }
        let eldest = turns.members.iter().find(|member| !is_held(member)).copied()?;
        turns.remove(eldest.id, next_sequence);
        Some((ring, eldest))
    }

    /// The ring without a segment that never got a file, and so lost nothing; as it is if it has none
    /// of that id.
    #[must_use]
    pub fn without(&self, segment: SegmentId) -> Self {
        let mut ring = self.clone();
        ring.turns_mut(segment.area()).take(segment);
        ring
    }

    /// The ring with only those segments that `keep` says yes to.
    #[must_use]
    pub fn retained(&self, keep: impl Fn(SegmentId) -> bool) -> Self {
        let mut ring = self.clone();
        let next_sequence = ring.sequence_ceiling;
        for gone in self.members().filter(|member| !keep(member.id)) {
            let turns = ring.turns_mut(gone.id.area());
            match turns.after(gone.id) {
                Some(_) => turns.remove(gone.id, next_sequence),
                // The last one is as a rule one that was about to be made, and held nothing.
                None => {
                    turns.take(gone.id);
                    turns.settle(next_sequence);
                }
            }
        }
        ring
    }

    /// The ring to be saved while `next_sequence` is given out next, and `hlc` was last.
    #[must_use]
    pub fn with_ceiling(mut self, next_sequence: u64, hlc: u64) -> Self {
        self.sequence_ceiling = self.sequence_ceiling.max(next_sequence + SEQUENCES_PER_SAVE);
        self.hlc = self.hlc.max(hlc);
        self
    }

    /// Until when something in this segment is promised, in milliseconds; 0 if nothing is.
    #[must_use]
    pub fn promised_until_ms(&self, segment: SegmentId) -> u64 {
        match segment.area() {
            Area::Pool => self.pool_promises.get(&segment).copied().unwrap_or(0),
            Area::Blobs | Area::Entries => {
                self.member(segment).map_or(0, |member| member.promised_until_ms)
            }
        }
    }

    /// The objects of the pool of which something is promised, and until when, in milliseconds.
    pub fn promised_objects(&self) -> impl Iterator<Item = (SegmentId, u64)> + '_ {
        self.pool_promises.iter().map(|(id, until_ms)| (*id, *until_ms))
    }

    /// The ring in which these segments are promised until `until_ms`, if they are in it. Promises
    /// for objects of the pool that ended before `now_ms` are dropped.
    #[must_use]
    pub fn promised(mut self, segments: &[SegmentId], until_ms: u64, now_ms: u64) -> Self {
        self.pool_promises.retain(|_, until_ms| *until_ms > now_ms);
        for object in segments.iter().filter(|segment| segment.area() == Area::Pool) {
            let marked = self.pool_promises.entry(*object).or_default();
            *marked = until_ms.max(*marked);
        }
        for turns in [&mut self.blobs, &mut self.entries] {
            for member in turns.members.iter_mut().filter(|it| segments.contains(&it.id)) {
                member.promised_until_ms = member.promised_until_ms.max(until_ms);
            }
        }
        self
    }

    /// The object of the pool is gone, and with it what was promised of it.
    pub fn forget_object(&mut self, object: SegmentId) {
        self.pool_promises.remove(&object);
    }

    /// The ring with all marks moved by so many milliseconds.
    #[must_use]
    pub fn promised_later_by(mut self, by_ms: i64) -> Self {
        let members = self.blobs.members.iter_mut().chain(self.entries.members.iter_mut());
        let marks = members.map(|member| &mut member.promised_until_ms);
        for until_ms in marks.chain(self.pool_promises.values_mut()).filter(|until| **until > 0) {
            *until_ms = until_ms.saturating_add_signed(by_ms);
        }
        self
    }

    /// The ring that gives no number of these segments out: files or rows are left of them, which go by it.
    /// RING may be older than those, where it was lost or the disk gave it away.
    #[must_use]
    pub fn with_numbers_above(mut self, left: &[SegmentId]) -> Self {
        let segments = left.iter().filter(|id| id.area() != Area::Pool);
        let above = segments.map(|id| id.number() + 1).max().unwrap_or(0);
        self.next_number = self.next_number.max(above);
        self
    }

    /// Until when anything is promised, in milliseconds; 0 if nothing is.
    #[must_use]
    pub fn furthest_promise_ms(&self) -> u64 {
        let segments = self.members().map(|member| member.promised_until_ms);
        segments.chain(self.pool_promises.values().copied()).max().unwrap_or(0)
    }

    /// The ring in which nothing is promised beyond `furthest_ms`.
    #[must_use]
    pub fn promised_at_most(mut self, furthest_ms: u64) -> Self {
        let members = self.blobs.members.iter_mut().chain(self.entries.members.iter_mut());
        let marks = members.map(|member| &mut member.promised_until_ms);
        for until_ms in marks.chain(self.pool_promises.values_mut()) {
            *until_ms = furthest_ms.min(*until_ms);
        }
        self
    }

    /// A ring of the segments that were found, where RING itself is lost. The sequences that were
    /// given out are unknown, so it goes on far above. What was promised is unknown too: everything
    /// is, until `promised_until_ms`.
    #[must_use]
    pub fn rebuilt(found: Vec<Member>, promised_until_ms: u64) -> Self {
        let mut ring = Self::default();
        let newest = found.iter().map(|member| member.base_sequence).max().unwrap_or(1);
        for member in found {
            ring.next_number = ring.next_number.max(member.id.number() + 1);
            ring.turns_mut(member.id.area()).insert(Member { promised_until_ms, ..member });
        }
        ring.sequence_ceiling = newest + SEQUENCES_PER_SEGMENT_MAX;
        ring.blobs.settle(ring.sequence_ceiling);
        ring.entries.settle(ring.sequence_ceiling);
        ring
    }

    /// Its bytes.
    ///
    /// # Panics
    ///
    /// If it has more segments than fit 32 bits.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let count = self.blobs.members.len() + self.entries.members.len();
        let promises = self.pool_promises.len();
        let bytes = HEAD_BYTES + promises * PROMISE_BYTES + count * MEMBER_BYTES + 4;
        let mut out = Vec::with_capacity(bytes);
        out.extend(MAGIC);
        out.extend(FORMAT.to_le_bytes());
        for turns in [&self.blobs, &self.entries] {
            let count = u32::try_from(turns.members.len()).expect("a ring is bounded");
            out.extend(count.to_le_bytes());
            out.extend(turns.horizon_sequence.to_le_bytes());
        }
        out.extend(self.next_number.to_le_bytes());
        out.extend(self.sequence_ceiling.to_le_bytes());
        out.extend(self.hlc.to_le_bytes());
        out.extend(u32::try_from(promises).expect("a pool is bounded").to_le_bytes());
        for (object, until_ms) in &self.pool_promises {
            out.extend(object.0.to_le_bytes());
            out.extend(until_ms.to_le_bytes());
        }
        for member in self.members() {
            out.extend(member.id.0.to_le_bytes());
            out.extend(member.base_sequence.to_le_bytes());
            out.extend(member.age.to_le_bytes());
            out.extend(u64::from(member.flow == Flow::CatchUp).to_le_bytes());
            out.extend(member.promised_until_ms.to_le_bytes());
        }
        let checksum = crc32c::crc32c(&out);
        out.extend(checksum.to_le_bytes());
        out
    }

    /// Reads it back.
    ///
    /// # Errors
    ///
    /// [`InvalidRing`] unless every byte is as `encode` wrote it.
    pub fn decode(bytes: &[u8]) -> Result<Self, InvalidRing> {
        let (body, checksum) = bytes.split_last_chunk::<4>().ok_or(InvalidRing::Length)?;
        if body.len() < HEAD_BYTES {
            return Err(InvalidRing::Length);
        }
        if body[..8] != MAGIC || crc32c::crc32c(body) != u32::from_le_bytes(*checksum) {
            return Err(InvalidRing::Checksum);
        }
        let half = |at: usize| u32::from_le_bytes(body[at..at + 4].try_into().unwrap_or_default());
        let word = |at: usize| u64::from_le_bytes(body[at..at + 8].try_into().unwrap_or_default());
        if half(8) != FORMAT {
            return Err(InvalidRing::Format(half(8)));
        }
        let (blobs, entries) = (half(12) as usize, half(24) as usize);
        let members_at = HEAD_BYTES + half(60) as usize * PROMISE_BYTES;
        if body.len() != members_at + (blobs + entries) * MEMBER_BYTES {
            return Err(InvalidRing::Length);
        }
        let promises = (HEAD_BYTES..members_at).step_by(PROMISE_BYTES);
        let mut members = (members_at..body.len()).step_by(MEMBER_BYTES).map(|at| Member {
            id: SegmentId(word(at)),
            base_sequence: word(at + 8),
            age: word(at + 16),
            flow: if word(at + 24) == 0 { Flow::Live } else { Flow::CatchUp },
            promised_until_ms: word(at + 32),
        });
        let mut turns = |count, horizon_sequence| Turns {
            members: members.by_ref().take(count).collect(),
            horizon_sequence,
        };
        let ring = Self {
            blobs: turns(blobs, word(16)),
            entries: turns(entries, word(28)),
            pool_promises: promises.map(|at| (SegmentId(word(at)), word(at + 8))).collect(),
            next_number: word(36),
            sequence_ceiling: word(44),
            hlc: word(52),
        };
        let below = ring.members().all(|member| member.id.number() < ring.next_number);
        let apart = ring.members_of(Area::Blobs).all(|member| member.id.area() == Area::Blobs)
            && ring.members_of(Area::Entries).all(|member| member.id.area() == Area::Entries);
        let ordered = ring.blobs.is_ordered() && ring.entries.is_ordered();
        if ordered && below && apart { Ok(ring) } else { Err(InvalidRing::Order) }
    }
}

/// What a new segment is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Which ring turns.
    pub area: Area,
    /// What goes there.
    pub flow: Flow,
    /// The sequence that is given out next.
    pub next_sequence: u64,
    /// The hybrid logical time of the first record.
    pub age: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(flow: Flow, age: u64) -> Turn {
        Turn { area: Area::Blobs, flow, next_sequence: age * 10 + 1, age }
    }

    fn ring_of(total: u64) -> Ring {
        let none = |_: &Member| false;
        (0..total).fold(Ring::default(), |ring, age| {
            ring.rotated(turn(Flow::Live, age), usize::MAX, none).unwrap().0
        })
    }

    fn numbers(ring: &Ring) -> Vec<u64> {
        ring.members().map(|member| member.id.number()).collect()
    }

    #[test]
    fn only_the_old_share_is_refreshed() {
        let ring = ring_of(10);
        let decide = |number| ring.after_read(SegmentId::new(Area::Blobs, number));
        assert_eq!(ring.generations(Area::Blobs), Generations { old: 2, middle: 4, young: 4 });
        assert_eq!(decide(0), AfterRead::Forget);
        assert_eq!(decide(1), AfterRead::Refresh);
        assert_eq!(decide(2), AfterRead::Refresh);
        assert_eq!(decide(3), AfterRead::Keep);
        assert_eq!(decide(10), AfterRead::Keep);
        assert_eq!(decide(11), AfterRead::Forget);
        assert_eq!(ring.after_read(SegmentId::new(Area::Entries, 1)), AfterRead::Forget);
        assert_eq!(ring.after_read(SegmentId::new(Area::Pool, 1)), AfterRead::Forget);
    }

    #[test]
    fn generations_are_one_two_two_at_any_size() {
        for (total, old, middle, young) in [
            (0, 0, 0, 0),
            (1, 0, 0, 1),
            (4, 0, 2, 2),
            (5, 1, 2, 2),
            (9, 1, 4, 4),
            (100, 20, 40, 40),
        ] {
            assert_eq!(Generations::of(total), Generations { old, middle, young }, "{total}");
        }
    }

    #[test]
    fn a_full_ring_gives_up_its_eldest_for_a_new_segment() {
        let none = |_: &Member| false;
        let (ring, victims) = ring_of(5).rotated(turn(Flow::Live, 5), 5, none).unwrap();
        assert_eq!(victims.iter().map(|v| v.id.number()).collect::<Vec<_>>(), [1]);
        assert_eq!(numbers(&ring), [2, 3, 4, 5, 6]);
        assert_eq!(ring.horizon_sequence(Area::Blobs), 11);
        let (ring, victims) = ring.rotated(turn(Flow::Live, 6), 0, none).unwrap();
        assert_eq!((ring.len(Area::Blobs), victims.len()), (1, 5));
        assert_eq!(numbers(&ring), [7]);
        assert_eq!(ring.horizon_sequence(Area::Blobs), 61);
    }

    #[test]
    fn what_is_held_does_not_go_and_a_set_back_clock_changes_no_order() {
        let held = |member: &Member| member.id.number() == 1;
        let refused = ring_of(5).rotated(turn(Flow::Live, 5), 5, held).unwrap_err();
        assert!(matches!(refused, NoTurn::Held(member) if held(&member)), "{refused:?}");
        let (ring, _) = ring_of(5).rotated(turn(Flow::Live, 2), 6, held).unwrap();
        assert_eq!(numbers(&ring), [1, 2, 3, 4, 5, 6]);
        assert_eq!(
            ring.newest(Area::Blobs, Flow::Live).map(|m| (m.id.number(), m.age)),
            Some((6, 4))
        );
        let (ring, gone) = ring.shrunk(Area::Blobs, 99, held).unwrap();
        assert_eq!((gone.id.number(), numbers(&ring)), (2, vec![1, 3, 4, 5, 6]));
        assert_eq!(ring.horizon_sequence(Area::Blobs), 21, "the gone one held what lies below");
    }

    #[test]
    fn what_was_caught_up_with_takes_its_place_by_age() {
        let none = |_: &Member| false;
        let catch_up = |ring: &Ring, age, max| ring.rotated(turn(Flow::CatchUp, age), max, none);
        let (ring, victims) = catch_up(&ring_of(5), 2, 6).unwrap();
        assert_eq!((numbers(&ring), victims.len()), (vec![1, 2, 3, 6, 4, 5], 0));
        assert_eq!(ring.newest(Area::Blobs, Flow::CatchUp).map(|m| m.id.number()), Some(6));
        assert_eq!(ring.newest(Area::Blobs, Flow::Live).map(|m| m.id.number()), Some(5));
        // Full: the eldest goes, unless what comes in is older still.
        let (ring, victims) = catch_up(&ring, 1, 6).unwrap();
        assert_eq!((numbers(&ring), victims[0].id.number()), (vec![2, 7, 3, 6, 4, 5], 1));
        assert_eq!(ring.horizon_sequence(Area::Blobs), 11);
        assert_eq!(catch_up(&ring, 1, 6).unwrap_err(), NoTurn::TooOld);
        assert!(ring.is_too_old(Area::Blobs, 1, 6) && !ring.is_too_old(Area::Blobs, 1, 7));
        assert!(!ring.is_too_old(Area::Blobs, 2, 6) && ring.is_too_old(Area::Blobs, 2, 4));
        assert!(!ring.is_too_old(Area::Blobs, u64::MAX, 6));
        assert!(!ring.is_too_old(Area::Entries, 0, 1), "an empty ring takes all");
        // Evicting it says nothing about clients' writes.
        let without = ring.retained(|id| id.number() != 7);
        assert_eq!(without.horizon_sequence(Area::Blobs), 11);
    }

    #[test]
    fn a_segment_that_never_got_a_file_leaves_no_trace_but_its_id() {
        let none = |_: &Member| false;
        let (ring, _) = ring_of(3).rotated(turn(Flow::Live, 3), 9, none).unwrap();
        let without = ring.without(SegmentId::new(Area::Blobs, 4));
        assert_eq!(numbers(&without), [1, 2, 3]);
        assert_eq!(without.horizon_sequence(Area::Blobs), 1, "nothing was evicted");
        let (ring, _) = without.rotated(turn(Flow::Live, 3), 9, none).unwrap();
        assert_eq!(numbers(&ring), [1, 2, 3, 5]);
        let only = ring_of(1).without(SegmentId::new(Area::Blobs, 1));
        assert_eq!((only.len(Area::Blobs), only.horizon_sequence(Area::Blobs)), (0, 1));
        assert_eq!(only.without(SegmentId::new(Area::Entries, 7)), only);
    }

    #[test]
    fn ids_do_not_recur_after_the_newest_segment_is_lost() {
        let ring = ring_of(3).retained(|id| id.number() < 3);
        let (ring, _) = ring.rotated(turn(Flow::Live, 9), 9, |_| false).unwrap();
        assert_eq!(numbers(&ring), [1, 2, 4]);
    }

    #[test]
    fn the_state_reads_back_and_every_flipped_bit_is_noticed() {
        let entries = Turn { area: Area::Entries, flow: Flow::CatchUp, next_sequence: 50, age: 9 };
        let (ring, _) = ring_of(3).rotated(entries, 9, |_| false).unwrap();
        let ring = ring.with_ceiling(31, 1 << 40).promised(&[SegmentId::new(Area::Pool, 8)], 9, 0);
        let promised = [SegmentId::new(Area::Blobs, 2), SegmentId::new(Area::Pool, 9)];
        let ring = ring.promised(&promised, 77, 10);
        let until = |id| ring.promised_until_ms(id);
        assert_eq!(promised.map(until), [77, 77]);
        assert_eq!(until(SegmentId::new(Area::Pool, 8)), 0, "it ended");
        assert_eq!(ring.furthest_promise_ms(), 77);
        let nearer = ring.clone().promised_at_most(50);
        assert_eq!(promised.map(|id| nearer.promised_until_ms(id)), [50, 50]);
        assert_eq!(nearer.promised_at_most(60).furthest_promise_ms(), 50);
        let later = ring.clone().promised_later_by(-7);
        assert_eq!(promised.map(|id| later.promised_until_ms(id)), [70, 70]);
        assert_eq!(later.promised_until_ms(SegmentId::new(Area::Blobs, 1)), 0, "nothing was");
        let mut fewer = ring.clone();
        fewer.forget_object(promised[1]);
        assert_eq!(promised.map(|id| fewer.promised_until_ms(id)), [77, 0]);
        let bytes = ring.encode();
        assert_eq!(Ring::decode(&bytes), Ok(ring));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Ring::decode(&damaged).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(Ring::decode(&bytes[..len]).is_err(), "cut to {len}");
        }
    }

    #[test]
    fn a_lost_state_is_rebuilt_by_age_and_everything_is_promised() {
        let member = |number, base_sequence, age, flow| Member {
            id: SegmentId::new(Area::Blobs, number),
            base_sequence,
            age,
            flow,
            promised_until_ms: 0,
        };
        let found = vec![
            member(7, 70, 700, Flow::Live),
            member(3, 30, 300, Flow::Live),
            member(9, 90, 200, Flow::CatchUp),
        ];
        let ring = Ring::rebuilt(found, 5);
        assert_eq!(numbers(&ring), [9, 3, 7]);
        assert!(ring.members().all(|member| member.promised_until_ms == 5));
        assert_eq!(ring.horizon_sequence(Area::Blobs), 30);
        assert!(ring.sequence_ceiling() > 90);
        let (ring, _) = ring.rotated(turn(Flow::Live, 1 << 50), 9, |_| false).unwrap();
        assert_eq!(ring.newest(Area::Blobs, Flow::Live).map(|m| m.id.number()), Some(10));
        let left = [SegmentId::new(Area::Entries, 20), SegmentId::new(Area::Pool, 99)];
        let (ring, _) = ring
            .with_numbers_above(&left)
            .rotated(turn(Flow::Live, 1 << 51), 9, |_| false)
            .unwrap();
        assert_eq!(ring.newest(Area::Blobs, Flow::Live).map(|m| m.id.number()), Some(21));
        assert_eq!(ring.clone().with_numbers_above(&[]), ring);
    }
}
