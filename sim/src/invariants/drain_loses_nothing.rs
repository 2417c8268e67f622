//! Who stopped in good order leaves nothing behind that the others of its zone do not hold.

use super::{Invariant, Violation};
use crate::holdings::{Holdings, name};

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "drain_loses_nothing",
    demands: "what a node had taken from clients, and held when it had stopped in good order, is held by every node of its zone that is ready, in that version or a \
              later one",
    checked: "after each stop of a rolling restart, where `drains_whole` is given",
};

/// Compares what `stopped`, whose number is `node`, held of what it took itself with what `other` holds, which is ready.
///
/// # Errors
///
/// If `other` lacks any of it.
pub fn check(
    (stopped, node, held): (&str, Option<u64>, &Holdings),
    (other, theirs): (&str, &Holdings),
) -> Result<(), Violation> {
    let own = held.iter().filter(|(_, held)| Some(held.version.node) == node);
    let mut lacking = own.filter(|(key, held)| !held.is_met_by(theirs.get(*key)));
    let Some((first, _)) = lacking.next() else { return Ok(()) };
    Err(INVARIANT.violated(format!(
        "{stopped} stopped in good order, and of {} artifacts that it held {other} lacks {}, such as {}",
        held.len(),
        1 + lacking.count(),
        name(first)
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::holdings::sample::holdings;

    #[test]
    fn what_only_the_one_that_stopped_holds_is_reported() {
        let (all, older, more) = (
            holdings(&[("a", 2), ("b", 1)]),
            holdings(&[("a", 1), ("b", 1)]),
            holdings(&[("a", 2), ("b", 3), ("c", 1)]),
        );
        let node = all.values().next().map(|it| it.version.node);
        assert!(check(("x", node, &all), ("y", &more)).is_ok());
        assert!(check(("x", node, &all), ("y", &older)).is_err());
        assert!(check(("x", node, &more), ("y", &all)).is_err());
        let another = node.map(|node| node + 1);
        assert!(check(("x", another, &more), ("y", &all)).is_ok(), "others brought it there");
    }
}
