//! Reads while the store is still being read back: what is back already is served, and everything else is
//! a miss.

use std::sync::{
    Arc,
    atomic::{
        AtomicU64,
        Ordering::{Acquire, Release},
    },
};

use kura_core::{
    address::Address,
    place::{Place, place_key},
    recovery::is_served_early,
};
use kura_env::{Disk, Env};

use super::{
    PLACES_SPACE, Reading,
    deletes::Deletes,
    reading::Keeper,
    segments::{Segment, View},
    turns::{Turns, Work},
};
use crate::{metrics::Metrics, service::Refusal};

/// What readers see of a store that is not open yet.
pub struct Early {
    env: Env,
    pub(super) view: Arc<View>,
    pub(super) metrics: Arc<Metrics>,
    /// Deletes of namespaces, read back before anything is served.
    pub(super) deletes: Arc<Deletes>,
    /// Who works at the disk.
    pub(super) turns: Arc<Turns>,
    /// What has this sequence or a higher one is the newest of its name: whatever could hold a newer
    /// was read.
    known_from: AtomicU64,
}

impl Early {
    /// Of a store of which nothing was read yet.
    #[must_use]
    pub fn new(env: Env, metrics: Arc<Metrics>) -> Arc<Self> {
        let (view, known_from) = (Arc::default(), AtomicU64::new(u64::MAX));
        let turns = Turns::new(env.clock.clone(), metrics.clone());
        Arc::new(Self { env, view, metrics, deletes: Arc::default(), turns, known_from })
    }

    /// From now on whatever has this sequence or a higher one is the newest of its name.
    pub(super) fn know_from(&self, sequence: u64) {
        self.known_from.store(sequence, Release);
    }

    /// Nothing is known any more: all is read again, into another index.
    pub(super) fn begin_anew(&self) {
        self.know_from(u64::MAX);
        self.view.clear();
    }

    /// Opens the body of `address`, if it is back; `None` is a miss. What is served is what
    /// [`is_served_early`] says.
    ///
    /// # Errors
    ///
    /// [`Refusal::Disk`] when what lies there cannot be read.
    pub async fn open(self: &Arc<Self>, address: &Address) -> Result<Option<Reading>, Refusal> {
        let mut last = None;
        while let Some((place, segment)) = self.find(address).await {
            let opened = Reading::open(self.clone(), Work::Clients, segment, address, place);
            if let Some(reading) = opened.await? {
                self.metrics.store.early_reads.inc();
                return Ok(Some(reading.counted()));
            }
            // A large object goes as soon as it is replaced, also between the look and the opening.
            if last.replace(place) == Some(place) {
                self.metrics.store.wrong_places.inc();
                self.forget(address.clone(), place);
                break;
            }
        }
        self.metrics.store.misses.inc();
        Ok(None)
    }

    async fn find(&self, address: &Address) -> Option<(Place, Arc<Segment>)> {
        // Before the row is looked up: what is known now is in the catalog by then.
        let known_from = self.known_from.load(Acquire);
        // Until the catalog is open, and where it is being made anew, nothing is known.
        let row = self.env.catalog.get(PLACES_SPACE, &place_key(address)).await.unwrap_or_default();
        let place = Place::decode(row.as_deref()?)?;
        let is_served = is_served_early(address.space(), place.sequence, known_from);
        // Where all begins anew meanwhile, the row may come from another index.
        let is_deleted = self.deletes.covers(address, place.version);
        if !is_served || is_deleted || self.known_from.load(Acquire) > known_from {
            return None;
        }
        Some((place, self.view.segment(place.segment)?))
    }
}

impl Keeper for Early {
    fn disk(&self) -> &dyn Disk {
        &*self.env.disk
    }

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn turns(&self) -> &Arc<Turns> {
        &self.turns
    }

    /// Nobody is there yet who could remove it; the next reader finds it again.
    fn forget(&self, _: Address, _: Place) {
        self.metrics.store.forgets_dropped.inc();
    }

    /// As [`Keeper::forget`].
    fn suspect(&self, _: &Address, _: Place) {
        self.metrics.store.unreadable_reads.inc();
        self.metrics.store.suspects_dropped.inc();
    }
}
