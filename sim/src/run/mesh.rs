//! The nodes of a run as each other's peers: who is cut off from whom, what each holds, and whether
//! a node that turns ready may do so.

mod cuts;
mod strikes;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use kura_core::{
    address::Address, hlc, place::Place, readiness::Rules, record::SEGMENT_HEADER_BYTES,
    tombstones::Tombstones,
};
use kura_env::Instant;
use kura_node::service::State;
use parking_lot::Mutex;
use sim_engine::World;

use self::{cuts::Cuts, strikes::Strikes};
use super::{dials::Answered, evil::Names, losses, machine::Machine, spoil::Hurt};
use crate::{
    court::Court,
    draw::Draw,
    gone::Gone,
    holdings::{self, Comparison, Holder, Holdings, Missing},
    image::Image,
    invariants::{
        Violation, deleted_stays_gone,
        mesh_heals::Path,
        ready_is_complete::{self, Mine, Peer},
    },
    scenario::{Phase, Scenario, SpoilHow},
};

/// How often a node is looked at until it is ready.
const LOOK: Duration = Duration::from_millis(100);

/// What a system reads and writes as one: of a page with a sector that the device cannot read it has
/// nothing.
const PAGE_BYTES: u64 = 4096;

/// The nodes, as each other's peers.
pub(super) struct Mesh {
    world: World,
    court: Court,
    seed: u64,
    peer_wait: Duration,
    /// Whether what was spoilt has to come back.
    is_repaired: bool,
    /// Emptied at the end, because machines and mesh hold each other.
    members: Mutex<Vec<Arc<Machine>>>,
    cuts: Mutex<Cuts>,
    /// Whether the scenario has any strikes.
    has_strikes: bool,
    strikes: Mutex<Strikes>,
    spoilt: Mutex<Vec<BTreeSet<Bytes>>>,
    /// When each node, by position, last heard a whole answer from a peer.
    heard: Mutex<BTreeMap<(usize, SocketAddr), Heard>>,
}

/// Bytes from one place of a file up to another, and what becomes of them.
type Hit = (u64, u64, Hurt);

/// What is hit of an artifact at `place`; `beside` is all that lies in its segment.
fn hits(place: &Place, beside: &[&(Bytes, Place)], how: SpoilHow, draw: &mut Draw) -> Vec<Hit> {
    let in_body = |place: &Place, draw: &mut Draw| {
        place.offset + u64::from(place.header_bytes) + draw.below(place.body_bytes)
    };
    if how == SpoilHow::Headless {
        let at = place.offset + draw.below(u64::from(place.header_bytes));
        return vec![(at, at + 1, Hurt::Flipped)];
    }
    let at = in_body(place, draw);
    // What is written behind the last record later is not hit.
    let written = beside.iter().map(|(_, at)| at.offset + at.record_bytes()).max().unwrap_or(0);
    let around = |at: u64, grain: u64| {
        let from = at / grain * grain;
        (from, (from + grain).min(written))
    };
    let (from, to) = around(at, PAGE_BYTES);
    match how {
        SpoilHow::Unreadable => vec![(at, at + 1, Hurt::Unreadable)],
        SpoilHow::Rotten | SpoilHow::Headless => vec![(at, at + 1, Hurt::Flipped)],
        SpoilHow::Short => vec![(at, u64::MAX, Hurt::Ends)],
        SpoilHow::Latent => vec![(from, to, Hurt::Unreadable)],
        SpoilHow::Lost => vec![(from, to, Hurt::Lost)],
        SpoilHow::Misdirected => {
            let count = u64::try_from(beside.len()).unwrap_or(u64::MAX);
            let other = usize::try_from(draw.below(count)).ok().and_then(|at| beside.get(at));
            let (there, end) =
                around(other.map_or(at, |(_, other)| in_body(other, draw)), PAGE_BYTES);
            let mut hits = vec![(from, to, Hurt::Lost)];
            if there != from {
                hits.push((there, end.min(there + (to - from)), Hurt::Holds { from }));
            }
            hits
        }
    }
}

/// When a peer was last heard.
#[derive(Clone, Copy)]
struct Heard {
    /// Since the node's start, if it never was.
    at: Instant,
    /// When a page or bodies last came from it; the node's start, if none ever did.
    moved: Instant,
    /// When either came last after a time so long that nobody has to wait for it.
    revived: Option<Instant>,
}

