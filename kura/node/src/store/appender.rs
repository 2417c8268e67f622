//! The appender: the one task that writes segments, the ring and the catalog.
//!
//! Whoever waits is taken together. `routing` says where each record goes: to one of the segments
//! that are open for appends, or to the pool. For each of those places, all its records together:
//!
//! 1. append the records, turning the ring first where there is no room
//! 2. sync the segment (unless only the death of the process is to be survived)
//! 3. index: rows and watermarks, in one batch, not synced
//! 4. answer
//!
//! So a sync serves as many writers as came while the last one ran. After a failed append or sync
//! nobody knows what the segment holds behind its last good record: it gets no more appends, is
//! never synced again, and its writers are refused.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::future::join;
use kura_core::{
    address::{Address, Space},
    capacity::{Capacity, RingCapacity},
    digest::Digest,
    feed::supersedes,
    hlc::Hlc,
    place::{Place, place_key},
    recency::Recency,
    record::{Area, Flow, SegmentId, Version},
    ring::{AfterRead, Member, Ring},
};
use kura_env::{Batch, CatalogHealth, DiskError, EntropyStream, Env, File, Instant};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::{
    COMMANDS_MAX, PLACES_SPACE, SharedWithReaders,
    command::{Command, Origin, Publish, refuse},
    deletes::{Deletes, Purger},
    eviction::{Debt, eviction_steps},
    feed::Feed,
    grace::{Graces, SteadyWall},
    index::{Index, Look, Name},
    ledger::Books,
    losses::Losses,
    owners::Owners,
    peers::{Head, in_time},
    pledges::Pledges,
    pool::fresh_at_start,
    recovery::Recovered,
    refresh::Orders,
    rotation::promise_rules,
    routing::Route,
    segments::{Segment, View},
    space::{Rounds, Volume},
    staging::Staging,
    stamp::{STAMP, Stamps},
    versions::{Known, Sums},
};
use crate::{
    config::{Durability, StoreConfig},
    device::Device,
    metrics::Metrics,
    service::Refusal,
};

/// Writers that one sync serves at the most. Higher only makes the first of them wait longer.
const GROUP_RECORDS_MAX: usize = 1024;
/// Bytes of bodies that one sync covers at the most, unless a single body is larger.
const GROUP_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// How long writes rest after the device failed, so that a broken disk does not turn the ring.
pub(super) const FAILURE_REST: Duration = Duration::from_secs(5);

/// A segment that takes appends.
pub(super) struct Active {
    pub(super) segment: Arc<Segment>,
    pub(super) file: Arc<dyn File>,
    /// Where the next record starts; the length of the file.
    pub(super) end: u64,
}

/// What is appended to together: one flow of one ring.
#[derive(Default)]
pub(super) struct Log {
    /// None if appends need a new segment.
    pub(super) active: Option<Active>,
    /// A segment of the ring that has no file yet: opening it failed.
    pub(super) unopened: Option<Member>,
}

