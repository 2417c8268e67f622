//! What the device lost: artifacts that were here, and cannot be read any more. They are misses at
//! once, and asked from the peers: nothing else would bring them back, because feeds name only what is
//! new.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::RangeInclusive,
};

use kura_core::{address::Address, feed::FeedRow, record::Version};
use parking_lot::Mutex;

/// Losses that are remembered one by one. Beyond that, everything is compared with every peer.
const LOSSES_MAX: usize = 4096;
/// Losses that are told at once.
pub(crate) const LOSSES_TOLD_MAX: usize = 256;
/// How often an artifact is asked for again that is lost again and again: a device that takes what is
/// written, and does not give it back, would have it fetched for ever.
const REPAIRS_MAX: u32 = 3;

/// The latest losses, numbered from 0 in their order.
#[derive(Default)]
pub(super) struct Losses(Mutex<Latest>);

#[derive(Default)]
struct Latest {
    /// The number of the first in `rows`: so many were forgotten.
    first: u64,
    /// [`LOSSES_MAX`] at the most.
    rows: VecDeque<FeedRow>,
    /// Those in `rows` by address: in which version, and how often that was lost.
    names: BTreeMap<Vec<u8>, (Version, u32)>,
}

/// What was lost since somebody looked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    /// These, the earliest first; [`LOSSES_TOLD_MAX`] at the most.
    pub(crate) rows: Vec<FeedRow>,
    /// Where to look from the next time.
    pub(crate) next: u64,
    /// Whether some were forgotten.
    pub(crate) is_cut: bool,
}

impl Losses {
    /// Remembers a loss. `false`: it was lost so often that it is not asked for any more.
    pub(super) fn add(&self, row: FeedRow) -> bool {
        let mut latest = self.0.lock();
        let name = row.address.encode();
        let known = latest.names.get(&name).filter(|(version, _)| *version == row.version);
        let times = known.map_or(0, |(_, times)| *times) + 1;
        if times > REPAIRS_MAX {
            return false;
        }
        if latest.rows.len() == LOSSES_MAX {
            latest.first += 1;
            if let Some(forgotten) = latest.rows.pop_front() {
                latest.names.remove(&forgotten.address.encode());
            }
        }
        latest.names.insert(name, (row.version, times));
        latest.rows.push_back(row);
        true
    }

    /// Whether something is remembered whose version is of one of these times.
    pub(super) fn has_any_of(&self, times: RangeInclusive<u64>) -> bool {
        self.0.lock().rows.iter().any(|row| times.contains(&row.version.time))
    }

    /// Whether this was here, and was lost: however old it is, it has a place.
    pub(super) fn holds(&self, address: &Address, version: Version) -> bool {
        let latest = self.0.lock();
        if latest.names.is_empty() {
            return false;
        }
        latest.names.get(&address.encode()).is_some_and(|(lost, _)| *lost == version)
    }

    pub(super) fn since(&self, seen: u64) -> Lost {
        let latest = self.0.lock();
        let from = seen.max(latest.first);
        let skipped = usize::try_from(from - latest.first).unwrap_or(usize::MAX);
        let rows: Vec<FeedRow> =
            latest.rows.iter().skip(skipped).take(LOSSES_TOLD_MAX).cloned().collect();
        Lost { next: from + rows.len() as u64, rows, is_cut: seen < latest.first }
    }
}

#[cfg(test)]
mod tests {
    use kura_core::{
        address::{Address, Space},
        digest::Digest,
        record::Version,
    };

    use super::*;

    fn row(number: usize) -> FeedRow {
        FeedRow {
            address: Address::new("n", Space::Plain, number.to_string()).expect("legal"),
            version: Version { time: 1, node: 1 },
            body_bytes: 1,
            digest: Digest::of(b"x"),
        }
    }

    #[test]
    fn each_looks_from_where_it_was_and_learns_that_something_was_forgotten() {
        let losses = Losses::default();
        assert_eq!(losses.since(0), Lost { rows: vec![], next: 0, is_cut: false });
        losses.add(row(0));
        losses.add(row(1));
        assert_eq!(losses.since(0).rows, [row(0), row(1)]);
        assert_eq!(losses.since(1), Lost { rows: vec![row(1)], next: 2, is_cut: false });
        assert_eq!(losses.since(2).rows, []);
        for number in 2..LOSSES_MAX + 2 {
            losses.add(row(number));
        }
        let lost = losses.since(1);
        assert_eq!((lost.rows.len(), &lost.rows[0], lost.is_cut), (LOSSES_TOLD_MAX, &row(2), true));
        assert_eq!(losses.since(lost.next).rows[0], row(2 + LOSSES_TOLD_MAX));
        assert!(!losses.since(2).is_cut && !losses.since(lost.next).is_cut);
    }

    #[test]
    fn what_is_lost_again_and_again_is_given_up_and_another_version_of_it_is_not() {
        let losses = Losses::default();
        let lost = row(0);
        assert!(!losses.holds(&lost.address, lost.version));
        for _ in 0..REPAIRS_MAX {
            assert!(losses.add(lost.clone()) && losses.holds(&lost.address, lost.version));
        }
        assert!(!losses.add(lost.clone()), "it would be fetched for ever");
        let newer = FeedRow { version: Version { time: 2, node: 1 }, ..lost.clone() };
        assert!(losses.add(newer) && !losses.holds(&lost.address, lost.version));
        for number in 1..=LOSSES_MAX {
            losses.add(row(number));
        }
        assert!(losses.add(lost), "what is forgotten begins anew");
        assert_eq!(losses.0.lock().rows.len(), LOSSES_MAX);
        assert!(losses.0.lock().names.len() <= LOSSES_MAX);
    }
}
