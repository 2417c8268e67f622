//! What peers say to each other: JSON for everything but bodies.
//!
//! | request | answer |
//! |---|---|
//! | `GET /peer/v1/hello` | [`Hello`] |
//! | `GET /peer/v1/pulse` | [`Pulse`] |
//! | `GET /peer/v1/feed?incarnation=&from=&rows=&wait_ms=&deletes=` | [`FeedPage`]; 410 if the cursor is of no use |
//! | `GET /peer/v1/deletes` | [`DeletesKnown`] |
//! | `POST /peer/v1/compare?rows=&parts=`, a list of [`Ask`]s | [`Compared`]: of the first of them in their order |
//! | `POST /peer/v1/bodies`, a list of [`Row`]s | for each in order: a byte 1, the length (8 bytes, little-endian) and the body; or a byte 0: not here; or a byte 2: cannot be read; or, of a row with `from`, a byte 3, that offset, the length of the rest (8 bytes each) and the rest |
//!
//! While the node reads its data back, hello and pulse say so, and the others are answered 503 with
//! `Retry-After`. A node that cannot answer because something is wrong with it says 500.

use std::time::Duration;

use kura_core::{
    address::{Address, Space},
    digest::Digest,
    feed::{Cursor, Extent, FeedRow},
    limits::{BODY_BYTES_MAX, PeerLimits},
    primary::Candidate,
    record::Version,
    summary::{Position, Span, Sum, halves, whole},
    tombstones::{Tombstone, Tombstones, check_namespace},
};
use serde::{Deserialize, Deserializer, Serialize, de::IntoDeserializer as _};

use crate::{service::State, store::Store};

/// Path of [`Hello`].
pub(crate) const HELLO: &str = "/peer/v1/hello";
/// Path of [`Pulse`].
pub(crate) const PULSE: &str = "/peer/v1/pulse";
/// Path of the feed.
pub(crate) const FEED: &str = "/peer/v1/feed";
/// The header in which an answer with bodies has the fingerprint of the deletes that the node knows, if there are any.
pub(crate) const DELETES_PRINT: &str = "x-kura-deletes";
/// Path of deletes.
pub(crate) const DELETES: &str = "/peer/v1/deletes";
/// Path of comparisons.
pub(crate) const COMPARE: &str = "/peer/v1/compare";
/// Path of bodies.
pub(crate) const BODIES: &str = "/peer/v1/bodies";

/// A body that is not here, or not in this version any more.
pub(crate) const BODY_MISSING: u8 = 0;
/// A body that is here, and that the node cannot read.
pub(crate) const BODY_UNREADABLE: u8 = 2;
/// A body follows.
pub(crate) const BODY_FOLLOWS: u8 = 1;
/// What lies behind an offset of a body follows. Sent only to who asked for it: a node that does not know of offsets
/// sends the whole body.
pub(crate) const BODY_REST_FOLLOWS: u8 = 3;

/// Who a node is, and what its feed holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// Its identity; none until that is read back.
    pub(crate) life: Option<Life>,
    /// The region it is in.
    pub(crate) region: String,
    /// Where in its life it is; none where a later version calls it by a name that is not known here.
    #[serde(deserialize_with = "known_state")]
    pub(crate) state: Option<State>,
    /// A fingerprint of the deletes that it knows; 0 if there are none.
    #[serde(default)]
    pub(crate) deletes: u64,
    /// What it takes in one request and tells in one answer.
    #[serde(default)]
    pub(crate) limits: Limits,
}

fn known_state<'de, D: Deserializer<'de>>(from: D) -> Result<Option<State>, D::Error> {
    let name = String::deserialize(from)?;
    let known: Result<State, serde::de::value::Error> =
        State::deserialize(name.into_deserializer());
    Ok(known.ok())
}

