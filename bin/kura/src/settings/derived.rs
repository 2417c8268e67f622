//! Defaults that follow from other settings. None where what they follow from cannot be read.

use kura_core::capacity::SEGMENTS_MIN;
use kura_node::store::share_bytes;

use super::{
    Draft, Settings,
    setting::Key,
    value::{GIB, MIB, Value},
};

/// Size of a segment where nothing speaks against it, in bytes.
const SEGMENT_BYTES: u64 = 512 * MIB;

/// No body is larger, in bytes: the checksums of its chunks have to fit its header.
pub(super) const MAX_BODY_BYTES: u64 = 4 * GIB;

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

/// The largest body that is accepted: the half of staging that clients and peers can count on each.
pub(super) fn max_body(settings: &Settings) -> Option<Value> {
    let staging = settings.bytes(Key::StagingMax)?;
    Some(Value::Bytes(share_bytes(staging).min(MAX_BODY_BYTES)))
}
