//! What the clients did and what they were told: the evidence for the invariants about answers.
//!
//! Each node has a history of its own for every key; in a mesh what was put to one node may be read
//! on any other.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use kura_env::Instant;

use crate::{
    body::{Body, BodyId},
    deletes::{Answered, Buried, DeleteId, Deletes, Writer},
};

/// A node by its position in the scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeIndex(pub usize);

/// Why a put must never be readable, whatever it was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fraud {
    /// Its body is cut: fewer bytes were sent than were declared.
    Cut,
    /// Its body does not have the digest that its name promises.
    WrongDigest,
    /// It is larger than the node takes.
    Oversize,
}

/// What a put came to, as far as its client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// No answer, or none that says what became of it: it may be there or not.
    Unknown,
    /// Acknowledged, as this change of the node.
    Acked(u64),
    /// Acknowledged by another node than the one that is asked.
    AckedElsewhere,
    /// Refused by an answer that excludes that it was stored.
    Refused,
}

/// One put.
#[derive(Clone, Copy, Debug)]
pub struct Put {
    /// What was sent.
    pub body: Body,
    /// When its first byte may have been sent.
    pub start: Instant,
    /// When its client stopped waiting; `None` while it waits.
    pub end: Option<Instant>,
    /// What it came to.
    pub outcome: PutOutcome,
    /// Whether it must never be readable.
    pub fraud: Option<Fraud>,
}

/// A put by which it can be found again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PutId(u64);

/// The newest put that a node owes for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owed {
    /// Its sequence.
    pub sequence: u64,
    /// Its body.
    pub body: BodyId,
    /// When its first byte may have been sent.
    pub start: Instant,
}

/// Puts kept for a key and a node. The eldest ones are forgotten: a body that old is a lie by then.
const PUTS_PER_KEY_MAX: usize = 512;

/// Everything that was put, by node and key.
#[derive(Default)]
pub struct History {
    keys: BTreeMap<(NodeIndex, String), BTreeMap<PutId, Put>>,
    next_put: u64,
    next_body: u64,
    acked_bytes: u64,
    statuses: BTreeMap<u16, u64>,
    answers: u64,
    asked: u64,
    hits: u64,
    early_hits: u64,
    /// Within this the answer to a GET begins, if that is judged.
    read_limit: Option<Duration>,
    read_bytes: u64,
    /// How many nodes are each other's peers; none if they are not.
    mesh_nodes: usize,
    /// What cannot be read whole any more, by node and path: nothing is owed there.
    spoilt: BTreeSet<(NodeIndex, String)>,
    /// When a node lost what its device had only said to keep: nothing from before is owed.
    void: BTreeMap<NodeIndex, Instant>,
    /// From when to when the data of a node were taken back: what it took in between may be there again, and it does not
    /// know in which order it came.
    taken_back: BTreeMap<NodeIndex, Vec<(Instant, Instant)>>,
    /// For how long a node promises what it says to be here.
    promise: Duration,
    /// Until when a node has promised a path.
    promised: BTreeMap<(NodeIndex, String), Instant>,
    /// By node, how many puts were tried, and the bytes of their bodies.
    tried: BTreeMap<NodeIndex, (u64, u64)>,
    /// What was to be deleted.
    pub deletes: Deletes,
}

impl History {
    /// The nodes are each other's peers: what one of them took in may be read on all of them.
    pub fn span(&mut self, mesh_nodes: usize) {
        self.mesh_nodes = mesh_nodes;
        self.deletes.travel();
    }

    /// An artifact cannot be read whole any more on a node.
    pub fn spoil(&mut self, node: NodeIndex, path: String) {
        self.spoilt.insert((node, path));
    }

    /// The device of a node has lost what it had acknowledged, and nobody knows what of it.
    pub fn voids(&mut self, node: NodeIndex, now: Instant) {
        self.void.insert(node, now);
        self.promised.retain(|(promiser, _), _| *promiser != node);
        self.deletes.void(node, now);
    }

