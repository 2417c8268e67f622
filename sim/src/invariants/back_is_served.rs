//! A node that reads its data back serves what it has of it meanwhile: whoever waits for the rest has
//! not lost all.

use super::{Invariant, Violation};

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "back_is_served",
    demands: "nodes that are still reading their data back hand out at least the scenario's \
              `early_hits_min` whole bodies in all",
    checked: "at the end of the run, where `early_hits_min` is given",
};

/// Judges how many bodies were handed out so.
///
/// # Errors
///
/// If they are fewer.
pub fn check(early_hits: u64, least: u64) -> Result<(), Violation> {
    if early_hits >= least {
        return Ok(());
    }
    let reason = format!("{early_hits} bodies came from nodes that recovered, expected {least}");
    Err(INVARIANT.violated(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_are_reported() {
        assert!(check(0, 0).is_ok() && check(20, 20).is_ok());
        assert!(check(19, 20).is_err());
    }
}
