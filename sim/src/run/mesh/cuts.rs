//! Who is cut off from whom: both ways or one, for a whole phase or on and off.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use kura_env::Instant;
use parking_lot::Mutex;
use sim_engine::{Cut, NodeId, World};

use super::Mesh;
use crate::{
    draw::Draw,
    scenario::{ALL_NODES, CutHow, Flaps, Phase, Scenario},
};

/// The cuts of a run.
#[derive(Default)]
pub(super) struct Cuts {
    /// Pairs of positions, the lower first, that were ever cut off from each other.
    pairs: BTreeMap<(usize, usize), Severed>,
    /// Nodes that strikes keep from the others, and how.
    barriers: Vec<(usize, Barrier)>,
    /// How often cuts of the phase came, those at its beginning not counted.
    came_again: Arc<Mutex<u64>>,
}

/// How a strike keeps a node from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Barrier {
    /// Connections are reset and refused.
    Refuse,
    /// It hears none of them.
    Deaf,
    /// None of them hears it.
    Mute,
    /// The network carries everything, and the node does not move: nothing is cut.
    Slow,
}

/// How two nodes are cut off from each other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Severed {
    Now,
    Until(Instant),
}

impl Mesh {
    /// Cuts and freezes what a phase says. What comes and goes does so for as long as somebody holds
    /// `storm`.
    pub(in crate::run) fn sever(
        &self,
        scenario: &Scenario,
        phase: &Phase,
        (others, storm): (&[NodeId], &Arc<()>),
    ) {
        let members = self.members();
        let host = |position: usize| members[position].host;
        let frozen = scenario.positions(&phase.freeze);
        let mut cuts = self.cuts.lock();
        *cuts.came_again.lock() = 0;
        for ((a, b), ways) in apart(scenario, &phase.cut, phase.cut_how) {
            let severed = match phase.cut_how {
                // Whoever connects anew gets through.
                CutHow::Forgotten => Severed::Until(self.world.now()),
                CutHow::Refuse | CutHow::Silent | CutHow::OneWayOut | CutHow::OneWayIn => {
                    Severed::Now
                }
            };
            cuts.pairs.insert((a, b), severed);
            let ways: Vec<(NodeId, NodeId, Cut)> =
                ways.into_iter().map(|(from, to, cut)| (host(from), host(to), cut)).collect();
            let moves = !frozen.contains(&a) && !frozen.contains(&b);
            cut_off(&self.world, &ways);
            if let Some(spec) = phase.flaps.filter(|_| moves) {
                let draw = Draw::named(self.seed, &format!("flap.{}.{a}.{b}", phase.name));
                let (storm, count) = (Arc::downgrade(storm), cuts.came_again.clone());
                Flap { storm, ways, spec, draw, is_down: true, count }.wait(&self.world);
            }
        }
        for frozen in frozen {
            for (position, machine) in members.iter().enumerate() {
                if position != frozen {
                    let pair = (frozen.min(position), frozen.max(position));
                    cuts.pairs.insert(pair, Severed::Now);
                    self.world.network().cut(host(frozen), machine.host, Cut::Silent);
                }
            }
            for other in others {
                self.world.network().cut(host(frozen), *other, Cut::Silent);
            }
        }
    }

    /// Heals all that was cut off.
    pub(in crate::run) fn rejoin(&self, others: &[NodeId]) {
        let members = self.members();
        let now = self.world.now();
        let mut cuts = self.cuts.lock();
        let came_again = std::mem::take(&mut *cuts.came_again.lock());
        if came_again > 0 {
            self.court.evidence().tell(now, format!("{came_again} times a cut came again"));
        }
        let severed = cuts.pairs.iter_mut().filter(|(_, severed)| **severed == Severed::Now);
        for ((a, b), severed) in severed {
            *severed = Severed::Until(now);
            self.world.network().heal(members[*a].host, members[*b].host);
        }
        for other in others {
            for machine in &members {
                self.world.network().heal(machine.host, *other);
            }
        }
    }

