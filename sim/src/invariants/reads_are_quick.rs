//! Whoever reads is told soon whether it is there.

use std::time::Duration;

use super::{Invariant, Violation};

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "reads_are_quick",
    demands: "the answer to a GET begins within `reads_within` of its being asked, hit or miss, also where the node \
              asks a peer first",
    checked: "at every GET, where `reads_within` is given",
};

/// Judges a read whose answer began after so long.
///
/// # Errors
///
/// If that is more than `limit`.
pub fn check(path: &str, took: Duration, limit: Duration) -> Result<(), Violation> {
    if took <= limit {
        return Ok(());
    }
    let reason = format!("GET {path}: the answer began after {took:?}, expected at most {limit:?}");
    Err(INVARIANT.violated(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_answer_is_reported() {
        let second = Duration::from_secs(1);
        assert!(check("/a", second, second).is_ok());
        let violation = check("/a", 2 * second, second).unwrap_err();
        assert!(violation.reason.contains("after 2s"), "{violation}");
    }
}
