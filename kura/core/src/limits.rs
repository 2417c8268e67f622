//! Limits that both ends of the peer plane share, in one place. What a node accepts from a client it
//! can hand on: no limit here is on the size of a body.

use std::time::Duration;

/// A row of a longer body cannot be true: no disk holds it. Lower: a body might be that long. Higher: sums of such lengths
/// might not fit 64 bits.
pub const BODY_BYTES_MAX: u64 = 1 << 48;

/// Rows of a page, of a feed or of what is lacking. A peer that asks for more gets this many.
pub const PAGE_ROWS_MAX: usize = 1000;
/// Ranges that are compared in one request.
pub const SPANS_MAX: usize = 64;
/// Parts that a range is told in, where its sums differ.
pub const PARTS_MAX: u64 = 16;
/// Items of a range up to which they are told themselves, and not their sum. Higher: fewer round trips. Lower:
/// less is said of what both have.
pub const ITEMS_KNOWN_MAX: usize = 96;
/// The longest question about ranges: several times what the longest of them takes.
pub const COMPARE_BYTES_MAX: usize = 512 * 1024;
/// Bodies up to this size are asked for together.
pub const SMALL_BODY_BYTES: u64 = 64 * 1024;
/// Bodies in one such request.
pub const BATCH_ROWS_MAX: usize = 256;
/// Bytes of bodies in one such request; a single body may be larger than what is left.
pub const BATCH_BYTES_MAX: u64 = 1024 * 1024;
/// Requests for bodies under way at once, to one peer. Too low: a WAN stays idle between
/// answers. Too high: bodies crowd each other out of staging.
pub const FETCHES_MAX: usize = 16;
/// Of those, how many each peer has for itself. Too low: one that is quick delivers little while slow ones have all others for
/// hours. Too high: with many peers bodies crowd each other out of staging.
pub const FETCHES_OWN: usize = 2;
/// What is beyond those, to all peers together. One that delivers slowly has most of [`FETCHES_MAX`] for long; the rest is left to
/// others. Too low: those deliver little meanwhile. Too high: bodies crowd each other out of staging.
pub const FETCHES_OF_ALL_MAX: usize = 24;

/// Requests for bodies under way at once, at most, of a node with so many peers.
#[must_use]
pub const fn fetches_at_most(peers: usize) -> usize {
    FETCHES_OF_ALL_MAX + FETCHES_OWN * peers
}
/// Artifacts that a node fetches for reads at once from one peer, where reads go through to peers. What comes beyond is
/// a miss.
pub const READS_THROUGH_MAX: usize = 16;
/// The longest that a read may wait for a peer: well below the time after which a read that has not begun is given up.
pub const READ_THROUGH_WAIT_MAX: Duration = Duration::from_secs(10);
/// How long a node holds back its answer to a follower when there is nothing new.
pub const FEED_WAIT: Duration = Duration::from_secs(20);
/// For how long a node counts as one that reads the feed after it asked for some of it: three times as long as it is made to wait.
/// Longer: a drain waits for one that is gone. Shorter: it does not wait for one that fetches a large body.
pub const AUDIENCE_STANDS_FOR: Duration = Duration::from_secs(60);
/// Nodes that read the feed that are remembered. Those that were silent for longest are forgotten beyond it.
pub const AUDIENCE_MAX: usize = 256;
/// Time for a connection to a peer to come about.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A stream from a peer on which no byte moves for this long is given up. There is no limit on how
/// long a body takes while it moves.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a batch of bodies waits for memory while its answer is open; then the rest is asked for
/// again. Far below the time after which the peer closes a connection that stands still.
pub const ROOM_TIMEOUT: Duration = Duration::from_secs(10);
/// Artifacts that a round of fetching leaves to be tried again, of a peer, at which it stops.
pub const LEFTOVERS_MAX: usize = 1000;
/// How often a name that led to this node itself is asked who it is.
pub const MYSELF_PAUSE: Duration = Duration::from_secs(60);
/// The longest body of a request or an answer that is not a body of an artifact.
pub const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What a node takes from a peer in one request, and tells in one answer. It stands in hello, so that nodes of versions
/// with other limits can talk: who asks keeps within the smaller of its own and the peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerLimits {
    /// Rows in an answer.
    pub page_rows: usize,
    /// Ranges in a question.
    pub spans: usize,
    /// Marks of a range in a question.
    pub items_known: usize,
    /// Parts that a range is told in, and one for what is left over.
    pub parts: u64,
    /// Bodies in one request.
    pub batch_rows: usize,
    /// Bytes of bodies in one request for several.
    pub batch_bytes: u64,
    /// Bytes of a request.
    pub message_bytes: usize,
}

