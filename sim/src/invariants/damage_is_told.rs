//! A node that read what its device had spoilt has counted it: nobody replaces a disk that is silently
//! lived with.

use super::{Invariant, Violation};

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "damage_is_told",
    demands: "a node to which its disk gave bytes that were never written there, or an error in their place, \
              has counted damage in that life",
    checked: "at the end of the run, for the last life of every node on whose disk something was spoilt",
};

/// Judges a life: `met` reads of it met something spoilt, and it counted damage `told` times.
///
/// # Errors
///
/// If it met some and told nothing.
pub fn check(node: &str, met: u64, told: u64) -> Result<(), Violation> {
    if met == 0 || told > 0 {
        return Ok(());
    }
    Err(INVARIANT
        .violated(format!("{node}: {met} reads met what is spoilt, and nothing was counted")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_reported_only_where_something_was_met() {
        assert!(check("n", 0, 0).is_ok());
        assert!(check("n", 3, 1).is_ok());
        assert!(check("n", 1, 0).is_err());
    }
}
