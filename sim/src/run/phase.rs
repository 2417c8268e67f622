//! The phases of a run: who is at work, what is done to the nodes as one begins, and when it ends.

use std::{
    collections::BTreeSet,
    sync::{Arc, Weak},
    time::Duration,
};

use kura_env::{Instant, TaskHandle};
use sim_engine::{NodeId, Outcome, World};
use sim_storage::Crash;

use super::{
    Judgement, Run, catch_up::Outset, cleaning::Cleaning, heal::decided, machine::Machine,
    mesh::Mesh, rolling::Rolling,
};
use crate::{
    client::Actor,
    holdings::Missing,
    invariants::{Violation, mesh_heals, reads_hit},
    scenario::{CrashLoop, Phase},
};

/// How often a phase that ends with ready nodes looks at them.
const LOOK: Duration = Duration::from_millis(100);
/// How often one that ends when nodes lack nothing compares what they hold.
const COMPARE: Duration = Duration::from_secs(1);

/// Crashes one node again and again, until its storm is over.
struct Squall {
    machine: Arc<Machine>,
    storm: Weak<()>,
    crash: Crash,
    every: Duration,
    down_for: Duration,
}

impl Squall {
    fn wait(self, world: &World) {
        world.schedule(world.now() + self.every, move |world| {
            if self.storm.upgrade().is_some() {
                self.machine.crash_and_return(self.crash, self.down_for);
                self.wait(world);
            }
        });
    }
}

/// Nodes that have to hold whatever the others do.
struct Agreeing {
    mesh: Arc<Mesh>,
    names: BTreeSet<String>,
}

impl Agreeing {
    /// A line for each that lacks something.
    fn lacking(&self) -> Vec<String> {
        let lacking = self.mesh.lacking().into_iter();
        let lacking = lacking.filter(|missing| self.names.contains(&missing.node));
        let line = |missing: Missing| {
            let Missing { node, artifacts, outdated, example, .. } = missing;
            format!(
                "{node} lacks {artifacts} artifacts and holds {outdated} old ones, such as {example}"
            )
        };
        lacking.map(line).collect()
    }
}

impl Run {
    pub(super) fn phase(&self, phase: &Phase) -> Result<(), Judgement> {
        self.tell(format!("phase {}", phase.name));
        self.restart(phase)?;
        let begun = self.world.now();
        let (moved, read) = (self.moved_between_nodes(), self.read_so_far());
        let storm = Arc::new(());
        let catch_up = self.begin(phase, &storm);
        let (cleaning, rolling) = (self.clean(phase), self.roll(phase));
        let actors = self.employ(phase);
        self.crash_again_and_again(phase, &storm);
        let outcome = match self
            .world
            .run_until(self.end_of(phase, (&cleaning, &rolling)), begun + phase.lasts)
        {
            // Nobody at work and nothing to wait for is what an idle phase looks like.
            Outcome::Deadlock(_) if actors.is_empty() => self.world.run_to(begun + phase.lasts),
            outcome @ (Outcome::Goal
            | Outcome::Deadline
            | Outcome::Deadlock(_)
            | Outcome::Panic { .. }
            | Outcome::Stalled(_)) => outcome,
        };
        drop((actors, storm));
        self.correct_clocks(phase);
        self.end_lies(phase);
        if let Some(mesh) = &self.mesh {
            mesh.rejoin(&self.strangers());
        }
        match outcome {
            Outcome::Goal | Outcome::Deadline => {
                decided(&self.court)?;
                self.has_cleaned(phase, cleaning)?;
                self.has_rolled(phase, &rolling)?;
                self.clocks_are_right()?;
                self.were_struck()?;
                self.count_ties();
                self.lies_are_not_stored();
                self.ended(phase)?;
                self.has_settled(phase, moved)?;
                self.has_read(phase, read)?;
                catch_up.map_or(Ok(()), |catch_up| self.caught_up(catch_up))
            }
            failed @ (Outcome::Deadlock(_) | Outcome::Panic { .. } | Outcome::Stalled(_)) => {
                Err(self.engine_failed(&failed))
            }
        }
    }

    /// Does to the nodes what the phase says; what comes and goes does so for as long as somebody
    /// holds `storm`. What they lack as they start, if it is a catch-up.
    fn begin(&self, phase: &Phase, storm: &Arc<()>) -> Option<Outset> {
        let named = |names: &[String]| self.scenario.positions(names);
        for position in named(&phase.kill) {
            self.machines[position].kill();
        }
        for position in named(&phase.wipe) {
            self.machines[position].wipe();
        }
        for position in named(&phase.snapshot) {
            self.machines[position].take_image();
        }
        for position in named(&phase.restore) {
            self.machines[position].put_image_back();
        }
        if let Some(mesh) = &self.mesh {
            mesh.spoil(&self.scenario, phase);
            mesh.arm(&self.scenario, phase);
            mesh.sever(&self.scenario, phase, (&self.strangers(), storm));
        }
        self.set_clocks(phase);
        self.begin_lies(phase);
        let outset = self.outset(phase);
        for position in named(&phase.start) {
            self.machines[position].start();
        }
        outset
    }

