//! `kura serve`: one node, from the first signal that it hears to its end.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    time::Duration,
};

use kura_core::capacity::capacity;
use kura_env::{Env, NetError, NetErrorKind};
use kura_host::{CatalogStats, DiskStats, Host, HostOptions, host_env};
use kura_node::{
    config::{NodeConfig, StoreConfig},
    metrics::HostCounter,
    node::{Ended, Node, StartError},
    store::KEYSPACES,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::{
    complain,
    exit::Exit,
    logging,
    settings::Settings,
    signals::Signals,
    staging::{self, Unfit},
};

/// How long threads of the runtime may take to end. Nothing of a node runs on them any more.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// Files that a node keeps open beside its segments and connections: the catalog's, staging, the
/// lock, the runtime's.
const FILES_BESIDE: u64 = 256;

/// What has to be there before anything else: a runtime, and ears for signals.
pub(crate) struct World {
    runtime: Runtime,
    signals: Signals,
}

impl World {
    /// Starts the runtime and catches signals from now on.
    ///
    /// # Errors
    ///
    /// The system has no threads or descriptors left.
    pub(crate) fn begin() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread().enable_all().build()?;
        let signals = {
            let _inside = runtime.enter();
            Signals::catch()?
        };
        Ok(Self { runtime, signals })
    }
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the system gives no threads or file descriptors")]
    World(#[source] io::Error),
    #[error(
        "the data directory {} cannot be made; make it for this user, or choose another",
        path.display()
    )]
    DataDir { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Staging(#[from] Unfit),
    #[error("{} for bodies in flight is in use by {holder}; choose another directory", path.display())]
    StagingLocked { path: PathBuf, holder: String },
    #[error("the threads of the node cannot be started")]
    Host(#[source] io::Error),
    #[error(
        "the data directory {} is in use by {holder}; stop it, or choose another directory",
        path.display()
    )]
    Locked { path: PathBuf, holder: String },
    #[error("{0}; choose another port, or stop the program that listens there")]
    AddressTaken(NetError),
    #[error("the node cannot start")]
    Start(#[source] StartError),
}

impl Failure {
    fn start(error: StartError, settings: &Settings) -> Self {
        match error {
            StartError::Locked { holder } => {
                Self::Locked { path: settings.data_dir().to_owned(), holder }
            }
            StartError::StagingLocked { holder } => {
                let path = settings.staging_dir().unwrap_or(settings.data_dir()).to_owned();
                Self::StagingLocked { path, holder }
            }
            StartError::Net(net) if matches!(net.kind, NetErrorKind::AddressInUse) => {
                Self::AddressTaken(net)
            }
            other @ (StartError::Net(_) | StartError::Disk(_)) => Self::Start(other),
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Locked { .. } | Self::StagingLocked { .. } => Exit::Locked,
            Self::Staging(Unfit::OtherFileSystem { .. }) => Exit::Config,
            Self::World(_)
            | Self::Staging(Unfit::Missing { .. })
            | Self::DataDir { .. }
            | Self::Host(_)
            | Self::AddressTaken(_)
            | Self::Start(_) => Exit::Io,
        }
    }
}

/// Runs a node until it is drained or cannot go on. With `exit_with_parent` the end of standard
/// input is a signal to drain.
pub(crate) fn run(world: io::Result<World>, settings: &Settings, exit_with_parent: bool) -> Exit {
    logging::start(settings);
    for warning in settings.warnings() {
        tracing::warn!("{warning}");
    }
    let ended = world.map_err(Failure::World).and_then(|world| {
        let World { runtime, mut signals } = world;
        if exit_with_parent {
            signals.hear_parent();
        }
        let ended = runtime.block_on(live(settings, runtime.handle(), &mut signals));
        runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
        ended
    });
    ended.unwrap_or_else(|failure| {
        complain(&format!("kura: {}\n", with_causes(&failure)));
        failure.exit()
    })
}

/// The life of the node, on the runtime.
async fn live(
    settings: &Settings,
    runtime: &Handle,
    signals: &mut Signals,
) -> Result<Exit, Failure> {
    let path = settings.data_dir();
    std::fs::create_dir_all(path)
        .map_err(|source| Failure::DataDir { path: path.to_owned(), source })?;
    let elsewhere = staging::prepare(settings)?;
    let options = HostOptions { elsewhere, ..HostOptions::new(path, &KEYSPACES) };
    let host = host_env(options, runtime.clone());
    let Host { env, disk, catalog } = host.map_err(Failure::Host)?;
    let config = settings.node_config();
    let segments = segments(&env, &config.store).await;
    have_files_for(&config, segments);

    let holder =
        format!("kura {} with process id {}", env!("CARGO_PKG_VERSION"), std::process::id());
    let node = tokio::select! {
        biased;
        started = Node::start(env, config, &holder) => {
            started.map_err(|error| Failure::start(error, settings))?
        }
        caught = signals.next() => {
            tracing::info!(signal = ?caught, "stopped before the node had started");
            return Ok(Exit::Clean);
        }
    };
    node.metrics().host.ask(move || counters(disk.stats(), catalog.stats()));
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        data_dir = %path.display(),
        address = %node.local_addr(),
        peer_address = node.peer_addr().map(tracing::field::display),
        "started"
    );
    announce(&node);
    Ok(until_the_end(node, signals, settings).await)
}

