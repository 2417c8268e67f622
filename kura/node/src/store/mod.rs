//! The store: a ring of segments that is the log, and a catalog that is only an index over it.
//!
//! - `upload` takes a body in: reserve, fill, publish. `reading` hands one out, checked.
//! - `appender` is the one task that writes segments and the catalog; all changes go through it.
//! - `rotation` turns the ring, `eviction` clears up behind it, `recovery` reads it all back.
//!
//! A put is acknowledged once its record is synced in a segment and indexed. The catalog itself is
//! not synced: what it loses, recovery reads from the segments again.

mod append;
mod appender;
mod budget;
mod command;
mod deletes;
mod early;
mod eviction;
mod feed;
mod fit;
mod forgetting;
mod grace;
mod index;
mod indexing;
mod ledger;
mod losses;
mod objects;
mod owners;
mod peers;
mod pieces;
mod pledges;
mod pool;
mod probe;
mod reading;
mod recovery;
mod refresh;
mod repair;
mod resync;
mod ring_file;
mod rotation;
mod routing;
mod rows;
mod scan;
mod scrub;
mod segments;
mod space;
mod staging;
mod stamp;
pub(crate) mod state_file;
mod status;
mod turns;
mod upload;
mod versions;
mod window;

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use kura_core::{
    address::Address,
    capacity::Capacity,
    feed::FEED,
    place::{CONTENTS, PLACES, Place, place_key},
    recency::Recency,
    record::{Area, SegmentId, header_bytes},
    refresh::Trigger,
};
use kura_env::{CatalogHealth, Disk, Env, Keyspace, TaskEnd, TaskHandle};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, oneshot};

pub use budget::share_bytes;
pub use early::Early;
pub use peers::{CURSORS_SPACE, Page};
pub use reading::Reading;
pub use recovery::RecoverError;
pub use repair::RepairError;
pub use scrub::{ScrubPass, ScrubStatus};
pub use staging::STAGING_ELSEWHERE;
pub(crate) use staging::STAGING_LOCK;
pub use upload::Upload;
pub(crate) use {
    deletes::{SavedTombstones, Taken, load_file as load_tombstones},
    ledger::{files_below, segment_of},
    losses::Lost,
    pledges::{PLEDGES_SPACE, decode as decode_pledge},
    repair::{Wrong, repair},
    resync::Resync,
    ring_file::{SavedRing, load as load_ring_file},
    segments::segment_path,
    staging::STAGING_DIR,
    stamp::{STAMP, rows as stamp_rows},
    versions::{Held, VERSIONS_SPACE, item_of},
};

use self::{
    appender::Appender,
    budget::Budget,
    command::Command,
    deletes::Deletes,
    feed::Feed,
    index::{Index, Look, Name},
    ledger::Books,
    losses::Losses,
    peers::Head,
    reading::Keeper,
    recovery::Recovered,
    refresh::{Orders, Refresher},
    routing::area_of,
    scrub::Scrub,
    segments::{Segment, View},
    space::Volume,
    staging::{BodyAt, Staging},
    turns::{Turns, Work},
    versions::Sums,
};
use crate::{
    config::StoreConfig,
    device::{Device, Watched},
    metrics::Metrics,
    service::Refusal,
};

/// address -> place, and watermarks.
pub(crate) const PLACES_SPACE: Keyspace = Keyspace(PLACES);
/// (segment, offset) -> address, and watermarks.
pub(crate) const CONTENTS_SPACE: Keyspace = Keyspace(CONTENTS);
/// sequence -> change, and watermarks.
pub(crate) const FEED_SPACE: Keyspace = Keyspace(FEED);
/// The keyspaces that the node's catalog must have.
pub const KEYSPACES: [Keyspace; 6] =
    [PLACES_SPACE, CONTENTS_SPACE, FEED_SPACE, CURSORS_SPACE, PLEDGES_SPACE, VERSIONS_SPACE];

