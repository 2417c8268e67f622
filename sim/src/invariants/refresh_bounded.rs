//! Copies forward are paid for by what clients write: a hot set larger than the ring does not make the
//! ring chase itself.

use super::{Invariant, Violation};

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "refresh_bounded",
    demands: "what a node without peers appends to its rings is at most twice what was put to it, \
              and a fifth of its capacity more for each of its lives",
    checked: "for every node without peers, at the end of the run",
};

/// What a node appended, and what may explain it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Appended {
    /// To files of its rings, with headers and all.
    pub bytes: u64,
    /// Bytes of the bodies of all puts that were tried.
    pub put_bytes: u64,
    /// How many puts those are.
    pub puts: u64,
    /// How often the node was started.
    pub lives: u64,
    /// How many segments it created.
    pub segments: u64,
    /// What the store may hold.
    pub capacity_bytes: u64,
}

/// What one record may hold beside its body, without the sums of its chunks.
const RECORD_BYTES: u64 = 1024;
/// The header of a segment, its block and what a start may skip in it.
const SEGMENT_SLACK_BYTES: u64 = 64 * 1024;
/// A body's sums are less than this part of it.
const SUMS_PART: u64 = 512;

/// Judges what a node appended in all of its lives.
///
/// # Errors
///
/// If it is more than writes and the old part of its rings explain.
pub fn check(node: &str, appended: Appended) -> Result<(), Violation> {
    let Appended { bytes, put_bytes, puts, lives, segments, capacity_bytes } = appended;
    let records_bytes = put_bytes + put_bytes / SUMS_PART + puts * RECORD_BYTES;
    let slack_bytes = (segments + lives) * SEGMENT_SLACK_BYTES;
    let bound_bytes = 2 * records_bytes + lives * (capacity_bytes / 5) + slack_bytes;
    if bytes <= bound_bytes {
        return Ok(());
    }
    Err(INVARIANT.violated(format!(
        "{node}: {bytes} bytes were appended to its rings, where {put_bytes} were put in {puts} \
         tries, in {lives} lives with {capacity_bytes} bytes of capacity: {bound_bytes} at the most"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_at_most_what_was_written_and_the_old_part() {
        let at = |bytes| {
            let of = Appended { bytes, put_bytes: 512_000, lives: 1, ..Appended::default() };
            check("n", Appended { capacity_bytes: 1_000_000, ..of }).is_ok()
        };
        let bound = 2 * 513_000 + 200_000 + SEGMENT_SLACK_BYTES;
        assert!(at(bound));
        assert!(!at(bound + 1));
    }
}