/// See the head of this module.
pub(super) struct Appender {
    pub(super) env: Env,
    pub(super) config: StoreConfig,
    pub(super) capacity: Capacity,
    pub(super) metrics: Arc<Metrics>,
    pub(super) view: Arc<View>,
    /// The ring as it was last saved.
    pub(super) ring: Ring,
    /// What can be appended to.
    pub(super) logs: BTreeMap<(Area, Flow), Log>,
    /// Objects of the pool in the order of their last use, shared with readers.
    pub(super) pool: Arc<Mutex<Recency<SegmentId>>>,
    /// Objects of the pool that clients wrote lately, and when, by `wall`. Those whose
    /// grace is over go when the next one comes, so there are as many as the pool holds at most.
    pub(super) fresh: VecDeque<(SegmentId, u64)>,
    /// Which object of the pool each name leads to.
    pub(super) owners: Owners,
    /// Objects whose names lead elsewhere, by rows of which some may wait among `unindexed`. They go
    /// once those are in the catalog.
    pub(super) superseded: Vec<SegmentId>,
    /// Directories of the pool that are there for sure.
    pub(super) pool_dirs: BTreeSet<String>,
    /// The clock of promises and graces.
    pub(super) wall: SteadyWall,
    /// When clients wrote to each segment last.
    pub(super) graces: Graces,
    /// Artifacts in the old part that are promised, and until when.
    pub(super) pledges: Pledges,
    pub(super) stamps: Stamps,
    /// Where copies are asked for.
    pub(super) orders: Arc<Orders>,
    /// What bodies in flight may take.
    pub(super) staging: Arc<Staging>,
    pub(super) index: Arc<Index>,
    pub(super) sums: Arc<Sums>,
    pub(super) deletes: Arc<Deletes>,
    pub(super) purger: Purger,
    pub(super) losses: Arc<Losses>,
    pub(super) device: Arc<Device>,
    /// What the store holds of its volume.
    pub(super) books: Arc<Books>,
    /// What the volume has left.
    pub(super) volume: Arc<Volume>,
    /// When that is looked at next.
    pub(super) rounds: Rounds,
    /// Hybrid logical time at the start: what is older, and not here, is caught up with.
    pub(super) born: u64,
    /// Segments outside of the ring whose rows and files are still there.
    pub(super) debts: VecDeque<Debt>,
    /// Clearing up failed; it is not tried again before this.
    pub(super) eviction_rests_until: Instant,
    pub(super) nonces: Box<dyn EntropyStream>,
    pub(super) next_sequence: u64,
    pub(super) node: u64,
    pub(super) hlc: Hlc,
    /// Rows of durable records that the catalog refused. They go first, before any new one.
    pub(super) unindexed: Batch,
    pub(super) feed: Arc<Feed>,
    /// One above the last row of the feed that followers may see.
    pub(super) head: Arc<Head>,
    rest: Option<Rest>,
    /// When to look whether the catalog is open.
    catalog_due: Instant,
    /// It does not open any more: only a start makes it again.
    pub(super) catalog_is_lost: AtomicBool,
    /// The error of an append that found the disk full although nothing had said so before: space
    /// is made before the ring turns.
    pub(super) ran_full: Option<DiskError>,
}

/// Writes rest after a failure.
struct Rest {
    until: Instant,
    refusal: Option<Refusal>,
}

/// What the appender does next.
enum Next {
    Command(Command),
    /// Clears up behind the ring, or looks at the volume, whichever is due.
    Tend,
    End,
}

impl Appender {
    pub(super) fn new(
        env: Env,
        config: StoreConfig,
        recovered: Recovered,
        metrics: Arc<Metrics>,
        shared: SharedWithReaders,
    ) -> Self {
        let nonces = env.entropy.stream("segment nonces");
        let hlc = Hlc(recovered.ring.hlc()).witness(recovered.hlc_seen);
        let hlc = hlc.witness(shared.deletes.known().latest_time());
        let head = shared.head;
        let tombstones = shared.deletes.known().len();
        metrics.store.tombstones.set(i64::try_from(tombstones).unwrap_or(i64::MAX));
        let now_ms = recovered.wall.now_ms(env.clock.now());
        let fresh = fresh_at_start(&shared.pool.lock(), now_ms, promise_rules(&config));
        Self {
            env: env.clone(),
            config,
            capacity: recovered.capacity,
            metrics,
            view: recovered.view,
            hlc,
            born: hlc.next(env.clock.wall().0).0,
            wall: recovered.wall,
            graces: Graces::read_back(&recovered.ring, now_ms),
            ring: recovered.ring,
            logs: recovered.logs,
            fresh,
            pool: shared.pool,
            index: shared.index,
            sums: shared.sums,
            deletes: shared.deletes,
            purger: Purger::default(),
            losses: shared.losses,
            device: shared.device,
            owners: recovered.owners,
            superseded: Vec::new(),
            pool_dirs: recovered.pool_dirs,
            pledges: recovered.pledges,
            stamps: recovered.stamps,
            orders: shared.orders,
            staging: shared.staging,
            books: recovered.books,
            volume: recovered.volume,
            rounds: Rounds::new(recovered.is_saved),
            debts: recovered.debts.into_iter().map(Debt::of).collect(),
            eviction_rests_until: Instant::default(),
            nonces,
            next_sequence: recovered.next_sequence,
            node: recovered.node,
            unindexed: Batch::default(),
            feed: recovered.feed,
            head,
            rest: None,
            catalog_due: Instant::default(),
            catalog_is_lost: AtomicBool::new(false),
            ran_full: None,
        }
    }

