//! What readers see of the ring: its segments, open for reading, and nothing else.

use std::{collections::BTreeMap, sync::Arc};

use kura_core::record::{Nonce, SegmentId};
use kura_env::{DiskPath, File};
use parking_lot::RwLock;

/// The directory of segments, below the data directory.
pub(crate) const SEGMENT_DIR: &str = "blobs";

/// The file of a segment.
pub(crate) fn segment_path(id: SegmentId) -> DiskPath {
    DiskPath::new(SEGMENT_DIR).join(&id.file_name())
}

/// A segment that can be read. Its space stays taken while anybody holds it, also after eviction.
pub(crate) struct Segment {
    pub(crate) id: SegmentId,
    pub(crate) nonce: Nonce,
    pub(crate) file: Arc<dyn File>,
}

/// The ring as readers see it. A segment that is not in here is a miss.
#[derive(Default)]
pub(crate) struct View {
    state: RwLock<ViewState>,
}

#[derive(Default)]
struct ViewState {
    segments: BTreeMap<SegmentId, Arc<Segment>>,
    horizon_sequence: u64,
}

impl View {
    /// The segment, if it is in the ring and open.
    pub(crate) fn segment(&self, id: SegmentId) -> Option<Arc<Segment>> {
        self.state.read().segments.get(&id).cloned()
    }

    /// The newest segment below `id`.
    pub(crate) fn below(&self, id: SegmentId) -> Option<SegmentId> {
        self.state.read().segments.range(..id).next_back().map(|(id, _)| *id)
    }

    /// How many segments can be read, and the sequence from which on nothing was evicted.
    pub(crate) fn summary(&self) -> (usize, u64) {
        let state = self.state.read();
        (state.segments.len(), state.horizon_sequence)
    }

    /// Lets readers see one more segment.
    pub(crate) fn insert(&self, segment: Arc<Segment>) {
        self.state.write().segments.insert(segment.id, segment);
    }

    /// Takes away what `keep` says no to, and moves the horizon.
    pub(crate) fn retain(&self, horizon_sequence: u64, keep: impl Fn(SegmentId) -> bool) {
        let mut state = self.state.write();
        state.segments.retain(|id, _| keep(*id));
        state.horizon_sequence = horizon_sequence;
    }
}
