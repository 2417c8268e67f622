//! One node under test: its host, its disk, and the life it is in.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use fault_injection::{Fault, What};
use futures_util::future::{Either, select};
use kura_core::{
    capacity::capacity,
    ledger::Ledger,
    place::{Place, place_key},
    record::SegmentId,
    summary::{Item, Span},
    tombstones::Tombstones,
};
use kura_env::{Env, Instant, Net};
use kura_node::{
    config::{Durability, NodeConfig, PeerConfig, StoreConfig, SurfaceConfig},
    metrics::Metrics,
    node::{Ended, Node},
    service::{Service, State},
    store::KEYSPACES,
};
use parking_lot::Mutex;
use sim_engine::{NodeId, Power, World};
use sim_storage::{
    Crash, CrashReport, Effect, EffectVerdict, SimCatalog, SimCatalogConfig, SimDisk, SimDiskConfig,
};

use tokio::sync::oneshot;

use super::{
    decay,
    dials::{Dials, OnAnswer, Sight},
    evil::EvilNet,
    faults::{Crowded, Fallen, Signals, Watch, Weather, crash_of},
    losses::{self, Losses},
    marks::Marked,
    mesh::Mesh,
    snapshot::Snapshot,
    spoil::{SpoiltDisk, Wounds},
    turns::Turns,
};
use crate::{
    court::Court,
    draw::Draw,
    history::NodeIndex,
    holdings::{self, Holdings},
    image::{Image, TOMBSTONES},
    invariants::{Violation, disk_ceiling::Ceiling, ledger_equals_disk},
    scenario::{CatalogFate, DiskSpec, EvilHow, NodeSpec, Scenario},
};

/// How long a supervisor waits before it starts a process again that ended by itself.
const RESPAWN: Duration = Duration::from_secs(1);
/// The public port of every node.
const PORT: u16 = 4000;
/// Where the peers of every node reach it.
pub(super) const PEER_PORT: u16 = 7000;

/// One node under test.
pub(super) struct Machine {
    pub(super) name: String,
    pub(super) index: NodeIndex,
    pub(super) addr: SocketAddr,
    pub(super) peer_addr: SocketAddr,
    pub(super) host: NodeId,
    pub(super) disk: SimDisk,
    /// What cannot be read whole on its disk.
    pub(super) wounds: Wounds,
    /// What its rings take in and lose.
    pub(super) turns: Arc<Turns>,
    losses: Mutex<Losses>,
    /// The last image that was taken of its disk.
    snapshot: Mutex<Option<Snapshot>>,
    mesh: Option<Arc<Mesh>>,
    /// How it lies to its peers, if it does.
    evil: Mutex<Option<EvilHow>>,
    /// When it was honest again last.
    honest_since: Mutex<Option<Instant>>,
    seed: u64,
    /// The node of the life it is in; the last one's while there is none.
    service: Mutex<Option<Service>>,
    /// What that node has counted.
    metrics: Mutex<Option<Arc<Metrics>>>,
    /// Has the process of this life drain and end.
    stop: Mutex<Option<oneshot::Sender<()>>>,
    config: NodeConfig,
    /// Whether its device says that it keeps what it does not.
    pub(super) syncs_lie: bool,
    weather: Arc<Weather>,
    signals: Arc<Mutex<Signals>>,
    catalog: Mutex<Option<Arc<SimCatalog>>>,
    /// What it held when its last life ended: the catalog of a new one is empty until it is opened.
    held_before: Mutex<Holdings>,
    /// Counts the lives. A restart that was meant to follow one life does nothing after the next.
    lives: Mutex<u64>,
    /// When the last one began.
    born: Mutex<Instant>,
    /// Why the process last ended by itself; empty if it never did.
    last_words: Mutex<String>,
    court: Court,
    world: World,
}

/// What a machine is made of.
pub(super) struct Blueprint<'a> {
    pub(super) weather: &'a Arc<Weather>,
    pub(super) mesh: Option<&'a Arc<Mesh>>,
    pub(super) peers: Option<PeerConfig>,
    pub(super) name: &'a str,
    pub(super) index: NodeIndex,
    pub(super) host: NodeId,
    pub(super) scenario: &'a Scenario,
    pub(super) seed: u64,
}

