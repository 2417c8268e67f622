//! The ring: which segments count, in the order of their age, and what their position means.
//!
//! ```text
//! eldest                                             newest
//! [ old: a fifth ][ middle                ][ young          ]   <- appends go to the newest
//!   next to be evicted; a read here deserves a second chance
//! ```
//!
//! Generations are computed from positions and kept nowhere, so a restart changes nothing. Readers
//! trust the ring alone: a reference into a segment outside of it is a miss, whatever lies on disk.

use std::collections::VecDeque;

use crate::record::SegmentId;

/// What the ring knows of one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which.
    pub id: SegmentId,
    /// No record in it has a lower sequence.
    pub base_sequence: u64,
}

/// The state of the ring, as the file RING holds it.
///
/// Ids and base sequences grow from the eldest member to the newest, and `next_id` lies above them
/// all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    members: VecDeque<Member>,
    next_id: u64,
    /// Every sequence given out so far lies below it; after an unclean stop counting goes on here.
    sequence_ceiling: u64,
    /// The last hybrid logical time that was given out lies at or below it, when the state was
    /// saved.
    hlc: u64,
}

/// What to do about an artifact that was read or vouched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterRead {
    /// It lies in the old share: copy it forward, or it goes with its segment.
    Refresh,
    /// It will be here for a while.
    Keep,
    /// Its segment has left the ring since; what was served was right.
    Forget,
}

/// How many segments each generation has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generations {
    /// Next to be evicted: a fifth of the ring.
    pub old: usize,
    /// Between.
    pub middle: usize,
    /// The newest.
    pub young: usize,
}

impl Generations {
    /// The split of a ring of `total` segments: old is a fifth, the rest one to one.
    #[must_use]
    pub fn of(total: usize) -> Self {
        let old = total / 5;
        let middle = (total - old) / 2;
        Self { old, middle, young: total - old - middle }
    }
}

/// Why the bytes are not a state of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRing {
    /// Empty, cut short, or with something behind its end.
    #[error("wrong length")]
    Length,
    /// Something else, or damaged.
    #[error("wrong magic or checksum")]
    Checksum,
    /// Written by another version.
    #[error("format {0}, this version reads 1 only")]
    Format(u32),
    /// The checksum fits, but ids or sequences do not grow.
    #[error("members out of order")]
    Order,
}

/// Sequences given out between two saves of the ring, at the most.
pub const SEQUENCES_PER_SAVE: u64 = 1 << 20;

/// No segment holds as many records as this.
const SEQUENCES_PER_SEGMENT_MAX: u64 = 1 << 40;

const MAGIC: [u8; 8] = *b"KURARING";
const FORMAT: u32 = 1;
const HEAD_BYTES: usize = 40;
const MEMBER_BYTES: usize = 16;

impl Default for Ring {
    /// A ring without segments, as in a new data directory.
    fn default() -> Self {
        Self { members: VecDeque::new(), next_id: 1, sequence_ceiling: 1, hlc: 0 }
    }
}

