//! The seams: everything a node asks of the world, as object-safe traits with contracts.
//!
//! A node is written against [`Env`] alone. `host` implements it on Linux, `sim-engine` and
//! `sim-storage` inside the simulator, and `fault-injection` wraps any of them. The contracts stand
//! in the docs of each trait; [`conformance`] holds every implementation to them.

mod catalog;
mod clock;
pub mod conformance;
mod disk;
mod effect;
mod entropy;
mod net;
mod tasks;

pub use catalog::{
    Batch, Catalog, CatalogError, CatalogHealth, CommitDurability, Keyspace, Operation, Row,
};
pub use clock::{Clock, Elapsed, Instant, Wall, timeout};
pub use disk::{
    COPY_SUFFIX, DirEntry, Disk, DiskError, DiskErrorKind, DiskPath, File, FileKind, Lock,
    LockOutcome, Space,
};
pub use effect::{DiskEffect, EffectKind, path_class};
pub use entropy::{Entropy, EntropyStream};
pub use net::{Listener, Net, NetError, NetErrorKind, Stream};
pub use tasks::{TaskControl, TaskEnd, TaskHandle, Tasks};

use std::{future::Future, pin::Pin, sync::Arc};

/// A boxed future, the form in which every asynchronous call crosses a seam.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The world of one node: cheap to clone, and all that node code may touch.
#[derive(Clone)]
pub struct Env {
    /// Time: monotonic and wall.
    pub clock: Arc<dyn Clock>,
    /// Byte streams to and from other processes.
    pub net: Arc<dyn Net>,
    /// The data directory, at the grain of system calls.
    pub disk: Arc<dyn Disk>,
    /// Ordered keyspaces beside the data.
    pub catalog: Arc<dyn Catalog>,
    /// Named streams of random numbers.
    pub entropy: Arc<dyn Entropy>,
    /// Where work runs, and who owns it.
    pub tasks: Arc<dyn Tasks>,
}
