//! A primary that is fit stays primary.

use super::{Invariant, Violation};

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "primary_stays",
    demands: "another node of a zone becomes primary at most `primary_moves` times",
    checked: "four times a second, where `primary_within` is given",
};

/// Judges how often the primary of a zone has changed so far.
///
/// # Errors
///
/// If it is too often.
pub fn check(zone: &str, moves: u64, at_most: u64) -> Result<(), Violation> {
    if moves <= at_most {
        return Ok(());
    }
    Err(INVARIANT.violated(format!(
        "in zone {zone} another node became primary {moves} times, the limit is {at_most}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_moves_are_reported() {
        assert!(check("z", 3, 3).is_ok() && check("z", 4, 3).is_err());
    }
}
