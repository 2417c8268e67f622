//! Whether a node has caught up: decided from what it knows of its peers.
//!
//! - A node without peers is caught up at once.
//! - Every peer holds a node back until one pass over what it held is complete, except a peer that
//!   was silent for [`Rules::peer_wait`]: that one is named, and holds nobody any longer.
//! - An empty node that reached none of its configured peers stays back: it is `isolated`.
//!
//! No node waits for a condition that only another waiting node could create: a pass needs a peer
//! that answers, not one that is ready.

use std::time::Duration;

/// How far a node has come with one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is this node itself, under another name.
    Myself,
    /// No answer yet, for so long.
    Silent {
        /// Since this node began to ask, or since the last answer.
        since: Duration,
    },
    /// It answers, and is itself still reading its data back.
    Recovering,
    /// A pass over it is under way.
    Passing {
        /// Artifacts that were resolved.
        done: u64,
        /// Artifacts that were found wanting so far.
        wanted: u64,
    },
    /// A pass over it is complete.
    Passed,
}

/// Bounds of the decision.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// For how long a silent peer holds a node back. Too low: a node serves misses that a peer
    /// could have spared it. Too high: a dead peer keeps others from serving.
    pub peer_wait: Duration,
}

/// Whether the node has caught up, and if not, why not. Names of silent peers are given also when
/// it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it has caught up.
    pub synced: bool,
    /// What holds it back, and who is not waited for any longer.
    pub reasons: Vec<String>,
}

/// Decides. `peers` are the configured ones by name; `is_empty` says that the node itself holds
/// nothing.
#[must_use]
pub fn decide(peers: &[(String, Standing)], is_empty: bool, rules: Rules) -> Verdict {
    let mut reasons = Vec::new();
    let (mut holds, mut others, mut passed) = (false, 0, 0);
    for (name, standing) in peers {
        others += 1;
        match standing {
            Standing::Myself => others -= 1,
            Standing::Passed => passed += 1,
            Standing::Silent { since } if *since >= rules.peer_wait => {
                reasons.push(format!("{name} is silent and not waited for any longer"));
            }
            Standing::Silent { since } => {
                holds = true;
                let (since, limit) = (since.as_secs(), rules.peer_wait.as_secs());
                reasons.push(format!("{name} has been silent for {since} s of {limit} s"));
            }
            Standing::Recovering => {
                holds = true;
                reasons.push(format!("{name} is still reading its own data back"));
            }
            Standing::Passing { done, wanted } => {
                holds = true;
                reasons.push(format!("{name}: {done} of {wanted} artifacts fetched so far"));
            }
        }
    }
    if !holds && is_empty && others > 0 && passed == 0 {
        holds = true;
        reasons.push("isolated: empty, and none of the configured peers answers".to_owned());
    }
    Verdict { synced: !holds, reasons }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { peer_wait: Duration::from_secs(60) };

    fn silent(seconds: u64) -> Standing {
        Standing::Silent { since: Duration::from_secs(seconds) }
    }

    #[test]
    fn a_node_is_synced_once_no_peer_holds_it() {
        use Standing::{Myself, Passed, Passing, Recovering};
        let passing = Passing { done: 1, wanted: 9 };
        for (peers, is_empty, synced) in [
            (vec![], true, true),
            (vec![Myself], true, true),
            (vec![Passed, Passed], true, true),
            (vec![Passed, passing], false, false),
            (vec![Passed, Recovering], false, false),
            (vec![silent(59)], false, false),
            (vec![silent(60)], false, true),
            (vec![Passed, silent(60)], true, true),
            // Isolated: empty, and nobody was reached.
            (vec![silent(60)], true, false),
            (vec![Myself, silent(999), silent(999)], true, false),
        ] {
            let named: Vec<_> = peers.iter().map(|it| ("peer".to_owned(), *it)).collect();
            let verdict = decide(&named, is_empty, RULES);
            assert_eq!(verdict.synced, synced, "{peers:?} {verdict:?}");
            assert!(synced || !verdict.reasons.is_empty(), "{peers:?}: a reason is given");
        }
    }
}
