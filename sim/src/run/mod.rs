//! The runner: one run is a function of scenario, seed and schedule. First it is cruel, in the
//! phases of the scenario, then kind.

mod catch_up;
mod cleaning;
mod clocks;
mod decay;
#[cfg(test)]
mod determinism;
mod dials;
mod evil;
mod faults;
mod heal;
mod inspection;
mod losses;
mod machine;
mod marks;
mod mesh;
mod phase;
mod primaries;
mod progress;
mod restart;
mod rolling;
mod snapshot;
mod spoil;
mod tenants;
mod topology;
mod turns;
mod watch;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use fault_injection::Plan;
use kura_core::limits::PeerLimits;
use kura_env::Instant;
use kura_node::{config::PeerConfig, service::State};
use parking_lot::Mutex;
use sim_engine::{Outcome, Recorder, World, WorldConfig};

use self::{
    faults::Weather,
    machine::{Blueprint, Machine, PEER_PORT},
    mesh::Mesh,
    topology::Hosts,
};
use crate::{
    client::{ActorWorld, Balancer, Keys, Target, connection::Place},
    court::Court,
    history::NodeIndex,
    invariants::{
        Violation, back_is_served, damage_is_told,
        refresh_bounded::{self, Appended},
        restart_is_neutral,
    },
    report::{CatchUp, CrashPoint, RunReport, Verdict},
    scenario::{ClientSpec, Document, Scenario, ScenarioError},
};

/// What a run depends on beside its scenario and seed.
#[derive(Default)]
pub struct Options {
    /// Chooses the order of tasks that are ready at the same time; the run's seed if `None`.
    pub schedule_seed: Option<u64>,
    /// Takes the lines of the journal.
    pub recorder: Option<Recorder>,
}

/// Runs a scenario on this thread, which must run no other world meanwhile.
///
/// # Errors
///
/// If a name in the scenario refers to nothing.
pub fn run(document: &Document, seed: u64, options: Options) -> Result<RunReport, ScenarioError> {
    let scenario = Scenario::of(document, seed)?;
    let run = Run::new(scenario, seed, options);
    let result = run.cruel().and_then(|()| run.heal());
    run.lies_are_not_stored();
    let result = result.and_then(|()| heal::decided(&run.court));
    let result = result.and_then(|()| run.clocks_are_right()).and_then(|()| run.expected());
    let report = run.report(result);
    run.machines.iter().for_each(|machine| machine.retire());
    run.mesh.iter().for_each(|mesh| mesh.dissolve());
    Ok(report)
}

/// Why a run did not pass.
enum Judgement {
    Violated(Violation),
    NotHealed(Violation),
}

struct Run {
    scenario: Scenario,
    seed: u64,
    court: Court,
    weather: Arc<Weather>,
    machines: Vec<Arc<Machine>>,
    mesh: Option<Arc<Mesh>>,
    groups: Vec<Arc<ActorWorld>>,
    hosts: Hosts,
    /// One for each phase in which nodes caught up.
    catch_ups: Mutex<Vec<CatchUp>>,
    world: World,
}

impl Run {
    fn new(scenario: Scenario, seed: u64, options: Options) -> Self {
        let mut config = WorldConfig::from_seed(seed);
        if let Some(schedule_seed) = options.schedule_seed {
            config.schedule_key = WorldConfig::from_seed(schedule_seed).schedule_key;
        }
        let world = World::new(config);
        world.record_journal(options.recorder);
        let court = Court::default();
        let hosts = topology::build(&world, &scenario);
        court.evidence().history.deletes.skewed(scenario.lags_by_at_most());
        let weather = Arc::new(Weather::new(scenario.faults.clone()));
        let mesh = scenario.mesh.then(|| Mesh::new(&world, &court, &scenario, seed));
        let machines = scenario.nodes.iter().enumerate().map(|(position, name)| {
            let blueprint = Blueprint {
                weather: &weather,
                mesh: mesh.as_ref(),
                peers: scenario.mesh.then(|| peers(&world, &hosts, &scenario, position)),
                name,
                index: NodeIndex(position),
                host: hosts.nodes[position],
                scenario: &scenario,
                seed,
            };
            Machine::new(&world, &court, &blueprint)
        });
        let machines: Vec<Arc<Machine>> = machines.collect();
        tenants::move_in(&world, &court, &scenario, &machines, seed);
        inspection::begin(&world, &court, &scenario, &machines);
        if let Some(mesh) = &mesh {
            mesh.assemble(&machines);
            court.evidence().history.span(machines.len());
        }
        if let Some(limit) = scenario.expect.reads_within {
            court.evidence().history.reads_within(limit);
        }
        if scenario.node.survives_power_loss {
            court.evidence().history.promises_last(scenario.node.promise);
        }
        let (groups, catch_ups) = (Vec::new(), Mutex::default());
        let mut run = Self {
            scenario,
            seed,
            court,
            weather,
            machines,
            mesh,
            groups,
            hosts,
            catch_ups,
            world,
        };
        run.groups =
            run.scenario.clients.iter().enumerate().map(|(at, c)| run.group(at, c)).collect();
        run
    }

