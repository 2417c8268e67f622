//! Parts of large bodies whose answer broke off: kept for a while with their room, so that whoever is asked next, the
//! same peer or another one, sends the rest alone.
//!
//! Nobody waits for room who holds a part, and a part goes when somebody waits for its room: so two never wait for each
//! other. Who fetches an artifact takes its part out, under the claim on its address.

use std::{collections::BTreeMap, sync::Arc};

use kura_core::{
    address::Address,
    feed::FeedRow,
    limits::fetches_at_most,
    resume::{GivenUp, LOOK_INTERVAL, give_up, is_resumable},
};
use kura_env::{Clock, Instant};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    metrics::{Metrics, ReasonLabels},
    store::{Store, Upload},
};

/// The parts that a node keeps.
pub(crate) struct Partials {
    clock: Arc<dyn Clock>,
    store: Store,
    metrics: Arc<Metrics>,
    /// As many are kept as may be under way at once.
    kept_max: usize,
    /// At most `kept_max`.
    kept: Mutex<BTreeMap<Address, Partial>>,
    added: Notify,
}

struct Partial {
    row: FeedRow,
    upload: Upload,
    since: Instant,
}

impl Partials {
    /// Those of a node with so many peers.
    pub(crate) fn new(
        clock: Arc<dyn Clock>,
        store: Store,
        metrics: Arc<Metrics>,
        peers: usize,
    ) -> Self {
        let (kept, added) = (Mutex::default(), Notify::new());
        Self { clock, store, metrics, kept_max: fetches_at_most(peers), kept, added }
    }

    /// Takes out what there is of the body of `row`. A part of another version goes: that is not wanted any more.
    pub(crate) fn take(&self, row: &FeedRow) -> Option<Upload> {
        let partial = self.remove(&row.address)?;
        if partial.row == *row {
            return Some(partial.upload);
        }
        self.count(GivenUp::Unwanted);
        None
    }

    /// Keeps what has come of the body of `row`, if it is worth it. How much is kept.
    pub(crate) fn keep(&self, row: &FeedRow, upload: Upload) -> u64 {
        let received_bytes = upload.received_bytes();
        if !is_resumable(row.body_bytes, received_bytes) {
            return 0;
        }
        if self.store.room_waited_for().clients {
            self.count(GivenUp::Room);
            return 0;
        }
        let since = self.clock.now();
        let eldest = {
            let mut kept = self.kept.lock();
            kept.insert(row.address.clone(), Partial { row: row.clone(), upload, since });
            let is_crowded = kept.len() > self.kept_max;
            let eldest = kept.iter().min_by_key(|(_, partial)| partial.since);
            eldest.filter(|_| is_crowded).map(|(address, _)| address.clone())
        };
        if let Some(address) = eldest {
            self.drop_one(&address, GivenUp::Crowded);
        }
        self.show();
        self.added.notify_one();
        received_bytes
    }

    /// The artifact is here, or not wanted any more.
    pub(crate) fn forget(&self, address: &Address) {
        self.drop_one(address, GivenUp::Unwanted);
    }

    /// What was gone on with turned out to be wrong.
    pub(crate) fn was_wrong(&self) {
        self.count(GivenUp::WrongDigest);
    }

    /// `rows`, first those of which a part is kept: that does not last.
    pub(crate) fn first<C>(&self, rows: impl Iterator<Item = FeedRow>) -> C
    where
        C: FromIterator<FeedRow>,
    {
        let kept = self.kept.lock();
        let (begun, others): (Vec<_>, Vec<_>) =
            rows.partition(|row| kept.contains_key(&row.address));
        begun.into_iter().chain(others).collect()
    }

    /// Gives up what is not worth its room any more, for as long as the node runs.
    pub(crate) async fn watch(self: Arc<Self>) {
        loop {
            self.added.notified().await;
            while !self.kept.lock().is_empty() {
                self.clock.sleep(LOOK_INTERVAL).await;
                self.look().await;
            }
        }
    }

    async fn look(&self) {
        let kept: Vec<(FeedRow, Instant)> =
            self.kept.lock().values().map(|it| (it.row.clone(), it.since)).collect();
        for (row, since) in kept {
            // Whoever fetches it next hears of what the catalog cannot say now.
            let is_wanted = self.store.lacks(&row).await.unwrap_or(true);
            let waiting = self.store.room_waited_for();
            if let Some(why) = give_up(self.clock.now().since(since), waiting, is_wanted) {
                self.drop_one(&row.address, why);
            }
        }
    }

    fn drop_one(&self, address: &Address, why: GivenUp) {
        if self.remove(address).is_some() {
            self.count(why);
        }
    }

    /// What is dropped gives its room back, which is done outside of the lock.
    fn remove(&self, address: &Address) -> Option<Partial> {
        let partial = self.kept.lock().remove(address);
        self.show();
        partial
    }

    fn show(&self) {
        let kept = self.kept.lock().len();
        self.metrics.replication.partials_kept.set(i64::try_from(kept).unwrap_or(i64::MAX));
    }

    fn count(&self, why: GivenUp) {
        let reason = ReasonLabels { reason: why.name() };
        self.metrics.replication.partials_dropped.get_or_create(&reason).inc();
    }
}
