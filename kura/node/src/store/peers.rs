//! The store as its node's peers need it: what changed, what is here, bodies by version, and bodies
//! from elsewhere.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kura_core::{
    address::Address,
    capacity::{Capacity, RingCapacity},
    feed::{CURSORS, Cursor, Extent, FeedRow, feed_key, parse_feed_key, supersedes},
    hlc::{DRIFT_MAX, too_far_ahead},
    place::Place,
    record::{SegmentId, Version, header_bytes},
    resume::Waiting,
    shares::Class,
};
use kura_env::{Batch, CommitDurability, Env, Keyspace};
use tokio::sync::Notify;

use super::{
    FEED_SPACE, PLACES_SPACE, Reading, Store, Upload, budget::Lane, routing::area_of, turns::Work,
};
use crate::service::Refusal;

/// node -> cursor: how far the feed of a peer was read.
pub const CURSORS_SPACE: Keyspace = Keyspace(CURSORS);

/// One above the last row of the feed that followers may see, and a bell for when it grows. Not a
/// watch channel: that wakes its waiters in an order that differs from run to run.
pub(crate) struct Head {
    sequence: AtomicU64,
    /// Drawn at each start.
    start: u64,
    grown: Notify,
}

impl Head {
    /// The head as a start begins that gives out `sequence` first.
    pub(crate) fn begin(env: &Env, sequence: u64) -> Arc<Self> {
        let start = env.entropy.stream("start").next_u64();
        Arc::new(Self { sequence: AtomicU64::new(sequence), start, grown: Notify::new() })
    }

    /// Lets followers see everything below `sequence`.
    pub(crate) fn grow(&self, sequence: u64) {
        self.sequence.fetch_max(sequence, Ordering::SeqCst);
        self.grown.notify_waiters();
    }

    fn sequence(&self) -> u64 {
        self.sequence.load(Ordering::SeqCst)
    }
}

/// Whether a version of a peer may be taken in.
pub(super) fn in_time(version: Version, wall_ms: u64) -> Result<(), Refusal> {
    let Some(ahead) = too_far_ahead(version.time, wall_ms) else { return Ok(()) };
    Err(Refusal::Ahead { ahead_seconds: ahead.as_secs(), limit_seconds: DRIFT_MAX.as_secs() })
}

/// A page of rows, and where the next one begins.
pub struct Page<T> {
    /// The rows.
    pub rows: Vec<FeedRow>,
    /// Where to go on.
    pub next: T,
}

impl Store {
    /// The node's id, which no other has.
    #[must_use]
    pub fn node(&self) -> u64 {
        self.0.node
    }

    /// How many bytes of records are kept whatever comes: the pool, and all segments of the rings but
    /// those that the next rotations take away.
    #[must_use]
    pub fn capacity_bytes(&self) -> u64 {
        let Capacity { blobs, entries, pool_bytes, .. } = self.0.capacity;
        let ring = |ring: RingCapacity| ring.bytes().saturating_sub(ring.segment_bytes);
        ring(blobs).saturating_add(ring(entries)).saturating_add(pool_bytes)
    }

    /// What the feed holds.
    #[must_use]
    pub fn extent(&self) -> Extent {
        // What was evicted since is not in the feed, and not here either.
        let floor = 1;
        let head = self.0.head.sequence();
        let floor = floor.max(self.0.feed.floor());
        // The horizon of an empty ring lies above all that was given out.
        Extent { incarnation: self.0.incarnation, floor: floor.min(head), head }
    }

