//! What is read at least once while it is old survives, turn after turn of the ring.

use super::{Invariant, Violation};
use crate::history::Owed;

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "used_survives",
    demands: "what a group of clients with `stays` reads was acknowledged, and is no miss",
    checked: "at every read of such a group, asked twice where it is a miss",
};

/// Judges a miss that a serving node insisted on, of what is read so often that it must stay.
///
/// # Errors
///
/// If it had been acknowledged: it was evicted in spite of its readers.
pub fn check_miss(path: &str, owed: Option<Owed>) -> Result<(), Violation> {
    let Some(owed) = owed else { return Ok(()) };
    Err(INVARIANT.violated(format!(
        "GET {path}: a miss, though it is read again and again; it was acknowledged with sequence {}",
        owed.sequence
    )))
}

#[cfg(test)]
mod tests {
    use kura_env::Instant;

    use super::*;
    use crate::body::BodyId;

    #[test]
    fn only_what_was_acknowledged_must_stay() {
        let owed = Owed { sequence: 7, body: BodyId(1), start: Instant(0) };
        assert!(check_miss("/k", None).is_ok());
        assert!(check_miss("/k", Some(owed)).is_err());
    }
}
