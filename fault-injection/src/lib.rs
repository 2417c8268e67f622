//! Faults as data, and wrappers that apply them to any world, real or simulated.
//!
//! A [`Plan`] lists what shall break, where and when. An [`Injector`] answers from it, purely by
//! counting, whether a fault strikes an operation; it is what the simulated disk's effect hook asks
//! and what the wrappers of [`Faults`] ask. With an empty plan a wrapper changes nothing.
//!
//! Processes that cannot be wrapped are met on the network: a [`Link`] carries what they send to each other, and slows
//! it down, delays it or cuts it by dials that turn while they run.

mod catalog;
mod disk;
mod faults;
mod injector;
mod link;
mod net;
mod plan;

pub use catalog::FaultyCatalog;
pub use disk::FaultyDisk;
pub use faults::{Faults, OnCrash};
pub use injector::{Injector, Operation, Strike};
pub use link::{
    BUFFER_BYTES_MAX, CONNECTIONS_MAX, Dial, Dials, End, Flow, Link, LinkCounts, Proxy, Way,
    WayCounts,
};
pub use net::FaultyNet;
pub use plan::{
    CatalogFault, CrashKind, CrashMoment, Cut, DiskFault, Fault, FaultId, KeepUnsynced, Plan, What,
    When,
};
