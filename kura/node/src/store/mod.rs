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
mod eviction;
mod peers;
mod pieces;
mod reading;
mod recovery;
mod ring_file;
mod rotation;
mod rows;
mod scan;
mod segments;
mod staging;
mod upload;

use std::sync::Arc;

use bytes::Bytes;
use kura_core::{
    address::Address,
    capacity::Capacity,
    feed::FEED,
    place::{CONTENTS, PLACES, Place, place_key},
};
use kura_env::{CatalogHealth, Env, Keyspace, TaskEnd, TaskHandle};
use tokio::sync::{mpsc, oneshot};

pub use budget::share_bytes;
pub use peers::{ListToken, Page};
pub use reading::Reading;
pub use recovery::RecoverError;
pub use upload::Upload;

use self::{
    appender::{Appender, Command},
    budget::Budget,
    peers::Head,
    segments::{Segment, View},
    staging::Staging,
};
use crate::{config::StoreConfig, metrics::Metrics, service::Refusal};

/// address -> place, and watermarks.
pub(crate) const PLACES_SPACE: Keyspace = Keyspace(PLACES);
/// (segment, offset) -> address, and watermarks.
pub(crate) const CONTENTS_SPACE: Keyspace = Keyspace(CONTENTS);
/// sequence -> change, and watermarks.
pub(crate) const FEED_SPACE: Keyspace = Keyspace(FEED);
/// The keyspaces that the node's catalog must have.
pub const KEYSPACES: [Keyspace; 4] =
    [PLACES_SPACE, CONTENTS_SPACE, FEED_SPACE, peers::CURSORS_SPACE];

/// Changes that wait for the appender; a writer beyond that waits to hand its change over.
const COMMANDS_MAX: usize = 1024;

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

struct Shared {
    env: Env,
    limits: Limits,
    capacity: Capacity,
    segment_bytes: u64,
    view: Arc<View>,
    memory: Arc<Budget>,
    staging: Staging,
    commands: mpsc::Sender<Command>,
    head: Arc<Head>,
    /// Followers below it must compare everything, whatever the horizon says.
    feed_floor: u64,
    node: u64,
    incarnation: u64,
    metrics: Arc<Metrics>,
    appender: TaskHandle,
}

impl Store {
    /// Reads the data directory back, as `recovery` says, and starts to serve it. The lock of the
    /// directory must be held.
    ///
    /// # Errors
    ///
    /// [`RecoverError`] when the directory cannot be used as it is.
    pub async fn recover(
        env: Env,
        config: StoreConfig,
        metrics: Arc<Metrics>,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<Self, RecoverError> {
        let recovered = recovery::recover(&env, &config, &metrics, progress).await?;
        let limits = Limits {
            body_bytes_max: config.body_bytes_max.min(recovery::body_bytes_max(&config)),
            memory_body_bytes_max: config
                .memory_body_bytes_max
                .min(budget::share_bytes(config.memory_bytes_max)),
        };
        let (commands, queue) = mpsc::channel(COMMANDS_MAX);
        let (view, capacity) = (recovered.view.clone(), recovered.capacity);
        let segment_bytes = config.segment_bytes;
        let staging = Staging::new(&env, config.staging_bytes_max, metrics.clone());
        let memory = Budget::new(config.memory_bytes_max);
        let (node, incarnation) = (recovered.node, recovered.incarnation);
        let (head, feed_floor) = (Head::new(recovered.next_sequence), recovered.feed_floor);
        let appender = Appender::new(env.clone(), config, recovered, metrics.clone(), head.clone());
        let appender = env.tasks.spawn("appender", Box::pin(appender.run(queue)));
        Ok(Self(Arc::new(Shared {
            env,
            limits,
            capacity,
            segment_bytes,
            view,
            memory,
            staging,
            commands,
            head,
            feed_floor,
            node,
            incarnation,
            metrics,
            appender,
        })))
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
        let Some((place, segment)) = self.find(address).await? else { return Ok(self.miss()) };
        match Reading::open(self, segment, address, place).await? {
            Some(reading) => Ok(Some(reading.counted())),
            None => {
                self.0.metrics.store.wrong_places.inc();
                self.forget(address.clone(), place);
                Ok(self.miss())
            }
        }
    }

    /// Waits for the changes that were handed over, and stops taking more.
    pub async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        if self.0.commands.send(Command::Close(reply)).await.is_ok() {
            // An error means that the appender ended by itself: it is closed all the same.
            drop(closed.await);
        }
        self.0.appender.join().await;
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

    /// The ring in numbers.
    #[must_use]
    pub fn ring_status(&self) -> serde_json::Value {
        let (segments, horizon_sequence) = self.0.view.summary();
        serde_json::json!({
            "segments": segments,
            "segments_max": self.0.capacity.segments_max,
            "segment_bytes": self.0.segment_bytes,
            "horizon_sequence": horizon_sequence,
        })
    }

    /// Whether the index can be used: `open`, `closed`, or `poisoned` and why.
    #[must_use]
    pub fn catalog_status(&self) -> String {
        match self.0.env.catalog.health() {
            CatalogHealth::Open => "open".to_owned(),
            CatalogHealth::Closed => "closed".to_owned(),
            CatalogHealth::Poisoned(cause) => format!("poisoned: {cause}"),
        }
    }

    /// Staging in numbers.
    #[must_use]
    pub fn staging_status(&self) -> serde_json::Value {
        let budget = self.0.staging.budget();
        serde_json::json!({
            "in_use_bytes": budget.in_use_bytes(),
            "budget_bytes": budget.limit_bytes(),
        })
    }

    /// Looks the address up. A reference into a segment outside of the ring is a miss, whatever
    /// lies on disk.
    async fn find(&self, address: &Address) -> Result<Option<(Place, Arc<Segment>)>, Refusal> {
        let key = place_key(address);
        let mut last = None;
        loop {
            let row = self.0.env.catalog.get(PLACES_SPACE, &key).await.map_err(Refusal::Catalog)?;
            let Some(place) = row.as_deref().and_then(Place::decode) else { return Ok(None) };
            if let Some(segment) = self.0.view.segment(place.segment) {
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

    /// Hands a change over, waiting for room in the queue.
    async fn send(&self, command: Command) -> Result<(), Refusal> {
        self.0.commands.send(command).await.map_err(|_| Refusal::Draining)
    }

    /// Has a reference removed that leads to nothing. If too much waits already it stays, and the
    /// next reader finds it again.
    fn forget(&self, address: Address, place: Place) {
        if self.0.commands.try_send(Command::Forget(address, place)).is_err() {
            self.0.metrics.store.forgets_dropped.inc();
        }
    }
}

/// The length of all pieces together.
fn total_bytes(pieces: &[Bytes]) -> usize {
    pieces.iter().map(Bytes::len).sum()
}
