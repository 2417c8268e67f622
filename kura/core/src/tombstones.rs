//! Deletes of namespaces: a tombstone says that everything of a namespace up to a version is gone.
//!
//! The set of them is a map from namespace to the greatest version that was told of it. Merging is commutative,
//! associative and idempotent, so nodes that tell each other all they have come to hold the same set in whatever order
//! they hear of it (Shapiro, Preguiça, Baquero and Zawirski, "Conflict-free Replicated Data Types", SSS 2011), as long
//! as there are no more than [`TOMBSTONES_MAX`]. An artifact that a tombstone covers is gone wherever both are known,
//! whichever of them came first.

use std::collections::BTreeMap;

use crate::{
    address::{Address, AddressError},
    digest::Digest,
    record::Version,
};

const MAGIC: [u8; 8] = *b"KURATOMB";
const FORMAT: u32 = 1;
/// Magic, format and count.
const HEAD_BYTES: usize = 8 + 4 + 4;
const CHECKSUM_BYTES: usize = 4;

/// Deletes that are remembered. Of more namespaces than that, those deleted longest ago are forgotten once they are
/// purged: what was deleted then is there again if it comes back with a node that never heard of it, or out of a
/// segment where the index is made again. More: a delete writes a longer file, of 19 bytes and the name for each.
pub const TOMBSTONES_MAX: usize = 16_384;

/// The delete of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// Everything in this version or a lower one is gone.
    pub version: Version,
    /// Whether the index leads to none of that any more. Each node knows it of itself.
    pub is_purged: bool,
}

/// See the head of this module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tombstones(BTreeMap<String, Tombstone>);

/// Why bytes are not a set of tombstones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTombstones {
    /// They end before what they say, or behind it.
    #[error("a length that is not that of what it holds")]
    Length,
    /// They are not those that were written.
    #[error("a wrong checksum")]
    Checksum,
    /// They were written by another version.
    #[error("format {0}, and this version writes {FORMAT}")]
    Format(u32),
}

/// What merging a delete came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merged {
    /// It was known, or a later one of the namespace, or it is older than all that are remembered.
    Known,
    /// It is new.
    New {
        /// Whether an earlier one, which is purged, was forgotten for it.
        forgot: bool,
    },
}

impl Tombstones {
    /// Whether an artifact of `namespace` in `version` is deleted.
    #[must_use]
    pub fn covers(&self, namespace: &str, version: Version) -> bool {
        self.0.get(namespace).is_some_and(|tombstone| version <= tombstone.version)
    }

    /// The same of an address.
    #[must_use]
    pub fn covers_address(&self, address: &Address, version: Version) -> bool {
        self.covers(address.namespace(), version)
    }

    /// Everything of `namespace` in `version` or a lower one is gone from now on. Where there are too many, the eldest
    /// that is purged goes, or this one where those are all later.
    pub fn merge(&mut self, namespace: &str, version: Version) -> Merged {
        if self.covers(namespace, version) {
            return Merged::Known;
        }
        let new = Tombstone { version, is_purged: false };
        let before = self.0.insert(namespace.to_owned(), new);
        let mut forgot = false;
        while self.0.len() > TOMBSTONES_MAX {
            // What is not purged is hidden by its tombstone alone.
            let purged = self.0.iter().filter(|(_, it)| it.is_purged);
            let eldest = purged.min_by_key(|(name, it)| (it.version, *name));
            let Some((eldest, it)) = eldest.map(|(name, it)| (name.clone(), *it)) else { break };
            // Or what one node tells and another has forgotten would drive out what is later, again and again.
            if before.is_none() && version < it.version {
                self.0.remove(namespace);
                return Merged::Known;
            }
            self.0.remove(&eldest);
            forgot = true;
        }
        Merged::New { forgot }
    }

    /// The index leads to nothing any more that the delete of `namespace` in `version` covers. Whether that
    /// is still the latest one of it.
    pub fn purged(&mut self, namespace: &str, version: Version) -> bool {
        let tombstone = self.0.get_mut(namespace).filter(|it| it.version == version);
        tombstone.map(|tombstone| tombstone.is_purged = true).is_some()
    }

    /// Those whose artifacts may still be in the index.
    pub fn unpurged(&self) -> impl Iterator<Item = (&str, Version)> {
        let unpurged = self.iter().filter(|(_, tombstone)| !tombstone.is_purged);
        unpurged.map(|(namespace, tombstone)| (namespace, tombstone.version))
    }

    /// That of a namespace.
    #[must_use]
    pub fn get(&self, namespace: &str) -> Option<Tombstone> {
        self.0.get(namespace).copied()
    }

