//! Which blocks of the device a file holds, by their index within the file.

use std::{collections::BTreeMap, ops::Range};

/// A set of block indices as disjoint ranges that do not touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Blocks {
    /// Start to end (exclusive).
    ranges: BTreeMap<u64, u64>,
    count: u64,
}

impl Blocks {
    /// How many blocks are held.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// How many blocks of `range` are not held.
    pub(crate) fn missing(&self, range: &Range<u64>) -> u64 {
        let held: u64 = self.overlaps(range).map(|r| r.end - r.start).sum();
        range.end.saturating_sub(range.start) - held
    }

    /// The end of the longest start of `range` that needs at most `budget` more blocks.
    pub(crate) fn affordable_end(&self, range: &Range<u64>, budget: u64) -> u64 {
        let mut at = range.start;
        let mut left = budget;
        for held in self.overlaps(range) {
            let gap = held.start - at;
            if gap > left {
                return at + left;
            }
            left -= gap;
            at = held.end;
        }
        range.end.min(at.saturating_add(left)).max(at)
    }

    /// Holds all of `range`; tells how many blocks that added.
    pub(crate) fn insert(&mut self, range: &Range<u64>) -> u64 {
        if range.start >= range.end {
            return 0;
        }
        let added = self.missing(range);
        let (mut start, mut end) = (range.start, range.end);
        let first = self.ranges.range(..=start).next_back().map(|(&s, &e)| (s, e));
        if let Some((s, e)) = first
            && e >= start
        {
            start = s;
            end = end.max(e);
        }
        let swallowed: Vec<u64> = self.ranges.range(start..=end).map(|(&s, _)| s).collect();
        for s in swallowed {
            end = end.max(self.ranges.remove(&s).unwrap_or(end));
        }
        self.ranges.insert(start, end);
        self.count += added;
        added
    }

    /// The parts of `range` that are not held, in their order.
    pub(crate) fn gaps(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut at = range.start;
        for held in self.overlaps(range) {
            if at < held.start {
                gaps.push(at..held.start);
            }
            at = held.end;
        }
        if at < range.end {
            gaps.push(at..range.end);
        }
        gaps
    }

    /// Gives up what it holds of `range`; tells how many blocks those were.
    pub(crate) fn remove(&mut self, range: &Range<u64>) -> u64 {
        let hit: Vec<Range<u64>> = self.overlaps(range).collect();
        let removed = hit.iter().map(|r| r.end - r.start).sum();
        for r in hit {
            let before = self.ranges.range(..=r.start).next_back().map(|(&s, &e)| (s, e));
            let Some((start, end)) = before else { continue };
            self.ranges.remove(&start);
            if start < r.start {
                self.ranges.insert(start, r.start);
            }
            if r.end < end {
                self.ranges.insert(r.end, end);
            }
        }
        self.count -= removed;
        removed
    }

    /// The ranges that are held, in their order.
    pub(crate) fn ranges(&self) -> Vec<Range<u64>> {
        self.ranges.iter().map(|(&start, &end)| start..end).collect()
    }

    /// Holds all that `other` holds.
    pub(crate) fn extend(&mut self, other: &Self) {
        for (&start, &end) in &other.ranges {
            self.insert(&(start..end));
        }
    }

    /// Gives up every block from `end` on; tells how many those were.
    pub(crate) fn truncate(&mut self, end: u64) -> u64 {
        let before = self.count;
        let tail = self.ranges.split_off(&end);
        self.count -= tail.iter().map(|(s, e)| e - s).sum::<u64>();
        if let Some((_, last)) = self.ranges.iter_mut().next_back()
            && *last > end
        {
            self.count -= *last - end;
            *last = end;
        }
        before - self.count
    }

    fn overlaps(&self, range: &Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let (from, to) = (range.start, range.end);
        let first = self.ranges.range(..=from).next_back().map_or(from, |(&s, _)| s);
        self.ranges
            .range(first..to.max(first))
            .map(move |(&s, &e)| s.max(from)..e.min(to))
            .filter(|r| r.start < r.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_become_one() {
        let mut blocks = Blocks::default();
        assert_eq!(blocks.insert(&(0..2)), 2);
        assert_eq!(blocks.insert(&(4..6)), 2);
        assert_eq!(blocks.insert(&(1..5)), 2);
        assert_eq!(blocks.insert(&(0..6)), 0);
        assert_eq!((blocks.count(), blocks.ranges.len()), (6, 1));
    }

    #[test]
    fn a_budget_buys_the_longest_start() {
        let mut blocks = Blocks::default();
        blocks.insert(&(2..4));
        assert_eq!(blocks.affordable_end(&(0..8), 0), 0);
        assert_eq!(blocks.affordable_end(&(0..8), 1), 1);
        assert_eq!(blocks.affordable_end(&(0..8), 2), 4);
        assert_eq!(blocks.affordable_end(&(0..8), 3), 5);
        assert_eq!(blocks.affordable_end(&(0..8), 99), 8);
        assert_eq!(blocks.affordable_end(&(3..3), 0), 3);
        assert_eq!(blocks.affordable_end(&(2..6), 0), 4);
    }

    #[test]
    fn what_is_removed_is_a_gap() {
        let mut blocks = Blocks::default();
        blocks.insert(&(2..10));
        blocks.insert(&(12..14));
        assert_eq!(blocks.remove(&(4..6)), 2);
        assert_eq!(blocks.remove(&(9..13)), 2);
        assert_eq!(blocks.remove(&(0..2)), 0);
        assert_eq!(blocks.gaps(&(0..15)), [0..2, 4..6, 9..13, 14..15]);
        assert_eq!(blocks.ranges(), [2..4, 6..9, 13..14]);
        assert_eq!(blocks.count(), 6);
        assert_eq!(blocks.gaps(&(6..9)), []);
    }

    #[test]
    fn truncation_cuts_a_range_in_the_middle() {
        let mut blocks = Blocks::default();
        blocks.insert(&(0..4));
        blocks.insert(&(6..9));
        assert_eq!(blocks.truncate(3), 4);
        assert_eq!((blocks.count(), blocks.missing(&(0..9))), (3, 6));
    }
}
