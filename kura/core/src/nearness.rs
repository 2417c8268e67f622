//! Which of several peers that hold the same is asked for it: the nearest, unless it turns out to be busy.
//!
//! Who is further away leaves what a nearer peer was heard to hold to that one, for [`LEAVES_FOR`] at a time. One that
//! did not deliver in that time is busy, whatever the cause, and nothing is left to it for [`RESTS_FOR`]: then all are
//! asked, and each delivers as much as it can. Where the ceiling of this node is what holds bodies up, nobody else would
//! deliver any sooner, and nobody is late. Else a nearer one costs those five seconds in each half minute at the worst.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    bandwidth::{LANES, Used},
    feed::FeedRow,
    offers::Offers,
};

/// How long a body is left to a nearer peer before it is looked at what holds it up. Shorter: one that is busy for a moment
/// is not left anything, and bodies come over the longer way. Longer: one that hangs holds up what others could deliver.
pub const LEAVES_FOR: Duration = Duration::from_secs(5);
/// For how long nothing is left to a peer that did not deliver in time.
pub const RESTS_FOR: Duration = Duration::from_secs(30);

/// Whether the ceiling of this node is what holds bodies up, where so much of it was `used` in [`LEAVES_FOR`]: bodies had three
/// quarters of what clients left of it, or more. Whoever else was asked, hardly any more would come. A lower share: far ones
/// deliver nothing where they could. A higher one: a ceiling that the nearer one has as well makes it late.
#[must_use]
pub fn is_held_up_here(used: Used) -> bool {
    // What clients cannot take is there for bodies in any case.
    let lane = LEAVES_FOR / LANES;
    let left = LEAVES_FOR.saturating_sub(used.by_clients).max(lane);
    used.by_peers >= left * 3 / 4
}

/// How many times as far another one must be to be further away. A first request takes two round trips, one over a connection
/// that is kept takes one, and neither is measured alone on the way.
const TIMES: u32 = 4;
/// What of a round trip says nothing: how long a busy process takes to answer.
const SLACK: Duration = Duration::from_millis(5);

/// How far away a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Distance {
    /// Whether it is in another region.
    pub is_elsewhere: bool,
    /// How long it took to say hello.
    pub took: Duration,
}

impl Distance {
    /// Whether what both hold is rather asked of this one than of `other`.
    #[must_use]
    pub fn is_nearer_than(self, other: Self) -> bool {
        if self.is_elsewhere != other.is_elsewhere {
            return other.is_elsewhere;
        }
        other.took > self.took.saturating_mul(TIMES).saturating_add(SLACK)
    }
}

/// The peers as sources of bodies, by their numbers. All times count from one moment.
#[derive(Debug)]
pub struct Nearness {
    peers: BTreeMap<usize, Peer>,
    /// Who did not say hello yet: they may be further away than all others.
    unmet: BTreeSet<usize>,
    /// What is still to be fetched from those that are nearer than others, or may be.
    offers: Offers,
}

#[derive(Clone, Copy, Debug)]
struct Peer {
    distance: Distance,
    /// Nothing is left to it before this.
    rests_until: Duration,
}

impl Nearness {
    /// Of so many peers, of which none was met.
    #[must_use]
    pub fn new(peers: usize) -> Self {
        Self { peers: BTreeMap::new(), unmet: (0..peers).collect(), offers: Offers::default() }
    }

    /// A peer turned out to be this node.
    pub fn is_myself(&mut self, peer: usize) {
        self.unmet.remove(&peer);
        self.peers.remove(&peer);
    }

    /// A peer said hello, and is that far away. One that rests goes on to.
    pub fn met(&mut self, peer: usize, distance: Distance) {
        let rests_until = self.peers.get(&peer).map_or(Duration::ZERO, |it| it.rests_until);
        self.peers.insert(peer, Peer { distance, rests_until });
        self.unmet.remove(&peer);
    }

