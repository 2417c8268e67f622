//! One open file: ordered appends, positional reads, group sync, and a mapping once it is frozen.

use std::{
    fs,
    io::{self, IoSlice, IoSliceMut},
    ops::Deref,
    os::unix::fs::{FileExt, MetadataExt as _},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use kura_env::{BoxFuture, DiskError, DiskErrorKind, DiskPath, File};
use parking_lot::Mutex;
use rustix::{
    fs::FallocateFlags,
    io::{Errno, ReadWriteFlags},
};

use super::{
    DiskThreads, STAT_BLOCK_BYTES,
    appends::{APPENDS_PER_TURN, AppendQueue},
    errno::kind_of,
    group_sync::GroupSync,
    mapping::Frozen,
};

/// Reads up to this size are tried on the caller's thread, with a flag that makes them fail rather
/// than wait for the disk. Above it the copy itself takes too long there.
const INLINE_READ_BYTES_MAX: usize = 64 * 1024;

/// Parts that one system call takes; the kernel's `IOV_MAX`.
const PARTS_PER_WRITE_MAX: usize = 1024;

/// A file of the data directory. Clones of the handle are `Arc`s; the last one closes it.
pub(super) struct HostFile(Handle);

/// Lets go of the file on a thread of the disk.
struct Handle(Option<Arc<OpenFile>>);

impl Deref for Handle {
    type Target = Arc<OpenFile>;

    fn deref(&self) -> &Arc<OpenFile> {
        self.0.as_ref().expect("it is taken only by its drop")
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(open) = self.0.take() {
            let threads = open.threads.clone();
            threads.drop_there(open);
        }
    }
}

struct OpenFile {
    path: DiskPath,
    file: fs::File,
    threads: Arc<DiskThreads>,
    /// Held by whatever moves the end of the file or frees what lies behind it.
    end: Mutex<Reserved>,
    appends: AppendQueue,
    sync: GroupSync,
    frozen: OnceLock<Frozen>,
}

/// How far space is reserved, in bytes from the start; zero if none was.
struct Reserved(u64);

impl HostFile {
    pub(super) fn new(path: DiskPath, file: fs::File, threads: Arc<DiskThreads>) -> Self {
        Self(Handle(Some(Arc::new(OpenFile {
            path,
            file,
            threads,
            end: Mutex::new(Reserved(0)),
            appends: AppendQueue::default(),
            sync: GroupSync::default(),
            frozen: OnceLock::new(),
        }))))
    }

    /// Runs a call that changes the file on a thread for writes.
    async fn on_write_thread<T: Send + 'static>(
        &self,
        action: &'static str,
        call: impl FnOnce(&OpenFile) -> io::Result<T> + Send + 'static,
    ) -> Result<T, DiskError> {
        let open = self.0.clone();
        let result = self.0.threads.writes.run(move || call(&open)).await;
        result.map_err(|cause| self.0.failed(action, kind_of(&cause)))
    }
}

impl File for HostFile {
    fn path(&self) -> &DiskPath {
        &self.0.path
    }

