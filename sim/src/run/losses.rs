//! What the nodes of a run need not hold, from what their disks held and lost.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use bytes::Bytes;
use kura_core::{
    place::place_key,
    record::{Area, Artifact, SegmentId, Version},
    ring::Ring,
};
use kura_env::Instant;
use sim_storage::SimDisk;

use super::machine::Machine;
use crate::{
    gone::{Gone, Pool},
    holdings::{self, Holding, Holdings},
};

/// What a node has evicted.
#[derive(Clone, Default)]
pub(super) struct Losses {
    evicted: Holdings,
    /// What of that its own clients wrote, and when the latest version of it went.
    written: BTreeMap<Bytes, (Version, Instant)>,
}

impl Losses {
    /// Keeps in mind what lies in a segment or an object that goes now.
    pub(super) fn remember(&mut self, disk: &SimDisk, path: &str, now: Instant) {
        records(disk, path, |artifact| {
            let key = Bytes::from(place_key(&artifact.address));
            holdings::add(&mut self.evicted, key.clone(), Holding::of(artifact));
            if artifact.replica {
                return;
            }
            match self.written.entry(key) {
                Entry::Vacant(entry) => {
                    entry.insert((artifact.version, now));
                }
                Entry::Occupied(mut entry) if entry.get().0 <= artifact.version => {
                    entry.insert((artifact.version, now));
                }
                Entry::Occupied(_) => {}
            }
        });
    }

    /// With what lies in segments whose rows are on their way out.
    pub(super) fn with_doomed(mut self, disk: &SimDisk, now: Instant) -> Self {
        let Some(ring) = disk.peek("RING").and_then(|bytes| Ring::decode(&bytes).ok()) else {
            return self;
        };
        for file in disk.walk() {
            let path = file.path.as_str();
            let id = [Area::Blobs, Area::Entries].into_iter().find_map(|area| {
                let name = path.strip_prefix(area.dir())?.strip_prefix('/')?;
                SegmentId::from_file_name(area, name)
            });
            if id.is_some_and(|id| !ring.contains(id)) {
                self.remember(disk, path, now);
            }
        }
        self
    }
}

/// What each of these nodes need not hold.
pub(super) fn gone(machines: &[Arc<Machine>]) -> Vec<Gone> {
    let losses: Vec<Losses> = machines.iter().map(|machine| machine.losses()).collect();
    let holds: Vec<Holdings> = machines.iter().map(|machine| machine.holdings()).collect();
    let of = |(at, machine): (usize, &Arc<Machine>)| {
        let mut lost: BTreeMap<Bytes, Version> = BTreeMap::new();
        let others = losses.iter().zip(&holds).enumerate().filter(|(other, _)| *other != at);
        for (_, (losses, holds)) in others {
            let since = losses.written.iter().filter(|(_, (_, when))| *when >= machine.born());
            for (key, (version, _)) in since.filter(|(key, _)| !holds.contains_key(*key)) {
                let latest = lost.entry(key.clone()).or_insert(*version);
                *latest = (*latest).max(*version);
            }
        }
        let mut objects = Holdings::new();
        for file in machine.disk.walk() {
            let path = file.path.as_str();
            if path.starts_with(Area::Pool.dir()) {
                records(&machine.disk, path, |artifact| {
                    objects.insert(place_key(&artifact.address).into(), Holding::of(artifact));
                });
            }
        }
        Gone {
            evicted: losses[at].evicted.clone(),
            lost,
            rings: machine.turns.rooms(&machine.disk),
            pool: Pool::new(machine.turns.pool_bytes(&machine.disk), &objects),
        }
    };
    machines.iter().enumerate().map(of).collect()
}

/// Goes over what a segment or an object holds.
pub(super) fn records(disk: &SimDisk, path: &str, each: impl FnMut(&Artifact)) {
    let len_bytes = disk.walk().iter().find(|it| it.path.as_str() == path).map(|it| it.len_bytes);
    let read = |offset, len: usize| {
        let len = u64::try_from(len).unwrap_or(u64::MAX);
        disk.peek_at(path, offset, len).unwrap_or_default()
    };
    holdings::records(len_bytes.unwrap_or(0), read, each);
}