    /// These are to be fetched from `peer`. Nothing is remembered while all are as far as each other, once all have said
    /// hello, and no more than [`Offers`] holds: what is not remembered is fetched by whoever comes first.
    pub fn put<'a>(&mut self, peer: usize, rows: impl IntoIterator<Item = &'a FeedRow>) {
        let Some(Peer { distance, .. }) = self.peers.get(&peer).copied() else { return };
        let is_further = |other: &Peer| distance.is_nearer_than(other.distance);
        if self.unmet.is_empty() && !self.peers.values().any(is_further) {
            return;
        }
        for row in rows {
            self.offers.put(peer, row.clone());
        }
    }

    /// These were fetched from `peer`, or could not be. Whether that may be news to who leaves something to it.
    pub fn take(&mut self, peer: usize, rows: &[FeedRow]) -> bool {
        let is_news = !self.offers.is_empty();
        rows.iter().for_each(|row| self.offers.take(peer, row));
        is_news
    }

    /// Nothing is fetched from `peer` any more.
    pub fn forget(&mut self, peer: usize) {
        self.offers.forget(peer);
    }

    /// A nearer peer than `peer` that holds `row`, or a later version, and is not known to be busy: it is left to that one.
    #[must_use]
    pub fn nearer(&self, peer: usize, row: &FeedRow, now: Duration) -> Option<usize> {
        let own = self.peers.get(&peer)?.distance;
        let is_nearer = |other: usize| {
            let other = self.peers.get(&other);
            other.is_some_and(|it| it.distance.is_nearer_than(own) && it.rests_until <= now)
        };
        let (nearer, offered) = self.offers.find(&row.address, is_nearer)?;
        (offered.version >= row.version).then_some(nearer)
    }

    /// Whoever is nearer than `peer` and holds `row` did not deliver it in time: nothing is left to them for
    /// [`RESTS_FOR`].
    pub fn was_late(&mut self, peer: usize, row: &FeedRow, now: Duration) {
        while let Some(nearer) = self.nearer(peer, row, now) {
            if let Some(late) = self.peers.get_mut(&nearer) {
                late.rests_until = now + RESTS_FOR;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::offers::tests::row;

    fn at(is_elsewhere: bool, millis: u64) -> Distance {
        Distance { is_elsewhere, took: Duration::from_millis(millis) }
    }

    #[test]
    fn the_region_counts_first_and_then_the_way() {
        for (one, other, is_nearer) in [
            (at(false, 0), at(false, 0), false),
            (at(false, 0), at(false, 5), false),
            (at(false, 0), at(false, 6), true),
            (at(false, 10), at(false, 20), false),
            (at(false, 10), at(false, 45), false),
            (at(false, 10), at(false, 46), true),
            (at(false, 500), at(true, 1), true),
            (at(true, 1), at(false, 500), false),
            (at(true, 1), at(true, 40), true),
        ] {
            assert_eq!(one.is_nearer_than(other), is_nearer, "{one:?} {other:?}");
        }
    }

    const NOW: Duration = Duration::from_secs(100);

    /// Two beside this node and one far away, all met.
    fn met() -> Nearness {
        let mut nearness = Nearness::new(3);
        for (peer, distance) in [(0, at(false, 1)), (1, at(false, 1)), (2, at(true, 40))] {
            nearness.met(peer, distance);
        }
        nearness
    }

    #[test]
    fn a_ceiling_holds_up_where_bodies_use_what_clients_leave_of_it() {
        for (by_peers, by_clients, is_held_up) in [
            (0, 0, false),
            (3749, 0, false),
            (3750, 0, true),
            (6000, 0, true),
            // Clients alone hold nothing up.
            (0, 3750, false),
            (0, 4600, false),
            (1, 4600, false),
            (937, 3750, false),
            (938, 3750, true),
            (938, 4600, true),
            (1874, 2500, false),
            (1875, 2500, true),
        ] {
            let millis = Duration::from_millis;
            let used = Used { by_peers: millis(by_peers), by_clients: millis(by_clients) };
            assert_eq!(is_held_up_here(used), is_held_up, "{used:?}");
        }
    }

    #[test]
    fn what_a_nearer_one_holds_is_left_to_it_until_it_is_done_with_it() {
        let mut nearness = met();
        let rows = [row(1, 5), row(2, 5)];
        nearness.put(0, &rows);
        for (peer, row, left_to) in [
            (2, row(1, 5), Some(0)),
            (2, row(1, 4), Some(0)),
            (2, row(1, 6), None),
            (2, row(3, 1), None),
            (1, row(1, 5), None),
            (0, row(1, 5), None),
        ] {
            assert_eq!(nearness.nearer(peer, &row, NOW), left_to, "{peer} {row:?}");
        }
        assert!(nearness.take(0, &rows[..1]));
        assert_eq!(nearness.nearer(2, &rows[0], NOW), None);
        assert_eq!(nearness.nearer(2, &rows[1], NOW), Some(0));
        nearness.forget(0);
        assert_eq!(nearness.nearer(2, &rows[1], NOW), None);
        assert!(!nearness.take(0, &rows), "nobody waits for anything");
    }

    #[test]
    fn one_that_is_late_rests_whatever_it_says_and_then_it_is_asked_again() {
        let mut nearness = met();
        let rows = [row(1, 5), row(2, 5)];
        nearness.put(0, &rows);
        nearness.put(1, &rows[..1]);
        nearness.was_late(2, &rows[0], NOW);
        for row in &rows {
            assert_eq!(nearness.nearer(2, row, NOW), None, "both were late");
        }
        nearness.met(0, at(false, 1));
        let later = NOW + RESTS_FOR;
        assert_eq!(nearness.nearer(2, &rows[0], later - Duration::from_millis(1)), None);
        assert_eq!(nearness.nearer(2, &rows[0], later), Some(0));
        nearness.was_late(2, &rows[1], later);
        assert_eq!(
            nearness.nearer(2, &rows[0], later),
            Some(1),
            "this one does not hold the other"
        );
    }

    #[test]
    fn nothing_is_remembered_that_nobody_would_leave() {
        let mut nearness = Nearness::new(3);
        nearness.put(0, &[row(1, 1)]);
        nearness.met(0, at(false, 1));
        assert!(!nearness.take(0, &[]), "it had not said hello");
        nearness.put(0, &[row(1, 1)]);
        assert!(nearness.take(0, &[row(1, 1)]), "the others may be far away");
        nearness.met(1, at(false, 2));
        nearness.is_myself(2);
        nearness.put(0, &[row(1, 1)]);
        assert!(!nearness.take(0, &[]), "all are as far as each other");
        let mut nearness = met();
        nearness.put(2, &[row(1, 1)]);
        assert!(!nearness.take(2, &[]), "none is further away");
    }

    proptest! {
        /// Nobody waits for one that waits for it, over however many others.
        #[test]
        fn it_is_an_order(
            a in (any::<bool>(), 0_u64..1000), b in (any::<bool>(), 0_u64..1000), c in (any::<bool>(), 0_u64..1000),
        ) {
            let [a, b, c] = [a, b, c].map(|(is_elsewhere, millis)| at(is_elsewhere, millis));
            prop_assert!(!a.is_nearer_than(a));
            prop_assert!(!(a.is_nearer_than(b) && b.is_nearer_than(a)));
            prop_assert!(!(a.is_nearer_than(b) && b.is_nearer_than(c)) || a.is_nearer_than(c));
        }
    }
}
