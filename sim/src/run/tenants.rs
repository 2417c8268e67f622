//! Others on the disks of the nodes. What they hold follows from the time alone; here they come, go
//! and are told of.

use std::{sync::Arc, time::Duration};

use kura_env::Instant;
use sim_engine::World;
use sim_storage::{CoTenant, SimDisk};

use super::machine::Machine;
use crate::{
    court::Court,
    draw::Draw,
    scenario::{CoTenantSpec, Scenario},
};

/// Lets everybody in who shares a disk in this scenario.
pub(super) fn move_in(
    world: &World,
    court: &Court,
    scenario: &Scenario,
    machines: &[Arc<Machine>],
    seed: u64,
) {
    for machine in machines {
        let here = scenario.co_tenants.iter().filter(|spec| is_here(spec, &machine.name));
        machine.disk.set_co_tenants(here.map(|spec| tenant(spec, &machine.name, seed)).collect());
    }
    for spec in &scenario.co_tenants {
        let CoTenant { begins, lasts, .. } = spec.tenant;
        let disks: Vec<(String, SimDisk)> = (machines.iter())
            .filter(|machine| is_here(spec, &machine.name))
            .map(|machine| (machine.name.clone(), machine.disk.clone()))
            .collect();
        tell(world, court, begins, format!("co-tenant {} comes", spec.name), disks.clone());
        if let Some(lasts) = lasts {
            tell(world, court, begins + lasts, format!("co-tenant {} goes", spec.name), disks);
        }
    }
}

/// Sends away whoever does not stay while the run heals.
pub(super) fn move_out(scenario: &Scenario, machines: &[Arc<Machine>], seed: u64) {
    for machine in machines {
        let here = scenario.co_tenants.iter().filter(|spec| is_here(spec, &machine.name));
        let stay = here.filter(|spec| spec.stays);
        machine.disk.set_co_tenants(stay.map(|spec| tenant(spec, &machine.name, seed)).collect());
    }
}

fn is_here(spec: &CoTenantSpec, node: &str) -> bool {
    spec.nodes.is_empty() || spec.nodes.iter().any(|name| name == node)
}

fn tenant(spec: &CoTenantSpec, node: &str, seed: u64) -> CoTenant {
    let seed = Draw::named(seed, &format!("co_tenant.{}.{node}", spec.name)).next_u64();
    CoTenant { seed, ..spec.tenant.clone() }
}

/// Puts into the timeline what others hold at that time.
fn tell(world: &World, court: &Court, at: Duration, what: String, disks: Vec<(String, SimDisk)>) {
    let court = court.clone();
    let at = Instant(u64::try_from(at.as_nanos()).unwrap_or(u64::MAX));
    world.schedule(at, move |world| {
        for (name, disk) in &disks {
            let (held, space) = (disk.foreign_bytes(), disk.space());
            let left = space.available_bytes;
            let line = format!("{name}: {what}; others hold {held} bytes, {left} are available");
            court.evidence().tell(world.now(), line);
        }
    });
}
