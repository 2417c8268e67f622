//! The rows of the catalog: where an artifact lies, what lies in a segment, and how far a segment
//! was read into the index. Integers in keys are big-endian, so that rows lie in their order.

use crate::{
    address::Address,
    digest::Digest,
    record::{SegmentId, Version},
};

/// The keyspace of address -> [`Place`].
pub const PLACES: &str = "places";
/// The keyspace of (segment, offset) -> address.
pub const CONTENTS: &str = "contents";

const PLACE_BYTES: usize = 84;
/// Sorts before every address: an address begins with its namespace, which is never empty text.
const WATERMARK_IN_PLACES: [u8; 2] = [0, b'w'];
/// Sorts behind every segment: ids are counted up from one.
const WATERMARK_IN_CONTENTS: [u8; 8] = [0xff; 8];

/// Where an artifact lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// In which segment.
    pub segment: SegmentId,
    /// Where in it its record starts.
    pub offset: u64,
    /// The length of the record's header.
    pub header_bytes: u32,
    /// The length of the body behind it.
    pub body_bytes: u64,
    /// Its place in the order of this node's changes.
    pub sequence: u64,
    /// Decides against other bodies of the same name.
    pub version: Version,
    /// The SHA-256 of the body.
    pub digest: Digest,
}

impl Place {
    /// The value of its row.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(PLACE_BYTES);
        out.extend(self.segment.0.to_le_bytes());
        out.extend(self.offset.to_le_bytes());
        out.extend(self.body_bytes.to_le_bytes());
        out.extend(self.sequence.to_le_bytes());
        out.extend(self.version.time.to_le_bytes());
        out.extend(self.version.node.to_le_bytes());
        out.extend(self.header_bytes.to_le_bytes());
        out.extend(self.digest.0);
        out
    }

    /// Reads a row back; `None` if it is not one.
    #[must_use]
    pub fn decode(row: &[u8]) -> Option<Self> {
        if row.len() != PLACE_BYTES {
            return None;
        }
        let word = |at: usize| u64::from_le_bytes(row[at..at + 8].try_into().unwrap_or_default());
        Some(Self {
            segment: SegmentId(word(0)),
            offset: word(8),
            body_bytes: word(16),
            sequence: word(24),
            version: Version { time: word(32), node: word(40) },
            header_bytes: u32::from_le_bytes(row[48..52].try_into().ok()?),
            digest: Digest(row[52..].try_into().ok()?),
        })
    }

    /// The length of the whole record.
    #[must_use]
    pub fn record_bytes(&self) -> u64 {
        u64::from(self.header_bytes) + self.body_bytes
    }
}

/// The key of an artifact's row in [`PLACES`].
#[must_use]
pub fn place_key(address: &Address) -> Vec<u8> {
    address.encode()
}

/// The key of a record's row in [`CONTENTS`].
#[must_use]
pub fn contents_key(segment: SegmentId, offset: u64) -> Vec<u8> {
    [segment.0.to_be_bytes(), offset.to_be_bytes()].concat()
}

/// The value of a record's row in [`CONTENTS`]: its sequence, 0 for one that is not in the feed, and
/// the key of its artifact.
#[must_use]
pub fn contents_row(feed_sequence: u64, place_key: &[u8]) -> Vec<u8> {
    [&feed_sequence.to_be_bytes(), place_key].concat()
}

/// The sequence and the key of a row in [`CONTENTS`]; `None` if it is none.
#[must_use]
pub fn parse_contents_row(row: &[u8]) -> Option<(u64, &[u8])> {
    let (sequence, key) = row.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*sequence), key))
}

/// The segment and offset of a row in [`CONTENTS`]; `None` for a watermark.
#[must_use]
pub fn parse_contents_key(key: &[u8]) -> Option<(SegmentId, u64)> {
    let (segment, offset) = key.split_first_chunk::<8>()?;
    if *segment == WATERMARK_IN_CONTENTS {
        return None;
    }
    Some((SegmentId(u64::from_be_bytes(*segment)), u64::from_be_bytes(offset.try_into().ok()?)))
}