    fn len(&self) -> BoxFuture<'_, Result<u64, DiskError>> {
        // Not on a thread: the length of an open file is in memory, and every read asks for it. Behind
        // reads that hang it would hang as well.
        Box::pin(async move {
            self.0.len_bytes().map_err(|cause| self.0.failed("len", kind_of(&cause)))
        })
    }

    fn allocated_bytes(&self) -> BoxFuture<'_, Result<u64, DiskError>> {
        // As the length: in memory.
        Box::pin(async move {
            let metadata = self.0.file.metadata();
            let failed = |cause| self.0.failed("allocated_bytes", kind_of(&cause));
            Ok(metadata.map_err(failed)?.blocks() * STAT_BLOCK_BYTES)
        })
    }

    fn append(&self, data: Vec<Bytes>) -> BoxFuture<'_, Result<(), DiskError>> {
        Box::pin(async move {
            // Queued here and now, because the order of appends is that of their first polls.
            let (mut entry, starts_turn) = self.0.appends.push(data);
            if starts_turn {
                queue_append_turn(&self.0);
            }
            entry.outcome().await.map_err(|kind| self.0.failed("append", kind))
        })
    }

    fn write_at(&self, offset: u64, data: Bytes) -> BoxFuture<'_, Result<(), DiskError>> {
        Box::pin(self.on_write_thread("write_at", move |open| {
            // Only a write that moves the end can get into the way of an append.
            let beyond_end = offset.saturating_add(data.len() as u64) > open.len_bytes()?;
            let _end = beyond_end.then(|| open.end.lock());
            open.file.write_all_at(&data, offset)
        }))
    }

    fn read_at(&self, offset: u64, len_bytes: usize) -> BoxFuture<'_, Result<Bytes, DiskError>> {
        Box::pin(async move {
            match self.0.read_at_once(offset, len_bytes) {
                AtOnce::Done(bytes) => return Ok(bytes),
                AtOnce::NeedsDisk => {}
            }
            let open = self.0.clone();
            let read = self.0.threads.reads.run(move || open.read_blocking(offset, len_bytes));
            read.await.map_err(|cause| self.0.failed("read_at", kind_of(&cause)))
        })
    }

    fn allocate(&self, len_bytes: u64) -> BoxFuture<'_, Result<(), DiskError>> {
        Box::pin(self.on_write_thread("allocate", move |open| open.reserve(len_bytes)))
    }

    fn sync_data(&self) -> BoxFuture<'_, Result<(), DiskError>> {
        Box::pin(async move {
            let counters = &self.0.threads.counters;
            counters.sync_calls.fetch_add(1, Relaxed);
            let joined = self.0.sync.join();
            if joined.starts_turn {
                // Not bounded by the queue's room: each open file has one turn at most. And not
                // waited for: a caller that gives up must not leave the others without a turn.
                let open = self.0.clone();
                self.0.threads.writes.push(Box::new(move || open.sync.turn(|| open.sync_now())));
            }
            let outcome = joined.outcome.await;
            // Without an answer the turn panicked; nothing is known about the bytes.
            outcome.unwrap_or(Err(DiskErrorKind::Io)).map_err(|kind| self.0.failed("sync", kind))
        })
    }

    fn freeze(&self) -> BoxFuture<'_, Result<(), DiskError>> {
        Box::pin(self.on_write_thread("freeze", |open| {
            let mut reserved = open.end.lock();
            if open.frozen.get().is_some() {
                return Ok(());
            }
            let len_bytes = open.len_bytes()?;
            open.free_behind(len_bytes)?;
            *reserved = Reserved(0);
            if let Some(frozen) = Frozen::map(&open.file, len_bytes, &open.threads) {
                // Set under the lock and only if unset, so it cannot be set already.
                drop(open.frozen.set(frozen));
            }
            Ok(())
        }))
    }
}

/// Queues the next turn of appends. One per open file at a time, so it needs no room in the queue.
fn queue_append_turn(open: &Arc<OpenFile>) {
    let turn = open.clone();
    open.threads.writes.push(Box::new(move || {
        for _ in 0..APPENDS_PER_TURN {
            let Some(append) = turn.appends.next() else {
                return;
            };
            let outcome = turn.append_now(&append.data).map_err(|cause| kind_of(&cause));
            append.answer(outcome);
        }
        // Others wait for this thread too.
        queue_append_turn(&turn);
    }));
}

enum AtOnce {
    Done(Bytes),
    NeedsDisk,
}

impl OpenFile {
    fn failed(&self, action: &'static str, kind: DiskErrorKind) -> DiskError {
        DiskError { action, path: self.path.clone(), kind }
    }

    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn append_now(&self, parts: &[Bytes]) -> io::Result<()> {
        let _end = self.end.lock();
        let mut offset = self.len_bytes()?;
        let mut slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut left = &mut slices[..];
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            let batch = &left[..left.len().min(PARTS_PER_WRITE_MAX)];
            match rustix::io::pwritev(&self.file, batch, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    offset += written as u64;
                    IoSlice::advance_slices(&mut left, written);
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Reads without waiting for the disk, where that is possible.
    fn read_at_once(&self, offset: u64, len_bytes: usize) -> AtOnce {
        let counters = &self.threads.counters;
        if let Some(frozen) = self.frozen.get()
            && let Some(window) = frozen.window(offset, len_bytes)
        {
            if frozen.is_resident(&window) {
                counters.reads_inline.fetch_add(1, Relaxed);
                return AtOnce::Done(frozen.bytes(window));
            }
            return AtOnce::NeedsDisk;
        }
        if len_bytes > INLINE_READ_BYTES_MAX {
            return AtOnce::NeedsDisk;
        }
        let mut buffer = vec![0; len_bytes];
        let slices = &mut [IoSliceMut::new(&mut buffer)];
        match rustix::io::preadv2(&self.file, slices, offset, ReadWriteFlags::NOWAIT) {
            // Less than was asked for may be the end of the file or the end of what is cached.
            Ok(read) if read == len_bytes => {
                counters.reads_inline.fetch_add(1, Relaxed);
                AtOnce::Done(buffer.into())
            }
            // Whatever was wrong, if it is not just the cache, the disk thread meets it again.
            Ok(_) | Err(_) => AtOnce::NeedsDisk,
        }
    }

    fn read_blocking(&self, offset: u64, len_bytes: usize) -> io::Result<Bytes> {
        self.threads.counters.reads_on_threads.fetch_add(1, Relaxed);
        if let Some(frozen) = self.frozen.get()
            && let Some(window) = frozen.window(offset, len_bytes)
            && frozen.populate(&window)
        {
            return Ok(frozen.bytes(window));
        }
        let rest_bytes = self.len_bytes()?.saturating_sub(offset);
        let mut buffer =
            vec![0; usize::try_from(rest_bytes).map_or(len_bytes, |r| r.min(len_bytes))];
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(cause),
            }
        }
        buffer.truncate(filled);
        Ok(buffer.into())
    }

