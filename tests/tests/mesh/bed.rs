//! Nodes that are each other's peers, in one world, which can be killed and started again.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use kura_core::address::{Address, Space};
use kura_env::{Clock, Env, Instant, Net, Tasks};
use kura_node::{
    config::{Durability, NodeConfig, PeerConfig, StoreConfig, SurfaceConfig},
    metrics::Metrics,
    node::Node,
    service::{Published, Refusal, Service, State},
    store::KEYSPACES,
};
use sim_engine::{NodeId, World, WorldConfig};
use sim_storage::{Crash, SimCatalog, SimCatalogConfig, SimDisk, SimDiskConfig};

/// A mesh.
pub(crate) struct Bed {
    pub(crate) world: World,
    hosts: Vec<Host>,
    change: fn(&mut NodeConfig),
}

struct Host {
    id: NodeId,
    disk: SimDisk,
    node: Option<Node>,
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
    /// So many hosts with empty disks, none of them started.
    pub(crate) fn new(seed: u64, hosts: usize, change: fn(&mut NodeConfig)) -> Self {
        Self::with_disks(seed, hosts, change, |number| {
            SimDiskConfig::instant(256 << 20, seed + number as u64)
        })
    }

    /// As [`Bed::new`], with disks of one's own.
    pub(crate) fn with_disks(
        seed: u64,
        hosts: usize,
        change: fn(&mut NodeConfig),
        disk: impl Fn(usize) -> SimDiskConfig,
    ) -> Self {
        let world = World::new(WorldConfig::from_seed(seed));
        let host = |number: usize| {
            let addr = format!("10.0.0.{}", number + 1).parse().unwrap();
            let id = world.add_node(&format!("node-{number}"), addr);
            let disk = SimDisk::new(disk(number), world.clock(id));
            Host { id, disk, node: None }
        };
        let hosts = (0..hosts).map(host).collect();
        Self { world, hosts, change }
    }

    /// The network, the clock and the tasks of a host.
    pub(crate) fn seams(&self, number: usize) -> (Arc<dyn Net>, Arc<dyn Clock>, Arc<dyn Tasks>) {
        let id = self.hosts[number].id;
        (self.world.net(id), self.world.clock(id), self.world.tasks(id))
    }

    /// Sets the wall clock of a host ahead of the true time.
    pub(crate) fn set_clock_ahead(&self, number: usize, by: Duration) {
        self.world.set_wall_skew(self.hosts[number].id, i64::try_from(by.as_millis()).unwrap());
    }

    pub(crate) fn clock(&self, number: usize) -> Arc<dyn Clock> {
        self.world.clock(self.hosts[number].id)
    }

    /// Runs `work` on a host, until that is killed.
    pub(crate) fn spawn(&self, number: usize, work: impl Future<Output = ()> + Send + 'static) {
        self.world.launch(self.hosts[number].id, "test", work);
    }

    /// Starts a host that is not running.
    pub(crate) fn start(&mut self, number: usize) {
        let names = (1..=self.hosts.len()).map(|host| format!("http://10.0.0.{host}:7000"));
        let mut config = config(number, names.collect());
        (self.change)(&mut config);
        let host = &self.hosts[number];
        let disk = host.disk.attach();
        let clock = self.world.clock(host.id);
        let catalog =
            SimCatalog::new(disk.clone(), clock.clone(), &KEYSPACES, SimCatalogConfig::default());
        let env = Env {
            clock,
            net: self.world.net(host.id),
            disk,
            catalog: Arc::new(catalog),
            entropy: self.world.entropy(host.id),
            tasks: self.world.tasks(host.id),
        };
        let node = self.run(async move { Node::start(env, config, "test").await }).unwrap();
        self.hosts[number].node = Some(node);
    }

    /// Ends a host at once.
    pub(crate) fn kill(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        host.disk.crash(Crash::Sigkill);
        self.world.kill(host.id);
        host.node = None;
        self.world.start(host.id);
    }

    /// The node on a host, to be drained.
    pub(crate) fn take(&mut self, number: usize) -> Node {
        self.hosts[number].node.take().expect("it runs")
    }

    /// Spoils the first bytes of every segment of bodies on a host that does not run.
    pub(crate) fn behead_segments(&self, number: usize) -> usize {
        let disk = &self.hosts[number].disk;
        let files = disk.walk();
        let segments = files.iter().filter(|file| file.path.as_str().ends_with(".seg"));
        segments.map(|file| disk.rot(file.path.as_str(), 3, 0xff).unwrap()).count()
    }

