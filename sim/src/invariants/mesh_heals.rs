//! Once nothing fails any more, a mesh comes to hold the same everywhere, within a bound that
//! follows from what is missing and what it has to go through.

use std::time::Duration;

use kura_core::limits::FETCHES_MAX;
use kura_env::Instant;

use super::{Invariant, Violation};
use crate::holdings::Missing;

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "mesh_heals",
    demands: "nodes of a mesh are ready when their phase says so; after the last fault all are \
              ready and lack nothing within a bound made of back-offs, missing bytes over the \
              slowest link and round trips, and come closer to it all the while",
    checked: "at the end of a phase with `ready`, and from the end of the last phase on",
};

/// The longest pauses that may follow each other before a node asks again: it notices that a stream
/// stands still (30 s), waits a minute, and tries what failed five times, spaced.
pub const PATIENCE: Duration = Duration::from_secs(240);
/// Within this time something must come closer, where links take none.
pub const FLAT_MAX: Duration = Duration::from_secs(150);

/// How long a mesh may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Until nothing is missing.
    pub whole: Duration,
    /// From one thing that comes closer to the next. All that is missing may be under way at once,
    /// and come at one time.
    pub flat: Duration,
}

/// What the bound is made of.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// Of the slowest link between two nodes.
    pub bytes_per_second: u64,
    /// Of the longest way between two nodes.
    pub round_trip: Duration,
    /// For how long a silent peer is waited for.
    pub peer_wait: Duration,
}

/// How long it may take until nothing is missing.
#[must_use]
pub fn bound(missing: &[Missing], path: Path) -> Bound {
    let bytes: u64 = missing.iter().map(|it| it.bytes).sum();
    let most: u64 = missing.iter().map(|it| it.artifacts + it.outdated).max().unwrap_or(0);
    let rounds = u32::try_from(most / FETCHES_MAX as u64 + 16).unwrap_or(u32::MAX);
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(path.bytes_per_second.max(1));
    let transfer = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
    // Everything may have to go through the slowest link, which others use as well: twice.
    let round_trips = path.round_trip.saturating_mul(rounds);
    let whole = PATIENCE + path.peer_wait + transfer.saturating_mul(2) + round_trips;
    Bound { whole, flat: FLAT_MAX + transfer }
}

/// Whether a mesh comes closer to holding the same everywhere.
#[derive(Debug)]
pub struct Pulse {
    begun: Instant,
    bound: Bound,
    least: u64,
    closer_at: Instant,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// Wait on.
    Wait,
    /// It is over: nothing is missing, or nothing but versions that nobody gives up. Which of them
    /// is right is for `one_winner` to ask.
    Over,
}

impl Pulse {
    /// Begins to watch.
    #[must_use]
    pub fn new(begun: Instant, bound: Bound) -> Self {
        Self { begun, bound, least: u64::MAX, closer_at: begun }
    }

    /// Judges what is missing now, and who is not ready and why.
    ///
    /// # Errors
    ///
    /// If the bound has passed, or nothing came closer for too long.
    pub fn check(
        &mut self,
        now: Instant,
        missing: &[Missing],
        unready: &[String],
    ) -> Result<Beat, Violation> {
        let absent: u64 = missing.iter().map(|it| it.artifacts).sum();
        let left = absent + missing.iter().map(|it| it.outdated).sum::<u64>();
        if left < self.least {
            (self.least, self.closer_at) = (left, now);
        }
        if left == 0 && unready.is_empty() {
            return Ok(Beat::Over);
        }
        let waited = now.since(self.begun);
        let flat = now.since(self.closer_at);
        let why = if waited >= self.bound.whole {
            format!("{waited:?} after the last fault (the bound is {:?})", self.bound.whole)
        } else if flat >= self.bound.flat && left > 0 {
            format!("{waited:?} after the last fault nothing came closer for {flat:?}")
        } else {
            return Ok(Beat::Wait);
        };
        if absent == 0 && unready.is_empty() {
            return Ok(Beat::Over);
        }
        let lack = |it: &Missing| {
            let Missing { node, artifacts, outdated, example, .. } = it;
            format!(
                "{node} lacks {artifacts} artifacts and holds {outdated} old ones, such as {example}"
            )
        };
        let what: Vec<String> = missing.iter().map(lack).chain(unready.iter().cloned()).collect();
        Err(INVARIANT.violated(format!("{why}: {}", what.join("; "))))
    }
}