impl Machine {
    /// The machine, with its disk as an earlier life left it, switched off.
    pub(super) fn new(world: &World, court: &Court, blueprint: &Blueprint<'_>) -> Arc<Self> {
        let Blueprint { weather, name, index, host, scenario, seed, .. } = *blueprint;
        let (spec, node) = (&scenario.disk, &scenario.node.of(name));
        let disk = SimDisk::new(disk_config(spec, name, seed), world.clock(host));
        let addr = SocketAddr::new(world.addr(host), PORT);
        let wounds = Wounds::default();
        let machine = Arc::new(Self {
            name: name.to_owned(),
            index,
            addr,
            peer_addr: SocketAddr::new(world.addr(host), PEER_PORT),
            host,
            disk,
            turns: Arc::new(Turns::new(scenario, name, wounds.clone())),
            wounds,
            losses: Mutex::default(),
            snapshot: Mutex::default(),
            mesh: blueprint.mesh.cloned(),
            evil: Mutex::new(None),
            honest_since: Mutex::new(None),
            seed,
            service: Mutex::new(None),
            metrics: Mutex::new(None),
            stop: Mutex::new(None),
            config: NodeConfig { peers: blueprint.peers.clone(), ..node_config(node, addr) },
            syncs_lie: spec.pressure.lying_sync_millionths > 0,
            weather: weather.clone(),
            signals: Arc::default(),
            catalog: Mutex::new(None),
            held_before: Mutex::default(),
            lives: Mutex::new(0),
            born: Mutex::default(),
            last_words: Mutex::default(),
            court: court.clone(),
            world: world.clone(),
        });
        machine.plant_stale_staging(spec);
        machine.watch();
        machine
    }

    fn plant_stale_staging(&self, spec: &DiskSpec) {
        let each = spec.stale_staging_bytes / spec.stale_files;
        if each == 0 {
            return;
        }
        let bytes = Bytes::from(vec![0x5a; usize::try_from(each).unwrap_or(0)]);
        for number in 0..spec.stale_files {
            // A disk too small for them all is as full as it gets, which is the point.
            if self.disk.plant(&format!("tmp/{number:016x}.part"), &bytes).is_err() {
                break;
            }
        }
    }

    fn watch(self: &Arc<Self>) {
        let world = self.world.clone();
        let name = self.name.clone();
        let (keeper, turner) = (self.clone(), self.clone());
        self.disk.set_effect_hook(Box::new(Watch {
            node: self.name.clone(),
            weather: self.weather.clone(),
            signals: self.signals.clone(),
            court: self.court.clone(),
            clock: self.world.clock(self.host),
            disk: self.disk.clone(),
            staging_bytes_max: self.config.store.staging_bytes_max,
            ceiling: self.ceiling(),
            note: Box::new(move |text| world.note(&name, text)),
            on_unlink: Box::new(move |path| keeper.remember(path.as_str())),
            on_effect: Box::new(move |effect| turner.see(effect)),
            swept: None,
            crowded: Crowded::default(),
        }));
        let machine = self.clone();
        self.disk.set_on_crash(Box::new(move |report: &CrashReport| {
            let fallen = machine.signals.lock().fallen.take();
            machine.fall(report.crash, fallen);
        }));
    }

    /// What it may hold, on a disk that is large enough for a node.
    fn ceiling(&self) -> Option<Ceiling> {
        let StoreConfig { capacity_bytes, segment_bytes, staging_bytes_max, .. } =
            self.config.store;
        let disk_bytes = self.disk.space().total_bytes;
        let capacity = capacity(capacity_bytes, disk_bytes, segment_bytes).ok()?;
        Some(Ceiling::new(&capacity, staging_bytes_max))
    }

    /// What its ledger says, and what its disk holds; `None` while it has no store.
    pub(super) fn books(&self) -> Option<(Ledger, Ledger)> {
        let ledger = self.service.lock().clone()?.ledger()?;
        let walk = self.disk.walk();
        let files = walk.iter().map(|file| (file.path.as_str(), file.allocated_bytes));
        Some((ledger, ledger_equals_disk::walked(files, self.disk.open_unlinked_bytes())))
    }

    /// A range over which its sums are not those of these items; `None` also while it has no store.
    pub(super) fn wrong_sum(&self, items: &[(Item, SegmentId)]) -> Option<Span> {
        self.service.lock().clone()?.wrong_sum(items)
    }

