//! Small files that are replaced as a whole and never changed in place: RING, STAMP, IDENTITY, TOMBSTONES.

use bytes::Bytes;
use kura_env::{Disk, DiskError, DiskErrorKind, DiskPath};

/// Replaces the file: after a crash it is the old one or the new one, and after a return the new one.
/// The next version is written under a name of its own first. Gives the bytes of the disk that it holds.
pub(crate) async fn replace(
    disk: &dyn Disk,
    (name, new): (&str, &str),
    bytes: Vec<u8>,
) -> Result<u64, DiskError> {
    let new = DiskPath::new(new);
    remove(disk, &new).await?;
    let replaced = write_and_rename(disk, (&DiskPath::new(name), &new), bytes).await;
    if replaced.is_err() {
        // On a full disk every block counts. If it stays, the next attempt removes it.
        remove(disk, &new).await.ok();
    }
    replaced
}

async fn write_and_rename(
    disk: &dyn Disk,
    (path, new): (&DiskPath, &DiskPath),
    bytes: Vec<u8>,
) -> Result<u64, DiskError> {
    let file = disk.create(new).await?;
    file.append(vec![Bytes::from(bytes)]).await?;
    file.sync_data().await?;
    let allocated_bytes = file.allocated_bytes().await?;
    drop(file);
    disk.rename(new, path).await?;
    disk.sync_dir(&DiskPath::root()).await?;
    Ok(allocated_bytes)
}

/// All bytes of the file; `None` if there is none.
pub(crate) async fn load(disk: &dyn Disk, name: &str) -> Result<Option<Bytes>, DiskError> {
    let file = match disk.open(&DiskPath::new(name)).await {
        Ok(file) => file,
        Err(error) if error.kind == DiskErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let len = usize::try_from(file.len().await?).unwrap_or(usize::MAX);
    file.read_at(0, len).await.map(Some)
}

/// Removes a file, if it is there.
pub(crate) async fn remove(disk: &dyn Disk, path: &DiskPath) -> Result<(), DiskError> {
    match disk.unlink(path).await {
        Err(error) if error.kind != DiskErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
