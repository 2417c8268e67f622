//! The simulated storage of a node: a device that keeps what a real one would keep after a crash,
//! and a catalog on top of it.
//!
//! Knows time only through `Clock` and no executor, so that any engine can carry it. Every random
//! choice comes from a stream keyed by the device's seed and what the choice is for.

mod attached;
mod blocks;
mod catalog;
mod config;
mod content;
mod device;
mod disk;
mod draw;
mod effect;
mod fate;
mod file;
mod mapping;
mod names;
mod shared;
mod space;
mod stall;
mod tenant;
mod volume;
mod writeback;

pub use catalog::{RowCosts, SimCatalog, SimCatalogConfig};
pub use config::{Crash, Keep, SimDiskConfig, Slow, Stalls};
pub use disk::{SimDisk, WalkedFile};
pub use effect::{CrashReport, Effect, EffectHook, EffectVerdict, LifeId, OnCrash};
pub use space::DirUsage;
pub use tenant::{CoTenant, TenantShape};
