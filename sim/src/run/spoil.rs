//! A disk on which some artifacts cannot be read whole any more. What lies there stays as it was
//! written; only reads are answered otherwise, so that what the node does about it can be judged.

use std::{collections::BTreeMap, sync::Arc};

use bytes::{Bytes, BytesMut};
use kura_env::{
    BoxFuture, DirEntry, Disk, DiskError, DiskErrorKind, DiskPath, File, LockOutcome, Space,
};
use parking_lot::Mutex;

use crate::scenario::SpoilHow;

/// Some bytes of a file, and what became of them.
#[derive(Clone, Copy, Debug)]
struct Wound {
    from: u64,
    to: u64,
    how: SpoilHow,
}

/// What is spoilt on one disk, by path.
#[derive(Clone, Default)]
pub(super) struct Wounds(Arc<Mutex<BTreeMap<String, Vec<Wound>>>>);

impl Wounds {
    /// Spoils the bytes of `path` from `from` up to `to`.
    pub(super) fn add(&self, path: &str, (from, to): (u64, u64), how: SpoilHow) {
        self.0.lock().entry(path.to_owned()).or_default().push(Wound { from, to, how });
    }

    /// Whether any of the bytes of `path` from `from` up to `to` are spoilt.
    pub(super) fn meet(&self, path: &str, (from, to): (u64, u64)) -> bool {
        let wounds = self.0.lock();
        let mut wounds = wounds.get(path).into_iter().flatten();
        wounds.any(|wound| wound.from < to && wound.to > from)
    }

    fn of(&self, path: &DiskPath) -> Vec<Wound> {
        self.0.lock().get(path.as_str()).cloned().unwrap_or_default()
    }
}

/// Where a file ends that was cut short.
fn end(wounds: &[Wound]) -> u64 {
    let short = wounds.iter().filter(|wound| wound.how == SpoilHow::Short);
    short.map(|wound| wound.from).min().unwrap_or(u64::MAX)
}

/// A disk with wounds.
pub(super) struct SpoiltDisk {
    disk: Arc<dyn Disk>,
    wounds: Wounds,
}

impl SpoiltDisk {
    pub(super) fn new(disk: Arc<dyn Disk>, wounds: Wounds) -> Self {
        Self { disk, wounds }
    }

    fn wrapped(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(SpoiltFile { file, wounds: self.wounds.clone() })
    }
}

impl Disk for SpoiltDisk {
    fn create<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<Arc<dyn File>, DiskError>> {
        Box::pin(async move { Ok(self.wrapped(self.disk.create(path).await?)) })
    }

    fn open<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<Arc<dyn File>, DiskError>> {
        Box::pin(async move { Ok(self.wrapped(self.disk.open(path).await?)) })
    }

    fn mkdir<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<(), DiskError>> {
        self.disk.mkdir(path)
    }

    fn rename<'a>(
        &'a self,
        from: &'a DiskPath,
        to: &'a DiskPath,
    ) -> BoxFuture<'a, Result<(), DiskError>> {
        self.disk.rename(from, to)
    }

    fn unlink<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<(), DiskError>> {
        self.disk.unlink(path)
    }

    fn list<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<Vec<DirEntry>, DiskError>> {
        Box::pin(async move {
            let mut entries = self.disk.list(path).await?;
            for entry in &mut entries {
                let end = end(&self.wounds.of(&path.join(&entry.name)));
                entry.len_bytes = entry.len_bytes.min(end);
            }
            Ok(entries)
        })
    }

    fn sync_dir<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<(), DiskError>> {
        self.disk.sync_dir(path)
    }

    fn lock<'a>(
        &'a self,
        path: &'a DiskPath,
        holder: &'a str,
    ) -> BoxFuture<'a, Result<LockOutcome, DiskError>> {
        self.disk.lock(path, holder)
    }

    fn space(&self) -> BoxFuture<'_, Result<Space, DiskError>> {
        self.disk.space()
    }
}

struct SpoiltFile {
    file: Arc<dyn File>,
    wounds: Wounds,
}

impl File for SpoiltFile {
    fn path(&self) -> &DiskPath {
        self.file.path()
    }

    fn len(&self) -> BoxFuture<'_, Result<u64, DiskError>> {
        Box::pin(async move { Ok(self.file.len().await?.min(end(&self.wounds.of(self.path())))) })
    }

    fn allocated_bytes(&self) -> BoxFuture<'_, Result<u64, DiskError>> {
        self.file.allocated_bytes()
    }

    fn append(&self, data: Vec<Bytes>) -> BoxFuture<'_, Result<(), DiskError>> {
        self.file.append(data)
    }

    fn write_at(&self, offset: u64, data: Bytes) -> BoxFuture<'_, Result<(), DiskError>> {
        self.file.write_at(offset, data)
    }

    fn read_at(&self, offset: u64, len_bytes: usize) -> BoxFuture<'_, Result<Bytes, DiskError>> {
        Box::pin(async move {
            let bytes = self.file.read_at(offset, len_bytes).await?;
            let wounds = self.wounds.of(self.path());
            read(&wounds, offset, bytes).map_err(|kind| DiskError {
                action: "read",
                path: self.path().clone(),
                kind,
            })
        })
    }

    fn allocate(&self, len_bytes: u64) -> BoxFuture<'_, Result<(), DiskError>> {
        self.file.allocate(len_bytes)
    }

    fn sync_data(&self) -> BoxFuture<'_, Result<(), DiskError>> {
        self.file.sync_data()
    }

    fn freeze(&self) -> BoxFuture<'_, Result<(), DiskError>> {
        self.file.freeze()
    }
}

/// What a read of `bytes` at `offset` comes to.
fn read(wounds: &[Wound], offset: u64, bytes: Bytes) -> Result<Bytes, DiskErrorKind> {
    let mut bytes = bytes;
    let len = |bytes: &Bytes| u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    for wound in wounds {
        if wound.from >= offset + len(&bytes) || wound.to <= offset {
            continue;
        }
        let at = usize::try_from(wound.from.saturating_sub(offset)).unwrap_or(usize::MAX);
        match wound.how {
            SpoilHow::Unreadable => return Err(DiskErrorKind::Io),
            SpoilHow::Short => bytes.truncate(at),
            SpoilHow::Rotten | SpoilHow::Headless => {
                let mut changed = BytesMut::from(&bytes[..]);
                if let Some(byte) = changed.get_mut(at) {
                    *byte ^= 0xff;
                }
                bytes = changed.freeze();
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_meets_the_wounds_that_lie_in_it_and_no_others() {
        let bytes = || Bytes::from_static(b"0123456789");
        let wound = |from, to, how| vec![Wound { from, to, how }];
        let read = |wounds: Vec<Wound>| read(&wounds, 100, bytes()).map_err(|_| ());
        let unreadable = |from, to| read(wound(from, to, SpoilHow::Unreadable));
        assert_eq!(unreadable(109, 120), Err(()));
        assert_eq!(unreadable(110, 120), Ok(bytes()));
        assert_eq!(unreadable(90, 100), Ok(bytes()));
        let short = wound(104, 999, SpoilHow::Short);
        assert_eq!(end(&short), 104);
        assert_eq!(read(short), Ok(Bytes::from_static(b"0123")));
        let rotten = read(wound(103, 104, SpoilHow::Rotten)).unwrap();
        assert_eq!((rotten.len(), rotten[2], rotten[3]), (10, b'2', b'3' ^ 0xff));
    }
}
