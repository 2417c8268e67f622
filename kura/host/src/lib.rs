//! The real world: what `kura-env` asks for, on Linux. The only crate with `unsafe` code.
//!
//! Calls that may block run on named threads of their own: `kura-read`, `kura-write` (the disk),
//! `kura-catalog`, `kura-commit` (the catalog) and `kura-compute`. The threads of the async runtime
//! never wait for a disk.

mod catalog;
mod clock;
mod disk;
mod entropy;
mod net;
mod tasks;
mod threads;

pub use catalog::{CatalogStats, HostCatalog};
pub use clock::HostClock;
pub use disk::{DiskStats, Elsewhere, HostDisk};
pub use entropy::HostEntropy;
pub use net::HostNet;
pub use tasks::HostTasks;

use std::{io, path::PathBuf, sync::Arc};

use kura_env::{Env, Keyspace};
use tokio::runtime::Handle;

/// The catalog's directory below the data directory.
const CATALOG_DIRECTORY: &str = "catalog";

/// What the world of one node is made from.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// The data directory; created if need be.
    pub root: PathBuf,
    /// A directory of the data directory that lies elsewhere.
    pub elsewhere: Option<Elsewhere>,
    /// The keyspaces of the catalog.
    pub keyspaces: Vec<Keyspace>,
    /// Threads that read from the disk, and as many that write. Too low: one slow call holds up
    /// all others. Too high: nothing is gained once the device is busy.
    pub disk_threads: usize,
    /// Threads for CPU-heavy work. Over the number of cores nothing is gained.
    pub compute_threads: usize,
}

impl HostOptions {
    /// The options for a data directory, with defaults for the rest: four disk threads of each
    /// kind, and as many compute threads as there are cores.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>, keyspaces: &[Keyspace]) -> Self {
        Self {
            root: root.into(),
            elsewhere: None,
            keyspaces: keyspaces.to_vec(),
            disk_threads: 4,
            compute_threads: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

/// The world of one node, and the parts of it that can be asked what they did.
pub struct Host {
    /// What the node is given.
    pub env: Env,
    /// The disk of `env`.
    pub disk: Arc<HostDisk>,
    /// The catalog of `env`.
    pub catalog: Arc<HostCatalog>,
}

/// Makes the world of one node. Its tasks run on `runtime`, which needs I/O and time enabled. The
/// catalog is made but not opened.
///
/// # Errors
///
/// If the data directory cannot be created, or the system has no threads left.
pub fn host_env(options: HostOptions, runtime: Handle) -> io::Result<Host> {
    let disk = HostDisk::new(options.root.clone(), options.disk_threads)?;
    let disk = Arc::new(disk.with_elsewhere(options.elsewhere));
    let directory = options.root.join(CATALOG_DIRECTORY);
    let catalog = Arc::new(HostCatalog::new(directory, &options.keyspaces)?);
    let env = Env {
        clock: Arc::new(HostClock::new()),
        net: Arc::new(HostNet),
        disk: disk.clone(),
        catalog: catalog.clone(),
        entropy: Arc::new(HostEntropy),
        tasks: Arc::new(HostTasks::new(runtime, options.compute_threads)?),
    };
    Ok(Host { env, disk, catalog })
}
