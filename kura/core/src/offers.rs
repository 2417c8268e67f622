//! What peers were heard to hold and this node does not hold yet, for reads that would be misses.
//!
//! An offer is a row that a peer told and that is still to be fetched from it. There are at most [`OFFERS_MAX`]; what
//! is offered beyond that is fetched all the same, and no read finds it before it is here.

use std::collections::BTreeMap;

use crate::{address::Address, feed::FeedRow};

/// Offers that are remembered, of all peers together: by arithmetic some 6 MB. More: a node that lacks much finds more
/// of it by reads. Fewer: less memory.
pub const OFFERS_MAX: usize = 16 * 1024;

/// The rows that are still to be fetched, by address and by the number of the peer that told them.
#[derive(Debug, Default)]
pub struct Offers {
    rows: BTreeMap<Address, BTreeMap<usize, FeedRow>>,
    count: usize,
    /// How many of each peer, where there are any.
    of_peer: BTreeMap<usize, usize>,
}

impl Offers {
    /// Peer `peer` told `row`. Whether that is remembered: not if there are [`OFFERS_MAX`] already. What the same peer
    /// told of the same address before is forgotten, whatever its version: it has the later one.
    pub fn put(&mut self, peer: usize, row: FeedRow) -> bool {
        let of_address = self.rows.get_mut(&row.address);
        if let Some(known) = of_address.and_then(|known| known.get_mut(&peer)) {
            *known = row;
            return true;
        }
        if self.count >= OFFERS_MAX {
            return false;
        }
        self.count += 1;
        *self.of_peer.entry(peer).or_default() += 1;
        self.rows.entry(row.address.clone()).or_default().insert(peer, row);
        true
    }

    /// What peer `peer` told in `row` is fetched, or cannot be had from it. What it told later of the same address
    /// stays.
    pub fn take(&mut self, peer: usize, row: &FeedRow) {
        let Some(of_address) = self.rows.get_mut(&row.address) else { return };
        if of_address.get(&peer).is_none_or(|known| known.version != row.version) {
            return;
        }
        of_address.remove(&peer);
        if of_address.is_empty() {
            self.rows.remove(&row.address);
        }
        self.count -= 1;
        if let Some(left) = self.of_peer.get_mut(&peer) {
            *left -= 1;
        }
    }

    /// Nothing of what peer `peer` told is to be fetched any more.
    pub fn forget(&mut self, peer: usize) {
        let gone = self.of_peer.remove(&peer).unwrap_or(0);
        if gone > 0 {
            self.rows.retain(|_, of_address| {
                of_address.remove(&peer);
                !of_address.is_empty()
            });
            self.count -= gone;
        }
    }

    /// The latest version of `address` that any peer told that can be asked, and who did: the lowest number of several.
    #[must_use]
    pub fn find(
        &self,
        address: &Address,
        can_be_asked: impl Fn(usize) -> bool,
    ) -> Option<(usize, &FeedRow)> {
        let of_address = self.rows.get(address)?.iter().filter(|(peer, _)| can_be_asked(**peer));
        let latest = of_address.reduce(
            |best, next| {
                if next.1.version > best.1.version { next } else { best }
            },
        );
        latest.map(|(peer, row)| (*peer, row))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{address::Space, digest::Digest, record::Version};

    pub(crate) fn row(key: usize, time: u64) -> FeedRow {
        FeedRow {
            address: Address::new("team", Space::Plain, format!("key-{key}")).unwrap(),
            version: Version { time, node: 1 },
            body_bytes: 1,
            digest: Digest::of(b"x"),
        }
    }

    #[test]
    fn the_latest_version_is_found_and_gone_when_its_peer_is_done() {
        let mut offers = Offers::default();
        let address = row(1, 0).address;
        assert!(offers.find(&address, |_| true).is_none());
        for (peer, time) in [(2, 5), (0, 7), (1, 7)] {
            assert!(offers.put(peer, row(1, time)));
        }
        let found = |offers: &Offers| {
            offers.find(&address, |_| true).map(|(peer, row)| (peer, row.version.time))
        };
        assert_eq!(
            found(&offers),
            Some((0, 7)),
            "the lowest number of those with the latest version"
        );
        let other = offers.find(&address, |peer| peer != 0).map(|(peer, _)| peer);
        assert_eq!(other, Some(1), "of those that can be asked");
        offers.take(0, &row(1, 5));
        assert_eq!(found(&offers), Some((0, 7)), "it told a later one");
        offers.take(0, &row(1, 7));
        assert_eq!(found(&offers), Some((1, 7)));
        offers.forget(1);
        assert_eq!(found(&offers), Some((2, 5)));
        assert!(offers.put(2, row(1, 9)), "the same peer again");
        assert_eq!((found(&offers), offers.len()), (Some((2, 9)), 1));
        offers.take(2, &row(1, 9));
        offers.take(2, &row(1, 9));
        assert!(found(&offers).is_none() && offers.is_empty());
    }

    #[test]
    fn there_are_no_more_than_the_bound() {
        let mut offers = Offers::default();
        for key in 0..OFFERS_MAX {
            assert!(offers.put(0, row(key, 1)));
        }
        assert!(!offers.put(0, row(OFFERS_MAX, 1)));
        assert!(offers.put(0, row(3, 2)), "of what is known the newer is");
        assert_eq!(offers.len(), OFFERS_MAX);
        offers.take(0, &row(5, 1));
        assert!(offers.put(1, row(OFFERS_MAX, 1)), "there is room again");
        offers.forget(0);
        assert_eq!(offers.len(), 1);
    }

    proptest! {
        /// As many as a plain list of what was put and not taken.
        #[test]
        fn it_counts_what_is_in_it(
            steps in proptest::collection::vec((0_usize..3, 0_usize..4, 0_usize..5), 0..200),
        ) {
            let (mut offers, mut model) = (Offers::default(), std::collections::BTreeSet::new());
            for (what, peer, key) in steps {
                match what {
                    0 => {
                        offers.put(peer, row(key, 1));
                        model.insert((peer, key));
                    }
                    1 => {
                        offers.take(peer, &row(key, 1));
                        model.remove(&(peer, key));
                    }
                    _ => {
                        offers.forget(peer);
                        model.retain(|(of, _)| *of != peer);
                    }
                }
                prop_assert_eq!(offers.len(), model.len());
                for key in 0..5 {
                    let found = offers.find(&row(key, 1).address, |_| true).map(|(peer, _)| peer);
                    let first = model.iter().filter(|(_, of)| *of == key).map(|(peer, _)| *peer).min();
                    prop_assert_eq!(found, first);
                }
            }
        }
    }
}
