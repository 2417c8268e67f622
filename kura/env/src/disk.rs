//! The data directory at the grain of system calls, because what a crash leaves behind is decided
//! between them.

use std::{fmt, sync::Arc};

use bytes::Bytes;

use crate::BoxFuture;

/// A path below the data directory: components of `[A-Za-z0-9._-]`, joined by `/`, never empty, `.`
/// or `..`. The root of the data directory is the empty path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiskPath(String);

impl DiskPath {
    /// The data directory itself.
    #[must_use]
    pub fn root() -> Self {
        Self(String::new())
    }

    /// The path with these components.
    ///
    /// # Panics
    ///
    /// If a component is not of the form that the type promises. Paths are made from constants and
    /// ids of our own, never from what a client sent.
    #[must_use]
    pub fn new(path: &str) -> Self {
        for part in path.split('/').filter(|_| !path.is_empty()) {
            let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
            assert!(
                !part.is_empty() && part != "." && part != ".." && part.bytes().all(legal),
                "illegal component {part:?} in path {path:?}"
            );
        }
        Self(path.to_owned())
    }

    /// This path and one more component (or several, joined by `/`).
    #[must_use]
    pub fn join(&self, name: &str) -> Self {
        if self.0.is_empty() { Self::new(name) } else { Self::new(&format!("{}/{name}", self.0)) }
    }

    /// The directory that holds this entry; the root for the root.
    #[must_use]
    pub fn parent(&self) -> Self {
        Self(self.0.rsplit_once('/').map_or("", |(parent, _)| parent).to_owned())
    }

    /// The last component; empty for the root.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.rsplit_once('/').map_or(self.0.as_str(), |(_, name)| name)
    }

    /// The whole path, relative to the data directory.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DiskPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("the data directory") } else { f.write_str(&self.0) }
    }
}

/// Ends the name of a file that a rename across file systems has not finished.
pub const COPY_SUFFIX: &str = ".copy";

/// What an entry of a directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Anything else: links, sockets. Kura makes none.
    Other,
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// Its name within the directory. Not always a legal [`DiskPath`] component: foreign files may
    /// lie about.
    pub name: String,
    /// What it is.
    pub kind: FileKind,
    /// Length in bytes; 0 for what is not a file.
    pub len_bytes: u64,
    /// Bytes of the disk that it holds (its blocks), which may be more or less than its length.
    pub allocated_bytes: u64,
}

/// The space of the file system, as `statvfs` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Size of the file system.
    pub total_bytes: u64,
    /// What this process may still allocate.
    pub available_bytes: u64,
    /// The unit of allocation.
    pub block_bytes: u64,
}

/// A held lock. Dropping it releases the lock; so does the death of the process.
pub trait Lock: Send + Sync {}

/// What became of an attempt to lock.
pub enum LockOutcome {
    /// Ours, for as long as the value lives.
    Held(Box<dyn Lock>),
    /// Somebody else has it. What the holder wrote into the file, to name it; empty if unknown.
    Taken(String),
}

/// Names and space: everything about the data directory but the bytes of open files.
///
/// Contract:
/// - A call that has been polled once and is then dropped may or may not take effect, and takes
///   effect as a whole or not at all, except `append` and `write_at`, of which a prefix may remain.
/// - After SIGKILL everything that returned is still there. After power loss the *names* made or
///   changed since the last `sync_dir` of their directory, and the *bytes* since the last
///   `sync_data` of their file, may each be kept, lost, or (bytes) torn, independently.
/// - Errors carry a kind that callers may act on; see [`DiskErrorKind`].
pub trait Disk: Send + Sync {
    /// Creates a file for reading and writing. `AlreadyExists` if the name is taken.
    fn create<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<Arc<dyn File>, DiskError>>;

    /// Opens an existing file for reading and writing, or for reading alone where the file system is
    /// read-only. `NotFound` if there is none.
    fn open<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<Arc<dyn File>, DiskError>>;

    /// Makes one directory. No error if it is already there.
    fn mkdir<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<(), DiskError>>;

