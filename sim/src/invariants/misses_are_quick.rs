//! Whoever reads what is not here goes on soon.

use std::time::Duration;

use super::{Invariant, Violation};

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "misses_are_quick",
    demands: "a miss is answered within `misses_within` of its being asked for, also where the node asks a peer first",
    checked: "at every miss, where `misses_within` is given",
};

/// Judges a miss that took so long.
///
/// # Errors
///
/// If that is more than `limit`.
pub fn check(path: &str, took: Duration, limit: Duration) -> Result<(), Violation> {
    if took <= limit {
        return Ok(());
    }
    Err(INVARIANT.violated(format!("GET {path}: a miss took {took:?}, expected at most {limit:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_miss_is_reported() {
        let second = Duration::from_secs(1);
        assert!(check("/a", second, second).is_ok());
        let violation = check("/a", 2 * second, second).unwrap_err();
        assert!(violation.reason.contains("took 2s"), "{violation}");
    }
}
