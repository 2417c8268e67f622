//! The device: outlives the lives of its node, decides what a crash leaves, and can be inspected
//! without a cost.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use kura_env::{Clock, Disk, DiskErrorKind, DiskPath, Space};

use crate::{
    attached::Attached,
    config::{Crash, SimDiskConfig},
    content::size,
    effect::{EffectHook, OnCrash},
    names::FileId,
    shared::Shared,
    space::DirUsage,
    tenant::CoTenant,
};

/// One file with what it holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WalkedFile {
    /// Its name.
    pub path: DiskPath,
    /// Its length.
    pub len_bytes: u64,
    /// The blocks that it holds.
    pub allocated_bytes: u64,
}

/// A simulated device with a file system, cheap to clone.
///
/// Locks, handles and calls belong to a life ([`SimDisk::attach`]). When a life ends by a crash,
/// its calls in flight and every later one wait for ever, as they must in a process that no longer
/// exists.
#[derive(Clone)]
pub struct SimDisk {
    shared: Arc<Shared>,
}

impl SimDisk {
    /// An empty device. It asks `clock` for the time and waits by it.
    ///
    /// # Panics
    ///
    /// If `block_bytes` is not a power of two of at least 512.
    #[must_use]
    pub fn new(config: SimDiskConfig, clock: Arc<dyn Clock>) -> Self {
        Self { shared: Arc::new(Shared::new(config, clock)) }
    }

    /// A new life. Several may run at once, as two processes on one directory.
    #[must_use]
    pub fn attach(&self) -> Arc<dyn Disk> {
        let life = self.shared.state().begin_life();
        Arc::new(Attached::new(Arc::clone(&self.shared), life))
    }

    /// Ends every life and decides what remains. Power loss also decides about what an earlier
    /// SIGKILL left unsynced.
    pub fn crash(&self, crash: Crash) {
        let now = self.shared.clock.now();
        self.shared.state().crash(&self.shared.config, now, crash);
    }

    /// Who is asked before every effect from now on.
    pub fn set_effect_hook(&self, hook: Box<dyn EffectHook>) {
        self.shared.set_hook(hook);
    }

    /// Who is told when the effect hook ended the life. The disk has crashed by then; the owner
    /// stops the node's tasks. Called in the middle of one of them.
    pub fn set_on_crash(&self, on_crash: OnCrash) {
        self.shared.set_on_crash(on_crash);
    }

    /// Every file, in order of the paths.
    #[must_use]
    pub fn walk(&self) -> Vec<WalkedFile> {
        let state = self.shared.state();
        let walked = |(path, id): (DiskPath, FileId)| WalkedFile {
            path,
            len_bytes: state.volume.file(id).content.len(),
            allocated_bytes: state.volume.allocated_bytes(id),
        };
        state.volume.walk().into_iter().map(walked).collect()
    }

    /// All bytes of a file.
    #[must_use]
    pub fn peek(&self, path: &str) -> Option<Bytes> {
        let state = self.shared.state();
        let id = state.volume.names.file(&DiskPath::new(path)).ok()?;
        let content = &state.volume.file(id).content;
        Some(content.read(0, content.len()))
    }

    /// Some bytes of a file; fewer where it ends.
    #[must_use]
    pub fn peek_at(&self, path: &str, offset: u64, len_bytes: u64) -> Option<Bytes> {
        let state = self.shared.state();
        let id = state.volume.names.file(&DiskPath::new(path)).ok()?;
        Some(state.volume.file(id).content.read(offset, len_bytes))
    }

    /// What the files of one directory hold, kept as they change. `None` if there is no such
    /// directory.
    #[must_use]
    pub fn dir_bytes(&self, path: &str) -> Option<DirUsage> {
        self.shared.state().volume.usage(&DiskPath::new(path))
    }