    fn group(&self, position: usize, spec: &ClientSpec) -> Arc<ActorWorld> {
        let host = self.hosts.clients[position];
        let spec = Arc::new(spec.clone());
        let wanted = |machine: &&Arc<Machine>| {
            spec.nodes.is_empty() || spec.nodes.iter().any(|name| *name == machine.name)
        };
        let targets = self.machines.iter().filter(wanted);
        let targets: Vec<Target> = targets.map(|machine| self.target(&spec, machine)).collect();
        let place = Place {
            clock: self.world.clock(host),
            net: self.world.net(host),
            tasks: self.world.tasks(host),
        };
        let of = self.scenario.clients.iter().find(|group| group.name == spec.keys_of);
        let keys_of = of.map_or_else(|| spec.clone(), |of| Arc::new(of.clone()));
        let (machines, recovering) = (self.machines.clone(), self.machines.clone());
        let is_recovering =
            move |node: NodeIndex| recovering[node.0].state() == Some(State::Recovering);
        Arc::new(ActorWorld {
            keys: Keys::new(keys_of, self.seed),
            promise: self.scenario.node.promise,
            answers_within: self.scenario.expect.answers_within,
            puts_within: self.scenario.expect.puts_within,
            is_recovering: Box::new(is_recovering),
            on_disk: self.on_disk(),
            open_life: Box::new(move |node| machines[node.0].open_life()),
            once: Mutex::default(),
            balancer: match spec.follows_primary {
                true => Balancer::new(place.clone(), targets.clone()),
                false => None,
            },
            targets,
            spec,
            place,
            body_bytes_max: self.scenario.node.body_bytes_max,
            court: self.court.clone(),
        })
    }

    /// A node as a group of clients sees it.
    fn target(&self, spec: &ClientSpec, machine: &Machine) -> Target {
        let zone = self.scenario.zone_of_node(&machine.name);
        let is_near = zone == self.scenario.zone_of_client(&spec.name);
        Target { node: machine.index, addr: machine.addr, is_near }
    }

    fn tell(&self, what: String) {
        self.court.evidence().tell(self.world.now(), what);
    }

    /// The cruel half: the phases, one after the other.
    fn cruel(&self) -> Result<(), Judgement> {
        self.machines.iter().for_each(Machine::start);
        let _watches = (self.watch_lives(), self.watch_primaries(), self.watch_progress());
        crash_by_the_clock(&self.world, &self.weather, &self.machines);
        self.scenario.phases.iter().try_for_each(|phase| self.phase(phase))
    }

    /// A run that ended because of the engine: a panic, a deadlock, a livelock.
    fn engine_failed(&self, outcome: &Outcome) -> Judgement {
        let invariant = match outcome {
            Outcome::Panic { .. } => "no_panic",
            Outcome::Stalled(_) => "no_livelock",
            Outcome::Goal | Outcome::Deadline | Outcome::Deadlock(_) => "no_deadlock",
        };
        let violation = Violation { invariant, reason: outcome.to_string() };
        self.court.evidence().judge(self.world.now(), Err(violation.clone()));
        Judgement::Violated(violation)
    }