    /// All of them, by namespace.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Tombstone)> {
        self.0.iter().map(|(namespace, tombstone)| (namespace.as_str(), *tombstone))
    }

    /// How many there are: [`TOMBSTONES_MAX`] at the most, but for those that are not purged yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The latest hybrid logical time among them; 0 if there are none.
    #[must_use]
    pub fn latest_time(&self) -> u64 {
        self.0.values().map(|tombstone| tombstone.version.time).max().unwrap_or_default()
    }

    /// A fingerprint of which deletes are known: equal on nodes that know the same. 0 if there are none.
    #[must_use]
    pub fn print(&self) -> u64 {
        if self.is_empty() {
            return 0;
        }
        let mut text = Vec::new();
        for (namespace, Tombstone { version, .. }) in self.iter() {
            push_entry(&mut text, namespace, version);
        }
        let Digest(digest) = Digest::of(&text);
        digest.first_chunk().map_or(1, |print| u64::from_be_bytes(*print).max(1))
    }

    /// The bytes of the file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(MAGIC);
        out.extend(FORMAT.to_le_bytes());
        out.extend(u32::try_from(self.len()).unwrap_or(u32::MAX).to_le_bytes());
        for (namespace, Tombstone { version, is_purged }) in self.iter() {
            push_entry(&mut out, namespace, version);
            out.push(u8::from(is_purged));
        }
        let checksum = crc32c::crc32c(&out);
        out.extend(checksum.to_le_bytes());
        out
    }

    /// Reads the file back. A name in it that can be none of a namespace is left out: nothing is called so.
    ///
    /// # Errors
    ///
    /// [`InvalidTombstones`] unless every byte is as `encode` wrote it.
    pub fn decode(bytes: &[u8]) -> Result<Self, InvalidTombstones> {
        let (body, checksum) =
            bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(InvalidTombstones::Length)?;
        if body.len() < HEAD_BYTES {
            return Err(InvalidTombstones::Length);
        }
        if body[..8] != MAGIC || crc32c::crc32c(body) != u32::from_le_bytes(*checksum) {
            return Err(InvalidTombstones::Checksum);
        }
        let word = |at: usize| u32::from_le_bytes(body[at..at + 4].try_into().unwrap_or_default());
        if word(8) != FORMAT {
            return Err(InvalidTombstones::Format(word(8)));
        }
        let (mut rest, mut tombstones) = (&body[HEAD_BYTES..], BTreeMap::new());
        for _ in 0..word(12) {
            let (namespace, tombstone);
            ((namespace, tombstone), rest) = split_entry(rest)?;
            if check_namespace(&namespace).is_ok() {
                tombstones.insert(namespace, tombstone);
            }
        }
        if rest.is_empty() { Ok(Self(tombstones)) } else { Err(InvalidTombstones::Length) }
    }
}

/// Checks that a name can be that of a namespace.
///
/// # Errors
///
/// [`AddressError`] if no artifact can be in it.
pub fn check_namespace(namespace: &str) -> Result<(), AddressError> {
    Address::new(namespace, crate::address::Space::Plain, "x").map(drop)
}

