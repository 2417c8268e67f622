//! turmoil around the machines: steps it, and does between two steps what the story asks for.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use fault_injection::{Injector, Plan};
use kura_env::{BoxFuture, Instant};
use parking_lot::Mutex;
use sim::{
    client::connection::Place,
    court::Court,
    invariants::Violation,
    report::{CrashPoint, RunReport, Verdict},
};
use turmoil::{Builder, Sim};

use crate::{
    clock::{EPOCH, TurmoilClock},
    journal::Journal,
    machine::{Ground, Machine, name},
    net::TurmoilNet,
    tasks::TurmoilTasks,
};

/// How many nodes each story has.
pub(crate) const NODES: usize = 3;
/// Where the story runs.
const OPERATOR: &str = "operator";
/// The grain of time: hosts take turns of this length.
const TICK: Duration = Duration::from_millis(1);
/// Segments that turmoil holds for a connection, and connections it holds for a listener. More
/// than these many pending connections panic, and exactly this many unread segments before an end
/// of stream never deliver it.
const TCP_CAPACITY: usize = 65_536;
/// Many times what a story takes, in simulated time.
const STORY_MAX: Duration = Duration::from_secs(3600);

/// A story, told to its end.
pub(crate) type Story = fn(Stage) -> BoxFuture<'static, Result<(), Violation>>;

/// What a story is about: its name, its faults and its course.
pub(crate) struct Play {
    pub(crate) scenario: &'static str,
    pub(crate) plan: fn(seed: u64) -> Plan,
    pub(crate) story: Story,
}

/// What the story asks of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Start(usize),
    Kill(usize),
    Partition(usize),
    Repair(usize),
}

/// What a story has to do with.
#[derive(Clone)]
pub(crate) struct Stage {
    pub(crate) seed: u64,
    pub(crate) court: Court,
    pub(crate) machines: Vec<Arc<Machine>>,
    pub(crate) place: Place,
    pub(crate) injector: Arc<Injector>,
    journal: Journal,
    orders: Arc<Mutex<Vec<Order>>>,
}

impl Stage {
    /// Starts nodes that are dead, all within one step.
    pub(crate) async fn start(&self, nodes: &[usize]) {
        self.order(nodes.iter().map(|node| Order::Start(*node))).await;
    }

    /// Kills nodes, all between two steps.
    pub(crate) async fn kill(&self, nodes: &[usize]) {
        self.order(nodes.iter().map(|node| Order::Kill(*node))).await;
    }

    /// Cuts a node off from all others.
    pub(crate) async fn partition(&self, node: usize) {
        self.order([Order::Partition(node)].into_iter()).await;
    }

    /// Ends that.
    pub(crate) async fn repair(&self, node: usize) {
        self.order([Order::Repair(node)].into_iter()).await;
    }

    async fn order(&self, orders: impl Iterator<Item = Order>) {
        self.orders.lock().extend(orders);
        self.sleep(TICK * 2).await;
    }

    pub(crate) async fn sleep(&self, duration: Duration) {
        self.place.clock.sleep(duration).await;
    }

    pub(crate) fn now(&self) -> Instant {
        self.place.clock.now()
    }

    /// Tells what happens, for the timeline and the hash.
    pub(crate) fn tell(&self, what: String) {
        self.journal.record(self.now(), OPERATOR, format_args!("{what}"));
        self.court.evidence().tell(self.now(), what);
    }

    pub(crate) fn addr(&self, node: usize) -> SocketAddr {
        self.machines[node].addr
    }
}

/// Runs one play under one seed. To be called on a thread of its own.
pub(crate) fn run(play: &Play, seed: u64) -> RunReport {
    let ground = Ground {
        seed,
        court: Court::default(),
        journal: Journal::default(),
        injector: Arc::new(Injector::new((play.plan)(seed))),
    };
    let mut sim = Builder::new()
        .epoch(std::time::UNIX_EPOCH + EPOCH)
        .rng_seed(seed)
        .tick_duration(TICK)
        .tcp_capacity(TCP_CAPACITY)
        .enable_random_order()
        .simulation_duration(STORY_MAX * 2)
        .build();
    let stage = set(&mut sim, &ground);
    let end: Arc<Mutex<Option<Result<(), Violation>>>> = Arc::default();
    let telling = (play.story)(stage.clone());
    let told = end.clone();
    sim.client(OPERATOR, async move {
        let result = telling.await;
        *told.lock() = Some(result);
        Ok(())
    });
    let result = drive(&mut sim, &stage, &end);
    let report = report(play, &ground, &stage, (result, sim.elapsed()));
    stage.machines.iter().for_each(|machine| machine.retire());
    report
}

