//! The simulated world that a run happens in: executor, time, randomness, network.
//!
//! [`World`] is a single-threaded, event-driven executor with virtual time in nanoseconds. It gives
//! each node its clock, tasks, entropy and network as the traits of `kura-env`, kills nodes and
//! starts them again, and keeps a rolling hash over all events. Disks and catalogs are not here:
//! they know time alone and can be carried by any engine.
//!
//! Determinism needs that a world is made and run on one thread, and that nothing in it asks the
//! real world: no ambient time, randomness, threads, or order by address or hash.

mod clock;
mod config;
mod entropy;
mod executor;
mod host;
mod journal;
mod net;
mod outcome;
mod shared;
mod task;
mod tasks;
mod timer;
mod world;

pub use config::WorldConfig;
pub use entropy::KeyedStream;
pub use host::{NodeId, Power};
pub use journal::{JournalHash, Recorder};
pub use net::{Cut, CutAfter, Ending, LinkConfig, LinkId, LinkStats, NetConfig, NetControl};
pub use outcome::{Dump, Outcome, PanicReport, Stats};
pub use task::TaskLine;
pub use world::World;
