//! Artifacts that a peer could not deliver in several tries. They hold up nothing, and are tried
//! again from time to time for as long as they are wanted.

use std::collections::{BTreeMap, VecDeque};

use kura_core::{
    feed::FeedRow,
    tries::{ASIDE_MAX, ASIDE_PAUSE},
};
use kura_env::Instant;

/// Names that are told; the others are counted.
const NAMES_MAX: usize = 10;

/// What was set aside, of one peer.
pub(crate) struct Aside {
    /// [`ASIDE_MAX`] at the most.
    rows: VecDeque<FeedRow>,
    /// When the first of them are tried again.
    due: Option<Instant>,
    /// Whether there were more than are remembered.
    forgot: bool,
}

impl Aside {
    pub(crate) fn new() -> Self {
        Self { rows: VecDeque::new(), due: None, forgot: false }
    }

    /// Sets a row aside. What it was wanted for before, in another version, is forgotten.
    pub(crate) fn put(&mut self, row: FeedRow, now: Instant) {
        self.rows.retain(|it| it.address != row.address);
        self.due.get_or_insert(now + ASIDE_PAUSE);
        if self.rows.len() < ASIDE_MAX {
            self.rows.push_back(row);
        } else {
            self.forgot = true;
        }
    }

    /// Those of `rows` that are not among them.
    pub(crate) fn others(&self, mut rows: VecDeque<FeedRow>) -> VecDeque<FeedRow> {
        if !self.rows.is_empty() {
            let aside: BTreeMap<_, _> = self.rows.iter().map(|row| (&row.address, row)).collect();
            rows.retain(|row| aside.get(&row.address).is_none_or(|aside| *aside != row));
        }
        rows
    }

    /// Everything, if it is time to try it again.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<VecDeque<FeedRow>> {
        if self.rows.is_empty() || self.due.is_none_or(|due| now < due) {
            return None;
        }
        self.due = None;
        Some(std::mem::take(&mut self.rows))
    }

    /// Everything that is remembered is about to be found again.
    pub(crate) fn clear(&mut self) {
        *self = Self::new();
    }

    /// Whether there is more than is remembered.
    pub(crate) fn forgot(&self) -> bool {
        self.forgot
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The latest hybrid logical time among them.
    pub(crate) fn latest(&self) -> u64 {
        self.rows.iter().map(|row| row.version.time).max().unwrap_or(0)
    }

    /// Some of their names.
    pub(crate) fn names(&self) -> Vec<String> {
        let name = |row: &FeedRow| format!("{}/{}", row.address.namespace(), row.address.key());
        self.rows.iter().take(NAMES_MAX).map(name).collect()
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

    fn row(key: usize, time: u64) -> FeedRow {
        FeedRow {
            address: Address::new("team", Space::Plain, key.to_string()).unwrap(),
            version: Version { time, node: 1 },
            body_bytes: 1,
            digest: Digest::of(b""),
        }
    }

    #[test]
    fn what_was_set_aside_is_tried_again_after_a_pause() {
        let (mut aside, now) = (Aside::new(), Instant::default());
        assert!(aside.take_due(now + ASIDE_PAUSE).is_none(), "nothing is there");
        aside.put(row(1, 1), now);
        aside.put(row(2, 1), now);
        aside.put(row(1, 2), now);
        assert_eq!((aside.len(), aside.names().len()), (2, 2), "one version of each");
        assert!(aside.take_due(now).is_none());
        let taken = aside.take_due(now + ASIDE_PAUSE).unwrap();
        assert_eq!(taken.len(), 2);
        assert_eq!(aside.len(), 0);
        aside.put(row(2, 1), now + ASIDE_PAUSE);
        assert!(aside.take_due(now + ASIDE_PAUSE).is_none(), "it rests again");
    }

    #[test]
    fn no_more_than_a_bound_is_remembered_and_the_rest_is_noticed() {
        let (mut aside, now) = (Aside::new(), Instant::default());
        for key in 0..ASIDE_MAX {
            aside.put(row(key, 1), now);
        }
        assert!(!aside.forgot());
        aside.put(row(ASIDE_MAX, 1), now);
        assert_eq!((aside.len(), aside.forgot()), (ASIDE_MAX, true));
        aside.clear();
        assert_eq!((aside.len(), aside.forgot()), (0, false));
    }
}
