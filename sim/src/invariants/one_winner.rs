//! Once it is quiet, all nodes of a mesh answer alike.

use super::{Invariant, Violation};
use crate::body::BodyId;

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "one_winner",
    demands: "after quiet and healing a key has the same body on every node of a mesh, or is a miss \
              on all of them",
    checked: "for every key that is read back after healing, on the nodes that have not evicted it",
};

/// What a node answered for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The node.
    pub node: String,
    /// The body that came; `None` is a miss.
    pub body: Option<BodyId>,
}

/// Judges what the nodes said of one key. Those whose copy was spoilt or evicted are not
/// among them.
///
/// # Errors
///
/// If two of them differ.
pub fn check(path: &str, said: &[Said]) -> Result<(), Violation> {
    let Some(first) = said.first() else { return Ok(()) };
    let show = |said: &Said| match said.body {
        Some(BodyId(id)) => format!("{} has body {id}", said.node),
        None => format!("{} has none", said.node),
    };
    match said.iter().find(|other| other.body != first.body) {
        None => Ok(()),
        Some(other) => {
            Err(INVARIANT.violated(format!("GET {path}: {}, {}", show(first), show(other))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_bodies_and_a_miss_beside_a_hit_are_reported() {
        let check = |bodies: &[Option<u64>]| {
            let said = |body: &Option<u64>| Said { node: "n".to_owned(), body: body.map(BodyId) };
            check("/k", &bodies.iter().map(said).collect::<Vec<_>>())
        };
        assert!(check(&[]).is_ok());
        assert!(check(&[Some(1), Some(1), Some(1)]).is_ok() && check(&[None, None]).is_ok());
        assert!(check(&[Some(1), Some(1), Some(2)]).is_err());
        assert!(check(&[Some(1), None]).is_err() && check(&[None, Some(1)]).is_err());
    }
}
