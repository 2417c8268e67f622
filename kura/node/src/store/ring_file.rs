//! The file RING: replaced as a whole, never changed in place.

use kura_core::ring::{InvalidRing, Ring};
use kura_env::{Disk, DiskError, DiskErrorKind, DiskPath};

use super::state_file;

pub(crate) const RING: &str = "RING";
const RING_NEW: &str = "RING.new";

/// What lies in RING.
pub(crate) enum SavedRing {
    /// There is none: a new directory.
    Absent,
    /// As it was saved.
    Ring(Ring),
    /// Not what was saved.
    Invalid(InvalidRing),
    /// The device cannot read it.
    Unreadable(DiskError),
}

/// Replaces RING: after a crash it is the old one or the new one, and after a return the new one.
/// Gives the bytes of the disk that it holds.
pub(crate) async fn save(disk: &dyn Disk, ring: &Ring) -> Result<u64, DiskError> {
    state_file::replace(disk, (RING, RING_NEW), ring.encode()).await
}

/// Reads RING.
pub(crate) async fn load(disk: &dyn Disk) -> Result<SavedRing, DiskError> {
    let bytes = match state_file::load(disk, RING).await {
        Err(error) if error.kind == DiskErrorKind::Io => return Ok(SavedRing::Unreadable(error)),
        loaded => loaded?,
    };
    let Some(bytes) = bytes else { return Ok(SavedRing::Absent) };
    Ok(match Ring::decode(&bytes) {
        Ok(ring) => SavedRing::Ring(ring),
        Err(invalid) => SavedRing::Invalid(invalid),
    })
}

/// Removes what a crash in the middle of [`save`] left.
pub(crate) async fn remove_leftover(disk: &dyn Disk) -> Result<(), DiskError> {
    state_file::remove(disk, &DiskPath::new(RING_NEW)).await
}
