//! What a node is told at start: plain data. Only `bin/kura` reads the environment.

use std::{net::SocketAddr, time::Duration};

use kura_core::{limits::PeerLimits, primary::Rules};

/// Settings of one node.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Where the public surfaces listen. Port 0 chooses a free one.
    pub listen: SocketAddr,
    /// The store.
    pub store: StoreConfig,
    /// The public surfaces.
    pub surface: SurfaceConfig,
    /// The peer plane; none for a node alone.
    pub peers: Option<PeerConfig>,
    /// How long a drain may take before what is in flight is cut.
    pub drain_timeout: Duration,
}

/// Settings of the store.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Size of a segment. Too low: bodies near it are refused, and headers and rotations cost more.
    /// Too high: eviction is coarse, and a small disk holds too few segments to tell old from new.
    pub segment_bytes: u64,
    /// What the rings and the pool may hold together, in bytes. Unset: half of the file system.
    pub capacity_bytes: Option<u64>,
    /// Whether staging files lie below [`STAGING_ELSEWHERE`](crate::store::STAGING_ELSEWHERE), which
    /// the disk keeps outside of the data directory, and not below `tmp/`.
    pub staging_elsewhere: bool,
    /// Bytes of bodies in flight on disk. Too low: large uploads are refused in parallel. Too high:
    /// uploads crowd out the ring.
    pub staging_bytes_max: u64,
    /// Bytes of bodies in flight in memory.
    pub memory_bytes_max: u64,
    /// Bodies up to this size fill in memory, larger ones in a staging file.
    pub memory_body_bytes_max: u64,
    /// Bytes of the index in memory. Too low: reads of what is asked for often go to the catalog.
    pub index_bytes_max: u64,
    /// The largest body; never over what fits a segment.
    pub body_bytes_max: u64,
    /// What an acknowledged write survives.
    pub durability: Durability,
    /// For how long what was said to be here stays. Zero: nothing is promised. Too low: builds lose
    /// outputs that they were told exist. Too high: a small ring refuses writes.
    pub promise: Duration,
    /// For how long a fresh write stays. Too low: a build's own outputs may be gone before it reads
    /// them. Too high: a small ring refuses writes in a burst.
    pub write_grace: Duration,
    /// How often all that is stored is read, to find what the device lost. Zero: only when asked.
    /// Too low: the device is never at rest. Too high: peers may have evicted what was lost.
    pub scrub_every: Duration,
    /// Rows of the node's own feed. Too low: a peer that was away for a while has to compare. Too
    /// high: the catalog is full of rows that nobody reads.
    pub feed_rows_max: u64,
    /// Bytes that the scrub reads in a second at the most, at least 1. Too low: a pass takes weeks.
    /// Too high: readers wait for the device.
    pub scrub_bytes_per_second: u64,
}

/// What an acknowledged write survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Power loss: acknowledged after the segment was synced.
    PowerLoss,
    /// The death of the process only: acknowledged after the bytes were handed to the system.
    ProcessCrash,
}

/// Settings of the public surfaces.
#[derive(Clone, Debug)]
pub struct SurfaceConfig {
    /// A connection on which no byte moves in either direction for this long is closed; so is an
    /// upload whose body stalls. Too low: slow WANs lose uploads. Too high: dead clients hold
    /// connections and staging.
    pub idle_timeout: Duration,
    /// From the first byte of a request's header (or from the connection being accepted) to the
    /// end of that header.
    pub header_timeout: Duration,
    /// Connections at once; further ones wait to be accepted.
    pub connections_max: usize,
    /// After an early refusal, up to this much of the body is read and thrown away, so that the
    /// client sees the answer and not a reset.
    pub drain_body_bytes_max: u64,
    /// What `Retry-After` says on a refusal that will pass.
    pub retry_after: Duration,
    /// Whether answers carry a `Date`. Off in the simulator: the wall clock is not its own.
    pub date_header: bool,
}

/// Settings of the peer plane.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// Where peers reach this node.
    pub listen: SocketAddr,
    /// The peers, as `host:port` or `http://host:port`. This node itself may be among them.
    pub peers: Vec<String>,
    /// The region this node is in.
    pub region: String,
    /// For how long a silent peer holds readiness back.
    pub peer_wait: Duration,
    /// After how long a pass over a peer is cut, to go on after a pause. Too low: passes pause again
    /// and again. Too high: one that does not get on is not begun anew.
    pub pass_timeout: Duration,
    /// How long a read that would be a miss waits for a peer of the same region that was heard to hold it; zero:
    /// it does not, and nobody is asked. Too low: it is fetched, and the read is a miss all the same. Too high:
    /// reads are slow misses where peers are slow.
    pub read_through: Duration,
    /// Bytes of bodies in a second that are fetched from all peers together, and as many that are
    /// served to them; 0: as many as come. Too low: catching up takes long. Too high: clients share the
    /// network with peers that take all of it.
    pub bandwidth_bytes_per_second: u64,
    /// What is taken from a peer in one request, and told in one answer.
    pub limits: PeerLimits,
    /// Which node of the region is primary.
    pub primary: PrimaryConfig,
}

/// Settings of how the primary of a region is found.
#[derive(Clone, Copy, Debug)]
pub struct PrimaryConfig {
    /// Who is fit.
    pub rules: Rules,
    /// How often each peer is asked how it is, [`PULSE_EVERY`](kura_core::primary::PULSE_EVERY) but in simulations of something
    /// else; zero: nobody is asked, and each node takes itself for the only one.
    pub pulse_every: Duration,
}

impl PrimaryConfig {
    /// Nobody is asked how it is.
    pub const NOBODY_ASKED: Self = Self {
        rules: Rules { min_age: Duration::from_secs(600), lag_max: Duration::from_secs(30) },
        pulse_every: Duration::ZERO,
    };
}
