//! Deletes of namespaces as their clients saw them: which puts one may have taken away, and which bodies one
//! must have.
//!
//! A delete takes everything of its namespace that has a lower version. Clients see no versions, but know
//! when things were sent and answered. On the node that did the delete versions grow with time: what was
//! put before it was sent is gone, and what is put after it was answered stays. Nodes differ by as much as
//! their clocks do; but a node that has heard of a delete writes above it, whatever its clock says.

use std::{collections::BTreeMap, time::Duration};

use kura_core::{record::Version, tombstones::Tombstones};
use kura_env::Instant;

use crate::{history::NodeIndex, invariants::acked_or_evicted::CLOCK_GRAIN};

/// A delete without an answer may be done up to so much later, by a node that lives on: longer than any client
/// waits, and than any disk stands still.
pub const SETTLES: Duration = Duration::from_secs(120);

/// Who has had a tombstone on its disk for so long goes by it.
pub const HEARS: Duration = Duration::from_secs(1);

/// A delete by which it can be found again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeleteId(u64);

/// What an answer says of a delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// It is done. What the disk of the node said of the namespace by then: this delete, or a later one.
    Done(Option<Version>),
    /// It is not, and never will be.
    Refused,
    /// It may have been done or not.
    Open,
}

/// Who writes where.
#[derive(Clone, Copy, Debug)]
pub struct Writer {
    /// To which node.
    pub node: NodeIndex,
    /// Under a name that holds the digest of the body: the node may answer by what it has of it.
    pub is_content: bool,
    /// When.
    pub at: Instant,
}

/// A delete that a node must go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buried {
    /// What was over before that is gone. Less what clocks differ by, if another node did it.
    pub since: Instant,
    /// Whether the node itself did it.
    pub is_own: bool,
}

#[derive(Clone, Copy, Debug)]
struct Delete {
    node: NodeIndex,
    start: Instant,
    /// When it had had all the effect that it ever has; `None` while nobody knows.
    end: Option<Instant>,
    is_done: bool,
    version: Option<Version>,
    /// Its node has lost it again, whatever it said.
    is_void: bool,
}

impl Delete {
    fn settled_at(&self) -> Instant {
        self.end.unwrap_or(self.start + SETTLES)
    }
}

/// Everything that clients wanted deleted, and what nodes have heard of it.
#[derive(Default)]
pub struct Deletes {
    /// By namespace. Refused ones are not among them.
    asked: BTreeMap<String, BTreeMap<DeleteId, Delete>>,
    next: u64,
    /// Since when a node has what tombstone of a namespace on its disk, the latest last.
    heard: BTreeMap<(NodeIndex, String), Vec<(Version, Instant)>>,
    /// How far the clocks of two nodes are apart at the most.
    skew: Duration,
    /// Whether nodes tell each other.
    travel: bool,
    /// Whether all have been told.
    have_arrived: bool,
}

impl Deletes {
    /// Nodes tell each other of deletes.
    pub fn travel(&mut self) {
        self.travel = true;
    }

    /// Every node of the mesh goes by every delete from now on.
    pub fn have_arrived(&mut self) {
        self.have_arrived = self.travel;
    }

    /// The clocks of two nodes may be so far apart.
    pub fn skewed(&mut self, skew: Duration) {
        self.skew = skew;
    }

    /// Whether nobody ever asked for one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    /// How many were answered to be done.
    #[must_use]
    pub fn done(&self) -> usize {
        self.asked.values().flat_map(BTreeMap::values).filter(|delete| delete.is_done).count()
    }

    /// How much later what another node did may be in its own time.
    #[must_use]
    pub fn skew(&self) -> Duration {
        self.skew
    }

    /// A delete is sent.
    pub fn begin(&mut self, node: NodeIndex, namespace: &str, start: Instant) -> DeleteId {
        self.next += 1;
        let delete =
            Delete { node, start, end: None, is_done: false, version: None, is_void: false };
        let id = DeleteId(self.next);
        self.asked.entry(namespace.to_owned()).or_default().insert(id, delete);
        id
    }

    /// A delete was answered.
    pub fn end(&mut self, namespace: &str, id: DeleteId, end: Instant, answered: Answered) {
        let Some(asked) = self.asked.get_mut(namespace) else { return };
        if answered == Answered::Refused {
            asked.remove(&id);
            return;
        }
        let Some(delete) = asked.get_mut(&id) else { return };
        delete.end = Some(delete.end.map_or(end, |before| before.min(end)));
        if let (Answered::Done(version), false) = (answered, delete.is_void) {
            (delete.is_done, delete.version) = (true, version);
        }
    }

