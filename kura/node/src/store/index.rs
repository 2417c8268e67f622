//! The index in memory: where the artifacts lie that are asked for most, so that finding them again
//! costs no look at the catalog.
//!
//! It holds copies of rows of the catalog, as many as its bound allows, and may lose any of them at
//! any time. It says nothing that the catalog does not say:
//!
//! - the appender, the only one who changes rows, tells it of each change before it tells anybody
//! - what a reader found in the catalog is taken in only if nothing was changed in its stripe since
//!   the reader began to look
//!
//! What is kept is decided by CLOCK-Pro (Jiang, Chen and Zhang, USENIX ATC 2005) as `quick_cache` has
//! it. Each life of a node begins with an empty index.

use std::hash::{BuildHasherDefault, Hash, Hasher};

use kura_core::{digest::Digest, place::Place};
use kura_env::{Batch, Operation};
use parking_lot::Mutex;
use quick_cache::{UnitWeighter, unsync};

use super::PLACES_SPACE;

/// What one artifact takes at the most, with its share of the tables. `docs/performance.md` has it as
/// measured.
pub(crate) const ENTRY_BYTES: u64 = 192;
/// Parts with a lock of their own. More: readers meet less often. Fewer: small bounds are kept more
/// exactly.
const STRIPES: usize = 16;

type Cache = unsync::Cache<Name, Place, UnitWeighter, BuildHasherDefault<Prefix>>;

/// See the head of this module.
pub(super) struct Index {
    stripes: Vec<Mutex<Stripe>>,
}

struct Stripe {
    /// None if the bound has no room for anything.
    cache: Option<Cache>,
    /// How often something was changed here.
    changes: u64,
}

/// The SHA-256 of the key of an artifact's row, so that all entries have one size.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name(Digest);

impl Name {
    pub(super) fn of(place_key: &[u8]) -> Self {
        Self(Digest::of(place_key))
    }

    fn prefix(self) -> u64 {
        self.0.0.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.prefix());
    }
}

/// Takes the first bytes of a SHA-256 for its hash: they are as good as any.
#[derive(Default)]
struct Prefix(u64);

impl Hasher for Prefix {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, prefix: u64) {
        self.0 = prefix;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// What the index says.
pub(super) enum Look {
    /// The artifact has this row.
    Found(Place),
    /// The catalog has to be asked, and may tell the index with this.
    Unknown(Unseen),
}

/// A look that found nothing: until something is changed, what the catalog says may be taken in.
pub(super) struct Unseen {
    name: Name,
    changes: u64,
}

impl Index {
    /// An index that takes `bytes_max` bytes at the most. Its memory is reserved and not yet used.
    pub(super) fn new(bytes_max: u64) -> Self {
        let entries = usize::try_from(bytes_max / ENTRY_BYTES).unwrap_or(usize::MAX) / STRIPES;
        let stripe =
            || Mutex::new(Stripe { cache: (entries > 0).then(|| cache(entries)), changes: 0 });
        Self { stripes: std::iter::repeat_with(stripe).take(STRIPES).collect() }
    }

    fn stripe(&self, name: Name) -> &Mutex<Stripe> {
        // The table inside goes by the low bits.
        let at = name.prefix() >> 32;
        &self.stripes[usize::try_from(at).unwrap_or_default() % STRIPES]
    }

    /// Looks an artifact up.
    pub(super) fn look(&self, name: Name) -> Look {
        let stripe = self.stripe(name).lock();
        match stripe.cache.as_ref().and_then(|cache| cache.get(&name)) {
            Some(place) => Look::Found(*place),
            None => Look::Unknown(Unseen { name, changes: stripe.changes }),
        }
    }

    /// Takes in what the catalog said after a look, unless that may be out of date by now.
    pub(super) fn fill(&self, unseen: Unseen, place: Place) {
        let Unseen { name, changes } = unseen;
        let mut stripe = self.stripe(name).lock();
        if stripe.changes == changes
            && let Some(cache) = &mut stripe.cache
        {
            cache.insert(name, place);
        }
    }

    /// Forgets what turned out to lead to nothing.
    pub(super) fn forget(&self, name: Name) {
        self.change(name, None);
    }

    /// A batch is in the catalog.
    pub(super) fn committed(&self, batch: &Batch) {
        for operation in &batch.0 {
            match operation {
                Operation::Put(PLACES_SPACE, key, row) => {
                    self.change(Name::of(key), Place::decode(row));
                }
                Operation::Delete(PLACES_SPACE, key) => self.change(Name::of(key), None),
                Operation::Put(..) | Operation::Delete(..) => {}
            }
        }
    }

