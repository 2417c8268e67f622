//! What the device lost: artifacts that were here, and cannot be read any more. They are misses at
//! once, and asked from the peers: nothing else would bring them back, because feeds name only what is
//! new.

use std::collections::VecDeque;

use kura_core::feed::FeedRow;
use parking_lot::Mutex;

/// Losses that are remembered one by one. Beyond that, everything is compared with every peer.
const LOSSES_MAX: usize = 4096;

/// The latest losses, numbered from 0 in their order.
#[derive(Default)]
pub(super) struct Losses(Mutex<Latest>);

#[derive(Default)]
struct Latest {
    /// The number of the first in `rows`: so many were forgotten.
    first: u64,
    /// [`LOSSES_MAX`] at the most.
    rows: VecDeque<FeedRow>,
}

/// What was lost since somebody looked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    /// These, the earliest first.
    pub(crate) rows: Vec<FeedRow>,
    /// Where to look from the next time.
    pub(crate) next: u64,
    /// Whether there were more than are remembered.
    pub(crate) is_cut: bool,
}

impl Losses {
    pub(super) fn add(&self, row: FeedRow) {
        let mut latest = self.0.lock();
        if latest.rows.len() == LOSSES_MAX {
            latest.rows.pop_front();
            latest.first += 1;
        }
        latest.rows.push_back(row);
    }

    pub(super) fn since(&self, seen: u64) -> Lost {
        let latest = self.0.lock();
        let skipped = usize::try_from(seen.saturating_sub(latest.first)).unwrap_or(usize::MAX);
        Lost {
            rows: latest.rows.iter().skip(skipped).cloned().collect(),
            next: latest.first + latest.rows.len() as u64,
            is_cut: seen < latest.first,
        }
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
        assert_eq!((lost.rows.len(), &lost.rows[0], lost.is_cut), (LOSSES_MAX, &row(2), true));
        assert!(!losses.since(2).is_cut && !losses.since(lost.next).is_cut);
    }
}
