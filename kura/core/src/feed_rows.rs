//! Which rows of a feed go, so that it never has more than a bound: the eldest, in the batch that would be too
//! much, and the floor of the feed rises past them in the same batch. So no write waits, and a follower who has
//! not read them finds its cursor below the floor and compares.
//!
//! A row below the floor is of use to nobody, and is not written.

use std::collections::{BTreeMap, BTreeSet};

/// Rows of a node's own feed. Lower: who was away for a while has to compare. Higher: more of the catalog is
/// rows that nobody reads.
pub const FEED_ROWS_MAX: u64 = 1_000_000;
/// Rows that one batch takes away: as many as a batch adds at the most. What is too much beyond that, where the
/// bound is a lower one than before, goes with the next batches.
pub const DROPS_MAX: usize = 1024;

/// The rows of a feed, by their sequences, and its floor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedRows {
    /// A bit for each sequence that has a row, 64 to a word. No word is zero.
    words: BTreeMap<u64, u64>,
    len: u64,
    floor: u64,
    rows_max: u64,
}

/// What a batch does to the rows of a feed: each sequence stands on one side at the most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// It writes these.
    pub puts: BTreeSet<u64>,
    /// It takes these away.
    pub deletes: BTreeSet<u64>,
}

/// What has to become of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// It must not write these.
    pub left_out: BTreeSet<u64>,
    /// It must take these away as well.
    pub dropped: BTreeSet<u64>,
    /// It must say this of the floor, if it leaves out or drops anything.
    pub floor: u64,
    /// How many rows go because there are too many.
    pub excess: u64,
}

impl FeedRows {
    /// No rows, of which no more than `rows_max` are to be.
    #[must_use]
    pub fn new(rows_max: u64, floor: u64) -> Self {
        Self { words: BTreeMap::new(), len: 0, floor, rows_max }
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Rows below may be gone.
    #[must_use]
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// The floor is this, if it is not higher.
    pub fn raise_floor(&mut self, floor: u64) {
        self.floor = self.floor.max(floor);
    }

    /// Whether a sequence has a row.
    #[must_use]
    pub fn holds(&self, sequence: u64) -> bool {
        let (word, bit) = at(sequence);
        self.words.get(&word).is_some_and(|bits| bits & bit != 0)
    }

    /// There is a row.
    pub fn insert(&mut self, sequence: u64) {
        let (word, bit) = at(sequence);
        let bits = self.words.entry(word).or_default();
        self.len += u64::from(*bits & bit == 0);
        *bits |= bit;
    }

    /// There is no row.
    pub fn remove(&mut self, sequence: u64) {
        let (word, bit) = at(sequence);
        let Some(bits) = self.words.get_mut(&word) else { return };
        self.len -= u64::from(*bits & bit != 0);
        *bits &= !bit;
        if *bits == 0 {
            self.words.remove(&word);
        }
    }

    /// The sequences that have rows, the lowest first.
    pub fn sequences(&self) -> impl Iterator<Item = u64> {
        let bits = |(word, bits): (&u64, &u64)| {
            let (word, bits) = (*word, *bits);
            (0..64).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| word << 6 | bit)
        };
        self.words.iter().flat_map(bits)
    }

    /// Decides what becomes of a batch.
    #[must_use]
    pub fn decide(&self, changes: &Changes) -> Cut {
        let Changes { puts, deletes } = changes;
        let below = puts.iter().copied().filter(|put| *put < self.floor);
        let fresh: BTreeSet<u64> =
            puts.range(self.floor..).copied().filter(|put| !self.holds(*put)).collect();
        let removed = deletes.iter().filter(|delete| self.holds(**delete)).count() as u64;
        let after = self.len - removed + fresh.len() as u64;
        let excess = after.saturating_sub(self.rows_max);
        let excess = usize::try_from(excess).unwrap_or(usize::MAX).min(DROPS_MAX);
        let held = self.sequences().filter(|sequence| !deletes.contains(sequence)).take(excess);
        let eldest: BTreeSet<u64> = held.chain(fresh.into_iter().take(excess)).collect();
        let eldest: BTreeSet<u64> = eldest.into_iter().take(excess).collect();
        let floor = eldest.last().map_or(self.floor, |last| self.floor.max(last + 1));
        let put_in_vain = eldest.iter().copied().filter(|sequence| puts.contains(sequence));
        Cut {
            left_out: below.chain(put_in_vain).collect(),
            dropped: eldest.iter().copied().filter(|sequence| self.holds(*sequence)).collect(),
            floor,
            excess: eldest.len() as u64,
        }
    }

