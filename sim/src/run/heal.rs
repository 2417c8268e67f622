//! The kind half of a run: nothing fails any more, and everything must come back.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use kura_env::{Instant, timeout};
use sim_engine::{NodeId, Outcome, World};

use super::{Judgement, Run, losses, machine::Machine, mesh::Mesh, tenants};
use crate::{
    client::{
        Ask, Reader, Seen,
        connection::{Connection, Failure, Place},
    },
    court::Court,
    gone::Gone,
    holdings::{self, Comparison, Holding, Holdings},
    invariants::{
        Violation, acked_or_evicted, appended_once, compared, deleted_stays_gone, feed_bounded,
        ledger_equals_disk, mesh_heals, no_orphan_at_rest, node_heals,
        node_heals::Health,
        one_winner::{self, Said},
        reference_in_ring_or_miss, staging_bounded, sums_follow_rows,
    },
};

/// How often a node is asked whether it is back, and the disk whether it is at rest.
const POLL: Duration = Duration::from_millis(100);
/// How long an operator waits for an answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How long it may take, in simulated time, to read everything back.
pub(super) const READ_BACK_MAX: Duration = Duration::from_secs(24 * 3600);

/// How often the nodes of a mesh are compared.
const MESH_POLL: Duration = Duration::from_secs(1);
/// How many reads all nodes of a mesh together are asked for.
const MESH_READS_MAX: usize = 4000;

impl Run {
    /// Heals, waits for readiness, looks at the disks at rest, reads everything back, and looks at the
    /// disks again.
    pub(super) fn heal(&self) -> Result<(), Judgement> {
        let world = &self.world;
        let begun = world.now();
        self.tell("no more faults; what is dead is started".to_owned());
        self.weather.calm();
        tenants::move_out(&self.scenario, &self.machines, self.seed);
        self.machines.iter().for_each(Machine::start);
        self.await_writes(begun)?;
        self.await_mesh(begun)?;
        for machine in &self.machines {
            self.await_ready(machine, begun)?;
        }
        self.tell("every node serves".to_owned());
        // Before anybody reads: a reader has the node clear away what it finds wrong.
        self.await_rest()?;
        self.read_back()?;
        self.has_compared()?;
        self.await_rest()
    }

    /// Whether the invariants of a mesh had anything to compare.
    fn has_compared(&self) -> Result<(), Judgement> {
        let (compared, acked) = {
            let evidence = self.court.evidence();
            (evidence.compared, evidence.history.acked_bytes())
        };
        if self.mesh.is_none() || self.machines.len() < 2 || acked == 0 {
            return Ok(());
        }
        self.tell(format!("{compared:?}"));
        let wants_ready = self.scenario.phases.iter().any(|phase| !phase.ready.is_empty());
        let verdict = compared::check(compared, wants_ready);
        self.court.evidence().judge(self.world.now(), verdict);
        self.undecided()
    }

    fn await_ready(&self, machine: &Arc<Machine>, begun: Instant) -> Result<(), Judgement> {
        let bound = self.scenario.expect.healed_within;
        let place = self.operator();
        let (machine, court) = (machine.clone(), self.court.clone());
        let ask = async move {
            loop {
                let health = health(&place, machine.addr).await.because(&machine.last_words());
                let now = place.clock.now();
                if health == Health::Ready {
                    return Ok(());
                }
                let waited = now.since(begun);
                let verdict = node_heals::check(&machine.name, &health, waited, bound);
                if verdict.is_err() || court.is_decided() {
                    return verdict;
                }
                place.clock.sleep(POLL).await;
            }
        };
        // The check itself ends this in time; the deadline is for a check that hangs.
        let deadline = self.world.now() + bound + ANSWER * 4;
        match self.world.block_on(ask, deadline) {
            Ok(verdict) => verdict.map_err(Judgement::NotHealed),
            Err(outcome) => Err(self.engine_failed(&outcome)),
        }
    }

    /// Waits until all nodes of a mesh are ready and lack nothing of what another one has.
    fn await_mesh(&self, begun: Instant) -> Result<(), Judgement> {
        let Some(mesh) = &self.mesh else { return Ok(()) };
        let bound = mesh_heals::bound(&mesh.missing().missing, mesh.path(&self.scenario));
        self.tell(format!("the mesh is given {:?}", bound.whole));
        let mut pulse = mesh_heals::Pulse::new(begun, bound);
        loop {
            let Comparison { missing, compared } = mesh.missing();
            let unready: Vec<String> =
                self.machines.iter().filter_map(|machine| machine.unready()).collect();
            let now = self.world.now();
            match pulse.check(now, &missing, &unready) {
                Ok(mesh_heals::Beat::Over) => {
                    self.court.evidence().compared.when_healed = compared;
                    return self.await_deletes(mesh, begun + bound.whole);
                }
                Ok(mesh_heals::Beat::Wait) => {}
                Err(violation) => {
                    self.court.evidence().judge(now, Err(violation.clone()));
                    return Err(Judgement::NotHealed(violation));
                }
            }
            self.run_to(now + MESH_POLL)?;
            self.undecided()?;
        }
    }

