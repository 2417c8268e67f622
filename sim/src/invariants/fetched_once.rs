//! Nodes that catch up fetch what they lack, and each of it once.

use super::{Invariant, Violation};
use crate::{report::CatchUp, scenario::MILLION};

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "fetched_once",
    demands: "the links to the nodes of a catch-up carry at most `fetched_at_most` times the bytes \
              of the bodies that those nodes lacked: bodies, comparisons, requests and all",
    checked: "at the end of every catch-up, where `fetched_at_most` is given",
};

/// Judges a catch-up; `at_most` in millionths.
///
/// # Errors
///
/// If too much moved, nothing was missing, not all of it came, or the ring turned, so that what
/// was missing is not known.
pub fn check(catch_up: &CatchUp, at_most: u64) -> Result<(), Violation> {
    let CatchUp { phase, missing_bytes, gained_bytes, moved_bytes, evicted_segments, .. } =
        catch_up;
    let moved = u128::from(*moved_bytes) * u128::from(MILLION);
    let is_lean = moved <= u128::from(*missing_bytes) * u128::from(at_most);
    let is_whole = *missing_bytes > 0 && gained_bytes >= missing_bytes;
    if is_lean && is_whole && *evicted_segments == 0 {
        return Ok(());
    }
    let times = *moved_bytes as f64 / (*missing_bytes).max(1) as f64;
    Err(INVARIANT.violated(format!(
        "phase {phase}: the links carried {moved_bytes} bytes, {times:.4} times the {missing_bytes} \
         bytes of bodies that were missing, of which {gained_bytes} came; expected at most {:.4}; \
         {evicted_segments} segments were evicted",
        at_most as f64 / 1e6,
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catch_up(missing_bytes: u64, gained_bytes: u64, moved_bytes: u64) -> CatchUp {
        CatchUp {
            phase: "p".to_owned(),
            took_nanos: 1,
            missing_bytes,
            gained_bytes,
            moved_bytes,
            capacity_bytes_per_second: 1,
            round_trip_nanos: 1,
            evicted_segments: 0,
        }
    }

    #[test]
    fn what_moves_more_than_once_is_reported() {
        let check = |missing, gained, moved| check(&catch_up(missing, gained, moved), 1_100_000);
        assert!(check(1000, 1000, 1100).is_ok());
        let twice = check(1000, 1000, 1101).unwrap_err();
        assert!(twice.reason.contains("1.1010 times"), "{twice}");
        assert!(check(1000, 999, 1000).is_err(), "not all came");
        assert!(check(0, 0, 0).is_err(), "nothing was missing");
    }

    #[test]
    fn a_ring_that_turned_leaves_nothing_to_judge() {
        let turned = CatchUp { evicted_segments: 1, ..catch_up(10, 10, 10) };
        assert!(check(&turned, 1_100_000).is_err());
    }
}
