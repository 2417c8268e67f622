//! What a node holds, by its catalog: which artifact in which version, to compare nodes of a mesh.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kura_core::{
    address::{Address, Space},
    digest::Digest,
    feed::supersedes,
    place::{Place, is_mark_in_places},
    record::{Artifact, Header, Nonce, RECORD_MAGIC, SEGMENT_HEADER_LEN, SegmentHeader, Version},
    recovery::{Found, look},
    tombstones::Tombstones,
};
use kura_env::Row;

use crate::gone::Gone;

/// One artifact as a node holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Its version.
    pub version: Version,
    /// The digest of its body.
    pub digest: Digest,
    /// The length of its body.
    pub body_bytes: u64,
}

/// Everything that a node holds, by the key of its row.
pub type Holdings = BTreeMap<Bytes, Holding>;

/// Reads the rows of `places`.
#[must_use]
pub fn of_rows(rows: &[Row]) -> Holdings {
    let artifacts = rows.iter().filter(|(key, _)| !is_mark_in_places(key));
    let held = artifacts.filter_map(|(key, row)| {
        let Place { version, digest, body_bytes, .. } = Place::decode(row)?;
        Some((key.clone(), Holding { version, digest, body_bytes }))
    });
    held.collect()
}

/// Looks at each artifact among the records of a segment's file of `len_bytes`. `read` gives bytes
/// from an offset on, fewer only where the file ends.
pub fn records(
    len_bytes: u64,
    read: impl Fn(u64, usize) -> Bytes,
    mut each: impl FnMut(&Artifact),
) {
    let Ok(head) = SegmentHeader::decode(&read(0, SEGMENT_HEADER_LEN)) else { return };
    let nonce = head.nonce;
    let (mut offset, mut wanted) = (u64::from(head.first_offset), 4096);
    loop {
        match look(&read(offset, wanted), nonce, offset, len_bytes) {
            Found::Record { header, end, .. } => {
                if let Header::Artifact(artifact) = &*header {
                    each(artifact);
                }
                offset = end;
            }
            Found::More(more) if more > wanted => wanted = more,
            Found::More(_) | Found::End(_) => {
                let Some(next) = next_record(offset + 1, (nonce, len_bytes), &read) else { return };
                offset = next;
            }
        }
    }
}

/// Where the next record begins, at `from` or behind: what lies before was spoilt.
fn next_record(
    from: u64,
    (nonce, len_bytes): (Nonce, u64),
    read: &impl Fn(u64, usize) -> Bytes,
) -> Option<u64> {
    let rest = read(from, usize::try_from(len_bytes.checked_sub(from)?).ok()?);
    let magics = rest.windows(RECORD_MAGIC.len()).enumerate();
    let candidates = magics.filter(|(_, bytes)| *bytes == RECORD_MAGIC);
    let is_record = |(at, _): &(usize, &[u8])| {
        matches!(look(&rest[*at..], nonce, from + *at as u64, len_bytes), Found::Record { .. })
    };
    candidates.into_iter().find(is_record).map(|(at, _)| from + at as u64)
}

/// What of this no delete covers: nobody lacks anything else.
#[must_use]
pub fn without(mut held: Holdings, deleted: &Tombstones) -> Holdings {
    if !deleted.is_empty() {
        held.retain(|key, holding| {
            let address = Address::decode(key);
            !address.is_ok_and(|address| deleted.covers_address(&address, holding.version))
        });
    }
    held
}

/// Adds a holding, unless the same artifact is there in a later version.
pub fn add(held: &mut Holdings, key: Bytes, holding: Holding) {
    if !holding.is_met_by(held.get(&key)) {
        held.insert(key, holding);
    }
}

impl Holding {
    /// What is held with this record.
    #[must_use]
    pub fn of(artifact: &Artifact) -> Self {
        let Artifact { version, digest, body_bytes, .. } = *artifact;
        Self { version, digest, body_bytes }
    }