    /// Works until it is told to close, or nobody is left who could tell it anything.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        let mut closing = None;
        while closing.is_none() && !self.catalog_is_lost.load(Relaxed) {
            match self.next(&mut queue).await {
                Next::Command(Command::Publish(publish)) => {
                    let steps;
                    (closing, steps) = self.take_group(publish, &mut queue).await;
                    self.tend(steps).await;
                }
                Next::Command(Command::FindRoom(bytes, reply)) => {
                    self.find_room(bytes, reply).await;
                    self.tend_if_due().await;
                }
                Next::Command(Command::Forget(address, place)) => {
                    self.forget(&address, place).await;
                    self.tend_if_due().await;
                }
                Next::Command(Command::Vouch(artifacts, reply)) => {
                    self.vouch(artifacts, reply).await;
                    self.tend_if_due().await;
                }
                Next::Command(Command::Delete(deletes, _turn, reply)) => {
                    self.delete(deletes, reply).await;
                    self.tend_if_due().await;
                }
                Next::Command(Command::Close(reply)) => closing = Some(reply),
                Next::Tend => self.tend(1).await,
                Next::End => return,
            }
        }
        queue.close();
        if self.env.catalog.health() == CatalogHealth::Open {
            self.stamps.close(&self.env, &self.metrics).await;
        }
        if let Some(reply) = closing {
            // An error means that nobody waits for the close, and it is done all the same.
            reply.send(()).ok();
        }
    }

    /// What to do next: writers first, the rest while nobody waits.
    async fn next(&self, queue: &mut mpsc::Receiver<Command>) -> Next {
        match queue.try_recv() {
            Ok(command) => return Next::Command(command),
            Err(mpsc::error::TryRecvError::Disconnected) => return Next::End,
            Err(mpsc::error::TryRecvError::Empty) => {}
        }
        let due = self.due();
        let command = tokio::select! {
            biased;
            command = queue.recv() => command,
            () = self.env.clock.sleep_until(due) => return Next::Tend,
        };
        command.map_or(Next::End, Next::Command)
    }

    /// Opens a catalog again that is closed since it could not be opened. Writers do that by
    /// themselves; where there are none, reads would fail until one comes. A poisoned one is left to
    /// them: it answers reads, and might not open.
    async fn tend_catalog(&mut self) {
        let now = self.env.clock.now();
        if now < self.catalog_due {
            return;
        }
        match self.env.catalog.health() {
            CatalogHealth::Closed => match self.reopen_catalog().await {
                Ok(()) => tracing::info!("the catalog is open again"),
                Err(error) => tracing::warn!(%error, "the catalog does not open"),
            },
            CatalogHealth::Damaged(cause) => self.condemn_catalog(&cause).await,
            CatalogHealth::Open | CatalogHealth::Poisoned(_) => {}
        }
        self.tend_stamp().await;
        self.catalog_due = self.env.clock.now() + FAILURE_REST;
    }

    /// Stamps the catalog, if that could not be done before, or more was synced since.
    async fn tend_stamp(&mut self) {
        self.stamps.waits_for_ring &= self.rounds.is_unsaved;
        if self.env.catalog.health() == CatalogHealth::Open && !self.stamps.waits_for_ring {
            self.stamps.tend(&self.env, &self.metrics).await;
        }
        if let Some(bytes) = self.stamps.file_bytes() {
            self.books.replaced(STAMP, bytes);
        }
    }

    /// Settles what is in doubt in the sums, and divides what became too large.
    async fn tend_sums(&self) {
        let catalog = &*self.env.catalog;
        if catalog.health() != CatalogHealth::Open {
            return;
        }
        let settled = self.sums.settle(catalog, &self.index).await;
        if let Err(error) = settled.and(self.sums.divide(catalog).await) {
            tracing::warn!(%error, "a leaf of the sums could not be read");
        }
    }

    /// What is due, where nobody writes and others keep coming.
    async fn tend_if_due(&mut self) {
        if self.due() <= self.env.clock.now() {
            self.tend(1).await;
        }
    }

    /// When something is to be done beside the work of others.
    fn due(&self) -> Instant {
        let due = self.look_due().min(self.catalog_due);
        let others = self.eviction_due().into_iter().chain(self.purge_due());
        others.fold(due, Instant::min)
    }

    /// What is due beside the work of others: so many bounded steps of eviction, copies that the ring
    /// waits for, and a look at the volume and the catalog.
    async fn tend(&mut self, steps: u64) {
        self.tend_catalog().await;
        self.tend_sums().await;
        self.evict_some(steps).await;
        self.purge_some().await;
        self.hasten_copies().await;
        self.probe().await;
        self.keep_floor().await;
    }

    async fn find_room(&mut self, bytes: u64, reply: oneshot::Sender<Result<(), Refusal>>) {
        let found = self.free_up(Area::Blobs, bytes).await;
        // Who stopped waiting needs no room.
        reply.send(found).ok();
    }

    /// The hybrid logical time given out last.
    pub(super) fn hlc(&self) -> u64 {
        self.hlc.0
    }

    /// Stores `first` and whatever else waits already. Returns a request to close that was among
    /// what waited, and how many steps of eviction keep up with what was written.
    async fn take_group(
        &mut self,
        first: Box<Publish>,
        queue: &mut mpsc::Receiver<Command>,
    ) -> (Option<oneshot::Sender<()>>, u64) {
        let mut bytes = first.record_bytes();
        let mut group = VecDeque::from([first]);
        let mut closing = None;
        // Others than writers count as well: those who wait already are not kept waiting for who comes.
        for _ in 0..COMMANDS_MAX {
            if group.len() >= GROUP_RECORDS_MAX || bytes >= GROUP_BYTES_MAX || closing.is_some() {
                break;
            }
            match queue.try_recv() {
                Ok(Command::Publish(publish)) => {
                    bytes += publish.record_bytes();
                    group.push_back(publish);
                }
                Ok(Command::Forget(address, place)) => self.forget(&address, place).await,
                Ok(Command::Vouch(artifacts, reply)) => self.vouch(artifacts, reply).await,
                Ok(Command::FindRoom(bytes, reply)) => self.find_room(bytes, reply).await,
                Ok(Command::Delete(deletes, _turn, reply)) => self.delete(deletes, reply).await,
                Ok(Command::Close(reply)) => closing = Some(reply),
                Err(_) => break,
            }
        }
        let steps = eviction_steps(group.len(), bytes);
        self.leave_out_known(&mut group).await;
        let mut is_first = true;
        while !group.is_empty() {
            for (route, routed) in self.route_all(&mut group, is_first).await {
                match route {
                    Route::Log(area, flow) => self.store_all((area, flow), routed).await,
                    Route::Pool => self.store_in_pool(routed).await,
                }
            }
            is_first = false;
        }
        (closing, steps)
    }

    /// Stores records that go to one log, as many together as fit its segment.
    async fn store_all(&mut self, log: (Area, Flow), mut group: VecDeque<Box<Publish>>) {
        while let Some(next) = group.front() {
            let age = match (log.1, next.origin) {
                (Flow::CatchUp, Origin::Peer(version)) => version.time,
                _ => self.hlc.next(self.wall_ms()).0,
            };
            let (is_urgent, record_bytes) = (self.is_urgent(next), next.record_bytes());
            let room = self.make_room(log, record_bytes, age).await;
            let taken = room.map(|room_bytes| self.take_fitting(&mut group, log, room_bytes));
            let refusal = match taken {
                Ok(taken) if !taken.is_empty() => {
                    self.store(log, taken).await;
                    continue;
                }
                // What is left is kept for copies that the ring waits for.
                Ok(_) => Refusal::Promised { for_seconds: 1 },
                Err(refusal) => refusal,
            };
            // Those copies are not turned away together with who waits for them.
            let is_left = |it: &Publish| !is_urgent && self.is_urgent(it);
            let (left, refused) = group.into_iter().partition::<VecDeque<_>, _>(|it| is_left(it));
            refuse(refused.into_iter().map(|publish| publish.reply), &refusal);
            group = left;
        }
    }

    /// Answers for what would change nothing: bodies that would not take the place of what is here,
    /// and bodies under their own digest that were written here and stay for a while.
    async fn leave_out_known(&mut self, group: &mut VecDeque<Box<Publish>>) {
        // What is ahead in this very group counts as if it were here.
        let mut ahead = BTreeMap::new();
        for mut publish in std::mem::take(group) {
            if publish.origin == Origin::Client {
                publish.replaces = match self.replaced(&publish.address).await {
                    Ok(replaced) => replaced,
                    Err(refusal) => {
                        publish.reply.send(Err(refusal)).ok();
                        continue;
                    }
                };
                if let Some(sequence) = self.repeats(&publish) {
                    self.metrics.store.repeated_puts.inc();
                    publish.answer_known(sequence);
                    continue;
                }
                ahead.insert(publish.address.clone(), None);
                group.push_back(publish);
                continue;
            }
            if let Err(refusal) = self.is_in_time(publish.origin) {
                publish.reply.send(Err(refusal)).ok();
                continue;
            }
            let known = match ahead.get(&publish.address) {
                Some(known) => Ok(*known),
                None => self.current(&publish.address).await,
            };
            let is_behind_own = ahead.get(&publish.address) == Some(&None);
            let known = match known {
                Ok(known) => known,
                Err(refusal) => {
                    publish.reply.send(Err(refusal)).ok();
                    continue;
                }
            };
            let is_wanted = match publish.origin {
                Origin::Client => true,
                Origin::Peer(version) => {
                    // A write of our own, also in this group, is later than all that was seen.
                    self.hlc = self.hlc.hear(version.time, self.wall_ms());
                    let known = known.map(|place| (place.version, place.digest));
                    let is_deleted = self.is_deleted(&publish.address, version);
                    !is_deleted && !is_behind_own && supersedes((version, publish.digest), known)
                }
                Origin::Copied { from, .. } => known == Some(from),
            };
            if !is_wanted {
                self.metrics.store.replicas_known.inc();
                publish.answer_known(known.map_or(0, |place| place.sequence));
                continue;
            }
            publish.replaces = known;
            let next = match publish.origin {
                Origin::Peer(version) => Place { version, digest: publish.digest, ..NOWHERE },
                Origin::Client | Origin::Copied { .. } => NOWHERE,
            };
            ahead.insert(publish.address.clone(), Some(next));
            group.push_back(publish);
        }
    }

    /// Whether what came from a peer was deleted meanwhile.
    fn is_deleted(&self, address: &Address, version: Version) -> bool {
        let is_deleted = self.deletes.covers(address, version);
        self.metrics.store.replicas_deleted.inc_by(is_deleted.into());
        is_deleted
    }

    /// Whether what came from a peer is still not too far ahead: the clock may have been set back.
    fn is_in_time(&self, origin: Origin) -> Result<(), Refusal> {
        match origin {
            Origin::Peer(version) => in_time(version, self.wall_ms()),
            Origin::Client | Origin::Copied { .. } => Ok(()),
        }
    }

    /// The sequence of the record that makes this write of our own needless. One that came from a
    /// peer does not: it is not in this node's feed, and whom it came from may be gone.
    fn repeats(&self, publish: &Publish) -> Option<u64> {
        let place = publish.replaces.filter(|_| publish.address.space() == Space::Cas)?;
        let is_own = place.version.node == self.node;
        let is_same = place.digest == publish.digest && place.body_bytes == publish.body_bytes;
        let is_large = place.segment.area() == Area::Pool;
        let stays = is_large || self.ring.after_read(place.segment) == AfterRead::Keep;
        let repeats = is_own && is_same && stays;
        if repeats && is_large {
            // As good as written now.
            self.pool.lock().touch(place.segment, self.wall_ms() << 16);
        }
        repeats.then_some(place.sequence)
    }

    /// Where that lies which a client writes anew, if it matters: where it was vouched for, or a body
    /// under its own digest, which may not have to be written again.
    async fn replaced(&self, address: &Address) -> Result<Option<Place>, Refusal> {
        if address.space() != Space::Cas && !self.has_promises() {
            return Ok(None);
        }
        self.current(address).await
    }

    /// The place of what is here under this name.
    pub(super) async fn current(&self, address: &Address) -> Result<Option<Place>, Refusal> {
        let place = self.place_of(&place_key(address)).await?;
        let is_here = |place: &Place| {
            self.view.segment(place.segment).is_some()
                && !self.deletes.covers(address, place.version)
        };
        Ok(place.filter(is_here))
    }

    /// What the row of a name says, whether or not its segment is still there.
    pub(super) async fn place_of(&self, key: &[u8]) -> Result<Option<Place>, Refusal> {
        if let Look::Found(place) = self.index.look(Name::of(key)) {
            return Ok(Some(place));
        }
        let row = self.env.catalog.get(PLACES_SPACE, key).await;
        Ok(row.map_err(Refusal::Catalog)?.as_deref().and_then(Place::decode))
    }

    /// The wall clock as it stands, for versions.
    pub(super) fn wall_ms(&self) -> u64 {
        self.env.clock.wall().0
    }

    /// The wall clock of promises and graces, in milliseconds.
    pub(super) fn steady_ms(&self) -> u64 {
        self.wall.now_ms(self.env.clock.now())
    }

    pub(super) fn wall_ahead_ms(&self) -> i64 {
        self.wall.wall_ahead_ms(&*self.env.clock)
    }

    /// Whether writes may go on, and what has to go before them.
    pub(super) async fn prepare(&mut self) -> Result<(), Refusal> {
        if let Some(Rest { until, refusal }) = &self.rest {
            let now = self.env.clock.now();
            if now < *until {
                let rest_seconds = until.since(now).as_secs() + 1;
                return Err(refusal.clone().unwrap_or(Refusal::DiskFailed { rest_seconds }));
            }
            self.rest = None;
        }
        while let Err(refusal) = self.index_leftovers().await {
            self.make_space(Area::Blobs, refusal).await?;
        }
        self.keep_out()?;
        self.save_unsaved().await?;
        if self.next_sequence + GROUP_RECORDS_MAX as u64 >= self.ring.sequence_ceiling() {
            self.adopt(self.ring.clone()).await?;
        }
        Ok(())
    }

    /// Makes sure that a record of `record_bytes` fits the open segment of a log; returns the room
    /// there. `age` is the hybrid logical time of the record.
    async fn make_room(
        &mut self,
        log: (Area, Flow),
        record_bytes: u64,
        age: u64,
    ) -> Result<u64, Refusal> {
        self.prepare().await?;
        let segment_bytes = self.ring_capacity(log.0).segment_bytes;
        let room_of = |appender: &Self| {
            let active = appender.logs.get(&log).and_then(|log| log.active.as_ref());
            active.map(|active| segment_bytes.saturating_sub(active.end))
        };
        if let Some(room_bytes) = room_of(self).filter(|room| record_bytes <= *room) {
            return Ok(room_bytes);
        }
        self.rotate(log, age).await.inspect_err(|refusal| {
            self.metrics.store.rotations_failed.inc();
            tracing::warn!(%refusal, "the ring could not be turned");
        })?;
        Ok(room_of(self).unwrap_or(0))
    }

    /// Takes the longest run from the front that fits. The first one fits, and is left out only if it
    /// would take room that is kept for copies.
    fn take_fitting(
        &self,
        group: &mut VecDeque<Box<Publish>>,
        log: (Area, Flow),
        room_bytes: u64,
    ) -> Vec<Publish> {
        let kept_bytes = self.kept_for_copies(log);
        let mut left = room_bytes;
        let mut taken = Vec::new();
        while let Some(next) = group.front() {
            let kept_bytes = if self.is_urgent(next) { 0 } else { kept_bytes };
            let rest = left.checked_sub(next.record_bytes());
            let Some(rest) = rest.filter(|rest| *rest >= kept_bytes) else { break };
            left = rest;
            taken.extend(group.pop_front().map(|publish| *publish));
        }
        taken
    }

    /// What a ring may hold.
    pub(super) fn ring_capacity(&self, area: Area) -> RingCapacity {
        self.capacity.ring(area)
    }

    /// Steps 1 to 4 for records that fit the open segment of a log.
    async fn store(&mut self, log: (Area, Flow), group: Vec<Publish>) {
        let Some(active) = self.logs.entry(log).or_default().active.take() else {
            refuse(group.into_iter().map(|publish| publish.reply), &Refusal::Recovering);
            return;
        };
        let mut active = active;
        let replaced: Vec<Place> = group.iter().filter_map(|publish| publish.replaces).collect();
        if let Err(refusal) = self.carry_promises(&replaced, active.segment.id).await {
            self.logs.entry(log).or_default().active = Some(active);
            refuse(group.into_iter().map(|publish| publish.reply), &refusal);
            return;
        }
        let mut written = Vec::with_capacity(group.len());
        let outcome = self.append_all(&mut active, group, &mut written).await;
        // Names are looked up while the device is busy.
        let (outcome, known) = match outcome {
            Ok(()) if self.config.durability == Durability::PowerLoss => {
                self.metrics.store.segment_syncs.inc();
                join(active.file.sync_data(), self.look_ahead(&written)).await
            }
            Ok(()) => (Ok(()), self.look_ahead(&written).await),
            failed => (failed, Known::new()),
        };
        if let Err(error) = outcome {
            self.give_up(active, &error).await;
            let refusal =
                if error.kind.is_full() { Refusal::DiskFull(error) } else { Refusal::Disk(error) };
            refuse(written.into_iter().map(|written| written.reply), &refusal);
            return;
        }
        let (segment, end) = (active.segment.id, active.end);
        self.books.reaches(segment, end, self.volume.space().block_bytes);
        // The segment may have been evicted for a newer one meanwhile only by this very task.
        self.logs.entry(log).or_default().active = Some(active);
        self.finish((segment, end), written, &known).await;
    }

    /// Leaves the newest segment as it is, after an error that makes its end unknown.
    pub(super) async fn give_up(&mut self, active: Active, error: &DiskError) {
        self.metrics.store.segments_given_up.inc();
        let segment = active.segment.id;
        tracing::warn!(%segment, %error, "a segment takes no more appends");
        self.measure(&active.segment, &*active.file).await;
        let is_full = error.kind.is_full();
        self.ran_full = is_full.then(|| error.clone());
        let refusal = is_full.then(|| Refusal::DiskFull(error.clone()));
        self.rest = Some(Rest { until: self.env.clock.now() + FAILURE_REST, refusal });
        self.freeze(&active).await;
    }
}

/// What is compared where nothing has been stored yet.
const NOWHERE: Place = Place {
    segment: SegmentId(u64::MAX),
    offset: 0,
    header_bytes: 0,
    body_bytes: 0,
    sequence: 0,
    version: Version { time: 0, node: 0 },
    digest: Digest([0; 32]),
};
