//! Reads that would be misses, of what a peer of the same region was heard to hold: fetched at once, and not queued
//! behind all that waits to be fetched.
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
    requests::Requests,
};
use crate::{metrics::Metrics, surface::runtime::TaskSet};

/// What peers of the same region offer.
pub(crate) struct NearOffers {
    metrics: Arc<Metrics>,
    /// Nothing is remembered while nobody reads through.
    is_open: bool,
    offers: Mutex<Offers>,
}

/// What a round of fetching from a peer may still bring. Forgotten when the round is over, because then the peer is
/// not asked for it any more, or it is all here.
pub(crate) struct RoundOffers<'a> {
    source: Source<'a>,
    /// Whether reads find it.
    is_open: bool,
}

impl NearOffers {
    pub(crate) fn new(metrics: Arc<Metrics>, is_open: bool) -> Self {
        Self { metrics, is_open, offers: Mutex::default() }
    }

    /// The latest version of `address` that a peer offers that can be asked.
    fn find(
        &self,
        address: &Address,
        can_be_asked: impl Fn(usize) -> bool,
    ) -> Option<(usize, FeedRow)> {
        let offers = self.offers.lock();
        offers.find(address, can_be_asked).map(|(peer, row)| (peer, row.clone()))
    }

    fn take(&self, peer: usize, row: &FeedRow) {
        self.offers.lock().take(peer, row);
    }
}

impl<'a> RoundOffers<'a> {
    /// For one round of fetching from a peer.
    pub(crate) fn of(source: Source<'a>) -> Self {
        let Shared { near_offers, mesh, .. } = source.shared;
        Self { source, is_open: near_offers.is_open && mesh.is_near(source.name) }
    }

    /// These are to be fetched.
    pub(crate) fn put<'r>(&self, rows: impl IntoIterator<Item = &'r FeedRow> + Clone) {
        let Source { shared, number, .. } = self.source;
        shared.sources.put(number, rows.clone());
        if !self.is_open {
            return;
        }
        let mut offers = shared.near_offers.offers.lock();
        let rows = rows.into_iter();
        let beyond = rows.filter(|row| !offers.put(number, (*row).clone())).count();
        shared.near_offers.metrics.replication.offers_forgotten.inc_by(beyond as u64);
    }

    /// These are not to be fetched for now: nobody leaves them to this peer, and reads find them there.
    pub(crate) fn put_aside(&self, rows: &[FeedRow]) {
        self.source.shared.sources.take(self.source.number, rows);
    }

    /// These were fetched, or could not be.
    pub(crate) fn take(&self, rows: &[FeedRow]) {
        let Source { shared, number, .. } = self.source;
        shared.sources.take(number, rows);
        if self.is_open {
            let mut offers = shared.near_offers.offers.lock();
            rows.iter().for_each(|row| offers.take(number, row));
        }
    }
}

impl Drop for RoundOffers<'_> {
    fn drop(&mut self) {
        let Source { shared, number, .. } = self.source;
        shared.sources.forget(number);
        if self.is_open {
            shared.near_offers.offers.lock().forget(number);
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
    under_way: UnderWay,
    fetching: Arc<TaskSet>,
}

struct Neighbour {
    number: usize,
    name: String,
    client: Client,
    heard: Heard,
    /// What is fetched from it for reads at once. One that stands still keeps nobody from asking others.
    places: Arc<Semaphore>,
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
            let (heard, places) = (Heard::default(), Arc::new(Semaphore::new(READS_THROUGH_MAX)));
            Arc::new(Neighbour { number, name, client, heard, places })
        };
        let peers = shared.mesh.names().into_iter().enumerate().map(neighbour).collect();
        let fetching = TaskSet::new(env.tasks.clone());
        let clock = env.clock.clone();
        let (shared, under_way) = (shared.clone(), UnderWay::default());
        Some(Arc::new(Self { shared, clock, wait, peers, under_way, fetching }))
    }

    /// A read of `address` would be a miss: fetches it if a peer of this region was heard to hold it. Whether it is
    /// worth looking again, which is known within the time that a read may wait.
    pub(crate) async fn bring(&self, address: &Address) -> bool {
        let Some(fetched) = self.fetched(address) else { return false };
        let count = &self.shared.metrics.replication;
        match timeout(&*self.clock, self.wait, fetched).await {
            Ok(Ok(true)) => true,
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

    /// What was brought is read, or was deleted meanwhile, or is not wanted here.
    pub(crate) fn was_found(&self, is_found: bool) {
        let count = &self.shared.metrics.replication;
        if is_found { &count.read_through_hits } else { &count.read_through_failures }.inc();
    }

    /// What comes of fetching `address`, which begins now unless another read has begun it; nothing if nobody offers
    /// it, or too much is fetched from those that do.
    fn fetched(&self, address: &Address) -> Option<Fetched> {
        let mut under_way = self.under_way.lock();
        if let Some(fetched) = under_way.get(address) {
            return Some(fetched.clone());
        }
        let place = |peer: usize| self.peers.get(peer)?.places.clone().try_acquire_owned().ok();
        let has_place = |peer| self.peers.get(peer).is_some_and(Neighbour::has_place);
        let near_offers = &self.shared.near_offers;
        let Some((peer, row)) = near_offers.find(address, has_place) else {
            if near_offers.find(address, |_| true).is_some() {
                self.shared.metrics.replication.read_through_shed.inc();
            }
            return None;
        };
        let (neighbour, place) = (self.peers.get(peer)?.clone(), place(peer)?);
        let (tell, told) = oneshot::channel();
        let told = told.shared();
        under_way.insert(address.clone(), told.clone());
        drop(under_way);
        let (under_way, address) = (self.under_way.clone(), address.clone());
        let entry = Entry { under_way, address, _place: place };
        self.fetching
            .spawn("read through", bring(self.shared.clone(), neighbour, row, entry, tell));
        Some(told)
    }
}

/// Fetches what a read asked for, and tells whether it came.
async fn bring(
    shared: Arc<Shared>,
    neighbour: Arc<Neighbour>,
    row: FeedRow,
    _entry: Entry,
    tell: oneshot::Sender<bool>,
) {
    let Neighbour { number, name, client, heard, places: _ } = &*neighbour;
    // Nobody waits for these: a place was had before.
    let requests = &Requests::alone();
    // One row is within the limits of any peer.
    let limits = shared.mesh.limits();
    let source = Source { shared: &shared, client, number: *number, name, heard, requests, limits };
    let is_here = loop {
        match fetch(source, vec![row.clone()]).await {
            Ok((_, busy)) if !busy.is_empty() => {
                shared.metrics.replication.claim_waits.inc();
                shared.claims.free(&row.address).await;
            }
            fetched => break fetched.is_ok_and(|(fetched, _)| fetched.applied > 0),
        }
    };
    // What goes wrong its follower meets as well, and sees to it; the next read asks somebody else.
    shared.near_offers.take(*number, &row);
    // Nobody waits any more: the reads took too long.
    tell.send(is_here).ok();
}

impl Neighbour {
    fn has_place(self: &Arc<Self>) -> bool {
        self.places.available_permits() > 0
    }
}

/// Whether what is fetched came.
type Fetched = future::Shared<oneshot::Receiver<bool>>;

/// What is fetched for reads now: one for each place at each peer.
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
