//! What a world is made with.

use std::time::Duration;

use kura_env::{EntropyStream as _, Wall};

use crate::{entropy::KeyedStream, net::NetConfig};

/// Everything that a run of a world depends on, besides what is done in it.
#[derive(Clone, Debug)]
pub struct WorldConfig {
    /// The key of the stream that chooses the next ready task.
    pub schedule_key: [u8; 32],
    /// The seed of the keyed streams: entropy of nodes, [`crate::World::stream`], loss and jitter.
    pub seed: u64,
    /// How many events may happen without time moving before the run ends as
    /// [`crate::Outcome::Stalled`]. Too low: a busy instant is taken for a livelock. Too high: a
    /// livelock takes long to be seen.
    pub stall_events_max: u64,
    /// Whether a panic in a task ends the run. Off only where panics are what is tested.
    pub panic_ends_run: bool,
    /// What a wall clock without skew shows when the world begins.
    pub wall_at_start: Wall,
    /// What `compute` costs on a node's one CPU, whatever the work.
    pub compute_fixed: Duration,
    /// How many bytes a node's one CPU goes through in a second of `compute`.
    pub compute_bytes_per_second: u64,
    /// The network.
    pub net: NetConfig,
}

impl WorldConfig {
    /// Defaults, with the schedule key drawn from the seed.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        let mut schedule_key = [0; 32];
        KeyedStream::new(seed, &[b"world", b"schedule key"]).fill(&mut schedule_key);
        Self {
            schedule_key,
            seed,
            stall_events_max: 5_000_000,
            panic_ends_run: true,
            wall_at_start: Wall(1_767_225_600_000),
            compute_fixed: Duration::from_micros(5),
            compute_bytes_per_second: 1_000_000_000,
            net: NetConfig::default(),
        }
    }
}

/// A duration in nanoseconds; 584 years and more read as "never".
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// How long `bytes` take at `bytes_per_second`, in nanoseconds, rounded up so that nothing is
/// faster than it may be. No time at all if there is no rate.
pub(crate) fn transfer_nanos(bytes: u64, bytes_per_second: u64) -> u64 {
    if bytes_per_second == 0 {
        return 0;
    }
    let nanos = (u128::from(bytes) * 1_000_000_000).div_ceil(u128::from(bytes_per_second));
    u64::try_from(nanos).unwrap_or(u64::MAX)
}