    fn reserve(&self, len_bytes: u64) -> io::Result<()> {
        let mut reserved = self.end.lock();
        if len_bytes == 0 {
            return Ok(());
        }
        self.threads.let_go();
        self.fits(len_bytes)?;
        match rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, 0, len_bytes) {
            Ok(()) => {
                reserved.0 = reserved.0.max(len_bytes);
                Ok(())
            }
            Err(errno) => {
                // Some file systems keep what they had found before they ran out. An earlier
                // reservation lies in the same place and cannot be told apart, so it stays.
                if reserved.0 == 0 {
                    self.free_behind(self.len_bytes()?)?;
                }
                Err(errno.into())
            }
        }
    }

    /// Refuses what is more than available without asking the file system for it. ext4 and tmpfs
    /// take what they have before they say no, and until they give it back every other write on
    /// the disk fails, those of other programs too.
    fn fits(&self, len_bytes: u64) -> io::Result<()> {
        let stat = rustix::fs::fstatvfs(&self.file)?;
        let available_bytes = stat.f_bavail.saturating_mul(stat.f_frsize);
        let held_bytes = self.file.metadata()?.blocks().saturating_mul(512);
        // A tmpfs without a limit says that it has no blocks at all.
        if stat.f_blocks > 0 && len_bytes.saturating_sub(held_bytes) > available_bytes {
            return Err(Errno::NOSPC.into());
        }
        Ok(())
    }

    /// Frees blocks behind the end. Punching a hole there does nothing on ext4; setting the length
    /// to what it is does on ext4 and tmpfs alike. The caller holds `end`.
    fn free_behind(&self, len_bytes: u64) -> io::Result<()> {
        self.file.set_len(len_bytes)
    }

    fn sync_now(&self) -> Result<(), DiskErrorKind> {
        self.threads.counters.syncs.fetch_add(1, Relaxed);
        self.file.sync_data().map_err(|cause| kind_of(&cause))
    }
}

/// What the disk did, counted since it was opened.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) syncs: AtomicU64,
    pub(super) sync_calls: AtomicU64,
    pub(super) reads_inline: AtomicU64,
    pub(super) reads_on_threads: AtomicU64,
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;

    /// Keeps the only thread of a pool busy until the sender is dropped.
    fn block(pool: &crate::threads::Pool) -> mpsc::Sender<()> {
        let (release, wait) = mpsc::channel::<()>();
        pool.push(Box::new(move || {
            wait.recv().ok();
        }));
        release
    }

    fn open_file() -> (tempfile::TempDir, Arc<DiskThreads>, HostFile) {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("segment");
        fs::write(&path, vec![7; 8192]).unwrap();
        let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        let threads = DiskThreads::start(1).unwrap();
        let open = HostFile::new(DiskPath::new("segment"), file, threads.clone());
        (root, threads, open)
    }

    /// Whether this process has the file open, or mapped.
    fn held(root: &tempfile::TempDir) -> (bool, bool) {
        let name = root.path().join("segment").to_string_lossy().into_owned();
        let links = fs::read_dir("/proc/self/fd").unwrap();
        let open = links
            .filter_map(|link| fs::read_link(link.ok()?.path()).ok())
            .any(|link| link.to_string_lossy() == name);
        (open, fs::read_to_string("/proc/self/maps").unwrap().contains(&name))
    }

    #[tokio::test]
    async fn the_length_is_told_while_reads_hang() {
        let (_root, threads, file) = open_file();
        let _release = block(&threads.reads);
        let told = tokio::time::timeout(Duration::from_secs(10), file.len()).await;
        assert_eq!(told.unwrap().unwrap(), 8192);
    }

    #[tokio::test]
    async fn the_last_handle_is_let_go_on_a_thread_of_the_disk() {
        let (root, threads, file) = open_file();
        file.freeze().await.unwrap();
        let bytes = file.read_at(0, 8192).await.unwrap();

        let release = block(&threads.writes);
        drop(file);
        assert_eq!(held(&root), (true, true), "closed by the caller");
        drop(release);
        threads.writes.run(|| ()).await;
        assert_eq!(held(&root), (false, true), "the bytes need the mapping");
        let release = block(&threads.writes);
        assert_eq!(bytes.len(), 8192);
        drop(bytes);
        assert!(held(&root).1, "unmapped by the caller");
        drop(release);
        threads.writes.run(|| ()).await;
        assert_eq!(held(&root), (false, false));
    }
}
