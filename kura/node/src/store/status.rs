//! The store in numbers, for pages and gauges.

use std::sync::Arc;

use kura_core::{
    capacity::{Capacity, RingCapacity},
    device::DeviceState,
    ledger::Ledger,
    record::Area,
    ring::Generations,
    tombstones::TOMBSTONES_MAX,
};

use super::Store;
use crate::metrics::SpaceLevels;

impl Store {
    /// The rings and the pool in numbers.
    #[must_use]
    pub fn ring_status(&self) -> serde_json::Value {
        let Capacity { blobs, entries, pool_bytes, bytes, .. } = self.0.capacity;
        let ring = self.0.view.ring();
        let status = |area: Area, capacity: RingCapacity| {
            let Generations { old, middle, young } = ring.generations(area);
            serde_json::json!({
                "segments": self.0.view.count(area),
                "segments_max": capacity.segments_max,
                "segment_bytes": capacity.segment_bytes,
                "old": old,
                "middle": middle,
                "young": young,
                "horizon_sequence": ring.horizon_sequence(area),
            })
        };
        let mut all = status(Area::Blobs, blobs);
        all["capacity_bytes"] = bytes.into();
        all["entries"] = status(Area::Entries, entries);
        let pool = self.0.pool.lock();
        all["pool"] = serde_json::json!({
            "objects": pool.len(),
            "bytes": pool.bytes(),
            "bytes_max": pool_bytes,
        });
        all
    }

    /// The index in memory in numbers.
    #[must_use]
    pub fn index_status(&self) -> serde_json::Value {
        serde_json::json!({
            "artifacts": self.0.index.len(),
            "artifacts_max": self.0.index.entries_max(),
        })
    }

    /// Deletes of namespaces in numbers.
    #[must_use]
    pub fn deletes_status(&self) -> serde_json::Value {
        let known = self.deletes();
        let unpurged = known.iter().filter(|(_, tombstone)| !tombstone.is_purged).count();
        serde_json::json!({
            "namespaces": known.len(),
            "namespaces_max": TOMBSTONES_MAX,
            "unpurged": unpurged,
        })
    }

    /// Staging in numbers.
    #[must_use]
    pub fn staging_status(&self) -> serde_json::Value {
        let budget = self.0.staging.budget();
        serde_json::json!({
            "in_use_bytes": budget.in_use_bytes(),
            "clients_waiting": budget.clients_waiting(),
            "budget_bytes": budget.limit_bytes(),
        })
    }

    /// What the store holds of its volume, in allocated bytes. Bodies in flight stand with what was
    /// granted to them, the catalog with what it held when it was measured last.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.0.books.ledger(&self.0.view, self.0.staging.budget().in_use_bytes())
    }

    /// The volume in numbers.
    #[must_use]
    pub fn disk_status(&self) -> serde_json::Value {
        let ledger = self.ledger();
        let volume = &self.0.volume;
        let space = volume.space();
        let mut accounts = serde_json::Map::new();
        for (account, bytes) in ledger.iter() {
            accounts.insert(account.name().to_owned(), bytes.into());
        }
        let device = self.0.device.status();
        serde_json::json!({
            "state": device.state.name(),
            "state_seconds": device.for_seconds,
            "cause": device.cause,
            "ledger": accounts,
            "ledger_bytes": ledger.total_bytes(),
            "total_bytes": space.total_bytes,
            "available_bytes": space.available_bytes,
            "floor_bytes": volume.floor_bytes(),
            "takes_writes": device.state == DeviceState::Writable && !volume.is_short(),
        })
    }

    /// Has the gauges of space follow this store.
    pub(super) fn show_space(&self) {
        let store = Arc::downgrade(&self.0);
        self.metrics().space.ask(move |levels| {
            if let Some(shared) = store.upgrade() {
                Self(shared).fill_in(levels);
            }
        });
    }

    fn fill_in(&self, levels: &SpaceLevels) {
        let ring = self.0.view.ring();
        for area in [Area::Blobs, Area::Entries] {
            let Generations { old, middle, young } = ring.generations(area);
            for (generation, count) in [("old", old), ("middle", middle), ("young", young)] {
                levels.set_generation(area.dir(), generation, count);
            }
            levels.set_horizon(area.dir(), ring.horizon_sequence(area));
        }
        let Capacity { blobs, entries, pool_bytes, bytes, .. } = self.0.capacity;
        let parts = [("blobs", blobs.bytes()), ("entries", entries.bytes())];
        for (part, bytes) in parts.into_iter().chain([("pool", pool_bytes), ("all", bytes)]) {
            levels.set_capacity(part, bytes);
        }
        for (account, bytes) in self.ledger().iter() {
            levels.set_account(account.name(), bytes);
        }
        levels.set_state(self.0.device.status().state);
        levels.set_volume(self.0.volume.space().available_bytes, self.0.volume.floor_bytes());
    }
}
