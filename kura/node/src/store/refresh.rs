//! Refresh: copies what is read or vouched for in the old part of a ring forward, in the background.
//!
//! Each artifact is copied once, however many ask for it, and a read never waits for the copy. What
//! may be copied is decided by a purse for each ring; see `kura_core::refresh`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Weak},
};

use kura_core::{
    address::Address,
    capacity::{Capacity, RingCapacity},
    place::Place,
    record::{Area, SegmentId},
    refresh::{Purse, Trigger},
    ring::Generations,
};
use kura_env::{Env, TaskHandle};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::{Keeper as _, Shared, Store, Upload, turns::Work};
use crate::{metrics::Metrics, service::Refusal};

/// Copies that may wait. Beyond that a read goes without, and is counted.
const WAITING_MAX: usize = 1024;

/// What may be copied forward, by ring.
struct Purses(Mutex<BTreeMap<Area, Purse>>);

impl Purses {
    fn new(capacity: &Capacity) -> Self {
        let purse = |ring: RingCapacity| {
            let old = Generations::of(ring.segments_max).old as u64;
            Purse::new(old * ring.segment_bytes)
        };
        let purses =
            [(Area::Blobs, purse(capacity.blobs)), (Area::Entries, purse(capacity.entries))];
        Self(Mutex::new(BTreeMap::from(purses)))
    }

    fn earn(&self, area: Area, bytes: u64) {
        if let Some(purse) = self.0.lock().get_mut(&area) {
            purse.earn(bytes);
        }
    }

    fn spend(&self, area: Area, trigger: Trigger, bytes: u64) -> Option<u64> {
        self.0.lock().get_mut(&area).and_then(|purse| purse.spend(trigger, bytes))
    }
}

/// A copy that is asked for.
struct Order {
    address: Address,
    place: Place,
    trigger: Trigger,
    /// What the purse gave for it.
    paid_bytes: u64,
    _ticket: Ticket,
}

/// One copy of an artifact is under way; given back on drop.
struct Ticket {
    under_way: Arc<Mutex<BTreeSet<(SegmentId, u64)>>>,
    at: (SegmentId, u64),
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.under_way.lock().remove(&self.at);
    }
}

/// Takes orders for copies.
pub(super) struct Orders {
    queue: mpsc::Sender<Order>,
    under_way: Arc<Mutex<BTreeSet<(SegmentId, u64)>>>,
    purses: Purses,
    metrics: Arc<Metrics>,
}

/// Orders that nobody works on yet.
pub(super) struct Waiting(mpsc::Receiver<Order>);

impl Orders {
    /// With full purses for rings of this capacity.
    pub(super) fn open(capacity: &Capacity, metrics: Arc<Metrics>) -> (Arc<Self>, Waiting) {
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        let purses = Purses::new(capacity);
        (Arc::new(Self { queue, under_way: Arc::default(), purses, metrics }), Waiting(waiting))
    }

    /// A client's write of so many bytes was appended.
    pub(super) fn earn(&self, area: Area, bytes: u64) {
        self.purses.earn(area, bytes);
    }

    /// Has an artifact copied forward, if nobody else has asked and the purse has it.
    pub(super) fn order(&self, (address, place): (&Address, &Place), trigger: Trigger) {
        let at = (place.segment, place.offset);
        let metrics = &self.metrics.store;
        if !self.under_way.lock().insert(at) {
            metrics.refreshes_joined.inc();
            return;
        }
        let ticket = Ticket { under_way: self.under_way.clone(), at };
        let area = place.segment.area();
        let Some(paid_bytes) = self.purses.spend(area, trigger, place.record_bytes()) else {
            metrics.refreshes_unpaid.inc();
            return;
        };
        let (address, place) = (address.clone(), *place);
        let order = Order { address, place, trigger, paid_bytes, _ticket: ticket };
        if self.queue.try_send(order).is_err() {
            self.purses.earn(area, paid_bytes);
            metrics.refreshes_shed.inc();
            return;
        }
        match trigger {
            Trigger::Read => metrics.refreshes_by_read.inc(),
            Trigger::Vouch => metrics.refreshes_by_vouch.inc(),
            Trigger::Turn => metrics.refreshes_by_turn.inc(),
        };
    }
}

/// Makes the copies that are ordered.
pub(super) struct Refresher {
    pub(super) orders: Arc<Orders>,
    /// Keeps the task alive; taken when the store closes.
    task: Mutex<Option<TaskHandle>>,
}

impl Refresher {
    /// Starts the task. It holds the store weakly, because the store owns it.
    pub(super) fn start(
        env: &Env,
        store: Weak<Shared>,
        (orders, waiting): (Arc<Orders>, Waiting),
    ) -> Self {
        let task = env.tasks.spawn("refresh", Box::pin(work(store, waiting.0)));
        Self { orders, task: Mutex::new(Some(task)) }
    }

    /// No more copies.
    pub(super) fn stop(&self) {
        drop(self.task.lock().take());
    }
}

async fn work(store: Weak<Shared>, mut queue: mpsc::Receiver<Order>) {
    while let Some(order) = queue.recv().await {
        let Some(shared) = store.upgrade() else { return };
        let store = Store(shared);
        if let Err(refusal) = copy(&store, &order).await {
            store.0.refresher.orders.earn(order.place.segment.area(), order.paid_bytes);
            store.metrics().store.refreshes_failed.inc();
            let (trigger, segment) = (order.trigger, order.place.segment);
            tracing::info!(%refusal, ?trigger, %segment, "an artifact was not copied forward");
        }
    }
}

async fn copy(store: &Store, order: &Order) -> Result<(), Refusal> {
    let Order { address, place, .. } = order;
    let Some(segment) = store.0.view.segment(place.segment) else { return Ok(()) };
    // The ring may wait for it.
    let reading =
        super::Reading::open(store.0.clone(), Work::Own, segment, address, *place).await?;
    let Some(mut reading) = reading else {
        // Nothing can be read there, so nothing is held there either.
        store.0.forget(address.clone(), *place);
        return Ok(());
    };
    let replica = reading.artifact().replica;
    let mut upload = Upload::begin_copy(store.clone(), address, (*place, replica)).await?;
    while let Some(data) = reading.next().await? {
        upload.write(data).await?;
    }
    upload.publish().await.map(drop)
}
