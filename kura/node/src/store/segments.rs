//! What readers see of the store: its segments, and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Weak},
};

use kura_core::{
    record::{Area, Nonce, SegmentId},
    ring::Ring,
};
use kura_env::{Disk, DiskError, DiskPath, File};
use parking_lot::RwLock;

/// The file of a segment.
pub(crate) fn segment_path(id: SegmentId) -> DiskPath {
    DiskPath::new(&id.path())
}

/// The directory that holds the file of a segment.
pub(crate) fn segment_dir(id: SegmentId) -> DiskPath {
    segment_path(id).parent()
}

/// A segment that can be read. Its space stays taken while anybody holds it, also after eviction.
pub(crate) struct Segment {
    pub(crate) id: SegmentId,
    pub(crate) nonce: Nonce,
    /// Open for as long as it is in its ring; objects of the pool are opened by who reads them.
    pub(crate) file: Option<Arc<dyn File>>,
}

impl Segment {
    /// Its file, open.
    pub(crate) async fn open(&self, disk: &dyn Disk) -> Result<Arc<dyn File>, DiskError> {
        match &self.file {
            Some(file) => Ok(file.clone()),
            None => disk.open(&segment_path(self.id)).await,
        }
    }
}

/// The rings and the pool as readers see them. A segment that is not in here is a miss.
#[derive(Default)]
pub(crate) struct View {
    state: RwLock<ViewState>,
}

#[derive(Default)]
struct ViewState {
    segments: BTreeMap<SegmentId, Arc<Segment>>,
    /// As it was last saved.
    ring: Arc<Ring>,
    /// The segments in the old part of each ring, for reads, which must not go over the ring.
    old: BTreeSet<SegmentId>,
    /// What was taken away. What nobody holds any more is forgotten.
    lingering: BTreeMap<SegmentId, Weak<Segment>>,
}

impl View {
    /// The segment, if it is in its ring or in the pool, and open.
    pub(crate) fn segment(&self, id: SegmentId) -> Option<Arc<Segment>> {
        self.state.read().segments.get(&id).cloned()
    }

    /// The rings as they were last saved.
    pub(crate) fn ring(&self) -> Arc<Ring> {
        self.state.read().ring.clone()
    }

    /// Whether what is read of `segment` is to be copied forward.
    pub(crate) fn is_old(&self, segment: SegmentId) -> bool {
        self.state.read().old.contains(&segment)
    }

    /// All that can be read, objects of the pool too, by number.
    pub(crate) fn ids(&self) -> Vec<SegmentId> {
        self.state.read().segments.keys().copied().collect()
    }

    /// How many segments of an area can be read.
    pub(crate) fn count(&self, area: Area) -> usize {
        self.state.read().segments.keys().filter(|id| id.area() == area).count()
    }

    /// Lets readers see one more segment.
    pub(crate) fn insert(&self, segment: Arc<Segment>) {
        self.state.write().segments.insert(segment.id, segment);
    }

    /// Takes everything away.
    pub(crate) fn clear(&self) {
        let mut state = self.state.write();
        let ViewState { segments, lingering, .. } = &mut *state;
        for (id, segment) in std::mem::take(segments) {
            lingering.insert(id, Arc::downgrade(&segment));
        }
    }

    /// What was taken away and is still being read: its space comes back by itself.
    pub(crate) fn lingering(&self) -> BTreeSet<SegmentId> {
        let mut state = self.state.write();
        state.lingering.retain(|_, segment| segment.strong_count() > 0);
        state.lingering.keys().copied().collect()
    }

    /// Takes an object of the pool away.
    pub(crate) fn remove(&self, id: SegmentId) {
        let mut state = self.state.write();
        if let Some(segment) = state.segments.remove(&id) {
            state.lingering.insert(id, Arc::downgrade(&segment));
        }
    }

    /// Goes by another ring from now on: what is no longer in it is gone.
    pub(crate) fn adopt(&self, ring: Arc<Ring>) {
        let mut state = self.state.write();
        let ViewState { segments, lingering, .. } = &mut *state;
        lingering.retain(|_, segment| segment.strong_count() > 0);
        segments.retain(|id, segment| {
            let stays = id.area() == Area::Pool || ring.contains(*id);
            if !stays {
                lingering.insert(*id, Arc::downgrade(segment));
            }
            stays
        });
        let eldest = [Area::Blobs, Area::Entries].into_iter().flat_map(|area| {
            let old = ring.generations(area).old;
            ring.members_of(area).take(old).map(|member| member.id).collect::<Vec<_>>()
        });
        state.old = eldest.collect();
        state.ring = ring;
    }
}