/// Changes that wait for the appender; a writer beyond that waits to hand its change over.
const COMMANDS_MAX: usize = 1024;
/// How often who waits for the volume looks whether it is stalled.
const STALL_LOOK: Duration = Duration::from_secs(5);
/// How long after the first look it looks again, before it gives up.
const STALL_SECOND_LOOK: Duration = Duration::from_secs(1);

/// An open store. Cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Shared>);

/// Limits that the store derived from its settings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// No body is longer.
    pub(crate) body_bytes_max: u64,
    /// Bodies up to this size fill in memory.
    pub(crate) memory_body_bytes_max: u64,
}

impl Limits {
    fn of(config: &StoreConfig, recovered: &Recovered) -> Self {
        Self {
            body_bytes_max: config.body_bytes_max.min(recovered.body_bytes_max()),
            memory_body_bytes_max: config
                .memory_body_bytes_max
                .min(budget::share_bytes(config.memory_bytes_max)),
        }
    }
}

/// What the appender and readers both use.
struct SharedWithReaders {
    head: Arc<Head>,
    pool: Arc<Mutex<Recency<SegmentId>>>,
    orders: Arc<Orders>,
    staging: Arc<Staging>,
    index: Arc<Index>,
    sums: Arc<Sums>,
    deletes: Arc<Deletes>,
    losses: Arc<Losses>,
    device: Arc<Device>,
}

struct Shared {
    env: Env,
    device: Arc<Device>,
    limits: Limits,
    capacity: Capacity,
    view: Arc<View>,
    index: Arc<Index>,
    /// Sums over what is held, for peers.
    sums: Arc<Sums>,
    /// Deletes of namespaces.
    deletes: Arc<Deletes>,
    /// Who works at the disk.
    turns: Arc<Turns>,
    /// Held by clients whose deletes wait.
    delete_turns: Arc<Semaphore>,
    /// What the store holds of its volume.
    books: Arc<Books>,
    /// What the volume has left.
    volume: Arc<Volume>,
    /// Objects of the pool in the order of their last use.
    pool: Arc<Mutex<Recency<SegmentId>>>,
    refresher: Refresher,
    scrub: Arc<Scrub>,
    losses: Arc<Losses>,
    memory: Arc<Budget>,
    staging: Arc<Staging>,
    commands: mpsc::Sender<Command>,
    head: Arc<Head>,
    feed: Arc<Feed>,
    node: u64,
    incarnation: u64,
    metrics: Arc<Metrics>,
    appender: TaskHandle,
}

