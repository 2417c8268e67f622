//! The world: hosts, their lives and deaths, and the loop that runs it all on the calling thread.

use std::{
    future::Future,
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
};

use kura_env::{Clock, Entropy, Instant, Net, TaskHandle, Tasks};
use parking_lot::Mutex;

use crate::{
    clock::SimClock,
    config::WorldConfig,
    entropy::{KeyedStream, SimEntropy},
    executor::Step,
    host::{NodeId, Power},
    journal::{Event, JournalHash, Recorder},
    net::{NetControl, SimNet},
    outcome::{Dump, Outcome, Stats},
    shared::Shared,
    task::Wait,
    tasks::SimTasks,
    timer::{Action, WorldEvent},
};

/// A simulated world. Clones are handles to the same world; when the one that
/// [`World::new`] returned is dropped, everything in the world ends.
///
/// A run is a function of its configuration and of what is done in it, as long as it is made and
/// run on one thread that runs no other world at the same time. Several worlds may run side by
/// side, each on a thread of its own.
pub struct World {
    shared: Arc<Shared>,
    owner: bool,
}

impl Clone for World {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), owner: false }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.owner {
            self.close();
        }
    }
}

impl World {
    /// A world at time zero, with nothing in it but the operator's host at 192.0.2.254.
    #[must_use]
    pub fn new(config: WorldConfig) -> Self {
        let world = Self { shared: Shared::new(config), owner: true };
        world.add_node("operator", IpAddr::from([192, 0, 2, 254]));
        world
    }

    /// Adds a host, which is up. Its name can be resolved.
    ///
    /// # Panics
    ///
    /// If the name or the address is taken.
    pub fn add_node(&self, name: &str, addr: IpAddr) -> NodeId {
        self.shared.hosts.lock().add(name, addr)
    }