/// A peer at the start of a node.
struct Standing {
    position: usize,
    life: u64,
    holds: Holdings,
    /// Connections between the two that faults had struck by then.
    struck: u64,
}

impl Mesh {
    pub(super) fn new(world: &World, court: &Court, scenario: &Scenario, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            world: world.clone(),
            court: court.clone(),
            seed,
            peer_wait: scenario.node.peer_wait,
            is_repaired: scenario.expect.repaired,
            members: Mutex::default(),
            cuts: Mutex::default(),
            has_strikes: !scenario.strikes.is_empty(),
            strikes: Mutex::default(),
            spoilt: Mutex::new(vec![BTreeSet::new(); scenario.nodes.len()]),
            heard: Mutex::default(),
        })
    }

    pub(super) fn assemble(&self, members: &[Arc<Machine>]) {
        *self.members.lock() = members.to_vec();
    }

    /// Whether anything goes by how far passes have come.
    pub(super) fn watches_passes(&self) -> bool {
        self.has_strikes
    }

    /// Lets go of the machines.
    pub(super) fn dissolve(&self) {
        self.members.lock().clear();
    }

    fn members(&self) -> Vec<Arc<Machine>> {
        self.members.lock().clone()
    }

    /// Spoils what a phase says: artifacts drawn from all that each node holds.
    pub(super) fn spoil(&self, scenario: &Scenario, phase: &Phase) {
        let members = self.members();
        for position in scenario.positions(&phase.spoil.nodes) {
            let machine = &members[position];
            let mut draw = Draw::named(self.seed, &format!("spoil.{}.{position}", phase.name));
            let image = machine.image();
            let rows: Vec<(Bytes, Place)> = image
                .places
                .iter()
                .filter_map(|(key, row)| Some((key.clone(), Place::decode(row)?)))
                .filter(|(_, place)| place.body_bytes > 0)
                .collect();
            for _ in 0..phase.spoil.artifacts {
                let count = u64::try_from(rows.len()).unwrap_or(u64::MAX);
                let Some((key, place)) =
                    rows.get(usize::try_from(draw.below(count)).unwrap_or(usize::MAX))
                else {
                    break;
                };
                self.wound(machine, &image, (key, place), (&rows, phase.spoil.how, &mut draw));
            }
        }
    }

    /// Tells the names of what any node holds, for as long as the run lasts.
    pub(super) fn names_held(self: &Arc<Self>) -> Names {
        let mesh = Arc::downgrade(self);
        Arc::new(move || {
            let members = mesh.upgrade().map(|mesh| mesh.members()).unwrap_or_default();
            let keys: BTreeSet<Bytes> =
                members.iter().flat_map(|machine| machine.holdings().into_keys()).collect();
            keys.iter().filter_map(|key| Address::decode(key).ok()).collect()
        })
    }

    /// What was spoilt on a node.
    pub(super) fn spoilt(&self, position: usize) -> BTreeSet<Bytes> {
        self.spoilt.lock()[position].clone()
    }

    /// Spoils one artifact, and whatever else lies in the bytes that are hit.
    fn wound(
        &self,
        machine: &Machine,
        image: &Image<'_>,
        (key, place): (&Bytes, &Place),
        (rows, how, draw): (&[(Bytes, Place)], SpoilHow, &mut Draw),
    ) {
        // What is still appended to cannot end early: the file would grow in the middle.
        let is_newest = image.ring().is_some_and(|ring| ring.is_newest(place.segment));
        if how == SpoilHow::Short && is_newest {
            return;
        }
        let beside: Vec<&(Bytes, Place)> =
            rows.iter().filter(|(_, at)| at.segment == place.segment).collect();
        let hits = hits(place, &beside, how, draw);
        // Nor may one that is still appended to lose its header: what is appended later would go with it.
        if is_newest && hits.iter().any(|(from, ..)| *from < SEGMENT_HEADER_BYTES) {
            return;
        }
        for (from, to, hurt) in &hits {
            machine.wounds.add(&Image::segment_path(place.segment), (*from, *to), *hurt);
        }
        let is_hit = |at: &Place| {
            let end = at.offset + at.record_bytes();
            // Without its header nothing can be told from the file.
            let in_file_header = |from: u64| from < SEGMENT_HEADER_BYTES;
            hits.iter().any(|(from, to, _)| in_file_header(*from) || *from < end && *to > at.offset)
        };
        for (key, _) in beside.into_iter().filter(|(other, at)| other == key || is_hit(at)) {
            self.spoilt.lock()[machine.index.0].insert(key.clone());
            if let Some(path) = holdings::path(key) {
                self.court.evidence().history.spoil(machine.index, path);
            }
        }
        let text = format!("{}: {} is spoilt ({how:?})", machine.name, holdings::name(key));
        self.court.evidence().tell(self.world.now(), text);
    }

    /// What every node still lacks of what another one can deliver, unless it need not hold it.
    pub(super) fn missing(&self) -> Comparison {
        self.compare(losses::gone(&self.members()))
    }

    /// What every node lacks of what another one can deliver now, whether it has room or not.
    pub(super) fn lacking(&self) -> Vec<Missing> {
        let gone = vec![Gone::default(); self.members().len()];
        self.compare(gone).missing
    }

    /// Judges what the nodes know of deletes, by their disks.
    pub(super) fn known_deletes(&self) -> Result<(), Violation> {
        let members = self.members();
        let known = members.iter().map(|machine| (&*machine.name, machine.tombstones()));
        deleted_stays_gone::check_known(&known.collect::<Vec<_>>())
    }

    /// The deletes that any node knows of.
    fn deleted(&self) -> Tombstones {
        let mut deleted = Tombstones::default();
        for known in self.members().iter().filter_map(|machine| machine.tombstones()) {
            for (namespace, tombstone) in known.iter() {
                deleted.merge(namespace, tombstone.version);
            }
        }
        deleted
    }

    fn compare(&self, gone: Vec<Gone>) -> Comparison {
        let members = self.members();
        let holds = |machine: &Arc<Machine>| match self.is_repaired {
            true => machine.sound_holdings(),
            false => machine.holdings(),
        };
        let deleted = self.deleted();
        let holds: Vec<Holdings> =
            members.iter().map(holds).map(|held| holdings::without(held, &deleted)).collect();
        let mut spoilt = self.spoilt.lock().clone();
        if self.is_repaired {
            // Then its copy is owed like any other.
            spoilt.iter_mut().for_each(BTreeSet::clear);
        }
        let holders = members.iter().zip(&holds).zip(spoilt.iter().zip(&gone));
        let holders: Vec<Holder<'_>> = holders
            .map(|((machine, holds), (spoilt, gone))| Holder {
                node: &machine.name,
                holds,
                spoilt,
                gone,
            })
            .collect();
        holdings::compare(&holders)
    }

    /// A node has a whole answer from a peer.
    pub(super) fn answered(&self, position: usize, peer: SocketAddr, answered: Answered) {
        let Answered { at, moves } = answered;
        let mut heard = self.heard.lock();
        let heard = heard.entry((position, peer)).or_insert(Heard { at, moved: at, revived: None });
        if self.is_given_up(*heard, at) {
            heard.revived = Some(at);
        }
        heard.at = at;
        heard.moved = if moves { at } else { heard.moved };
    }

    /// Whether by now nobody has to wait any longer for a peer that was last heard then.
    fn is_given_up(&self, heard: Heard, now: Instant) -> bool {
        let still_max = Rules { peer_wait: self.peer_wait }.still_max();
        now.since(heard.at) >= self.peer_wait || now.since(heard.moved) >= still_max
    }

    /// Waits until a node that has just started is ready, and judges whether it may be. To be run on
    /// its host, so that it ends with its life.
    pub(super) async fn watch(self: Arc<Self>, position: usize) {
        let members = self.members();
        let Some(machine) = members.get(position).cloned() else { return };
        let clock = self.world.clock(machine.host);
        let (began, wall_ms) = (clock.now(), clock.wall().0);
        let was_empty = machine.holdings().is_empty();
        let others = members.iter().enumerate().filter(|(other, _)| *other != position);
        let before: Vec<Standing> = others
            .map(|(position, peer)| Standing {
                position,
                life: peer.life(),
                holds: peer.holdings(),
                struck: machine.connections_struck(peer),
            })
            .collect();
        for peer in &members {
            let (key, heard) =
                ((position, peer.peer_addr), Heard { at: began, moved: began, revived: None });
            self.heard.lock().insert(key, heard);
        }
        while machine.state() != Some(State::Serving) {
            clock.sleep(LOOK).await;
        }
        let verdict = self.judge_ready(&machine, was_empty, (began, wall_ms), &before);
        self.court.evidence().tell(clock.now(), format!("{}: ready", machine.name));
        self.court.evidence().judge(clock.now(), verdict);
    }

    fn judge_ready(
        &self,
        machine: &Machine,
        was_empty: bool,
        (began, wall_began_ms): (Instant, u64),
        before: &[Standing],
    ) -> Result<(), Violation> {
        let members = self.members();
        let cluster = machine.cluster();
        let of = |position: usize| {
            let addr = machine_peer(&members[position]);
            let peers = cluster["peers"].as_array().map_or(&[][..], Vec::as_slice);
            peers.iter().find(|peer| peer["peer"].as_str() == Some(addr.as_str()))
        };
        let has_passed = |peer: &Standing| {
            of(peer.position).is_some_and(|peer| peer["passes"].as_u64() > Some(0))
        };
        // Of a liar nobody can know what it holds.
        let honest = |peer: &&Standing| !members[peer.position].lied_since(began);
        let before: Vec<&Standing> = before.iter().filter(honest).collect();
        let passed = before.iter().filter(|peer| has_passed(peer)).count();
        ready_is_complete::check_reached(&machine.name, was_empty, before.len(), passed)?;
        let now: Vec<Holdings> = before.iter().map(|it| members[it.position].holdings()).collect();
        // Who passed over a peer has what that held. Who did not must have had to do without: the
        // peer was silent for long enough, and not because nobody asked it.
        let counts = before.iter().zip(&now).filter(|(peer, _)| {
            has_passed(peer) || {
                let named = of(peer.position).and_then(|peer| peer["standing"].as_str());
                !self.was_out_of_reach(machine, peer, (began, named))
            }
        });
        let deleted = self.deleted();
        // What lies too far ahead of its own clock it does not take in, and is ready without.
        let wall_ms = wall_began_ms.min(self.world.clock(machine.host).wall().0);
        let owed = |holds: &Holdings| {
            let mut owed = holdings::without(holds.clone(), &deleted);
            owed.retain(|_, held| hlc::too_far_ahead(held.version.time, wall_ms).is_none());
            owed
        };
        let counts: Vec<(&Standing, &Holdings, Holdings)> =
            counts.map(|(peer, now)| (*peer, now, owed(&peer.holds))).collect();
        let spoilt = self.spoilt.lock();
        let peers: Vec<Peer<'_>> = counts
            .iter()
            .map(|(peer, now, then)| Peer {
                name: &members[peer.position].name,
                then,
                now,
                spoilt: &spoilt[peer.position] | &spoilt[machine.index.0],
            })
            .collect();
        let gone = &losses::gone(&members)[machine.index.0];
        let mine = Mine { holds: &machine.holdings(), gone };
        let compared = ready_is_complete::check(&machine.name, mine, &peers)?;
        self.court.evidence().compared.at_ready += compared;
        Ok(())
    }

    /// Whether a node that turned ready rightly did not wait for a peer: it calls the peer silent, or
    /// its pass unfinished, had no answer from it for long enough, or nothing of use for longer, and the
    /// world was the cause: the peer was dead, cut off, or faults struck connections between them.
    fn was_out_of_reach(
        &self,
        machine: &Machine,
        peer: &Standing,
        (began, named): (Instant, Option<&str>),
    ) -> bool {
        let members = self.members();
        let other = &members[peer.position];
        let now = self.world.now();
        let stood = other.life() == peer.life && peer.life > 0;
        let was_kept_apart = !stood
            || self.was_cut((machine.index.0, peer.position), began)
            || machine.connections_struck(other) > peer.struck;
        let heard = self.heard.lock().get(&(machine.index.0, other.peer_addr)).copied();
        let is_named = matches!(named, Some("silent" | "passing"));
        // A peer that came back since the node was looked at before was given up until then, and may
        // be called anything by now.
        let is_given_up = heard.is_some_and(|heard| {
            is_named && self.is_given_up(heard, now)
                || heard.revived.is_some_and(|revived| now.since(revived) <= LOOK * 2)
        });
        was_kept_apart && is_given_up
    }

    /// What bytes between the nodes go through at the worst.
    pub(super) fn path(&self, scenario: &Scenario) -> Path {
        let slowest = scenario.links.iter().map(|link| link.bandwidth_bytes_per_second).min();
        let longest = scenario.links.iter().map(|link| link.latency).max();
        Path {
            bytes_per_second: slowest.unwrap_or(u64::MAX),
            round_trip: longest.unwrap_or_default() * 2,
            peer_wait: self.peer_wait,
        }
    }
}

/// The name by which peers know a machine.
fn machine_peer(machine: &Machine) -> String {
    machine.peer_addr.to_string()
}
