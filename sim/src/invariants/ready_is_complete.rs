//! A node that says that it is ready holds what its peers held when it began to ask them.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{Invariant, Violation};
use crate::holdings::{Holdings, name};

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "ready_is_complete",
    demands: "a node that turns ready holds everything that its reachable peers held since its \
              start, less what was evicted, answered 404 or cannot be read there; one that came up \
              empty has reached a peer",
    checked: "when a node of a mesh turns ready, against the catalogs of its peers",
};

/// A peer that stood, and could be reached, from the start of the node until it was ready.
pub struct Peer<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it held at the start.
    pub then: &'a Holdings,
    /// What it holds now: what is gone was evicted, replaced or found damaged.
    pub now: &'a Holdings,
    /// What it cannot deliver, or the node itself may have lost again meanwhile.
    pub spoilt: BTreeSet<Bytes>,
}

/// Judges a node that has just turned ready and holds `mine`.
///
/// # Errors
///
/// If something is missing.
pub fn check(node: &str, mine: &Holdings, peers: &[Peer<'_>]) -> Result<(), Violation> {
    let mut missing = BTreeSet::new();
    let mut first = None;
    for peer in peers {
        for (key, held) in peer.then {
            let stands = peer.now.get(key) == Some(held) && !peer.spoilt.contains(key);
            if stands && !held.is_met_by(mine.get(key)) {
                missing.insert(key);
                first.get_or_insert((key, peer.name));
            }
        }
    }
    let Some((key, peer)) = first else { return Ok(()) };
    Err(INVARIANT.violated(format!(
        "{node} is ready and lacks {} artifacts, such as {} of {peer}",
        missing.len(),
        name(key)
    )))
}

/// Judges a node that has just turned ready: one that came up empty and has peers must have
/// completed a pass over one of them.
///
/// # Errors
///
/// If it has not.
pub fn check_reached(
    node: &str,
    was_empty: bool,
    peers: usize,
    passed: usize,
) -> Result<(), Violation> {
    if !was_empty || peers == 0 || passed > 0 {
        return Ok(());
    }
    Err(INVARIANT.violated(format!(
        "{node} is ready, but it came up empty and completed a pass over none of its {peers} peers"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::holdings::sample::{holdings, key};

    #[test]
    fn whatever_a_peer_held_and_still_holds_must_be_here() {
        let then = holdings(&[("a", 1), ("b", 1), ("c", 1)]);
        let replaced = holdings(&[("a", 1), ("b", 2)]);
        let none = BTreeSet::new();
        let check = |mine: &[(&str, u64)], now, spoilt| {
            let peers = [Peer { name: "p", then: &then, now, spoilt: BTreeSet::clone(spoilt) }];
            check("n", &holdings(mine), &peers)
        };
        assert!(check(&[("a", 1), ("b", 9), ("c", 1)], &then, &none).is_ok());
        assert!(check(&[("a", 1), ("b", 1)], &then, &none).is_err());
        assert!(check(&[("a", 1), ("b", 0), ("c", 1)], &then, &none).is_err(), "an older one");
        assert!(check(&[("a", 1)], &replaced, &none).is_ok(), "what the peer lost or replaced");
        assert!(check(&[("a", 1), ("b", 1)], &then, &BTreeSet::from([key("c")])).is_ok());
    }

    #[test]
    fn an_empty_node_that_reached_nobody_is_reported() {
        assert!(check_reached("n", true, 2, 0).is_err());
        assert!(check_reached("n", true, 2, 1).is_ok());
        assert!(check_reached("n", false, 2, 0).is_ok(), "it serves what it has");
        assert!(check_reached("n", true, 0, 0).is_ok(), "a node without peers");
    }
}
