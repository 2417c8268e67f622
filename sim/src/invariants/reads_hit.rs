//! Reads find what is here, or what a peer nearby has.

use super::{Invariant, Violation};
use crate::scenario::MILLION;

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "reads_hit",
    demands: "of what clients ask for with GET in a phase at least the share `hits_at_least` comes whole, and they ask for something",
    checked: "at the end of every phase where `hits_at_least` is given",
};

/// Judges a phase with so many reads, of which so many were hits; the share in millionths. What was refused or never
/// answered is no hit.
///
/// # Errors
///
/// If too few are hits.
pub fn check(phase: &str, hits: u64, reads: u64, at_least: u64) -> Result<(), Violation> {
    let wanted = u128::from(reads) * u128::from(at_least);
    if reads > 0 && u128::from(hits) * u128::from(MILLION) >= wanted {
        return Ok(());
    }
    Err(INVARIANT.violated(format!(
        "phase {phase}: {hits} of {reads} reads were hits, expected {:.2} %",
        at_least as f64 * 100.0 / MILLION as f64,
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_misses_are_reported_and_so_are_no_reads() {
        assert!(check("p", 3, 4, 750_000).is_ok());
        let violation = check("p", 3, 5, 750_000).unwrap_err();
        assert!(violation.reason.contains("3 of 5 reads"), "{violation}");
        assert!(check("p", 0, 0, 750_000).is_err());
    }
}
