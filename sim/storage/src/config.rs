//! What a device is: its size, its speed, its seed, and the ways in which a life on it may end.

use std::time::Duration;

/// Calls of one class that take longer than they should.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slow {
    /// How many of a million calls, drawn.
    pub millionths: u32,
    /// How much longer one of them takes, at the most; drawn evenly from nothing up.
    pub longer: Duration,
}

/// Times at which the device does nothing at all: once in each interval, at a drawn moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stalls {
    /// The interval.
    pub every: Duration,
    /// How long it stands still; at most half of the interval.
    pub lasts: Duration,
}

/// A device and the file system on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimDiskConfig {
    /// Size of the file system.
    pub capacity_bytes: u64,
    /// The unit of allocation; a power of two of at least 512.
    pub block_bytes: u64,
    /// What the device reads in a second; 0 means without limit.
    pub read_bytes_per_second: u64,
    /// What the device writes in a second; 0 means without limit.
    pub write_bytes_per_second: u64,
    /// What every call costs beside its bytes; calls do not wait for each other's.
    pub op_latency: Duration,
    /// What a sync costs beside the bytes that are not written yet; syncs wait for each other's.
    pub sync_latency: Duration,
    /// How calls that change names or reserve space are slow at times.
    pub slow_calls: Slow,
    /// How reads are slow at times.
    pub slow_reads: Slow,
    /// How syncs are slow at times.
    pub slow_syncs: Slow,
    /// How many of a million syncs, of files and of directories, say that they are done and have not
    /// kept anything: a device that acknowledges a flush of its cache without one.
    pub lying_sync_millionths: u32,
    /// When the device stands still. Reads, syncs and what is on its way to the device wait; what
    /// memory can do goes on.
    pub stalls: Option<Stalls>,
    /// Bytes that may be written and not yet on their way to the device. Beyond it a write waits,
    /// as Linux throttles who dirties pages too fast.
    pub writeback_bytes_max: u64,
    /// After how long a change of names is durable without `sync_dir`, as the journal of a file
    /// system commits by itself.
    pub journal_interval: Duration,
    /// What the node may hold of the file system, its files that are unlinked and still open
    /// included; whoever wants more meets `Quota`. `None`: all of it.
    pub quota_bytes: Option<u64>,
    /// Whether `space` tells the quota, as that of a project on ext4 or XFS does. That of a user
    /// is not told: `space` tells of the whole file system.
    pub quota_is_told: bool,
    /// Blocks are looked for when bytes reach the device, not when they are written: an append
    /// succeeds whether there is room or not, and `sync_data` meets `NoSpace` or `Quota`. So it is
    /// on thin volumes and over NFS. What `allocate` reserved is safe from it.
    pub delayed_allocation: bool,
    /// Whether `allocate` can reserve; it is `Unsupported` otherwise.
    pub preallocation: bool,
    /// The key of every random choice of this device.
    pub seed: u64,
}

impl Default for SimDiskConfig {
    /// A small cloud disk: 8 GiB, 400 MB/s in and 250 MB/s out, 2.7 ms for a sync.
    fn default() -> Self {
        Self {
            capacity_bytes: 8 << 30,
            block_bytes: 4096,
            read_bytes_per_second: 400_000_000,
            write_bytes_per_second: 250_000_000,
            op_latency: Duration::from_micros(20),
            sync_latency: Duration::from_micros(2_700),
            slow_calls: Slow::default(),
            slow_reads: Slow::default(),
            slow_syncs: Slow::default(),
            lying_sync_millionths: 0,
            stalls: None,
            writeback_bytes_max: 64 << 20,
            journal_interval: Duration::from_secs(5),
            quota_bytes: None,
            quota_is_told: false,
            delayed_allocation: false,
            preallocation: true,
            seed: 0,
        }
    }
}

impl SimDiskConfig {
    /// A device that costs no time at all, for tests of what is kept rather than when.
    #[must_use]
    pub fn instant(capacity_bytes: u64, seed: u64) -> Self {
        Self {
            capacity_bytes,
            read_bytes_per_second: 0,
            write_bytes_per_second: 0,
            op_latency: Duration::ZERO,
            sync_latency: Duration::ZERO,
            writeback_bytes_max: u64::MAX,
            seed,
            ..Self::default()
        }
    }
}

/// How a life on the device ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Crash {
    /// The process dies and the system lives on: everything written is still there, and what was
    /// not synced can still be lost by a later power loss.
    Sigkill,
    /// The machine loses power.
    PowerLoss {
        /// What becomes of names and pages that no sync covered.
        keep: Keep,
    },
}

/// What power loss leaves of what no sync covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Keep {
    /// Nothing: the harshest state that is legal.
    Nothing,
    /// Everything: the kindest.
    Everything,
    /// Each name and each page by itself, drawn from the seed; pages also torn at sectors.
    Sampled,
}
