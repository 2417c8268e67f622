//! Who is primary in each zone, looked at from outside.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use kura_env::{Clock, Instant, TaskHandle};
use sim_engine::NodeId;

use super::{Run, machine::Machine, mesh::Mesh};
use crate::{
    court::Court,
    invariants::{Violation, primary_is_there, primary_is_warm, primary_stays},
    scenario::Primaries,
};

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// In how many looks it is also compared what they hold.
const COMPARE: u64 = 4;
/// Over how long it is summed up for how long not exactly one was primary.
const WINDOW: Duration = Duration::from_secs(60);

/// The nodes of a zone.
struct Zone {
    name: String,
    machines: Vec<Arc<Machine>>,
    demand: Primaries,
    /// For how long a primary may lack much: as long as it may be behind, and what it takes to notice and move.
    cold_max: Duration,
    /// Since when not exactly one is primary.
    wrong_since: Option<Instant>,
    /// When that was seen lately.
    wrong_at: VecDeque<Instant>,
    /// By name of a primary and of another node: since when it lacks much of what that holds.
    cold_since: BTreeMap<(String, String), Instant>,
    /// Who was primary last, alone.
    last: Option<String>,
    moves: u64,
}

impl Run {
    /// Watches the primaries, for as long as the handle is kept.
    pub(super) fn watch_primaries(&self) -> Option<TaskHandle> {
        let demand = self.scenario.expect.primaries?;
        let mut zones: BTreeMap<String, Vec<Arc<Machine>>> = BTreeMap::new();
        for machine in &self.machines {
            let zone = self.scenario.zone_of_node(&machine.name).to_owned();
            zones.entry(zone).or_default().push(machine.clone());
        }
        let cold_max = demand.within + self.scenario.node.primary.rules.lag_max * 2;
        let zone = |(name, machines)| {
            let (wrong_since, cold_since, last) = (None, BTreeMap::new(), None);
            let wrong_at = VecDeque::new();
            Zone {
                name,
                machines,
                demand,
                cold_max,
                wrong_since,
                wrong_at,
                cold_since,
                last,
                moves: 0,
            }
        };
        let zones: Vec<Zone> = zones.into_iter().map(zone).collect();
        let (clock, court) = (self.world.clock(NodeId::OPERATOR), self.court.clone());
        let work = watch(zones, clock, court, self.mesh.clone());
        Some(self.world.spawn(NodeId::OPERATOR, "primaries", work))
    }
}

async fn watch(mut zones: Vec<Zone>, clock: Arc<dyn Clock>, court: Court, mesh: Option<Arc<Mesh>>) {
    for look in 0_u64.. {
        clock.sleep(LOOK).await;
        let now = clock.now();
        for zone in &mut zones {
            let is_apart = mesh.as_ref().is_some_and(|mesh| zone.is_apart(mesh, now));
            let verdict = zone.look(now, &court, is_apart);
            let compared = if look % COMPARE == 0 { zone.compare(now) } else { Ok(()) };
            court.evidence().judge(now, verdict.and(compared));
        }
    }
}

impl Zone {
    /// Whether nodes of it are kept apart, or were so short a time ago that they need not have heard of each other since.
    fn is_apart(&self, mesh: &Mesh, now: Instant) -> bool {
        let positions: Vec<usize> = self.machines.iter().map(|it| it.index.0).collect();
        let origin = Instant::default();
        let since = origin + now.since(origin).saturating_sub(self.demand.within);
        mesh.were_apart(&positions, since)
    }

    fn look(&mut self, now: Instant, court: &Court, is_apart: bool) -> Result<(), Violation> {
        let said =
            || self.machines.iter().filter_map(|it| Some((it.name.as_str(), it.is_primary()?)));
        let primaries: Vec<&str> = said().filter(|(_, is_it)| *is_it).map(|it| it.0).collect();
        if let [one] = primaries[..] {
            let moved = self.last.as_deref().is_some_and(|last| last != one);
            if self.last.as_deref() != Some(one) {
                court.evidence().tell(now, format!("{one} is primary of {}", self.name));
                self.last = Some(one.to_owned());
            }
            self.moves += u64::from(moved);
            self.wrong_since = None;
            return primary_stays::check(&self.name, self.moves, self.demand.moves_max);
        }
        let is_wrong = said().next().is_some() && !(is_apart && primaries.len() > 1);
        if is_wrong {
            self.wrong_at.push_back(now);
        }
        while self.wrong_at.front().is_some_and(|at| now.since(*at) > WINDOW) {
            self.wrong_at.pop_front();
        }
        let looks = u32::try_from(self.wrong_at.len()).unwrap_or(u32::MAX);
        primary_is_there::check_often(&self.name, LOOK * looks, self.demand.within, WINDOW)?;
        let since = self.wrong_since.filter(|_| is_wrong).unwrap_or(now);
        let verdict =
            primary_is_there::check(&self.name, &primaries, now.since(since), self.demand.within);
        self.wrong_since = is_wrong.then_some(since);
        verdict
    }

    /// Compares what the primary holds with what others hold.
    fn compare(&mut self, now: Instant) -> Result<(), Violation> {
        let before = std::mem::take(&mut self.cold_since);
        let serving = || self.machines.iter().filter(|it| it.is_primary().is_some());
        for primary in serving().filter(|it| it.is_primary() == Some(true)) {
            let mine = primary.holdings();
            for other in serving().filter(|it| it.name != primary.name) {
                let theirs = other.holdings();
                // Where each lacks what the other has, neither is the one to be it.
                if !primary_is_warm::is_cold(&mine, &theirs)
                    || primary_is_warm::is_cold(&theirs, &mine)
                {
                    continue;
                }
                let pair = (primary.name.clone(), other.name.clone());
                let since = before.get(&pair).copied().unwrap_or(now);
                self.cold_since.insert(pair, since);
                let lasting = now.since(since);
                primary_is_warm::check((&primary.name, &other.name), lasting, self.cold_max)?;
            }
        }
        Ok(())
    }
}