    /// The start that the node is in: drawn at each.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.0.head.start
    }

    /// Waits until the feed has a row at `sequence` or above.
    pub async fn grown_to(&self, sequence: u64) {
        loop {
            let mut grown = pin!(self.0.head.grown.notified());
            // Enabled before the look, so that nothing is missed between the two.
            grown.as_mut().enable();
            if self.0.head.sequence() > sequence {
                return;
            }
            grown.await;
        }
    }

    /// Rows of the feed from `from` on: those of `rows_max` changes whose artifact is still here
    /// in that version, with that digest.
    ///
    /// # Errors
    ///
    /// [`Refusal::Catalog`].
    pub async fn feed(&self, from: u64, rows_max: usize) -> Result<Page<u64>, Refusal> {
        let head = self.extent().head;
        let catalog = &self.0.env.catalog;
        let found = catalog.range(FEED_SPACE, &feed_key(from), &feed_key(head), rows_max).await;
        let found = found.map_err(Refusal::Catalog)?;
        let last = found.last().and_then(|(key, _)| parse_feed_key(key));
        let next = last.filter(|_| found.len() == rows_max).map_or(head, |last| last + 1);
        let mut rows = Vec::new();
        for row in found.iter().filter_map(|(_, row)| FeedRow::decode(row)) {
            let here = self.version(&row.address).await?;
            if here.is_some_and(|it| (it.version, it.digest) == (row.version, row.digest)) {
                rows.push(row);
            }
        }
        Ok(Page { rows, next })
    }

    /// Whether the artifact of `row` would take the place of what is here, or there is nothing of that
    /// name and room for it. What something younger would have to go for is not asked for, or peers
    /// that hold more than there is room for would keep this node fetching for ever.
    ///
    /// # Errors
    ///
    /// [`Refusal::Catalog`].
    pub async fn lacks(&self, row: &FeedRow) -> Result<bool, Refusal> {
        if self.0.deletes.covers(&row.address, row.version) {
            self.metrics().store.replicas_deleted.inc();
            return Ok(false);
        }
        let here = self.version(&row.address).await?;
        let known = here.map(|it| (it.version, it.digest));
        let was_here = || self.0.losses.holds(&row.address, row.version);
        if here.is_none() && self.is_too_old(row) && !was_here() {
            self.metrics().store.replicas_not_asked_for.inc();
            return Ok(false);
        }
        Ok(supersedes((row.version, row.digest), known))
    }

    /// How far the version of `row` lies ahead of this node's clock, if that is too far to be taken in now.
    #[must_use]
    pub fn too_far_ahead(&self, row: &FeedRow) -> Option<Duration> {
        too_far_ahead(row.version.time, self.0.env.clock.wall().0)
    }

    /// Whether something younger would have to go for the artifact of `row`.
    fn is_too_old(&self, row: &FeedRow) -> bool {
        let age = row.version.time;
        if self.is_large(&row.address, row.body_bytes) {
            let record_bytes = header_bytes(&row.address, row.body_bytes) as u64 + row.body_bytes;
            return self.has_younger_objects(record_bytes, age);
        }
        let area = area_of(row.address.space());
        self.0.view.ring().is_too_old(area, age, self.0.capacity.ring(area).segments_max)
    }

    /// Whether a younger object of the pool would have to go for one of this age.
    pub(super) fn has_younger_objects(&self, record_bytes: u64, age: u64) -> bool {
        let pool = self.0.pool.lock();
        let victims = pool.victims(record_bytes, self.0.capacity.pool_bytes, |_| false);
        let is_younger = |id: &SegmentId| pool.used(*id).is_some_and(|used| used >= age);
        victims.is_none_or(|victims| victims.iter().any(is_younger))
    }

    /// Opens the body of `row`, in this very version and with this digest; `None` if that is not, or no
    /// longer, here as a whole.
    ///
    /// # Errors
    ///
    /// As [`Store::open`].
    pub async fn open_version(&self, row: &FeedRow) -> Result<Option<Reading>, Refusal> {
        let Some((place, segment)) = self.find(&row.address).await? else { return Ok(None) };
        // Of one version there may be two bodies: which of them wins the digest says.
        if (place.version, place.digest) != (row.version, row.digest) {
            return Ok(None);
        }
        let work = Work::Background(Class::Serving);
        Reading::open(self.0.clone(), work, segment, &row.address, place).await
    }

    /// Begins to take in a body that a peer has, waiting for room.
    ///
    /// # Errors
    ///
    /// [`Refusal::TooLarge`] if there never will be room, [`Refusal::Ahead`] if its version is too far
    /// ahead of this node's clock, or the disk's.
    pub async fn begin_replica(&self, row: &FeedRow) -> Result<Upload, Refusal> {
        in_time(row.version, self.0.env.clock.wall().0)?;
        Upload::begin_replica(self.clone(), row).await
    }

    /// Who waits for room in memory or staging.
    pub(crate) fn room_waited_for(&self) -> Waiting {
        let budgets = [self.memory(), self.staging().budget()];
        let is_waited_for = |lane| budgets.iter().any(|budget| budget.is_waited_for(lane));
        Waiting { clients: is_waited_for(Lane::Clients), replicas: is_waited_for(Lane::Replicas) }
    }

    /// Whether nothing is here.
    ///
    /// # Errors
    ///
    /// [`Refusal::Catalog`].
    pub async fn is_empty(&self) -> Result<bool, Refusal> {
        // Above the watermarks, which are no artifacts.
        let rows = self.0.env.catalog.range(PLACES_SPACE, &[1], &[], 1).await;
        Ok(rows.map_err(Refusal::Catalog)?.is_empty())
    }

    /// How far the feed of `node` was read.
    ///
    /// # Errors
    ///
    /// [`Refusal::Catalog`].
    pub async fn cursor(&self, node: u64) -> Result<Option<Cursor>, Refusal> {
        let row = self.0.env.catalog.get(CURSORS_SPACE, &node.to_be_bytes()).await;
        Ok(row.map_err(Refusal::Catalog)?.as_deref().and_then(Cursor::decode))
    }

    /// Notes how far the feed of `node` was read. Not synced, and of use within this life only: a
    /// start compares with every peer before it follows one.
    ///
    /// # Errors
    ///
    /// [`Refusal::Catalog`].
    pub async fn set_cursor(&self, node: u64, cursor: Cursor) -> Result<(), Refusal> {
        let mut batch = Batch::default();
        batch.put(CURSORS_SPACE, node.to_be_bytes().to_vec(), cursor.encode().to_vec());
        let committed = self.0.env.catalog.commit(batch, CommitDurability::Buffered).await;
        committed.map_err(Refusal::Catalog)
    }

    /// The place of what is here under this name.
    pub(super) async fn version(&self, address: &Address) -> Result<Option<Place>, Refusal> {
        Ok(self.find(address).await?.map(|(place, _)| place))
    }
}