    /// A node begins a new life: what was not done in the one before never will be.
    pub fn begin_life(&mut self, node: NodeIndex, now: Instant) {
        let deletes = self.asked.values_mut().flat_map(BTreeMap::values_mut);
        for delete in deletes.filter(|delete| delete.node == node && delete.end.is_none()) {
            delete.end = Some(now);
        }
    }

    /// A node has lost what it had acknowledged, deletes among it, also where the answer is on its way.
    pub fn void(&mut self, node: NodeIndex, now: Instant) {
        let deletes = self.asked.values_mut().flat_map(BTreeMap::values_mut);
        for delete in deletes.filter(|delete| delete.node == node) {
            (delete.is_done, delete.version, delete.is_void) = (false, None, true);
            delete.end.get_or_insert(now);
        }
    }

    /// A node has these tombstones on its disk.
    pub fn hears(&mut self, node: NodeIndex, tombstones: &Tombstones, now: Instant) {
        let known: BTreeMap<&str, Version> =
            tombstones.iter().map(|(namespace, it)| (namespace, it.version)).collect();
        // What a power loss took back is to be heard of again.
        for ((_, namespace), heard) in self.heard.iter_mut().filter(|((of, _), _)| *of == node) {
            let version = known.get(namespace.as_str()).copied();
            heard.retain(|(of, _)| version.is_some_and(|version| *of <= version));
        }
        for (namespace, version) in known {
            let heard = self.heard.entry((node, namespace.to_owned())).or_default();
            if heard.last().is_none_or(|(last, _)| *last < version) {
                heard.push((version, now));
            }
        }
    }

    /// Whether what is written so is out of reach of every delete that anybody has asked for so far.
    #[must_use]
    pub fn spare(&self, namespace: &str, writer: Writer) -> bool {
        self.of(namespace).all(|delete| {
            let Writer { node, is_content, at } = writer;
            if delete.node != node && !self.travel {
                return true;
            }
            if delete.node == node {
                return delete.settled_at() <= at;
            }
            !is_content && delete.settled_at() + CLOCK_GRAIN + self.skew < at
                || self.goes_by(node, (namespace, delete), at)
        })
    }

    /// Whether what a node has at a time is out of reach of every delete that anybody has asked for so far.
    #[must_use]
    pub fn spare_held(&self, namespace: &str, node: NodeIndex, at: Instant) -> bool {
        // As if it had been put there before everything: what is there may be old.
        self.spare(namespace, Writer { node, is_content: true, at })
    }

    /// The deletes that a node must go by in a read that began at `start`.
    #[must_use]
    pub fn buried(&self, namespace: &str, node: NodeIndex, start: Instant) -> Vec<Buried> {
        let done = self.of(namespace).filter(|delete| delete.is_done);
        let buried = done.filter_map(|delete| {
            let is_own = delete.node == node;
            let counts = is_own && delete.end.is_some_and(|end| end <= start) || self.have_arrived;
            let skew = if is_own { Duration::ZERO } else { self.skew };
            let skew_nanos = u64::try_from(skew.as_nanos()).unwrap_or(u64::MAX);
            let since = Instant(delete.start.0.saturating_sub(skew_nanos));
            counts.then_some(Buried { since, is_own })
        });
        let (own, others): (Vec<Buried>, Vec<Buried>) = buried.partition(|it| it.is_own);
        // A later one covers whatever an earlier one does.
        let latest = |of: Vec<Buried>| of.into_iter().max_by_key(|it| it.since);
        latest(own).into_iter().chain(latest(others)).collect()
    }

    fn of(&self, namespace: &str) -> impl Iterator<Item = &Delete> {
        self.asked.get(namespace).into_iter().flat_map(BTreeMap::values)
    }

