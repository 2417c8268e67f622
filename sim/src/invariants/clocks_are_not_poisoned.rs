//! One clock that is wrong does not make those of others wrong.

use std::time::Duration;

use super::{Invariant, Violation};

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "clocks_are_not_poisoned",
    demands: "a node whose own wall clock is right holds no version that is more than five minutes ahead of the \
              true time, its own or anybody's, whatever the clocks of others show",
    checked: "at the end of every phase and of the run, on every node whose clock is right in all phases, where a \
              phase has `clock_ahead`, `clock_behind` or `evil`",
};

/// How far ahead a version may be.
const AHEAD_MAX: Duration = Duration::from_secs(300);

/// Judges the latest hybrid logical time in the catalog of a node, while the true time is `wall_ms`.
///
/// # Errors
///
/// If it is too far ahead.
pub fn check(node: &str, latest: Option<u64>, wall_ms: u64) -> Result<(), Violation> {
    let latest_ms = latest.unwrap_or(0) >> 16;
    let ahead = Duration::from_millis(latest_ms.saturating_sub(wall_ms));
    if ahead <= AHEAD_MAX {
        return Ok(());
    }
    let reason = format!("{node} holds a version {ahead:?} ahead, the bound is {AHEAD_MAX:?}");
    Err(INVARIANT.violated(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_from_the_future_is_reported() {
        assert!(check("n", None, 1_000).is_ok());
        assert!(check("n", Some(301_000 << 16), 1_000).is_ok());
        assert!(check("n", Some(301_001 << 16), 1_000).is_err());
    }
}
