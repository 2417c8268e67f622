//! What lies on a node's disk and in its catalog at one moment, for the invariants about state.

use std::collections::BTreeMap;

use bytes::Bytes;
use kura_core::{
    record::{Nonce, SegmentHeader, SegmentId},
    ring::Ring,
    tombstones::Tombstones,
};
use kura_env::Row;

/// Reads bytes of a file of the image: path below the data directory, offset, length. Fewer only
/// where the file ends.
pub type ReadBytes<'a> = Box<dyn Fn(&str, u64, usize) -> Bytes + 'a>;

/// The file in which a node keeps what it knows of deletes.
pub const TOMBSTONES: &str = "TOMBSTONES";

/// One moment of a node's data directory.
pub struct Image<'a> {
    /// Every file below the data directory, with its length in bytes.
    pub files: BTreeMap<String, u64>,
    /// Rows of the keyspace `places`.
    pub places: Vec<Row>,
    /// Rows of the keyspace `contents`.
    pub contents: Vec<Row>,
    /// Rows of the keyspace `feed`.
    pub feed: Vec<Row>,
    /// Rows of the keyspace `versions`.
    pub versions: Vec<Row>,
    /// The bytes of the files.
    pub read: ReadBytes<'a>,
}

impl Image<'_> {
    /// The state of the ring. `None` if there is none, or it cannot be read.
    #[must_use]
    pub fn ring(&self) -> Option<Ring> {
        let len = usize::try_from(*self.files.get("RING")?).ok()?;
        Ring::decode(&(self.read)("RING", 0, len)).ok()
    }

    /// What it knows of deletes. `None` if that cannot be read.
    #[must_use]
    pub fn tombstones(&self) -> Option<Tombstones> {
        let Some(len_bytes) = self.files.get(TOMBSTONES) else {
            return Some(Tombstones::default());
        };
        let len = usize::try_from(*len_bytes).ok()?;
        Tombstones::decode(&(self.read)(TOMBSTONES, 0, len)).ok()
    }

    /// The path of a segment's file.
    #[must_use]
    pub fn segment_path(id: SegmentId) -> String {
        id.path()
    }

    /// The nonce of a segment; `None` if its file is not there or has no valid header.
    #[must_use]
    pub fn nonce(&self, id: SegmentId) -> Option<Nonce> {
        let head = (self.read)(&Self::segment_path(id), 0, 64);
        SegmentHeader::decode(&head).ok().filter(|header| header.id == id).map(|h| h.nonce)
    }

    /// The files below a directory: name within it and length in bytes.
    pub fn below<'a>(&'a self, directory: &'a str) -> impl Iterator<Item = (&'a str, u64)> {
        let files = self.files.iter();
        files.filter_map(move |(path, len)| {
            Some((path.strip_prefix(directory)?.strip_prefix('/')?, *len))
        })
    }

    /// Bytes of staging.
    #[must_use]
    pub fn staged_bytes(&self) -> u64 {
        self.below("tmp").map(|(_, len)| len).sum()
    }
}

#[cfg(test)]
pub(crate) mod sample {
    //! A small image that holds every invariant, to be spoilt by tests.

    use kura_core::{
        address::{Address, Space},
        digest::Digest,
        place::{Place, contents_key, contents_row, place_key},
        record::{Area, Artifact, Flow, SegmentHeader, Version, chunk_sum},
        ring::Turn,
    };

    use super::*;

    /// Files and rows that an [`Image`] can be made of.
    #[derive(Clone)]
    pub(crate) struct Sample {
        pub(crate) files: BTreeMap<String, Vec<u8>>,
        pub(crate) places: Vec<Row>,
        pub(crate) contents: Vec<Row>,
    }

    impl Sample {
        /// One segment with one artifact.
        pub(crate) fn sound() -> Self {
            let turn = Turn { area: Area::Blobs, flow: Flow::Live, next_sequence: 1, age: 1 };
            let (ring, _) = Ring::default().rotated(turn, 4, |_| false).unwrap();
            let id = ring.newest(Area::Blobs, Flow::Live).unwrap().id;
            let nonce = Nonce([7; 16]);
            let body = b"a body";
            let address = Address::new("ns", Space::Plain, "key").unwrap();
            let artifact = Artifact {
                address: address.clone(),
                body_bytes: 6,
                digest: Digest::of(body),
                sequence: 1,
                version: Version { time: 1, node: 0 },
                replica: false,
                chunk_sums: vec![chunk_sum(body)],
            };
            let header = SegmentHeader {
                id,
                nonce,
                base_sequence: 1,
                age: 1,
                flow: Flow::Live,
                first_offset: 64,
            }
            .encode();
            let offset = header.len() as u64;
            let record = artifact.encode(nonce, offset);
            let place = Place {
                segment: id,
                offset,
                header_bytes: u32::try_from(record.len()).unwrap(),
                body_bytes: 6,
                sequence: 1,
                version: artifact.version,
                digest: artifact.digest,
            };
            let segment = [header, record, body.to_vec()].concat();
            let key = place_key(&address);
            Self {
                files: BTreeMap::from([
                    ("RING".to_owned(), ring.encode()),
                    (Image::segment_path(id), segment),
                ]),
                places: vec![(key.clone().into(), place.encode().into())],
                contents: vec![(contents_key(id, offset).into(), contents_row(1, &key).into())],
            }
        }

        pub(crate) fn image(&self) -> Image<'_> {
            let lens = self.files.iter().map(|(path, bytes)| (path.clone(), bytes.len() as u64));
            Image {
                files: lens.collect(),
                places: self.places.clone(),
                contents: self.contents.clone(),
                feed: Vec::new(),
                versions: Vec::new(),
                read: Box::new(|path, offset, len| {
                    let Some(bytes) = self.files.get(path) else { return Bytes::new() };
                    let from = usize::try_from(offset).unwrap().min(bytes.len());
                    Bytes::copy_from_slice(&bytes[from..bytes.len().min(from + len)])
                }),
            }
        }
    }
}
