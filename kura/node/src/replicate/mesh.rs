//! What is known of the peers: for readiness, for people, and to see when to compare again.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kura_core::{
    feed::{Cursor, FeedRow},
    limits::PeerLimits,
    readiness::{self, Own, Rules, Standing},
    reconcile::{self, Other},
};
use kura_env::{Clock, Instant};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{
    aside::Aside,
    audience::Audience,
    ceiling::Ceilings,
    compare::Learned,
    error::{PeerError, Trouble},
    fetch::Fetched,
    peer::Peer,
    primary::Primacy,
    wire::Hello,
};
use crate::{config::PeerConfig, metrics::Metrics, service::Service, store::Store};

/// How often readiness is looked at while nothing happens: standing still is measured by it.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// All peers, by the names they were configured with.
pub(crate) struct Mesh {
    clock: Arc<dyn Clock>,
    config: PeerConfig,
    metrics: Arc<Metrics>,
    peers: Mutex<Peers>,
    changed: Notify,
    /// For bodies, in both directions.
    pub(crate) ceilings: Arc<Ceilings>,
    /// Which node of the region is primary.
    pub(crate) primacy: Arc<Primacy>,
    /// Who reads the feed of this node.
    pub(crate) audience: Audience,
}

struct Peers {
    by_name: BTreeMap<String, Peer>,
    /// When something last moved in a pass that readiness waits for, our own store was in the way, or a peer
    /// was still reading its data back.
    moved: Instant,
    /// The same of whole bodies.
    came: Instant,
}

impl Mesh {
    pub(crate) fn new(
        clock: Arc<dyn Clock>,
        config: PeerConfig,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let by_name = config.peers.iter().map(|name| (name.clone(), Peer::default())).collect();
        let peers = Mutex::new(Peers { by_name, moved: clock.now(), came: clock.now() });
        let rate = config.bandwidth_bytes_per_second;
        let ceilings = Ceilings::new(&clock, &metrics, rate);
        let limit = &metrics.replication.bandwidth_configured_limit_bytes_per_second;
        limit.set(i64::try_from(rate).unwrap_or(i64::MAX));
        let changed = Notify::new();
        let of = (config.region.clone(), config.peers.as_slice());
        let primacy = Primacy::new(clock.clone(), config.primary, of, metrics.clone());
        let audience = Audience::new(clock.clone());
        Arc::new(Self { clock, config, metrics, peers, changed, ceilings, primacy, audience })
    }

    /// Peers are asked from now on.
    pub(crate) fn begin(&self) {
        let mut peers = self.peers.lock();
        (peers.moved, peers.came) = (self.clock.now(), self.clock.now());
    }

    pub(crate) fn region(&self) -> &str {
        &self.config.region
    }

    /// How long a read waits for a peer that was heard to hold what is not here; zero: it does not.
    pub(crate) fn read_through(&self) -> Duration {
        self.config.read_through
    }

    /// Whether the peer is known to be in the region of this node.
    pub(crate) fn is_near(&self, name: &str) -> bool {
        let peers = self.peers.lock();
        peers.by_name.get(name).is_some_and(|peer| peer.is_in(&self.config.region))
    }

    /// What this node takes from a peer in one request, and tells in one answer.
    pub(crate) fn limits(&self) -> PeerLimits {
        self.config.limits
    }

    /// After how long a pass is cut.
    pub(crate) fn pass_timeout(&self) -> Duration {
        self.config.pass_timeout
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.peers.lock().by_name.keys().cloned().collect()
    }

    fn rules(&self) -> Rules {
        Rules { peer_wait: self.config.peer_wait }
    }

    /// The peer turned out to be this node.
    pub(crate) fn is_myself(&self, name: &str) {
        self.change(name, |peer, _| *peer = Peer::myself());
    }

    /// The peer said how it is.
    pub(crate) fn met(&self, name: &str, hello: Hello) {
        self.change(name, |peer, now| peer.meet(hello, now));
    }

    /// A talk with the peer that began at `began` went wrong. How soon it should be asked again at
    /// the latest.
    pub(crate) fn failed(
        &self,
        name: &str,
        error: &PeerError,
        trouble: Trouble,
        began: Instant,
    ) -> Option<Duration> {
        self.change(name, |peer, now| peer.fail(error.line(), trouble, (began, now)));
        let mut peers = self.peers.lock();
        let is_recovering = peers.by_name.get(name).is_some_and(|peer| peer.is_recovering);
        if trouble == Trouble::OurStore || is_recovering {
            // A pass has not had its time while our own store is in the way, or the peer says that it reads its data back.
            // One that says that it serves, and is too busy each time, has had it.
            (peers.moved, peers.came) = (self.clock.now(), self.clock.now());
        }
        let lasting = peers.by_name.get(name)?.silent_for()?;
        self.rules().ask_within(lasting)
    }

    /// A pass over the peer begins, or goes on.
    pub(crate) fn pass_begins(&self, name: &str) {
        self.change(name, |peer, now| peer.begin_pass(name, now));
    }

    /// The peer told of some ranges.
    pub(crate) fn learned(&self, name: &str, learned: &Learned) {
        self.change(name, |peer, now| peer.learned(name, learned, now));
        self.moved(name);
    }

    /// The peer was asked for bodies.
    pub(crate) fn resolved(&self, name: &str, fetched: &Fetched) {
        self.change(name, |peer, now| peer.resolved(name, fetched, now));
        if fetched.delivered > 0 {
            self.note(name, |peers, now| (peers.moved, peers.came) = (now, now));
        } else if fetched.applied + fetched.missing > 0 {
            self.moved(name);
        }
    }