impl Ring {
    /// The members, eldest first.
    pub fn members(&self) -> impl ExactSizeIterator<Item = Member> + DoubleEndedIterator + '_ {
        self.members.iter().copied()
    }

    /// How many segments.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether references into `segment` count.
    #[must_use]
    pub fn contains(&self, segment: SegmentId) -> bool {
        self.position(segment).is_some()
    }

    /// The segment that takes appends.
    #[must_use]
    pub fn newest(&self) -> Option<Member> {
        self.members.back().copied()
    }

    /// Every acknowledged write from this sequence on is still here; `ceiling` of an empty ring.
    #[must_use]
    pub fn horizon_sequence(&self) -> u64 {
        self.members.front().map_or(self.sequence_ceiling, |eldest| eldest.base_sequence)
    }

    /// Where to go on counting after a stop that may have lost the count.
    #[must_use]
    pub fn sequence_ceiling(&self) -> u64 {
        self.sequence_ceiling
    }

    /// The hybrid logical time to go on from.
    #[must_use]
    pub fn hlc(&self) -> u64 {
        self.hlc
    }

    /// The generations as they are now.
    #[must_use]
    pub fn generations(&self) -> Generations {
        Generations::of(self.members.len())
    }

    /// Decides whether an artifact read from `segment` needs a second chance.
    #[must_use]
    pub fn after_read(&self, segment: SegmentId) -> AfterRead {
        match self.position(segment) {
            Some(position) if position < self.generations().old => AfterRead::Refresh,
            Some(_) => AfterRead::Keep,
            None => AfterRead::Forget,
        }
    }

    /// The ring after one turn: with a new segment for sequences from `next_sequence` on, and
    /// without the eldest ones that do not fit `segments_max` any more. Those are returned, eldest
    /// first.
    ///
    /// # Panics
    ///
    /// If `next_sequence` lies below what the ring already holds.
    #[must_use]
    pub fn rotated(&self, segments_max: usize, next_sequence: u64) -> (Self, Vec<Member>) {
        assert!(
            self.newest().is_none_or(|newest| newest.base_sequence <= next_sequence),
            "sequences grow"
        );
        let mut ring = self.clone();
        let mut victims = Vec::new();
        while ring.members.len() >= segments_max.max(1) {
            victims.extend(ring.members.pop_front());
        }
        let id = SegmentId(ring.next_id);
        ring.next_id += 1;
        ring.members.push_back(Member { id, base_sequence: next_sequence });
        (ring, victims)
    }

    /// The ring without its eldest segment, which is returned; to make room where the disk has
    /// none. `None` when it has but one.
    #[must_use]
    pub fn shrunk(&self) -> Option<(Self, Member)> {
        let mut ring = self.clone();
        let eldest = ring.members.pop_front()?;
        (!ring.members.is_empty()).then_some((ring, eldest))
    }

    /// The ring with only those members that `keep` says yes to.
    #[must_use]
    pub fn retained(&self, keep: impl Fn(SegmentId) -> bool) -> Self {
        let mut ring = self.clone();
        ring.members.retain(|member| keep(member.id));
        ring
    }

    /// The ring with a ceiling that covers [`SEQUENCES_PER_SAVE`] from `next_sequence` on, and the
    /// hybrid logical time `hlc`. Neither ever goes down.
    #[must_use]
    pub fn with_ceiling(mut self, next_sequence: u64, hlc: u64) -> Self {
        self.sequence_ceiling = self.sequence_ceiling.max(next_sequence + SEQUENCES_PER_SAVE);
        self.hlc = self.hlc.max(hlc);
        self
    }

    /// A ring of segments that were found on the disk, where the state itself was lost. Those whose
    /// order of ids and of sequences disagree are left out.
    #[must_use]
    pub fn rebuilt(mut found: Vec<Member>) -> Self {
        found.sort_by_key(|member| member.id);
        let mut ring = Self::default();
        for member in found {
            ring.next_id = member.id.0 + 1;
            if ring.newest().is_none_or(|newest| newest.base_sequence <= member.base_sequence) {
                ring.members.push_back(member);
            }
        }
        let newest = ring.newest().map_or(1, |newest| newest.base_sequence);
        ring.sequence_ceiling = newest + SEQUENCES_PER_SEGMENT_MAX;
        ring
    }

    /// The bytes of the file RING.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD_BYTES + self.members.len() * MEMBER_BYTES + 4);
        out.extend(MAGIC);
        out.extend(FORMAT.to_le_bytes());
        out.extend(u32::try_from(self.members.len()).expect("a ring is bounded").to_le_bytes());
        out.extend(self.next_id.to_le_bytes());
        out.extend(self.sequence_ceiling.to_le_bytes());
        out.extend(self.hlc.to_le_bytes());
        for member in &self.members {
            out.extend(member.id.0.to_le_bytes());
            out.extend(member.base_sequence.to_le_bytes());
        }
        let checksum = crc32c::crc32c(&out);
        out.extend(checksum.to_le_bytes());
        out
    }

    /// Reads the bytes back.
    ///
    /// # Errors
    ///
    /// [`InvalidRing`] unless they are as [`Ring::encode`] made them.
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
        if body.len() != HEAD_BYTES + half(12) as usize * MEMBER_BYTES {
            return Err(InvalidRing::Length);
        }
        let members: VecDeque<Member> = (HEAD_BYTES..body.len())
            .step_by(MEMBER_BYTES)
            .map(|at| Member { id: SegmentId(word(at)), base_sequence: word(at + 8) })
            .collect();
        let ring = Self { members, next_id: word(16), sequence_ceiling: word(24), hlc: word(32) };
        let pairs = ring.members.iter().zip(ring.members.iter().skip(1));
        let grows = pairs.into_iter().all(|(elder, newer)| {
            elder.id < newer.id && elder.base_sequence <= newer.base_sequence
        });
        let below = ring.newest().is_none_or(|newest| newest.id.0 < ring.next_id);
        if grows && below { Ok(ring) } else { Err(InvalidRing::Order) }
    }

    fn position(&self, segment: SegmentId) -> Option<usize> {
        self.members.binary_search_by_key(&segment, |member| member.id).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring_of(total: usize) -> Ring {
        (0..total)
            .fold(Ring::default(), |ring, turn| ring.rotated(usize::MAX, turn as u64 * 10 + 1).0)
    }

    #[test]
    fn only_the_old_share_is_refreshed() {
        let ring = ring_of(10);
        let decide = |id| ring.after_read(SegmentId(id));
        assert_eq!(ring.generations(), Generations { old: 2, middle: 4, young: 4 });
        assert_eq!(decide(0), AfterRead::Forget);
        assert_eq!(decide(1), AfterRead::Refresh);
        assert_eq!(decide(2), AfterRead::Refresh);
        assert_eq!(decide(3), AfterRead::Keep);
        assert_eq!(decide(10), AfterRead::Keep);
        assert_eq!(decide(11), AfterRead::Forget);
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
        let (ring, victims) = ring_of(5).rotated(5, 51);
        assert_eq!(victims.iter().map(|v| v.id.0).collect::<Vec<_>>(), [1]);
        assert_eq!(ring.members().map(|m| m.id.0).collect::<Vec<_>>(), [2, 3, 4, 5, 6]);
        assert_eq!(ring.horizon_sequence(), 11);
        // A capacity that went down takes several at once; one segment always remains.
        let (ring, victims) = ring.rotated(0, 61);
        assert_eq!((ring.len(), victims.len()), (1, 5));
        assert_eq!(ring.newest().map(|m| m.id), Some(SegmentId(7)));
    }

    #[test]
    fn ids_do_not_recur_after_the_newest_segment_is_lost() {
        let ring = ring_of(3).retained(|id| id.0 < 3);
        assert_eq!(ring.rotated(9, 99).0.newest().map(|m| m.id), Some(SegmentId(4)));
    }

    #[test]
    fn the_state_reads_back_and_every_flipped_bit_is_noticed() {
        let ring = ring_of(3).with_ceiling(31, 1 << 40);
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
    fn a_lost_state_is_rebuilt_in_the_order_of_ids() {
        let member = |id, base_sequence| Member { id: SegmentId(id), base_sequence };
        let ring = Ring::rebuilt(vec![member(7, 70), member(3, 30), member(9, 60), member(8, 80)]);
        assert_eq!(ring.members().map(|m| m.id.0).collect::<Vec<_>>(), [3, 7, 8]);
        assert_eq!(ring.rotated(9, 2 << 40).0.newest().map(|m| m.id.0), Some(10));
        assert!(ring.sequence_ceiling() > 80);
    }
}