    /// Whether `mine` is this one or takes its place.
    #[must_use]
    pub fn is_met_by(&self, mine: Option<&Self>) -> bool {
        let mine = mine.map(|mine| (mine.version, mine.digest));
        !supersedes((self.version, self.digest), mine)
    }
}

/// The name of the artifact of a row, for people.
#[must_use]
pub fn name(key: &[u8]) -> String {
    path(key).unwrap_or_else(|| format!("{key:?}"))
}

/// The path of the URL under which the artifact of a row is asked for.
#[must_use]
pub fn path(key: &[u8]) -> Option<String> {
    let address = Address::decode(key).ok()?;
    let (namespace, key) = (address.namespace(), address.key());
    Some(match address.space() {
        Space::Plain => format!("/{namespace}/{key}"),
        Space::Cas => format!("/{namespace}/cas/{key}"),
        Space::Ac => format!("/{namespace}/ac/{key}"),
    })
}

/// The latest version of everything that any of these nodes holds.
pub fn newest<'a>(nodes: impl IntoIterator<Item = &'a Holdings>) -> BTreeMap<&'a Bytes, Holding> {
    let mut newest: BTreeMap<&Bytes, Holding> = BTreeMap::new();
    for (key, held) in nodes.into_iter().flatten() {
        if !held.is_met_by(newest.get(key)) {
            newest.insert(key, *held);
        }
    }
    newest
}

/// A node of a mesh as others see it.
pub struct Holder<'a> {
    /// Its name.
    pub node: &'a str,
    /// What it holds.
    pub holds: &'a Holdings,
    /// What of that, or of what it once held, cannot be read whole any more.
    pub spoilt: &'a BTreeSet<Bytes>,
    /// What it need not hold.
    pub gone: &'a Gone,
}

/// What a comparison of nodes came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// What each node lacks. Nodes that lack nothing are not among them.
    pub missing: Vec<Missing>,
    /// How many artifacts were looked for on a node: what another one holds and can deliver, and
    /// this one has not had and evicted, and has room for.
    pub compared: u64,
}

/// What is still to come to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// To which node.
    pub node: String,
    /// How many artifacts it does not hold at all.
    pub artifacts: u64,
    /// How many it holds in an older version.
    pub outdated: u64,
    /// The bytes of both.
    pub bytes: u64,
    /// One of them.
    pub example: String,
}

/// What each node lacks of what another one holds and can deliver.
#[must_use]
pub fn compare(holders: &[Holder<'_>]) -> Comparison {
    let mut compared = 0;
    let mut newest: BTreeMap<&Bytes, Holding> = BTreeMap::new();
    for holder in holders {
        for (key, held) in holder.holds.iter().filter(|(key, _)| !holder.spoilt.contains(*key)) {
            if !held.is_met_by(newest.get(key)) {
                newest.insert(key, *held);
            }
        }
    }
    let mut lacks = |holder: &Holder<'_>| {
        let node = holder.node.to_owned();
        let mut missing =
            Missing { node, artifacts: 0, outdated: 0, bytes: 0, example: String::new() };
        // Who lost its own copy gets it back by repair, not by following.
        for (key, held) in newest.iter().filter(|(key, _)| !holder.spoilt.contains(**key)) {
            let mine = holder.holds.get(*key);
            if mine.is_none() && holder.gone.excuses(key, held) {
                continue;
            }
            compared += 1;
            if !held.is_met_by(mine) {
                missing.artifacts += u64::from(mine.is_none());
                missing.outdated += u64::from(mine.is_some());
                missing.bytes += held.body_bytes;
                missing.example = name(key);
            }
        }
        (missing.artifacts + missing.outdated > 0).then_some(missing)
    };
    let missing = holders.iter().filter_map(&mut lacks).collect();
    Comparison { missing, compared }
}

#[cfg(test)]
pub(crate) mod sample {
    //! Holdings made of keys and times, for tests.

    use super::*;