impl PeerLimits {
    /// Those of this version.
    pub const OURS: Self = Self {
        page_rows: PAGE_ROWS_MAX,
        spans: SPANS_MAX,
        items_known: ITEMS_KNOWN_MAX,
        parts: PARTS_MAX,
        batch_rows: BATCH_ROWS_MAX,
        batch_bytes: BATCH_BYTES_MAX,
        message_bytes: MESSAGE_BYTES_MAX,
    };

    /// Those of a node that does not say, which is one of the first version that took any: for ever these numbers,
    /// whatever those of later versions are.
    pub const FIRST: Self = Self {
        page_rows: 1000,
        spans: 64,
        items_known: 96,
        parts: 16,
        batch_rows: 256,
        batch_bytes: 1024 * 1024,
        message_bytes: 8 * 1024 * 1024,
    };

    /// The least that a node may have. Below them two nodes would not come to an end with each other.
    pub const LEAST: Self = Self {
        page_rows: 16,
        spans: 2,
        items_known: 8,
        parts: 4,
        batch_rows: 4,
        batch_bytes: SMALL_BODY_BYTES,
        message_bytes: 64 * 1024,
    };

    /// What to keep within towards a peer with the limits `theirs`; and how many of those are below the least, and are
    /// taken for that.
    #[must_use]
    pub fn towards(self, theirs: Self) -> (Self, u64) {
        let least = Self::LEAST;
        let mut raised = 0;
        let mut smaller = |ours: usize, theirs: usize, least: usize| {
            raised += u64::from(theirs < least);
            ours.min(theirs.max(least))
        };
        let page_rows = smaller(self.page_rows, theirs.page_rows, least.page_rows);
        let spans = smaller(self.spans, theirs.spans, least.spans);
        let items_known = smaller(self.items_known, theirs.items_known, least.items_known);
        let batch_rows = smaller(self.batch_rows, theirs.batch_rows, least.batch_rows);
        let message_bytes = smaller(self.message_bytes, theirs.message_bytes, least.message_bytes);
        let mut smaller = |ours: u64, theirs: u64, least: u64| {
            raised += u64::from(theirs < least);
            ours.min(theirs.max(least))
        };
        let parts = smaller(self.parts, theirs.parts, least.parts);
        let batch_bytes = smaller(self.batch_bytes, theirs.batch_bytes, least.batch_bytes);
        let agreed =
            Self { page_rows, spans, items_known, parts, batch_rows, batch_bytes, message_bytes };
        (agreed, raised)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_keeps_within_the_smaller_limits_and_no_lower_than_the_least() {
        let (first, least) = (PeerLimits::FIRST, PeerLimits::LEAST);
        let zero = PeerLimits {
            page_rows: 0,
            spans: 0,
            items_known: 0,
            parts: 0,
            batch_rows: 0,
            batch_bytes: 0,
            message_bytes: 0,
        };
        let larger = PeerLimits { page_rows: usize::MAX, spans: 1000, ..first };
        let mixed = PeerLimits { page_rows: 50, batch_rows: 1, ..larger };
        for (ours, theirs, agreed, raised) in [
            (first, first, first, 0),
            (first, least, least, 0),
            (least, first, least, 0),
            (first, larger, first, 0),
            (larger, first, first, 0),
            (first, zero, least, 7),
            (first, mixed, PeerLimits { page_rows: 50, batch_rows: 4, ..first }, 1),
        ] {
            assert_eq!(ours.towards(theirs), (agreed, raised), "{ours:?} {theirs:?}");
        }
    }
}