    /// How many reads of this life met something spoilt, and how often the node counted such a thing.
    pub(super) fn damage(&self) -> (u64, u64) {
        let metrics = self.metrics.lock();
        let told = metrics.as_ref().map_or(0, |metrics| {
            let store = &metrics.store;
            let counters = [
                &store.damaged_reads,
                &store.wrong_places,
                &store.unreadable_reads,
                &store.recovered_damaged,
                &store.recovered_gaps,
                // The last header of a log, spoilt, cannot be told from one that a crash tore.
                &store.recovered_torn_tails,
                &store.recovered_read_errors,
                &store.recovered_unreadable,
            ];
            counters.iter().map(|counter| counter.get()).sum()
        });
        (self.wounds.met(), told)
    }

    /// How many rows its feed may have.
    pub(super) fn feed_rows_max(&self) -> u64 {
        self.config.store.feed_rows_max
    }

    /// Rows of the largest batch that it handed to its catalog in this life.
    pub(super) fn largest_batch(&self) -> usize {
        self.catalog.lock().as_ref().map_or(0, |catalog| catalog.largest_batch())
    }

    /// Ends what ties the machine, its disk and the world together.
    pub(super) fn retire(&self) {
        self.disk.set_effect_hook(Box::new(|_: &_| EffectVerdict::Go));
        self.disk.set_on_crash(Box::new(|_| ()));
        *self.service.lock() = None;
    }

    /// Is killed, and stays dead until somebody starts it.
    pub(super) fn kill(self: &Arc<Self>) {
        self.tell("is killed".to_owned());
        // Whoever meant to start it again after an earlier crash does not.
        *self.lives.lock() += 1;
        self.disk.crash(Crash::Sigkill);
        self.world.kill(self.host);
    }

    /// Is killed, stays dead until somebody starts it, and comes back with an empty disk.
    pub(super) fn wipe(self: &Arc<Self>) {
        if self.life() > 0 {
            self.kill();
        }
        for file in self.disk.walk() {
            // What was just listed is there.
            self.disk.lose(file.path.as_str()).ok();
        }
        self.wounds.clear();
        *self.losses.lock() = Losses::default();
        *self.catalog.lock() = None;
        *self.held_before.lock() = Holdings::new();
        self.court.evidence().history.voids(self.index, self.world.now());
        self.tell("loses everything on its disk".to_owned());
    }

    /// An image of its disk is taken, as of a file system that is frozen for that moment.
    pub(super) fn take_image(&self) {
        let snapshot = Snapshot::of(&self.disk, self.holdings(), self.world.now());
        self.tell(format!("an image of its disk is taken: {snapshot}"));
        *self.snapshot.lock() = Some(snapshot);
    }

    /// Is killed, stays dead until somebody starts it, and comes back with its disk as it was when the last image was
    /// taken. What was acknowledged since is owed to nobody there, and may come back from its peers.
    pub(super) fn put_image_back(self: &Arc<Self>) {
        if self.life() > 0 {
            self.kill();
        }
        let Some(snapshot) = self.snapshot.lock().clone() else { return };
        let done = snapshot.put_back(&self.disk);
        let violated = |error| Violation {
            invariant: "phase.restore",
            reason: format!("an image could not be put back on {}: {error:?}", self.name),
        };
        let now = self.world.now();
        self.court.evidence().judge(now, done.map_err(violated));
        self.wounds.clear();
        *self.catalog.lock() = None;
        *self.held_before.lock() = snapshot.held().clone();
        self.court.evidence().history.takes_back(self.index, snapshot.at(), now);
        self.tell(format!("its disk is again as it was: {snapshot}"));
    }

    /// Its process is replaced by one that lies to its peers, or by one that does not.
    pub(super) fn turn(self: &Arc<Self>, evil: Option<EvilHow>) {
        if self.life() > 0 {
            self.kill();
        }
        let lied = std::mem::replace(&mut *self.evil.lock(), evil).is_some();
        if lied {
            *self.honest_since.lock() = Some(self.world.now());
        }
        self.tell(evil.map_or("is honest again".to_owned(), |how| format!("turns evil: {how:?}")));
        self.start();
    }

    /// Whether it lied to its peers at any time since.
    pub(super) fn lied_since(&self, then: Instant) -> bool {
        self.evil.lock().is_some() || self.honest_since.lock().is_some_and(|at| at >= then)
    }

