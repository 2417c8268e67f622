//! How many segments the ring may have: from the disk, unless told otherwise.

/// What the ring may hold, and how that came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Segments at the most.
    pub segments_max: usize,
    /// What was asked for or derived, in bytes, before it was clamped.
    pub wanted_bytes: u64,
    /// The most that the disk allows, in bytes; unset where the size of the disk is unknown.
    pub ceiling_bytes: Option<u64>,
    /// Whether less is given than was asked for by a setting.
    pub clamped: bool,
}

/// The ring has at least one old, two middle and two young segments.
pub const SEGMENTS_MIN: usize = 5;

/// The capacity of a ring of segments of `segment_bytes`, where `wanted_bytes` was set or not, on a
/// disk of `disk_bytes` (0 if unknown): what was set, or else half of the disk; never over four
/// fifths of the disk; and never under [`SEGMENTS_MIN`] segments.
#[must_use]
pub fn capacity(wanted_bytes: Option<u64>, disk_bytes: u64, segment_bytes: u64) -> Capacity {
    let floor_bytes = segment_bytes.saturating_mul(SEGMENTS_MIN as u64);
    let ceiling_bytes = (disk_bytes > 0).then(|| disk_bytes / 5 * 4);
    let wanted = wanted_bytes.unwrap_or(disk_bytes / 2);
    let given = wanted.min(ceiling_bytes.unwrap_or(u64::MAX)).max(floor_bytes);
    Capacity {
        segments_max: usize::try_from(given / segment_bytes.max(1)).unwrap_or(usize::MAX),
        wanted_bytes: wanted,
        ceiling_bytes,
        clamped: wanted_bytes.is_some_and(|wanted| given < wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacity_follows_the_disk_between_its_floor_and_its_ceiling() {
        const GIB: u64 = 1 << 30;
        let segment = GIB / 2;
        for (wanted, disk, segments, clamped) in [
            (None, 496 * GIB, 496, false),
            (Some(10 * GIB), 496 * GIB, 20, false),
            (Some(450 * GIB), 496 * GIB, 793, true),
            (None, 0, 5, false),
            (Some(10 * GIB), 0, 20, false),
            (None, 3 * GIB, 5, false),
            (Some(GIB), 100 * GIB, 5, false),
        ] {
            let capacity = capacity(wanted, disk, segment);
            assert_eq!(capacity.segments_max, segments, "{wanted:?} of {disk}");
            assert_eq!(capacity.clamped, clamped, "{wanted:?} of {disk}");
        }
    }
}