/// How fit a node is to be primary, and where its feed ends. What is left out counts as nothing.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Pulse {
    /// Its identity, and where its feed ends; none until that is read back.
    life: Option<Life>,
    /// The region it is in.
    pub(crate) region: String,
    /// Whether it answers reads and takes writes.
    serves: bool,
    /// Whether it is about to stop.
    leaves: bool,
    /// For how long it has been primary, as far as it knows.
    primary_ms: Option<u64>,
    /// For how long it has run.
    age_ms: u64,
    /// Since when it lacks something that a peer of its region has; none: it never had all.
    lag_ms: Option<u64>,
    /// What it stores.
    bytes: u64,
}

impl Pulse {
    pub(crate) fn new(me: &Candidate, region: &str, life: Option<Life>) -> Self {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            life,
            region: region.to_owned(),
            serves: me.is_serviceable,
            leaves: me.is_leaving,
            primary_ms: me.primary_for.map(millis),
            age_ms: millis(me.age),
            lag_ms: me.lag.map(millis),
            bytes: me.bytes,
        }
    }

    /// Who it is; nobody until its identity is read back.
    pub(crate) fn read(&self) -> Option<Candidate> {
        Some(Candidate {
            node: self.life?.node,
            is_serviceable: self.serves,
            is_leaving: self.leaves,
            age: Duration::from_millis(self.age_ms),
            lag: self.lag_ms.map(Duration::from_millis),
            bytes: self.bytes,
            primary_for: self.primary_ms.map(Duration::from_millis),
        })
    }

    /// Where its feed ends.
    pub(crate) fn head(&self) -> Option<Cursor> {
        let Life { incarnation, head, .. } = self.life?;
        Some(Cursor { incarnation, sequence: head })
    }

    /// Which start of it says so.
    pub(crate) fn start(&self) -> Option<u64> {
        self.life?.start
    }

    /// How many bytes it stores.
    pub(crate) fn stores(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn is_of(&self, node: u64) -> bool {
        self.life.is_some_and(|life| life.node == node)
    }
}

/// [`PeerLimits`] as a peer tells them: what it leaves out is as in the first version that told of any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Limits {
    page_rows: usize,
    spans: usize,
    items_known: usize,
    parts: u64,
    batch_rows: usize,
    batch_bytes: u64,
    message_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        PeerLimits::FIRST.into()
    }
}

impl From<PeerLimits> for Limits {
    fn from(limits: PeerLimits) -> Self {
        let PeerLimits { page_rows, spans, items_known, parts, .. } = limits;
        let PeerLimits { batch_rows, batch_bytes, message_bytes, .. } = limits;
        Self { page_rows, spans, items_known, parts, batch_rows, batch_bytes, message_bytes }
    }
}

impl From<Limits> for PeerLimits {
    fn from(limits: Limits) -> Self {
        let Limits { page_rows, spans, items_known, parts, .. } = limits;
        let Limits { batch_rows, batch_bytes, message_bytes, .. } = limits;
        Self { page_rows, spans, items_known, parts, batch_rows, batch_bytes, message_bytes }
    }
}

/// The query of a comparison: how much may be told. Who leaves it out takes what the first version told.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct CompareQuery {
    /// Rows, but for those of a range that is told as a whole.
    pub(crate) rows: Option<usize>,
    /// Parts of a range.
    pub(crate) parts: Option<u64>,
}

/// Which data a node has, and what its feed holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Life {
    /// No other node has this id.
    pub(crate) node: u64,
    /// A node that lost its data has another one.
    pub(crate) incarnation: u64,
    /// One above the last row of its feed.
    pub(crate) head: u64,
    /// Which start of it this is; an earlier version does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) start: Option<u64>,
}

impl Life {
    /// Of this node.
    pub(crate) fn of(store: &Store) -> Self {
        let Extent { incarnation, head, .. } = store.extent();
        Self { node: store.node(), incarnation, head, start: Some(store.start()) }
    }
}

/// The query of the feed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FeedQuery {
    pub(crate) incarnation: u64,
    pub(crate) from: u64,
    pub(crate) rows: usize,
    pub(crate) wait_ms: u64,
    /// Answered at once if the node knows other deletes than those of this fingerprint.
    #[serde(default)]
    pub(crate) deletes: Option<u64>,
    /// Who asks; nodes of earlier versions do not say.
    #[serde(default)]
    pub(crate) node: Option<u64>,
    /// And in which region that is.
    #[serde(default)]
    pub(crate) region: String,
}

