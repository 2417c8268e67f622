//! Nodes that catch up are held back by their links, and not by waiting for answers.

use super::{Invariant, Violation};
use crate::{
    report::CatchUp,
    scenario::{LinkUsed, MILLION},
};

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "link_is_used",
    demands: "bodies of `bytes` come to the nodes of a catch-up within `bytes / (link_used x what \
              the links carry in a second) + round_trips x the longest round trip`",
    checked: "at the end of every catch-up, where `link_used` is given",
};

/// Bodies that came, as a share of what the links could carry in the time that is left when the
/// round trips are taken off; in millionths.
#[must_use]
pub fn share(catch_up: &CatchUp, round_trips: u32) -> u64 {
    let off = catch_up.round_trip_nanos.saturating_mul(u64::from(round_trips));
    let nanos = u128::from(catch_up.took_nanos.saturating_sub(off));
    let could = u128::from(catch_up.capacity_bytes_per_second) * nanos;
    let came = u128::from(catch_up.gained_bytes) * u128::from(MILLION) * 1_000_000_000;
    u64::try_from(came.checked_div(could).unwrap_or(u128::MAX)).unwrap_or(u64::MAX)
}

/// Judges a catch-up.
///
/// # Errors
///
/// If the share of the links is too low, nothing came, or the ring turned, so that what came is not
/// known.
pub fn check(catch_up: &CatchUp, demand: LinkUsed) -> Result<(), Violation> {
    let CatchUp { phase, took_nanos, gained_bytes, evicted_segments, .. } = catch_up;
    let found = share(catch_up, demand.round_trips);
    if *evicted_segments == 0 && *gained_bytes > 0 && found >= demand.share {
        return Ok(());
    }
    let percent = |millionths: u64| millionths as f64 / 10_000.0;
    Err(INVARIANT.violated(format!(
        "phase {phase}: {gained_bytes} bytes of bodies came in {:.3} s, {:.2}% of what the links \
         could carry beside {} round trips; expected {:.2}%; {evicted_segments} segments were \
         evicted",
        *took_nanos as f64 / 1e9,
        percent(found),
        demand.round_trips,
        percent(demand.share),
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten seconds over a link of 1000 bytes a second and a round trip of a second.
    fn catch_up(gained_bytes: u64) -> CatchUp {
        CatchUp {
            phase: "p".to_owned(),
            took_nanos: 10_000_000_000,
            missing_bytes: gained_bytes,
            gained_bytes,
            moved_bytes: gained_bytes,
            capacity_bytes_per_second: 1000,
            round_trip_nanos: 1_000_000_000,
            evicted_segments: 0,
        }
    }

    #[test]
    fn a_link_that_stands_idle_is_reported() {
        let demand = |round_trips| LinkUsed { share: 850_000, round_trips };
        assert!(check(&catch_up(8500), demand(0)).is_ok());
        let idle = check(&catch_up(8499), demand(0)).unwrap_err();
        assert!(idle.reason.contains("84.99%"), "{idle}");
        assert!(check(&catch_up(6800), demand(2)).is_ok(), "85% of 8 seconds");
        assert!(check(&catch_up(6799), demand(2)).is_err());
    }

    #[test]
    fn round_trips_excuse_nothing_that_did_not_come_and_nothing_that_was_evicted() {
        let demand = LinkUsed { share: 1, round_trips: 100 };
        assert!(check(&catch_up(1), demand).is_ok());
        assert!(check(&catch_up(0), demand).is_err());
        assert!(check(&CatchUp { evicted_segments: 1, ..catch_up(1) }, demand).is_err());
    }
}
