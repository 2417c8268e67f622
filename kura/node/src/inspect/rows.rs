//! Rows of the catalog as what they mean. The formats themselves are in `kura_core`.

use std::fmt;

use kura_core::{
    address::{Address, Space},
    feed::{FeedRow, floor_key, parse_feed_key},
    place::{
        Place, Watermark, is_mark_in_places, parse_contents_key, parse_contents_row,
        watermark_in_contents, watermark_in_places,
    },
    record::{SegmentId, Version},
    stamp::{Stamp, stamp_key},
    summary::Item,
};
use kura_env::Keyspace;
use serde::Serialize;

use crate::store::{
    CONTENTS_SPACE, CURSORS_SPACE, FEED_SPACE, PLACES_SPACE, PLEDGES_SPACE, VERSIONS_SPACE,
    decode_pledge,
};

/// The name of an artifact, in parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Name {
    /// Its namespace.
    pub namespace: String,
    /// `cas`, `ac` or `plain`.
    pub space: &'static str,
    /// Its key.
    pub key: String,
}

impl From<&Address> for Name {
    fn from(address: &Address) -> Self {
        let space = match address.space() {
            Space::Cas => "cas",
            Space::Ac => "ac",
            Space::Plain => "plain",
        };
        let (namespace, key) = (address.namespace().to_owned(), address.key().to_owned());
        Self { namespace, space, key }
    }
}

impl fmt::Display for Name {
    /// The path under which a client asks for it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, space, key } = self;
        match *space {
            "plain" => write!(f, "/{namespace}/{key}"),
            space => write!(f, "/{namespace}/{space}/{key}"),
        }
    }
}

/// A version, in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct VersionParts {
    /// Hybrid logical time: 48 bits of milliseconds, 16 of counter.
    pub time: u64,
    /// The node that took the write.
    pub node: u64,
}

impl From<Version> for VersionParts {
    fn from(Version { time, node }: Version) -> Self {
        Self { time, node }
    }
}

/// What a row of the catalog means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "row", rename_all = "snake_case")]
pub enum DecodedRow {
    /// Where an artifact lies.
    Place {
        /// Which one.
        name: Name,
        /// In which segment.
        segment: String,
        /// Where its record begins.
        offset: u64,
        /// The length of the record's header.
        header_bytes: u32,
        /// The length of the body.
        body_bytes: u64,
        /// Its place in the order of this node's changes.
        sequence: u64,
        /// Decides against other bodies of the name.
        version: VersionParts,
        /// The SHA-256 of the body.
        digest: String,
    },
    /// What lies at a place.
    Content {
        /// In which segment.
        segment: String,
        /// Where the record begins.
        offset: u64,
        /// Its sequence in the feed; 0 if it is not in it.
        feed_sequence: u64,
        /// Whose record it is.
        name: Name,
    },
    /// A change, for followers.
    Change {
        /// Its place in the order.
        sequence: u64,
        /// What was changed.
        name: Name,
        /// The version that it has since.
        version: VersionParts,
        /// The length of the body.
        body_bytes: u64,
        /// The SHA-256 of the body.
        digest: String,
    },
    /// A promise for a single artifact.
    Pledge {
        /// In which segment it lies.
        segment: String,
        /// Where.
        offset: u64,
        /// Until when, in wall milliseconds.
        until_ms: u64,
        /// The length of the record.
        record_bytes: u64,
    },
    /// What is held in which version, in the order of time.
    Held {
        /// Hybrid logical time of the version.
        time: u64,
        /// What of it is summed up, in hexadecimal.
        print: String,
        /// What is held.
        name: Name,
    },
    /// How far a peer's feed was read.
    Cursor {
        /// Whose.
        node: u64,
        /// Which life of its data.
        incarnation: u64,
        /// The sequence to read next.
        sequence: u64,
    },
    /// How far a segment is indexed.
    Watermark {
        /// Which segment.
        segment: String,
        /// Every record below is in the index.
        offset: u64,
        /// No version in them has a later hybrid logical time.
        hlc: u64,
    },
    /// From where on the feed can be followed.
    FeedFloor {
        /// From this sequence on.
        sequence: u64,
    },
    /// Which catalog this is, and how far it was synced.
    Stamp {
        /// Its name, in hexadecimal.
        catalog: String,
        /// The count of its synced commits.
        count: u64,
    },
}

