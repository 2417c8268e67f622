//! Bodies between peers move no faster than the ceiling on bandwidth says: those that are fetched, and those that are
//! served, each by themselves. What moves for clients in the same direction goes first.
//!
//! Who has to wait does so between two pieces, so every stream moves on after a while. Neither end takes that for a
//! stream that stands still: on this side nobody waits for bytes meanwhile, and on the other the wait is far below
//! the time after which it would.

use std::sync::Arc;

use kura_core::bandwidth::{Bucket, Used};
use kura_env::{Clock, Instant};
use parking_lot::Mutex;

use crate::metrics::Metrics;

/// The ceilings of both directions.
pub(crate) struct Ceilings {
    /// For bodies that are fetched. What clients send goes first.
    pub(crate) fetching: Ceiling,
    /// For bodies that are served. What clients are sent goes first.
    pub(crate) serving: Ceiling,
}

impl Ceilings {
    /// Of so many bytes in a second, each; 0 is none.
    pub(crate) fn new(
        clock: &Arc<dyn Clock>,
        metrics: &Arc<Metrics>,
        bytes_per_second: u64,
    ) -> Arc<Self> {
        let ceiling = || Ceiling::new(clock.clone(), metrics.clone(), bytes_per_second);
        Arc::new(Self { fetching: ceiling(), serving: ceiling() })
    }
}

/// A ceiling that the streams of one direction share.
pub(crate) struct Ceiling {
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    bucket: Option<Mutex<Bucket>>,
    piece_bytes: usize,
}

impl Ceiling {
    fn new(clock: Arc<dyn Clock>, metrics: Arc<Metrics>, bytes_per_second: u64) -> Self {
        let bucket = Bucket::new(bytes_per_second);
        let piece_bytes = bucket.map_or(usize::MAX, |bucket| bucket.piece_bytes());
        Self { clock, metrics, bucket: bucket.map(Mutex::new), piece_bytes }
    }

    /// How much a stream should move at a time.
    pub(crate) fn piece_bytes(&self) -> usize {
        self.piece_bytes
    }

    /// What moved under it so far; nothing without one.
    pub(crate) fn used(&self) -> Used {
        self.bucket.as_ref().map_or_else(Used::default, |bucket| bucket.lock().used())
    }

    /// So many bytes moved for clients: peers have that much less.
    pub(crate) fn give_way(&self, bytes: usize) {
        let Some(bucket) = &self.bucket else { return };
        let now = self.clock.now().since(Instant::default());
        bucket.lock().give_way(bytes as u64, now);
    }

    /// Waits until so many bytes may move.
    pub(crate) async fn pass(&self, bytes: usize) {
        let Some(bucket) = &self.bucket else { return };
        let now = self.clock.now();
        let wait = bucket.lock().take(bytes as u64, now.since(Instant::default()));
        if wait.is_zero() {
            return;
        }
        let metrics = &self.metrics.replication;
        metrics.bandwidth_waits.inc();
        metrics.bandwidth_waited_ms.inc_by(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        self.clock.sleep(wait).await;
    }
}
