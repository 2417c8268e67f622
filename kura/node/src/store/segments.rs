//! What readers see of the store: its segments, and nothing else.

use std::{collections::BTreeMap, sync::Arc};

use kura_core::{
    record::{Area, Nonce, SegmentId},
    ring::{AfterRead, Ring},
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
}

impl View {
    /// The segment, if it is in its ring or in the pool, and open.
    pub(crate) fn segment(&self, id: SegmentId) -> Option<Arc<Segment>> {
        self.state.read().segments.get(&id).cloned()
    }

    /// The newest segment below `id`: in the pool, then of the entries, then of the bodies.
    pub(crate) fn below(&self, id: SegmentId) -> Option<SegmentId> {
        self.state.read().segments.range(..id).next_back().map(|(id, _)| *id)
    }

    /// The rings as they were last saved.
    pub(crate) fn ring(&self) -> Arc<Ring> {
        self.state.read().ring.clone()
    }

    /// What a read of `segment` asks for.
    pub(crate) fn after_read(&self, segment: SegmentId) -> AfterRead {
        self.state.read().ring.after_read(segment)
    }

    /// How many segments of an area can be read.
    pub(crate) fn count(&self, area: Area) -> usize {
        self.state.read().segments.keys().filter(|id| id.area() == area).count()
    }

    /// Lets readers see one more segment.
    pub(crate) fn insert(&self, segment: Arc<Segment>) {
        self.state.write().segments.insert(segment.id, segment);
    }

    /// Takes an object of the pool away.
    pub(crate) fn remove(&self, id: SegmentId) {
        self.state.write().segments.remove(&id);
    }

    /// Goes by another ring from now on: what is no longer in it is gone.
    pub(crate) fn adopt(&self, ring: Arc<Ring>) {
        let mut state = self.state.write();
        state.segments.retain(|id, _| id.area() == Area::Pool || ring.contains(*id));
        state.ring = ring;
    }
}
