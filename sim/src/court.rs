//! The court of a run: takes the evidence, keeps the first violation, and tells the story in order.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use kura_env::Instant;
use parking_lot::{Mutex, MutexGuard};

use crate::{
    history::{History, NodeIndex},
    invariants::{Violation, compared::Compared, restart_is_neutral::Restarts},
};

/// Something of note, for the people who read why a run failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// When.
    pub at: Instant,
    /// What.
    pub what: String,
}

/// Moments kept; the first ones and the last ones are the telling ones.
const MOMENTS_MAX: usize = 4000;

/// What is known so far.
#[derive(Default)]
pub struct Evidence {
    /// What the clients did and were told.
    pub history: History,
    /// What was compared by the invariants of a mesh.
    pub compared: Compared,
    /// What was compared around clean restarts.
    pub restarts: Restarts,
    /// The highest sequence of the large objects of each key that each node has evicted, as seen at
    /// its disk.
    pub evicted_objects: BTreeMap<(NodeIndex, String), u64>,
    /// By name of the node, paths of files that its disk would not sync.
    pub unsynced: BTreeSet<(String, String)>,
    /// Nodes that were without power once.
    pub lost_power: BTreeSet<NodeIndex>,
    /// Where peers lie, and since when.
    pub liars: BTreeMap<SocketAddr, Instant>,
    /// The most names at the end of a phase under which nodes held two bodies of one version.
    pub ties: u64,
    moments: Vec<Moment>,
    moments_dropped: u64,
    violation: Option<(Instant, Violation)>,
}

impl Evidence {
    /// Something of note happened.
    pub fn tell(&mut self, at: Instant, what: String) {
        if self.moments.len() < MOMENTS_MAX {
            self.moments.push(Moment { at, what });
        } else {
            self.moments_dropped += 1;
        }
    }

    /// Judges: the first violation of a run is the one that counts.
    pub fn judge(&mut self, at: Instant, result: Result<(), Violation>) {
        let Err(violation) = result else { return };
        if self.violation.is_none() {
            let what = format!("VIOLATED {violation}");
            self.moments.push(Moment { at, what });
            self.violation = Some((at, violation));
        }
    }

    /// The first violation.
    #[must_use]
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref().map(|(_, violation)| violation)
    }

    /// What happened, in order, as text.
    #[must_use]
    pub fn timeline(&self) -> String {
        let line = |moment: &Moment| {
            let nanos = moment.at.0;
            let (s, us) = (nanos / 1_000_000_000, nanos % 1_000_000_000 / 1000);
            format!("{s:>6}.{us:06} s  {}\n", moment.what)
        };
        let mut text: String = self.moments.iter().map(line).collect();
        if self.moments_dropped > 0 {
            text.push_str(&format!("({} further moments are left out)\n", self.moments_dropped));
        }
        text
    }
}

/// The evidence of a run, shared by everybody in it.
#[derive(Clone, Default)]
pub struct Court(Arc<Mutex<Evidence>>);

impl Court {
    /// The evidence. Not to be held across an await.
    pub fn evidence(&self) -> MutexGuard<'_, Evidence> {
        self.0.lock()
    }

    /// Whether something was violated.
    #[must_use]
    pub fn is_decided(&self) -> bool {
        self.0.lock().violation.is_some()
    }

    /// Bytes of bodies that were acknowledged so far.
    #[must_use]
    pub fn acked_bytes(&self) -> u64 {
        self.0.lock().history.acked_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_violation_counts_and_stands_in_the_story() {
        let court = Court::default();
        let violation =
            |reason: &str| crate::invariants::whole_body::INVARIANT.violated(reason.to_owned());
        court.evidence().judge(Instant(1), Ok(()));
        assert!(!court.is_decided());
        court.evidence().judge(Instant(2_000_000_000), Err(violation("first")));
        court.evidence().judge(Instant(3), Err(violation("second")));
        assert_eq!(court.evidence().violation().map(|v| v.reason.as_str()), Some("first"));
        let timeline = court.evidence().timeline();
        assert_eq!(timeline, "     2.000000 s  VIOLATED whole_body: first\n");
    }
}
