//! Looks at the disks of the nodes while they work: whether their books are right, and whether they
//! leave room to others.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use kura_core::{ledger::floor_bytes, record::Area};
use parking_lot::Mutex;
use sim_engine::World;

use super::machine::Machine;
use crate::{
    court::Court,
    invariants::{batches_bounded, floor_is_kept, ledger_equals_disk},
    scenario::{Scenario, StrikeKind},
};

/// How often.
const EVERY: Duration = Duration::from_millis(250);

/// A disk that stands still for less at a time leaves the books time to follow it.
const STANDSTILL_MAX: Duration = Duration::from_secs(3);

/// One node under inspection.
struct Inspected {
    machine: Weak<Machine>,
    books: ledger_equals_disk::Watch,
    /// Whether its books may be held against it while it works: on a disk that stands still for longer
    /// than they have to follow, they are looked at when it is at rest alone.
    judges_books: bool,
    floor: floor_is_kept::Watch,
}

/// Begins to look, for as long as the machines are there.
pub(super) fn begin(world: &World, court: &Court, scenario: &Scenario, machines: &[Arc<Machine>]) {
    let struck = |kind| scenario.strikes.iter().any(|strike| strike.kind == kind);
    // A node that stands still cannot follow, and what it was doing is not over.
    if scenario.phases.iter().any(|phase| !phase.freeze.is_empty()) || struck(StrikeKind::Freeze) {
        return;
    }
    let held = scenario.node.promise + scenario.node.write_grace;
    let stalls = scenario.disk.pressure.stalls;
    let stands_still = stalls.map_or(Duration::ZERO, |stalls| stalls.lasts);
    let inspected = machines.iter().map(|machine| Inspected {
        machine: Arc::downgrade(machine),
        books: ledger_equals_disk::Watch::default(),
        judges_books: stands_still < STANDSTILL_MAX && !struck(StrikeKind::Stall),
        floor: floor_is_kept::Watch::new(held),
    });
    look_after(world, court.clone(), Arc::new(Mutex::new(inspected.collect())));
}

fn look_after(world: &World, court: Court, inspected: Arc<Mutex<Vec<Inspected>>>) {
    world.schedule(world.now() + EVERY, move |world| {
        let mut is_there = false;
        for inspected in inspected.lock().iter_mut() {
            if let Some(machine) = inspected.machine.upgrade() {
                is_there = true;
                inspected.look(&machine, world, &court);
            }
        }
        if is_there {
            look_after(world, court, inspected);
        }
    });
}

impl Inspected {
    fn look(&mut self, machine: &Machine, world: &World, court: &Court) {
        let (name, now) = (&machine.name, world.now());
        let books = machine.open_life().and_then(|_| machine.books());
        let sight = books.as_ref().map(|(ledger, walked)| (ledger, walked));
        let verdict = self.books.check(name, now, sight.filter(|_| self.judges_books));
        let verdict = verdict.and_then(|()| batches_bounded::check(name, machine.largest_batch()));
        if verdict.is_err() {
            court.evidence().judge(now, verdict);
        }
        let verdict = self.floor.check(name, now, sight.and_then(|_| floor_of(machine)));
        if verdict.is_err() {
            court.evidence().judge(now, verdict);
        }
    }
}

/// The disk of a node whose unlinked files are all closed.
fn floor_of(machine: &Machine) -> Option<floor_is_kept::Sight> {
    if machine.disk.open_unlinked_bytes() > 0 {
        return None;
    }
    let space = machine.disk.space();
    let floor_bytes = floor_bytes(space.total_bytes);
    if space.available_bytes >= floor_bytes {
        return None;
    }
    let image = machine.image();
    let ring = image.ring()?;
    let beyond_one = |area: Area| ring.len(area).saturating_sub(1);
    let objects = image.below(Area::Pool.dir()).count();
    let may_go = beyond_one(Area::Blobs) + beyond_one(Area::Entries) + objects;
    Some(floor_is_kept::Sight {
        available_bytes: space.available_bytes,
        floor_bytes,
        may_go: may_go as u64,
    })
}
