//! What the store may hold: from the disk, unless told otherwise.
//!
//! - unset: half of the file system; never over four fifths of it, whatever was set
//! - of that, 70 % for the ring of bodies, 25 % for the pool of large objects, 5 % for the ring of
//!   entries
//! - a ring has five segments at least; where its share is smaller than that, its segments shrink

use std::fmt;

use crate::record::Area;

/// A ring has at least one old, two middle and two young segments.
pub const SEGMENTS_MIN: usize = 5;
/// Segments do not shrink below this many bytes.
pub const SEGMENT_BYTES_MIN: u64 = 64 * 1024;
/// An object over this part of a segment goes to the pool.
pub const LARGE_PART: u64 = 8;

/// Parts of the capacity, in percent.
const BLOBS_PERCENT: u64 = 70;
const POOL_PERCENT: u64 = 25;

/// One ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingCapacity {
    /// Segments at the most, and never under [`SEGMENTS_MIN`].
    pub segments_max: usize,
    /// No segment is larger.
    pub segment_bytes: u64,
}

impl RingCapacity {
    /// All segments together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segment_bytes.saturating_mul(self.segments_max as u64)
    }

    /// A record over this many bytes goes to the pool.
    #[must_use]
    pub fn record_bytes_max(&self) -> u64 {
        self.segment_bytes / LARGE_PART
    }
}

/// What the store may hold, and how that came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// The ring of bodies.
    pub blobs: RingCapacity,
    /// The ring of entries.
    pub entries: RingCapacity,
    /// The pool of large objects, in bytes.
    pub pool_bytes: u64,
    /// What all of them may hold together, in bytes.
    pub bytes: u64,
    /// What was asked for, in bytes, if it was.
    pub wanted_bytes: Option<u64>,
    /// The size of the disk, in bytes; 0 if unknown.
    pub disk_bytes: u64,
}

/// The disk is so small that not even the smallest rings fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a disk of {disk_bytes} bytes is too small: {needed_bytes} bytes are needed for the smallest \
     rings, in four fifths of it; give the data directory a larger volume"
)]
pub struct TooSmall {
    /// The disk.
    pub disk_bytes: u64,
    /// What the smallest rings take.
    pub needed_bytes: u64,
}

/// The capacity where `wanted_bytes` was set or not, on a disk of `disk_bytes` (0 if unknown), with
/// segments of `segment_bytes` where there is room for them.
///
/// # Errors
///
/// [`TooSmall`] if the disk is known and has no room for the smallest rings.
pub fn capacity(
    wanted_bytes: Option<u64>,
    disk_bytes: u64,
    segment_bytes: u64,
) -> Result<Capacity, TooSmall> {
    let segment_bytes = segment_bytes.max(SEGMENT_BYTES_MIN);
    let ring_min = |segment_bytes: u64| segment_bytes.saturating_mul(SEGMENTS_MIN as u64);
    // What the rings need at their floor, so that each has its share of it.
    let floor_of =
        |segment_bytes| ring_min(segment_bytes).saturating_mul(100).div_ceil(BLOBS_PERCENT);
    let ceiling_bytes = if disk_bytes > 0 { disk_bytes / 5 * 4 } else { u64::MAX };
    let wanted = match wanted_bytes {
        Some(wanted) => wanted,
        None if disk_bytes > 0 => disk_bytes / 2,
        None => floor_of(segment_bytes),
    };
    let least_bytes = ring_min(SEGMENT_BYTES_MIN) * 2;
    if ceiling_bytes < least_bytes {
        return Err(TooSmall { disk_bytes, needed_bytes: least_bytes });
    }
    let bytes = wanted.min(ceiling_bytes).max(least_bytes);
    let entries_bytes = part(bytes, 100 - BLOBS_PERCENT - POOL_PERCENT);
    let entries = ring(entries_bytes, segment_bytes);
    // Where the smallest ring of entries is more than its share, the pool pays for it.
    let blobs = ring(part(bytes, BLOBS_PERCENT), segment_bytes);
    let pool_bytes = bytes.saturating_sub(blobs.bytes()).saturating_sub(entries.bytes());
    let pool_bytes = pool_bytes.min(part(bytes, POOL_PERCENT));
    Ok(Capacity { blobs, entries, pool_bytes, bytes, wanted_bytes, disk_bytes })
}

fn part(bytes: u64, percent: u64) -> u64 {
    // Divided first: capacities near the limit of the type must not wrap.
    bytes / 100 * percent + bytes % 100 * percent / 100
}

fn ring(share_bytes: u64, segment_bytes: u64) -> RingCapacity {
    let fitting = share_bytes / SEGMENTS_MIN as u64 / SEGMENT_BYTES_MIN * SEGMENT_BYTES_MIN;
    let segment_bytes = segment_bytes.min(fitting).max(SEGMENT_BYTES_MIN);
    let segments = usize::try_from(share_bytes / segment_bytes).unwrap_or(usize::MAX);
    RingCapacity { segments_max: segments.max(SEGMENTS_MIN), segment_bytes }
}

