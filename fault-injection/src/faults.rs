//! Faults for one life of one node: wraps the parts of its world.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kura_env::{Catalog, Clock, Disk, Env, Instant, Net};

use crate::{
    catalog::FaultyCatalog,
    disk::FaultyDisk,
    injector::{Injector, Operation, Strike},
    net::FaultyNet,
    plan::{Fault, What},
};

/// What a crash of the plan does. The calls of the life that ends wait for ever afterwards.
pub type OnCrash = Arc<dyn Fn(&Fault) + Send + Sync>;

/// The faults of one life of a node. The wrappers made from it share one count with whoever else
/// asks the same [`Injector`].
#[derive(Clone)]
pub struct Faults {
    shared: Arc<Shared>,
}

struct Shared {
    injector: Arc<Injector>,
    node: String,
    clock: Arc<dyn Clock>,
    on_crash: OnCrash,
    is_dead: AtomicBool,
}

impl Faults {
    /// Faults for `node`, timed by its clock.
    #[must_use]
    pub fn new(
        injector: Arc<Injector>,
        node: impl Into<String>,
        clock: Arc<dyn Clock>,
        on_crash: OnCrash,
    ) -> Self {
        let is_dead = AtomicBool::new(false);
        let shared = Shared { injector, node: node.into(), clock, on_crash, is_dead };
        Self { shared: Arc::new(shared) }
    }

    /// The whole world of the node, with faults on its disk, its catalog and its network.
    #[must_use]
    pub fn env(&self, env: Env) -> Env {
        Env {
            disk: self.disk(env.disk),
            catalog: self.catalog(env.catalog),
            net: self.net(env.net),
            clock: env.clock,
            entropy: env.entropy,
            tasks: env.tasks,
        }
    }

    /// A disk with faults.
    #[must_use]
    pub fn disk(&self, disk: Arc<dyn Disk>) -> Arc<dyn Disk> {
        Arc::new(FaultyDisk::new(disk, self.clone()))
    }

    /// A catalog with faults.
    #[must_use]
    pub fn catalog(&self, catalog: Arc<dyn Catalog>) -> Arc<dyn Catalog> {
        Arc::new(FaultyCatalog::new(catalog, self.clone()))
    }

    /// A network with faults.
    #[must_use]
    pub fn net(&self, net: Arc<dyn Net>) -> Arc<dyn Net> {
        Arc::new(FaultyNet::new(net, self.clone()))
    }

    /// Asks the plan about an operation that begins now.
    pub(crate) async fn ask(
        &self,
        operation: Operation,
        class: impl FnOnce() -> String,
    ) -> Option<Strike> {
        if self.shared.is_dead.load(Ordering::Relaxed) {
            return pending().await;
        }
        if self.shared.injector.is_empty() {
            return None;
        }
        let now_millis = self.now().0 / 1_000_000;
        self.shared.injector.decide(&self.shared.node, operation, &class(), now_millis)
    }

    /// Ends the life.
    pub(crate) async fn crash<T>(&self, fault: &Fault) -> T {
        self.shared.is_dead.store(true, Ordering::Relaxed);
        (self.shared.on_crash)(fault);
        pending().await
    }

    /// A result that waits as long as a stall asks.
    pub(crate) async fn stalled(&self, strike: Option<&Strike>) {
        if let Some(What::Stall { millis }) = strike.map(|strike| &strike.fault.what) {
            self.shared.clock.sleep(Duration::from_millis(*millis)).await;
        }
    }

    pub(crate) fn now(&self) -> Instant {
        self.shared.clock.now()
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.shared.clock
    }
}