impl DecodedRow {
    /// What the row of `space` under `key` means; `None` if it means nothing.
    #[must_use]
    pub fn of(space: Keyspace, key: &[u8], value: &[u8]) -> Option<Self> {
        if key == stamp_key(space.0) {
            let Stamp { catalog, count } = Stamp::of_row(value)?;
            return Some(Self::Stamp { catalog: format!("{catalog:032x}"), count });
        }
        if space == FEED_SPACE && key == floor_key() {
            let sequence = u64::from_be_bytes(value.try_into().ok()?);
            return Some(Self::FeedFloor { sequence });
        }
        if let Some(segment) = watermark_of(space, key) {
            let Watermark { offset, hlc } = Watermark::decode(Some(value));
            let is_one = value.len() == Watermark::default().encode().len();
            let segment = segment.to_string();
            return is_one.then_some(Self::Watermark { segment, offset, hlc });
        }
        match space {
            PLACES_SPACE => Self::place(key, value),
            CONTENTS_SPACE => Self::content(key, value),
            FEED_SPACE => Self::change(key, value),
            PLEDGES_SPACE => Self::pledge(key, value),
            CURSORS_SPACE => Self::cursor(key, value),
            VERSIONS_SPACE => Self::held(key, value),
            _ => None,
        }
    }

    fn place(key: &[u8], value: &[u8]) -> Option<Self> {
        let place = Place::decode(value)?;
        Some(Self::Place {
            name: Name::from(&Address::decode(key).ok()?),
            segment: place.segment.to_string(),
            offset: place.offset,
            header_bytes: place.header_bytes,
            body_bytes: place.body_bytes,
            sequence: place.sequence,
            version: place.version.into(),
            digest: place.digest.to_string(),
        })
    }

    fn content(key: &[u8], value: &[u8]) -> Option<Self> {
        let (segment, offset) = parse_contents_key(key)?;
        let (feed_sequence, name) = parse_contents_row(value)?;
        let name = Name::from(&Address::decode(name).ok()?);
        Some(Self::Content { segment: segment.to_string(), offset, feed_sequence, name })
    }

    fn change(key: &[u8], value: &[u8]) -> Option<Self> {
        let sequence = parse_feed_key(key)?;
        let FeedRow { address, version, body_bytes, digest } = FeedRow::decode(value)?;
        Some(Self::Change {
            sequence,
            name: Name::from(&address),
            version: version.into(),
            body_bytes,
            digest: digest.to_string(),
        })
    }

    fn pledge(key: &[u8], value: &[u8]) -> Option<Self> {
        let (segment, offset) = parse_contents_key(key)?;
        let (until_ms, record_bytes) = decode_pledge(value)?;
        Some(Self::Pledge { segment: segment.to_string(), offset, until_ms, record_bytes })
    }

    fn held(key: &[u8], value: &[u8]) -> Option<Self> {
        let Item { time, print } = Item::of_key(key)?;
        let name = Name::from(&Address::decode(value).ok()?);
        Some(Self::Held { time, print: format!("{print:032x}"), name })
    }

    fn cursor(key: &[u8], value: &[u8]) -> Option<Self> {
        let node = u64::from_be_bytes(key.try_into().ok()?);
        let kura_core::feed::Cursor { incarnation, sequence } =
            kura_core::feed::Cursor::decode(value)?;
        Some(Self::Cursor { node, incarnation, sequence })
    }
}

/// The segment of which a row of this key is the watermark, if it is one.
pub(crate) fn watermark_of(space: Keyspace, key: &[u8]) -> Option<SegmentId> {
    let id = SegmentId(u64::from_be_bytes(*key.last_chunk::<8>()?));
    let is_one = match space {
        PLACES_SPACE => is_mark_in_places(key) && key == watermark_in_places(id),
        CONTENTS_SPACE | FEED_SPACE | VERSIONS_SPACE => {
            key != floor_key() && key == watermark_in_contents(id)
        }
        _ => false,
    };
    is_one.then_some(id)
}

