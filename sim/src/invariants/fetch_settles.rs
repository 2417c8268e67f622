//! Nodes that lack what they have no room for do not fetch for ever.

use super::{Invariant, Violation};

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "fetch_settles",
    demands: "the links between nodes carry at most `moved_at_most` bytes in a phase, however much \
              more its nodes hold together than each of them has room for",
    checked: "at the end of every phase where `moved_at_most` is given",
};

/// Judges a phase in which the links between nodes carried `moved_bytes`.
///
/// # Errors
///
/// If that is more than `at_most_bytes`.
pub fn check(phase: &str, moved_bytes: u64, at_most_bytes: u64) -> Result<(), Violation> {
    if moved_bytes <= at_most_bytes {
        return Ok(());
    }
    Err(INVARIANT.violated(format!(
        "phase {phase}: the links between nodes carried {moved_bytes} bytes, expected at most \
         {at_most_bytes}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_on_and_on_is_reported() {
        assert!(check("p", 10, 10).is_ok());
        let violation = check("p", 11, 10).unwrap_err();
        assert!(violation.reason.contains("11 bytes"), "{violation}");
    }
}
