//! The scrub: reads all that is stored, slowly, and has what was lost asked from the peers.
//!
//! - A pass begins every `store.scrub_every`, and when somebody asks for one. It reads every record
//!   that a row leads to, segment by segment in the order of their offsets, at `store.scrub_rate`.
//! - What does not have its checksums is forgotten at once. What the device could not read is tried
//!   once more a little later, also for readers who met it: an error may pass.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
    time::Duration,
};

use kura_core::{
    address::Address,
    place::{Place, contents_key, parse_contents_key, parse_contents_row, place_key},
    record::SegmentId,
    scrub::{pass_order, rest_after},
    shares::Class,
};
use kura_env::{Clock, EntropyStream, Env, Instant, TaskHandle};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Notify;

use super::{CONTENTS_SPACE, PLACES_SPACE, Reading, Shared, Store, turns};
use crate::{config::StoreConfig, service::Refusal};

/// When the first pass of a life begins, if not earlier: what a start has to do goes first.
const FIRST_AFTER: Duration = Duration::from_secs(600);
/// Rows that are looked at together.
const PAGE_ROWS: usize = 256;
/// Bytes of small records that are read in a row, before the rest that they cost.
const RUN_BYTES: u64 = 256 * 1024;
/// What a look that leads to no record counts as, in bytes.
const LOOK_BYTES: u64 = 4096;
/// How long after an error of the device the same place is read again.
const AGAIN_AFTER: Duration = Duration::from_secs(10);
/// Places that wait for that. Further ones are left to who reads them next.
const SUSPECTS_MAX: usize = 1024;
/// How long a pass rests after an error that is not about what it reads.
const TROUBLE_REST: Duration = Duration::from_secs(10);

/// How far a pass is, or what it came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ScrubPass {
    /// When it began, in milliseconds since 1970.
    pub began_ms: u64,
    /// When it ended, if it did.
    pub ended_ms: Option<u64>,
    /// Segments and large objects that there were when it began.
    pub segments: u64,
    /// How many of them were read.
    pub segments_done: u64,
    /// Records that were read.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many of them could not be read whole.
    pub lost: u64,
}

/// The scrub of a node.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ScrubStatus {
    /// Somebody asked for a pass, and it did not begin yet.
    pub is_asked: bool,
    /// The pass that is under way.
    pub under_way: Option<ScrubPass>,
    /// The one before.
    pub last: Option<ScrubPass>,
}

/// What the scrub shares with who asks for it.
#[derive(Default)]
pub(super) struct Scrub {
    status: Mutex<ScrubStatus>,
    /// Places that the device could not read, and when they are read again.
    suspects: Mutex<VecDeque<(Instant, Address, Place)>>,
    woken: Notify,
    task: Mutex<Option<TaskHandle>>,
}

impl Scrub {
    /// Has a pass begin at once; one that is under way goes on.
    fn ask(&self) {
        {
            let mut status = self.status.lock();
            status.is_asked = status.under_way.is_none();
        }
        self.woken.notify_one();
    }

    /// The device could not read this place. Whether it is read again in a while.
    pub(super) fn suspect(&self, now: Instant, address: &Address, place: Place) -> bool {
        let mut suspects = self.suspects.lock();
        if suspects.iter().any(|(_, known, at)| known == address && *at == place) {
            return true;
        }
        if suspects.len() == SUSPECTS_MAX {
            return false;
        }
        suspects.push_back((now + AGAIN_AFTER, address.clone(), place));
        self.woken.notify_one();
        true
    }

    fn take_due(&self, now: Instant) -> Option<(Address, Place)> {
        let mut suspects = self.suspects.lock();
        suspects.pop_front_if(|(due, ..)| *due <= now).map(|(_, address, place)| (address, place))
    }

    fn suspect_due(&self) -> Option<Instant> {
        self.suspects.lock().front().map(|(due, ..)| *due)
    }

    fn note(&self, change: impl FnOnce(&mut ScrubPass)) {
        if let Some(pass) = &mut self.status.lock().under_way {
            change(pass);
        }
    }

    /// No more reading.
    pub(super) fn stop(&self) {
        drop(self.task.lock().take());
    }

    /// Starts the task. It holds the store weakly, because the store owns it.
    pub(super) fn start(env: &Env, config: &StoreConfig, store: Weak<Shared>) -> Arc<Self> {
        let scrub = Arc::new(Self::default());
        let work = Work {
            scrub: scrub.clone(),
            store,
            clock: env.clock.clone(),
            chance: env.entropy.stream("scrub"),
            every: config.scrub_every,
            bytes_per_second: config.scrub_bytes_per_second,
            pass: None,
            owed_bytes: 0,
        };
        *scrub.task.lock() = Some(env.tasks.spawn("scrub", Box::pin(work.run())));
        scrub
    }
}

