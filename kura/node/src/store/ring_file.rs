//! The file RING: replaced as a whole, never changed in place.

use bytes::Bytes;
use kura_core::ring::{InvalidRing, Ring};
use kura_env::{Disk, DiskError, DiskErrorKind, DiskPath};

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
    remove_leftover(disk).await?;
    let replaced = replace(disk, ring).await;
    if replaced.is_err() {
        // On a full disk every block counts. If it stays, the next attempt removes it.
        remove_leftover(disk).await.ok();
    }
    replaced
}

async fn replace(disk: &dyn Disk, ring: &Ring) -> Result<u64, DiskError> {
    let (path, new) = (DiskPath::new(RING), DiskPath::new(RING_NEW));
    let file = disk.create(&new).await?;
    file.append(vec![Bytes::from(ring.encode())]).await?;
    file.sync_data().await?;
    let allocated_bytes = file.allocated_bytes().await?;
    drop(file);
    disk.rename(&new, &path).await?;
    disk.sync_dir(&DiskPath::root()).await?;
    Ok(allocated_bytes)
}

/// Reads RING.
pub(crate) async fn load(disk: &dyn Disk) -> Result<SavedRing, DiskError> {
    let file = match disk.open(&DiskPath::new(RING)).await {
        Ok(file) => file,
        Err(error) if error.kind == DiskErrorKind::NotFound => return Ok(SavedRing::Absent),
        Err(error) => return Err(error),
    };
    let len = usize::try_from(file.len().await?).unwrap_or(usize::MAX);
    let bytes = match file.read_at(0, len).await {
        Err(error) if error.kind == DiskErrorKind::Io => return Ok(SavedRing::Unreadable(error)),
        read => read?,
    };
    Ok(match Ring::decode(&bytes) {
        Ok(ring) => SavedRing::Ring(ring),
        Err(invalid) => SavedRing::Invalid(invalid),
    })
}

/// Removes what a crash in the middle of [`save`] left.
pub(crate) async fn remove_leftover(disk: &dyn Disk) -> Result<(), DiskError> {
    match disk.unlink(&DiskPath::new(RING_NEW)).await {
        Err(error) if error.kind != DiskErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
