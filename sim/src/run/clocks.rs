//! Wall clocks: those that a phase sets wrong, and whether they took others with them.

use std::collections::BTreeSet;

use kura_core::place::Place;
use sim_engine::NodeId;

use super::{Judgement, Run, heal::decided};
use crate::{invariants::clocks_are_not_poisoned, scenario::Phase};

impl Run {
    /// Sets clocks ahead or back, as a phase says, and lets them drift.
    pub(super) fn set_clocks(&self, phase: &Phase) {
        let by_ms = i64::try_from(phase.clock_by.as_millis()).unwrap_or(i64::MAX);
        let drift = i64::try_from(phase.clock_drift).unwrap_or(i64::MAX);
        for (names, way) in [(&phase.clock_ahead, 1), (&phase.clock_behind, -1)] {
            for position in self.scenario.positions(names) {
                let host = self.machines[position].host;
                self.world.set_wall_skew(host, way * by_ms);
                if drift > 0 {
                    self.world.set_wall_drift(host, way * drift);
                }
            }
        }
    }

    /// Sets them right again.
    pub(super) fn correct_clocks(&self, phase: &Phase) {
        for names in [&phase.clock_ahead, &phase.clock_behind] {
            for position in self.scenario.positions(names) {
                let host = self.machines[position].host;
                if phase.clock_drift > 0 {
                    self.world.set_wall_drift(host, 0);
                }
                self.world.set_wall_skew(host, 0);
            }
        }
    }

    /// Judges what is in the catalogs of the nodes whose clocks are right in every phase.
    pub(super) fn clocks_are_right(&self) -> Result<(), Judgement> {
        let phases = self.scenario.phases.iter();
        let lists = phases.flat_map(|phase| [&phase.clock_ahead, &phase.clock_behind]);
        let mut wrong: BTreeSet<usize> =
            lists.flat_map(|names| self.scenario.positions(names)).collect();
        wrong.extend(self.mesh.iter().flat_map(|mesh| mesh.jumped()));
        let has_liars = self.scenario.phases.iter().any(|phase| !phase.evil.is_empty());
        let wall_ms = self.world.clock(NodeId::OPERATOR).wall().0;
        for (position, machine) in self.machines.iter().enumerate() {
            if wrong.is_empty() && !has_liars || wrong.contains(&position) {
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
