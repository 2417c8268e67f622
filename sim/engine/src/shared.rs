//! What all handles of a world share: its parts, each behind its own lock.
//!
//! The locks are there because the seams are `Send + Sync`; a world runs on one thread and they
//! are never contended. Order: network, then hosts, timers or journal, which call nothing. No
//! waker is woken and no future dropped while one is held.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use crate::{
    config::WorldConfig,
    entropy::KeyedStream,
    executor::Executor,
    host::{Hosts, Life, NodeId},
    journal::{Event, Journal},
    net::Network,
    outcome::{Dump, PanicReport},
    task::{ReadyQueue, Task, TaskFuture, Wait},
    timer::Timers,
};

pub(crate) struct Shared {
    pub(crate) config: WorldConfig,
    pub(crate) closed: AtomicBool,
    now_nanos: AtomicU64,
    pub(crate) ready: Arc<ReadyQueue>,
    pub(crate) executor: Mutex<Executor>,
    pub(crate) timers: Mutex<Timers>,
    pub(crate) hosts: Mutex<Hosts>,
    pub(crate) net: Mutex<Network>,
    pub(crate) journal: Mutex<Journal>,
    /// The task that is being polled.
    current: Mutex<Option<Arc<Task>>>,
    /// Futures of the dead that wait for the present poll to end.
    graveyard: Mutex<Vec<TaskFuture>>,
    /// The first panic that no task reported: in a drop or in a world event.
    pub(crate) panic: Mutex<Option<PanicReport>>,
}

impl Shared {
    pub(crate) fn new(config: WorldConfig) -> Arc<Self> {
        let choice = KeyedStream::from_key(config.schedule_key);
        Arc::new(Self {
            closed: AtomicBool::new(false),
            now_nanos: AtomicU64::new(0),
            ready: Arc::default(),
            executor: Mutex::new(Executor::new(choice)),
            timers: Mutex::default(),
            hosts: Mutex::default(),
            net: Mutex::new(Network::new(config.seed, config.net.clone())),
            journal: Mutex::new(Journal::new()),
            current: Mutex::default(),
            graveyard: Mutex::default(),
            panic: Mutex::default(),
            config,
        })
    }

    pub(crate) fn now_nanos(&self) -> u64 {
        self.now_nanos.load(Ordering::Relaxed)
    }

    pub(crate) fn set_now_nanos(&self, now_nanos: u64) {
        debug_assert!(now_nanos >= self.now_nanos(), "virtual time never goes back");
        self.now_nanos.store(now_nanos, Ordering::Relaxed);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    pub(crate) fn alive(&self, life: Life) -> bool {
        !self.is_closed() && self.hosts.lock().alive(life)
    }

    pub(crate) fn record(&self, event: Event, numbers: [u64; 2], text: impl FnOnce() -> String) {
        self.journal.lock().record(self.now_nanos(), event, numbers, text);
    }

    /// Tells what the present task waits for.
    pub(crate) fn waiting(&self, wait: Wait) {
        if let Some(task) = &*self.current.lock() {
            task.add_wait(wait);
        }
    }

    pub(crate) fn set_current(&self, task: Option<Arc<Task>>) {
        let before = std::mem::replace(&mut *self.current.lock(), task);
        drop(before);
    }

    /// Drops the futures of the dead: now, or after the poll that is going on, because whoever is
    /// being polled may hold locks that the drops want.
    pub(crate) fn bury(&self, futures: Vec<TaskFuture>) {
        self.graveyard.lock().extend(futures);
        if self.current.lock().is_none() {
            self.bury_all();
        }
    }

    pub(crate) fn bury_all(&self) {
        loop {
            let futures = std::mem::take(&mut *self.graveyard.lock());
            if futures.is_empty() {
                return;
            }
            for future in futures {
                self.guarded(NodeId::OPERATOR, "a dropped task", || drop(future));
            }
        }
    }

    /// Runs foreign code that has no task to report its panic.
    pub(crate) fn guarded(&self, node: NodeId, what: &str, work: impl FnOnce()) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(work)) {
            let report = self.panic_report(node, what, &*payload);
            self.panic.lock().get_or_insert(report);
        }
    }

    pub(crate) fn panic_report(
        &self,
        node: NodeId,
        task: &str,
        payload: &(dyn Any + Send),
    ) -> PanicReport {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        PanicReport {
            task: task.to_owned(),
            node: self.hosts.lock().name(node).to_string(),
            message: text.unwrap_or_else(|| "a panic without a text".to_owned()),
        }
    }

    pub(crate) fn dump(&self) -> Dump {
        let tasks = self.executor.lock().tasks();
        let lines = tasks.iter().map(|task| {
            let name = self.hosts.lock().name(task.node);
            task.line(&name)
        });
        Dump { at: kura_env::Instant(self.now_nanos()), tasks: lines.collect() }
    }
}
