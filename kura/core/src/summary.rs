//! What a node holds, summed over ranges of time, so that two nodes find where they differ without naming
//! what they share.
//!
//! Each artifact in its version is an [`Item`]: the hybrid logical time of the version, and a fingerprint.
//! A [`Sum`] over a range of items counts them and adds their fingerprints; two nodes whose sums over a
//! range are equal hold the same there, but for a chance of 2^-128 (Minsky and Trachtenberg, *Practical
//! Set Reconciliation*, 2002, have sums over parts that are divided further; Meyer, *Range-Based Set
//! Reconciliation*, 2023, has ranges of an order). The order is that of time, so that what one ring has
//! evicted and the other has not lies at one end of it.
//!
//! In memory there are sums of *leaves* alone: neighbouring ranges of a few items each. Where a range cuts a leaf,
//! its items are read from the catalog.

use std::{
    collections::BTreeMap,
    ops::{AddAssign, Bound, SubAssign},
};

use crate::{
    digest::{Digest, Hasher},
    record::Version,
};

/// The keyspace of [`Item`] -> key of its artifact.
pub const VERSIONS: &str = "versions";
/// Items of a leaf that takes no more at the young end. Lower: more memory. Higher: more is read where a
/// range cuts a leaf.
pub const LEAF_ITEMS: u64 = 32;
/// Items of a leaf beyond which it is divided.
pub const LEAF_ITEMS_MAX: u64 = 2 * LEAF_ITEMS;

const KEY_BYTES: usize = 24;

/// One artifact in one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    /// The hybrid logical time of the version.
    pub time: u64,
    /// Half of the SHA-256 of the version, the body's digest and the key of the artifact.
    pub print: u128,
}

/// A place in the order of items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The hybrid logical time.
    pub time: u64,
    /// The upper half of the fingerprint.
    pub print: u64,
}

/// The items from `from` on, below `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first that may be in it.
    pub from: Position,
    /// The first that is beyond it.
    pub to: Position,
}

/// Items counted, and their fingerprints added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many.
    pub count: u64,
    /// The sum of their fingerprints, modulo 2^128.
    pub print: u128,
}

impl Item {
    /// The item of an artifact: the key of its row, its version and the digest of its body.
    #[must_use]
    pub fn of(place_key: &[u8], version: Version, digest: Digest) -> Self {
        let mut hasher = Hasher::default();
        hasher.update(&version.time.to_le_bytes());
        hasher.update(&version.node.to_le_bytes());
        hasher.update(&digest.0);
        hasher.update(place_key);
        let print = hasher.finish().0.first_chunk().map_or(0, |half| u128::from_be_bytes(*half));
        Self { time: version.time, print }
    }

    /// Its place in the order.
    #[must_use]
    pub fn position(self) -> Position {
        let [print, _] = halves(self.print);
        Position { time: self.time, print }
    }

    /// The lower half of its fingerprint: by it a peer is told that the item is known.
    #[must_use]
    pub fn mark(self) -> u64 {
        let [_, mark] = halves(self.print);
        mark
    }

    /// The key of its row.
    #[must_use]
    pub fn key(self) -> Vec<u8> {
        [&self.time.to_be_bytes()[..], &self.print.to_be_bytes()].concat()
    }

    /// The item of a row's key; `None` if it is another row.
    #[must_use]
    pub fn of_key(key: &[u8]) -> Option<Self> {
        let key: &[u8; KEY_BYTES] = key.try_into().ok()?;
        let (time, print) = key.split_first_chunk::<8>()?;
        Some(Self {
            time: u64::from_be_bytes(*time),
            print: u128::from_be_bytes(print.try_into().ok()?),
        })
    }
}

/// The upper and the lower half of a fingerprint.
#[must_use]
pub fn halves(print: u128) -> [u64; 2] {
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
    let lower = print as u64;
    [u64::try_from(print >> 64).unwrap_or_default(), lower]
}

/// The fingerprint of these halves.
#[must_use]
pub fn whole([upper, lower]: [u64; 2]) -> u128 {
    u128::from(upper) << 64 | u128::from(lower)
}

impl Position {
    /// Before all items.
    pub const FIRST: Self = Self { time: 0, print: 0 };
    /// Behind all items.
    pub const END: Self = Self { time: u64::MAX, print: u64::MAX };