    /// All hosts, the operator's first, in the order in which they were added.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeId> {
        self.shared.hosts.lock().nodes().collect()
    }

    /// The host of this name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<NodeId> {
        self.shared.hosts.lock().by_name(name)
    }

    /// The present time.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant(self.shared.now_nanos())
    }

    /// The clock of a node. It goes on after the node's death.
    #[must_use]
    pub fn clock(&self, node: NodeId) -> Arc<dyn Clock> {
        Arc::new(SimClock { shared: Arc::clone(&self.shared), node })
    }

    /// The executor, for the present life of a node.
    #[must_use]
    pub fn tasks(&self, node: NodeId) -> Arc<dyn Tasks> {
        let life = self.shared.hosts.lock().life(node);
        Arc::new(SimTasks { shared: Arc::clone(&self.shared), life })
    }

    /// Randomness, for the present life of a node.
    #[must_use]
    pub fn entropy(&self, node: NodeId) -> Arc<dyn Entropy> {
        let life = self.shared.hosts.lock().life(node);
        Arc::new(SimEntropy { shared: Arc::clone(&self.shared), life })
    }

    /// The network, for the present life of a node. Once that life is over, every call pends for
    /// ever.
    #[must_use]
    pub fn net(&self, node: NodeId) -> Arc<dyn Net> {
        let life = self.shared.hosts.lock().life(node);
        Arc::new(SimNet { shared: Arc::clone(&self.shared), life })
    }

    /// Links, routes and faults of the network.
    #[must_use]
    pub fn network(&self) -> NetControl {
        NetControl { shared: Arc::clone(&self.shared) }
    }

    /// Starts a task in the present life of a node. It ends when the handle is dropped.
    pub fn spawn(
        &self,
        node: NodeId,
        name: &str,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> TaskHandle {
        let life = self.shared.hosts.lock().life(node);
        self.shared.handle(self.shared.spawn(life, name.into(), Box::pin(work)))
    }

    /// Starts a task that belongs to the node's life alone: its main task, say.
    pub fn launch(
        &self,
        node: NodeId,
        name: &str,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let life = self.shared.hosts.lock().life(node);
        self.shared.spawn(life, name.into(), Box::pin(work));
    }

    /// Does `what` at its time, or at the next turn if that is past.
    pub fn schedule(&self, at: Instant, what: impl FnOnce(&Self) + Send + 'static) {
        let at_nanos = at.0.max(self.shared.now_nanos());
        let event: WorldEvent = Box::new(what);
        if !self.shared.is_closed() {
            self.shared.timers.lock().set(at_nanos, Action::World(event));
        }
    }

    /// SIGKILL: the process is gone. Its tasks are dropped, its listeners vanish, the peers of its
    /// connections see a reset. Does nothing to a node that is not up.
    ///
    /// Called from within a poll, the futures are dropped when that poll returns; none is polled
    /// again in any case.
    ///
    /// # Panics
    ///
    /// If it is the operator's host.
    pub fn kill(&self, node: NodeId) {
        if self.power(node) == Power::Up {
            self.end_life(node, Power::ProcessDead);
        }
    }

    /// Power loss: the host is silent from now on. Its peers hear nothing until it is started
    /// again; from then on whoever has sent it something, or does so, sees a reset.
    ///
    /// # Panics
    ///
    /// If it is the operator's host.
    pub fn kill_silent(&self, node: NodeId) {
        if self.power(node) != Power::Dark {
            self.end_life(node, Power::Dark);
        }
    }

    fn end_life(&self, node: NodeId, power: Power) {
        assert!(node != NodeId::OPERATOR, "the operator's host never dies");
        let shared = &self.shared;
        shared.record(Event::Node, [u64::from(node.number()), power as u64], || {
            format!("{node} {power:?}")
        });
        shared.hosts.lock().set_power(node, power);
        shared.with_net(|net, turn| net.host_died(node, power, turn));
        shared.thaw(node);
        shared.end_tasks(Some(node));
    }

    /// Begins the next life of a node that is not up. Handles of the life before stay without
    /// effect: ask for new ones.
    pub fn start(&self, node: NodeId) {
        if self.power(node) == Power::Up {
            return;
        }
        let shared = &self.shared;
        shared.record(Event::Node, [u64::from(node.number()), Power::Up as u64], || {
            format!("{node} {:?}", Power::Up)
        });
        shared.hosts.lock().start(node, shared.now_nanos());
        shared.with_net(|net, turn| net.host_started(node, turn));
    }

    /// SIGSTOP: no task of the node is polled until it is thawed or its life ends. Its host takes in what is
    /// sent to it, as far as the windows of its connections go, and its timers are noticed late.
    ///
    /// # Panics
    ///
    /// If it is the operator's host.
    pub fn freeze(&self, node: NodeId) {
        assert!(node != NodeId::OPERATOR, "the operator's host never stands still");
        self.shared
            .record(Event::Fault, [u64::from(node.number()), 1], || format!("{node} frozen"));
        self.shared.freeze(node);
    }

    /// SIGCONT. Does nothing to a node that is not frozen.
    pub fn thaw(&self, node: NodeId) {
        self.shared
            .record(Event::Fault, [u64::from(node.number()), 0], || format!("{node} thawed"));
        self.shared.thaw(node);
    }

    /// Whether a node is up.
    #[must_use]
    pub fn power(&self, node: NodeId) -> Power {
        self.shared.hosts.lock().power(node)
    }

    /// Which life of the node this is: 1 for the first.
    #[must_use]
    pub fn life(&self, node: NodeId) -> u32 {
        self.shared.hosts.lock().life(node).number
    }

    /// The name a node was added with.
    #[must_use]
    pub fn name(&self, node: NodeId) -> String {
        self.shared.hosts.lock().name(node).to_string()
    }

    /// The address a node was added with.
    #[must_use]
    pub fn addr(&self, node: NodeId) -> IpAddr {
        self.shared.hosts.lock().addr(node)
    }

    /// Sets how far a node's wall clock is off, in milliseconds.
    pub fn set_wall_skew(&self, node: NodeId, skew_ms: i64) {
        self.shared.record(
            Event::Fault,
            [u64::from(node.number()), skew_ms.cast_unsigned()],
            || format!("{node} wall skew {skew_ms} ms"),
        );
        self.shared.hosts.lock().set_wall_skew_ms(node, skew_ms);
    }

    /// Lets a node's wall clock gain so many millionths of the time that passes from now on, or lose
    /// them. What it is off by already stays.
    pub fn set_wall_drift(&self, node: NodeId, per_million: i64) {
        self.shared.record(
            Event::Fault,
            [u64::from(node.number()), per_million.cast_unsigned()],
            || format!("{node} wall drift {per_million} ppm"),
        );
        let now_nanos = self.shared.now_nanos();
        self.shared.hosts.lock().set_wall_drift(node, per_million, now_nanos);
    }

    /// Puts work of `cost_nanos` behind what the node's one CPU has to do; returns when it is done.
    /// Waiting for that is the caller's.
    #[must_use = "the work takes time only for who waits until then"]
    pub fn charge(&self, node: NodeId, cost_nanos: u64) -> Instant {
        Instant(self.shared.hosts.lock().charge(node, self.shared.now_nanos(), cost_nanos))
    }

    /// The keyed stream of an entity and a purpose: the same at every call.
    #[must_use]
    pub fn stream(&self, entity: &str, purpose: &str) -> KeyedStream {
        let parts: [&[u8]; 3] = [b"world", entity.as_bytes(), purpose.as_bytes()];
        KeyedStream::new(self.shared.config.seed, &parts)
    }

    /// Tells, for a dump, what the present task waits for. To be called in a poll that is about to
    /// return `Pending`.
    pub fn waiting(&self, what: &'static str) {
        self.shared.waiting(Wait::Other(what));
    }

    /// Enters an event of others into the journal. Neither bytes of bodies nor addresses in memory
    /// may be in it.
    pub fn note(&self, kind: &str, text: &str) {
        self.shared.journal.lock().note(self.shared.now_nanos(), kind, text);
    }

    /// The rolling hash over all events so far.
    #[must_use]
    pub fn journal_hash(&self) -> JournalHash {
        self.shared.journal.lock().hash()
    }

    /// How many events the journal has taken up.
    #[must_use]
    pub fn journal_len(&self) -> u64 {
        self.shared.journal.lock().events()
    }

    /// Sends the lines of the journal to `recorder` from now on, or to nobody. The hash is the
    /// same with and without.
    pub fn record_journal(&self, recorder: Option<Recorder>) {
        let before = self.shared.journal.lock().set_recorder(recorder);
        drop(before);
    }

    /// All tasks and what they wait for.
    #[must_use]
    pub fn dump(&self) -> Dump {
        self.shared.dump()
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let bytes_delivered = self.shared.net.lock().bytes_delivered();
        let executor = self.shared.executor.lock();
        Stats {
            events: executor.events,
            polls: executor.polls,
            timers: executor.timers,
            tasks_spawned: executor.spawned(),
            bytes_delivered,
            sim_nanos: self.shared.now_nanos(),
        }
    }

    /// Runs until `goal` says so, which is asked before every event, or until the deadline, at
    /// which time then stands.
    pub fn run_until(&self, mut goal: impl FnMut(&Self) -> bool, deadline: Instant) -> Outcome {
        let mut events_at_this_time = 0;
        loop {
            if goal(self) {
                return Outcome::Goal;
            }
            match self.shared.step(self, deadline.0) {
                Step::Ran => events_at_this_time += 1,
                Step::Moved => events_at_this_time = 0,
                Step::Deadline => {
                    self.shared.set_now_nanos(deadline.0.max(self.shared.now_nanos()));
                    return Outcome::Deadline;
                }
                Step::Nothing => return Outcome::Deadlock(self.dump()),
                Step::Panicked(report) => {
                    return Outcome::Panic { report, dump: self.dump() };
                }
            }
            if events_at_this_time > self.shared.config.stall_events_max {
                return Outcome::Stalled(self.dump());
            }
        }
    }

    /// Runs until `deadline`, whatever happens. Nothing left to do is no deadlock here.
    pub fn run_to(&self, deadline: Instant) -> Outcome {
        match self.run_until(|_| false, deadline) {
            Outcome::Deadlock(_) => {
                self.shared.set_now_nanos(deadline.0.max(self.shared.now_nanos()));
                Outcome::Deadline
            }
            other @ (Outcome::Goal
            | Outcome::Deadline
            | Outcome::Panic { .. }
            | Outcome::Stalled(_)) => other,
        }
    }

    /// Runs `work` as a task of the operator until it is done.
    ///
    /// # Errors
    ///
    /// How else the run ended; `work` is dropped then.
    pub fn block_on<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
        deadline: Instant,
    ) -> Result<T, Outcome> {
        let slot = Arc::new(Mutex::new(None));
        let result = Arc::clone(&slot);
        let handle = self.spawn(NodeId::OPERATOR, "main", async move {
            let value = work.await;
            *slot.lock() = Some(value);
        });
        let outcome = self.run_until(|_| result.lock().is_some(), deadline);
        drop(handle);
        let value = result.lock().take();
        value.ok_or(outcome)
    }

    /// Ends everything: all tasks are dropped and all timers forgotten.
    fn close(&self) {
        self.shared.closed.store(true, Ordering::Relaxed);
        self.shared.set_current(None);
        self.shared.end_tasks(None);
        loop {
            let timers = self.shared.timers.lock().clear();
            let ready = std::mem::take(&mut *self.shared.ready.lock());
            if timers.is_empty() && ready.is_empty() {
                break;
            }
            self.shared.guarded(NodeId::OPERATOR, "the end of the world", || {
                drop((timers, ready));
            });
        }
        let leftover = self.shared.net.lock().clear();
        drop(leftover);
        self.record_journal(None);
    }
}
