//! The invariants of a mesh leave out what cannot be judged, and must not come to leave out
//! everything.

use super::{Invariant, Violation};

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "compared",
    demands: "a run of a mesh of two or more that took anything in compares artifacts for `mesh_heals` and answers \
              for `one_winner`, and where a phase has `ready`, artifacts for `ready_is_complete`",
    checked: "when everything was read back",
};

/// What was compared in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Artifacts of peers that were looked for on nodes that turned ready.
    pub at_ready: u64,
    /// Artifacts that were looked for on every node when the mesh had healed.
    pub when_healed: u64,
    /// Keys that at least two nodes gave an answer for that counts.
    pub answers: u64,
}

/// Judges a run in which clients were acknowledged something. `wants_ready` says that a phase has
/// `ready`.
///
/// # Errors
///
/// If an invariant was asked and never had anything to compare.
pub fn check(compared: Compared, wants_ready: bool) -> Result<(), Violation> {
    let Compared { at_ready, when_healed, answers } = compared;
    if when_healed > 0 && answers > 0 && (at_ready > 0 || !wants_ready) {
        return Ok(());
    }
    Err(INVARIANT.violated(format!(
        "{at_ready} artifacts were compared at readiness, {when_healed} after healing, and \
         {answers} answers"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invariant_that_never_compared_anything_is_reported() {
        let all = Compared { at_ready: 1, when_healed: 1, answers: 1 };
        assert!(check(all, true).is_ok());
        assert!(check(Compared { when_healed: 0, ..all }, false).is_err());
        assert!(check(Compared { answers: 0, ..all }, false).is_err());
        let never_ready = Compared { at_ready: 0, ..all };
        assert!(check(never_ready, true).is_err() && check(never_ready, false).is_ok());
    }
}
