//! What nearer peers were heard to hold and are still asked for: it is left to them for a moment by those that are
//! further away. Nothing is remembered while all are as far as each other, once all have said hello.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::Arc,
};

use kura_core::{
    feed::FeedRow,
    nearness::{Distance, LEAVES_FOR, RESTS_FOR},
    offers::Offers,
};
use kura_env::{Clock, Instant, timeout};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::metrics::Metrics;

/// The peers as sources of bodies, by their numbers.
pub(crate) struct Sources {
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
    /// Something was delivered, or will not be.
    resolved: Notify,
}

#[derive(Default)]
struct State {
    peers: BTreeMap<usize, Peer>,
    /// Who did not say hello yet: they may be further away than all others.
    unmet: BTreeSet<usize>,
    /// Of those that are nearer than others, or may be.
    offers: Offers,
}

#[derive(Clone, Copy)]
struct Peer {
    distance: Distance,
    /// Nothing is left to it before this.
    rests_until: Instant,
}

impl Sources {
    /// So many peers.
    pub(crate) fn new(clock: Arc<dyn Clock>, metrics: Arc<Metrics>, peers: usize) -> Self {
        let state = Mutex::new(State { unmet: (0..peers).collect(), ..State::default() });
        Self { clock, metrics, state, resolved: Notify::new() }
    }

    /// A peer turned out to be this node.
    pub(crate) fn is_myself(&self, peer: usize) {
        let mut state = self.state.lock();
        state.unmet.remove(&peer);
        state.peers.remove(&peer);
    }

    /// A peer said hello, and is that far away.
    pub(crate) fn met(&self, peer: usize, distance: Distance) {
        let mut state = self.state.lock();
        let rests_until = state.peers.get(&peer).map_or(Instant::default(), |it| it.rests_until);
        state.peers.insert(peer, Peer { distance, rests_until });
        state.unmet.remove(&peer);
    }

    /// These are to be fetched from `peer`.
    pub(crate) fn put<'a>(&self, peer: usize, rows: impl IntoIterator<Item = &'a FeedRow>) {
        let mut state = self.state.lock();
        let State { peers, unmet, offers } = &mut *state;
        let Some(Peer { distance, .. }) = peers.get(&peer).copied() else { return };
        let is_further = |other: &Peer| distance.is_nearer_than(other.distance);
        if unmet.is_empty() && !peers.values().any(is_further) {
            return;
        }
        for row in rows {
            // What is not remembered is fetched by whoever comes first.
            offers.put(peer, row.clone());
        }
    }

    /// These were fetched from `peer`, or could not be.
    pub(crate) fn take(&self, peer: usize, rows: &[FeedRow]) {
        let mut state = self.state.lock();
        if state.offers.is_empty() {
            return;
        }
        rows.iter().for_each(|row| state.offers.take(peer, row));
        drop(state);
        self.resolved.notify_waiters();
    }

    /// Nothing is fetched from `peer` any more.
    pub(crate) fn forget(&self, peer: usize) {
        self.state.lock().offers.forget(peer);
        self.resolved.notify_waiters();
    }

    /// Leaves `rows`, which `peer` holds, to those that are nearer and hold them as well: waits until they were
    /// fetched from there or could not be, or that took too long.
    pub(crate) async fn leave(&self, peer: usize, rows: &[FeedRow]) {
        let left = rows.iter().filter(|row| self.nearer(peer, row).is_some()).count();
        if left == 0 {
            return;
        }
        self.metrics.replication.left_to_nearer.inc_by(left as u64);
        let all_resolved = async {
            for row in rows {
                self.resolved(peer, row).await;
            }
        };
        if timeout(&*self.clock, LEAVES_FOR, all_resolved).await.is_ok() {
            return;
        }
        self.metrics.replication.nearer_late.inc();
        for row in rows {
            self.was_late(peer, row);
        }
        self.resolved.notify_waiters();
    }

    async fn resolved(&self, peer: usize, row: &FeedRow) {
        loop {
            let mut resolved = pin!(self.resolved.notified());
            // Enabled before the look, so that nothing is missed between the two.
            resolved.as_mut().enable();
            if self.nearer(peer, row).is_none() {
                return;
            }
            resolved.await;
        }
    }

    /// A nearer peer than `peer` that holds `row`, or a later version, and is not known to be busy.
    fn nearer(&self, peer: usize, row: &FeedRow) -> Option<usize> {
        let now = self.clock.now();
        let state = self.state.lock();
        let State { peers, offers, .. } = &*state;
        let own = peers.get(&peer)?.distance;
        let is_nearer = |other: usize| {
            let other = peers.get(&other);
            other.is_some_and(|it| it.distance.is_nearer_than(own) && it.rests_until <= now)
        };
        let (nearer, offered) = offers.find(&row.address, is_nearer)?;
        (offered.version >= row.version).then_some(nearer)
    }

    /// Whoever is nearer than `peer` and holds `row` did not deliver it in time.
    fn was_late(&self, peer: usize, row: &FeedRow) {
        while let Some(nearer) = self.nearer(peer, row) {
            let rests_until = self.clock.now() + RESTS_FOR;
            if let Some(late) = self.state.lock().peers.get_mut(&nearer) {
                late.rests_until = rests_until;
            }
        }
    }
}