    /// Moves `from` to `to`, atomically replacing what `to` named.
    ///
    /// A disk whose directories lie on several file systems may have to copy. It does that into a file
    /// beside `to`, with [`COPY_SUFFIX`] behind its name, which a crash may leave, and syncs it before
    /// it takes the name. Handles of `from` then lead to the old file.
    fn rename<'a>(
        &'a self,
        from: &'a DiskPath,
        to: &'a DiskPath,
    ) -> BoxFuture<'a, Result<(), DiskError>>;

    /// Removes a file's name. Its space is free once the last open handle and mapping are gone.
    /// `NotFound` if there is none.
    fn unlink<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<(), DiskError>>;

    /// The entries of a directory, sorted by name. `NotFound` if there is no such directory.
    fn list<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<Vec<DirEntry>, DiskError>>;

    /// Makes the names in a directory (created, renamed, removed) survive power loss.
    ///
    /// After an error the fate of the changes is unknown.
    fn sync_dir<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<(), DiskError>>;

    /// Takes the advisory lock on the file `path`, which is created if need be, and writes
    /// `holder` into it. Where there is no room for that the lock is held all the same, and whoever
    /// finds it taken reads nothing or the name of an earlier holder. Does not wait.
    fn lock<'a>(
        &'a self,
        path: &'a DiskPath,
        holder: &'a str,
    ) -> BoxFuture<'a, Result<LockOutcome, DiskError>>;

    /// The space of the file system that holds the data directory.
    fn space(&self) -> BoxFuture<'_, Result<Space, DiskError>>;
}

/// An open file. Calls may run side by side; appends are ordered as they are first polled.
///
/// Dropping the last handle closes the file.
#[allow(
    clippy::len_without_is_empty,
    reason = "the length of a file is asked of the disk; whether it is empty is not a question here"
)]
pub trait File: Send + Sync {
    /// The name under which it was created or opened.
    fn path(&self) -> &DiskPath;

    /// The length now, in bytes.
    fn len(&self) -> BoxFuture<'_, Result<u64, DiskError>>;

    /// The bytes of the disk that it holds now, as [`DirEntry::allocated_bytes`].
    fn allocated_bytes(&self) -> BoxFuture<'_, Result<u64, DiskError>>;

    /// Writes all of `data` at the end. The parts lie behind one another, as if joined.
    ///
    /// After an error a prefix may have been written; the length tells how much.
    fn append(&self, data: Vec<Bytes>) -> BoxFuture<'_, Result<(), DiskError>>;

    /// Writes all of `data` at `offset`, which may lie beyond the end: the gap reads as zeros.
    fn write_at(&self, offset: u64, data: Bytes) -> BoxFuture<'_, Result<(), DiskError>>;

    /// Reads up to `len_bytes` at `offset`: fewer only where the file ends.
    fn read_at(&self, offset: u64, len_bytes: usize) -> BoxFuture<'_, Result<Bytes, DiskError>>;

    /// Reserves space so that the file can grow to `len_bytes` without meeting `NoSpace`. The
    /// length does not change. What is known not to fit is `NoSpace` and is not tried, and of what
    /// turns out not to fit nothing is kept. `Unsupported` where the file system cannot.
    fn allocate(&self, len_bytes: u64) -> BoxFuture<'_, Result<(), DiskError>>;

    /// Makes the bytes and the length survive power loss. Not the name: that needs `sync_dir`.
    ///
    /// Covers what had returned before this call was first polled. After an error the fate of
    /// earlier writes is unknown, and a later success does not cover them: the caller must give
    /// the file up.
    fn sync_data(&self) -> BoxFuture<'_, Result<(), DiskError>>;

    /// Promises that the file will not change any more, so that reads may be served without a
    /// copy from a mapping. Frees what was reserved behind the end. A host that cannot map goes on
    /// reading as before, without an error.
    fn freeze(&self) -> BoxFuture<'_, Result<(), DiskError>>;
}

/// Why the disk said no.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{action} {path}: {kind}")]
pub struct DiskError {
    /// The call: `create`, `append`, `sync_data`, ...
    pub action: &'static str,
    /// What it was about.
    pub path: DiskPath,
    /// The cause.
    pub kind: DiskErrorKind,
}

/// The causes that callers tell apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskErrorKind {
    /// No entry of that name.
    #[error("not found")]
    NotFound,
    /// The name is taken.
    #[error("already exists")]
    AlreadyExists,
    /// `ENOSPC`: the file system is full.
    #[error("no space left on device (ENOSPC)")]
    NoSpace,
    /// `EDQUOT`: the quota is used up.
    #[error("disk quota exceeded (EDQUOT)")]
    Quota,
    /// `EROFS`: the file system went read-only.
    #[error("read-only file system (EROFS)")]
    ReadOnly,
    /// `EIO`: the device failed.
    #[error("input/output error (EIO)")]
    Io,
    /// The file system cannot do this.
    #[error("not supported here")]
    Unsupported,
    /// Any other errno, by number and text.
    #[error("{text} (errno {errno})")]
    Other {
        /// The number, 0 if there was none.
        errno: i32,
        /// What the system said.
        text: String,
    },
}

impl DiskErrorKind {
    /// Whether the disk had no room: by size or by quota.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::NoSpace | Self::Quota)
    }
}