impl Capacity {
    /// The ring of an area; that of bodies for the pool, whose objects are measured by it.
    #[must_use]
    pub fn ring(&self, area: Area) -> RingCapacity {
        match area {
            Area::Blobs | Area::Pool => self.blobs,
            Area::Entries => self.entries,
        }
    }

    /// Whether less is given than was asked for.
    #[must_use]
    pub fn is_clamped(&self) -> bool {
        self.wanted_bytes.is_some_and(|wanted| self.bytes < wanted)
    }
}

/// The arithmetic, for the log.
impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.wanted_bytes, self.disk_bytes) {
            (Some(wanted), _) if self.is_clamped() => write!(
                f,
                "{wanted} bytes were asked for, and four fifths of a disk of {} are {}: ",
                self.disk_bytes, self.bytes
            )?,
            (Some(wanted), _) => write!(f, "{wanted} bytes were asked for: ")?,
            (None, 0) => write!(f, "the size of the disk is unknown: ")?,
            (None, disk) => write!(f, "half of a disk of {disk} bytes: ")?,
        }
        let Self { blobs, entries, pool_bytes, bytes, .. } = self;
        write!(
            f,
            "{bytes} bytes, as {} segments of {} for bodies, {pool_bytes} for the pool, {} segments \
             of {} for entries",
            blobs.segments_max, blobs.segment_bytes, entries.segments_max, entries.segment_bytes
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;
    const TIB: u64 = 1 << 40;

    #[test]
    fn capacity_follows_the_disk_between_its_floor_and_its_ceiling() {
        for (wanted, disk, bytes, segments, segment, clamped) in [
            // Half of the disk; the incident had 2.5 GiB of ring on this one.
            (None, 496 * GIB, 248 * GIB, 347, GIB / 2, false),
            (Some(10 * GIB), 496 * GIB, 10 * GIB, 14, GIB / 2, false),
            (Some(450 * GIB), 496 * GIB, 496 * GIB / 5 * 4, 555, GIB / 2, true),
            (None, 8 * TIB, 4 * TIB, 5734, GIB / 2, false),
            // Unknown: the floor of five segments of the size that was set.
            (None, 0, (GIB / 2 * 500).div_ceil(70), 5, GIB / 2, false),
            (Some(10 * GIB), 0, 10 * GIB, 14, GIB / 2, false),
            // Small disks: the segments shrink, and the four fifths are never exceeded.
            (None, 2 * GIB, GIB, 5, 2293 * 64 * KIB, false),
            (Some(TIB), 2 * GIB, 2 * GIB / 5 * 4, 5, 3670 * 64 * KIB, true),
            (None, 256 * MIB, 128 * MIB, 5, 286 * 64 * KIB, false),
            (Some(1), 100 * GIB, 640 * KIB, 7, 64 * KIB, false),
        ] {
            let it = capacity(wanted, disk, GIB / 2).unwrap();
            let got = (it.bytes, it.blobs.segments_max, it.blobs.segment_bytes, it.is_clamped());
            assert_eq!(got, (bytes, segments, segment, clamped), "{wanted:?} of {disk}: {it}");
        }
        let needed_bytes = 640 * KIB;
        let disk_bytes = 700 * KIB;
        assert_eq!(capacity(None, disk_bytes, MIB), Err(TooSmall { disk_bytes, needed_bytes }));
    }

    #[test]
    fn the_warning_shows_the_arithmetic() {
        let text = capacity(Some(9 * GIB), 10 * GIB, GIB / 2).unwrap().to_string();
        assert_eq!(
            text,
            "9663676416 bytes were asked for, and four fifths of a disk of 10737418240 are \
             8589934592: 8589934592 bytes, as 11 segments of 536870912 for bodies, 2147483648 for \
             the pool, 5 segments of 85852160 for entries"
        );
    }

    proptest! {
        #[test]
        fn the_parts_never_exceed_the_whole_nor_the_whole_the_ceiling(
            wanted in proptest::option::of(any::<u64>()),
            disk in 1_u64 << 20..1_u64 << 60,
            segment in 1_u64..1_u64 << 40,
        ) {
            let it = capacity(wanted, disk, segment).unwrap();
            prop_assert!(it.bytes <= disk / 5 * 4);
            let parts = it.blobs.bytes() + it.entries.bytes() + it.pool_bytes;
            prop_assert!(parts <= it.bytes, "{}", it);
            for ring in [it.blobs, it.entries] {
                prop_assert!(ring.segments_max >= SEGMENTS_MIN);
                prop_assert!(ring.segment_bytes <= segment.max(SEGMENT_BYTES_MIN));
            }
        }
    }
}