    /// The network of a life in which it lies to its peers.
    fn with_lies(&self, env: &Env, mesh: &Arc<Mesh>, how: EvilHow) -> Arc<dyn Net> {
        let (name, life) = (&self.name, self.starts());
        Arc::new(EvilNet {
            net: env.net.clone(),
            tasks: env.tasks.clone(),
            clock: env.clock.clone(),
            addr: self.peer_addr,
            how,
            names: mesh.names_held(),
            draw: Mutex::new(Draw::named(self.seed, &format!("evil.{name}.{life}"))),
        })
    }

    /// What it keeps of deletes; `None` if that cannot be read.
    pub(super) fn tombstones(&self) -> Option<Tombstones> {
        match self.disk.peek(TOMBSTONES) {
            Some(bytes) => Tombstones::decode(&bytes).ok(),
            None => Some(Tombstones::default()),
        }
    }

    /// Crashes, by the clock alone.
    pub(super) fn crash(self: &Arc<Self>, fault: &Fault) {
        let What::Crash { kind, .. } = fault.what else { return };
        self.tell(fault.to_string());
        let crash = crash_of(kind);
        let fallen = self.weather.fallen(fault.id, self.disk.effect_count());
        self.disk.crash(crash);
        self.fall(crash, Some(fallen));
    }

    /// Crashes if it is alive, and comes back after a while.
    pub(super) fn crash_and_return(self: &Arc<Self>, crash: Crash, down_for: Duration) {
        if self.life() == 0 {
            return;
        }
        self.tell(format!("crashes: {crash:?}"));
        self.disk.crash(crash);
        self.fall(crash, Some(Fallen::for_a_while(down_for)));
    }

    /// How often it was started.
    pub(super) fn starts(&self) -> u64 {
        *self.lives.lock()
    }

    /// Has an effect judged before it is done to its disk.
    fn see(&self, effect: &Effect) {
        let (now, errors) = (self.world.now(), self.weather.disk_errors());
        if let Some(sequence) = self.turns.evicted_object(effect) {
            if self.disk.foreign_bytes() > 0 {
                // It made room for others; otherwise its size tells whether there was room for it.
                self.remember(effect.change.path.as_str());
            }
            let mut evidence = self.court.evidence();
            losses::records(&self.disk, effect.change.path.as_str(), |artifact| {
                if let Some(path) = holdings::path(&place_key(&artifact.address)) {
                    let last = evidence.evicted_objects.entry((self.index, path)).or_default();
                    *last = sequence.max(*last);
                }
            });
        }
        let verdict = self.turns.before(&self.name, (effect, &self.disk), now, errors);
        if verdict.is_err() {
            self.court.evidence().judge(now, verdict);
        }
    }

    /// The node dies; what its disk keeps is decided already.
    fn fall(self: &Arc<Self>, crash: Crash, fallen: Option<Fallen>) {
        match crash {
            Crash::Sigkill => self.world.kill(self.host),
            Crash::PowerLoss { .. } => {
                let mut evidence = self.court.evidence();
                evidence.lost_power.insert(self.index);
                if self.syncs_lie {
                    evidence.history.voids(self.index, self.world.now());
                }
                drop(evidence);
                self.world.kill_silent(self.host);
            }
        }
        let Some(Fallen { down_for, again, catalog }) = fallen else { return };
        self.signals.lock().again = again;
        if catalog != CatalogFate::Kept {
            let machine = self.clone();
            // Not from within: the crash is still being worked out.
            self.world.schedule(self.world.now(), move |_| machine.let_decay(catalog));
        }
        self.restart_after(down_for);
    }

    /// Its catalog meets its fate, while it is down.
    fn let_decay(&self, fate: CatalogFate) {
        if self.world.power(self.host) == Power::Up {
            return;
        }
        let what = decay::catalog(&self.disk, fate);
        self.tell(format!("its catalog is {fate:?}: {what}"));
        self.weather.decayed(fate);
    }

    /// Starts it after a while, unless somebody else does so before.
    fn restart_after(self: &Arc<Self>, down_for: Duration) {
        let (machine, life) = (self.clone(), *self.lives.lock());
        self.world.schedule(self.world.now() + down_for, move |_| {
            if *machine.lives.lock() == life {
                machine.start();
            }
        });
    }