    /// The blocks in use: directories, files with a name, and files that are open.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.shared.state_now().volume.used_bytes()
    }

    /// The blocks of all files with a name, kept as they change.
    #[must_use]
    pub fn named_bytes(&self) -> u64 {
        self.shared.state().volume.named_bytes()
    }

    /// The blocks of files that have no name any more and are still open, or mapped: bytes that were
    /// read from a file after it was frozen hold it.
    #[must_use]
    pub fn open_unlinked_bytes(&self) -> u64 {
        self.shared.state_now().volume.open_unlinked_bytes()
    }

    /// The space, as the node would be told.
    #[must_use]
    pub fn space(&self) -> Space {
        self.shared.state_now().volume.space()
    }

    /// Who else holds space of the file system from now on.
    pub fn set_co_tenants(&self, tenants: Vec<CoTenant>) {
        self.shared.state().tenants = tenants;
    }

    /// How much others hold.
    #[must_use]
    pub fn foreign_bytes(&self) -> u64 {
        self.shared.state_now().volume.foreign_bytes()
    }

    /// How much others on the same file system hold beside co-tenants, whether there is room for it
    /// or not.
    pub fn set_foreign_bytes(&self, bytes: u64) {
        self.shared.state().volume.set_foreign_bytes(bytes);
    }

    /// The device stands still for so long: what moves bytes or flushes them waits, calls that move none do not.
    pub fn stand_still(&self, lasts: Duration) {
        let now = self.shared.clock.now();
        self.shared.state().device.stand_still(now, now + lasts);
    }

    /// What the node may hold from now on; `None`: all there is. It may hold more already: then it
    /// gets nothing until it holds less.
    pub fn set_quota_bytes(&self, bytes: Option<u64>) {
        self.shared.state().volume.set_quota_bytes(bytes);
    }

    /// How many effects there were.
    #[must_use]
    pub fn effect_count(&self) -> u64 {
        self.shared.state().effect_count()
    }

    /// How often each class of effect happened: the crash points there were.
    #[must_use]
    pub fn effect_classes(&self) -> BTreeMap<String, u64> {
        self.shared.state().effect_classes().clone()
    }

    /// Puts a durable file there, and the directories it needs, without a cost and without an
    /// effect: what was there before the story begins. Replaces a file of that name.
    ///
    /// # Errors
    ///
    /// As the calls that would have done it.
    pub fn plant(&self, path: &str, bytes: &Bytes) -> Result<(), DiskErrorKind> {
        let path = DiskPath::new(path);
        let now = self.shared.clock.now();
        let mut state = self.shared.state();
        let parts: Vec<&str> = path.as_str().split('/').collect();
        let mut dir = DiskPath::root();
        for part in &parts[..parts.len() - 1] {
            dir = dir.join(part);
            state.volume.mkdir(now, &dir)?;
        }
        let id = match state.volume.names.file(&path) {
            Ok(id) => id,
            Err(_) => state.volume.create(now, &path)?,
        };
        state.volume.replace(id, bytes);
        state.volume.settle(id);
        if state.volume.file(id).content.len() < size(bytes.len()) {
            return Err(DiskErrorKind::NoSpace);
        }
        Ok(())
    }

    /// Takes a file away, for good and without an effect, as whoever deletes it while nobody looks.
    ///
    /// # Errors
    ///
    /// As the call that would have done it.
    pub fn lose(&self, path: &str) -> Result<(), DiskErrorKind> {
        let now = self.shared.clock.now();
        let mut state = self.shared.state();
        state.volume.unlink(now, &DiskPath::new(path))?;
        state.volume.commit_names();
        Ok(())
    }

    /// Changes one byte of a file on the device, as decay does.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is no such file or byte.
    pub fn rot(&self, path: &str, offset: u64, flip: u8) -> Result<(), DiskErrorKind> {
        let mut state = self.shared.state();
        let id = state.volume.names.file(&DiskPath::new(path))?;
        let content = &mut state.volume.file_mut(id).content;
        let byte = content.read(offset, 1);
        let old = byte.first().ok_or(DiskErrorKind::NotFound)?;
        content.rot(offset, old ^ flip);
        Ok(())
    }
}