    /// What the scenario expects beside the invariants.
    fn expected(&self) -> Result<(), Judgement> {
        let unmet = |invariant, reason| {
            let violation = Violation { invariant, reason };
            self.court.evidence().judge(self.world.now(), Err(violation.clone()));
            Err(Judgement::Violated(violation))
        };
        let evictions: u64 = self.machines.iter().map(|machine| machine.turns.evictions()).sum();
        let promised = self.court.evidence().history.promised_paths();
        self.tell(format!("{evictions} evictions were judged; {promised} artifacts were promised"));
        let done = self.court.evidence().history.deletes.done();
        if done > 0 {
            self.tell(format!("{done} deletes were acknowledged"));
        }
        let statuses = self.court.evidence().history.statuses().clone();
        for status in &self.scenario.expect.statuses {
            if !statuses.contains_key(status) {
                let reason = format!("no client was ever answered {status}, only {statuses:?}");
                return unmet("expect.statuses", reason);
            }
        }
        self.copied_within_bounds().map_err(|violation| {
            self.court.evidence().judge(self.world.now(), Err(violation.clone()));
            Judgement::Violated(violation)
        })?;
        self.has_restarted()?;
        let turns: u64 = self.machines.iter().map(|m| evicted_segments(m)).sum();
        let least = self.scenario.expect.ring_turns_min;
        if turns < least {
            let reason = format!("{turns} segments were evicted in all, expected {least}");
            return unmet("expect.ring_turns_min", reason);
        }
        let (ties, least) = (self.court.evidence().ties, self.scenario.expect.ties_min);
        if ties < least {
            let reason = format!("{ties} names had two bodies of one version, expected {least}");
            return unmet("expect.ties_min", reason);
        }
        let early = self.court.evidence().history.early_hits();
        self.judged(back_is_served::check(early, self.scenario.expect.early_hits_min))?;
        self.told_of_damage()
    }

    /// Whether every node counted what it met.
    fn told_of_damage(&self) -> Result<(), Judgement> {
        self.machines.iter().try_for_each(|machine| {
            let (met, told) = machine.damage();
            self.judged(damage_is_told::check(&machine.name, met, told))
        })
    }

    fn judged(&self, verdict: Result<(), Violation>) -> Result<(), Judgement> {
        self.court.evidence().judge(self.world.now(), verdict.clone());
        verdict.map_err(Judgement::Violated)
    }

    /// Whether restarts, where the scenario has any, were held against anything.
    fn has_restarted(&self) -> Result<(), Judgement> {
        let wants = self.scenario.phases.iter().any(|phase| !phase.restart.is_empty());
        let (restarts, acked) = {
            let evidence = self.court.evidence();
            (evidence.restarts, evidence.history.acked_bytes())
        };
        if !wants || acked == 0 {
            return Ok(());
        }
        self.tell(format!("{restarts:?}"));
        let verdict = restart_is_neutral::check_compared(restarts);
        self.court.evidence().judge(self.world.now(), verdict.clone());
        verdict.map_err(Judgement::Violated)
    }

    /// Whether nodes without peers copied no more forward than they may.
    fn copied_within_bounds(&self) -> Result<(), Violation> {
        let evidence = self.court.evidence();
        let alone = self.machines.iter().filter(|_| self.mesh.is_none());
        let told = |machine: &Machine| {
            let (puts, put_bytes) = evidence.history.tried(machine.index);
            let appended = machine.turns.appended(self.scenario.disk.capacity_bytes);
            Appended { puts, put_bytes, lives: machine.starts(), ..appended }
        };
        let mut alone = alone.map(|machine| (&machine.name, told(machine)));
        alone.try_for_each(|(name, appended)| refresh_bounded::check(name, appended))
    }

