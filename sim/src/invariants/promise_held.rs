//! What a node said to be here stays readable for as long as it promised.

use kura_env::Instant;

use super::{Invariant, Violation};

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "promise_held",
    demands: "a content address whose HEAD was answered 200 is no miss on that node before \
              `promise` is over; also after SIGKILL and power loss",
    checked: "at every miss of such an address, asked twice",
};

/// Judges a miss that a serving node insisted on at `now`, where an answer promised the artifact
/// until `promised_until`.
///
/// # Errors
///
/// If the promise was still to be kept.
pub fn check_miss(path: &str, promised_until: Instant, now: Instant) -> Result<(), Violation> {
    if now >= promised_until {
        return Ok(());
    }
    let left = promised_until.since(now);
    Err(INVARIANT.violated(format!("GET {path}: a miss, though it is promised for {left:?} more")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_miss_is_legal_only_once_the_promise_is_over() {
        assert!(check_miss("/ns/cas/x", Instant(10), Instant(10)).is_ok());
        assert!(check_miss("/ns/cas/x", Instant(10), Instant(9)).is_err());
    }
}
