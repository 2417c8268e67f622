//! A rolling restart, as an orchestrator does it: one node after the other is told to stop, is started again once its process has
//! ended, and the next one has its turn once that is ready.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use kura_env::TaskHandle;
use parking_lot::Mutex;
use sim_engine::NodeId;

use super::{Judgement, Run, machine::Machine};
use crate::{
    holdings::Holdings,
    invariants::{Violation, drain_loses_nothing},
    scenario::Phase,
};

/// How often a node is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How often one that is about to end is.
const END_LOOK: Duration = Duration::from_millis(10);
/// How long an orchestrator takes to start a process that has ended.
const PAUSE: Duration = Duration::from_secs(1);

/// The nodes that are still to be restarted, or are just now.
type Left = Arc<Mutex<VecDeque<Arc<Machine>>>>;

/// The rolling restart of one phase.
pub(super) struct Rolling {
    left: Left,
    _task: Option<TaskHandle>,
}

impl Run {
    /// Restarts the nodes that the phase says so of.
    pub(super) fn roll(&self, phase: &Phase) -> Rolling {
        let machines = self.scenario.positions(&phase.roll).into_iter();
        let left: Left =
            Arc::new(Mutex::new(machines.map(|it| self.machines[it].clone()).collect()));
        let (clock, rest) = (self.world.clock(NodeId::OPERATOR), left.clone());
        let others = self.scenario.expect.drains_whole.then(|| self.by_zone());
        let court = self.court.clone();
        let work = async move {
            loop {
                let Some(machine) = rest.lock().front().cloned() else { return };
                let (life, node) = (machine.life(), machine.node());
                machine.stop();
                // A store that is closed tells nothing.
                let mut held = machine.holdings();
                while machine.life() == life {
                    clock.sleep(END_LOOK).await;
                    held = Some(machine.holdings()).filter(|it| !it.is_empty()).unwrap_or(held);
                }
                if let Some(others) = &others {
                    let (verdict, ready) = left_nothing((&machine, node, &held), others);
                    let told = format!(
                        "{} ended with {} artifacts, {ready} others are ready",
                        machine.name,
                        held.len()
                    );
                    court.evidence().tell(clock.now(), told);
                    court.evidence().judge(clock.now(), verdict);
                }
                clock.sleep(PAUSE).await;
                machine.start();
                while machine.unready().is_some() {
                    clock.sleep(LOOK).await;
                }
                rest.lock().pop_front();
            }
        };
        let has_work = !left.lock().is_empty();
        let task = has_work.then(|| self.world.spawn(NodeId::OPERATOR, "rolling restart", work));
        Rolling { left, _task: task }
    }

    /// All nodes, and the zone of each.
    fn by_zone(&self) -> Vec<(String, Arc<Machine>)> {
        let zone = |machine: &Arc<Machine>| self.scenario.zone_of_node(&machine.name).to_owned();
        self.machines.iter().map(|machine| (zone(machine), machine.clone())).collect()
    }

    /// Judges the restarts of a phase that is over.
    pub(super) fn has_rolled(&self, phase: &Phase, rolling: &Rolling) -> Result<(), Judgement> {
        let left = rolling.left.lock();
        let Some(machine) = left.front() else { return Ok(()) };
        let why = machine.unready().unwrap_or_else(|| format!("{} is ready", machine.name));
        let reason = format!(
            "{} nodes of phase {} were not stopped and started again to the end: {why}",
            left.len(),
            phase.name
        );
        self.judged(Err(Violation { invariant: "phase.roll", reason }))
    }
}

/// Judges what `stopped`, whose number is `node`, held in the end by the others of its zone that are ready, and says how many those are.
fn left_nothing(
    (stopped, node, held): (&Machine, Option<u64>, &Holdings),
    all: &[(String, Arc<Machine>)],
) -> (Result<(), Violation>, usize) {
    let own = all.iter().find(|(_, it)| it.name == stopped.name).map(|(zone, _)| zone);
    let others = all.iter().filter(|(zone, it)| Some(zone) == own && it.name != stopped.name);
    let ready: Vec<_> = others.filter(|(_, it)| it.unready().is_none()).collect();
    let verdict = ready.iter().try_for_each(|(_, it)| {
        drain_loses_nothing::check((&stopped.name, node, held), (&it.name, &it.holdings()))
    });
    (verdict, ready.len())
}

impl Rolling {
    /// Whether all of them are done.
    pub(super) fn is_done(&self) -> impl Fn() -> bool + use<> {
        let left = self.left.clone();
        move || left.lock().is_empty()
    }
}
