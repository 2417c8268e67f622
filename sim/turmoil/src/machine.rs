//! One node under test: its device, its catalog, and the life it is in.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use fault_injection::{Faults, Injector};
use kura_core::place::Place;
use kura_env::{Clock, DiskErrorKind, Env};
use kura_node::{
    config::{Durability, NodeConfig, PeerConfig, StoreConfig, SurfaceConfig},
    node::Node,
    service::Service,
    store::KEYSPACES,
};
use parking_lot::Mutex;
use sim::{
    court::Court,
    draw::Draw,
    history::NodeIndex,
    holdings::{self, Holdings},
    image::Image,
    invariants::staging_bounded,
};
use sim_storage::{
    Crash, Effect, EffectHook, EffectVerdict, SimCatalog, SimCatalogConfig, SimDisk, SimDiskConfig,
};

use crate::{
    clock::TurmoilClock, entropy::KeyedEntropy, journal::Journal, net::TurmoilNet,
    tasks::TurmoilTasks,
};

/// The public port of every node.
const PORT: u16 = 4000;
/// Where the peers of every node reach it.
const PEER_PORT: u16 = 7000;
/// How long a supervisor waits before it starts a process again that ended by itself.
const RESPAWN: Duration = Duration::from_secs(1);
const STAGING_BYTES_MAX: u64 = 4 << 20;
/// For how long a silent peer holds readiness back.
pub(crate) const PEER_WAIT: Duration = Duration::from_secs(60);

/// What all machines of a run share.
#[derive(Clone)]
pub(crate) struct Ground {
    pub(crate) seed: u64,
    pub(crate) court: Court,
    pub(crate) journal: Journal,
    pub(crate) injector: Arc<Injector>,
}

/// One node under test.
pub(crate) struct Machine {
    pub(crate) name: Arc<str>,
    pub(crate) index: NodeIndex,
    pub(crate) addr: SocketAddr,
    pub(crate) disk: SimDisk,
    pub(crate) clock: TurmoilClock,
    config: NodeConfig,
    ground: Ground,
    lives: AtomicU64,
    catalog: Mutex<Option<Arc<SimCatalog>>>,
    service: Mutex<Option<Service>>,
    /// Rows whose bodies cannot be read whole any more.
    spoilt: Mutex<BTreeSet<Bytes>>,
}

impl Machine {
    /// The machine at one of `addrs`, with an empty device.
    pub(crate) fn new(ground: &Ground, position: usize, addrs: &[IpAddr]) -> Arc<Self> {
        let name: Arc<str> = name(position).into();
        let clock = TurmoilClock::default();
        let disk_config = SimDiskConfig {
            capacity_bytes: 256 << 20,
            seed: Draw::named(ground.seed, &format!("disk.{name}")).next_u64(),
            ..SimDiskConfig::default()
        };
        let disk = SimDisk::new(disk_config, Arc::new(clock.clone()));
        disk.set_effect_hook(Box::new(Watch {
            name: name.clone(),
            ground: ground.clone(),
            clock: clock.clone(),
            disk: disk.clone(),
        }));
        Arc::new(Self {
            index: NodeIndex(position),
            addr: SocketAddr::new(addrs[position], PORT),
            config: config(position, addrs),
            ground: ground.clone(),
            lives: AtomicU64::new(0),
            catalog: Mutex::default(),
            service: Mutex::default(),
            spoilt: Mutex::default(),
            name,
            disk,
            clock,
        })
    }

    /// Runs the node until its host dies; a process that ends by itself is started again.
    pub(crate) async fn live(self: Arc<Self>) {
        loop {
            let why = match Node::start(self.env(), self.config.clone(), "kura-sim-turmoil").await {
                Ok(node) => {
                    *self.service.lock() = Some(node.service().clone());
                    format!("{:?}", node.failed().await)
                }
                Err(error) => error.to_string(),
            };
            *self.service.lock() = None;
            self.tell(format!("gave up: {why}"));
            self.clock.sleep(RESPAWN).await;
        }
    }

    /// The host dies; what the device keeps is decided. The engine drops its tasks next.
    pub(crate) fn fall(&self) {
        *self.service.lock() = None;
        self.disk.crash(Crash::Sigkill);
    }

    /// Ends what ties the machine and its device together.
    pub(crate) fn retire(&self) {
        self.disk.set_effect_hook(Box::new(|_: &_| EffectVerdict::Go));
        *self.service.lock() = None;
    }

    fn env(&self) -> Env {
        let life = self.lives.fetch_add(1, Ordering::Relaxed) + 1;
        self.tell(format!("starts, life {life}"));
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        let disk = self.disk.attach();
        let costs = SimCatalogConfig::default();
        let catalog = SimCatalog::new(disk.clone(), clock.clone(), &KEYSPACES, costs);
        let catalog = Arc::new(catalog);
        *self.catalog.lock() = Some(catalog.clone());
        let net = TurmoilNet {
            host: self.name.clone(),
            clock: clock.clone(),
            journal: self.ground.journal.clone(),
        };
        let entropy = KeyedEntropy {
            seed: self.ground.seed,
            owner: format!("{}.{life}", self.name),
            streams: Mutex::default(),
        };
        let env = Env {
            clock: clock.clone(),
            net: Arc::new(net),
            disk,
            catalog,
            entropy: Arc::new(entropy),
            tasks: Arc::new(TurmoilTasks),
        };
        if self.ground.injector.is_empty() {
            return env;
        }
        // No plan of this engine has crashes: stories kill hosts by themselves.
        let no_crash = Arc::new(|_: &_| ());
        Faults::new(self.ground.injector.clone(), &*self.name, clock, no_crash).env(env)
    }