    /// A batch may or may not be in the catalog.
    pub(super) fn failed(&self, batch: &Batch) {
        for operation in &batch.0 {
            let (Operation::Put(space, key, _) | Operation::Delete(space, key)) = operation;
            if *space == PLACES_SPACE {
                self.change(Name::of(key), None);
            }
        }
    }

    fn change(&self, name: Name, place: Option<Place>) {
        let mut stripe = self.stripe(name).lock();
        stripe.changes += 1;
        let Some(cache) = &mut stripe.cache else { return };
        match place {
            Some(place) => cache.insert(name, place),
            None => drop(cache.remove(&name)),
        }
    }

    /// How many artifacts it may hold.
    pub(super) fn entries_max(&self) -> u64 {
        let entries =
            |stripe: &Mutex<Stripe>| stripe.lock().cache.as_ref().map_or(0, Cache::capacity);
        self.stripes.iter().map(entries).sum()
    }

    /// How many artifacts it holds.
    pub(super) fn len(&self) -> usize {
        let entries = |stripe: &Mutex<Stripe>| stripe.lock().cache.as_ref().map_or(0, Cache::len);
        self.stripes.iter().map(entries).sum()
    }
}

/// A cache of so many entries whose tables never grow: growing would copy all of them while readers
/// wait.
fn cache(entries: usize) -> Cache {
    let weight = u64::try_from(entries).unwrap_or(u64::MAX);
    let mut cache = Cache::with(
        entries,
        weight,
        UnitWeighter,
        BuildHasherDefault::default(),
        unsync::DefaultLifecycle::default(),
    );
    cache.reserve(entries);
    cache
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kura_core::record::{SegmentId, Version};

    use super::*;

    fn place(sequence: u64) -> Place {
        Place {
            segment: SegmentId(1),
            offset: 64,
            header_bytes: 100,
            body_bytes: 10,
            sequence,
            version: Version { time: sequence, node: 1 },
            digest: Digest([7; 32]),
        }
    }

    fn puts(key: &'static str, sequence: u64) -> Batch {
        let mut batch = Batch::default();
        batch.put(PLACES_SPACE, Bytes::from(key), place(sequence).encode());
        batch
    }

    fn found(index: &Index, key: &str) -> Option<u64> {
        match index.look(Name::of(key.as_bytes())) {
            Look::Found(place) => Some(place.sequence),
            Look::Unknown(_) => None,
        }
    }

    fn unseen(index: &Index, key: &str) -> Unseen {
        match index.look(Name::of(key.as_bytes())) {
            Look::Unknown(unseen) => unseen,
            Look::Found(place) => panic!("{key} is known: {place:?}"),
        }
    }

    #[test]
    fn it_says_what_was_committed_last() {
        let index = Index::new(1 << 20);
        index.committed(&puts("a", 1));
        index.committed(&puts("a", 2));
        assert_eq!((found(&index, "a"), found(&index, "b"), index.len()), (Some(2), None, 1));
        index.failed(&puts("a", 3));
        assert_eq!(found(&index, "a"), None, "nobody knows which of the two it is");
        index.committed(&puts("a", 3));
        let mut batch = Batch::default();
        batch.delete(PLACES_SPACE, "a");
        batch.delete(super::super::CONTENTS_SPACE, "b");
        index.committed(&batch);
        assert_eq!((found(&index, "a"), index.len()), (None, 0));
    }

    #[test]
    fn what_was_read_before_a_change_is_not_taken_in_behind_it() {
        let index = Index::new(1 << 20);
        let (late, later) = (unseen(&index, "a"), unseen(&index, "a"));
        index.committed(&puts("a", 2));
        index.fill(late, place(1));
        assert_eq!(found(&index, "a"), Some(2));
        let mut batch = Batch::default();
        batch.delete(PLACES_SPACE, "a");
        index.committed(&batch);
        index.fill(later, place(1));
        assert_eq!(found(&index, "a"), None, "it was deleted");
        index.fill(unseen(&index, "a"), place(4));
        assert_eq!(found(&index, "a"), Some(4));
        index.forget(Name::of(b"a"));
        assert_eq!(found(&index, "a"), None);
    }

    #[test]
    fn it_holds_no_more_than_its_bound() {
        let entries = 3200;
        let index = Index::new(entries * ENTRY_BYTES);
        for n in 0..20_000_u64 {
            let mut batch = Batch::default();
            batch.put(PLACES_SPACE, n.to_be_bytes().to_vec(), place(n).encode());
            index.committed(&batch);
        }
        let len = u64::try_from(index.len()).unwrap();
        assert!((entries * 9 / 10..=entries).contains(&len), "{len} of {entries}");
        let none = Index::new(0);
        none.committed(&puts("a", 1));
        assert_eq!((found(&none, "a"), none.len()), (None, 0));
    }
}
