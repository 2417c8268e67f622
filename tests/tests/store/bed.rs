//! One store in a world of its own, which can be stopped in every way and started again.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use fault_injection::{Fault, Faults, Injector, Plan};
use kura_core::{
    address::{Address, Space},
    record::{Area, SegmentId},
};
use kura_env::{Batch, Catalog, CommitDurability, DiskPath, EffectKind, Env, Instant};
use kura_node::{
    config::{Durability, StoreConfig},
    device::Watched,
    metrics::Metrics,
    service::{Published, Refusal},
    store::{Early, KEYSPACES, Store},
};
use sim_engine::{NodeId, World, WorldConfig};
use sim_storage::{
    Crash, Effect, EffectVerdict, SimCatalog, SimCatalogConfig, SimDisk, SimDiskConfig,
};

use crate::sick::Sickness;

/// One store and what it stands on.
pub(crate) struct Bed {
    pub(crate) world: World,
    node: NodeId,
    pub(crate) disk: SimDisk,
    pub(crate) config: StoreConfig,
    /// What fails in the lives that begin from now on.
    pub(crate) plan: Plan,
    /// What the disk cannot read, in every life.
    pub(crate) sickness: Sickness,
    running: Option<Running>,
}

struct Running {
    store: Store,
    metrics: Arc<Metrics>,
    catalog: Arc<SimCatalog>,
}

/// The address of a plain key.
pub(crate) fn plain(key: &str) -> Address {
    Address::new("team", Space::Plain, key).unwrap()
}

/// A body that differs for each seed.
pub(crate) fn body(seed: u64, len: usize) -> Bytes {
    let byte = |at: u64| (at.wrapping_mul(31).wrapping_add(seed * 7) >> 3).to_le_bytes()[0];
    (0..len as u64).map(byte).collect()
}

impl Bed {
    /// An empty disk of 64 MiB and a store with eight segments of 256 KiB for bodies, so that what is
    /// over 32 KiB goes to a pool of about half a MiB.
    pub(crate) fn new(seed: u64) -> Self {
        let world = World::new(WorldConfig::from_seed(seed));
        let node = world.add_node("node-1", "10.0.0.1".parse().unwrap());
        let disk = SimDisk::new(SimDiskConfig::instant(64 << 20, seed), world.clock(node));
        let config = StoreConfig {
            segment_bytes: 256 << 10,
            capacity_bytes: Some((8 * (256 << 10) * 100_u64).div_ceil(70)),
            staging_elsewhere: false,
            staging_bytes_max: 1 << 20,
            memory_bytes_max: 1 << 20,
            memory_body_bytes_max: 4 << 10,
            index_bytes_max: 1 << 20,
            body_bytes_max: 1 << 30,
            durability: Durability::PowerLoss,
            promise: Duration::ZERO,
            write_grace: Duration::ZERO,
            scrub_every: Duration::ZERO,
            feed_rows_max: kura_core::feed_rows::FEED_ROWS_MAX,
            scrub_bytes_per_second: 1 << 20,
        };
        Self {
            world,
            node,
            disk,
            config,
            plan: Plan::default(),
            sickness: Sickness::default(),
            running: None,
        }
    }