    /// The data of a node are again those of `then`. What was acknowledged since is not owed there, and may come back from
    /// others with the version that it had: that may be earlier or later than that of whatever the node takes in from now
    /// on.
    pub fn takes_back(&mut self, node: NodeIndex, then: Instant, now: Instant) {
        self.taken_back.entry(node).or_default().push((then, now));
        self.promised.retain(|(promiser, _), _| *promiser != node);
        self.deletes.void(node, now);
    }

    /// Whether the order of a put to a node is not known any more.
    fn is_taken_back(&self, node: NodeIndex, put: &Put) -> bool {
        let spans = self.taken_back.get(&node).into_iter().flatten();
        spans
            .into_iter()
            .any(|(then, now)| put.start <= *now && put.end.is_none_or(|end| end >= *then))
    }

    /// A delete of a namespace is sent: nothing in it is promised any more.
    pub fn begin_delete(&mut self, node: NodeIndex, namespace: &str, now: Instant) -> DeleteId {
        let reaches = |of: NodeIndex| of == node || self.mesh_nodes > 0;
        self.promised.retain(|(of, path), _| !(reaches(*of) && namespace_of(path) == namespace));
        self.deletes.begin(node, namespace, now)
    }

    /// A delete was answered.
    pub fn end_delete(&mut self, namespace: &str, id: DeleteId, now: Instant, answered: Answered) {
        self.deletes.end(namespace, id, now, answered);
    }

    /// The deletes that a node must go by in a read of `path` that began at `start`.
    #[must_use]
    pub fn buried(&self, node: NodeIndex, path: &str, start: Instant) -> Vec<Buried> {
        self.deletes.buried(namespace_of(path), node, start)
    }

    /// Whether no delete can have taken away what is owed.
    #[must_use]
    pub fn stands(&self, node: NodeIndex, path: &str, owed: &Owed) -> bool {
        self.is_spared(node, path, owed.start)
    }

    fn is_spared(&self, node: NodeIndex, path: &str, at: Instant) -> bool {
        let is_content = is_content_address(path);
        let writer = Writer { node, is_content, at };
        self.deletes.is_empty() || self.deletes.spare(namespace_of(path), writer)
    }

    /// Whether an artifact was spoilt on a node.
    #[must_use]
    pub fn is_spoilt(&self, node: NodeIndex, path: &str) -> bool {
        !self.spoilt.is_empty() && self.spoilt.contains(&(node, path.to_owned()))
    }

    /// From now on an answer to a GET that begins later than this is held against the node.
    pub fn reads_within(&mut self, limit: Duration) {
        self.read_limit = Some(limit);
    }

    /// Within which time the answer to a GET begins; `None`: that is not judged.
    #[must_use]
    pub fn read_limit(&self) -> Option<Duration> {
        self.read_limit
    }

    /// What nodes say to be here they promise for so long from now on; zero: they do not.
    pub fn promises_last(&mut self, promise: Duration) {
        self.promise = promise;
    }

    /// A node said that a content address is here, to a question that was asked at `asked`.
    pub fn vouched(&mut self, node: NodeIndex, path: &str, asked: Instant) {
        let is_deleted = || !self.deletes.spare_held(namespace_of(path), node, asked);
        if is_content_address(path) && !self.promise.is_zero() && !is_deleted() {
            self.promised.insert((node, path.to_owned()), asked + self.promise);
        }
    }

    /// Until when a node has promised a path, unless the path was spoilt there since, or nothing of it is owed
    /// since the device lost what it had acknowledged.
    #[must_use]
    pub fn promised_until(&self, node: NodeIndex, path: &str) -> Option<Instant> {
        let promised = self.promised.get(&(node, path.to_owned())).copied();
        // What is vouched for by the index alone may be what the device gave away.
        let is_void =
            self.void.contains_key(&node) && self.owed(node, path, Instant(u64::MAX)).is_none();
        promised.filter(|_| !is_void && !self.is_spoilt(node, path))
    }