impl Store {
    /// Reads the data directory back, as `recovery` says, and starts to serve it. The lock of the
    /// directory must be held. Meanwhile readers may ask `early`.
    ///
    /// # Errors
    ///
    /// [`RecoverError`] when the directory cannot be used as it is.
    pub async fn recover(
        watched: Watched,
        config: StoreConfig,
        early: &Early,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<Self, RecoverError> {
        let Watched { env, device } = watched;
        let metrics = early.metrics.clone();
        let recovered = recovery::recover(&env, &config, early, progress).await?;
        let (limits, capacity) = (Limits::of(&config, &recovered), recovered.capacity);
        let (commands, queue) = mpsc::channel(COMMANDS_MAX);
        let (view, pool) = (recovered.view.clone(), recovered.pool.clone());
        let (books, volume) = (recovered.books.clone(), recovered.volume.clone());
        let (orders, waiting) = Orders::open(&capacity, metrics.clone());
        let staging = Arc::new(Staging::new(&env, &config, metrics.clone()));
        let memory = Budget::new(config.memory_bytes_max);
        let index = Arc::new(Index::new(config.index_bytes_max));
        let losses = Arc::new(Losses::default());
        let (sums, deletes) = (recovered.sums.clone(), early.deletes.clone());
        let (node, incarnation) = (recovered.node, recovered.incarnation);
        let (head, feed) = (Head::begin(&env, recovered.next_sequence), recovered.feed.clone());
        let shared = SharedWithReaders {
            head: head.clone(),
            pool: pool.clone(),
            orders: orders.clone(),
            staging: staging.clone(),
            index: index.clone(),
            sums: sums.clone(),
            deletes: deletes.clone(),
            losses: losses.clone(),
            device: device.clone(),
        };
        let appender =
            Appender::new(env.clone(), config.clone(), recovered, metrics.clone(), shared);
        let appender = env.tasks.spawn("appender", Box::pin(appender.run(queue)));
        let store = Self(Arc::new_cyclic(|store| Shared {
            refresher: Refresher::start(&env, store.clone(), (orders, waiting)),
            scrub: Scrub::start(&env, &config, store.clone()),
            losses,
            device,
            env,
            limits,
            capacity,
            view,
            index,
            sums,
            deletes,
            turns: early.turns.clone(),
            delete_turns: deletes::turns(),
            books,
            volume,
            pool,
            memory,
            staging,
            commands,
            head,
            feed,
            node,
            incarnation,
            metrics,
            appender,
        }));
        store.show_space();
        Ok(store)
    }

    /// Begins to take a body in.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] when it is known already that the body cannot be taken.
    pub async fn begin(
        &self,
        address: Address,
        declared_bytes: Option<u64>,
    ) -> Result<Upload, Refusal> {
        Upload::begin(self.clone(), address, declared_bytes).await
    }

    /// Opens the body of `address`; `None` is a miss.
    ///
    /// # Errors
    ///
    /// [`Refusal::Catalog`] or [`Refusal::Disk`] when it cannot be told.
    pub async fn open(&self, address: &Address) -> Result<Option<Reading>, Refusal> {
        let mut last = None;
        while let Some((place, segment)) = self.find(address).await? {
            let opened = Reading::open(self.0.clone(), Work::Clients, segment, address, place);
            if let Some(reading) = opened.await? {
                self.used(address, &place, Trigger::Read);
                return Ok(Some(reading.counted()));
            }
            // A large object goes as soon as it is replaced, also between the look and the opening. A
            // reference that stays the same leads to nothing.
            if last.replace(place) == Some(place) {
                self.lose(address.clone(), place);
                break;
            }
        }
        Ok(self.miss())
    }

    /// Waits for the changes that were handed over, and stops taking more.
    pub async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        if self.0.commands.send(Command::Close(reply)).await.is_ok() {
            // An error means that the appender ended by itself: it is closed all the same.
            drop(closed.await);
        }
        self.0.appender.join().await;
        self.0.refresher.stop();
        self.0.scrub.stop();
        self.0.env.catalog.close().await;
    }

    /// Waits until a task without which nothing can be written has ended: which one, and how. They
    /// end only when the store is closed.
    pub(crate) async fn ended(&self) -> (&'static str, TaskEnd) {
        tokio::select! {
            biased;
            end = self.0.appender.join() => ("appender", end),
            end = self.0.staging.ended() => ("staging task", end),
        }
    }

    /// Says which of `addresses` are here and will stay for as long as is promised; `false` is
    /// "missing". What is old is copied forward.
    ///
    /// # Errors
    ///
    /// [`Refusal::Catalog`], [`Refusal::DiskStalled`] when no mark can be made, or
    /// [`Refusal::Draining`] when the store is closing.
    pub async fn vouch(&self, addresses: &[Address]) -> Result<Vec<bool>, Refusal> {
        let mut places = Vec::with_capacity(addresses.len());
        for address in addresses {
            places.push(self.find(address).await?.map(|(place, _)| place));
        }
        let here = addresses.iter().zip(&places);
        let here: Vec<(Address, Place)> =
            here.filter_map(|(address, place)| Some((address.clone(), (*place)?))).collect();
        self.keep_moving()?;
        let asked = async {
            let (reply, answer) = oneshot::channel();
            self.send(Command::Vouch(here, reply)).await?;
            answer.await.map_err(|_| Refusal::Draining)
        };
        let mut held = self.unless_stalled(asked).await?.into_iter();
        let mut answers = Vec::with_capacity(addresses.len());
        for (address, place) in addresses.iter().zip(&places) {
            let Some(place) = place else {
                answers.push(false);
                continue;
            };
            let is_held = held.next().unwrap_or(false);
            if is_held {
                self.used(address, place, Trigger::Vouch);
            }
            answers.push(is_held);
        }
        Ok(answers)
    }