    /// Waits until all nodes of a mesh know the same deletes.
    fn await_deletes(&self, mesh: &Mesh, deadline: Instant) -> Result<(), Judgement> {
        loop {
            let now = self.world.now();
            match mesh.known_deletes() {
                Ok(()) => break,
                Err(violation) if now >= deadline => {
                    self.court.evidence().judge(now, Err(violation.clone()));
                    return Err(Judgement::NotHealed(violation));
                }
                Err(_) => self.run_to(now + MESH_POLL)?,
            }
            self.undecided()?;
        }
        self.court.evidence().history.deletes.have_arrived();
        Ok(())
    }

    /// Reads every key that anything was put to, on every node that it was put to, or that is a
    /// peer of it.
    fn read_back(&self) -> Result<(), Judgement> {
        let keys = self.keys_to_read();
        let place = self.operator();
        let court = self.court.clone();
        let targets: Vec<_> =
            self.machines.iter().map(|m| (m.name.clone(), m.index, m.addr)).collect();
        let count = keys.len();
        let in_mesh = self.mesh.is_some();
        let work = async move {
            let mut open: BTreeMap<usize, Connection> = BTreeMap::new();
            let mut said: BTreeMap<String, Vec<Said>> = BTreeMap::new();
            for (path, at) in keys {
                let (name, node, addr) = &targets[at];
                let is_spoilt = court.evidence().history.is_spoilt(*node, &path);
                let mut connection = match open.remove(&at).filter(Connection::is_usable) {
                    Some(connection) => connection,
                    None => match Connection::open(&place, *addr).await {
                        Ok(connection) => connection,
                        Err(failure) => return Err(unreadable(name, &path, &failure)),
                    },
                };
                let clock = &*place.clock;
                let mut reader = Reader { court: &court, connection: &mut connection, clock };
                let ask = Ask { node: *node, path: &path, start: clock.now() };
                let body = match reader.get(ask).await {
                    Ok(Seen::Hit(body)) => body,
                    Ok(Seen::Miss) => None,
                    // What the disk has lost may be refused or broken off.
                    Ok(Seen::Refused(_)) | Err(_) if is_spoilt => continue,
                    Ok(Seen::Refused(status)) => {
                        return Err(unreadable(name, &path, &format!("status {status}")));
                    }
                    Err(failure) => return Err(unreadable(name, &path, &failure)),
                };
                open.insert(at, connection);
                if in_mesh && !is_spoilt {
                    let said = said.entry(path).or_default();
                    said.push(Said { node: name.clone(), body });
                }
            }
            Ok(said)
        };
        let said = match self.world.block_on(work, self.world.now() + READ_BACK_MAX) {
            Ok(said) => said,
            Err(outcome) => return Err(self.engine_failed(&outcome)),
        };
        let verdict = said.and_then(|said| self.compare_answers(said));
        self.court.evidence().judge(self.world.now(), verdict);
        self.tell(format!("{count} keys were read back"));
        self.undecided()
    }

    /// Judges what the nodes said of each key, but for those that have evicted it, and those that
    /// have none and no room for it.
    fn compare_answers(&self, said: BTreeMap<String, Vec<Said>>) -> Result<(), Violation> {
        let gone = losses::gone(&self.machines);
        let gone = self.machines.iter().zip(gone).map(|(machine, gone)| {
            let paths = gone.evicted.keys().filter_map(|key| holdings::path(key));
            let paths: BTreeSet<String> = paths.collect();
            (machine.name.clone(), (gone, paths))
        });
        let gone: BTreeMap<String, (Gone, BTreeSet<String>)> = gone.collect();
        let holdings: Vec<Holdings> = self.machines.iter().map(|it| it.holdings()).collect();
        let newest: BTreeMap<String, (&Bytes, Holding)> = holdings::newest(&holdings)
            .into_iter()
            .filter_map(|(key, held)| Some((holdings::path(key)?, (key, held))))
            .collect();
        for (path, mut said) in said {
            let newest = newest.get(&path);
            said.retain(|said| {
                let (gone, evicted) = &gone[&said.node];
                let has_no_room = || newest.is_some_and(|(key, held)| gone.excuses(key, held));
                !evicted.contains(&path) && (said.body.is_some() || !has_no_room())
            });
            self.court.evidence().compared.answers += u64::from(said.len() > 1);
            one_winner::check(&path, &said)?;
        }
        Ok(())
    }

