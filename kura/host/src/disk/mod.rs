//! The data directory on a real file system.
//!
//! Every call that may wait for the disk runs on one of a fixed number of threads, never on the
//! async runtime. Reads and writes have threads of their own, so that a read does not stand behind
//! a sync.

mod appends;
mod elsewhere;
mod errno;
mod file;
mod group_sync;
mod mapping;
pub(crate) mod sigbus;

use std::{
    fs::{self, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering::Relaxed},
};

use kura_env::{
    BoxFuture, DirEntry, Disk, DiskError, DiskErrorKind, DiskPath, File, FileKind, Lock,
    LockOutcome, Space,
};
use parking_lot::Mutex;

pub use self::elsewhere::Elsewhere;
use self::{
    errno::kind_of,
    file::{Counters, HostFile},
};
use crate::threads::Pool;

/// Calls that are queued or running, for reads and for writes each; further ones wait in order.
const DISK_QUEUE_MAX: usize = 1024;

/// The unit of `st_blocks`, whatever the file system's own is.
const STAT_BLOCK_BYTES: u64 = 512;

/// What a loser reads of the holder's text. A lock file is ours and short; a foreign one may not be.
const HOLDER_BYTES_MAX: u64 = 4096;

/// Disk calls since the disk was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskStats {
    /// Calls of `sync_data`.
    pub sync_calls: u64,
    /// Calls of `fdatasync` that they took.
    pub syncs: u64,
    /// Reads answered on the caller's thread, from a mapping or the page cache.
    pub reads_inline: u64,
    /// Reads that went to a disk thread.
    pub reads_on_threads: u64,
    /// Pages of mappings that could not be read and were replaced by zeros, in the whole process.
    pub mapping_faults: u64,
}

/// The data directory below a root.
pub struct HostDisk {
    root: Arc<Path>,
    elsewhere: Option<Elsewhere>,
    /// Whether it refuses every call that would change something.
    is_read_only: bool,
    threads: Arc<DiskThreads>,
}

struct DiskThreads {
    reads: Pool,
    writes: Pool,
    counters: Counters,
    /// What is to be dropped. A job is queued for each, so it does not stay.
    dropped: Mutex<Vec<Box<dyn Send>>>,
    letting_go: Mutex<()>,
}

impl DiskThreads {
    fn start(threads: usize) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            reads: Pool::start("kura-read", threads, DISK_QUEUE_MAX)?,
            writes: Pool::start("kura-write", threads, DISK_QUEUE_MAX)?,
            counters: Counters::default(),
            dropped: Mutex::default(),
            letting_go: Mutex::default(),
        }))
    }

    /// Drops `last` on a thread for writes. The last handle of a file that was unlinked frees its
    /// blocks, which can take the disk seconds.
    fn drop_there(self: &Arc<Self>, last: impl Send + 'static) {
        self.dropped.lock().push(Box::new(last));
        let threads = self.clone();
        // Bounded by what was open, so it needs no room in the queue.
        self.writes.push(Box::new(move || threads.let_go()));
    }

    /// Drops what waits for it, and waits for others who do. So whoever asks for space behind that
    /// finds all that was freed before. Blocks.
    fn let_go(&self) {
        let _others = self.letting_go.lock();
        loop {
            // Not held while it is dropped: that may bring more.
            let Some(last) = self.dropped.lock().pop() else { return };
            drop(last);
        }
    }
}

struct HostLock {
    /// Closing it releases the lock.
    _file: fs::File,
}

impl Lock for HostLock {}

impl HostDisk {
    /// The data directory `root`, which is created if need be, served by `threads` threads for
    /// reads and as many for everything else.
    ///
    /// # Errors
    ///
    /// If the directory cannot be created, or the system has no threads left.
    pub fn new(root: impl Into<PathBuf>, threads: usize) -> io::Result<Self> {
        let root = root.into();
        fs::create_dir_all(&root)?;
        let (root, threads) = (root.into(), DiskThreads::start(threads)?);
        Ok(Self { root, elsewhere: None, is_read_only: false, threads })
    }

    /// The same, for a look at a directory that is there. Files are opened for reading alone, and each
    /// call that would change a name, a byte or a time is answered as by a read-only file system.
    ///
    /// # Errors
    ///
    /// If the system has no threads left.
    pub fn read_only(root: impl Into<PathBuf>, threads: usize) -> io::Result<Self> {
        let (root, threads) = (root.into().into(), DiskThreads::start(threads)?);
        Ok(Self { root, elsewhere: None, is_read_only: true, threads })
    }

    /// The same, with one directory that lies elsewhere. The data directory does not list it.
    #[must_use]
    pub fn with_elsewhere(self, elsewhere: Option<Elsewhere>) -> Self {
        Self { elsewhere, ..self }
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> DiskStats {
        let counters = &self.threads.counters;
        DiskStats {
            sync_calls: counters.sync_calls.load(Relaxed),
            syncs: counters.syncs.load(Relaxed),
            reads_inline: counters.reads_inline.load(Relaxed),
            reads_on_threads: counters.reads_on_threads.load(Relaxed),
            mapping_faults: sigbus::faults(),
        }
    }

    fn full_path(&self, path: &DiskPath) -> PathBuf {
        let elsewhere = self.elsewhere.as_ref().and_then(|it| it.full_path(path));
        elsewhere.unwrap_or_else(|| self.root.join(path.as_str()))
    }

    /// Runs a call about `path` on a thread for writes; names change there, one after another or
    /// side by side as the file system likes.
    fn call<'a, T: Send + 'static>(
        &'a self,
        action: &'static str,
        path: &'a DiskPath,
        call: impl FnOnce(PathBuf) -> io::Result<T> + Send + 'static,
    ) -> BoxFuture<'a, Result<T, DiskError>> {
        let full = self.full_path(path);
        Box::pin(async move {
            let result = self.threads.writes.run(move || call(full)).await;
            result.map_err(|cause| DiskError { action, path: path.clone(), kind: kind_of(&cause) })
        })
    }