/// The key of a segment's watermark in [`PLACES`].
#[must_use]
pub fn watermark_in_places(segment: SegmentId) -> Vec<u8> {
    [&WATERMARK_IN_PLACES[..], &segment.0.to_be_bytes()].concat()
}

/// The key of a segment's watermark in [`CONTENTS`].
#[must_use]
pub fn watermark_in_contents(segment: SegmentId) -> Vec<u8> {
    [WATERMARK_IN_CONTENTS, segment.0.to_be_bytes()].concat()
}

/// Whether a key of [`PLACES`] is a watermark or the stamp of the catalog, and not an address.
#[must_use]
pub fn is_mark_in_places(key: &[u8]) -> bool {
    // No namespace is empty, so no address begins so.
    key.first() == Some(&0)
}

/// How far a segment was read into the index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watermark {
    /// Every record below is in the index.
    pub offset: u64,
    /// No version in them has a later time.
    pub hlc: u64,
}

impl Watermark {
    /// The value of its row.
    #[must_use]
    pub fn encode(self) -> [u8; 16] {
        let mut out = [0; 16];
        out[..8].copy_from_slice(&self.offset.to_le_bytes());
        out[8..].copy_from_slice(&self.hlc.to_le_bytes());
        out
    }

    /// Reads a row back. What is missing or no watermark reads as zero: scan it all.
    #[must_use]
    pub fn decode(row: Option<&[u8]>) -> Self {
        let halves = row.and_then(|row| {
            let (offset, hlc) = row.split_first_chunk::<8>()?;
            Some((u64::from_le_bytes(*offset), u64::from_le_bytes(hlc.try_into().ok()?)))
        });
        let (offset, hlc) = halves.unwrap_or_default();
        Self { offset, hlc }
    }

    /// What counts where the keyspaces disagree: only what is in both of them is in the index.
    #[must_use]
    pub fn agreed(self, other: Self) -> Self {
        Self { offset: self.offset.min(other.offset), hlc: self.hlc.max(other.hlc) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Space;

    #[test]
    fn rows_read_back() {
        let place = Place {
            segment: SegmentId(1),
            offset: 2,
            header_bytes: 3,
            body_bytes: 4,
            sequence: 5,
            version: Version { time: 6, node: 7 },
            digest: Digest::of(b"x"),
        };
        assert_eq!(Place::decode(&place.encode()), Some(place));
        assert_eq!(Place::decode(&place.encode()[1..]), None);
        assert_eq!(parse_contents_key(&contents_key(SegmentId(8), 9)), Some((SegmentId(8), 9)));
        assert_eq!(parse_contents_row(&contents_row(7, b"key")), Some((7, &b"key"[..])));
        assert_eq!(parse_contents_row(b"short"), None);
        let (low, high) = (Watermark { offset: 10, hlc: 7 }, Watermark { offset: 30, hlc: 5 });
        assert_eq!(Watermark::decode(Some(&low.encode())), low);
        assert_eq!(Watermark::decode(None), Watermark::default());
        assert_eq!(low.agreed(high), Watermark { offset: 10, hlc: 7 });
    }

    #[test]
    fn watermarks_lie_outside_of_all_other_rows() {
        let address = Address::new("!", Space::Cas, Digest::of(b"").to_string()).unwrap();
        let watermark = watermark_in_places(SegmentId(u64::MAX - 1));
        assert!(watermark < place_key(&address));
        assert!(is_mark_in_places(&watermark) && !is_mark_in_places(&place_key(&address)));
        let watermark = watermark_in_contents(SegmentId(1));
        assert!(watermark > contents_key(SegmentId(u64::MAX - 1), u64::MAX));
        assert_eq!(parse_contents_key(&watermark), None);
    }
}