/// Judges the end of a phase that was to leave nodes ready.
///
/// # Errors
///
/// If one is not.
pub fn check_phase(phase: &str, unready: &[String]) -> Result<(), Violation> {
    if unready.is_empty() {
        return Ok(());
    }
    Err(INVARIANT.violated(format!("at the end of phase {phase}: {}", unready.join("; "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(artifacts: u64, bytes: u64) -> Vec<Missing> {
        let (node, example) = ("n".to_owned(), "/k".to_owned());
        vec![Missing { node, artifacts, outdated: 0, bytes, example }]
    }

    fn at(seconds: u64) -> Instant {
        Instant(seconds * 1_000_000_000)
    }

    fn within(seconds: u64) -> Bound {
        Bound { whole: Duration::from_secs(seconds), flat: FLAT_MAX }
    }

    #[test]
    fn the_bound_follows_from_bytes_and_round_trips() {
        let path = |bytes_per_second, millis| Path {
            bytes_per_second,
            round_trip: Duration::from_millis(millis),
            peer_wait: Duration::from_secs(60),
        };
        let bound = |missing: &[Missing], path| super::bound(missing, path).whole;
        let least = bound(&[], path(1000, 0));
        assert_eq!(least, Duration::from_secs(300));
        assert_eq!(bound(&missing(1, 1000), path(1000, 0)) - least, Duration::from_secs(2));
        assert_eq!(bound(&missing(160, 0), path(1000, 100)) - least, Duration::from_millis(2600));
        let flat = super::bound(&missing(1, 9000), path(1000, 0)).flat;
        assert_eq!(flat, FLAT_MAX + Duration::from_secs(9), "all of it may come at one time");
    }

    #[test]
    fn too_late_and_flat_are_reported_and_a_mesh_that_comes_closer_is_not() {
        let mut pulse = Pulse::new(at(0), within(1000));
        for step in 0..9 {
            let left = missing(10 - step, 0);
            assert!(pulse.check(at(step * 100), &left, &[]).is_ok(), "comes closer");
        }
        assert!(pulse.check(at(900), &missing(2, 0), &[]).is_ok());
        let flat = pulse.check(at(960), &missing(2, 0), &[]).unwrap_err();
        assert!(flat.reason.contains("nothing came closer"), "{flat}");
        let mut late = Pulse::new(at(0), within(100));
        assert!(late.check(at(99), &[], &["n: joining".to_owned()]).is_ok());
        let late = late.check(at(100), &[], &["n: joining".to_owned()]).unwrap_err();
        assert!(late.reason.contains("n: joining"), "{late}");
    }

    #[test]
    fn it_is_over_when_nothing_is_missing_or_versions_alone_stay_apart() {
        let mut pulse = Pulse::new(at(0), within(1000));
        let mut apart = missing(0, 0);
        apart[0].outdated = 3;
        assert_eq!(pulse.check(at(0), &apart, &[]), Ok(Beat::Wait));
        assert_eq!(pulse.check(at(100), &[], &["n: joining".to_owned()]), Ok(Beat::Wait));
        assert_eq!(pulse.check(at(100), &[], &[]), Ok(Beat::Over));
        let mut pulse = Pulse::new(at(0), within(1000));
        assert_eq!(pulse.check(at(0), &apart, &[]), Ok(Beat::Wait));
        assert_eq!(pulse.check(at(150), &apart, &[]), Ok(Beat::Over));
    }

    #[test]
    fn a_phase_that_was_to_end_ready_and_did_not_is_reported() {
        assert!(check_phase("p", &[]).is_ok());
        assert!(check_phase("p", &["n: joining".to_owned()]).is_err());
    }
}
