//! The life of a node: starting, recovering, serving, draining.
//!
//! The listener is there from the first moment, so that `/up` and `/ready` tell what is going on
//! while the store is still being read back. Everything that runs is owned by the [`Node`]; dropping
//! it ends it all at once, as a crash would.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use kura_env::{
    DiskError, DiskPath, Env, Lock, LockOutcome, NetError, TaskEnd, TaskHandle, timeout,
};
use tokio::sync::watch;

use crate::{
    config::{NodeConfig, PeerConfig, StoreConfig},
    device::Watched,
    metrics::{Metrics, Port},
    replicate::Replication,
    service::{Service, State},
    store::{Early, RecoverError, STAGING_ELSEWHERE, STAGING_LOCK, Store},
    surface::Surface,
};

pub(crate) const LOCK: &str = "LOCK";
/// The store has at least this long to close, also when requests in flight used up the drain.
const CLOSE_TIME_MIN: Duration = Duration::from_secs(2);

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Somebody else has the data directory.
    #[error("the data directory is in use by {holder}; stop it, or choose another directory")]
    Locked {
        /// What the holder says of itself.
        holder: String,
    },
    /// Somebody else stages in the place that was chosen for that.
    #[error("the directory for bodies in flight is in use by {holder}; choose another directory")]
    StagingLocked {
        /// What the holder says of itself.
        holder: String,
    },
    /// The lock could not be tried.
    #[error("the data directory cannot be locked")]
    Disk(#[source] DiskError),
    /// The address could not be bound.
    #[error(transparent)]
    Net(NetError),
}

/// Locks the directory of staging files that lies elsewhere.
async fn lock_staging(env: &Env, holder: &str) -> Result<Box<dyn Lock>, StartError> {
    let dir = DiskPath::new(STAGING_ELSEWHERE);
    env.disk.mkdir(&dir).await.map_err(StartError::Disk)?;
    match env.disk.lock(&dir.join(STAGING_LOCK), holder).await {
        Ok(LockOutcome::Held(lock)) => Ok(lock),
        Ok(LockOutcome::Taken(holder)) => Err(StartError::StagingLocked { holder }),
        Err(error) => Err(StartError::Disk(error)),
    }
}

/// How the life of a node ended.
#[derive(Debug)]
pub enum Ended {
    /// It was drained.
    Drained,
    /// Its data directory could not be read back.
    Failed(RecoverError),
    /// The public surface ended by itself, which it must not.
    SurfaceEnded(TaskEnd),
    /// A task of the store ended by itself, which it must not: nothing can be written any more.
    StoreEnded {
        /// Which one.
        task: &'static str,
        /// How.
        end: TaskEnd,
    },
}

/// A running node.
pub struct Node {
    env: Env,
    config: NodeConfig,
    service: Service,
    metrics: Arc<Metrics>,
    local_addr: SocketAddr,
    drain: watch::Sender<bool>,
    ended: watch::Receiver<Option<Arc<Ended>>>,
    surface: TaskHandle,
    recovery: TaskHandle,
    peers: Option<PeerPlane>,
    _lock: Box<dyn Lock>,
    _staging_lock: Option<Box<dyn Lock>>,
}

impl Node {
    /// Locks the data directory, binds the address, and starts to recover. `holder` is written into
    /// the lock, for whoever finds it taken.
    ///
    /// # Errors
    ///
    /// [`StartError`]. Nothing runs then, and nothing is locked.
    pub async fn start(env: Env, config: NodeConfig, holder: &str) -> Result<Self, StartError> {
        let lock = match env.disk.lock(&DiskPath::new(LOCK), holder).await {
            Ok(LockOutcome::Held(lock)) => lock,
            Ok(LockOutcome::Taken(holder)) => return Err(StartError::Locked { holder }),
            Err(error) => return Err(StartError::Disk(error)),
        };
        let staging_lock = match config.store.staging_elsewhere {
            true => Some(lock_staging(&env, holder).await?),
            false => None,
        };
        let listener = env.net.listen(config.listen).await.map_err(StartError::Net)?;
        let local_addr = listener.local_addr();
        let Watched { env, device } = Watched::new(env);
        let (service, metrics) = (Service::default(), Arc::new(Metrics::default()));
        let (drain, draining) = watch::channel(false);
        let (end, ended) = watch::channel(None);
        let surface = |port| Surface {
            service: service.clone(),
            metrics: metrics.clone(),
            port,
            config: config.surface.clone(),
            env: env.clone(),
        };
        let peers = match config.peers.clone() {
            Some(peers) => {
                Some(PeerPlane::start(&env, peers, surface(Port::Peers), &service).await?)
            }
            None => None,
        };
        let surface =
            env.tasks.spawn("surface", Box::pin(surface(Port::Public).serve(listener, draining)));
        service.watch(device.clone());
        service.enter(State::Recovering, "recovering: opening the data directory".to_owned());
        let recovering = Recovering {
            watched: Watched { env: env.clone(), device: device.clone() },
            config: config.store.clone(),
            service: service.clone(),
            metrics: metrics.clone(),
            replication: peers.as_ref().map(|peers| peers.replication.clone()),
        };
        let recovery = env.tasks.spawn("recovery", Box::pin(recovering.run(end)));
        Ok(Self {
            env,
            config,
            service,
            metrics,
            local_addr,
            drain,
            ended,
            surface,
            recovery,
            peers,
            _lock: lock,
            _staging_lock: staging_lock,
        })
    }