    /// How many paths were promised, by whichever node, and not voided since.
    #[must_use]
    pub fn promised_paths(&self) -> usize {
        self.promised.len()
    }

    /// How many puts to a node were tried, and the bytes of their bodies.
    #[must_use]
    pub fn tried(&self, node: NodeIndex) -> (u64, u64) {
        self.tried.get(&node).copied().unwrap_or_default()
    }

    /// The id of the next body.
    pub fn next_body(&mut self) -> BodyId {
        self.next_body += 1;
        BodyId(self.next_body)
    }

    /// A put begins.
    pub fn begin_put(&mut self, node: NodeIndex, path: &str, put: Put) -> PutId {
        self.next_put += 1;
        let id = PutId(self.next_put);
        let (puts, bytes) = self.tried.entry(node).or_default();
        (*puts, *bytes) = (*puts + 1, *bytes + put.body.len_bytes);
        let puts = self.keys.entry((node, path.to_owned())).or_default();
        puts.insert(id, put);
        if puts.len() > PUTS_PER_KEY_MAX {
            puts.pop_first();
        }
        id
    }

    /// A put has ended.
    pub fn end_put(
        &mut self,
        (node, path): (NodeIndex, &str),
        id: PutId,
        end: Instant,
        outcome: PutOutcome,
    ) {
        let puts = self.keys.get_mut(&(node, path.to_owned()));
        let Some(put) = puts.and_then(|puts| puts.get_mut(&id)) else { return };
        put.end = Some(end);
        put.outcome = outcome;
        if let PutOutcome::Acked(_) = outcome {
            self.acked_bytes += put.body.len_bytes;
        }
    }

    /// An answer with this status was seen.
    pub fn saw_status(&mut self, status: u16) {
        self.answers += 1;
        *self.statuses.entry(status).or_default() += 1;
    }

    /// Answers by status.
    #[must_use]
    pub fn statuses(&self) -> &BTreeMap<u16, u64> {
        &self.statuses
    }

    /// How many answers there were.
    #[must_use]
    pub fn answers(&self) -> u64 {
        self.answers
    }

    /// A body was asked for.
    pub fn count_read(&mut self) {
        self.asked += 1;
    }

