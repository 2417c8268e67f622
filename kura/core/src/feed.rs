//! The feed: a node's own changes in their order, as its peers read them.
//!
//! A row is a row of an index: it can be made again from the record that it is about. What a node
//! fetched from others is not in its feed, but for what it had given out itself and lost.

use crate::{address::Address, digest::Digest, record::Version};

/// The keyspace of sequence -> [`FeedRow`].
pub const FEED: &str = "feed";
/// The keyspace of node -> [`Cursor`].
pub const CURSORS: &str = "cursors";

const FIXED_BYTES: usize = 56;

/// One change: which artifact, in which version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedRow {
    /// Which.
    pub address: Address,
    /// In which version.
    pub version: Version,
    /// The length of its body.
    pub body_bytes: u64,
    /// The SHA-256 of its body.
    pub digest: Digest,
}

impl FeedRow {
    /// The value of its row.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FIXED_BYTES + 64);
        out.extend(self.version.time.to_le_bytes());
        out.extend(self.version.node.to_le_bytes());
        out.extend(self.body_bytes.to_le_bytes());
        out.extend(self.digest.0);
        out.extend(self.address.encode());
        out
    }

    /// Reads a row back; `None` if it is not one.
    #[must_use]
    pub fn decode(row: &[u8]) -> Option<Self> {
        let (fixed, address) = row.split_at_checked(FIXED_BYTES)?;
        let word = |at: usize| u64::from_le_bytes(fixed[at..at + 8].try_into().unwrap_or_default());
        Some(Self {
            address: Address::decode(address).ok()?,
            version: Version { time: word(0), node: word(8) },
            body_bytes: word(16),
            digest: Digest(fixed[24..].try_into().ok()?),
        })
    }
}

/// The key of a row.
#[must_use]
pub fn feed_key(sequence: u64) -> [u8; 8] {
    sequence.to_be_bytes()
}

/// The key of the row that says from which sequence on the feed can be followed, where that lies above
/// the horizon. No sequence and no watermark has it.
#[must_use]
pub fn floor_key() -> [u8; 16] {
    [0xff; 16]
}

/// The sequence of a row's key.
#[must_use]
pub fn parse_feed_key(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.try_into().ok()?))
}

/// How far a node has read a peer's feed: everything below is resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Which life of the peer's data it is about.
    pub incarnation: u64,
    /// The sequence to read next.
    pub sequence: u64,
}

impl Cursor {
    /// The value of its row.
    #[must_use]
    pub fn encode(self) -> [u8; 16] {
        let mut out = [0; 16];
        out[..8].copy_from_slice(&self.incarnation.to_le_bytes());
        out[8..].copy_from_slice(&self.sequence.to_le_bytes());
        out
    }

    /// Reads a row back; `None` if it is not one.
    #[must_use]
    pub fn decode(row: &[u8]) -> Option<Self> {
        let (incarnation, sequence) = row.split_first_chunk::<8>()?;
        Some(Self {
            incarnation: u64::from_le_bytes(*incarnation),
            sequence: u64::from_le_bytes(sequence.try_into().ok()?),
        })
    }
}

/// What a node's feed holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Which life of the data it is about.
    pub incarnation: u64,
    /// Rows below may be gone.
    pub floor: u64,
    /// One above the last row that followers may see.
    pub head: u64,
}

/// What becomes of a follower that asks from its cursor on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// There are rows from here on.
    Rows {
        /// The first that may be there.
        from: u64,
    },
    /// There is nothing new.
    Wait,
    /// The cursor is of another life, of data that was taken back since, or rows behind it are gone: it
    /// must compare everything.
    Gone,
}

impl Extent {
    /// Decides what a follower gets.
    #[must_use]
    pub fn follow(&self, cursor: Cursor) -> Follow {
        let is_ahead = cursor.sequence > self.head;
        if cursor.incarnation != self.incarnation || cursor.sequence < self.floor || is_ahead {
            Follow::Gone
        } else if cursor.sequence < self.head {
            Follow::Rows { from: cursor.sequence }
        } else {
            Follow::Wait
        }
    }
}

/// Whether a peer that says it is in start `now`, and was in start `heard` when it was heard last, may go on from other
/// data than it had: an image of its disk may have been put back in between. Then it gives sequences of its feed out again,
/// for other things, and nothing that it says tells so.
#[must_use]
pub fn may_be_put_back(heard: Option<u64>, now: Option<u64>) -> bool {
    match (heard, now) {
        (Some(heard), Some(now)) => now != heard,
        // Of an earlier version that does not tell.
        (None, _) | (_, None) => false,
    }
}

