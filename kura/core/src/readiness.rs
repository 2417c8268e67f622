//! Whether a node has caught up: decided from what it knows of its peers.
//!
//! - A node without peers is caught up at once.
//! - Every peer holds a node back until one pass over what it held is complete, except
//!   - a peer that could not be reached for [`Rules::peer_wait`], as attempts have shown;
//!   - a peer that answers, and over which no pass has moved for [`Rules::still_max`].
//!
//!   Such a peer is named, and holds nobody any longer.
//! - A store of our own that takes nothing in holds the node back, for as long as that lasts.
//! - An empty node that compared with none of its configured peers stays back: it is `isolated`.
//!
//! No node waits for a condition that only another waiting node could create: a pass needs a peer
//! that answers, not one that is ready.

use std::time::Duration;

/// A pass may stand still for so many times the patience with a silent peer.
const STILL_WAITS: u32 = 5;
/// A pass may stand still for at least this long: longer than any pause after a failure.
const STILL_MIN: Duration = Duration::from_secs(300);

/// How far a node has come with one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is this node itself, under another name.
    Myself,
    /// It was asked, and has neither answered nor failed to.
    Asked,
    /// It cannot be reached.
    Silent {
        /// From the beginning of the first attempt that failed to the end of the last one. Time in
        /// which nobody asked counts only between attempts that failed.
        lasting: Duration,
    },
    /// It answers, and is itself still reading its data back.
    Recovering,
    /// A pass over it is under way, or was cut and goes on after a pause.
    Passing {
        /// Artifacts that were resolved.
        done: u64,
        /// Artifacts that were found wanting so far.
        wanted: u64,
        /// For how long no pass that holds this node back has moved.
        still: Duration,
    },
    /// This node's own store does not take in what the peer has.
    Unstorable,
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

impl Rules {
    /// For how long a pass that does not move holds a node back.
    #[must_use]
    pub fn still_max(self) -> Duration {
        self.peer_wait.saturating_mul(STILL_WAITS).max(STILL_MIN)
    }

    /// The longest pause before a peer is asked again that has been silent for `lasting`: the wait
    /// for it ends with an attempt, and not in the middle of a pause.
    #[must_use]
    pub fn ask_within(self, lasting: Duration) -> Option<Duration> {
        self.peer_wait.checked_sub(lasting).filter(|left| !left.is_zero())
    }
}

/// What this node holds itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// Something.
    Data,
    /// Nothing.
    Empty,
    /// Its catalog did not say.
    Unknown,
}

/// Whether the node has caught up, and if not, why not. Peers that are not waited for are named also
/// when it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it has caught up.
    pub synced: bool,
    /// Whether it is empty, and compared with nobody.
    pub isolated: bool,
    /// Peers that are not waited for any longer.
    pub given_up: usize,
    /// What holds it back, and who is not waited for any longer.
    pub reasons: Vec<String>,
}