    /// How often a body was asked for.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.asked
    }

    /// A whole body was read back.
    pub fn count_hit(&mut self, len_bytes: u64) {
        self.hits += 1;
        self.read_bytes += len_bytes;
    }

    /// One of them came from a node that was still reading its data back.
    pub fn count_early_hit(&mut self) {
        self.early_hits += 1;
    }

    /// How many whole bodies nodes handed out while they were still reading their data back.
    #[must_use]
    pub fn early_hits(&self) -> u64 {
        self.early_hits
    }

    /// Bytes of bodies that were read back whole.
    #[must_use]
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes
    }

    /// How many whole bodies were read back.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.hits
    }

    /// Bytes of bodies that were acknowledged, in all.
    #[must_use]
    pub fn acked_bytes(&self) -> u64 {
        self.acked_bytes
    }

    /// Everything that was ever put to a key of a node or of its peers, frauds included.
    #[must_use]
    pub fn puts(&self, node: NodeIndex, path: &str) -> Vec<Put> {
        let of = |node| {
            let puts = self.keys.get(&(node, path.to_owned()));
            puts.into_iter().flat_map(|puts| puts.values().copied())
        };
        let mut puts: Vec<Put> = of(node).collect();
        for put in &mut puts {
            if matches!(put.outcome, PutOutcome::Acked(_)) && self.is_taken_back(node, put) {
                *put = Put { outcome: PutOutcome::AckedElsewhere, end: None, ..*put };
            }
        }
        for other in (0..self.mesh_nodes).map(NodeIndex).filter(|other| *other != node) {
            // By the clock of that node it may have been over later.
            let end = |put: &Put| put.end.map(|end| end + self.deletes.skew());
            puts.extend(of(other).map(|put| match put.outcome {
                PutOutcome::Acked(_) => {
                    Put { outcome: PutOutcome::AckedElsewhere, end: end(&put), ..put }
                }
                PutOutcome::AckedElsewhere | PutOutcome::Unknown | PutOutcome::Refused => put,
            }));
        }
        puts
    }

    /// The put that a read beginning at `start` must find, or one newer than it, unless it was
    /// evicted: of those acknowledged before that no delete can cover, the one with the highest sequence.
    #[must_use]
    pub fn owed(&self, node: NodeIndex, path: &str, start: Instant) -> Option<Owed> {
        if self.is_spoilt(node, path) {
            return None;
        }
        let puts = self.keys.get(&(node, path.to_owned()))?;
        let void = self.void.get(&node).copied();
        // An answer may be on its way while the device loses what it was about.
        let stands = |put: &&Put| {
            let is_over = put.end.is_some_and(|end| end <= start);
            let is_kept = void.is_none_or(|void| put.start > void);
            is_over && is_kept && !self.is_taken_back(node, put)
        };
        let acked = puts.values().filter(stands);
        // Under any other name a put is written, whatever is there.
        let repeated_void = void.filter(|_| is_content_address(path));
        let repeats =
            |put: &Put| repeated_void.is_some_and(|void| repeats_void(puts.values(), put, void));
        acked
            .filter(|put| !repeats(put) && self.is_spared(node, path, put.start))
            .filter_map(|put| match put.outcome {
                PutOutcome::Acked(sequence) => {
                    Some(Owed { sequence, body: put.body.id, start: put.start })
                }
                PutOutcome::AckedElsewhere | PutOutcome::Unknown | PutOutcome::Refused => None,
            })
            .max_by_key(|owed| owed.sequence)
    }

    /// Every key of every node to which anything was put.
    pub fn keys(&self) -> impl Iterator<Item = (NodeIndex, &str)> {
        self.keys.keys().map(|(node, path)| (*node, path.as_str()))
    }
}

/// The namespace of a path.
fn namespace_of(path: &str) -> &str {
    path.trim_start_matches('/').split('/').next().unwrap_or_default()
}

/// Whether a path ends in the digest of its body.
fn is_content_address(path: &str) -> bool {
    path.rsplit('/').nth(1) == Some("cas")
}

