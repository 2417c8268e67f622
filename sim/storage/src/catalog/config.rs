//! Where the catalog lies, and what its work costs.

use std::time::Duration;

use kura_env::DiskPath;

/// Where the catalog lies, when it compacts, and what its work costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimCatalogConfig {
    /// Its directory.
    pub dir: DiskPath,
    /// The log is replaced by a snapshot once it is longer than this and than the snapshot before.
    pub log_bytes_max: u64,
    /// What work costs beside the bytes on the disk.
    pub costs: RowCosts,
}

/// Time for work on rows, beside the bytes on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowCosts {
    /// Finding a row.
    pub hit: Duration,
    /// Finding that there is no row.
    pub miss: Duration,
    /// A row of a range.
    pub scanned: Duration,
    /// A row of a batch.
    pub written: Duration,
    /// A row read while opening.
    pub replayed: Duration,
}

impl RowCosts {
    /// Work that costs nothing.
    pub const NONE: Self = Self {
        hit: Duration::ZERO,
        miss: Duration::ZERO,
        scanned: Duration::ZERO,
        written: Duration::ZERO,
        replayed: Duration::ZERO,
    };
}

impl Default for RowCosts {
    /// What fjall was measured at on two cores.
    fn default() -> Self {
        Self {
            hit: Duration::from_micros(30),
            miss: Duration::from_nanos(700),
            scanned: Duration::from_nanos(1_500),
            written: Duration::from_micros(15),
            replayed: Duration::from_micros(1),
        }
    }
}

impl Default for SimCatalogConfig {
    fn default() -> Self {
        Self { dir: DiskPath::new("catalog"), log_bytes_max: 8 << 20, costs: RowCosts::default() }
    }
}
