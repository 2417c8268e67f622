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
    ring::{AfterRead, Generations},
};
use kura_env::{Env, TaskHandle};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::{Shared, Store, Upload};
use crate::{metrics::Metrics, service::Refusal};

/// Copies that may wait. Beyond that a read goes without, and is counted.
const WAITING_MAX: usize = 1024;

/// What may be copied forward, by ring.
pub(super) struct Purses(Mutex<BTreeMap<Area, Purse>>);

impl Purses {
    pub(super) fn new(capacity: &Capacity) -> Arc<Self> {
        let purse = |ring: RingCapacity| {
            let old = Generations::of(ring.segments_max).old as u64;
            Purse::new(old * ring.segment_bytes)
        };
        let purses =
            [(Area::Blobs, purse(capacity.blobs)), (Area::Entries, purse(capacity.entries))];
        Arc::new(Self(Mutex::new(BTreeMap::from(purses))))
    }

    /// A client's write of so many bytes was appended.
    pub(super) fn earn(&self, area: Area, bytes: u64) {
        if let Some(purse) = self.0.lock().get_mut(&area) {
            purse.earn(bytes);
        }
    }

    fn spend(&self, area: Area, trigger: Trigger, bytes: u64) -> bool {
        self.0.lock().get_mut(&area).is_some_and(|purse| purse.spend(trigger, bytes))
    }
}

/// A copy that is asked for.
struct Order {
    address: Address,
    place: Place,
    trigger: Trigger,
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
pub(super) struct Refresher {
    orders: mpsc::Sender<Order>,
    under_way: Arc<Mutex<BTreeSet<(SegmentId, u64)>>>,
    purses: Arc<Purses>,
    /// Keeps the task alive; taken when the store closes.
    task: Mutex<Option<TaskHandle>>,
}

impl Refresher {
    /// Starts the task. It holds the store weakly, because the store owns it.
    pub(super) fn start(env: &Env, store: Weak<Shared>, purses: Arc<Purses>) -> Self {
        let (orders, queue) = mpsc::channel(WAITING_MAX);
        let task = env.tasks.spawn("refresh", Box::pin(work(store, queue)));
        Self { orders, under_way: Arc::default(), purses, task: Mutex::new(Some(task)) }
    }

    /// No more copies.
    pub(super) fn stop(&self) {
        drop(self.task.lock().take());
    }

    /// Has an artifact copied forward, if it lies in the old part of its ring, nobody else has asked,
    /// and there is room for it.
    pub(super) fn order(
        &self,
        (address, place): (&Address, &Place),
        after_read: AfterRead,
        trigger: Trigger,
        metrics: &Metrics,
    ) {
        if after_read != AfterRead::Refresh {
            return;
        }
        let at = (place.segment, place.offset);
        if !self.under_way.lock().insert(at) {
            metrics.store.refreshes_joined.inc();
            return;
        }
        let ticket = Ticket { under_way: self.under_way.clone(), at };
        if !self.purses.spend(place.segment.area(), trigger, place.record_bytes()) {
            metrics.store.refreshes_unpaid.inc();
            return;
        }
        let order = Order { address: address.clone(), place: *place, trigger, _ticket: ticket };
        if self.orders.try_send(order).is_err() {
            self.purses.earn(place.segment.area(), place.record_bytes());
            metrics.store.refreshes_shed.inc();
        } else if trigger == Trigger::Read {
            metrics.store.refreshes_by_read.inc();
        } else {
            metrics.store.refreshes_by_vouch.inc();
        }
    }
}

async fn work(store: Weak<Shared>, mut queue: mpsc::Receiver<Order>) {
    while let Some(order) = queue.recv().await {
        let Some(shared) = store.upgrade() else { return };
        let store = Store(shared);
        if let Err(refusal) = copy(&store, &order).await {
            store.0.refresher.purses.earn(order.place.segment.area(), order.place.record_bytes());
            store.metrics().store.refreshes_failed.inc();
            let (trigger, segment) = (order.trigger, order.place.segment);
            tracing::info!(%refusal, ?trigger, %segment, "an artifact was not copied forward");
        }
    }
}

async fn copy(store: &Store, order: &Order) -> Result<(), Refusal> {
    let Order { address, place, .. } = order;
    let Some(segment) = store.0.view.segment(place.segment) else { return Ok(()) };
    let reading = super::Reading::open(store, segment, address, *place).await?;
    let Some(mut reading) = reading else { return Ok(()) };
    let replica = reading.artifact().replica;
    let mut upload = Upload::begin_copy(store.clone(), address, (*place, replica)).await?;
    while let Some(data) = reading.next().await? {
        upload.write(data).await?;
    }
    upload.publish().await.map(drop)
}