/// What the real world counts, under the names of `/metrics`.
fn counters(disk: DiskStats, catalog: CatalogStats) -> Vec<HostCounter> {
    let DiskStats { sync_calls, syncs, reads_inline, reads_on_threads, mapping_faults } = disk;
    let CatalogStats { commits, batches, syncs: catalog_syncs } = catalog;
    [
        ("disk_sync_calls", "Syncs of files that were asked for", sync_calls),
        ("disk_syncs", "Syncs of files that they took", syncs),
        ("disk_reads_inline", "Reads answered from memory at once", reads_inline),
        ("disk_reads_on_threads", "Reads that went to a thread of the disk", reads_on_threads),
        (
            "mapping_faults",
            "Pages of mapped segments that could not be read and became zeros",
            mapping_faults,
        ),
        ("catalog_commits", "Commits to the catalog that succeeded", commits),
        ("catalog_batches", "Batches of the catalog's journal that they took", batches),
        ("catalog_syncs", "Syncs of the catalog's journal", catalog_syncs),
    ]
    .map(|(name, help, value)| HostCounter { name, help, value })
    .into()
}

/// Waits for a signal and drains; a second one, or a node that cannot go on, ends it at once.
async fn until_the_end(node: Node, signals: &mut Signals, settings: &Settings) -> Exit {
    let caught = tokio::select! {
        biased;
        ended = node.failed() => return failed(&ended, settings),
        caught = signals.next() => caught,
    };
    tracing::info!(signal = ?caught, "draining");
    tokio::select! {
        biased;
        _ = node.drain() => {
            tracing::info!("drained");
            Exit::Clean
        }
        // Nothing is waited for: what was acknowledged is safe, and that is all that is promised.
        caught = signals.impatient() => {
            std::process::exit(Exit::Impatient(caught.number()).code().into())
        }
    }
}

fn failed(ended: &Ended, settings: &Settings) -> Exit {
    match ended {
        Ended::Drained => Exit::Clean,
        Ended::Failed(error) => {
            let path = settings.data_dir().display();
            let causes = with_causes(error);
            complain(&format!("kura: the data directory {path} cannot be read back: {causes}\n"));
            Exit::Io
        }
        Ended::SurfaceEnded(end) => {
            complain(&format!("kura: the public surface ended by itself: {end:?}\n"));
            Exit::Internal
        }
        Ended::StoreEnded { task, end } => {
            complain(&format!("kura: the {task} of the store ended by itself: {end:?}\n"));
            Exit::Internal
        }
    }
}

/// Tells programs and people where the node listens: the only line on standard output.
fn announce(node: &Node) {
    let line = format!("listening on http://{}\n", node.local_addr());
    let mut out = io::stdout();
    if let Err(error) = out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
        tracing::warn!(%error, "the address cannot be written to standard output");
    }
}

/// How many segments the rings may hold on this disk: each is open for as long as it is kept. 0 if
/// that cannot be told; the node says why when it starts.
async fn segments(env: &Env, store: &StoreConfig) -> usize {
    let disk_bytes = env.disk.space().await.map_or(0, |space| space.total_bytes);
    let capacity = capacity(store.capacity_bytes, disk_bytes, store.segment_bytes);
    capacity.map_or(0, |capacity| capacity.blobs.segments_max + capacity.entries.segments_max)
}

/// Raises the limit on open files as far as it goes, and warns where that is not far enough.
fn have_files_for(config: &NodeConfig, segments: usize) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let limit = if raised.is_ok() { maximum } else { current }.unwrap_or(u64::MAX);
    let connections = u64::try_from(config.surface.connections_max).unwrap_or(u64::MAX);
    let segments = u64::try_from(segments).unwrap_or(u64::MAX);
    let wanted = connections.saturating_add(segments).saturating_add(FILES_BESIDE);
    if limit < wanted {
        tracing::warn!(
            limit,
            wanted,
            connections,
            segments,
            "too few open files are allowed; raise the limit (ulimit -n, LimitNOFILE) or lower \
             http.max_connections"
        );
    }
}

/// An error and all its causes, in one line. A cause that an error tells itself is not repeated.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let told = error.to_string();
        if !text.contains(&told) {
            text = format!("{text}: {told}");
        }
        cause = error.source();
    }
    text
}
