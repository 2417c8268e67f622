//! The order in which things were last used, and the eldest of them that may go.

use std::collections::{BTreeMap, BTreeSet};

/// Things with a size, in the order in which they were last used. What is kept in it is bounded by
/// whoever puts it there.
#[derive(Clone, Debug)]
pub struct Recency<K> {
    entries: BTreeMap<K, Entry>,
    /// (use, key), the same keys as `entries`.
    order: BTreeSet<(u64, K)>,
    /// The sizes of all entries together.
    bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    bytes: u64,
    used: u64,
}

impl<K: Ord + Copy> Default for Recency<K> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), order: BTreeSet::new(), bytes: 0 }
    }
}

impl<K: Ord + Copy> Recency<K> {
    /// The sizes of all together, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The size of `key`, if it is here.
    #[must_use]
    pub fn size_of(&self, key: K) -> Option<u64> {
        self.entries.get(&key).map(|entry| entry.bytes)
    }

    /// When `key` was used last, if it is here.
    #[must_use]
    pub fn used(&self, key: K) -> Option<u64> {
        self.entries.get(&key).map(|entry| entry.used)
    }

    /// Puts `key` in, used last at the time `used`; what was there under this key is replaced.
    pub fn insert(&mut self, key: K, bytes: u64, used: u64) {
        self.remove(key);
        self.entries.insert(key, Entry { bytes, used });
        self.order.insert((used, key));
        self.bytes += bytes;
    }

    /// `key` was used at the time `used`, unless it was used later already. Whether it is here.
    pub fn touch(&mut self, key: K, used: u64) -> bool {
        let Some(entry) = self.entries.get_mut(&key) else { return false };
        self.order.remove(&(entry.used, key));
        entry.used = entry.used.max(used);
        self.order.insert((entry.used, key));
        true
    }

    /// Takes `key` out. Its size, if it was here.
    pub fn remove(&mut self, key: K) -> Option<u64> {
        let entry = self.entries.remove(&key)?;
        self.order.remove(&(entry.used, key));
        self.bytes -= entry.bytes;
        Some(entry.bytes)
    }

    /// All keys, the one used longest ago first.
    pub fn eldest_first(&self) -> impl DoubleEndedIterator<Item = K> + '_ {
        self.order.iter().map(|(_, key)| *key)
    }

    /// Those to give up so that `incoming_bytes` fit into `limit_bytes`: the eldest first, leaving
    /// out what `is_held` says yes to. `None` if that is not possible.
    #[must_use]
    pub fn victims(
        &self,
        incoming_bytes: u64,
        limit_bytes: u64,
        is_held: impl Fn(K) -> bool,
    ) -> Option<Vec<K>> {
        let mut left_bytes = self.bytes.checked_add(incoming_bytes)?;
        let mut victims = Vec::new();
        for key in self.eldest_first() {
            if left_bytes <= limit_bytes {
                break;
            }
            if !is_held(key) {
                left_bytes -= self.size_of(key).unwrap_or(0);
                victims.push(key);
            }
        }
        (left_bytes <= limit_bytes).then_some(victims)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_one_used_longest_ago_goes_first() {
        let mut recency = Recency::default();
        for key in 1..=4 {
            recency.insert(key, 10, 100 + key);
        }
        assert!(recency.touch(1, 200) && !recency.touch(9, 200));
        assert!(recency.touch(1, 50), "time does not go back");
        assert_eq!((recency.used(1), recency.used(9)), (Some(200), None));
        assert_eq!(recency.eldest_first().collect::<Vec<_>>(), [2, 3, 4, 1]);
        let victims = |incoming, limit, held| recency.victims(incoming, limit, |key| key == held);
        assert_eq!(victims(10, 50, 0), Some(vec![]));
        assert_eq!(victims(10, 40, 0), Some(vec![2]));
        assert_eq!(victims(11, 40, 2), Some(vec![3, 4]));
        assert_eq!(victims(40, 40, 0), Some(vec![2, 3, 4, 1]));
        assert_eq!(victims(40, 40, 1), None, "what is held stays");
        assert_eq!(victims(u64::MAX, 40, 0), None);
        assert_eq!((recency.remove(3), recency.remove(3), recency.bytes()), (Some(10), None, 30));
    }

    proptest! {
        #[test]
        fn the_sum_is_the_sum_and_the_order_is_that_of_uses(
            steps in proptest::collection::vec((0_u8..8, 0_u64..100, 0_u8..3), 0..100),
        ) {
            let mut recency = Recency::default();
            let mut model: Vec<(u8, u64)> = Vec::new();
            for (now, (key, bytes, step)) in (1..).zip(steps) {
                let known = model.iter().position(|(other, _)| *other == key);
                match step {
                    0 => {
                        recency.insert(key, bytes, now);
                        known.map(|at| model.remove(at));
                        model.push((key, bytes));
                    }
                    1 => {
                        prop_assert_eq!(recency.touch(key, now), known.is_some());
                        if let Some(at) = known {
                            let entry = model.remove(at);
                            model.push(entry);
                        }
                    }
                    _ => {
                        let removed = known.map(|at| model.remove(at).1);
                        prop_assert_eq!(recency.remove(key), removed);
                    }
                }
                let keys: Vec<u8> = model.iter().map(|(key, _)| *key).collect();
                prop_assert_eq!(recency.eldest_first().collect::<Vec<_>>(), keys);
                prop_assert_eq!(recency.bytes(), model.iter().map(|(_, bytes)| bytes).sum::<u64>());
                prop_assert_eq!(recency.len(), model.len());
            }
        }
    }
}
