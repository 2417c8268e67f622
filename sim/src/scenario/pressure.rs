//! What makes a disk small, slow or shared.

use std::time::Duration;

use sim_storage::{CoTenant, SimDiskConfig, Slow, Stalls, TenantShape};

use super::{drawn::Drawn, schema::Section};

/// What a disk does beside holding bytes at its rates.
#[derive(Clone, Debug)]
pub struct DiskPressure {
    /// What a node may hold of it; `None`: all.
    pub quota_bytes: Option<u64>,
    /// Whether the quota is told as the size of the disk.
    pub quota_is_told: bool,
    /// Blocks are looked for when bytes reach the device.
    pub delayed_allocation: bool,
    /// Space can be reserved.
    pub preallocation: bool,
    /// Calls, reads and syncs that take longer.
    pub slow: Slow,
    /// How many of a million syncs only say that they kept something.
    pub lying_sync_millionths: u32,
    /// When it stands still.
    pub stalls: Option<Stalls>,
}

impl DiskPressure {
    /// A disk under this pressure, and as it is by default in everything else.
    #[must_use]
    pub fn config(&self) -> SimDiskConfig {
        SimDiskConfig {
            quota_bytes: self.quota_bytes,
            quota_is_told: self.quota_is_told,
            delayed_allocation: self.delayed_allocation,
            preallocation: self.preallocation,
            slow_calls: self.slow,
            slow_reads: self.slow,
            slow_syncs: self.slow,
            lying_sync_millionths: self.lying_sync_millionths,
            stalls: self.stalls,
            ..SimDiskConfig::default()
        }
    }
}

/// Somebody else on the disks of nodes.
#[derive(Clone, Debug)]
pub struct CoTenantSpec {
    /// Its name.
    pub name: String,
    /// On whose disks; empty: on all.
    pub nodes: Vec<String>,
    /// What it takes and when. Each disk gives it a seed of its own.
    pub tenant: CoTenant,
    /// Whether it is still there while the run heals.
    pub stays: bool,
}

pub(super) fn disk_pressure(drawn: &Drawn) -> DiskPressure {
    let table = drawn.table(Section::Disk);
    let nonzero = |number: u64| (number > 0).then_some(number);
    let every = table.duration("stall_every");
    let stalls = Stalls { every, lasts: table.duration("stall_lasts") };
    DiskPressure {
        quota_bytes: nonzero(table.number("quota")),
        quota_is_told: table.flag("quota_told"),
        delayed_allocation: table.flag("delayed_allocation"),
        preallocation: table.flag("preallocation"),
        slow: Slow {
            millionths: u32::try_from(table.number("slow_share")).unwrap_or(u32::MAX),
            longer: table.duration("slow_by"),
        },
        lying_sync_millionths: u32::try_from(table.number("lying_syncs")).unwrap_or(u32::MAX),
        stalls: (!every.is_zero()).then_some(stalls),
    }
}

pub(super) fn co_tenant(drawn: &Drawn, name: &str) -> CoTenantSpec {
    let table = drawn.named(Section::CoTenant, name);
    let shape = match table.text("shape") {
        "ramp" => TenantShape::Ramp(table.duration("rise")),
        "noise" => TenantShape::Noise(table.duration("every")),
        _ => TenantShape::Step,
    };
    CoTenantSpec {
        name: name.to_owned(),
        nodes: table.texts("nodes").to_vec(),
        tenant: CoTenant {
            bytes: table.number("takes"),
            begins: table.duration("after"),
            lasts: Some(table.duration("lasts")).filter(|lasts| *lasts > Duration::ZERO),
            shape,
            seed: 0,
        },
        stays: table.flag("stays"),
    }
}
