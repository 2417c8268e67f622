//! Defaults that follow from other settings. None where what they follow from cannot be read.

use kura_core::{capacity::SEGMENTS_MIN, record::body_bytes_max};
use kura_node::store::share_bytes;

use super::{
    Draft, Settings,
    setting::Key,
    value::{MIB, Value},
};

/// Size of a segment where nothing speaks against it, in bytes.
const SEGMENT_BYTES: u64 = 512 * MIB;

/// Sizes of segments are a multiple of this, the page of most systems, in bytes.
const PAGE_BYTES: u64 = 4096;

/// The size of a segment: such that a ring of the capacity that was set has enough of them.
pub(super) fn segment(draft: &Draft) -> Option<Value> {
    if draft.unreadable.contains(&Key::Capacity) {
        return None;
    }
    let share = draft.settings.bytes(Key::Capacity).map(|bytes| bytes / SEGMENTS_MIN as u64);
    let bytes = share.map_or(SEGMENT_BYTES, |share| share.min(SEGMENT_BYTES));
    Some(Value::Bytes(bytes / PAGE_BYTES * PAGE_BYTES))
}

/// The largest body that is accepted: what fits a segment, and the half of staging that clients and
/// peers can count on each.
pub(super) fn max_body(settings: &Settings) -> Option<Value> {
    let segment = settings.bytes(Key::Segment)?;
    let staging = settings.bytes(Key::StagingMax)?;
    Some(Value::Bytes(body_bytes_max(segment).min(share_bytes(staging))))
}