    /// The first key of a row that lies here.
    #[must_use]
    pub fn key(self) -> Vec<u8> {
        let Self { time, print } = self;
        Item { time, print: whole([print, 0]) }.key()
    }
}

impl Span {
    /// All items.
    pub const ALL: Self = Self { from: Position::FIRST, to: Position::END };

    /// Whether nothing can be in it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.from >= self.to
    }

    /// Whether `other` lies within it.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.from <= other.from && other.to <= self.to
    }
}

impl Sum {
    /// The sum of these items.
    #[must_use]
    pub fn of(items: &[Item]) -> Self {
        let mut sum = Self::default();
        items.iter().for_each(|item| sum.add(*item));
        sum
    }

    fn add(&mut self, item: Item) {
        *self += Self { count: 1, print: item.print };
    }
}

impl AddAssign for Sum {
    fn add_assign(&mut self, other: Self) {
        self.count = self.count.wrapping_add(other.count);
        self.print = self.print.wrapping_add(other.print);
    }
}

impl SubAssign for Sum {
    fn sub_assign(&mut self, other: Self) {
        self.count = self.count.wrapping_sub(other.count);
        self.print = self.print.wrapping_sub(other.print);
    }
}

/// The sums of leaves that together cover everything. Some 3 bytes of memory for each item.
#[derive(Debug)]
pub struct Summary {
    /// By where each of them begins; it ends where the next one does. The first is always there.
    leaves: BTreeMap<Position, Sum>,
    /// No item lies behind it.
    newest: Position,
}

/// A range as far as it is known without a look at items.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cover {
    /// The sum of the leaves within.
    pub known: Sum,
    /// Parts of leaves, to be read.
    pub edges: Vec<Span>,
}

impl Default for Summary {
    fn default() -> Self {
        let leaves = BTreeMap::from([(Position::FIRST, Sum::default())]);
        Self { leaves, newest: Position::FIRST }
    }
}

impl Summary {
    /// Adds an item that was not there. A leaf that has become too large is named: its items are to be
    /// read, and given to [`Summary::divide`].
    pub fn add(&mut self, item: Item) -> Option<Span> {
        let at = item.position();
        let (begin, leaf) = self.leaf(at);
        if at > self.newest && leaf.count >= LEAF_ITEMS && at > begin {
            self.leaves.insert(at, Sum { count: 1, print: item.print });
            self.newest = at;
            return None;
        }
        self.newest = self.newest.max(at);
        let leaf = self.leaves.entry(begin).or_default();
        leaf.add(item);
        (leaf.count > LEAF_ITEMS_MAX).then(|| self.span_of(begin))
    }

    /// Removes an item that was there. Small neighbours become one leaf. `false`: nothing was there.
    pub fn remove(&mut self, item: Item) -> bool {
        let (begin, leaf) = self.leaf(item.position());
        if leaf.count == 0 {
            return false;
        }
        *self.leaves.entry(begin).or_default() -= Sum { count: 1, print: item.print };
        self.merge_with_next(begin);
        if let Some(before) = self.leaves.range(..begin).next_back().map(|(at, _)| *at) {
            self.merge_with_next(before);
        }
        true
    }

    fn merge_with_next(&mut self, begin: Position) {
        let next = self.end_of(begin);
        let (Some(leaf), Some(behind)) = (self.leaves.get(&begin), self.leaves.get(&next)) else {
            return;
        };
        let is_small = leaf.count + behind.count <= LEAF_ITEMS / 2;
        if is_small || leaf.count == 0 || behind.count == 0 {
            let behind = *behind;
            self.leaves.remove(&next);
            *self.leaves.entry(begin).or_default() += behind;
        }
    }

    /// Divides a leaf of which these are all items, in their order. They are right where its sum is not.
    pub fn divide(&mut self, leaf: Span, items: &[Item]) {
        if self.span_of(leaf.from) != leaf {
            // It is another one by now.
            return;
        }
        let parts = (items.len() as u64 / LEAF_ITEMS).max(2);
        let size = (items.len() as u64).div_ceil(parts);
        let (mut begin, mut part, mut last) = (leaf.from, Sum::default(), leaf.from);
        for item in items {
            let at = item.position();
            // Items that share a position stay together.
            if part.count >= size && at > last {
                self.leaves.insert(begin, part);
                (begin, part) = (at, Sum::default());
            }
            part.add(*item);
            last = at;
        }
        self.leaves.insert(begin, part);
    }