    /// Runs `work` to its end; a world that stops before that is a failure.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let deadline = self.after(Duration::from_secs(600));
        self.world.block_on(work, deadline).unwrap_or_else(|outcome| panic!("{outcome:?}"))
    }

    pub(crate) fn after(&self, duration: Duration) -> Instant {
        self.world.now() + duration
    }

    /// Lets the world go on for so long.
    pub(crate) fn pass(&self, duration: Duration) {
        self.world.run_to(self.after(duration));
    }

    pub(crate) fn service(&self, number: usize) -> Service {
        self.hosts[number].node.as_ref().expect("it runs").service().clone()
    }

    /// What the node on a host has counted.
    pub(crate) fn metrics(&self, number: usize) -> Arc<Metrics> {
        self.hosts[number].node.as_ref().expect("it runs").metrics().clone()
    }

    pub(crate) fn is_ready(&self, number: usize) -> bool {
        self.hosts[number].node.is_some()
            && self.service(number).readiness().state == State::Serving
    }

    /// Waits until a host is ready, and says how long that took.
    pub(crate) fn until_ready(&self, number: usize, limit: Duration) -> Duration {
        let begun = self.world.now();
        self.world.run_until(|_| self.is_ready(number), self.after(limit));
        assert!(self.is_ready(number), "{}", self.service(number).cluster());
        self.world.now().since(begun)
    }

    pub(crate) fn put(&self, number: usize, key: &str, body: Bytes) -> Result<Published, Refusal> {
        let (service, address) = (self.service(number), plain(key));
        self.run(async move {
            let mut upload = service.begin(address, Some(body.len() as u64)).await?;
            upload.write(body).await?;
            upload.publish().await
        })
    }

    /// Deletes a namespace at a host.
    pub(crate) fn delete(&self, number: usize, namespace: &str) {
        let (service, namespace) = (self.service(number), namespace.to_owned());
        self.run(async move { service.delete(namespace).await }).unwrap();
    }

    pub(crate) fn get(&self, number: usize, key: &str) -> Option<Bytes> {
        let (service, address) = (self.service(number), plain(key));
        self.run(async move {
            let mut reading = service.open(&address).await.unwrap()?;
            let mut whole = Vec::new();
            while let Some(bytes) = reading.next().await.unwrap() {
                whole.extend_from_slice(&bytes);
            }
            Some(Bytes::from(whole))
        })
    }
}

fn config(number: usize, peers: Vec<String>) -> NodeConfig {
    let addr = |port| SocketAddr::new(format!("10.0.0.{}", number + 1).parse().unwrap(), port);
    NodeConfig {
        listen: addr(4000),
        store: StoreConfig {
            segment_bytes: 1 << 20,
            capacity_bytes: Some(256 << 20),
            staging_elsewhere: false,
            staging_bytes_max: 4 << 20,
            memory_bytes_max: 1 << 20,
            memory_body_bytes_max: 64 << 10,
            index_bytes_max: 1 << 20,
            body_bytes_max: 1 << 30,
            durability: Durability::PowerLoss,
            promise: Duration::ZERO,
            write_grace: Duration::ZERO,
            scrub_every: Duration::ZERO,
            feed_rows_max: kura_core::feed_rows::FEED_ROWS_MAX,
            scrub_bytes_per_second: 1 << 20,
        },
        surface: SurfaceConfig {
            idle_timeout: Duration::from_secs(30),
            header_timeout: Duration::from_secs(10),
            connections_max: 100,
            drain_body_bytes_max: 1 << 20,
            retry_after: Duration::from_secs(1),
            date_header: false,
        },
        peers: Some(PeerConfig {
            listen: addr(7000),
            peers,
            region: "here".to_owned(),
            peer_wait: Duration::from_secs(60),
            pass_timeout: Duration::from_secs(1800),
            read_through: Duration::ZERO,
            bandwidth_bytes_per_second: 512 << 20,
            limits: kura_core::limits::PeerLimits::OURS,
            primary: kura_node::config::PrimaryConfig::NOBODY_ASKED,
        }),
        drain_timeout: Duration::from_secs(30),
    }
}