impl Store {
    /// How the scrub stands.
    #[must_use]
    pub fn scrub_status(&self) -> ScrubStatus {
        self.0.scrub.status.lock().clone()
    }

    /// Has a pass of the scrub begin at once; one that is under way goes on.
    pub fn ask_for_scrub(&self) {
        self.0.scrub.ask();
    }
}

/// The task.
struct Work {
    scrub: Arc<Scrub>,
    store: Weak<Shared>,
    clock: Arc<dyn Clock>,
    chance: Box<dyn EntropyStream>,
    /// Zero: only when asked.
    every: Duration,
    bytes_per_second: u64,
    pass: Option<Pass>,
    /// Read, and not rested for yet.
    owed_bytes: u64,
}

/// What is left of a pass.
struct Pass {
    segments: VecDeque<SegmentId>,
    /// Where to go on in the first of them.
    offset: u64,
}

impl Work {
    async fn run(mut self) {
        let period = |every: Duration| (!every.is_zero()).then_some(every);
        let mut due = period(self.every.min(FIRST_AFTER)).map(|first| self.clock.now() + first);
        loop {
            let now = self.clock.now();
            {
                let Some(store) = self.store() else { return };
                self.look_again(&store).await;
            }
            if self.pass.is_none() {
                let is_asked = self.scrub.status.lock().is_asked;
                if is_asked || due.is_some_and(|due| due <= now) {
                    let Some(store) = self.store() else { return };
                    self.begin(&store);
                }
            }
            if self.pass.is_some() && !self.is_held_up() {
                let Some(store) = self.store() else { return };
                if let Err(refusal) = self.go_on(&store).await {
                    tracing::info!(%refusal, "the scrub rests");
                    drop(store);
                    self.clock.sleep(TROUBLE_REST).await;
                }
                if self.pass.is_none() {
                    due = period(self.every).map(|every| self.clock.now() + every);
                }
                continue;
            }
            // A pass that is held up goes on with what the device could not read.
            self.wait(due.filter(|_| self.pass.is_none())).await;
        }
    }

    /// Whether what the device could not read has to be settled before the pass goes on, or ends.
    fn is_held_up(&self) -> bool {
        let suspects = self.scrub.suspects.lock().len();
        let is_read = self.pass.as_ref().is_some_and(|pass| pass.segments.is_empty());
        suspects >= SUSPECTS_MAX / 2 || is_read && suspects > 0
    }

    /// Reads again what is due.
    async fn look_again(&mut self, store: &Store) {
        while let Some((address, place)) = self.scrub.take_due(self.clock.now()) {
            self.again(store, &address, place).await;
        }
    }

    fn store(&self) -> Option<Store> {
        self.store.upgrade().map(Store)
    }

    /// Waits until there may be something to do.
    async fn wait(&self, due: Option<Instant>) {
        let next = due.into_iter().chain(self.scrub.suspect_due()).min();
        let woken = self.scrub.woken.notified();
        match next {
            Some(next) => tokio::select! {
                biased;
                () = woken => {}
                () = self.clock.sleep_until(next) => {}
            },
            None => woken.await,
        }
    }

    fn begin(&mut self, store: &Store) {
        let segments = pass_order(store.0.view.ids(), self.chance.next_u64());
        let began = ScrubPass {
            began_ms: self.clock.wall().0,
            segments: segments.len() as u64,
            ..ScrubPass::default()
        };
        let mut status = self.scrub.status.lock();
        (status.under_way, status.is_asked) = (Some(began), false);
        drop(status);
        self.pass = Some(Pass { segments: segments.into(), offset: 0 });
    }

    /// The next page of a pass, or its end.
    async fn go_on(&mut self, store: &Store) -> Result<(), Refusal> {
        let Some(Pass { segments, offset }) = &self.pass else { return Ok(()) };
        let (Some(segment), offset) = (segments.front().copied(), *offset) else {
            self.end(store);
            return Ok(());
        };
        let (from, to) = (contents_key(segment, offset), contents_key(SegmentId(segment.0 + 1), 0));
        let rows = store.0.env.catalog.range(CONTENTS_SPACE, &from, &to, PAGE_ROWS).await;
        let rows = rows.map_err(Refusal::Catalog)?;
        for (key, row) in &rows {
            let Some((_, at)) = parse_contents_key(key) else { continue };
            let address = parse_contents_row(row).and_then(|(_, key)| Address::decode(key).ok());
            if let Some(address) = address {
                self.look(store, &address, (segment, at)).await?;
            }
            self.look_again(store).await;
            if let Some(pass) = &mut self.pass {
                pass.offset = at + 1;
            }
        }
        if rows.len() < PAGE_ROWS
            && let Some(pass) = &mut self.pass
        {
            pass.segments.pop_front();
            pass.offset = 0;
            self.scrub.note(|pass| pass.segments_done += 1);
        }
        Ok(())
    }