    pub(crate) fn tell(&self, what: String) {
        let at = self.clock.now();
        self.ground.journal.record(at, &self.name, format_args!("{what}"));
        self.ground.court.evidence().tell(at, format!("{}: {what}", self.name));
    }

    /// Why it is not ready, by its own account; `None` if it is.
    pub(crate) fn unready(&self) -> Option<String> {
        let Some(service) = self.service.lock().clone() else {
            return Some(format!("{} is dead", self.name));
        };
        let readiness = service.readiness();
        let why = readiness.reasons.join(", ");
        (!readiness.ready).then(|| format!("{} is not ready: {why}", self.name))
    }

    /// What it holds, by its catalog.
    pub(crate) fn holdings(&self) -> Holdings {
        holdings::of_rows(&self.rows(0))
    }

    /// The rows of what cannot be read whole on it any more.
    pub(crate) fn spoilt(&self) -> BTreeSet<Bytes> {
        self.spoilt.lock().clone()
    }

    fn rows(&self, position: usize) -> Vec<kura_env::Row> {
        let catalog = self.catalog.lock().clone();
        catalog.map(|catalog| catalog.peek_rows(KEYSPACES[position])).unwrap_or_default()
    }

    /// What lies on its device and in its catalog now.
    pub(crate) fn image(&self) -> Image<'_> {
        let files = self.disk.walk().into_iter();
        Image {
            files: files.map(|file| (file.path.as_str().to_owned(), file.len_bytes)).collect(),
            places: self.rows(0),
            contents: self.rows(1),
            feed: self.rows(2),
            versions: self.rows(5),
            read: Box::new(|path, offset, len| {
                let len = u64::try_from(len).unwrap_or(u64::MAX);
                self.disk.peek_at(path, offset, len).unwrap_or_default()
            }),
        }
    }

    /// What lies in segments that are not written any more, in the order of the rows.
    pub(crate) fn settled(&self) -> Vec<(Bytes, Place)> {
        let image = self.image();
        let ring = image.ring().unwrap_or_default();
        let rows = image.places.iter();
        rows.filter_map(|(key, row)| Some((key.clone(), Place::decode(row)?)))
            .filter(|(_, place)| !ring.is_newest(place.segment) && place.body_bytes > 0)
            .collect()
    }

    /// Rots one byte in the middle of a body.
    pub(crate) fn rot(&self, (key, place): &(Bytes, Place)) {
        let at = place.offset + u64::from(place.header_bytes) + place.body_bytes / 2;
        let path = Image::segment_path(place.segment);
        self.tell(format!("{} rots at byte {at} of {path}", holdings::name(key)));
        let rotten: Result<(), DiskErrorKind> = self.disk.rot(&path, at, 0xff);
        rotten.expect("the row leads to a byte");
        self.spoil(key);
    }

    /// Cuts a segment off in the middle of a body: that one and all behind it are gone.
    pub(crate) fn cut_off(&self, (_, place): &(Bytes, Place)) {
        let at = place.offset + u64::from(place.header_bytes) + place.body_bytes / 2;
        let path = Image::segment_path(place.segment);
        self.tell(format!("{path} ends early, at byte {at}"));
        // It may end earlier already: a file is never made longer here.
        let short = self.disk.peek_at(&path, 0, at).expect("the segment is there");
        self.disk.plant(&path, &short).expect("less needs no more space");
        for (key, other) in self.settled() {
            if other.segment == place.segment && other.offset + other.record_bytes() > at {
                self.spoil(&key);
            }
        }
    }

    fn spoil(&self, key: &Bytes) {
        self.spoilt.lock().insert(key.clone());
        if let Some(path) = holdings::path(key) {
            self.ground.court.evidence().history.spoil(self.index, path);
        }
    }
}

/// The name of a node, by its position.
pub(crate) fn name(position: usize) -> String {
    format!("node-{}", position + 1)
}

/// Sees every change of a device before it happens.
struct Watch {
    name: Arc<str>,
    ground: Ground,
    clock: TurmoilClock,
    disk: SimDisk,
}

impl EffectHook for Watch {
    fn before(&mut self, effect: &Effect) -> EffectVerdict {
        let now = self.clock.now();
        self.ground.journal.record(now, &self.name, format_args!("{}", effect.change));
        let staged = self.disk.dir_bytes("tmp");
        let (staged, files) = staged.map_or((0, 0), |usage| (usage.allocated_bytes, usage.files));
        let verdict = staging_bounded::check_budget(&self.name, staged, files, STAGING_BYTES_MAX);
        self.ground.court.evidence().judge(now, verdict);
        EffectVerdict::Go
    }
}

fn config(position: usize, addrs: &[IpAddr]) -> NodeConfig {
    let listen = |port| SocketAddr::new(addrs[position], port);
    NodeConfig {
        listen: listen(PORT),
        store: StoreConfig {
            segment_bytes: 256 << 10,
            capacity_bytes: Some(64 << 20),
            staging_elsewhere: false,
            staging_bytes_max: STAGING_BYTES_MAX,
            memory_bytes_max: 1 << 20,
            memory_body_bytes_max: 16 << 10,
            index_bytes_max: 1 << 20,
            body_bytes_max: 128 << 10,
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
            listen: listen(PEER_PORT),
            peers: addrs.iter().map(|ip| SocketAddr::new(*ip, PEER_PORT).to_string()).collect(),
            region: "here".to_owned(),
            peer_wait: PEER_WAIT,
            pass_timeout: Duration::from_secs(1800),
            read_through: Duration::ZERO,
            bandwidth_bytes_per_second: 512 << 20,
            limits: kura_core::limits::PeerLimits::OURS,
            primary: kura_node::config::PrimaryConfig::NOBODY_ASKED,
        }),
        drain_timeout: Duration::from_secs(30),
    }
}