    /// Crashes those that the phase says so of, for as long as somebody holds `storm`.
    fn crash_again_and_again(&self, phase: &Phase, storm: &Arc<()>) {
        let CrashLoop { nodes, every, power_loss, down_for } = phase.crashes.clone();
        let crash = power_loss.map_or(Crash::Sigkill, |keep| Crash::PowerLoss { keep });
        for position in self.scenario.positions(&nodes) {
            let (machine, storm) = (self.machines[position].clone(), Arc::downgrade(storm));
            let squall = Squall { machine, storm, crash, every, down_for };
            squall.wait(&self.world);
        }
    }

    /// Hosts that are no nodes.
    fn strangers(&self) -> Vec<NodeId> {
        let mut strangers = self.hosts.clients.clone();
        strangers.push(NodeId::OPERATOR);
        strangers
    }

    /// When the phase is over before its time.
    fn end_of(
        &self,
        phase: &Phase,
        (cleaning, rolling): (&Cleaning, &Rolling),
    ) -> impl FnMut(&World) -> bool + use<> {
        let until = phase.until_written_bytes.unwrap_or(u64::MAX);
        let court = self.court.clone();
        let awaited: Vec<Arc<Machine>> = self.awaited(phase);
        let groups = self.groups.iter().filter(|group| phase.clients.contains(&group.spec.name));
        let groups: Vec<_> = groups.cloned().collect();
        let agreeing = self.agreeing(phase);
        let (compares, look) = (agreeing.is_some(), agreeing.as_ref().map_or(LOOK, |_| COMPARE));
        let strikes = self.mesh.clone().filter(|_| !phase.strikes.is_empty());
        let has_end = !awaited.is_empty()
            || compares
            || strikes.is_some()
            || !phase.roll.is_empty()
            || groups.iter().any(|group| group.spec.once);
        let (is_clean, has_rolled) = (cleaning.is_done(), rolling.is_done());
        let mut look_at = Instant::default();
        move |world: &World| {
            if court.is_decided() || court.acked_bytes() >= until {
                return true;
            }
            if !has_end || world.now() < look_at {
                return false;
            }
            look_at = world.now() + look;
            let done =
                |group: &Arc<crate::client::ActorWorld>| !group.spec.once || group.is_finished();
            is_clean()
                && has_rolled()
                && strikes.as_ref().is_none_or(|mesh| mesh.is_struck())
                && groups.iter().all(done)
                && awaited.iter().all(|machine| machine.unready().is_none())
                && agreeing.as_ref().is_none_or(|agreeing| agreeing.lacking().is_empty())
        }
    }

    /// The nodes that have to lack nothing before a phase ends, if there are any.
    fn agreeing(&self, phase: &Phase) -> Option<Agreeing> {
        let mesh = self.mesh.clone().filter(|_| !phase.agree.is_empty())?;
        let positions = self.scenario.positions(&phase.agree).into_iter();
        let names = positions.map(|position| self.machines[position].name.clone());
        Some(Agreeing { mesh, names: names.collect() })
    }

    fn awaited(&self, phase: &Phase) -> Vec<Arc<Machine>> {
        let positions = self.scenario.positions(&phase.ready).into_iter();
        positions.map(|position| self.machines[position].clone()).collect()
    }

    /// Bodies that were read back whole, and how many were asked for.
    fn read_so_far(&self) -> (u64, u64) {
        let evidence = self.court.evidence();
        (evidence.history.hits(), evidence.history.reads())
    }

    /// Judges what clients read in a phase; `before` is what they had read when it began.
    fn has_read(&self, phase: &Phase, before: (u64, u64)) -> Result<(), Judgement> {
        let Some(at_least) = phase.hits_min else { return Ok(()) };
        let (hits, reads) = self.read_so_far();
        let (hits, reads) = (hits - before.0, reads - before.1);
        self.tell(format!("{hits} of {reads} reads were hits"));
        self.judged(reads_hit::check(&phase.name, hits, reads, at_least))
    }

    /// Whether every strike of the phase came, and is over.
    fn were_struck(&self) -> Result<(), Judgement> {
        let missed = self.mesh.as_ref().and_then(|mesh| mesh.not_struck());
        let violated = |reason| Violation { invariant: "phase.strikes", reason };
        self.judged(missed.map_or(Ok(()), |reason| Err(violated(reason))))
    }

    /// Judges how a phase ended.
    fn ended(&self, phase: &Phase) -> Result<(), Judgement> {
        let awaited = self.awaited(phase);
        let mut unready: Vec<String> =
            awaited.iter().filter_map(|machine| machine.unready()).collect();
        unready.extend(self.agreeing(phase).iter().flat_map(Agreeing::lacking));
        let verdict = mesh_heals::check_phase(&phase.name, &unready);
        self.court.evidence().judge(self.world.now(), verdict.clone());
        verdict.map_err(Judgement::NotHealed)
    }

    /// Sets the actors of a phase to work, for as long as their handles live.
    fn employ(&self, phase: &Phase) -> Vec<TaskHandle> {
        let at_work = self.groups.iter().enumerate();
        let at_work = at_work.filter(|(_, group)| phase.clients.contains(&group.spec.name));
        let mut actors = Vec::new();
        for (position, group) in at_work {
            if let Some(balancer) = &group.balancer {
                let work = balancer.clone().run();
                actors.push(self.world.spawn(self.hosts.clients[position], "balancer", work));
            }
            for number in 0..group.spec.actors {
                let actor = Actor::new(group.clone(), self.seed, number);
                let name = format!("actor {number}");
                actors.push(self.world.spawn(self.hosts.clients[position], &name, actor.run()));
            }
        }
        actors
    }
}