    /// The batch is in the catalog, as it was decided.
    pub fn change(&mut self, changes: &Changes, cut: &Cut) {
        changes.puts.difference(&cut.left_out).for_each(|put| self.insert(*put));
        changes.deletes.union(&cut.dropped).for_each(|delete| self.remove(*delete));
        self.raise_floor(cut.floor);
    }
}

fn at(sequence: u64) -> (u64, u64) {
    (sequence >> 6, 1 << (sequence & 63))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::btree_set, prelude::*};

    use super::*;

    fn puts(sequences: impl IntoIterator<Item = u64>) -> Changes {
        Changes { puts: sequences.into_iter().collect(), ..Changes::default() }
    }

    fn rows(rows_max: u64, held: impl IntoIterator<Item = u64>) -> FeedRows {
        let mut rows = FeedRows::new(rows_max, 0);
        held.into_iter().for_each(|sequence| rows.insert(sequence));
        rows
    }

    #[test]
    fn the_eldest_rows_go_with_the_batch_that_is_too_much() {
        for (name, held, changes, left_out, dropped, floor) in [
            ("there is room", vec![1, 2], puts([3]), vec![], vec![], 0),
            ("one too many", vec![1, 2, 5], puts([6]), vec![], vec![1], 2),
            ("several", vec![1, 2, 5], puts([6, 7]), vec![], vec![1, 2], 3),
            ("a row that is there is none more", vec![1, 2, 5], puts([2, 5]), vec![], vec![], 0),
            ("more than fits at once", vec![1], puts([2, 3, 4, 5]), vec![2], vec![1], 3),
            ("a rebuild reads what is later first", vec![7, 8, 9], puts([4]), vec![4], vec![], 5),
            (
                "what goes by itself leaves room",
                vec![1, 2, 5],
                Changes { puts: [6].into(), deletes: [1, 3].into() },
                vec![],
                vec![],
                0,
            ),
            ("one that is copied is the eldest", vec![1, 2, 5], puts([1, 6]), vec![1], vec![1], 2),
        ] {
            let cut = rows(3, held).decide(&changes);
            let set = |sequences: Vec<u64>| sequences.into_iter().collect::<BTreeSet<_>>();
            assert_eq!(cut.left_out, set(left_out), "{name}");
            assert_eq!(cut.dropped, set(dropped), "{name}");
            assert_eq!(cut.floor, floor, "{name}");
        }
    }

    #[test]
    fn what_lies_below_the_floor_is_not_written() {
        let mut rows = rows(3, [10]);
        rows.raise_floor(8);
        let cut = rows.decide(&puts([7, 8]));
        assert_eq!((cut.left_out, cut.excess, cut.floor), ([7].into(), 0, 8));
    }

    #[test]
    fn a_bound_that_was_lowered_is_reached_step_by_step() {
        let mut rows = rows(10, 0..5000);
        let mut next = 5000;
        while rows.len() > 10 {
            let changes = puts([next]);
            let cut = rows.decide(&changes);
            assert!(cut.dropped.len() <= DROPS_MAX);
            rows.change(&changes, &cut);
            next += 1;
        }
        assert!(next < 5010, "{next}");
    }

    proptest! {
        /// Any batches in any order: no more than the bound, nothing below the floor, and nothing at or above it
        /// is missing that was written and not taken away.
        #[test]
        fn whatever_comes_the_feed_is_within_its_bound_and_whole_above_its_floor(
            rows_max in 1_u64..40,
            batches in proptest::collection::vec(
                (btree_set(0_u64..400, 0..20), btree_set(0_u64..400, 0..6)),
                0..60,
            ),
        ) {
            let (mut rows, mut model) = (FeedRows::new(rows_max, 0), BTreeSet::new());
            for (puts, deletes) in batches {
                let deletes = deletes.difference(&puts).copied().collect();
                let changes = Changes { puts, deletes };
                let cut = rows.decide(&changes);
                rows.change(&changes, &cut);
                model.extend(&changes.puts);
                model.retain(|it| !changes.deletes.contains(it) && *it >= rows.floor());
                let held: BTreeSet<u64> = rows.sequences().collect();
                prop_assert_eq!(&held, &model);
                prop_assert_eq!(rows.len(), held.len() as u64);
                prop_assert!(rows.len() <= rows_max);
            }
        }
    }
}
