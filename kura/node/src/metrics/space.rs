//! What the store may hold, what it holds, and what the volume has left.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use kura_core::device::DeviceState;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::family::Family,
    registry::{Registry, Unit},
};

use super::Level;

/// Labels of `kura_segment_generation_count`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GenerationLabels {
    /// `blobs` or `entries`.
    ring: &'static str,
    /// `old`, `middle` or `young`.
    generation: &'static str,
}

/// Labels of what is told of each ring.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RingLabels {
    /// `blobs` or `entries`.
    ring: &'static str,
}

/// Labels of `kura_capacity_bytes`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartLabels {
    /// `blobs`, `entries`, `pool`, or `all` of them.
    part: &'static str,
}

/// Labels of `kura_disk_ledger_bytes`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AccountLabels {
    /// What holds the bytes.
    account: &'static str,
}

/// Labels of `kura_disk_state`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    /// `writable`, `full`, `read-only`, `failing` or `stalled`.
    state: &'static str,
}

/// Gauges of space.
#[derive(Clone, Debug, Default)]
pub struct SpaceLevels {
    generations: Family<GenerationLabels, Level>,
    capacity: Family<PartLabels, Level>,
    horizon: Family<RingLabels, Level>,
    ledger: Family<AccountLabels, Level>,
    states: Family<StateLabels, Level>,
    available: Level,
    floor: Level,
}

type Source = Box<dyn Fn(&SpaceLevels) + Send + Sync>;

/// The gauges of space, which are filled in whenever somebody looks.
#[derive(Clone, Default)]
pub struct SpaceMetrics {
    levels: SpaceLevels,
    source: Arc<OnceLock<Source>>,
}

impl fmt::Debug for SpaceMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpaceMetrics").finish_non_exhaustive()
    }
}

impl SpaceMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let levels = SpaceLevels::default();
        registry.register(
            "segment_generation_count",
            "Segments of each ring, by how close they are to eviction",
            levels.generations.clone(),
        );
        registry.register_with_unit(
            "capacity",
            "What the store may hold",
            Unit::Bytes,
            levels.capacity.clone(),
        );
        registry.register(
            "horizon_sequence",
            "No client's write of this or a higher sequence was evicted from the ring",
            levels.horizon.clone(),
        );
        let disk = registry.sub_registry_with_prefix("disk");
        disk.register_with_unit(
            "ledger",
            "What the node holds of its volume",
            Unit::Bytes,
            levels.ledger.clone(),
        );
        disk.register(
            "state",
            "1 for the state that the volume is in, 0 for the others",
            levels.states.clone(),
        );
        let available = "What the volume had left when it was looked at last";
        disk.register_with_unit("available", available, Unit::Bytes, levels.available.clone());
        let floor =
            "Below so much left nothing is taken in; 0 if the size of the volume is unknown";
        disk.register_with_unit("floor", floor, Unit::Bytes, levels.floor.clone());
        Self { levels, source: Arc::default() }
    }

    /// Has `source` fill in the gauges from now on. Only the first source counts.
    pub fn ask(&self, source: impl Fn(&SpaceLevels) + Send + Sync + 'static) {
        self.source.set(Box::new(source)).ok();
    }

    pub(super) fn refresh(&self) {
        if let Some(source) = self.source.get() {
            source(&self.levels);
        }
    }
}

impl SpaceLevels {
    /// So many segments of `ring` are of `generation`.
    pub fn set_generation(&self, ring: &'static str, generation: &'static str, count: usize) {
        let labels = GenerationLabels { ring, generation };
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.generations.get_or_create(&labels).set(count);
    }

    /// `part` may hold so many bytes.
    pub fn set_capacity(&self, part: &'static str, bytes: u64) {
        self.capacity.get_or_create(&PartLabels { part }).set(level(bytes));
    }

    /// No client's write of `sequence` or above was evicted from `ring`.
    pub fn set_horizon(&self, ring: &'static str, sequence: u64) {
        self.horizon.get_or_create(&RingLabels { ring }).set(level(sequence));
    }

    /// `account` holds so many bytes.
    pub fn set_account(&self, account: &'static str, bytes: u64) {
        self.ledger.get_or_create(&AccountLabels { account }).set(level(bytes));
    }

    /// The volume is in `state`.
    pub fn set_state(&self, state: DeviceState) {
        for other in DeviceState::ALL {
            let labels = StateLabels { state: other.name() };
            self.states.get_or_create(&labels).set(i64::from(other == state));
        }
    }

    /// The volume has `available_bytes` left, of which `floor_bytes` stay free.
    pub fn set_volume(&self, available_bytes: u64, floor_bytes: u64) {
        self.available.set(level(available_bytes));
        self.floor.set(level(floor_bytes));
    }
}

fn level(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use kura_core::device::DeviceState;

    use crate::metrics::Metrics;

    #[test]
    fn the_gauges_are_filled_in_when_somebody_looks() {
        let metrics = Metrics::default();
        metrics.space.ask(|levels| {
            levels.set_generation("blobs", "old", 2);
            levels.set_capacity("all", 9);
            levels.set_horizon("entries", 7);
            levels.set_account("pool", u64::MAX);
            levels.set_volume(5, 1);
            levels.set_state(DeviceState::Full);
        });
        let text = metrics.render();
        for line in [
            "kura_segment_generation_count{ring=\"blobs\",generation=\"old\"} 2",
            "kura_capacity_bytes{part=\"all\"} 9",
            "kura_disk_state{state=\"full\"} 1",
            "kura_disk_state{state=\"stalled\"} 0",
            "kura_horizon_sequence{ring=\"entries\"} 7",
            "kura_disk_ledger_bytes{account=\"pool\"} 9223372036854775807",
            "kura_disk_available_bytes 5",
            "kura_disk_floor_bytes 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
