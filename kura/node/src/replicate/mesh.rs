//! What is known of the peers: for readiness, for people, and for nothing else.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kura_core::{
    feed::FeedRow,
    readiness::{self, Rules, Standing},
};
use kura_env::{Clock, Instant};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{error::PeerError, wire::Hello};
use crate::{config::PeerConfig, service::Service, store::Store};

/// How often readiness is looked at while nothing happens: silence is measured by it.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Artifacts set aside that are named for each peer; the others are counted.
const NAMES_MAX: usize = 10;

/// All peers, by the names they were configured with.
pub(crate) struct Mesh {
    clock: Arc<dyn Clock>,
    config: PeerConfig,
    peers: Mutex<BTreeMap<String, Peer>>,
    changed: Notify,
}

/// One peer as this node knows it.
struct Peer {
    is_myself: bool,
    is_recovering: bool,
    /// When it last answered; when this node began to ask, if it never did.
    heard: Instant,
    has_answered: bool,
    hello: Option<Hello>,
    error: Option<String>,
    /// Passes that were completed.
    passes: u64,
    pass: Option<Progress>,
    /// Where its feed is read next, and where that feed ends.
    position: Option<(u64, u64)>,
    set_aside: Vec<String>,
    set_aside_total: u64,
}

/// How far a pass has come.
#[derive(Clone, Copy)]
struct Progress {
    began: Instant,
    listed: u64,
    wanted: u64,
    done: u64,
    bytes: u64,
}

impl Mesh {
    pub(crate) fn new(clock: Arc<dyn Clock>, config: PeerConfig) -> Arc<Self> {
        let now = clock.now();
        let peers = config.peers.iter().map(|name| (name.clone(), Peer::new(now))).collect();
        Arc::new(Self { clock, config, peers: Mutex::new(peers), changed: Notify::new() })
    }

    pub(crate) fn region(&self) -> &str {
        &self.config.region
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.peers.lock().keys().cloned().collect()
    }

    /// The peer turned out to be this node.
    pub(crate) fn is_myself(&self, name: &str) {
        self.change(name, |peer| peer.is_myself = true);
    }

    /// The peer answered.
    pub(crate) fn heard(&self, name: &str) {
        let now = self.clock.now();
        self.change(name, |peer| {
            peer.heard = now;
            peer.has_answered = true;
            peer.is_recovering = false;
            peer.error = None;
        });
    }

    /// The peer said who it is.
    pub(crate) fn met(&self, name: &str, hello: Hello) {
        self.heard(name);
        self.change(name, |peer| peer.hello = Some(hello));
    }

    /// Something went wrong with the peer.
    pub(crate) fn failed(&self, name: &str, error: &PeerError) {
        let now = self.clock.now();
        self.change(name, |peer| {
            // Until now it answered, if only with a body that took long: its silence begins here.
            if peer.has_answered && peer.error.is_none() {
                peer.heard = now;
            }
            peer.error = Some(error.line());
            peer.is_recovering = matches!(error, PeerError::Busy { .. });
            if peer.is_recovering {
                peer.heard = now;
            }
        });
    }

    /// A pass over the peer begins, or goes on.
    pub(crate) fn pass_begins(&self, name: &str) {
        let began = self.clock.now();
        self.change(name, |peer| {
            peer.pass.get_or_insert(Progress { began, listed: 0, wanted: 0, done: 0, bytes: 0 });
        });
    }

    /// A page was listed, and so many of its rows are wanted.
    pub(crate) fn listed(&self, name: &str, rows: u64, wanted: u64) {
        self.change(name, |peer| {
            if let Some(pass) = &mut peer.pass {
                pass.listed += rows;
                pass.wanted += wanted;
            }
        });
        self.heard(name);
    }

    /// So many artifacts were resolved, with so many bytes.
    pub(crate) fn resolved(&self, name: &str, artifacts: u64, bytes: u64) {
        self.change(name, |peer| {
            if let Some(pass) = &mut peer.pass {
                pass.done += artifacts;
                pass.bytes += bytes;
            }
        });
        self.heard(name);
    }

    /// The pass is complete. What it took, for the log.
    pub(crate) fn pass_ends(&self, name: &str) {
        let now = self.clock.now();
        self.change(name, |peer| {
            peer.passes += 1;
            if let Some(pass) = peer.pass.take() {
                let took = now.since(pass.began);
                let Progress { listed, wanted, bytes, .. } = pass;
                tracing::info!(peer = name, listed, wanted, bytes, ?took, "a pass is complete");
            }
        });
    }

