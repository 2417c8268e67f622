//! Wall clocks: those that a phase sets wrong, and whether they took others with them.

use std::collections::BTreeSet;

use kura_core::place::Place;
use sim_engine::NodeId;

use super::{Judgement, Run, heal::decided};
use crate::{invariants::clocks_are_not_poisoned, scenario::Phase};

impl Run {
    /// Sets clocks ahead, as a phase says.
    pub(super) fn set_clocks(&self, phase: &Phase) {
        let ahead_ms = i64::try_from(phase.clock_by.as_millis()).unwrap_or(i64::MAX);
        for position in self.scenario.positions(&phase.clock_ahead) {
            self.world.set_wall_skew(self.machines[position].host, ahead_ms);
        }
    }

    /// Sets them right again.
    pub(super) fn correct_clocks(&self, phase: &Phase) {
        for position in self.scenario.positions(&phase.clock_ahead) {
            self.world.set_wall_skew(self.machines[position].host, 0);
        }
    }

    /// Judges what is in the catalogs of the nodes whose clocks are right in every phase.
    pub(super) fn clocks_are_right(&self) -> Result<(), Judgement> {
        let phases = self.scenario.phases.iter();
        let wrong: BTreeSet<usize> =
            phases.flat_map(|phase| self.scenario.positions(&phase.clock_ahead)).collect();
        let wall_ms = self.world.clock(NodeId::OPERATOR).wall().0;
        for (position, machine) in self.machines.iter().enumerate() {
            if wrong.is_empty() || wrong.contains(&position) {
                continue;
            }
            let places = machine.image().places;
            let times = places.iter().filter_map(|(_, row)| Some(Place::decode(row)?.version.time));
            let verdict = clocks_are_not_poisoned::check(&machine.name, times.max(), wall_ms);
            self.court.evidence().judge(self.world.now(), verdict);
        }
        decided(&self.court)
    }
}