    /// Begins a life, unless one is under way.
    pub(super) fn start(self: &Arc<Self>) {
        let is_first = self.catalog.lock().is_none();
        if !is_first && self.world.power(self.host) == Power::Up {
            return;
        }
        *self.lives.lock() += 1;
        *self.born.lock() = self.world.now();
        *self.service.lock() = None;
        *self.metrics.lock() = None;
        self.wounds.begin_life();
        self.tell_of_life();
        self.world.start(self.host);
        self.tell("starts".to_owned());
        let disk = self.disk.attach();
        let clock = self.world.clock(self.host);
        let spaces = KEYSPACES;
        let catalog =
            SimCatalog::new(disk.clone(), clock.clone(), &spaces, SimCatalogConfig::default());
        let catalog = Arc::new(catalog);
        let held = self.holdings();
        *self.held_before.lock() = held;
        *self.catalog.lock() = Some(catalog.clone());
        let env = Env {
            clock,
            net: self.world.net(self.host),
            disk,
            catalog,
            entropy: self.world.entropy(self.host),
            tasks: self.world.tasks(self.host),
        };
        let env = self.with_peers(self.weather.over(env, &self.name));
        let machine = self.clone();
        let config = self.config.clone();
        let (stop, stopping) = oneshot::channel();
        *self.stop.lock() = Some(stop);
        self.world.launch(self.host, "process", async move {
            let why = match Node::start(env, config, "kura-sim").await {
                Ok(node) => {
                    *machine.service.lock() = Some(node.service().clone());
                    *machine.metrics.lock() = Some(node.metrics().clone());
                    // As `kura serve` waits for a signal.
                    let Some(failed) = until_stopped(&node, stopping).await else {
                        node.drain().await;
                        return machine.end();
                    };
                    format!("{failed:?}")
                }
                Err(error) => error.to_string(),
            };
            machine.respawn(&why);
        });
    }

    /// Has clients go by what its new life begins with.
    fn tell_of_life(&self) {
        let (tombstones, now) = (self.tombstones().unwrap_or_default(), self.world.now());
        let mut evidence = self.court.evidence();
        evidence.history.deletes.begin_life(self.index, now);
        evidence.history.deletes.hears(self.index, &tombstones, now);
    }

    /// Is told to stop, as by SIGTERM: drains, and ends. Nobody starts it again by itself.
    pub(super) fn stop(&self) {
        self.tell("is told to stop".to_owned());
        if let Some(stop) = self.stop.lock().take() {
            // An error means that it ended by itself.
            stop.send(()).ok();
        }
    }

    /// The process was drained and ends.
    fn end(self: &Arc<Self>) {
        self.tell("has stopped".to_owned());
        let (machine, life) = (self.clone(), *self.lives.lock());
        // Not from within: the process that ends is still on the stack.
        self.world.schedule(self.world.now(), move |world| {
            if *machine.lives.lock() == life {
                // What ends a process takes nothing from the disk but its handles.
                machine.disk.crash(Crash::Sigkill);
                world.kill(machine.host);
            }
        });
    }

    /// What the node says of itself; null while there is none.
    pub(super) fn status(&self) -> serde_json::Value {
        self.service.lock().clone().map_or(serde_json::Value::Null, |service| service.status())
    }

    /// The world of a node of a mesh: it is watched until it is ready, its connections to peers are
    /// counted, and some of its disk may be spoilt.
    fn with_peers(&self, env: Env) -> Env {
        let Some(mesh) = &self.mesh else { return env };
        self.world.launch(self.host, "watch of readiness", mesh.clone().watch(self.index.0));
        let (hears, at) = (mesh.clone(), self.index.0);
        let on_answer: OnAnswer =
            Box::new(move |addr, answered| hears.answered(at, addr, answered));
        let sight = mesh.watches_passes().then(|| {
            let mesh = mesh.clone();
            Sight::new(Box::new(move |peer, point| mesh.passes(at, peer, point)))
        });
        let court = (self.court.clone(), &*self.name);
        let heard = (on_answer, sight.clone());
        let evil = *self.evil.lock();
        let net = evil.map_or_else(|| env.net.clone(), |how| self.with_lies(&env, mesh, how));
        let dials = Dials::new(net, env.clock.clone(), court, heard);
        let disk = SpoiltDisk::new(env.disk, self.wounds.clone());
        let catalog = match sight {
            Some(sight) => {
                Arc::new(Marked { catalog: env.catalog, clock: env.clock.clone(), sight })
            }
            None => env.catalog,
        };
        Env { net: Arc::new(dials), disk: Arc::new(disk), catalog, ..env }
    }

