//! What peers say to each other: JSON for everything but bodies.
//!
//! | request | answer |
//! |---|---|
//! | `GET /peer/v1/hello` | [`Hello`] |
//! | `GET /peer/v1/feed?incarnation=&from=&rows=&wait_ms=` | [`FeedPage`]; 410 if the cursor is of no use |
//! | `GET /peer/v1/list?rows=[&segment=&offset=]` | [`ListPage`], the newest segment first |
//! | `POST /peer/v1/bodies`, a list of [`Row`]s | for each in order: a byte 1, the length (8 bytes, little-endian) and the body; or a byte 0: not here; or a byte 2: cannot be read |
//!
//! While the node reads its data back, hello says so, and the others are answered 503 with
//! `Retry-After`. A node that cannot answer because something is wrong with it says 500.

use kura_core::{
    address::{Address, Space},
    digest::Digest,
    feed::FeedRow,
    record::Version,
};
use serde::{Deserialize, Serialize};

use crate::service::State;

/// Path of [`Hello`].
pub(crate) const HELLO: &str = "/peer/v1/hello";
/// Path of the feed.
pub(crate) const FEED: &str = "/peer/v1/feed";
/// Path of the listing.
pub(crate) const LIST: &str = "/peer/v1/list";
/// Path of bodies.
pub(crate) const BODIES: &str = "/peer/v1/bodies";

/// A body that is not here, or not in this version any more.
pub(crate) const BODY_MISSING: u8 = 0;
/// A body that is here, and that the node cannot read.
pub(crate) const BODY_UNREADABLE: u8 = 2;
/// A body follows.
pub(crate) const BODY_FOLLOWS: u8 = 1;

/// Who a node is, and what its feed holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// Its identity; none until that is read back.
    pub(crate) life: Option<Life>,
    /// The region it is in.
    pub(crate) region: String,
    /// Where in its life it is.
    pub(crate) state: State,
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
}

/// The query of the feed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FeedQuery {
    pub(crate) incarnation: u64,
    pub(crate) from: u64,
    pub(crate) rows: usize,
    pub(crate) wait_ms: u64,
}

/// Some of the feed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FeedPage {
    pub(crate) rows: Vec<Row>,
    /// Where to read on.
    pub(crate) next: u64,
    /// One above the last row there is.
    pub(crate) head: u64,
}

/// The query of the listing; without a place it begins.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ListQuery {
    pub(crate) rows: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) segment: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) offset: Option<u64>,
}

/// Some of the listing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ListPage {
    pub(crate) rows: Vec<Row>,
    /// Segment and offset to go on at; none at the end.
    pub(crate) next: Option<(u64, u64)>,
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
        }
    }
}

impl Row {
    /// What it says, if that has a meaning here: a later version may know more spaces.
    pub(crate) fn read(&self) -> Option<FeedRow> {
        let space = Space::from_number(self.space)?;
        Some(FeedRow {
            address: Address::new(self.namespace.clone(), space, self.key.clone()).ok()?,
            version: Version { time: self.time, node: self.node },
            body_bytes: self.bytes,
            digest: Digest::parse(&self.digest)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(read.read(), Some(row));
        read.space = 200;
        assert_eq!(read.read(), None);
    }
}
