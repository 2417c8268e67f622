//! What a nearer peer holds does not come from one that is further away.

use super::{Invariant, Violation};

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "near_first",
    demands: "the links between nodes of different zones carry at most `far_moved_at_most` bytes in a phase, though a \
              node in each zone holds what another one there lacks",
    checked: "at the end of every phase where `far_moved_at_most` is given",
};

/// Judges a phase in which the links between nodes of different zones carried `moved_bytes`.
///
/// # Errors
///
/// If that is more than `at_most_bytes`.
pub fn check(phase: &str, moved_bytes: u64, at_most_bytes: u64) -> Result<(), Violation> {
    if moved_bytes <= at_most_bytes {
        return Ok(());
    }
    Err(INVARIANT.violated(format!(
        "phase {phase}: the links between nodes of different zones carried {moved_bytes} bytes, expected at most \
         {at_most_bytes}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_afar_is_reported() {
        assert!(check("p", 10, 10).is_ok());
        let violation = check("p", 11, 10).unwrap_err();
        assert!(violation.reason.contains("11 bytes"), "{violation}");
    }
}