    /// The artifacts that were spoilt on its disk; `None` of a node without peers.
    pub(super) fn spoilt(&self) -> Option<BTreeSet<Bytes>> {
        self.mesh.as_ref().map(|mesh| mesh.spoilt(self.index.0))
    }

    /// Whether the disk refused to sync an object or segment, and lost power once: what is read of it in between may
    /// never have reached the disk.
    pub(super) fn lost_unsynced(&self, id: SegmentId) -> bool {
        let evidence = self.court.evidence();
        let file = (self.name.clone(), Image::segment_path(id));
        evidence.lost_power.contains(&self.index) && evidence.unsynced.contains(&file)
    }

    /// Whether something of an object or segment is spoilt.
    pub(super) fn fails_at(&self, id: SegmentId) -> bool {
        self.wounds.meet(&Image::segment_path(id), (0, u64::MAX))
    }

    /// In which of its lives it is, counted from 1; 0 while it is dead.
    pub(super) fn life(&self) -> u64 {
        if self.world.power(self.host) == Power::Up { *self.lives.lock() } else { 0 }
    }

    /// Where in its life the node is; `None` while it is dead.
    pub(super) fn state(&self) -> Option<State> {
        let alive = self.life() > 0;
        let service = self.service.lock().clone().filter(|_| alive);
        service.map(|service| service.readiness().state)
    }

    /// In which of its lives it is, while it can take a put.
    pub(super) fn open_life(&self) -> Option<u64> {
        match self.state()? {
            State::Joining | State::Serving => Some(self.life()),
            State::Starting | State::Recovering | State::Draining | State::Failed => None,
        }
    }

    /// Whether it says that it is primary; `None` while it does not serve.
    pub(super) fn is_primary(&self) -> Option<bool> {
        self.open_life()?;
        self.service.lock().as_ref().map(|service| service.primacy().is_primary)
    }

    /// Why it is not ready; `None` if it is.
    pub(super) fn unready(&self) -> Option<String> {
        let alive = self.life() > 0;
        match self.service.lock().clone().filter(|_| alive) {
            None => Some(format!("{} is dead", self.name)),
            Some(service) => {
                let readiness = service.readiness();
                let why = readiness.reasons.join(", ");
                (!readiness.ready).then(|| format!("{} is not ready: {why}", self.name))
            }
        }
    }

    /// The number that it goes by, while it says so.
    pub(super) fn node(&self) -> Option<u64> {
        u64::from_str_radix(self.cluster()["self"]["node"].as_str()?, 16).ok()
    }

    /// What it says of its peers.
    pub(super) fn cluster(&self) -> serde_json::Value {
        self.service.lock().clone().map_or(serde_json::Value::Null, |service| service.cluster())
    }

    /// What it holds, by its catalog; until that is open, what it held before.
    pub(super) fn holdings(&self) -> Holdings {
        let catalog = self.catalog.lock().clone();
        let rows = catalog.map(|catalog| catalog.peek_rows(KEYSPACES[0])).unwrap_or_default();
        if rows.is_empty() && self.open_life().is_none() {
            return self.held_before.lock().clone();
        }
        holdings::of_rows(&rows)
    }

    /// What of its holdings can be read whole.
    pub(super) fn sound_holdings(&self) -> Holdings {
        let mut holds = self.holdings();
        let Some(catalog) = self.catalog.lock().clone() else { return holds };
        for (key, row) in catalog.peek_rows(KEYSPACES[0]) {
            let Some(place) = Place::decode(&row) else { continue };
            let range = (place.offset, place.offset + place.record_bytes());
            if self.wounds.meet(&Image::segment_path(place.segment), range) {
                holds.remove(&key);
            }
        }
        holds
    }

    /// The process ended by itself: its supervisor starts it again.
    fn respawn(self: &Arc<Self>, why: &str) {
        self.tell(format!("gave up: {why}"));
        why.clone_into(&mut self.last_words.lock());
        let (machine, life) = (self.clone(), *self.lives.lock());
        // Not from within: the process that ends is still on the stack.
        self.world.schedule(self.world.now(), move |world| {
            if *machine.lives.lock() == life {
                machine.disk.crash(Crash::Sigkill);
                world.kill(machine.host);
                machine.restart_after(RESPAWN);
            }
        });
    }

    /// Why the process last ended by itself; empty if it never did.
    pub(super) fn last_words(&self) -> String {
        self.last_words.lock().clone()
    }