/// Whether an artifact in version `theirs` takes the place of one in version `ours`. Every node
/// decides alike: the later version wins, and of two bodies of one version the greater digest.
#[must_use]
pub fn supersedes(theirs: (Version, Digest), ours: Option<(Version, Digest)>) -> bool {
    ours.is_none_or(|ours| theirs > ours)
}

/// How much of what a peer holds is fetched in one pass: what comes is appended at the young end of
/// the ring, newest first, so that more than fits would drive out what came before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    left_bytes: u64,
}

impl Fill {
    /// For a ring of so many bytes.
    #[must_use]
    pub fn new(capacity_bytes: u64) -> Self {
        Self { left_bytes: capacity_bytes }
    }

    /// Whether a body of this length still fits. What does not is left out with all that is older.
    #[must_use]
    pub fn fits(&mut self, body_bytes: u64) -> bool {
        match self.left_bytes.checked_sub(body_bytes) {
            Some(left_bytes) => {
                self.left_bytes = left_bytes;
                true
            }
            None => {
                self.left_bytes = 0;
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Space;

    #[test]
    fn rows_and_cursors_read_back() {
        let row = FeedRow {
            address: Address::new("team", Space::Plain, "ab/cd").unwrap(),
            version: Version { time: 1, node: 2 },
            body_bytes: 3,
            digest: Digest::of(b"x"),
        };
        assert_eq!(FeedRow::decode(&row.encode()), Some(row.clone()));
        assert_eq!(FeedRow::decode(&row.encode()[..FIXED_BYTES]), None);
        assert_eq!(parse_feed_key(&feed_key(77)), Some(77));
        assert_eq!(parse_feed_key(&floor_key()), None);
        assert!(floor_key()[..] > feed_key(u64::MAX - 1)[..]);
        let cursor = Cursor { incarnation: 5, sequence: 6 };
        assert_eq!(Cursor::decode(&cursor.encode()), Some(cursor));
        assert_eq!(Cursor::decode(&cursor.encode()[1..]), None);
    }

    #[test]
    fn a_follower_reads_on_waits_or_starts_over() {
        let extent = Extent { incarnation: 1, floor: 10, head: 20 };
        let follow = |incarnation, sequence| extent.follow(Cursor { incarnation, sequence });
        assert_eq!(follow(1, 10), Follow::Rows { from: 10 });
        assert_eq!(follow(1, 19), Follow::Rows { from: 19 });
        assert_eq!(follow(1, 20), Follow::Wait);
        // A start counts on above all that was given out, unless older data was put back under it.
        assert_eq!(follow(1, 21), Follow::Gone);
        assert_eq!(follow(1, 9), Follow::Gone);
        assert_eq!(follow(2, 15), Follow::Gone);
    }

    #[test]
    fn a_peer_in_another_start_may_go_on_from_other_data() {
        for (name, heard, now, expected) in [
            ("the same start", Some(1), Some(1), false),
            ("another one", Some(1), Some(2), true),
            ("it was never heard", None, Some(2), false),
            ("it does not tell", None, None, false),
            ("it does not tell any more", Some(1), None, false),
        ] {
            assert_eq!(may_be_put_back(heard, now), expected, "{name}");
        }
    }

    #[test]
    fn a_pass_fetches_what_fits_and_nothing_older() {
        let fitting = |bodies: &[u64]| {
            let mut fill = Fill::new(10);
            bodies.iter().take_while(|bytes| fill.fits(**bytes)).count()
        };
        assert_eq!(fitting(&[3, 3, 4]), 3);
        assert_eq!(fitting(&[3, 3, 5, 1]), 2);
        assert_eq!(fitting(&[11]), 0);
        assert_eq!(fitting(&[u64::MAX]), 0);
    }

    #[test]
    fn every_node_picks_the_same_winner() {
        let version = |time, node| Version { time, node };
        let (small, large) = (Digest([1; 32]), Digest([2; 32]));
        let ladder = [
            (version(1, 9), large),
            (version(2, 1), small),
            (version(2, 2), small),
            (version(2, 2), large),
        ];
        for (a, lower) in ladder.iter().enumerate() {
            assert!(supersedes(*lower, None));
            for (b, upper) in ladder.iter().enumerate() {
                assert_eq!(supersedes(*lower, Some(*upper)), a > b);
            }
        }
    }
}