    /// Keeps a node from all others until it is let through.
    pub(super) fn wall_off(&self, position: usize, barrier: Barrier) {
        let members = self.members();
        let mut cuts = self.cuts.lock();
        cuts.barriers.push((position, barrier));
        let host = members[position].host;
        for other in (0..members.len()).filter(|other| *other != position) {
            let there = members[other].host;
            let pair = (position.min(other), position.max(other));
            cuts.pairs.insert(pair, Severed::Now);
            match barrier {
                Barrier::Refuse => self.world.network().cut(host, there, Cut::Refuse),
                Barrier::Deaf => self.world.network().cut(there, host, Cut::OneWay),
                Barrier::Mute => self.world.network().cut(host, there, Cut::OneWay),
                Barrier::Slow => {}
            }
        }
    }

    /// One barrier around a node is gone. Two nodes hear each other again once none that cuts is left around either: a
    /// cut of the network ends as a whole. They are kept apart for as long as there is any.
    pub(super) fn let_through(&self, position: usize, barrier: Barrier) {
        let members = self.members();
        let now = self.world.now();
        let mut cuts = self.cuts.lock();
        let place = cuts.barriers.iter().position(|it| *it == (position, barrier));
        if let Some(place) = place {
            cuts.barriers.remove(place);
        }
        for other in (0..members.len()).filter(|other| *other != position) {
            let around = |it: &&(usize, Barrier)| it.0 == position || it.0 == other;
            if !cuts.barriers.iter().filter(around).any(|(_, it)| *it != Barrier::Slow) {
                self.world.network().heal(members[position].host, members[other].host);
            }
            if cuts.barriers.iter().find(around).is_none() {
                let pair = (position.min(other), position.max(other));
                cuts.pairs.insert(pair, Severed::Until(now));
            }
        }
    }

    /// Whether any two of these nodes were cut off from each other at any time since, on and off included.
    pub(in crate::run) fn were_apart(&self, positions: &[usize], since: Instant) -> bool {
        let pairs = positions.iter().flat_map(|a| positions.iter().map(|b| (*a, *b)));
        pairs.into_iter().any(|pair| self.was_cut(pair, since))
    }

    /// Whether two nodes were cut off from each other at any time since, on and off included.
    pub(super) fn was_cut(&self, (a, b): (usize, usize), since: Instant) -> bool {
        match self.cuts.lock().pairs.get(&(a.min(b), a.max(b))) {
            Some(Severed::Now) => true,
            // What was healed as the node started never was in its way.
            Some(Severed::Until(healed)) => *healed > since,
            None => false,
        }
    }
}

/// A cut between two nodes that comes and goes.
struct Flap {
    storm: Weak<()>,
    ways: Vec<(NodeId, NodeId, Cut)>,
    spec: Flaps,
    draw: Draw,
    is_down: bool,
    /// How often any came.
    count: Arc<Mutex<u64>>,
}

impl Flap {
    fn wait(mut self, world: &World) {
        let lasts = if self.is_down { self.spec.down } else { self.spec.up };
        let pause = around(lasts, &mut self.draw);
        world.schedule(world.now() + pause, move |world| {
            if self.storm.upgrade().is_none() {
                return;
            }
            self.is_down = !self.is_down;
            if self.is_down {
                *self.count.lock() += 1;
                cut_off(world, &self.ways);
            } else {
                for (from, to, _) in &self.ways {
                    world.network().heal(*from, *to);
                }
            }
            self.wait(world);
        });
    }
}

/// Between half and one and a half of it.
fn around(duration: Duration, draw: &mut Draw) -> Duration {
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 2);
    Duration::from_nanos(nanos / 2 + draw.below(nanos.saturating_add(1)))
}

fn cut_off(world: &World, ways: &[(NodeId, NodeId, Cut)]) {
    for (from, to, cut) in ways {
        world.network().cut(*from, *to, *cut);
    }
}

/// What a cut between two nodes is made of: from which to which, and how.
type Ways = Vec<(usize, usize, Cut)>;