    fn tell(&self, what: String) {
        self.court.evidence().tell(self.world.now(), format!("{}: {what}", self.name));
    }

    /// Keeps in mind what lies in a segment that is about to go.
    fn remember(&self, path: &str) {
        if self.mesh.is_some() {
            self.losses.lock().remember(&self.disk, path, self.world.now());
        }
    }

    /// The files on its disk, with their lengths in bytes.
    fn files(&self) -> BTreeMap<String, u64> {
        let files = self.disk.walk().into_iter();
        files.map(|file| (file.path.as_str().to_owned(), file.len_bytes)).collect()
    }

    fn peek(&self, path: &str, offset: u64, len: usize) -> Bytes {
        let len = u64::try_from(len).unwrap_or(u64::MAX);
        self.disk.peek_at(path, offset, len).unwrap_or_default()
    }

    /// What it has evicted.
    pub(super) fn losses(&self) -> Losses {
        let losses = self.losses.lock().clone();
        losses.with_doomed(&self.disk, self.world.now())
    }

    /// When its life began; if it is dead, the last one.
    pub(super) fn born(&self) -> Instant {
        *self.born.lock()
    }

    /// How many of its connections to a peer, and of those that the peer took in, were struck.
    pub(super) fn connections_struck(&self, peer: &Self) -> u64 {
        let addr = peer.peer_addr;
        self.weather.connections_struck(&self.name, &format!("connect {addr}"))
            + self.weather.connections_struck(&peer.name, &format!("accept {addr}"))
    }

    /// What lies on its disk and in its catalog now.
    pub(super) fn image(&self) -> Image<'_> {
        let rows = |position: usize| {
            let catalog = self.catalog.lock().clone();
            catalog.map(|catalog| catalog.peek_rows(KEYSPACES[position])).unwrap_or_default()
        };
        Image {
            files: self.files(),
            places: rows(0),
            contents: rows(1),
            feed: rows(2),
            versions: rows(5),
            read: Box::new(|path, offset, len| self.peek(path, offset, len)),
        }
    }
}

/// How a node failed; `None` if it was told to stop before that.
async fn until_stopped(node: &Node, stopping: oneshot::Receiver<()>) -> Option<Arc<Ended>> {
    let failing = pin!(node.failed());
    match select(failing, stopping).await {
        Either::Left((failed, _)) => Some(failed),
        Either::Right((Ok(()), _)) => None,
        // Nobody is left who could tell it to stop.
        Either::Right((Err(_), failing)) => Some(failing.await),
    }
}

fn disk_config(spec: &DiskSpec, name: &str, seed: u64) -> SimDiskConfig {
    SimDiskConfig {
        capacity_bytes: spec.capacity_bytes,
        read_bytes_per_second: spec.read_bytes_per_second,
        write_bytes_per_second: spec.write_bytes_per_second,
        op_latency: spec.call_time,
        sync_latency: spec.sync_time,
        seed: Draw::named(seed, &format!("disk.{name}")).next_u64(),
        ..spec.pressure.config()
    }
}

fn node_config(spec: &NodeSpec, listen: SocketAddr) -> NodeConfig {
    NodeConfig {
        listen,
        store: StoreConfig {
            segment_bytes: spec.segment_bytes,
            capacity_bytes: spec.capacity_bytes,
            staging_elsewhere: false,
            staging_bytes_max: spec.staging_bytes_max,
            memory_bytes_max: spec.memory_bytes_max,
            memory_body_bytes_max: spec.memory_body_bytes_max,
            index_bytes_max: spec.index_bytes_max,
            body_bytes_max: spec.body_bytes_max,
            promise: spec.promise,
            write_grace: spec.write_grace,
            scrub_every: spec.scrub_every,
            feed_rows_max: spec.feed_rows_max,
            scrub_bytes_per_second: spec.scrub_bytes_per_second,
            durability: if spec.survives_power_loss {
                Durability::PowerLoss
            } else {
                Durability::ProcessCrash
            },
        },
        surface: SurfaceConfig {
            idle_timeout: spec.idle_timeout,
            header_timeout: spec.header_timeout,
            connections_max: spec.connections_max,
            drain_body_bytes_max: spec.drain_body_bytes_max,
            retry_after: spec.retry_after,
            date_header: false,
        },
        peers: None,
        drain_timeout: spec.drain_timeout,
    }
}