    /// The leaf that begins there, if it is too large.
    #[must_use]
    pub fn large_leaf(&self, begin: Position) -> Option<Span> {
        let leaf = self.leaves.get(&begin)?;
        (leaf.count > LEAF_ITEMS_MAX).then(|| self.span_of(begin))
    }

    /// The leaf that has the eldest item. It may begin long before that.
    #[must_use]
    pub fn eldest_leaf(&self) -> Option<Span> {
        let eldest = self.leaves.iter().find(|(_, leaf)| leaf.count > 0);
        eldest.map(|(begin, _)| self.span_of(*begin))
    }

    /// The first leaf whose sum is not that of its part of `items`, which are all there are, in their order.
    #[must_use]
    pub fn wrong(&self, items: &[Item]) -> Option<Span> {
        let mut rest = items;
        for (begin, sum) in &self.leaves {
            let leaf = self.span_of(*begin);
            let (here, behind) = rest.split_at(rest.partition_point(|it| it.position() < leaf.to));
            if Sum::of(here) != *sum {
                return Some(leaf);
            }
            rest = behind;
        }
        (!rest.is_empty()).then_some(Span::ALL)
    }

    /// The sum of everything.
    #[must_use]
    pub fn total(&self) -> Sum {
        let mut total = Sum::default();
        self.leaves.values().for_each(|leaf| total += *leaf);
        total
    }

