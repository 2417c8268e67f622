//! A rolling restart, as an orchestrator does it: one node after the other is told to stop, is started again once its process has
//! ended, and the next one has its turn once that is ready.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use kura_env::TaskHandle;
use parking_lot::Mutex;
use sim_engine::NodeId;

use super::{Judgement, Run, machine::Machine};
use crate::{invariants::Violation, scenario::Phase};

/// How often a node is looked at.
const LOOK: Duration = Duration::from_millis(100);
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
        let work = async move {
            loop {
                let Some(machine) = rest.lock().front().cloned() else { return };
                let life = machine.life();
                machine.stop();
                while machine.life() == life {
                    clock.sleep(LOOK).await;
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

impl Rolling {
    /// Whether all of them are done.
    pub(super) fn is_done(&self) -> impl Fn() -> bool + use<> {
        let left = self.left.clone();
        move || left.lock().is_empty()
    }
}
