//! A disk on which some artifacts cannot be read whole any more. What lies there stays as it was
//! written; only reads are answered otherwise, so that what the node does about it can be judged.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use bytes::{Bytes, BytesMut};
use kura_env::{
    BoxFuture, DirEntry, Disk, DiskError, DiskErrorKind, DiskPath, File, LockOutcome, Space,
};
use parking_lot::Mutex;

/// What became of some bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hurt {
    /// The device cannot read them.
    Unreadable,
    /// The first of them is another one.
    Flipped,
    /// The file ends before them.
    Ends,
    /// Their write was acknowledged and never reached the device: what was there before is zeros.
    Lost,
    /// What belongs to this place of the same file was written over them.
    Holds {
        /// That place.
        from: u64,
    },
}

/// Some bytes of a file, and what became of them.
#[derive(Clone, Copy, Debug)]
struct Wound {
    from: u64,
    to: u64,
    hurt: Hurt,
}

impl Wound {
    /// Which bytes of a read of `len_bytes` at `offset` it changes; `None` if none.
    fn within(&self, offset: u64, len_bytes: usize) -> Option<Range<usize>> {
        let end = offset.saturating_add(u64::try_from(len_bytes).unwrap_or(u64::MAX));
        let (from, to) = (self.from.max(offset), self.to.min(end));
        let index = |at: u64| usize::try_from(at - offset).unwrap_or(usize::MAX);
        (from < to).then(|| index(from)..index(to))
    }
}

/// What is spoilt on one disk: what was written stays beneath it.
#[derive(Clone, Default)]
pub(super) struct Wounds(Arc<Mutex<Ledger>>);

#[derive(Default)]
struct Ledger {
    by_path: BTreeMap<String, Vec<Wound>>,
    /// Reads that met one of them, in this life of the node.
    met: u64,
}

impl Wounds {
    /// Spoils the bytes of `path` from `from` up to `to`.
    pub(super) fn add(&self, path: &str, (from, to): (u64, u64), hurt: Hurt) {
        let wound = Wound { from, to, hurt };
        self.0.lock().by_path.entry(path.to_owned()).or_default().push(wound);
    }

    /// Whether any of the bytes of `path` from `from` up to `to` are spoilt.
    pub(super) fn meet(&self, path: &str, (from, to): (u64, u64)) -> bool {
        let ledger = self.0.lock();
        let mut wounds = ledger.by_path.get(path).into_iter().flatten();
        wounds.any(|wound| wound.from < to && wound.to > from)
    }

    /// Nothing is spoilt any more: nothing is there.
    pub(super) fn clear(&self) {
        self.0.lock().by_path.clear();
    }

    /// A life of the node begins, which has met nothing yet.
    pub(super) fn begin_life(&self) {
        self.0.lock().met = 0;
    }

    /// How many reads of this life met something spoilt.
    pub(super) fn met(&self) -> u64 {
        self.0.lock().met
    }

    fn of(&self, path: &DiskPath) -> Vec<Wound> {
        self.0.lock().by_path.get(path.as_str()).cloned().unwrap_or_default()
    }
}

/// Where a file ends that was cut short.
fn end(wounds: &[Wound]) -> u64 {
    let short = wounds.iter().filter(|wound| wound.hurt == Hurt::Ends);
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
            let read = self.file.read_at(offset, len_bytes).await?;
            let mut wounds = self.wounds.of(self.path());
            wounds.retain(|wound| wound.within(offset, read.len()).is_some());
            if wounds.is_empty() {
                return Ok(read);
            }
            self.wounds.0.lock().met += 1;
            let mut bytes = BytesMut::from(&read[..]);
            for wound in wounds {
                let Some(part) = wound.within(offset, bytes.len()) else { continue };
                match wound.hurt {
                    Hurt::Unreadable => {
                        let (path, kind) = (self.path().clone(), DiskErrorKind::Io);
                        return Err(DiskError { action: "read", path, kind });
                    }
                    Hurt::Flipped => bytes[part.start] ^= 0xff,
                    Hurt::Ends => bytes.truncate(part.start),
                    Hurt::Lost => bytes[part].fill(0),
                    Hurt::Holds { from } => {
                        let skipped = (offset + part.start as u64) - wound.from;
                        let other = self.file.read_at(from + skipped, part.len()).await?;
                        bytes[part.start..part.start + other.len()].copy_from_slice(&other);
                    }
                }
            }
            Ok(bytes.freeze())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_meets_the_wounds_that_lie_in_it_and_no_others() {
        let wound = Wound { from: 100, to: 110, hurt: Hurt::Lost };
        for (offset, len_bytes, met) in [
            (0, 100, None),
            (0, 101, Some(100..101)),
            (95, 10, Some(5..10)),
            (100, 10, Some(0..10)),
            (105, 99, Some(0..5)),
            (110, 10, None),
        ] {
            assert_eq!(wound.within(offset, len_bytes), met, "{len_bytes} at {offset}");
        }
        let cut = Wound { from: 104, to: u64::MAX, hurt: Hurt::Ends };
        assert_eq!((end(&[wound, cut]), end(&[wound])), (104, u64::MAX));
        let wounds = Wounds::default();
        wounds.add("a", (100, 110), Hurt::Unreadable);
        assert!(wounds.meet("a", (109, 120)) && !wounds.meet("a", (110, 120)));
        assert!(!wounds.meet("b", (100, 110)));
    }
}
