//! A node holds no more of its disk than its capacity and what is declared to come on top.

use kura_core::capacity::Capacity;

use super::{Invariant, Violation};

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "disk_ceiling",
    demands: "the named files of a node never hold more than its capacity, its staging budget, its \
              catalog and one that was set aside, three segments of each ring that are on their way out, and the ends of blocks",
    checked: "after every disk effect of every node, once its staging was swept",
};

/// Segments of a ring that may lie there beside the ring: two to be cleared up, and one while what
/// is promised is copied forward.
const SEGMENTS_BESIDE: u64 = 3;
/// What a file may hold beside its bytes: the blocks in which they begin and end.
const FILE_SLACK_BYTES: u64 = 16 * 1024;
/// LOCK, IDENTITY, RING and the next version of either, and directories.
const STATE_BYTES: u64 = 4 << 20;

/// What one node may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ceiling {
    bytes: u64,
}

impl Ceiling {
    /// The ceiling of a node of this capacity.
    #[must_use]
    pub fn new(capacity: &Capacity, staging_bytes_max: u64) -> Self {
        let Capacity { blobs, entries, pool_bytes, .. } = *capacity;
        let rings = [blobs, entries].map(|ring| {
            let blocks = FILE_SLACK_BYTES * (ring.segments_max as u64 + SEGMENTS_BESIDE);
            ring.bytes() + SEGMENTS_BESIDE * ring.segment_bytes + blocks
        });
        // No object is smaller than the largest record of a ring.
        let objects = pool_bytes / blobs.record_bytes_max().min(entries.record_bytes_max()).max(1);
        let pool = pool_bytes + (objects + 1) * FILE_SLACK_BYTES;
        let bytes = rings.iter().sum::<u64>() + pool + staging_bytes_max + STATE_BYTES;
        Self { bytes }
    }

    /// Judges what a node holds: `named_bytes` in all, of which `catalog_bytes` are those of its catalog and of one set aside,
    /// with `staged_files` in flight.
    ///
    /// # Errors
    ///
    /// If it is more than this.
    pub fn check(
        self,
        node: &str,
        named_bytes: u64,
        catalog_bytes: u64,
        staged_files: u64,
    ) -> Result<(), Violation> {
        let slack_bytes = catalog_bytes + staged_files * FILE_SLACK_BYTES;
        if named_bytes <= self.bytes + slack_bytes {
            return Ok(());
        }
        Err(INVARIANT.violated(format!(
            "{node}: {named_bytes} bytes are held, and at most {} and {catalog_bytes} of the \
             catalog may be",
            self.bytes
        )))
    }
}

#[cfg(test)]
mod tests {
    use kura_core::capacity::capacity;

    use super::*;

    #[test]
    fn a_ring_of_its_size_passes_and_half_as_much_again_does_not() {
        const MIB: u64 = 1 << 20;
        let capacity = capacity(Some(1024 * MIB), 0, 16 * MIB).unwrap();
        let ceiling = Ceiling::new(&capacity, 64 * MIB);
        assert!(ceiling.check("n", 1024 * MIB, 0, 0).is_ok());
        assert!(ceiling.check("n", 1500 * MIB, 0, 0).is_err());
        assert!(ceiling.check("n", 1500 * MIB, 400 * MIB, 0).is_ok());
    }
}