    fn report(&self, result: Result<(), Judgement>) -> RunReport {
        let (verdict, violation) = match result {
            Ok(()) => (Verdict::Pass, None),
            Err(Judgement::Violated(violation)) => (Verdict::Violated, Some(violation)),
            Err(Judgement::NotHealed(violation)) => (Verdict::NotHealed, Some(violation)),
        };
        let stats = self.world.stats();
        let evidence = self.court.evidence();
        RunReport {
            scenario: self.scenario.name.clone(),
            seed: self.seed,
            verdict,
            invariant: violation.as_ref().map(|v| v.invariant.to_owned()).unwrap_or_default(),
            reason: violation.map(|v| v.reason).unwrap_or_default(),
            sim_seconds: std::time::Duration::from_nanos(stats.sim_nanos).as_secs_f64(),
            events: stats.events,
            journal_hash: self.world.journal_hash().to_string(),
            faults_fired: self.fired(),
            crash_points: self.crash_points(),
            plan: self.plan(),
            drawn: self.scenario.drawn.chosen.clone(),
            statuses: evidence.history.statuses().clone(),
            hits: evidence.history.hits(),
            read_bytes: evidence.history.read_bytes(),
            acked_bytes: evidence.history.acked_bytes(),
            catch_ups: self.catch_ups.lock().clone(),
            timeline: evidence.timeline(),
        }
    }

    /// How often each class of fault struck.
    fn fired(&self) -> BTreeMap<String, u64> {
        let mut fired = self.weather.fired();
        fired.extend(self.mesh.iter().flat_map(|mesh| mesh.strikes_fired()));
        fired
    }

    /// The faults as they were drawn.
    fn plan(&self) -> Plan {
        Plan { faults: self.scenario.faults.iter().map(|spec| spec.fault.clone()).collect() }
    }

    /// How often each class of effect was crossed, and crashed at.
    fn crash_points(&self) -> BTreeMap<String, CrashPoint> {
        let mut points: BTreeMap<String, CrashPoint> = BTreeMap::new();
        for machine in &self.machines {
            for (class, count) in machine.disk.effect_classes() {
                points.entry(class).or_default().crossed += count;
            }
        }
        for (class, count) in self.weather.crashed_at() {
            points.entry(class).or_default().crashed += count;
        }
        for ((crash, class), distance) in self.weather.met_behind() {
            points.entry(class).or_default().behind[crash] = distance;
        }
        points
    }
}

/// Brings about the crashes that wait for no operation, one after the other.
fn crash_by_the_clock(world: &World, weather: &Arc<Weather>, machines: &[Arc<Machine>]) {
    let Some(millis) = weather.next_crash_millis() else { return };
    let (weather, machines) = (weather.clone(), machines.to_vec());
    let at = Instant(millis.saturating_mul(1_000_000));
    world.schedule(at, move |world| {
        if weather.next_crash_millis().is_none() {
            return; // it is calm by now
        }
        for fault in weather.due_crashes(world.now().0 / 1_000_000) {
            let machine = machines.iter().find(|machine| machine.name == fault.node);
            if let Some(machine) = machine {
                machine.crash(&fault);
            }
        }
        crash_by_the_clock(world, &weather, &machines);
    });
}

/// Who the peers of a node are: all nodes, itself among them, as in a mesh that is set up alike
/// everywhere.
fn peers(world: &World, hosts: &Hosts, scenario: &Scenario, position: usize) -> PeerConfig {
    let addr = |host| SocketAddr::new(world.addr(host), PEER_PORT);
    PeerConfig {
        listen: addr(hosts.nodes[position]),
        peers: hosts.nodes.iter().map(|host| addr(*host).to_string()).collect(),
        region: scenario.zone_of_node(&scenario.nodes[position]).to_owned(),
        peer_wait: scenario.node.peer_wait,
        pass_timeout: scenario.node.pass_timeout,
        read_through: scenario.node.read_through,
        bandwidth_bytes_per_second: scenario.node.bandwidth_bytes_per_second,
        primary: scenario.node.primary,
        limits: if scenario.node.narrow.contains(&scenario.nodes[position]) {
            PeerLimits::LEAST
        } else {
            PeerLimits::OURS
        },
    }
}

fn evicted_segments(machine: &Machine) -> u64 {
    let classes = machine.disk.effect_classes();
    let of = |class: &str| classes.get(class).copied().unwrap_or(0);
    of("unlink blobs/*.seg") + of("unlink entries/*.seg") + of("unlink pool/*/*.blob")
}