/// Some of the feed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FeedPage {
    pub(crate) rows: Vec<Row>,
    /// Where to read on.
    pub(crate) next: u64,
    /// One above the last row there is.
    pub(crate) head: u64,
    /// As in [`Hello`].
    #[serde(default)]
    pub(crate) deletes: u64,
    /// The start that told this, as in [`Life`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) start: Option<u64>,
}

/// All deletes of namespaces that a node knows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DeletesKnown {
    /// Their fingerprint, as in [`Hello`].
    pub(crate) print: u64,
    /// One for each namespace.
    pub(crate) deletes: Vec<DeleteKnown>,
}

/// Everything in a namespace up to a version is deleted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DeleteKnown {
    namespace: String,
    time: u64,
    node: u64,
}

impl From<&Tombstones> for DeletesKnown {
    fn from(tombstones: &Tombstones) -> Self {
        let known = |(namespace, it): (&str, Tombstone)| {
            let (namespace, Version { time, node }) = (namespace.to_owned(), it.version);
            DeleteKnown { namespace, time, node }
        };
        Self { print: tombstones.print(), deletes: tombstones.iter().map(known).collect() }
    }
}

impl DeleteKnown {
    /// What it says; nothing if no artifact can be in that namespace.
    pub(crate) fn read(self) -> Option<(String, Version)> {
        let Self { namespace, time, node } = self;
        check_namespace(&namespace).ok()?;
        Some((namespace, Version { time, node }))
    }
}

/// A question about a range of what a node holds: by its sum, or by the marks of all items.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ask {
    /// Time and upper half of the fingerprint, of its beginning and its end.
    range: [u64; 4],
    /// Count, and halves of the sum of fingerprints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sum: Option<[u64; 3]>,
    /// The lower halves of the fingerprints that whoever asks has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) known: Option<Vec<u64>>,
}

/// What is told of ranges, of the first ones alone if it is much.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Compared {
    pub(crate) told: Vec<Told>,
    /// As in [`Hello`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) deletes: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What is told of a range; nothing if it is the same.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Told {
    /// The newest first, and newer than all parts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) rows: Vec<Row>,
    /// The eldest first. What lies between them is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) parts: Vec<Part>,
}

/// A range as in [`Ask`], and its sum.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Part([u64; 4], [u64; 3]);

fn range_of(Span { from, to }: Span) -> [u64; 4] {
    [from.time, from.print, to.time, to.print]
}

fn span_of([from_time, from_print, to_time, to_print]: [u64; 4]) -> Span {
    Span {
        from: Position { time: from_time, print: from_print },
        to: Position { time: to_time, print: to_print },
    }
}

impl Ask {
    /// By its sum.
    pub(crate) fn sum(span: Span, sum: Sum) -> Self {
        Self { range: range_of(span), sum: Some(Part::new(span, sum).1), known: None }
    }

    /// By the marks of all that is held there.
    pub(crate) fn known(span: Span, known: Vec<u64>) -> Self {
        Self { range: range_of(span), sum: None, known: Some(known) }
    }

    pub(crate) fn span(&self) -> Span {
        span_of(self.range)
    }
}

impl Part {
    pub(crate) fn new(span: Span, Sum { count, print }: Sum) -> Self {
        let [upper, lower] = halves(print);
        Self(range_of(span), [count, upper, lower])
    }

    pub(crate) fn read(&self) -> (Span, Sum) {
        (span_of(self.0), Self::sum(self.1))
    }

    pub(crate) fn sum([count, upper, lower]: [u64; 3]) -> Sum {
        Sum { count, print: whole([upper, lower]) }
    }
}

/// One artifact in one version.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    namespace: String,
    space: u8,
    key: String,
    time: u64,
    node: u64,
    bytes: u64,
    digest: String,
    /// In a request for bodies: who asks has all that lies before this offset.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) from: u64,
}