/// Whether an acknowledged put to a content address may have been one of a body that the node took to be there
/// already, from before its device lost `void` and all before: a repeated put is answered by what the index
/// says.
fn repeats_void<'a>(mut puts: impl Iterator<Item = &'a Put>, put: &Put, void: Instant) -> bool {
    puts.any(|before| {
        let may_be_it = match before.outcome {
            PutOutcome::Acked(_) => before.outcome == put.outcome,
            PutOutcome::Unknown => true,
            PutOutcome::AckedElsewhere | PutOutcome::Refused => false,
        };
        before.start <= void && before.body.id == put.body.id && may_be_it
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_content_addresses_are_promised_and_from_the_question_on() {
        let mut history = History::default();
        let node = NodeIndex(0);
        let promised = |history: &History, path| history.promised_until(node, path);
        history.vouched(node, "/ns/cas/x", Instant(5));
        assert_eq!(promised(&history, "/ns/cas/x"), None, "nothing is promised there");
        history.promises_last(Duration::from_nanos(10));
        history.vouched(node, "/ns/cas/x", Instant(5));
        history.vouched(node, "/ns/plain/x", Instant(5));
        assert_eq!(promised(&history, "/ns/cas/x"), Some(Instant(15)));
        assert_eq!(promised(&history, "/ns/plain/x"), None);
        assert_eq!(history.promised_until(NodeIndex(1), "/ns/cas/x"), None);
        history.spoil(node, "/ns/cas/x".to_owned());
        assert_eq!(promised(&history, "/ns/cas/x"), None);
    }

    #[test]
    fn what_was_taken_back_is_not_owed_and_may_come_again() {
        let mut history = History::default();
        let (node, path) = (NodeIndex(0), "/ns/k");
        for (id, start, sequence) in [(1, 10, 5), (2, 30, 6), (3, 60, 6)] {
            if id == 3 {
                history.takes_back(node, Instant(20), Instant(50));
            }
            let put = Put {
                body: Body { id: BodyId(id), len_bytes: 1, forged: false },
                start: Instant(start),
                end: None,
                outcome: PutOutcome::Unknown,
                fraud: None,
            };
            let put = history.begin_put(node, path, put);
            let end = Instant(start + 5);
            history.end_put((node, path), put, end, PutOutcome::Acked(sequence));
        }
        let owed = |at| history.owed(node, path, Instant(at)).map(|owed| owed.body);
        assert_eq!((owed(55), owed(70)), (Some(BodyId(1)), Some(BodyId(3))), "the image has it");
        let outcomes: Vec<_> = history.puts(node, path).iter().map(|it| it.outcome).collect();
        let again = PutOutcome::AckedElsewhere;
        assert_eq!(outcomes, [PutOutcome::Acked(5), again, PutOutcome::Acked(6)]);
    }

    #[test]
    fn what_is_owed_is_the_newest_put_acknowledged_before_the_read() {
        let mut history = History::default();
        let node = NodeIndex(0);
        let put = |id| Put {
            body: Body { id: BodyId(id), len_bytes: 1, forged: false },
            start: Instant(0),
            end: None,
            outcome: PutOutcome::Unknown,
            fraud: None,
        };
        let first = history.begin_put(node, "/k", put(1));
        let second = history.begin_put(node, "/k", put(2));
        assert_eq!(history.owed(node, "/k", Instant(100)), None);
        history.end_put((node, "/k"), first, Instant(10), PutOutcome::Acked(8));
        history.end_put((node, "/k"), second, Instant(20), PutOutcome::Acked(7));
        let owed = Owed { sequence: 8, body: BodyId(1), start: Instant(0) };
        assert_eq!(history.owed(node, "/k", Instant(9)), None);
        assert_eq!(history.owed(node, "/k", Instant(10)), Some(owed));
        assert_eq!(history.owed(node, "/k", Instant(99)), Some(owed));
        assert_eq!(history.owed(NodeIndex(1), "/k", Instant(99)), None);
        assert_eq!((history.acked_bytes(), history.puts(node, "/k").len()), (2, 2));
        assert_eq!(history.puts(NodeIndex(1), "/k").len(), 0);
        history.span(2);
        let elsewhere = history.puts(NodeIndex(1), "/k");
        assert!(elsewhere.iter().all(|put| put.outcome == PutOutcome::AckedElsewhere));
        assert_eq!(elsewhere.len(), 2);
        history.spoil(node, "/k".to_owned());
        assert_eq!(
            history.owed(node, "/k", Instant(99)),
            None,
            "nothing is owed of what is spoilt"
        );
    }

    #[test]
    fn what_repeats_a_put_from_before_a_loss_is_owed_as_little_as_that() {
        let mut history = History::default();
        let (node, path) = (NodeIndex(0), "/ns/cas/x");
        history.promises_last(Duration::from_secs(1));
        let mut put = |start, end, sequence| {
            let put = Put {
                body: Body { id: BodyId(1), len_bytes: 1, forged: false },
                start: Instant(start),
                end: None,
                outcome: PutOutcome::Unknown,
                fraud: None,
            };
            let begun = history.begin_put(node, path, put);
            history.end_put((node, path), begun, Instant(end), PutOutcome::Acked(sequence));
            if sequence == 5 {
                history.voids(node, Instant(10));
            }
            history.vouched(node, path, Instant(end));
            let promised = history.promised_until(node, path).is_some();
            (history.owed(node, path, Instant(99)).map(|owed| owed.sequence), promised)
        };
        assert_eq!(put(0, 1, 5), (None, false));
        assert_eq!(put(20, 21, 5), (None, false), "the node takes it to be there");
        assert_eq!(put(30, 31, 9), (Some(9), true), "it was written");
    }

    #[test]
    fn a_delete_takes_what_is_owed_and_promised_and_not_what_is_put_later() {
        let mut history = History::default();
        let (node, path) = (NodeIndex(0), "/ns/cas/x");
        history.promises_last(Duration::from_secs(1));
        let put = |history: &mut History, start, sequence| {
            let put = Put {
                body: Body { id: BodyId(1), len_bytes: 1, forged: false },
                start: Instant(start),
                end: None,
                outcome: PutOutcome::Unknown,
                fraud: None,
            };
            let begun = history.begin_put(node, path, put);
            let outcome = PutOutcome::Acked(sequence);
            history.end_put((node, path), begun, Instant(start + 1), outcome);
        };
        let claims = |history: &History| {
            let owed = history.owed(node, path, Instant(99)).map(|owed| owed.sequence);
            (owed, history.promised_until(node, path).is_some())
        };
        put(&mut history, 1, 5);
        history.vouched(node, path, Instant(3));
        let owed = history.owed(node, path, Instant(99)).unwrap();
        assert_eq!(claims(&history), (Some(5), true));
        let other = history.begin_delete(node, "n", Instant(10));
        history.end_delete("n", other, Instant(11), Answered::Done(None));
        assert!(claims(&history) == (Some(5), true) && history.stands(node, path, &owed));
        let delete = history.begin_delete(node, "ns", Instant(20));
        history.vouched(node, path, Instant(21));
        assert!(claims(&history) == (None, false) && !history.stands(node, path, &owed));
        history.end_delete("ns", delete, Instant(22), Answered::Done(None));
        assert_eq!(claims(&history), (None, false));
        put(&mut history, 21, 6);
        assert_eq!(claims(&history), (None, false), "it began before the answer");
        put(&mut history, 23, 7);
        history.vouched(node, path, Instant(25));
        assert_eq!(claims(&history), (Some(7), true));
        assert_eq!(history.buried(node, path, Instant(30)).len(), 1);
        assert_eq!(history.buried(node, "/other/x", Instant(30)).len(), 0);
    }

    #[test]
    fn what_repeats_a_put_under_a_name_of_its_own_is_owed() {
        let mut history = History::default();
        let (node, path) = (NodeIndex(0), "/ns/plain/x");
        let mut put = |start, outcome| {
            let put = Put {
                body: Body { id: BodyId(1), len_bytes: 1, forged: false },
                start: Instant(start),
                end: None,
                outcome: PutOutcome::Unknown,
                fraud: None,
            };
            let begun = history.begin_put(node, path, put);
            history.end_put((node, path), begun, Instant(start + 1), outcome);
            if start == 0 {
                history.voids(node, Instant(10));
            }
            history.owed(node, path, Instant(99)).map(|owed| owed.sequence)
        };
        assert_eq!(put(0, PutOutcome::Unknown), None);
        assert_eq!(put(20, PutOutcome::Acked(7)), Some(7));
    }

    #[test]
    fn an_answer_that_was_on_its_way_when_the_device_lost_it_owes_nothing() {
        let mut history = History::default();
        let (node, path) = (NodeIndex(0), "/ns/plain/x");
        let body = Body { id: BodyId(1), len_bytes: 1, forged: false };
        let outcome = PutOutcome::Unknown;
        for (start, end, sequence) in [(9, 11, 5), (11, 12, 6)] {
            let put = Put { body, start: Instant(start), end: None, outcome, fraud: None };
            let begun = history.begin_put(node, path, put);
            history.voids(node, Instant(10));
            assert_eq!(history.owed(node, path, Instant(99)), None);
            history.end_put((node, path), begun, Instant(end), PutOutcome::Acked(sequence));
        }
        let owed = history.owed(node, path, Instant(99)).map(|owed| owed.sequence);
        assert_eq!((history.owed(node, path, Instant(11)), owed), (None, Some(6)));
    }
}