fn push_entry(out: &mut Vec<u8>, namespace: &str, version: Version) {
    // Longer than any namespace may be.
    let name = &namespace.as_bytes()[..namespace.len().min(usize::from(u16::MAX))];
    out.extend(u16::try_from(name.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend(name);
    out.extend(version.time.to_le_bytes());
    out.extend(version.node.to_le_bytes());
}

type Entry = (String, Tombstone);

fn split_entry(bytes: &[u8]) -> Result<(Entry, &[u8]), InvalidTombstones> {
    let parts = || {
        let (len, rest) = bytes.split_first_chunk::<2>()?;
        let (namespace, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
        let (time, rest) = rest.split_first_chunk::<8>()?;
        let (node, rest) = rest.split_first_chunk::<8>()?;
        let (is_purged, rest) = rest.split_first()?;
        let version = Version { time: u64::from_le_bytes(*time), node: u64::from_le_bytes(*node) };
        Some((namespace, Tombstone { version, is_purged: *is_purged == 1 }, rest))
    };
    let (namespace, tombstone, rest) = parts().ok_or(InvalidTombstones::Length)?;
    Ok(((String::from_utf8_lossy(namespace).into_owned(), tombstone), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn version(time: u64, node: u64) -> Version {
        Version { time, node }
    }

    fn told(deletes: &[(String, Version)]) -> Tombstones {
        let mut tombstones = Tombstones::default();
        for (namespace, version) in deletes {
            tombstones.merge(namespace, *version);
        }
        tombstones
    }

    #[test]
    fn a_delete_covers_what_is_not_later_and_nothing_of_another_namespace() {
        let mut tombstones = Tombstones::default();
        assert_eq!(tombstones.print(), 0);
        assert_eq!(tombstones.merge("a", version(5, 2)), Merged::New { forgot: false });
        for (namespace, at, covered) in [
            ("a", version(5, 2), true),
            ("a", version(5, 1), true),
            ("a", version(4, 9), true),
            ("a", version(5, 3), false),
            ("a", version(6, 0), false),
            ("aa", version(1, 1), false),
            ("b", version(1, 1), false),
        ] {
            assert_eq!(tombstones.covers(namespace, at), covered, "{namespace} {at:?}");
        }
        assert_eq!(tombstones.merge("a", version(5, 1)), Merged::Known);
        assert_eq!(tombstones.unpurged().collect::<Vec<_>>(), [("a", version(5, 2))]);
        assert!(tombstones.purged("a", version(5, 2)));
        assert_eq!(tombstones.unpurged().next(), None);
        let print = tombstones.print();
        assert_eq!(tombstones.merge("a", version(7, 1)), Merged::New { forgot: false });
        assert!(!tombstones.purged("a", version(5, 2)), "a later one is to be purged");
        assert_eq!(tombstones.unpurged().collect::<Vec<_>>(), [("a", version(7, 1))]);
        assert_ne!(tombstones.print(), print);
        assert_eq!(tombstones.latest_time(), 7);
    }

    #[test]
    fn those_deleted_longest_ago_are_forgotten_once_they_are_purged() {
        let mut tombstones = Tombstones::default();
        let count = u64::try_from(TOMBSTONES_MAX).unwrap();
        for n in 0..count {
            let merged = tombstones.merge(&format!("n{n}"), version(100 + n, 1));
            assert_eq!(merged, Merged::New { forgot: false });
        }
        assert_eq!(tombstones.merge("more", version(99_997, 1)), Merged::New { forgot: false });
        assert_eq!(tombstones.len(), TOMBSTONES_MAX + 1, "nothing is purged yet");
        assert!(
            tombstones.purged("n1", version(101, 1)) && tombstones.purged("n2", version(102, 1))
        );
        assert_eq!(tombstones.merge("new", version(99_998, 1)), Merged::New { forgot: true });
        assert_eq!(tombstones.len(), TOMBSTONES_MAX, "as many as there are too many go");
        assert_eq!(tombstones.merge("newer", version(99_999, 1)), Merged::New { forgot: false });
        assert!(tombstones.purged("n9", version(109, 1)));
        assert_eq!(tombstones.merge("early", version(108, 0)), Merged::Known, "others stay");
        let covers = |namespace| tombstones.covers(namespace, version(1, 1));
        assert!(covers("n0") && !covers("n1") && !covers("n2") && covers("n3") && covers("newer"));
    }

    #[test]
    fn no_other_bytes_are_read_back() {
        let mut tombstones =
            told(&[("a".to_owned(), version(1, 2)), ("b".to_owned(), version(3, 4))]);
        tombstones.purged("b", version(3, 4));
        let bytes = tombstones.encode();
        assert_eq!(Tombstones::decode(&bytes), Ok(tombstones));
        for at in 0..bytes.len() {
            let mut spoilt = bytes.clone();
            spoilt[at] ^= 1;
            assert_eq!(Tombstones::decode(&spoilt), Err(InvalidTombstones::Checksum), "byte {at}");
            assert!(Tombstones::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
        let sealed = |mut body: Vec<u8>| {
            let checksum = crc32c::crc32c(&body);
            body.extend(checksum.to_le_bytes());
            Tombstones::decode(&body)
        };
        let body = &bytes[..bytes.len() - CHECKSUM_BYTES];
        assert_eq!(sealed([body, &[0]].concat()), Err(InvalidTombstones::Length));
        assert_eq!(sealed(body[..body.len() - 1].to_vec()), Err(InvalidTombstones::Length));
        let mut later = body.to_vec();
        later[8] = 2;
        assert_eq!(sealed(later), Err(InvalidTombstones::Format(2)));
        let mut slash = body.to_vec();
        slash[HEAD_BYTES + 2] = b'/';
        assert_eq!(sealed(slash).map(|it| it.len()), Ok(1), "the other one counts");
    }

    fn deletes() -> impl Strategy<Value = Vec<(String, Version)>> {
        let one = ("[a-c]{1,2}", 0..6_u64, 0..3_u64);
        let one = one.prop_map(|(namespace, time, node)| (namespace, version(time, node)));
        proptest::collection::vec(one, 0..12)
    }

    proptest! {
        #[test]
        fn nodes_that_hear_the_same_in_any_order_know_the_same(deletes in deletes(), turn in 0..12_usize) {
            let mut other = deletes.clone();
            other.reverse();
            let turn = turn.min(other.len());
            other.rotate_left(turn);
            let again = [other.clone(), deletes.clone()].concat();
            let (one, two, three) = (told(&deletes), told(&other), told(&again));
            prop_assert_eq!(&one, &two);
            prop_assert_eq!(&one, &three);
            prop_assert_eq!(one.print(), two.print());
            prop_assert_eq!(Tombstones::decode(&one.encode()), Ok(one.clone()));
            for (namespace, at) in &deletes {
                prop_assert!(one.covers(namespace, *at));
            }
        }
    }
}