impl From<&FeedRow> for Row {
    fn from(row: &FeedRow) -> Self {
        Self {
            namespace: row.address.namespace().to_owned(),
            space: row.address.space().number(),
            key: row.address.key().to_owned(),
            time: row.version.time,
            node: row.version.node,
            bytes: row.body_bytes,
            digest: row.digest.to_string(),
            from: 0,
        }
    }
}

impl Row {
    /// The hybrid logical time of its version.
    pub(crate) fn time(&self) -> u64 {
        self.time
    }

    /// What it says, if that has a meaning here: a later version may know more spaces, and no body is longer than one can
    /// be.
    pub(crate) fn read(&self) -> Option<FeedRow> {
        if self.bytes > BODY_BYTES_MAX {
            return None;
        }
        let space = Space::from_number(self.space)?;
        Some(FeedRow {
            address: Address::new(self.namespace.clone(), space, self.key.clone()).ok()?,
            version: Version { time: self.time, node: self.node },
            body_bytes: self.bytes,
            digest: Digest::parse(&self.digest)?,
        })
    }
}

/// What stands before a body, or before what lies behind its first `from` bytes.
pub(crate) fn announcement(len_bytes: u64, from: u64) -> Vec<u8> {
    if from == 0 {
        let mut frame = vec![BODY_FOLLOWS];
        frame.extend(len_bytes.to_le_bytes());
        return frame;
    }
    let mut frame = vec![BODY_REST_FOLLOWS];
    frame.extend(from.to_le_bytes());
    frame.extend((len_bytes - from).to_le_bytes());
    frame
}

#[cfg(test)]
mod recorded;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_of_a_later_version_is_no_reason_to_take_a_peer_for_silent() {
        let of = |state: &str| format!(r#"{{"life":null,"region":"x","state":{state}}}"#);
        let read = |text: &str| serde_json::from_str::<Hello>(&of(text)).map(|it| it.state);
        assert_eq!(read(r#""serving""#).unwrap(), Some(State::Serving));
        assert_eq!(read(r#""read-only""#).unwrap(), None);
        assert!(read("7").is_err(), "no state at all");
    }

    #[test]
    fn ranges_and_sums_read_back() {
        let at = |time, print| Position { time, print };
        let span = Span { from: at(1, u64::MAX), to: at(u64::MAX, 2) };
        let sum = Sum { count: 3, print: u128::MAX - 5 };
        let text = serde_json::to_string(&Part::new(span, sum)).unwrap();
        assert_eq!(serde_json::from_str::<Part>(&text).unwrap().read(), (span, sum));
        let text = serde_json::to_string(&Ask::sum(span, sum)).unwrap();
        let ask: Ask = serde_json::from_str(&text).unwrap();
        assert_eq!((ask.span(), ask.sum.map(Part::sum), ask.known), (span, Some(sum), None));
        let text = serde_json::to_string(&Ask::known(span, vec![7])).unwrap();
        let ask: Ask = serde_json::from_str(&text).unwrap();
        assert_eq!((ask.span(), ask.sum, ask.known), (span, None, Some(vec![7])));
    }

    #[test]
    fn a_row_reads_back_and_one_of_an_unknown_kind_is_noticed() {
        let row = FeedRow {
            address: Address::new("team", Space::Plain, "a/b").unwrap(),
            version: Version { time: u64::MAX, node: 7 },
            body_bytes: 9,
            digest: Digest::of(b"x"),
        };
        let text = serde_json::to_string(&Row::from(&row)).unwrap();
        let mut read: Row = serde_json::from_str(&text).unwrap();
        assert_eq!(read.read(), Some(row.clone()));
        read.space = 200;
        assert_eq!(read.read(), None);
        let mut long = Row::from(&FeedRow { body_bytes: BODY_BYTES_MAX, ..row });
        assert!(long.read().is_some());
        long.bytes += 1;
        assert_eq!(long.read(), None, "no body is that long");
    }
}
