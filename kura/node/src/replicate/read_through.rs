//! Reads that would be misses, of what a peer of the same region was heard to hold: fetched at once, ahead of all that
//! waits to be fetched.
//!
//! Off unless `sync.read_through` says how long a read may wait. What a read asked for is fetched to its end also when
//! the read did not wait so long, and when its client is gone: the next one finds it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::{self, FutureExt as _};
use kura_core::{address::Address, feed::FeedRow, limits::READS_THROUGH_MAX, offers::Offers};
use kura_env::{Clock, timeout};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{
    Shared,
    client::Client,
    deletes::Heard,
    fetch::{Source, fetch},
};
use crate::{metrics::Metrics, surface::runtime::TaskSet};

/// What peers of the same region offer.
pub(crate) struct Market {
    metrics: Arc<Metrics>,
    /// Nothing is remembered while nobody reads through.
    is_open: bool,
    offers: Mutex<Offers>,
}

/// What a round of fetching from a peer may still bring. Forgotten when the round is over, because then the peer is
/// not asked for it any more, or it is all here.
pub(crate) struct Stall<'a> {
    market: &'a Market,
    /// The number of the peer; none if nothing of it is offered.
    peer: Option<usize>,
}

impl Market {
    pub(crate) fn new(metrics: Arc<Metrics>, is_open: bool) -> Self {
        Self { metrics, is_open, offers: Mutex::default() }
    }

    /// For one round of fetching from a peer.
    pub(crate) fn stall(&self, source: Source<'_>) -> Stall<'_> {
        let is_open = self.is_open && source.shared.mesh.is_near(source.name);
        Stall { market: self, peer: is_open.then_some(source.number) }
    }

    fn find(&self, address: &Address) -> Option<(usize, FeedRow)> {
        let offers = self.offers.lock();
        offers.find(address).map(|(peer, row)| (peer, row.clone()))
    }
}

impl Stall<'_> {
    /// These are to be fetched.
    pub(crate) fn put<'a>(&self, rows: impl IntoIterator<Item = &'a FeedRow>) {
        let Some(peer) = self.peer else { return };
        let mut offers = self.market.offers.lock();
        let rows = rows.into_iter();
        let beyond = rows.filter(|row| !offers.put(peer, (*row).clone())).count();
        self.market.metrics.replication.offers_forgotten.inc_by(beyond as u64);
    }

    /// These were fetched, or could not be.
    pub(crate) fn take(&self, rows: &[FeedRow]) {
        let Some(peer) = self.peer else { return };
        let mut offers = self.market.offers.lock();
        rows.iter().for_each(|row| offers.take(peer, &row.address));
    }
}

impl Drop for Stall<'_> {
    fn drop(&mut self) {
        if let Some(peer) = self.peer {
            self.market.offers.lock().forget(peer);
        }
    }
}

/// Fetches what reads ask for.
pub(crate) struct Reader {
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    /// How long a read waits.
    wait: Duration,
    /// By number of the peer. Connections of its own: those of its follower may be full of bodies.
    peers: Vec<Arc<Neighbour>>,
    /// Reads that are fetched for at once.
    places: Arc<Semaphore>,
    under_way: UnderWay,
    fetching: Arc<TaskSet>,
}

struct Neighbour {
    number: usize,
    name: String,
    client: Client,
    heard: Heard,
    /// Requests for bodies at once: not those of followers, which may all be waiting for large ones.
    permits: Semaphore,
}

impl Reader {
    /// One that waits for `wait`; nothing if that is no time.
    pub(crate) fn new(shared: &Arc<Shared>, wait: Duration) -> Option<Arc<Self>> {
        if wait.is_zero() {
            return None;
        }
        let (env, metrics) = (&shared.env, &shared.metrics);
        let neighbour = |(number, name): (usize, String)| {
            let client = Client::to(&name, env.clone(), metrics.clone());
            let (heard, permits) = (Heard::default(), Semaphore::new(READS_THROUGH_MAX));
            Arc::new(Neighbour { number, name, client, heard, permits })
        };
        let peers = shared.mesh.names().into_iter().enumerate().map(neighbour).collect();
        let places = Arc::new(Semaphore::new(READS_THROUGH_MAX));
        let fetching = TaskSet::new(env.tasks.clone());
        let clock = env.clock.clone();
        let (shared, under_way) = (shared.clone(), UnderWay::default());
        Some(Arc::new(Self { shared, clock, wait, peers, places, under_way, fetching }))
    }

    /// A read of `address` would be a miss: fetches it if a peer of this region was heard to hold it. Whether it is
    /// worth looking again, which is known within the time that a read may wait.
    pub(crate) async fn bring(&self, address: &Address) -> bool {
        let Some(fetched) = self.fetched(address) else { return false };
        let count = &self.shared.metrics.replication;
        match timeout(&*self.clock, self.wait, fetched).await {
            Ok(Ok(true)) => {
                count.read_through_hits.inc();
                true
            }
            Ok(Ok(false) | Err(_)) => {
                count.read_through_failures.inc();
                false
            }
            Err(_) => {
                count.read_through_late.inc();
                false
            }
        }
    }

    /// What comes of fetching `address`, which begins now unless another read has begun it; nothing if nobody offers
    /// it, or too many are fetched for.
    fn fetched(&self, address: &Address) -> Option<Fetched> {
        if let Some(fetched) = self.under_way.lock().get(address) {
            return Some(fetched.clone());
        }
        let (peer, row) = self.shared.market.find(address)?;
        let neighbour = self.peers.get(peer)?.clone();
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            self.shared.metrics.replication.read_through_shed.inc();
            return None;
        };
        let (tell, told) = oneshot::channel();
        let told = told.shared();
        // Before the task begins, which may be at once, and end.
        self.under_way.lock().insert(address.clone(), told.clone());
        let (under_way, address) = (self.under_way.clone(), address.clone());
        let entry = Entry { under_way, address, _place: place };
        let shared = self.shared.clone();
        self.fetching.spawn("read through", async move {
            let _entry = entry;
            let Neighbour { number, name, client, heard, permits } = &*neighbour;
            let source = Source { shared: &shared, client, number: *number, name, heard, permits };
            let fetched = fetch(source, vec![row]).await;
            // What goes wrong its follower meets as well, and sees to it.
            let is_here = fetched.is_ok_and(|fetched| fetched.applied > 0);
            // Nobody waits any more: the reads took too long.
            tell.send(is_here).ok();
        });
        Some(told)
    }
}

/// Whether what is fetched came.
type Fetched = future::Shared<oneshot::Receiver<bool>>;

/// What is fetched for reads now: one for each of [`READS_THROUGH_MAX`] places.
type UnderWay = Arc<Mutex<BTreeMap<Address, Fetched>>>;

/// Stands in the list of what is under way until it is dropped.
struct Entry {
    under_way: UnderWay,
    address: Address,
    _place: OwnedSemaphorePermit,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.under_way.lock().remove(&self.address);
    }
}
