//! Nobody who writes is left waiting: a put is taken in or refused, within a bound.

use std::time::Duration;

use super::{Invariant, Violation};

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "puts_answered",
    demands: "a node that serves answers an honest put, with whatever status, within the scenario's \
              `answers_within` of its being sent, also while its disk does not answer",
    checked: "at the end of every honest PUT to a node that served all the while, where \
              `answers_within` is given",
};

/// Judges an honest put to a node that had its store open all the while.
///
/// # Errors
///
/// If it ended after more than `limit`.
pub fn check(path: &str, took: Duration, limit: Duration) -> Result<(), Violation> {
    if took <= limit {
        return Ok(());
    }
    Err(INVARIANT.violated(format!("PUT {path}: no answer for {took:?}, the limit is {limit:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_put_that_is_left_waiting_is_reported() {
        let limit = Duration::from_secs(20);
        assert!(check("/k", limit, limit).is_ok());
        assert!(check("/k", limit + Duration::from_millis(1), limit).is_err());
    }
}