    /// Whether the index can be used: `open`, `closed`, or `poisoned` and why.
    #[must_use]
    pub fn catalog_status(&self) -> String {
        match self.0.env.catalog.health() {
            CatalogHealth::Open => "open".to_owned(),
            CatalogHealth::Closed => "closed".to_owned(),
            CatalogHealth::Poisoned(cause) => format!("poisoned: {cause}"),
            CatalogHealth::Damaged(cause) => format!("damaged: {cause}"),
        }
    }

    /// Whether the artifact is here. Nobody may rely on the answer: it promises nothing, and nothing
    /// is copied forward for it.
    ///
    /// # Errors
    ///
    /// [`Refusal::Catalog`].
    pub async fn holds(&self, address: &Address) -> Result<bool, Refusal> {
        Ok(self.find(address).await?.is_some())
    }

    /// An artifact was read or vouched for.
    fn used(&self, address: &Address, place: &Place, trigger: Trigger) {
        if place.segment.area() == Area::Pool {
            // As the hybrid logical time by which versions are ordered.
            let now = self.0.env.clock.wall().0 << 16;
            self.0.pool.lock().touch(place.segment, now);
        }
        if self.0.view.is_old(place.segment) {
            self.0.refresher.orders.order((address, place), trigger);
        }
    }

    /// Whether a body goes to the pool.
    fn is_large(&self, address: &Address, body_bytes: u64) -> bool {
        let ring = self.0.capacity.ring(area_of(address.space()));
        header_bytes(address, body_bytes) as u64 + body_bytes > ring.record_bytes_max()
    }

    /// Bytes of one staged body that may lie in the page cache alone: what the largest record of a ring
    /// has. With more, the sync at the end of a large body takes so long that the disk looks stalled.
    fn unsynced_bytes_max(&self) -> u64 {
        self.0.capacity.ring(Area::Blobs).record_bytes_max()
    }

    /// The largest body that fills in memory. A large object needs a file, however small the segments
    /// are that make it large.
    fn memory_body_bytes_max(&self, address: &Address) -> u64 {
        let ring = self.0.capacity.ring(area_of(address.space()));
        let record_bytes_max = ring.record_bytes_max();
        let headers = header_bytes(address, record_bytes_max) as u64;
        self.limits().memory_body_bytes_max.min(record_bytes_max.saturating_sub(headers))
    }

    /// Where the body of a staging file begins. One of unknown length may become large.
    fn body_at(&self, address: &Address, declared_bytes: Option<u64>) -> BodyAt {
        match declared_bytes {
            Some(declared) if !self.is_large(address, declared) => BodyAt::Start,
            Some(_) | None => BodyAt::BehindHeader,
        }
    }

    /// Looks the address up. A reference into a segment outside of the ring is a miss, whatever
    /// lies on disk, and what is deleted is one.
    async fn find(&self, address: &Address) -> Result<Option<(Place, Arc<Segment>)>, Refusal> {
        let found = self.find_row(address).await?;
        // Asked last: what was deleted before this look began is covered by now.
        Ok(found.filter(|(place, _)| !self.0.deletes.covers(address, place.version)))
    }