/// The pairs of nodes, the lower position first, of which exactly one is in a group of the list.
fn apart(scenario: &Scenario, groups: &[String], how: CutHow) -> BTreeMap<(usize, usize), Ways> {
    let is_in = |position: usize, group: &String| {
        let node = &scenario.nodes[position];
        node == group || scenario.zone_of_node(node) == group
    };
    let count = scenario.nodes.len();
    let all = (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b)));
    let mut apart: BTreeMap<(usize, usize), Ways> = BTreeMap::new();
    for (a, b) in all {
        for group in groups {
            let (inside, outside) = match (is_in(a, group), is_in(b, group)) {
                _ if group == ALL_NODES => (a, b),
                (true, false) => (a, b),
                (false, true) => (b, a),
                (true, true) | (false, false) => continue,
            };
            let ways = apart.entry((a, b)).or_default();
            let way = match how {
                CutHow::Refuse => (a, b, Cut::Refuse),
                CutHow::Silent => (a, b, Cut::Silent),
                CutHow::OneWayOut => (inside, outside, Cut::OneWay),
                CutHow::OneWayIn => (outside, inside, Cut::OneWay),
                CutHow::Forgotten => (a, b, Cut::Forget),
            };
            if !ways.contains(&way) {
                ways.push(way);
            }
        }
    }
    apart
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::read;

    fn ways(cut: &str, how: CutHow) -> Vec<(usize, usize, Cut)> {
        let text = format!(
            "name = \"s\"\ntopology = {{ nodes = 4, mesh = true }}\n\
             [zone.far]\nnodes = [\"node-3\", \"node-4\"]\n\
             [[phase]]\nname = \"p\"\nlasts = \"1s\"\ncut = [{cut}]\n"
        );
        let document = read("s.toml", &text).unwrap();
        let scenario = Scenario::of(&document, 0).unwrap();
        apart(&scenario, &scenario.phases[0].cut, how).into_values().flatten().collect()
    }

    #[test]
    fn a_cut_goes_through_each_pair_that_a_group_divides() {
        let silent = |cut| ways(cut, CutHow::Silent);
        let of = |pairs: &[(usize, usize)], cut: Cut| -> Vec<(usize, usize, Cut)> {
            pairs.iter().map(|(a, b)| (*a, *b, cut)).collect()
        };
        assert_eq!(silent("\"far\""), of(&[(0, 2), (0, 3), (1, 2), (1, 3)], Cut::Silent));
        assert_eq!(silent("\"node-2\""), of(&[(0, 1), (1, 2), (1, 3)], Cut::Silent));
        assert_eq!(silent("\"all\"").len(), 6);
        assert_eq!(silent("\"node-1\", \"node-2\"").len(), 5, "each pair once");
        let refused = ways("\"node-4\"", CutHow::Refuse);
        assert_eq!(refused, of(&[(0, 3), (1, 3), (2, 3)], Cut::Refuse));
    }

    #[test]
    fn a_one_way_cut_has_a_direction_and_two_of_them_meet() {
        let out = ways("\"node-2\"", CutHow::OneWayOut);
        let way = |from, to| (from, to, Cut::OneWay);
        assert_eq!(out, [way(1, 0), way(1, 2), way(1, 3)]);
        let inward = ways("\"node-2\"", CutHow::OneWayIn);
        assert_eq!(inward, [way(0, 1), way(2, 1), way(3, 1)]);
        let both = ways("\"node-1\", \"node-2\"", CutHow::OneWayOut);
        assert_eq!(both[..2], [way(0, 1), way(1, 0)], "neither hears the other");
        let all = ways("\"all\"", CutHow::OneWayOut);
        assert_eq!(all.len(), 6);
        assert!(all.iter().all(|(from, to, _)| from < to), "the first is not heard");
    }

    #[test]
    fn a_flap_lasts_between_half_and_one_and_a_half() {
        let mut draw = Draw::named(3, "flap");
        let drawn: Vec<Duration> =
            (0..500).map(|_| around(Duration::from_secs(2), &mut draw)).collect();
        let (least, most) = (drawn.iter().min().unwrap(), drawn.iter().max().unwrap());
        assert!((1.0..1.1).contains(&least.as_secs_f64()), "{least:?}");
        assert!((2.9..=3.0).contains(&most.as_secs_f64()), "{most:?}");
    }
}
