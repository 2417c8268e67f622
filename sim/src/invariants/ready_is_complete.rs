//! A node that says that it is ready holds what its peers held when it began to ask them.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{Invariant, Violation};
use crate::{
    gone::Gone,
    holdings::{Holdings, name},
};

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "ready_is_complete",
    demands: "a node that turns ready holds everything that its peers held since its start, less \
              what was evicted, is older than all that there is room for, lies more than five minutes \
              ahead of its own clock, was answered 404 or cannot be read there; a peer that it did not pass over gave no answer for \
              `peer_wait`, or nothing of use for five times that and five minutes, by death, cut or \
              fault; one that came up empty has reached a peer",
    checked: "when a node of a mesh turns ready, against the catalogs of its peers",
};

/// The node that is judged.
#[derive(Clone, Copy)]
pub struct Mine<'a> {
    /// What it holds.
    pub holds: &'a Holdings,
    /// What it need not hold.
    pub gone: &'a Gone,
}

/// A peer that the node passed over, or could have.
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

/// Judges a node that has just turned ready. How many artifacts it was asked for.
///
/// # Errors
///
/// If something is missing.
pub fn check(node: &str, mine: Mine<'_>, peers: &[Peer<'_>]) -> Result<u64, Violation> {
    let mut missing = BTreeSet::new();
    let mut first = None;
    let mut compared = 0;
    for peer in peers {
        for (key, held) in peer.then {
            let stands = peer.now.get(key) == Some(held) && !peer.spoilt.contains(key);
            let has = mine.holds.get(key);
            let had = has.is_none() && mine.gone.excuses_to_ready(key, held);
            if !stands || had {
                continue;
            }
            compared += 1;
            if !held.is_met_by(has) {
                missing.insert(key);
                first.get_or_insert((key, peer.name));
            }
        }
    }
    let Some((key, peer)) = first else { return Ok(compared) };
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
        let then = holdings(&[("a", 1), ("b", 1), ("c", 1), ("d", 1)]);
        let replaced = holdings(&[("a", 1), ("b", 2)]);
        let none = BTreeSet::new();
        let check = |mine: &[(&str, u64)], now, spoilt| {
            let peers = [Peer { name: "p", then: &then, now, spoilt: BTreeSet::clone(spoilt) }];
            let gone = Gone { evicted: holdings(&[("c", 1)]), ..Gone::default() };
            check("n", Mine { holds: &holdings(mine), gone: &gone }, &peers)
        };
        assert_eq!(check(&[("a", 1), ("b", 9), ("d", 1)], &then, &none), Ok(3), "c was evicted");
        assert_eq!(check(&[("a", 1), ("b", 9), ("c", 1), ("d", 1)], &then, &none), Ok(4));
        assert!(check(&[("a", 1), ("b", 1)], &then, &none).is_err());
        assert!(check(&[("a", 1), ("b", 0), ("d", 1)], &then, &none).is_err(), "an older one");
        assert!(check(&[("a", 1), ("c", 0), ("b", 1), ("d", 1)], &then, &none).is_err());
        assert_eq!(check(&[("a", 1)], &replaced, &none), Ok(1), "what the peer lost or replaced");
        let spoilt = BTreeSet::from([key("d")]);
        assert_eq!(check(&[("a", 1), ("b", 1)], &then, &spoilt), Ok(2));
    }

    #[test]
    fn an_empty_node_that_reached_nobody_is_reported() {
        assert!(check_reached("n", true, 2, 0).is_err());
        assert!(check_reached("n", true, 2, 1).is_ok());
        assert!(check_reached("n", false, 2, 0).is_ok(), "it serves what it has");
        assert!(check_reached("n", true, 0, 0).is_ok(), "a node without peers");
    }
}