    async fn find_row(&self, address: &Address) -> Result<Option<(Place, Arc<Segment>)>, Refusal> {
        let key = place_key(address);
        let name = Name::of(&key);
        let mut last = None;
        loop {
            let unseen = match self.0.index.look(name) {
                Look::Found(place) => {
                    if let Some(segment) = self.0.view.segment(place.segment) {
                        self.0.metrics.store.index_hits.inc();
                        return Ok(Some((place, segment)));
                    }
                    self.0.index.forget(name);
                    continue;
                }
                Look::Unknown(unseen) => unseen,
            };
            self.0.metrics.store.index_misses.inc();
            let row = self.0.env.catalog.get(PLACES_SPACE, &key).await.map_err(Refusal::Catalog)?;
            let Some(place) = row.as_deref().and_then(Place::decode) else { return Ok(None) };
            if let Some(segment) = self.0.view.segment(place.segment) {
                self.0.index.fill(unseen, place);
                return Ok(Some((place, segment)));
            }
            // The ring may have turned between the two looks, while the name moved to a newer
            // segment. A reference that stays the same leads to nothing.
            if last.replace(place) == Some(place) {
                return Ok(None);
            }
        }
    }

    fn miss<T>(&self) -> Option<T> {
        self.0.metrics.store.misses.inc();
        None
    }

    fn limits(&self) -> Limits {
        self.0.limits
    }

    fn memory(&self) -> &Arc<Budget> {
        &self.0.memory
    }

    fn staging(&self) -> &Staging {
        &self.0.staging
    }

    fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Refuses while the volume is stalled.
    fn keep_moving(&self) -> Result<(), Refusal> {
        match self.0.device.stalled_seconds() {
            None => Ok(()),
            Some(for_seconds) => {
                self.metrics().store.stalled_refused.inc();
                Err(Refusal::DiskStalled { for_seconds })
            }
        }
    }

    /// Waits for `work` unless the volume stalls: nobody knows then when it ends, and whether it will.
    async fn unless_stalled<T: Send>(
        &self,
        work: impl Future<Output = Result<T, Refusal>> + Send,
    ) -> Result<T, Refusal> {
        let mut work = pin!(work);
        loop {
            let waited = kura_env::timeout(&*self.0.env.clock, STALL_LOOK, work.as_mut()).await;
            if let Ok(ended) = waited {
                return ended;
            }
            if self.0.device.stalled_seconds().is_none() {
                continue;
            }
            // A process that was stopped finds all its timers over at once: what has ended meanwhile
            // is asked first.
            let clock = &*self.0.env.clock;
            match kura_env::timeout(clock, STALL_SECOND_LOOK, work.as_mut()).await {
                Ok(ended) => return ended,
                Err(_) => self.keep_moving()?,
            }
        }
    }

    /// Hands a change over, waiting for room in the queue.
    async fn send(&self, command: Command) -> Result<(), Refusal> {
        self.0.commands.send(command).await.map_err(|_| Refusal::Draining)
    }

    /// What lies at a place is not what was written there: counts it, and has the reference removed.
    fn lose(&self, address: Address, place: Place) {
        self.0.metrics.store.wrong_places.inc();
        self.0.forget(address, place);
    }

    /// As [`Store::lose`], and waits until the appender has room to hear of it.
    async fn lose_for_sure(&self, address: Address, place: Place) {
        self.0.metrics.store.wrong_places.inc();
        // An error means that the store is closing.
        self.send(Command::Forget(address, place)).await.ok();
    }

    /// What was here and was lost since somebody looked, as far as it is remembered.
    pub(crate) fn lost_since(&self, seen: u64) -> Lost {
        self.0.losses.since(seen)
    }
}

impl Keeper for Shared {
    fn disk(&self) -> &dyn Disk {
        &*self.env.disk
    }

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn turns(&self) -> &Arc<Turns> {
        &self.turns
    }

    fn forget(&self, address: Address, place: Place) {
        if self.commands.try_send(Command::Forget(address, place)).is_err() {
            self.metrics.store.forgets_dropped.inc();
        }
    }

    fn suspect(&self, address: &Address, place: Place) {
        self.metrics.store.unreadable_reads.inc();
        if !self.scrub.suspect(self.env.clock.now(), address, place) {
            self.metrics.store.suspects_dropped.inc();
        }
    }
}

/// The length of all pieces together.
fn total_bytes(pieces: &[Bytes]) -> usize {
    pieces.iter().map(Bytes::len).sum()
}
