//! A disk that cannot read some bytes of some files, for as long as it is sick.

use std::{
    ops::Range,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use kura_env::{
    BoxFuture, DirEntry, Disk, DiskError, DiskErrorKind, DiskPath, File, LockOutcome, Space,
};

/// Bytes of the file at a path.
type Struck = (String, Range<u64>);

/// What a disk cannot read.
#[derive(Clone, Default)]
pub(crate) struct Sickness(Arc<Mutex<Vec<Struck>>>);

impl Sickness {
    /// From now on no read gets at these bytes.
    pub(crate) fn strike(&self, path: &str, bytes: Range<u64>) {
        self.0.lock().unwrap().push((path.to_owned(), bytes));
    }

    /// Everything can be read again.
    pub(crate) fn pass(&self) {
        self.0.lock().unwrap().clear();
    }

    fn meets(&self, path: &DiskPath, read: &Range<u64>) -> bool {
        let struck = self.0.lock().unwrap();
        struck.iter().any(|(other, bytes)| {
            other == path.as_str() && bytes.start < read.end && read.start < bytes.end
        })
    }

    /// The disk, with this sickness.
    pub(crate) fn of(&self, disk: Arc<dyn Disk>) -> Arc<dyn Disk> {
        Arc::new(SickDisk { disk, sickness: self.clone() })
    }
}

struct SickDisk {
    disk: Arc<dyn Disk>,
    sickness: Sickness,
}

impl SickDisk {
    fn wrapped(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(SickFile { file, sickness: self.sickness.clone() })
    }
}

impl Disk for SickDisk {
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
        self.disk.list(path)
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

struct SickFile {
    file: Arc<dyn File>,
    sickness: Sickness,
}

impl File for SickFile {
    fn path(&self) -> &DiskPath {
        self.file.path()
    }

    fn len(&self) -> BoxFuture<'_, Result<u64, DiskError>> {
        self.file.len()
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
        if self.sickness.meets(self.path(), &(offset..offset + len_bytes as u64)) {
            let (action, path) = ("read", self.path().clone());
            let error = DiskError { action, path, kind: DiskErrorKind::Io };
            return Box::pin(async move { Err(error) });
        }
        self.file.read_at(offset, len_bytes)
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