    /// Whether a node has heard of a delete of another one, long enough before.
    fn goes_by(&self, node: NodeIndex, (namespace, delete): (&str, &Delete), at: Instant) -> bool {
        let Some(version) = delete.version else { return false };
        let heard = self.heard.get(&(node, namespace.to_owned()));
        heard.into_iter().flatten().any(|(of, since)| *of >= version && *since + HEARS <= at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: NodeIndex = NodeIndex(0);
    const THERE: NodeIndex = NodeIndex(1);

    fn at(seconds: u64) -> Instant {
        Instant(seconds * 1_000_000_000)
    }

    fn told(version: Version) -> Tombstones {
        let mut tombstones = Tombstones::default();
        tombstones.merge("ns", version);
        tombstones
    }

    fn done(deletes: &mut Deletes, node: NodeIndex, (start, end): (u64, u64), version: Version) {
        let id = deletes.begin(node, "ns", at(start));
        deletes.end("ns", id, at(end), Answered::Done(Some(version)));
    }

    fn spares(deletes: &Deletes, node: NodeIndex, seconds: u64) -> bool {
        deletes.spare("ns", Writer { node, is_content: false, at: at(seconds) })
    }

    #[test]
    fn only_what_began_after_the_answer_stays() {
        let mut deletes = Deletes::default();
        assert!(spares(&deletes, HERE, 0) && deletes.is_empty());
        let id = deletes.begin(HERE, "ns", at(10));
        assert!(!spares(&deletes, HERE, 5) && !spares(&deletes, HERE, 100), "it is under way");
        assert!(deletes.spare("other", Writer { node: HERE, is_content: false, at: at(5) }));
        deletes.end("ns", id, at(12), Answered::Done(None));
        assert!(!spares(&deletes, HERE, 11) && spares(&deletes, HERE, 12));
        assert!(spares(&deletes, THERE, 0), "nobody tells that node");
        deletes.travel();
        assert!(!spares(&deletes, THERE, 12) && spares(&deletes, THERE, 13));
        assert_eq!(deletes.done(), 1);
        let refused = deletes.begin(HERE, "ns", at(20));
        deletes.end("ns", refused, at(21), Answered::Refused);
        assert!(spares(&deletes, HERE, 12), "it was never done");
    }

    #[test]
    fn without_an_answer_it_may_be_done_until_the_node_dies() {
        let mut deletes = Deletes::default();
        deletes.begin(HERE, "ns", at(10));
        assert!(!spares(&deletes, HERE, 129) && spares(&deletes, HERE, 130));
        deletes.begin_life(THERE, at(15));
        assert!(!spares(&deletes, HERE, 20));
        deletes.begin_life(HERE, at(15));
        assert!(!spares(&deletes, HERE, 14) && spares(&deletes, HERE, 15));
        assert_eq!(deletes.buried("ns", HERE, at(99)), []);
    }

    #[test]
    fn who_has_heard_of_it_writes_above_it_whatever_the_clock_says() {
        let mut deletes = Deletes::default();
        deletes.travel();
        deletes.skewed(Duration::from_secs(60));
        let version = Version { time: 7, node: 1 };
        done(&mut deletes, THERE, (10, 11), version);
        assert!(!spares(&deletes, HERE, 70) && spares(&deletes, HERE, 72));
        let content = |deletes: &Deletes, seconds| deletes.spare_held("ns", HERE, at(seconds));
        assert!(!content(&deletes, 99), "what is there may be from before");
        deletes.hears(HERE, &told(Version { time: 6, node: 1 }), at(12));
        assert!(!spares(&deletes, HERE, 20), "an earlier one");
        deletes.hears(HERE, &told(version), at(14));
        assert!(!spares(&deletes, HERE, 14) && spares(&deletes, HERE, 15));
        assert!(!content(&deletes, 14) && content(&deletes, 15));
        deletes.hears(HERE, &Tombstones::default(), at(16));
        assert!(!spares(&deletes, HERE, 20), "a power loss took it back");
    }

    #[test]
    fn a_node_goes_by_its_own_and_in_the_end_by_all() {
        let mut deletes = Deletes::default();
        deletes.travel();
        deletes.skewed(Duration::from_secs(2));
        let version = Version { time: 7, node: 1 };
        done(&mut deletes, HERE, (10, 11), version);
        done(&mut deletes, HERE, (20, 21), version);
        done(&mut deletes, THERE, (30, 31), version);
        let own = |start| Buried { since: at(start), is_own: true };
        assert_eq!(deletes.buried("ns", HERE, at(10)), []);
        assert_eq!(deletes.buried("ns", HERE, at(20)), [own(10)]);
        assert_eq!(deletes.buried("ns", HERE, at(40)), [own(20)]);
        deletes.have_arrived();
        let other = Buried { since: at(28), is_own: false };
        assert_eq!(deletes.buried("ns", HERE, at(40)), [own(20), other]);
        let id = deletes.begin(HERE, "ns", at(50));
        deletes.void(HERE, at(51));
        assert_eq!(deletes.buried("ns", HERE, at(40)), [other], "its disk was lost");
        deletes.end("ns", id, at(52), Answered::Done(Some(version)));
        assert_eq!(deletes.buried("ns", HERE, at(60)), [other], "with what it was answering");
    }
}