    /// Something came from the peer. Without a whole body among it that moves a pass for as long as one may take: by words
    /// and pieces alone it could go on for ever.
    pub(crate) fn moved(&self, name: &str) {
        let limit = self.config.pass_timeout;
        self.note(name, |peers, now| {
            if now.since(peers.came) < limit {
                peers.moved = now;
            }
        });
    }

    /// Notes what a pass over a peer brought.
    fn note(&self, name: &str, what: impl FnOnce(&mut Peers, Instant)) {
        let now = self.clock.now();
        let mut peers = self.peers.lock();
        // What comes of a feed says nothing of the passes that are waited for.
        if peers.by_name.get(name).is_some_and(|peer| peer.passes == 0) {
            what(&mut peers, now);
        }
    }

    /// The pass that began at `began` is complete.
    pub(crate) fn pass_ends(&self, name: &str, began: Instant) {
        self.change(name, |peer, now| peer.end_pass(name, began, now));
    }

    /// Where the peer's feed is read next, and where it ends.
    pub(crate) fn follows(&self, name: &str, next: Cursor, head: u64) {
        self.primacy.reached(name, next);
        self.change(name, |peer, _| peer.follow(next.sequence, head));
    }

    /// What of the peer is set aside now.
    pub(crate) fn set_aside(&self, name: &str, aside: &Aside) {
        self.change(name, |peer, _| {
            peer.set_aside = aside.names();
            peer.set_aside_total = aside.len();
            peer.set_aside_latest = aside.latest();
        });
    }

    /// A version of the peer is too far ahead of the clock here.
    pub(crate) fn is_ahead(&self, name: &str, row: &FeedRow) {
        let wall = self.clock.wall();
        self.change(name, |peer, now| peer.is_ahead((name, row), now, wall));
    }

    /// Whether all that a peer holds is to be compared with again; `forgot` as in
    /// [`reconcile::is_due`].
    pub(crate) fn is_pass_due(&self, name: &str, forgot: bool) -> bool {
        let now = self.clock.now();
        let peers = self.peers.lock();
        let Some(began) = peers.by_name.get(name).and_then(|peer| peer.passed_at) else {
            return false;
        };
        let others = peers.by_name.iter().filter(|(other, _)| *other != name);
        let others: Vec<Other> = others.map(|(_, peer)| peer.as_other(now)).collect();
        reconcile::is_due(now.since(began), forgot, &others, self.config.peer_wait)
    }

    /// All peers, as JSON.
    pub(crate) fn status(&self) -> serde_json::Value {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        let peers = self.peers.lock();
        let still = now.since(peers.moved);
        let peers = peers.by_name.iter();
        let peers: Vec<_> =
            peers.map(|(name, peer)| peer.status(name, (now, wall), still)).collect();
        let audience = self.audience.status();
        serde_json::json!({ "region": self.config.region, "peers": peers, "audience": audience })
    }

    /// Waits for at most `limit` until the nodes that read the feed have dealt with everything below `head`.
    pub(crate) async fn is_read_to(&self, head: u64, limit: Duration) {
        let of = (self.config.region.as_str(), limit);
        let is_gone = |node| self.primacy.is_gone(node);
        self.audience.reads_to(head, of, is_gone, &self.metrics.replication).await;
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Peer, Instant)) {
        let now = self.clock.now();
        let mut peers = self.peers.lock();
        if let Some(peer) = peers.by_name.get_mut(name) {
            change(peer, now);
        }
        self.gauge(&peers);
        drop(peers);
        self.changed.notify_waiters();
    }

    fn gauge(&self, peers: &Peers) {
        let peers = || peers.by_name.values();
        let metrics = &self.metrics.replication;
        let level = |sum: u64| i64::try_from(sum).unwrap_or(i64::MAX);
        metrics.lag.set(level(peers().filter_map(Peer::lag).sum()));
        metrics.passes_under_way.set(level(peers().map(|peer| u64::from(peer.is_passing())).sum()));
        metrics.set_aside_now.set(level(peers().map(|peer| peer.set_aside_total as u64).sum()));
    }

    fn standings(&self) -> Vec<(String, Standing)> {
        let now = self.clock.now();
        let peers = self.peers.lock();
        let still = now.since(peers.moved);
        let peers = peers.by_name.iter();
        peers.map(|(name, peer)| (name.clone(), peer.standing(still))).collect()
    }
}

/// Tells `service` how far the node has caught up, until it has.
pub(crate) async fn watch(mesh: Arc<Mesh>, store: Store, service: Service) {
    // Asked once: what comes in from now on came from a peer that answers.
    let mut own = holds(&store).await;
    let metrics = &mesh.metrics.replication;
    loop {
        // Made first: what changes from here on is seen, also while it is decided.
        let changed = mesh.changed.notified();
        let verdict = readiness::decide(&mesh.standings(), own, mesh.rules());
        metrics.peers_given_up.set(i64::try_from(verdict.given_up).unwrap_or(i64::MAX));
        metrics.isolated.set(i64::from(verdict.isolated));
        if verdict.synced {
            tracing::info!(notes = ?verdict.reasons, "caught up with the peers");
            service.synced(verdict.reasons);
            return;
        }
        service.joining(verdict.reasons);
        // Time that runs out is a reason to look as well.
        kura_env::timeout(&*mesh.clock, LOOK_INTERVAL, changed).await.ok();
        if own == Own::Unknown {
            own = holds(&store).await;
        }
    }
}

/// What this node holds.
async fn holds(store: &Store) -> Own {
    match store.is_empty().await {
        Ok(true) => Own::Empty,
        Ok(false) => Own::Data,
        Err(refusal) => {
            tracing::warn!(%refusal, "it cannot be told whether anything is here");
            Own::Unknown
        }
    }
}
