//! What nearer peers were heard to hold and are still asked for: it is left to them for a moment by those that are
//! further away. Who decides is [`Nearness`].

use std::{pin::pin, sync::Arc, time::Duration};

use kura_core::{
    feed::FeedRow,
    nearness::{Distance, LEAVES_FOR, Nearness, is_held_up_here},
};
use kura_env::{Clock, Instant, timeout};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::ceiling::Ceilings;
use crate::metrics::Metrics;

/// The peers as sources of bodies, by their numbers.
pub(crate) struct Sources {
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    ceilings: Arc<Ceilings>,
    state: Mutex<Nearness>,
    /// Something was delivered, or will not be.
    resolved: Notify,
}

impl Sources {
    /// So many peers.
    pub(crate) fn new(
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        ceilings: Arc<Ceilings>,
        peers: usize,
    ) -> Self {
        let state = Mutex::new(Nearness::new(peers));
        Self { clock, metrics, ceilings, state, resolved: Notify::new() }
    }

    fn now(&self) -> Duration {
        self.clock.now().since(Instant::default())
    }

    /// A peer turned out to be this node.
    pub(crate) fn is_myself(&self, peer: usize) {
        self.state.lock().is_myself(peer);
        self.resolved.notify_waiters();
    }

    /// A peer said hello, and is that far away.
    pub(crate) fn met(&self, peer: usize, distance: Distance) {
        self.state.lock().met(peer, distance);
        self.resolved.notify_waiters();
    }

    /// These are to be fetched from `peer`.
    pub(crate) fn put<'a>(&self, peer: usize, rows: impl IntoIterator<Item = &'a FeedRow>) {
        self.state.lock().put(peer, rows);
    }

    /// These were fetched from `peer`, or could not be.
    pub(crate) fn take(&self, peer: usize, rows: &[FeedRow]) {
        if self.state.lock().take(peer, rows) {
            self.resolved.notify_waiters();
        }
    }

    /// Nothing is fetched from `peer` any more.
    pub(crate) fn forget(&self, peer: usize) {
        self.state.lock().forget(peer);
        self.resolved.notify_waiters();
    }

    /// Leaves `rows`, which `peer` holds, to those that are nearer and hold them as well: waits until they were
    /// fetched from there or could not be, or that took too long and our own ceiling is not what holds them up, or holds up
    /// others of `rows` that nobody nearer has.
    pub(crate) async fn leave(&self, peer: usize, rows: &[FeedRow]) {
        let left = rows.iter().filter(|row| self.is_left(peer, row)).count();
        if left == 0 {
            return;
        }
        let metrics = &self.metrics.replication;
        metrics.left_to_nearer.inc_by(left as u64);
        let mut all_resolved = pin!(async {
            for row in rows {
                self.resolved(peer, row).await;
            }
        });
        loop {
            let before = self.ceilings.fetching.used();
            if timeout(&*self.clock, LEAVES_FOR, &mut all_resolved).await.is_ok() {
                return;
            }
            if !is_held_up_here(self.ceilings.fetching.used().since(before)) {
                break;
            }
            // What nobody else holds does not wait for the rest any longer.
            if left < rows.len() {
                return;
            }
        }
        metrics.nearer_late.inc();
        let (now, mut state) = (self.now(), self.state.lock());
        rows.iter().for_each(|row| state.was_late(peer, row, now));
        drop(state);
        self.resolved.notify_waiters();
    }

    async fn resolved(&self, peer: usize, row: &FeedRow) {
        loop {
            let mut resolved = pin!(self.resolved.notified());
            // Enabled before the look, so that nothing is missed between the two.
            resolved.as_mut().enable();
            if !self.is_left(peer, row) {
                return;
            }
            resolved.await;
        }
    }

    /// Whether `row`, which `peer` holds, is left to a nearer one now.
    pub(crate) fn is_left(&self, peer: usize, row: &FeedRow) -> bool {
        self.nearer(peer, row).is_some()
    }

    fn nearer(&self, peer: usize, row: &FeedRow) -> Option<usize> {
        self.state.lock().nearer(peer, row, self.now())
    }
}
