//! What moves while nodes catch up with their peers: in phases that end when nodes are ready or lack nothing, and in
//! which no client is at work.

use std::{collections::BTreeSet, time::Duration};

use kura_env::Instant;
use sim_engine::{LinkId, NodeId};

use super::{Judgement, Run, evicted_segments, heal::decided};
use crate::{
    holdings::Holdings,
    invariants::{fetch_settles, fetched_once, link_is_used, near_first},
    report::CatchUp,
    scenario::Phase,
};

/// What the links between nodes have carried so far.
#[derive(Clone, Copy)]
pub(super) struct Moved {
    all_bytes: u64,
    /// Those between nodes of different zones.
    far_bytes: u64,
}

/// How things stand as a catch-up begins.
pub(super) struct Outset {
    phase: String,
    begun: Instant,
    /// By position, the nodes that are to be ready, and what each holds.
    nodes: Vec<(usize, Holdings)>,
    missing_bytes: u64,
    moved_bytes: u64,
    evicted_segments: u64,
}

impl Run {
    /// How things stand, if the phase that begins is a catch-up. To be asked before its nodes start.
    pub(super) fn outset(&self, phase: &Phase) -> Option<Outset> {
        let mesh = self.mesh.as_ref().filter(|_| phase.is_catch_up())?;
        let mut awaited = self.scenario.positions(&phase.ready);
        awaited.extend(self.scenario.positions(&phase.agree));
        awaited.sort_unstable();
        awaited.dedup();
        let names: BTreeSet<&String> = awaited.iter().map(|at| &self.machines[*at].name).collect();
        let lacking = mesh.lacking();
        let lacking = lacking.iter().filter(|missing| names.contains(&missing.node));
        let holdings = |at: usize| (at, self.machines[at].holdings());
        Some(Outset {
            phase: phase.name.clone(),
            begun: self.world.now(),
            missing_bytes: lacking.map(|missing| missing.bytes).sum(),
            moved_bytes: self.moved_bytes(&self.links_to(&awaited)),
            evicted_segments: self.machines.iter().map(|machine| evicted_segments(machine)).sum(),
            nodes: awaited.into_iter().map(holdings).collect(),
        })
    }

    /// Measures a catch-up that is over, and judges it by what the scenario expects.
    pub(super) fn caught_up(&self, outset: Outset) -> Result<(), Judgement> {
        let positions: Vec<usize> = outset.nodes.iter().map(|(at, _)| *at).collect();
        let links = self.links_to(&positions);
        let network = self.world.network();
        let rate = |link: &LinkId| network.link_config(*link).bandwidth_bytes_per_second;
        let rates = links.iter().map(|link| rate(link).unwrap_or(u64::MAX));
        let evicted: u64 = self.machines.iter().map(|machine| evicted_segments(machine)).sum();
        let catch_up = CatchUp {
            phase: outset.phase,
            took_nanos: nanos(self.world.now().since(outset.begun)),
            missing_bytes: outset.missing_bytes,
            gained_bytes: outset.nodes.iter().map(|(at, held)| self.gained_bytes(*at, held)).sum(),
            moved_bytes: self.moved_bytes(&links) - outset.moved_bytes,
            capacity_bytes_per_second: rates.fold(0, u64::saturating_add),
            round_trip_nanos: self.round_trip_nanos(&positions),
            evicted_segments: evicted - outset.evicted_segments,
        };
        self.tell(format!("{catch_up:?}"));
        let mut verdicts = Vec::new();
        if let Some(demand) = self.scenario.expect.link_used {
            verdicts.push(link_is_used::check(&catch_up, demand));
        }
        if let Some(at_most) = self.scenario.expect.fetched_at_most {
            verdicts.push(fetched_once::check(&catch_up, at_most));
        }
        self.catch_ups.lock().push(catch_up);
        for verdict in verdicts {
            self.court.evidence().judge(self.world.now(), verdict);
        }
        decided(&self.court)
    }

    /// Bytes of bodies that a node holds and did not hold in that version.
    fn gained_bytes(&self, position: usize, held: &Holdings) -> u64 {
        let holds = self.machines[position].holdings();
        let gained = holds.iter().filter(|(key, holding)| held.get(*key) != Some(*holding));
        gained.map(|(_, holding)| holding.body_bytes).sum()
    }

    /// The pairs of hosts over which the other nodes reach these.
    fn ways_to(&self, positions: &[usize]) -> Vec<(NodeId, NodeId)> {
        let nodes = &self.hosts.nodes;
        let to = positions.iter().map(|at| nodes[*at]);
        to.flat_map(|to| nodes.iter().map(move |from| (*from, to)))
            .filter(|(from, to)| from != to)
            .collect()
    }

    /// The links over which the other nodes reach these, each once.
    fn links_to(&self, positions: &[usize]) -> BTreeSet<LinkId> {
        let network = self.world.network();
        let ways = self.ways_to(positions);
        ways.into_iter().flat_map(|(from, to)| network.path(from, to)).collect()
    }

    /// Bytes that the links between nodes have carried.
    pub(super) fn moved_between_nodes(&self) -> Moved {
        let all: Vec<usize> = (0..self.machines.len()).collect();
        Moved {
            all_bytes: self.moved_bytes(&self.links_to(&all)),
            far_bytes: self.moved_bytes(&self.links_between_zones()),
        }
    }

    /// The links over which nodes of different zones reach each other, each once.
    fn links_between_zones(&self) -> BTreeSet<LinkId> {
        let (network, scenario) = (self.world.network(), &self.scenario);
        let nodes = || scenario.nodes.iter().zip(&self.hosts.nodes);
        let ways = nodes().flat_map(|from| nodes().map(move |to| (from, to)));
        let far = ways.filter(|((from, _), (to, _))| {
            scenario.zone_of_node(from) != scenario.zone_of_node(to)
        });
        far.flat_map(|((_, from), (_, to))| network.path(*from, *to)).collect()
    }

    /// Judges what the links between nodes carried in a phase; what they had carried `before` is what they had when it
    /// began.
    pub(super) fn has_settled(&self, phase: &Phase, before: Moved) -> Result<(), Judgement> {
        let now = self.moved_between_nodes();
        let (all_bytes, far_bytes) =
            (now.all_bytes - before.all_bytes, now.far_bytes - before.far_bytes);
        if let Some(at_most_bytes) = phase.moved_bytes_max {
            self.tell(format!("{all_bytes} bytes moved between nodes"));
            let verdict = fetch_settles::check(&phase.name, all_bytes, at_most_bytes);
            self.court.evidence().judge(self.world.now(), verdict);
        }
        if let Some(at_most_bytes) = phase.far_moved_bytes_max {
            self.tell(format!("{far_bytes} bytes moved between nodes of different zones"));
            let verdict = near_first::check(&phase.name, far_bytes, at_most_bytes);
            self.court.evidence().judge(self.world.now(), verdict);
        }
        decided(&self.court)
    }

    fn moved_bytes(&self, links: &BTreeSet<LinkId>) -> u64 {
        let network = self.world.network();
        links.iter().map(|link| network.link_stats(*link).bytes).sum()
    }

    /// Of the longest way between one of these nodes and another one.
    fn round_trip_nanos(&self, positions: &[usize]) -> u64 {
        let network = self.world.network();
        let latency = |from, to| -> Duration {
            let links = network.path(from, to);
            links.into_iter().map(|link| network.link_config(link).latency).sum()
        };
        let ways = self.ways_to(positions).into_iter();
        ways.map(|(a, b)| nanos(latency(a, b) + latency(b, a))).max().unwrap_or(0)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