/// Decides. `peers` are the configured ones by name; `own` says what the node itself holds.
#[must_use]
pub fn decide(peers: &[(String, Standing)], own: Own, rules: Rules) -> Verdict {
    let mut reasons = Vec::new();
    let (mut holds, mut others, mut passed, mut given_up) = (false, 0, 0, 0);
    for (name, standing) in peers {
        others += 1;
        let (holds_back, reason) = match standing {
            Standing::Myself => {
                others -= 1;
                continue;
            }
            Standing::Passed => {
                passed += 1;
                continue;
            }
            Standing::Asked => (true, "was asked and has not answered yet".to_owned()),
            Standing::Silent { lasting } if *lasting >= rules.peer_wait => {
                (false, "is silent and not waited for any longer".to_owned())
            }
            Standing::Silent { lasting } => {
                let (lasting, limit) = (lasting.as_secs(), rules.peer_wait.as_secs());
                (true, format!("has been silent for {lasting} s of {limit} s"))
            }
            Standing::Recovering => (true, "is still reading its own data back".to_owned()),
            Standing::Passing { done, wanted, still } if *still >= rules.still_max() => {
                let still = still.as_secs();
                let told = format!(
                    "{done} of {wanted} artifacts fetched, nothing for {still} s, and not waited \
                     for any longer"
                );
                (false, told)
            }
            Standing::Passing { done, wanted, still: _ } => {
                (true, format!("{done} of {wanted} artifacts fetched so far"))
            }
            Standing::Unstorable => {
                (true, "has what our own store does not take in now".to_owned())
            }
        };
        holds |= holds_back;
        given_up += usize::from(!holds_back);
        reasons.push(format!("{name} {reason}"));
    }
    let reached_nobody = !holds && others > 0 && passed == 0;
    let isolated = reached_nobody && own == Own::Empty;
    if isolated {
        reasons.push("isolated: empty, and compared with none of the configured peers".to_owned());
    }
    let in_doubt = reached_nobody && own == Own::Unknown;
    if in_doubt {
        reasons.push("our own catalog does not say whether anything is here".to_owned());
    }
    Verdict { synced: !holds && !isolated && !in_doubt, isolated, given_up, reasons }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { peer_wait: Duration::from_secs(60) };

    fn silent(seconds: u64) -> Standing {
        Standing::Silent { lasting: Duration::from_secs(seconds) }
    }

    fn still(seconds: u64) -> Standing {
        Standing::Passing { done: 1, wanted: 9, still: Duration::from_secs(seconds) }
    }

    fn judge(peers: &[Standing], own: Own) -> Verdict {
        let named: Vec<_> = peers.iter().map(|it| ("peer".to_owned(), *it)).collect();
        decide(&named, own, RULES)
    }

    #[test]
    fn a_node_is_synced_once_no_peer_holds_it() {
        use Own::{Data, Empty, Unknown};
        use Standing::{Asked, Myself, Passed, Recovering, Unstorable};
        for (peers, own, synced) in [
            (vec![], Empty, true),
            (vec![Myself], Empty, true),
            (vec![Passed, Passed], Empty, true),
            (vec![Passed, still(0)], Data, false),
            (vec![Passed, Recovering], Data, false),
            // Nobody has looked yet: whatever time has passed, this is no silence.
            (vec![Asked], Data, false),
            (vec![Passed, Asked], Data, false),
            (vec![silent(59)], Data, false),
            (vec![silent(60)], Data, true),
            (vec![Passed, silent(60)], Empty, true),
            // What stands still holds for five times as long.
            (vec![still(299)], Data, false),
            (vec![still(300)], Data, true),
            (vec![Passed, still(300)], Empty, true),
            // Our own store is no peer's fault.
            (vec![Passed, Unstorable], Data, false),
            // Isolated: empty, and compared with nobody.
            (vec![silent(60)], Empty, false),
            (vec![still(300)], Empty, false),
            (vec![Myself, silent(999), silent(999)], Empty, false),
            (vec![silent(60)], Unknown, false),
            (vec![Passed], Unknown, true),
        ] {
            let verdict = judge(&peers, own);
            assert_eq!(verdict.synced, synced, "{peers:?} {own:?} {verdict:?}");
            assert!(synced || !verdict.reasons.is_empty(), "{peers:?}: a reason is given");
        }
    }

    #[test]
    fn who_is_not_waited_for_is_counted_and_named() {
        let verdict = judge(&[Standing::Passed, silent(60), still(300)], Own::Data);
        assert_eq!((verdict.synced, verdict.given_up, verdict.reasons.len()), (true, 2, 2));
        assert!(!verdict.isolated && judge(&[silent(60)], Own::Empty).isolated);
    }

    #[test]
    fn a_pass_may_stand_still_longer_than_any_pause() {
        let short = Rules { peer_wait: Duration::from_secs(10) };
        assert_eq!(short.still_max(), STILL_MIN);
        assert!(short.still_max() > crate::backoff::PAUSE_MAX * 2);
        let long = Rules { peer_wait: Duration::from_secs(120) };
        assert_eq!(long.still_max(), Duration::from_secs(600));
    }

    #[test]
    fn the_wait_for_a_silent_peer_ends_with_an_attempt() {
        let within = |seconds| RULES.ask_within(Duration::from_secs(seconds));
        assert_eq!(within(0), Some(Duration::from_secs(60)));
        assert_eq!(within(59), Some(Duration::from_secs(1)));
        assert_eq!(within(60), None);
        assert_eq!(within(600), None);
    }
}