    /// Runs `work` to its end; a world that stops before that is a failure.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let deadline = self.world.now() + Duration::from_secs(600);
        self.world.block_on(work, deadline).unwrap_or_else(|outcome| panic!("{outcome:?}"))
    }

    /// A new life of the node on the disk.
    pub(crate) fn env(&self) -> (Env, Arc<SimCatalog>) {
        let clock = self.world.clock(self.node);
        let injector = Arc::new(Injector::new(self.plan.clone()));
        let faults = Faults::new(injector, "node-1", clock.clone(), Arc::new(|_: &Fault| ()));
        let disk = faults.disk(self.sickness.of(self.disk.attach()));
        let catalog = Arc::new(SimCatalog::new(
            disk.clone(),
            clock.clone(),
            &KEYSPACES,
            SimCatalogConfig::default(),
        ));
        let env = Env {
            clock,
            net: self.world.net(self.node),
            disk,
            catalog: catalog.clone(),
            entropy: self.world.entropy(self.node),
            tasks: self.world.tasks(self.node),
        };
        (env, catalog)
    }

    /// Opens the store on what lies on the disk.
    pub(crate) fn start(&mut self) -> Result<(), String> {
        assert!(self.running.is_none(), "stop it first");
        let (env, catalog) = self.env();
        let metrics = Arc::new(Metrics::default());
        let (config, early) = (self.config.clone(), Early::new(env.clone(), metrics.clone()));
        let recovering =
            async move { Store::recover(Watched::new(env), config, &early, &|_| ()).await };
        let store = self.run(recovering).map_err(|error| error.to_string())?;
        self.running = Some(Running { store, metrics, catalog });
        Ok(())
    }

    /// Stops it in order.
    pub(crate) fn close(&mut self) {
        let running = self.running.take().expect("it runs");
        self.run(async move { running.store.close().await });
        self.world.kill(self.node);
        self.world.start(self.node);
    }

    /// Ends it at once.
    pub(crate) fn crash(&mut self, crash: Crash) {
        self.disk.crash(crash);
        self.world.kill(self.node);
        self.running = None;
        self.world.start(self.node);
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.running.as_ref().expect("it runs").metrics
    }

    pub(crate) fn shared_catalog(&self) -> Arc<SimCatalog> {
        self.running.as_ref().expect("it runs").catalog.clone()
    }

    pub(crate) fn catalog(&self) -> &SimCatalog {
        &self.running.as_ref().expect("it runs").catalog
    }

    /// Begins to store a body and is killed when it would be synced.
    pub(crate) fn die_at_sync(&mut self, address: Address, body: Bytes) {
        self.disk.set_effect_hook(Box::new(|effect: &Effect| {
            let is_sync = effect.change.kind == EffectKind::SyncData;
            if is_sync { EffectVerdict::CrashBefore(Crash::Sigkill) } else { EffectVerdict::Go }
        }));
        let store = self.store();
        let unsynced = async move { put(store, address, body).await };
        let deadline = self.now() + Duration::from_secs(5);
        assert!(self.world.block_on(unsynced, deadline).is_err(), "nobody is told");
        self.crash(Crash::Sigkill);
        self.disk.set_effect_hook(Box::new(|_: &Effect| EffectVerdict::Go));
    }

    /// Removes the index of a store that does not run.
    pub(crate) fn forget_index(&self) {
        assert!(self.running.is_none(), "stop it first");
        for file in self.disk.walk() {
            if file.path.parent() == DiskPath::new("catalog") {
                let disk = self.disk.attach();
                self.run(async move { disk.unlink(&file.path).await.unwrap() });
            }
        }
    }

    /// Closes the index behind the store's back, so that reads and commits fail.
    pub(crate) fn close_index(&self) {
        let catalog = self.running.as_ref().expect("it runs").catalog.clone();
        self.run(async move { catalog.close().await });
    }

    /// Lets the index reach the disk, whatever becomes of the segments.
    pub(crate) fn keep_index(&self) {
        let catalog = self.running.as_ref().expect("it runs").catalog.clone();
        let mut batch = Batch::default();
        batch.delete(KEYSPACES[3], &b"nobody"[..]);
        let synced = async move { catalog.commit(batch, CommitDurability::Synced).await };
        self.run(synced).unwrap();
    }

    pub(crate) fn store(&self) -> Store {
        self.running.as_ref().expect("it runs").store.clone()
    }

    /// Stores a body, and says what was answered.
    pub(crate) fn put(&self, address: Address, body: Bytes) -> Result<Published, Refusal> {
        let store = self.store();
        self.run(async move { put(store, address, body).await })
    }

    /// Reads a body to its end.
    pub(crate) fn get(&self, address: &Address) -> Result<Option<Bytes>, Refusal> {
        let (store, address) = (self.store(), address.clone());
        self.run(async move {
            let Some(mut reading) = store.open(&address).await? else { return Ok(None) };
            let mut whole = Vec::new();
            while let Some(bytes) = reading.next().await? {
                whole.extend_from_slice(&bytes);
            }
            assert_eq!(whole.len() as u64, reading.meta().len_bytes, "whole or an error");
            Ok(Some(Bytes::from(whole)))
        })
    }

    /// Lets the store do what it does by itself.
    pub(crate) fn settle(&self) {
        let deadline = self.world.now() + Duration::from_secs(30);
        self.world.run_to(deadline);
    }

    /// Lets so many seconds go by.
    pub(crate) fn wait(&self, seconds: u64) {
        let deadline = self.world.now() + Duration::from_secs(seconds);
        self.world.run_to(deadline);
    }

    /// The ids of the segments' files.
    pub(crate) fn segments(&self) -> Vec<SegmentId> {
        let files = self.disk.walk();
        let names = files.iter().filter(|file| file.path.parent() == DiskPath::new("blobs"));
        names.filter_map(|file| SegmentId::from_file_name(Area::Blobs, file.path.name())).collect()
    }

    pub(crate) fn staged_bytes(&self) -> u64 {
        let files = self.disk.walk();
        let staged = files.iter().filter(|file| file.path.parent() == DiskPath::new("tmp"));
        staged.map(|file| file.len_bytes).sum()
    }

    pub(crate) fn now(&self) -> Instant {
        self.world.now()
    }
}

/// Stores a body.
pub(crate) async fn put(store: Store, address: Address, body: Bytes) -> Result<Published, Refusal> {
    let mut upload = store.begin(address, Some(body.len() as u64)).await?;
    for at in (0..body.len()).step_by(1500) {
        upload.write(body.slice(at..body.len().min(at + 1500))).await?;
    }
    upload.publish().await
}
