//! The quiet zone: what is younger than the old fifth of a full ring is not evicted.

use std::time::Duration;

use kura_core::{capacity::SEGMENT_BYTES_MIN, ring::Generations};

use super::{Invariant, Violation};

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "quiet_zone",
    demands: "while the disk has room, a ring evicts only when it has as many segments as its share \
              of the disk holds, full ones, and only from its old fifth; fresh writes stay for \
              `write_grace` wherever they are",
    checked: "whenever a node saves a ring without a segment that is still on its disk",
};

/// How large one ring should be, by the size of the disk and the settings alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FullRing {
    /// At least so many segments.
    pub segments: usize,
    /// None is larger; they may be smaller where the share is tiny.
    pub segment_bytes: u64,
}

impl FullRing {
    /// The ring that gets `percent` of the store on a disk of `disk_bytes` (0: nobody knows), of which
    /// it may use `wanted_bytes`, or half.
    #[must_use]
    pub fn of(
        percent: u64,
        disk_bytes: u64,
        wanted_bytes: Option<u64>,
        segment_bytes: u64,
    ) -> Self {
        let ceiling_bytes = if disk_bytes == 0 { u64::MAX } else { disk_bytes / 10 * 8 };
        let store_bytes = wanted_bytes.unwrap_or(disk_bytes / 2).min(ceiling_bytes);
        let share_bytes = store_bytes / 100 * percent;
        let least_bytes = SEGMENT_BYTES_MIN;
        let fifth_bytes = share_bytes / 5 / least_bytes * least_bytes;
        let segment_bytes = segment_bytes.min(fifth_bytes).max(least_bytes);
        let segments = usize::try_from(share_bytes / segment_bytes).unwrap_or(usize::MAX);
        Self { segments: segments.max(5), segment_bytes }
    }

    /// All segments together, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        u64::try_from(self.segments).unwrap_or(u64::MAX).saturating_mul(self.segment_bytes)
    }
}

/// A segment that is evicted.
#[derive(Clone, Copy, Debug)]
pub struct Victim {
    /// How many segments of its ring are older.
    pub position: usize,
    /// How long ago the last byte was appended for a client; `None` if none ever was, or nobody saw.
    pub unwritten_for: Option<Duration>,
}

/// A ring at the moment in which it loses a segment.
#[derive(Clone, Debug)]
pub struct Turning {
    /// Which ring.
    pub ring: &'static str,
    /// How large it should be.
    pub full: FullRing,
    /// How many segments it had.
    pub segments: usize,
    /// How many of those that take no more writes of clients are less than three quarters full,
    /// beyond those that a failing disk accounts for.
    pub sparse: u64,
    /// Whether the disk has room for everything that may be on its way.
    pub has_room: bool,
    /// What goes.
    pub victims: Vec<Victim>,
}

/// A node writes down when it opened a segment before it does so, and a group of writes is cut in two
/// by the turn: so much sooner it may take an end of writes for past.
const GRACE_SLACK: Duration = Duration::from_millis(500);

/// Judges an eviction.
///
/// # Errors
///
/// If something goes for which there is no need, or that is too young.
pub fn check(node: &str, turning: &Turning, write_grace: Duration) -> Result<(), Violation> {
    let Turning { ring, full, segments, sparse, has_room, victims } = turning;
    let violated = |why: String| Err(INVARIANT.violated(format!("{node}, {ring}: {why}")));
    for Victim { position, unwritten_for } in victims {
        if let Some(age) = unwritten_for.filter(|age| *age + GRACE_SLACK < write_grace) {
            return violated(format!(
                "segment {position} of {segments} is evicted, and was written to {age:?} ago; fresh \
                 writes stay for {write_grace:?}"
            ));
        }
        if !has_room {
            continue;
        }
        if *segments < full.segments {
            return violated(format!(
                "a segment is evicted while there are {segments}, and room for {}",
                full.segments
            ));
        }
        // A ring that had to grow beyond its size comes back to it.
        let may_go = Generations::of(*segments).old.max(segments + 1 - full.segments);
        if *position >= may_go {
            return violated(format!(
                "segment {position} of {segments} is evicted, and is not old"
            ));
        }
    }
    if *has_room && *sparse > 0 && !victims.is_empty() {
        return violated(format!(
            "a segment is evicted while {sparse} of {segments} are sealed and not even three \
             quarters full"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn a_ring_is_as_large_as_the_disk_allows() {
        let of = |disk, wanted| FullRing::of(70, disk, wanted, GIB / 2).segments;
        assert_eq!(of(496 * GIB, None), 347, "half");
        assert_eq!(of(496 * GIB, Some(10 * GIB)), 13);
        assert_eq!(of(10 * GIB, Some(100 * GIB)), 11, "four fifths");
        assert_eq!((of(2 * GIB, None), of(0, None)), (5, 5), "the floor");
    }

    fn turning(segments: usize, position: usize) -> Turning {
        let full = FullRing { segments: 10, segment_bytes: 1 };
        let victims = vec![Victim { position, unwritten_for: Some(Duration::from_secs(9)) }];
        Turning { ring: "blobs", full, segments, sparse: 0, has_room: true, victims }
    }

    fn passes(turning: &Turning) -> bool {
        check("n", turning, Duration::from_secs(5)).is_ok()
    }

    #[test]
    fn only_the_old_fifth_of_a_full_ring_goes() {
        assert!(passes(&turning(10, 0)) && passes(&turning(10, 1)));
        assert!(!passes(&turning(10, 2)), "not old");
        assert!(!passes(&turning(9, 0)), "not full");
        assert!(passes(&turning(14, 4)) && !passes(&turning(14, 5)), "it shrinks to its size");
        assert!(!passes(&Turning { sparse: 1, ..turning(10, 0) }), "full of nothing");
    }

    #[test]
    fn a_disk_without_room_takes_what_is_not_fresh() {
        let mut short = Turning { has_room: false, sparse: 3, ..turning(4, 2) };
        assert!(passes(&short));
        short.victims[0].unwritten_for = Some(Duration::from_secs(4));
        assert!(!passes(&short));
        short.victims[0].unwritten_for = None;
        assert!(passes(&short));
    }
}