    /// What is to be read back from which node, by position.
    fn keys_to_read(&self) -> Vec<(String, usize)> {
        let evidence = self.court.evidence();
        let keys = evidence.history.keys().map(|(node, path)| (path.to_owned(), node.0));
        if self.mesh.is_none() {
            // They lie in the order of the nodes.
            return keys.collect();
        }
        let paths: BTreeSet<String> = keys.map(|(path, _)| path).collect();
        let nodes = self.machines.len();
        // The catalogs were compared in full; of the bodies a sample is read everywhere.
        let stride = (paths.len() * nodes).div_ceil(MESH_READS_MAX).max(1);
        let sample = paths.into_iter().step_by(stride);
        sample.flat_map(|path| (0..nodes).map(move |node| (path.clone(), node))).collect()
    }

    /// Waits until nothing is left to be cleared away, then judges what lies there.
    fn await_rest(&self) -> Result<(), Judgement> {
        let deadline = self.world.now() + self.scenario.expect.healed_within;
        for machine in &self.machines {
            loop {
                let verdict = at_rest(machine);
                let now = self.world.now();
                if verdict.is_ok() || now >= deadline {
                    self.court.evidence().judge(now, verdict);
                    break;
                }
                self.run_to(now + POLL)?;
            }
        }
        self.undecided()
    }

    pub(super) fn run_to(&self, deadline: Instant) -> Result<(), Judgement> {
        match self.world.run_to(deadline) {
            Outcome::Goal | Outcome::Deadline => Ok(()),
            outcome @ (Outcome::Deadlock(_) | Outcome::Panic { .. } | Outcome::Stalled(_)) => {
                Err(self.engine_failed(&outcome))
            }
        }
    }

    pub(super) fn operator(&self) -> Place {
        let world: &World = &self.world;
        Place {
            clock: world.clock(NodeId::OPERATOR),
            net: world.net(NodeId::OPERATOR),
            tasks: world.tasks(NodeId::OPERATOR),
        }
    }
}

fn at_rest(machine: &Machine) -> Result<(), Violation> {
    let image = machine.image();
    let name = &machine.name;
    staging_bounded::check_rest(name, image.below("tmp"))?;
    no_orphan_at_rest::check(name, &image, |object| machine.fails_at(object))?;
    if !machine.syncs_lie {
        // Otherwise the index may know of what the device gave away; who asks for it finds out.
        reference_in_ring_or_miss::check(name, &image, |segment| machine.lost_unsynced(segment))?;
    }
    if let Some((ledger, walked)) = machine.books() {
        ledger_equals_disk::check_rest(name, &ledger, &walked)?;
    }
    feed_bounded::check(name, &image.feed, machine.feed_rows_max())?;
    let rows = (&*image.places, &*image.versions);
    deleted_stays_gone::check_rest(name, &image)?;
    sums_follow_rows::check(name, rows, |items| machine.wrong_sum(items))?;
    match machine.spoilt() {
        Some(spoilt) => appended_once::check(name, &image, &spoilt),
        None => Ok(()),
    }
}

fn unreadable(node: &str, path: &str, why: &dyn std::fmt::Display) -> Violation {
    let reason = format!("{node}: GET {path} after healing: {why}");
    acked_or_evicted::INVARIANT.violated(reason)
}

async fn health(place: &Place, addr: std::net::SocketAddr) -> Health {
    let ask = async {
        let mut connection = Connection::open(place, addr).await?;
        connection.text("/ready").await
    };
    match timeout(&*place.clock, ANSWER, ask).await {
        Ok(Ok((200, _))) => Health::Ready,
        Ok(Ok((status, text))) => Health::Unready(format!("{status} {}", text.trim())),
        Ok(Err(failure)) => Health::Silent(failure.to_string()),
        Err(_) => Health::Silent(Failure::Timeout(ANSWER).to_string()),
    }
}

impl Run {
    fn undecided(&self) -> Result<(), Judgement> {
        decided(&self.court)
    }
}

/// An error once something was violated.
pub(super) fn decided(court: &Court) -> Result<(), Judgement> {
    match court.evidence().violation() {
        Some(violation) => Err(Judgement::Violated(violation.clone())),
        None => Ok(()),
    }
}