    /// Where the peer's feed is read next, and where it ends.
    pub(crate) fn follows(&self, name: &str, next: u64, head: u64) {
        self.change(name, |peer| peer.position = Some((next, head)));
        self.heard(name);
    }

    /// An artifact is not tried any more.
    pub(crate) fn set_aside(&self, name: &str, row: &FeedRow) {
        self.change(name, |peer| {
            peer.set_aside_total += 1;
            if peer.set_aside.len() < NAMES_MAX {
                let (namespace, key) = (row.address.namespace(), row.address.key());
                peer.set_aside.push(format!("{namespace}/{key}"));
            }
        });
    }

    /// All peers, as JSON.
    pub(crate) fn status(&self) -> serde_json::Value {
        let now = self.clock.now();
        let peers = self.peers.lock();
        let peers: Vec<_> = peers.iter().map(|(name, peer)| peer.status(name, now)).collect();
        serde_json::json!({ "region": self.config.region, "peers": peers })
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Peer)) {
        if let Some(peer) = self.peers.lock().get_mut(name) {
            change(peer);
        }
        self.changed.notify_waiters();
    }

    fn standings(&self) -> Vec<(String, Standing)> {
        let now = self.clock.now();
        let peers = self.peers.lock();
        peers.iter().map(|(name, peer)| (name.clone(), peer.standing(now))).collect()
    }
}

/// Tells `service` how far the node has caught up, until it has.
pub(crate) async fn watch(mesh: Arc<Mesh>, store: Store, service: Service) {
    let rules = Rules { peer_wait: mesh.config.peer_wait };
    // Asked once: what comes in from now on came from a peer that answers.
    let is_empty = store.is_empty().await.unwrap_or(false);
    loop {
        let verdict = readiness::decide(&mesh.standings(), is_empty, rules);
        if verdict.synced {
            tracing::info!(notes = ?verdict.reasons, "caught up with the peers");
            service.synced();
            return;
        }
        service.joining(verdict.reasons);
        let changed = mesh.changed.notified();
        // Time that runs out is a reason to look as well.
        kura_env::timeout(&*mesh.clock, LOOK_INTERVAL, changed).await.ok();
    }
}

impl Peer {
    fn new(now: Instant) -> Self {
        Self {
            is_myself: false,
            is_recovering: false,
            heard: now,
            has_answered: false,
            hello: None,
            error: None,
            passes: 0,
            pass: None,
            position: None,
            set_aside: Vec::new(),
            set_aside_total: 0,
        }
    }

    fn standing(&self, now: Instant) -> Standing {
        let since = now.since(self.heard);
        match self.pass {
            _ if self.is_myself => Standing::Myself,
            _ if self.passes > 0 => Standing::Passed,
            _ if self.is_recovering => Standing::Recovering,
            Some(pass) if self.error.is_none() => {
                Standing::Passing { done: pass.done, wanted: pass.wanted }
            }
            Some(_) | None => Standing::Silent { since },
        }
    }

    fn status(&self, name: &str, now: Instant) -> serde_json::Value {
        let standing = match self.standing(now) {
            Standing::Myself => "myself",
            Standing::Silent { .. } => "silent",
            Standing::Recovering => "recovering",
            Standing::Passing { .. } => "passing",
            Standing::Passed => "passed",
        };
        let hello = self.hello.as_ref();
        let pass = self.pass.map(|pass| {
            let seconds = now.since(pass.began).as_secs_f64().max(0.001);
            serde_json::json!({
                "listed": pass.listed,
                "wanted": pass.wanted,
                "done": pass.done,
                "bytes": pass.bytes,
                "bytes_per_second": (pass.bytes as f64 / seconds).round(),
            })
        });
        serde_json::json!({
            "peer": name,
            "standing": standing,
            "node": hello.map(|hello| format!("{:016x}", hello.node)),
            "region": hello.map(|hello| hello.region.clone()),
            "state": hello.map(|hello| hello.state),
            "silent_seconds": now.since(self.heard).as_secs(),
            "has_answered": self.has_answered,
            "passes": self.passes,
            "pass": pass,
            "lag": self.position.map(|(next, head)| head.saturating_sub(next)),
            "error": self.error,
            "set_aside": self.set_aside,
            "set_aside_total": self.set_aside_total,
        })
    }
}
