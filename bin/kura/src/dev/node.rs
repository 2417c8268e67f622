//! One node of the mesh: what it is told, its process, and its log.

use std::{
    io,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, ChildStdin, Command},
    task::JoinHandle,
};

use crate::{
    ask::NodeUrl,
    cli::{EXIT_WITH_PARENT, SERVE},
    complain,
    settings::Key,
};

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// What one node takes of a large disk, in bytes.
const CAPACITY_BYTES: u64 = 10 * GIB;

/// The least that a node can do with, in bytes.
const CAPACITY_BYTES_MIN: u64 = 5 * MIB;

/// Size of a segment, in bytes: each node takes the space of one from the beginning.
const SEGMENT_BYTES: u64 = 128 * MIB;

/// Segments that a ring has at the least.
const SEGMENTS: u64 = 5;

/// How long a node may take to drain. Nobody waits long at a terminal.
pub(super) const DRAIN_TIMEOUT: &str = "5s";

/// How long nodes wait for one that is not there: here none is only slow to come up.
const PEER_WAIT: &str = "10s";

/// Where a node lives.
#[derive(Debug)]
pub(super) struct Place {
    /// Counted from 1.
    pub(super) number: u16,
    pub(super) directory: PathBuf,
    /// The public port.
    pub(super) port: u16,
    /// The port for its peers.
    pub(super) internal_port: u16,
    pub(super) capacity_bytes: u64,
}

impl Place {
    pub(super) fn name(&self) -> String {
        format!("node-{}", self.number)
    }

    pub(super) fn url(&self) -> NodeUrl {
        NodeUrl::loopback(self.port)
    }
}

/// The size of the file system that holds `directory` or what is above it.
pub(super) fn disk_bytes(directory: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(directory).ok()?;
    Some(found.f_blocks.saturating_mul(found.f_frsize))
}

/// What each of so many nodes may take of a disk: all of them together half of it.
pub(super) fn capacity_bytes(disk_bytes: Option<u64>, nodes: u16) -> u64 {
    let share = disk_bytes.map_or(CAPACITY_BYTES, |bytes| bytes / 2 / u64::from(nodes.max(1)));
    share.clamp(CAPACITY_BYTES_MIN, CAPACITY_BYTES)
}

/// What the node at `place` is told, beside the variables that are set.
pub(super) fn flags(
    place: &Place,
    all: &[Place],
    is_set: impl Fn(&str) -> bool,
) -> Vec<(Key, String)> {
    let peers = all.iter().map(|peer| format!("127.0.0.1:{}", peer.internal_port));
    let mut flags = vec![
        (Key::DataDir, place.directory.to_string_lossy().into_owned()),
        (Key::Bind, "127.0.0.1".to_owned()),
        (Key::Port, place.port.to_string()),
        (Key::PeerPort, place.internal_port.to_string()),
        (Key::Peers, peers.collect::<Vec<_>>().join(",")),
        (Key::DrainTimeout, DRAIN_TIMEOUT.to_owned()),
    ];
    let mut offer = |key: Key, value: String| {
        if !is_set(key.setting().variable) {
            flags.push((key, value));
        }
    };
    offer(Key::LogFilter, "warn".to_owned());
    offer(Key::PeerWait, PEER_WAIT.to_owned());
    // The segment follows a capacity that somebody chose.
    if !is_set(Key::Capacity.setting().variable) {
        offer(Key::Capacity, place.capacity_bytes.to_string());
        let segment = SEGMENT_BYTES.min(place.capacity_bytes / SEGMENTS);
        offer(Key::Segment, (segment / MIB * MIB).to_string());
    }
    flags
}

/// A node that runs. Killed when it is dropped.
pub(super) struct Running {
    pub(super) number: u16,
    pub(super) process: Child,
    /// The node drains when this is closed. Apart from the process, because waiting for that would
    /// close it.
    lifeline: Option<ChildStdin>,
    log: JoinHandle<()>,
}

impl Running {
    /// Starts a node.
    pub(super) fn start(
        program: &Path,
        place: &Place,
        flags: &[(Key, String)],
    ) -> io::Result<Self> {
        let flags = flags.iter().map(|(key, value)| format!("--{}={value}", key.setting().flag));
        let mut process = Command::new(program)
            .arg(SERVE)
            .arg(format!("--{EXIT_WITH_PARENT}"))
            .args(flags)
            .stdin(Stdio::piped())
            // Where it listens is known.
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let lifeline = process.stdin.take();
        let (name, stderr) = (place.name(), process.stderr.take());
        let log = tokio::spawn(async move {
            if let Some(stderr) = stderr {
                pass_on(&name, stderr).await;
            }
        });
        Ok(Self { number: place.number, process, lifeline, log })
    }

    /// Asks the node to drain.
    pub(super) fn stop(&mut self) {
        self.lifeline = None;
    }

    /// Kills the node, if it is still there.
    pub(super) fn kill(&mut self) {
        // An error means that it has ended already.
        self.process.start_kill().ok();
    }

    /// Waits until all that the node has said is passed on, once it has ended.
    pub(super) async fn said(&mut self) {
        // An error means that passing on panicked, and then there is nothing to wait for.
        (&mut self.log).await.ok();
    }
}

/// Prints each line under the name of its node.
async fn pass_on(name: &str, log: impl AsyncRead + Unpin) {
    let mut log = BufReader::new(log);
    let mut line = Vec::new();
    // An error is an end as well: there is nothing more to read.
    while matches!(log.read_until(b'\n', &mut line).await, Ok(1..)) {
        complain(&format!("{name} | {}\n", String::from_utf8_lossy(&line).trim_end()));
        line.clear();
    }
}
