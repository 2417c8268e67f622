//! What a client writes to a node is taken in by that node alone: peers that are dead or slow delay
//! nothing and refuse nothing.

use std::time::Duration;

use super::{Invariant, Violation};
use crate::history::PutOutcome;

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "writes_independent_of_peers",
    demands: "a node that can take an honest put from a client in its own zone acknowledges it \
              within the scenario's `puts_within`, whatever its peers do",
    checked: "at every answer to a PUT, where `puts_within` is given",
};

/// Judges an honest put to a node that had its store open all the while.
///
/// # Errors
///
/// If it was not acknowledged, or took longer than `limit`.
pub fn check(
    path: &str,
    outcome: PutOutcome,
    took: Duration,
    limit: Duration,
) -> Result<(), Violation> {
    match outcome {
        PutOutcome::Acked(_) | PutOutcome::AckedElsewhere if took <= limit => Ok(()),
        PutOutcome::Acked(_) | PutOutcome::AckedElsewhere => Err(INVARIANT
            .violated(format!("PUT {path}: acknowledged after {took:?}, the limit is {limit:?}"))),
        PutOutcome::Unknown | PutOutcome::Refused => {
            Err(INVARIANT.violated(format!("PUT {path}: not acknowledged, {outcome:?}, {took:?}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_put_that_is_refused_or_late_is_reported() {
        let limit = Duration::from_secs(1);
        let check = |outcome, millis| check("/k", outcome, Duration::from_millis(millis), limit);
        assert!(check(PutOutcome::Acked(1), 1000).is_ok());
        assert!(check(PutOutcome::Acked(1), 1001).is_err());
        assert!(check(PutOutcome::Unknown, 10).is_err());
        assert!(check(PutOutcome::Refused, 10).is_err());
    }
}