    /// Where the public surfaces listen.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Where peers reach this node, if it has a peer plane.
    #[must_use]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.peers.as_ref().map(|peers| peers.local_addr)
    }

    /// What the surfaces see of the node.
    #[must_use]
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// What the node counts.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Waits until the node has failed: its data directory cannot be read back, or its surface or
    /// what writes its store is gone. For ever if it does not.
    pub async fn failed(&self) -> Arc<Ended> {
        let surface = self.surface.join();
        let mut ended = self.ended.clone();
        let store = async move {
            match ended.wait_for(Option::is_some).await.ok().and_then(|end| end.clone()) {
                Some(end) => end,
                // The node is being drained.
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            end = store => end,
            end = surface => Arc::new(Ended::SurfaceEnded(end)),
        }
    }

    /// Stops: another node takes over if this one is primary of its region, no new work, what is in flight is finished, and cut
    /// when `drain_timeout` is over, or three quarters of it where there are peers; those have until its end to fetch what came
    /// last. The store is closed in what is left of that, and in two seconds at the least.
    pub async fn drain(self) -> Ended {
        let clock = self.env.clock.clone();
        let limit = self.config.drain_timeout;
        let deadline = clock.now() + limit;
        // What is in flight has half of the time at the least.
        timeout(&*clock, limit / 2, self.service.hand_over()).await.ok();
        self.service.enter(State::Draining, "draining".to_owned());
        // An error means that the surface has ended already.
        self.drain.send(true).ok();
        let for_peers = if self.peers.is_some() { limit / 4 } else { Duration::ZERO };
        let left = deadline.since(clock.now()).saturating_sub(for_peers);
        let finished = timeout(&*clock, left, self.surface.join()).await;
        if finished.is_err() {
            tracing::warn!(limit = ?self.config.drain_timeout, "requests in flight were cut");
        }
        // From here on no request can reach the store.
        drop(self.surface);
        drop(self.recovery);
        if let (Some(peers), Some(store)) = (&self.peers, self.service.store()) {
            let left = deadline.since(clock.now());
            peers.replication.is_read_to_the_end(&store, left).await;
        }
        drop(self.peers);
        if let Some(store) = self.service.take_store()
            && timeout(&*clock, deadline.since(clock.now()).max(CLOSE_TIME_MIN), store.close())
                .await
                .is_err()
        {
            tracing::warn!(limit = ?self.config.drain_timeout, "the store did not close in time");
        }
        Ended::Drained
    }
}

/// The peer plane while it runs. Dropping it ends it.
struct PeerPlane {
    replication: Arc<Replication>,
    local_addr: SocketAddr,
    /// Held for as long as peers are to be served.
    _drain: watch::Sender<bool>,
    _serving: TaskHandle,
}

impl PeerPlane {
    /// Answers peers from now on. Following them begins when the store is open.
    async fn start(
        env: &Env,
        config: PeerConfig,
        surface: Surface,
        service: &Service,
    ) -> Result<Self, StartError> {
        let listener = env.net.listen(config.listen).await.map_err(StartError::Net)?;
        let local_addr = listener.local_addr();
        let replication = Replication::new(env, config, &surface.metrics);
        service.replicates(replication.clone());
        // A channel of its own: one with several waiters wakes them in an order that differs.
        let (drain, draining) = watch::channel(false);
        let serving = replication.clone().serve(surface, listener, draining);
        let serving = env.tasks.spawn("peer plane", Box::pin(serving));
        Ok(Self { replication, local_addr, _drain: drain, _serving: serving })
    }
}

impl Drop for PeerPlane {
    fn drop(&mut self) {
        self.replication.stop();
    }
}

struct Recovering {
    watched: Watched,
    config: StoreConfig,
    service: Service,
    metrics: Arc<Metrics>,
    replication: Option<Arc<Replication>>,
}

impl Recovering {
    async fn run(self, end: watch::Sender<Option<Arc<Ended>>>) {
        let Self { watched, config, service, metrics, replication } = self;
        let env = watched.env.clone();
        let progress = {
            let service = service.clone();
            move |reason| service.progress(reason)
        };
        let early = Early::new(env.clone(), metrics.clone());
        service.recovers(early.clone());
        match Store::recover(watched, config, &early, &progress).await {
            Ok(store) => {
                service.serve(store.clone());
                match replication {
                    Some(replication) => replication.start(&env, &store, &service, &metrics),
                    None => service.synced(Vec::new()),
                }
                let (task, ended) = store.ended().await;
                service.enter(State::Failed, format!("the {task} ended by itself: {ended:?}"));
                end.send(Some(Arc::new(Ended::StoreEnded { task, end: ended }))).ok();
            }
            Err(error) => {
                service.enter(State::Failed, format!("recovery failed: {error}"));
                // An error means that the node is being dropped, and nobody waits.
                end.send(Some(Arc::new(Ended::Failed(error)))).ok();
            }
        }
    }
}