    /// How many leaves there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.leaves.len()
    }

    /// Whether nothing is summed up.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.total() == Sum::default()
    }

    /// What is known of a range.
    #[must_use]
    pub fn cover(&self, span: Span) -> Cover {
        let mut cover = Cover::default();
        if span.is_empty() {
            return cover;
        }
        let (first, _) = self.leaf(span.from);
        let mut leaves = self.leaves.range(first..span.to).peekable();
        while let Some((begin, sum)) = leaves.next() {
            let end = leaves.peek().map_or_else(|| self.end_of(*begin), |(next, _)| **next);
            let cut = Span { from: span.from.max(*begin), to: span.to.min(end) };
            if sum.count == 0 {
                continue;
            }
            if cut.from == *begin && cut.to == end {
                cover.known += *sum;
            } else {
                cover.edges.push(cut);
            }
        }
        cover
    }

    /// Divides a range where leaves begin, into at most `parts_max` parts of about as many items. One
    /// within a single leaf is left as it is.
    #[must_use]
    pub fn parts(&self, span: Span, parts_max: u64) -> Vec<Span> {
        if span.is_empty() {
            return Vec::new();
        }
        let (first, _) = self.leaf(span.from);
        let counts = || self.leaves.range(first..span.to).map(|(begin, sum)| (*begin, sum.count));
        let total: u64 = counts().map(|(_, count)| count).sum();
        let size = total.div_ceil(parts_max.max(1)).max(1);
        let (mut parts, mut from, mut held) = (Vec::new(), span.from, 0);
        for (begin, count) in counts() {
            if held >= size && begin > from {
                parts.push(Span { from, to: begin });
                (from, held) = (begin, 0);
            }
            held += count;
        }
        parts.push(Span { from, to: span.to });
        parts
    }

    /// The end of a range that holds about `items` items, in whole leaves but for the first and the last.
    #[must_use]
    pub fn newest(&self, span: Span, items: u64) -> Span {
        let (first, _) = self.leaf(span.from);
        let mut held = 0;
        for (begin, sum) in self.leaves.range(first..span.to).rev() {
            held += sum.count;
            if held >= items {
                return Span { from: span.from.max(*begin), to: span.to };
            }
        }
        span
    }

    fn leaf(&self, at: Position) -> (Position, Sum) {
        let leaf = self.leaves.range(..=at).next_back();
        leaf.map_or((Position::FIRST, Sum::default()), |(begin, sum)| (*begin, *sum))
    }

    fn end_of(&self, begin: Position) -> Position {
        let behind = (Bound::Excluded(begin), Bound::Unbounded);
        self.leaves.range(behind).next().map_or(Position::END, |(next, _)| *next)
    }

    fn span_of(&self, begin: Position) -> Span {
        Span { from: begin, to: self.end_of(begin) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn item(time: u64, print: u64) -> Item {
        Item { time, print: whole([print, print.wrapping_mul(0x9e37_79b9_7f4a_7c15)]) }
    }

    fn at(time: u64) -> Position {
        Position { time, print: 0 }
    }

    /// The items themselves, beside the sums.
    #[derive(Default)]
    struct Model {
        items: BTreeSet<Item>,
        summary: Summary,
    }

    impl Model {
        fn within(&self, span: Span) -> Vec<Item> {
            let is_within = |it: &&Item| span.from <= it.position() && it.position() < span.to;
            self.items.iter().filter(is_within).copied().collect()
        }

        fn add(&mut self, item: Item) {
            if self.items.insert(item)
                && let Some(leaf) = self.summary.add(item)
            {
                let items = self.within(leaf);
                self.summary.divide(leaf, &items);
            }
        }

        fn remove(&mut self, item: Item) {
            if self.items.remove(&item) {
                self.summary.remove(item);
            }
        }

        fn sum(&self, span: Span) -> Sum {
            let Cover { mut known, edges } = self.summary.cover(span);
            edges.into_iter().for_each(|edge| known += Sum::of(&self.within(edge)));
            known
        }
    }

    #[test]
    fn a_key_leads_back_to_its_item_and_sorts_as_it_does() {
        let version = Version { time: 7, node: 3 };
        let of = |key: &[u8], version| Item::of(key, version, Digest::of(b"body"));
        let this = of(b"key", version);
        assert_eq!(Item::of_key(&this.key()), Some(this));
        assert_eq!(Item::of_key(&this.key()[1..]), None);
        assert_ne!(this, of(b"other", version));
        assert_ne!(this, of(b"key", Version { node: 4, ..version }));
        assert_ne!(this, Item::of(b"key", version, Digest::of(b"another")));
        assert!(this.position().key() <= this.key());
        assert!(Position::END.key() > item(u64::MAX - 1, u64::MAX).key());
        assert!(*crate::stamp::stamp_key(VERSIONS) > item(u64::MAX - 1, u64::MAX).key()[..]);
    }

    #[test]
    fn what_comes_at_the_young_end_fills_leaves_without_a_look() {
        let mut summary = Summary::default();
        for time in 1..=10 * LEAF_ITEMS {
            assert_eq!(summary.add(item(time, 1)), None);
        }
        assert_eq!((summary.len(), summary.total().count), (10, 10 * LEAF_ITEMS));
        let eldest = summary.eldest_leaf();
        assert_eq!(eldest.map(|leaf| leaf.from), Some(Position::FIRST));
        (1..=LEAF_ITEMS).for_each(|time| assert!(summary.remove(item(time, 1))));
        let eldest = summary.eldest_leaf();
        assert_eq!(eldest.map(|leaf| leaf.to), Some(item(2 * LEAF_ITEMS + 1, 1).position()));
        assert_eq!(Summary::default().eldest_leaf(), None);
        (1..=LEAF_ITEMS).for_each(|time| assert_eq!(summary.add(item(time, 1)), None));
        assert!(!Summary::default().remove(item(1, 1)), "nothing is there");
        let cover = summary.cover(Span::ALL);
        assert_eq!((cover.known, cover.edges), (summary.total(), vec![]));
        let newest = summary.newest(Span::ALL, LEAF_ITEMS + 1);
        assert_eq!(newest.to, Position::END);
        assert_eq!(summary.cover(newest).known.count, 2 * LEAF_ITEMS);
        assert_eq!(summary.newest(Span::ALL, u64::MAX), Span::ALL);
    }

    #[test]
    fn a_range_that_cuts_leaves_has_edges_to_be_read() {
        let mut model = Model::default();
        (1..=4 * LEAF_ITEMS).for_each(|time| model.add(item(time, 1)));
        let span = Span { from: at(5), to: at(3 * LEAF_ITEMS + 5) };
        let cover = model.summary.cover(span);
        assert_eq!((cover.known.count, cover.edges.len()), (2 * LEAF_ITEMS, 2));
        assert_eq!(model.sum(span), Sum::of(&model.within(span)));
        let inside = Span { from: at(5), to: at(7) };
        assert_eq!(model.summary.cover(inside).edges, [inside]);
        assert_eq!(model.summary.parts(inside, 16), [inside]);
        let nothing = Span { from: at(7), to: at(7) };
        assert_eq!(model.summary.cover(nothing), Cover::default());
        assert!(model.summary.parts(nothing, 16).is_empty());
    }

    #[test]
    fn what_comes_from_the_newest_on_fills_leaves_as_well() {
        let mut model = Model::default();
        (1..=100 * LEAF_ITEMS).rev().for_each(|time| model.add(item(time, 1)));
        assert!(model.summary.len() <= 105, "{} leaves", model.summary.len());
        assert_eq!(model.summary.wrong(&model.within(Span::ALL)), None);
    }

    #[test]
    fn a_leaf_is_made_right_when_it_is_divided() {
        let mut model = Model::default();
        (1..=LEAF_ITEMS).for_each(|time| model.add(item(2 * time, 1)));
        // It is counted, and there is no such item.
        model.summary.add(item(7, 7));
        assert!(model.summary.wrong(&model.within(Span::ALL)).is_some());
        (1..=2 * LEAF_ITEMS).for_each(|time| model.add(item(time, 2)));
        assert_eq!(model.summary.wrong(&model.within(Span::ALL)), None);
    }

    #[test]
    fn items_of_one_position_stay_in_one_leaf() {
        let mut model = Model::default();
        for lower in 0..3 * LEAF_ITEMS_MAX {
            model.add(Item { time: 9, print: whole([1, lower]) });
        }
        assert_eq!(model.summary.total(), Sum::of(&model.within(Span::ALL)));
        model.add(item(3, 1));
        assert_eq!(model.sum(Span { from: at(0), to: at(9) }).count, 1);
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Add(u64, u64),
        Remove(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let add = (0..300_u64, 0..4_u64).prop_map(|(time, print)| Step::Add(time, print));
        let young = (1..9_u64).prop_map(|print| Step::Add(u64::MAX / 2, print));
        let remove = any::<usize>().prop_map(Step::Remove);
        proptest::collection::vec(prop_oneof![6 => add, 1 => young, 3 => remove], 0..900)
    }

    proptest! {
        #[test]
        fn sums_of_all_ranges_are_those_of_their_items(
            steps in steps(),
            cuts in proptest::collection::vec((0..300_u64, 0..300_u64), 8),
            parts_max in 1..20_u64,
        ) {
            let mut model = Model::default();
            for step in steps {
                match step {
                    Step::Add(time, print) => model.add(item(time, print << 60)),
                    Step::Remove(nth) if !model.items.is_empty() => {
                        let nth = nth % model.items.len();
                        let item = *model.items.iter().nth(nth).expect("it is below the length");
                        model.remove(item);
                    }
                    Step::Remove(_) => {}
                }
            }
            prop_assert_eq!(model.summary.total(), Sum::of(&model.within(Span::ALL)));
            prop_assert_eq!(model.summary.wrong(&model.within(Span::ALL)), None);
            if let Some(more) = model.items.pop_last() {
                let items: Vec<Item> = model.items.iter().copied().collect();
                prop_assert!(model.summary.wrong(&items).is_some());
                model.items.insert(more);
            }
            let largest = model.summary.leaves.values().map(|leaf| leaf.count).max();
            prop_assert!(largest <= Some(LEAF_ITEMS_MAX));
            let (count, len) = (model.items.len(), model.summary.len());
            prop_assert!(len <= 2 + count / 8, "{len} leaves for {count}");
            for (from, to) in cuts {
                let span = Span { from: at(from), to: at(to) };
                prop_assert_eq!(model.sum(span), Sum::of(&model.within(span)));
                let parts = model.summary.parts(span, parts_max);
                let mut sum = Sum::default();
                let mut end = span.from;
                for part in &parts {
                    prop_assert_eq!(part.from, end);
                    prop_assert!(!part.is_empty());
                    end = part.to;
                    sum += model.sum(*part);
                }
                prop_assert_eq!(sum, model.sum(span));
                prop_assert!(span.is_empty() || end == span.to);
                prop_assert!(parts.len() as u64 <= parts_max + 1);
            }
        }
    }
}
