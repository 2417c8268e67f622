//! Once what kept a node from writing is over, it takes writes again by itself.

use std::time::Duration;

use super::{Invariant, Violation};

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "writes_resume",
    demands: "after the phases every node acknowledges a put within the scenario's `writes_back_within`, \
              whatever its disk or its catalog went through before",
    checked: "once the faults are over, where `writes_back_within` is given",
};

/// Judges a node that has not acknowledged a put for `waited` since the faults were over; `said` is its
/// last answer.
///
/// # Errors
///
/// If that is longer than `limit`.
pub fn check(node: &str, said: &str, waited: Duration, limit: Duration) -> Result<(), Violation> {
    if waited <= limit {
        return Ok(());
    }
    Err(INVARIANT.violated(format!(
        "{node}: no put was acknowledged for {waited:?}, the limit is {limit:?}: {said}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_goes_on_refusing_is_reported() {
        let limit = Duration::from_secs(10);
        assert!(check("n", "503", limit, limit).is_ok());
        assert!(check("n", "503", limit + Duration::from_millis(1), limit).is_err());
    }
}
