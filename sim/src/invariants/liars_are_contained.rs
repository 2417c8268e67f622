//! A peer that lies costs its peers little, and nothing of what it says is kept.

use std::time::Duration;

use super::{Invariant, Violation};
use crate::holdings::{self, Holdings};

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "liars_are_contained",
    demands: "no node holds anything that only a peer whose answers are lies has told it; and it sends such a peer \
              no more than 400 requests, and 30 more for each second",
    checked: "at the end of every phase and of the run, on every node, where a phase has `evil`; at every request \
              to such a peer",
};

/// The node that wrote what liars tell of.
pub const LIAR: u64 = 0x0bad_0bad_0bad_0bad;

/// Requests at once: a pass with what is under way in it, and what a feed may tell before it is left alone.
const ASKS_AT_ONCE: u64 = 400;
/// And in a second.
const ASKS_PER_SECOND: u64 = 30;

/// Judges what a node holds.
///
/// # Errors
///
/// If it is of a liar.
pub fn check_held(node: &str, holds: &Holdings) -> Result<(), Violation> {
    match holds.iter().find(|(_, held)| held.version.node == LIAR) {
        None => Ok(()),
        Some((key, _)) => {
            let reason = format!("{node} holds {} as a liar told it", holdings::name(key));
            Err(INVARIANT.violated(reason))
        }
    }
}

/// Judges how many requests a node has sent to a peer that has lied for so long.
///
/// # Errors
///
/// If there are too many.
pub fn check_asks(node: &str, peer: &str, asks: u64, lies_for: Duration) -> Result<(), Violation> {
    let allowed = ASKS_AT_ONCE + ASKS_PER_SECOND * lies_for.as_secs();
    if asks <= allowed {
        return Ok(());
    }
    Err(INVARIANT.violated(format!(
        "{node} has sent {asks} requests to {peer}, which has lied for {lies_for:?}: {allowed} are allowed"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::holdings::sample::{holdings, key};

    #[test]
    fn what_a_liar_told_is_reported() {
        let mut holds = holdings(&[("a", 1), ("b", 2)]);
        assert!(check_held("n", &holds).is_ok());
        holds.get_mut(&key("b")).unwrap().version.node = LIAR;
        assert!(check_held("n", &holds).unwrap_err().reason.contains("/ns/b"));
    }

    #[test]
    fn a_liar_that_is_asked_again_and_again_is_reported() {
        let check =
            |asks, seconds| check_asks("n", "p", asks, Duration::from_secs(seconds)).is_ok();
        assert!(check(400, 0) && !check(401, 0));
        assert!(check(700, 10) && !check(701, 10));
    }
}