    /// The same for a call that changes something.
    fn change<'a, T: Send + 'static>(
        &'a self,
        action: &'static str,
        path: &'a DiskPath,
        call: impl FnOnce(PathBuf) -> io::Result<T> + Send + 'static,
    ) -> BoxFuture<'a, Result<T, DiskError>> {
        if self.is_read_only {
            let kind = DiskErrorKind::ReadOnly;
            return Box::pin(async move { Err(DiskError { action, path: path.clone(), kind }) });
        }
        self.call(action, path, call)
    }

    fn file<'a>(
        &'a self,
        path: &'a DiskPath,
        opened: BoxFuture<'a, Result<fs::File, DiskError>>,
    ) -> BoxFuture<'a, Result<Arc<dyn File>, DiskError>> {
        Box::pin(async move {
            let file = HostFile::new(path.clone(), opened.await?, self.threads.clone());
            Ok(Arc::new(file) as Arc<dyn File>)
        })
    }
}

impl Disk for HostDisk {
    fn create<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<Arc<dyn File>, DiskError>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        self.file(path, self.change("create", path, move |full| options.open(full)))
    }

    fn open<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<Arc<dyn File>, DiskError>> {
        let is_read_only = self.is_read_only;
        let opened = self.call("open", path, move |full| {
            let opened = OpenOptions::new().read(true).write(!is_read_only).open(&full);
            match opened {
                // What lies there can still be read.
                Err(cause) if cause.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                    fs::File::open(&full)
                }
                opened => opened,
            }
        });
        self.file(path, opened)
    }

    fn mkdir<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<(), DiskError>> {
        self.change("mkdir", path, |full| match fs::create_dir(&full) {
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists && full.is_dir() => Ok(()),
            made => made,
        })
    }

    fn rename<'a>(
        &'a self,
        from: &'a DiskPath,
        to: &'a DiskPath,
    ) -> BoxFuture<'a, Result<(), DiskError>> {
        let to = self.full_path(to);
        self.change("rename", from, move |from| elsewhere::rename(&from, &to))
    }

    fn unlink<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<(), DiskError>> {
        self.change("unlink", path, fs::remove_file)
    }

    fn list<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<Vec<DirEntry>, DiskError>> {
        self.call("list", path, |full| list(&full))
    }

    fn sync_dir<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<(), DiskError>> {
        self.change("sync_dir", path, |full| fs::File::open(full)?.sync_all())
    }

    fn lock<'a>(
        &'a self,
        path: &'a DiskPath,
        holder: &'a str,
    ) -> BoxFuture<'a, Result<LockOutcome, DiskError>> {
        let holder = holder.to_owned();
        self.change("lock", path, move |full| lock(&full, &holder))
    }

    fn space(&self) -> BoxFuture<'_, Result<Space, DiskError>> {
        static ROOT: std::sync::LazyLock<DiskPath> = std::sync::LazyLock::new(DiskPath::root);
        let threads = self.threads.clone();
        self.call("space", &ROOT, move |full| {
            threads.let_go();
            let stat = rustix::fs::statvfs(&full)?;
            Ok(Space {
                total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
                available_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
                block_bytes: stat.f_frsize,
            })
        })
    }
}

fn list(directory: &Path) -> io::Result<Vec<DirEntry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            // Unlinked since it was listed: as if it had gone before.
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => continue,
            Err(cause) => return Err(cause),
        };
        let kind = match metadata.file_type() {
            file if file.is_file() => FileKind::File,
            directory if directory.is_dir() => FileKind::Directory,
            _ => FileKind::Other,
        };
        entries.push(DirEntry {
            name: entry.file_name().to_string_lossy().into_owned(),
            kind,
            len_bytes: if kind == FileKind::File { metadata.len() } else { 0 },
            allocated_bytes: metadata.blocks() * STAT_BLOCK_BYTES,
        });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

fn lock(path: &Path, holder: &str) -> io::Result<LockOutcome> {
    // Not truncated on opening: until the lock is ours the text belongs to the holder.
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    match file.try_lock() {
        Ok(()) => {
            match write_holder(&mut file, holder) {
                // The text is for people, and the lock holds without it: what lies here can be read.
                Err(cause) if kind_of(&cause).is_full() => {}
                written => written?,
            }
            Ok(LockOutcome::Held(Box::new(HostLock { _file: file })))
        }
        Err(TryLockError::WouldBlock) => {
            let mut text = Vec::new();
            file.take(HOLDER_BYTES_MAX).read_to_end(&mut text)?;
            Ok(LockOutcome::Taken(String::from_utf8_lossy(&text).into_owned()))
        }
        Err(TryLockError::Error(cause)) => Err(cause),
    }
}

fn write_holder(file: &mut fs::File, holder: &str) -> io::Result<()> {
    file.set_len(0)?;
    file.write_all(holder.as_bytes())
}