    /// Holdings with these keys, each in a version of this time.
    pub(crate) fn holdings(keys: &[(&str, u64)]) -> Holdings {
        let held = |(key, time): &(&str, u64)| {
            let address = Address::new("ns", Space::Plain, *key).unwrap();
            let version = Version { time: *time, node: 1 };
            (address.encode().into(), Holding { version, digest: Digest::of(b""), body_bytes: 10 })
        };
        keys.iter().map(held).collect()
    }

    /// The key of a row.
    pub(crate) fn key(key: &str) -> Bytes {
        Address::new("ns", Space::Plain, key).unwrap().encode().into()
    }
}

#[cfg(test)]
mod tests {
    use kura_core::{
        place::place_key,
        record::{Area, Flow},
    };

    use super::{
        sample::{holdings, key},
        *,
    };

    #[test]
    fn a_node_lacks_what_another_one_holds_in_a_later_version_and_can_deliver() {
        let (a, b) = (holdings(&[("x", 1), ("y", 1), ("z", 1)]), holdings(&[("x", 2), ("y", 1)]));
        let (none, z) = (BTreeSet::new(), BTreeSet::from([key("z")]));
        let lack = |a_spoilt, b_evicted: &[(&str, u64)]| {
            let nothing = Gone::default();
            let gone = Gone { evicted: holdings(b_evicted), ..Gone::default() };
            let holders = [
                Holder { node: "a", holds: &a, spoilt: a_spoilt, gone: &nothing },
                Holder { node: "b", holds: &b, spoilt: &none, gone: &gone },
            ];
            let Comparison { missing, compared } = compare(&holders);
            let missing = missing.into_iter().map(|it| (it.node, it.artifacts, it.outdated));
            (missing.collect::<Vec<_>>(), compared)
        };
        let (of_a, of_b) = (("a".to_owned(), 0, 1), ("b".to_owned(), 1, 0));
        assert_eq!(lack(&none, &[]), (vec![of_a.clone(), of_b.clone()], 6));
        assert_eq!(lack(&z, &[]), (vec![of_a.clone()], 4), "nobody can deliver it");
        assert_eq!(lack(&none, &[("z", 1)]), (vec![of_a.clone()], 5), "it had it");
        let again = lack(&none, &[("z", 0), ("y", 1)]);
        assert_eq!(again, (vec![of_a, of_b], 6), "an older one, and one that is here");
    }

    #[test]
    fn a_segment_tells_what_lies_in_it() {
        let sample = crate::image::sample::Sample::sound();
        let image = sample.image();
        let newest = image.ring().and_then(|ring| ring.newest(Area::Blobs, Flow::Live));
        let path = crate::image::Image::segment_path(newest.unwrap().id);
        let mut found = Holdings::new();
        let look = |found: &mut Holdings, len_bytes| {
            let each = |artifact: &Artifact| {
                add(found, place_key(&artifact.address).into(), Holding::of(artifact));
            };
            records(len_bytes, |at, len| (image.read)(&path, at, len), each);
        };
        look(&mut found, image.files[&path]);
        assert_eq!(found, of_rows(&image.places));
        let mut cut = Holdings::new();
        look(&mut cut, image.files[&path] - 1);
        assert_eq!(cut, Holdings::new(), "the body of its only record is cut");
    }

    #[test]
    fn what_a_delete_covers_is_not_compared() {
        let mut deleted = Tombstones::default();
        let held = || holdings(&[("x", 1), ("y", 2), ("z", 3)]);
        assert_eq!(without(held(), &deleted), held());
        deleted.merge("other", Version { time: 9, node: 1 });
        assert_eq!(without(held(), &deleted), held());
        deleted.merge("ns", Version { time: 2, node: 1 });
        assert_eq!(without(held(), &deleted), holdings(&[("z", 3)]));
    }

    #[test]
    fn a_row_names_its_path() {
        assert_eq!(path(&key("a/b")).as_deref(), Some("/ns/a/b"));
        assert_eq!(path(b"?"), None);
    }
}