    fn end(&mut self, store: &Store) {
        self.pass = None;
        store.metrics().store.scrub_passes.inc();
        let mut status = self.scrub.status.lock();
        let Some(pass) = status.under_way.take() else { return };
        let ScrubPass { segments, records, bytes, lost, .. } = pass;
        tracing::info!(segments, records, bytes, lost, "a pass of the scrub ended");
        status.last = Some(ScrubPass { ended_ms: Some(self.clock.wall().0), ..pass });
    }

    /// Reads one record, if its name still leads there.
    async fn look(
        &mut self,
        store: &Store,
        address: &Address,
        (segment, offset): (SegmentId, u64),
    ) -> Result<(), Refusal> {
        let place = leads_to(store, address).await?;
        let here = place.filter(|place| (place.segment, place.offset) == (segment, offset));
        let Some(place) = here else {
            self.owed_bytes += LOOK_BYTES;
            self.rest().await;
            return Ok(());
        };
        let read = self.read(store, address, place).await;
        if read.is_err() {
            // What could not be read took its time of the device all the same.
            self.owed_bytes += RUN_BYTES;
            self.rest().await;
        }
        store.metrics().store.scrubbed_records.inc();
        store.metrics().store.scrubbed_bytes.inc_by(place.record_bytes());
        self.scrub.note(|pass| {
            pass.records += 1;
            pass.bytes += place.record_bytes();
        });
        match read {
            Ok(true) => Ok(()),
            Ok(false) | Err(Refusal::Damaged { .. }) => {
                self.scrub.note(|pass| pass.lost += 1);
                Ok(())
            }
            // It is read again in a while.
            Err(Refusal::Disk(_)) => Ok(()),
            Err(refusal) => Err(refusal),
        }
    }

    /// Reads what the device could not read a while ago. It is not there if that fails again.
    async fn again(&mut self, store: &Store, address: &Address, place: Place) {
        // It may have been forgotten or put again since.
        if !matches!(leads_to(store, address).await, Ok(Some(now)) if now == place) {
            return;
        }
        if let Err(Refusal::Disk(error)) = self.read(store, address, place).await {
            let Place { segment, offset, .. } = place;
            tracing::warn!(%error, %segment, offset, "the device lost an artifact");
            self.scrub.note(|pass| pass.lost += 1);
            store.lose_for_sure(address.clone(), place).await;
        }
    }

    /// Reads a record to its end. `false`: what lies there is not it, and it is forgotten.
    async fn read(
        &mut self,
        store: &Store,
        address: &Address,
        place: Place,
    ) -> Result<bool, Refusal> {
        let Some(segment) = store.0.view.segment(place.segment) else { return Ok(true) };
        self.owed_bytes += place.record_bytes() - place.body_bytes;
        let work = turns::Work::Background(Class::Scrub);
        let opened = Reading::open(store.0.clone(), work, segment, address, place);
        let Some(mut reading) = opened.await? else {
            // An object of the pool may have been evicted or replaced since.
            if store.0.view.segment(place.segment).is_none() {
                return Ok(true);
            }
            store.lose_for_sure(address.clone(), place).await;
            return Ok(false);
        };
        while let Some(data) = reading.next().await? {
            self.owed_bytes += data.len() as u64;
            drop(data);
            self.rest().await;
            // What was evicted meanwhile would keep its space for as long as it is read.
            if store.0.view.segment(place.segment).is_none() {
                return Ok(true);
            }
        }
        Ok(true)
    }

    /// Rests for what was read, once that is worth a rest.
    async fn rest(&mut self) {
        if self.owed_bytes >= RUN_BYTES {
            let owed_bytes = std::mem::take(&mut self.owed_bytes);
            self.clock.sleep(rest_after(owed_bytes, self.bytes_per_second)).await;
        }
    }
}

/// Where the row of a name leads. Past the index in memory, which is for what clients ask for.
async fn leads_to(store: &Store, address: &Address) -> Result<Option<Place>, Refusal> {
    let row = store.0.env.catalog.get(PLACES_SPACE, &place_key(address)).await;
    Ok(row.map_err(Refusal::Catalog)?.as_deref().and_then(Place::decode))
}