impl fmt::Display for DecodedRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Place { name, segment, offset, body_bytes, sequence, .. } => {
                write!(f, "{name} -> {segment}:{offset}, {body_bytes} B, sequence {sequence}")
            }
            Self::Content { segment, offset, feed_sequence: 0, name } => {
                write!(f, "{segment}:{offset} -> {name}, not in the feed")
            }
            Self::Content { segment, offset, feed_sequence, name } => {
                write!(f, "{segment}:{offset} -> {name}, sequence {feed_sequence}")
            }
            Self::Change { sequence, name, body_bytes, .. } => {
                write!(f, "{sequence} -> {name}, {body_bytes} B")
            }
            Self::Pledge { segment, offset, until_ms, record_bytes } => {
                write!(f, "{segment}:{offset} -> {record_bytes} B promised until {until_ms} ms")
            }
            Self::Held { time, name, .. } => {
                let (millis, count) = (time >> 16, time & 0xffff);
                write!(f, "{millis} ms, {count} -> {name}")
            }
            Self::Cursor { node, incarnation, sequence } => {
                write!(f, "node {node:016x} -> sequence {sequence} of {incarnation:016x}")
            }
            Self::Watermark { segment, offset, .. } => {
                write!(f, "watermark of {segment} -> {offset}")
            }
            Self::FeedFloor { sequence } => write!(f, "floor of the feed -> {sequence}"),
            Self::Stamp { catalog, count } => write!(f, "stamp -> catalog {catalog}, {count}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use kura_core::{
        digest::Digest,
        feed::{Cursor, feed_key},
        place::{contents_key, contents_row, place_key},
        record::Area,
    };

    use super::*;
    use crate::store::KEYSPACES;

    /// What a row is shown as, whole; cut short it means nothing.
    fn shown(space: Keyspace, key: &[u8], value: &[u8]) -> String {
        let cut = DecodedRow::of(space, key, &value[..value.len().min(5)]);
        assert_eq!(cut, None, "cut short, under {key:?}");
        DecodedRow::of(space, key, value).expect("the store makes such rows").to_string()
    }

    fn address() -> Address {
        Address::new("team", Space::Plain, "a/b").unwrap()
    }

    const SEGMENT: SegmentId = SegmentId::new(Area::Entries, 7);
    const VERSION: Version = Version { time: 3 << 16, node: 4 };

    #[test]
    fn rows_of_artifacts_are_told_from_one_another() {
        let (address, digest) = (address(), Digest::of(b"x"));
        let (segment, version) = (SEGMENT, VERSION);
        let key = place_key(&address);
        let at = contents_key(segment, 64);
        let (header_bytes, body_bytes, sequence) = (100, 1, 9);
        let place =
            Place { segment, offset: 64, header_bytes, body_bytes, sequence, version, digest };
        assert_eq!(
            shown(PLACES_SPACE, &key, &place.encode()),
            "/team/a/b -> entries/0000000000000007:64, 1 B, sequence 9"
        );
        assert_eq!(
            shown(CONTENTS_SPACE, &at, &contents_row(9, &key)),
            "entries/0000000000000007:64 -> /team/a/b, sequence 9"
        );
        assert_eq!(
            shown(CONTENTS_SPACE, &at, &contents_row(0, &key)),
            "entries/0000000000000007:64 -> /team/a/b, not in the feed"
        );
        let change = FeedRow { address, version, body_bytes, digest };
        assert_eq!(shown(FEED_SPACE, &feed_key(9), &change.encode()), "9 -> /team/a/b, 1 B");
        let pledge = [11_u64.to_le_bytes(), 165_u64.to_le_bytes()].concat();
        assert_eq!(
            shown(PLEDGES_SPACE, &at, &pledge),
            "entries/0000000000000007:64 -> 165 B promised until 11 ms"
        );
        let item = Item::of(&key, version, digest);
        assert_eq!(shown(VERSIONS_SPACE, &item.key(), &key), "3 ms, 0 -> /team/a/b");
    }

    #[test]
    fn marks_are_told_from_artifacts_in_every_keyspace() {
        let mark = Watermark { offset: 500, hlc: 1 }.encode();
        let watermark = "watermark of entries/0000000000000007 -> 500";
        assert_eq!(shown(PLACES_SPACE, &watermark_in_places(SEGMENT), &mark), watermark);
        for space in [CONTENTS_SPACE, FEED_SPACE, VERSIONS_SPACE] {
            assert_eq!(shown(space, &watermark_in_contents(SEGMENT), &mark), watermark);
        }
        let floor = 12_u64.to_be_bytes();
        assert_eq!(shown(FEED_SPACE, &floor_key(), &floor), "floor of the feed -> 12");
        let cursor = Cursor { incarnation: 2, sequence: 8 }.encode();
        assert_eq!(
            shown(CURSORS_SPACE, &3_u64.to_be_bytes(), &cursor),
            "node 0000000000000003 -> sequence 8 of 0000000000000002"
        );
        let stamp = Stamp { catalog: 5, count: 6 }.row();
        for space in KEYSPACES {
            assert_eq!(
                shown(space, stamp_key(space.0), &stamp),
                "stamp -> catalog 00000000000000000000000000000005, 6"
            );
        }
    }

    #[test]
    fn names_are_shown_as_clients_ask_for_them() {
        let digest = Digest::of(b"x").to_string();
        let shown =
            |space, key: &str| Name::from(&Address::new("a", space, key).unwrap()).to_string();
        assert_eq!(shown(Space::Plain, "b/c"), "/a/b/c");
        assert_eq!(shown(Space::Cas, &digest), format!("/a/cas/{digest}"));
        assert_eq!(shown(Space::Ac, &digest), format!("/a/ac/{digest}"));
    }
}