/// Registers the hosts, all of them dead.
fn set(sim: &mut Sim<'_>, ground: &Ground) -> Stage {
    let addrs: Vec<_> = (0..NODES).map(|position| sim.lookup(name(position))).collect();
    let machines = (0..NODES).map(|position| Machine::new(ground, position, &addrs));
    let machines: Vec<Arc<Machine>> = machines.collect();
    for machine in &machines {
        let living = machine.clone();
        sim.host(&*machine.name, move || {
            let life = living.clone().live();
            async move {
                life.await;
                Ok(())
            }
        });
        sim.crash(&*machine.name);
    }
    ground.court.evidence().history.span(NODES);
    let clock = Arc::new(TurmoilClock::default());
    let net =
        TurmoilNet { host: OPERATOR.into(), clock: clock.clone(), journal: ground.journal.clone() };
    Stage {
        seed: ground.seed,
        court: ground.court.clone(),
        machines,
        place: Place { clock, net: Arc::new(net), tasks: Arc::new(TurmoilTasks) },
        injector: ground.injector.clone(),
        journal: ground.journal.clone(),
        orders: Arc::default(),
    }
}

/// Steps the engine until the story has ended, or something was violated.
fn drive(
    sim: &mut Sim<'_>,
    stage: &Stage,
    end: &Mutex<Option<Result<(), Violation>>>,
) -> Result<(), Violation> {
    loop {
        if let Err(error) = sim.step() {
            let reason = format!("the engine failed: {error}");
            return Err(Violation { invariant: "no_panic", reason });
        }
        for order in std::mem::take(&mut *stage.orders.lock()) {
            obey(sim, stage, order);
        }
        if let Some(violation) = stage.court.evidence().violation() {
            return Err(violation.clone());
        }
        if let Some(result) = end.lock().take() {
            return result;
        }
        if sim.elapsed() > STORY_MAX {
            let reason = format!("the story does not end within {STORY_MAX:?}");
            return Err(Violation { invariant: "no_livelock", reason });
        }
    }
}

fn obey(sim: &mut Sim<'_>, stage: &Stage, order: Order) {
    let others = |node: usize| (0..NODES).filter(move |other| *other != node);
    match order {
        Order::Start(node) => sim.bounce(name(node)),
        Order::Kill(node) => {
            stage.machines[node].fall();
            sim.crash(name(node));
        }
        Order::Partition(node) => {
            others(node).for_each(|other| sim.partition(name(node), name(other)));
        }
        Order::Repair(node) => others(node).for_each(|other| sim.repair(name(node), name(other))),
    }
}

fn report(
    play: &Play,
    ground: &Ground,
    stage: &Stage,
    (result, elapsed): (Result<(), Violation>, Duration),
) -> RunReport {
    let violation = result.err();
    let verdict = match &violation {
        None => Verdict::Pass,
        Some(violation) if violation.invariant == sim::invariants::mesh_heals::INVARIANT.name => {
            Verdict::NotHealed
        }
        Some(_) => Verdict::Violated,
    };
    let mut crash_points = std::collections::BTreeMap::<String, CrashPoint>::new();
    for (class, count) in stage.machines.iter().flat_map(|machine| machine.disk.effect_classes()) {
        crash_points.entry(class).or_default().crossed += count;
    }
    let evidence = ground.court.evidence();
    RunReport {
        scenario: play.scenario.to_owned(),
        seed: ground.seed,
        verdict,
        invariant: violation.as_ref().map(|it| it.invariant.to_owned()).unwrap_or_default(),
        reason: violation.map(|it| it.reason).unwrap_or_default(),
        sim_seconds: elapsed.as_secs_f64(),
        events: ground.journal.events(),
        journal_hash: ground.journal.hash(),
        faults_fired: ground.injector.fired(),
        crash_points,
        plan: (play.plan)(ground.seed),
        drawn: std::collections::BTreeMap::new(),
        statuses: evidence.history.statuses().clone(),
        hits: evidence.history.hits(),
        read_bytes: evidence.history.read_bytes(),
        acked_bytes: evidence.history.acked_bytes(),
        catch_ups: Vec::new(),
        timeline: evidence.timeline(),
    }
}
