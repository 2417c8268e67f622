//! Limits that both ends of the peer plane share, in one place. What a node accepts from a client it
//! can hand on: no limit here is on the size of a body.

use std::time::Duration;

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
/// Requests for bodies under way at once, to all peers together. Too low: a WAN stays idle between
/// answers. Too high: bodies crowd each other out of staging.
pub const FETCHES_MAX: usize = 16;
/// Artifacts that a node fetches for reads at once from one peer, where reads go through to peers. What comes beyond is
/// a miss.
pub const READS_THROUGH_MAX: usize = 4;
/// The longest that a read may wait for a peer: well below the time after which a read that has not begun is given up.
pub const READ_THROUGH_WAIT_MAX: Duration = Duration::from_secs(10);
/// How long a node holds back its answer to a follower when there is nothing new.
pub const FEED_WAIT: Duration = Duration::from_secs(20);
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
