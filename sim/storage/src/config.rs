//! What a device is: its size, its speed, its seed, and the ways in which a life on it may end.

use std::time::Duration;

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
    /// Bytes that may be written and not yet on their way to the device. Beyond it a write waits,
    /// as Linux throttles who dirties pages too fast.
    pub writeback_bytes_max: u64,
    /// After how long a change of names is durable without `sync_dir`, as the journal of a file
    /// system commits by itself.
    pub journal_interval: Duration,
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
            writeback_bytes_max: 64 << 20,
            journal_interval: Duration::from_secs(5),
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
