//! Replication by pull: each node reads what its peers have and fetches what it lacks.
//!
//! ```text
//! follow -> round -> fetch -> client -> (Net) -> a peer's server -> its store
//!    |                 |
//!  mesh              store       mesh, peer: what is known of the peers
//! ```
//!
//! Nobody pushes, so no client's write waits for a peer. One task a peer (`follow`) first compares
//! what both hold (a *pass*) and then follows its feed from a durable cursor. What a peer
//! cannot deliver is counted and skipped, and tried again later.

mod aside;
mod audience;
mod ceiling;
mod claims;
mod client;
mod compare;
mod deletes;
mod error;
mod fetch;
mod follow;
mod frames;
mod mesh;
mod partials;
mod peer;
mod primary;
mod read_through;
mod requests;
mod round;
mod server;
mod sources;
mod storing;
mod wire;

use std::{sync::Arc, time::Duration};

use kura_env::{Env, Listener, TaskHandle};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

pub(crate) use self::ceiling::Ceilings;
use self::{
    claims::Claims,
    follow::Follower,
    mesh::Mesh,
    partials::Partials,
    primary::Primacy,
    read_through::{NearOffers, Reader},
    requests::Requests,
    sources::Sources,
};
use crate::{
    config::PeerConfig, metrics::Metrics, service::Service, store::Store, surface::Surface,
};

/// Everything that replication runs on, for as long as the node lives.
pub(crate) struct Replication {
    mesh: Arc<Mesh>,
    followers: Mutex<Vec<TaskHandle>>,
    /// Fetches what reads ask for, from when peers are followed until they are not any more.
    reader: Mutex<Option<Arc<Reader>>>,
}

/// What the followers of all peers share.
pub(crate) struct Shared {
    pub(crate) env: Env,
    pub(crate) store: Store,
    pub(crate) mesh: Arc<Mesh>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) claims: Arc<Claims>,
    pub(crate) partials: Arc<Partials>,
    /// Requests for bodies that may be under way beyond those that each peer has for itself.
    pub(crate) fetches: Arc<Semaphore>,
    /// What peers of this region hold that is not here yet.
    pub(crate) near_offers: NearOffers,
    /// Which of the peers is nearer than which, and what is left to it.
    pub(crate) sources: Sources,
}

impl Replication {
    pub(crate) fn new(env: &Env, config: PeerConfig, metrics: &Arc<Metrics>) -> Arc<Self> {
        let mesh = Mesh::new(env.clock.clone(), config, metrics.clone());
        let (followers, reader) = (Mutex::default(), Mutex::default());
        Arc::new(Self { mesh, followers, reader })
    }

    /// Serves peers until `drain` turns true. Answers from the first moment; what needs the store
    /// is answered 503 until that is open.
    pub(crate) async fn serve(
        self: Arc<Self>,
        surface: Surface,
        listener: Box<dyn Listener>,
        drain: watch::Receiver<bool>,
    ) {
        let surface = Arc::new(surface);
        let router = server::router(surface.clone(), self.mesh.clone());
        surface.serve_router(router, listener, drain).await;
    }

    /// Begins to follow every peer, now that the store is open, and tells `service` when the node
    /// has caught up.
    pub(crate) fn start(
        &self,
        env: &Env,
        store: &Store,
        service: &Service,
        metrics: &Arc<Metrics>,
    ) {
        let wait = self.mesh.read_through();
        let (ceilings, peers) = (self.ceilings(), self.mesh.names().len());
        let partials = Partials::new(env.clock.clone(), store.clone(), metrics.clone(), peers);
        let partials = Arc::new(partials);
        let shared = Arc::new(Shared {
            near_offers: NearOffers::new(metrics.clone(), !wait.is_zero()),
            sources: Sources::new(env.clock.clone(), metrics.clone(), ceilings, peers),
            env: env.clone(),
            store: store.clone(),
            mesh: self.mesh.clone(),
            metrics: metrics.clone(),
            claims: Claims::new(),
            partials: partials.clone(),
            fetches: Requests::of_all(),
        });
        self.mesh.begin();
        let mut followers = self.followers.lock();
        *self.reader.lock() = Reader::new(&shared, wait);
        for peer in self.mesh.names().into_iter().enumerate() {
            let follower = Follower::new(shared.clone(), peer);
            followers.push(env.tasks.spawn("follower", Box::pin(follower.run())));
        }
        let (mesh, store, service) = (self.mesh.clone(), store.clone(), service.clone());
        followers.push(env.tasks.spawn("partials", Box::pin(partials.watch())));
        if mesh.primacy.asks() {
            for name in mesh.names() {
                let (primacy, of) = (mesh.primacy.clone(), (name, store.clone()));
                let listen = primary::listen(primacy, env.clone(), of, service.clone());
                followers.push(env.tasks.spawn("pulse", Box::pin(listen)));
            }
            let primary = primary::watch(mesh.primacy.clone(), service.clone(), store.clone());
            followers.push(env.tasks.spawn("primary", Box::pin(primary)));
        }
        let watch = mesh::watch(mesh, store, service);
        followers.push(env.tasks.spawn("readiness", Box::pin(watch)));
    }

    /// The ceilings on bandwidth between peers.
    pub(crate) fn ceilings(&self) -> Arc<Ceilings> {
        self.mesh.ceilings.clone()
    }

    /// Fetches what reads ask for, if this node does that.
    pub(crate) fn reader(&self) -> Option<Arc<Reader>> {
        self.reader.lock().clone()
    }

    /// Waits for at most `limit` until the nodes that read the feed of this one have dealt with all that is in it. Nothing is
    /// written here any more.
    pub(crate) async fn is_read_to_the_end(&self, store: &Store, limit: Duration) {
        self.mesh.is_read_to(store.extent().head, limit).await;
    }

    /// Stops following.
    pub(crate) fn stop(&self) {
        self.reader.lock().take();
        self.followers.lock().clear();
    }

    /// Which node of the region is primary.
    pub(crate) fn primacy(&self) -> &Primacy {
        &self.mesh.primacy
    }

    /// What is known of the mesh, as JSON.
    pub(crate) fn status(&self) -> serde_json::Value {
        self.mesh.status()
    }
}
