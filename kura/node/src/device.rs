//! The volume as its calls show it: every change goes through here, and how it ends is noted.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use kura_core::device::{Call, DeviceState, End, STALL_AFTER};
use kura_env::{
    BoxFuture, Clock, DirEntry, Disk, DiskError, DiskErrorKind, DiskPath, Env, File, Instant,
    LockOutcome, Space,
};
use parking_lot::Mutex;

/// What is known of the volume. Asking for it waits for nothing.
pub struct Device {
    clock: Arc<dyn Clock>,
    notes: Mutex<Notes>,
}

struct Notes {
    state: DeviceState,
    since: Instant,
    /// The last error, for people.
    error: Option<String>,
    /// Changes that were asked for and did not return yet, by number.
    under_way: BTreeMap<u64, Waiting>,
    next: u64,
    /// When a change returned last.
    returned: Instant,
    is_stall_told: bool,
}

struct Waiting {
    since: Instant,
    action: &'static str,
    path: DiskPath,
}

/// The state of the volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceStatus {
    /// What it can do.
    pub state: DeviceState,
    /// Since when, in whole seconds.
    pub for_seconds: u64,
    /// What shows it: an error, or the call that does not return.
    pub cause: Option<String>,
}

impl DeviceStatus {
    /// What it says for people; `None` while nothing is wrong.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        let Self { state, for_seconds, cause } = self;
        let cause = cause.as_deref().unwrap_or("no cause is known");
        (*state != DeviceState::Writable)
            .then(|| format!("the disk is {} for {for_seconds} s: {cause}", state.name()))
    }
}

/// An [`Env`] whose disk is watched.
pub struct Watched {
    /// The world, in which all changes of the disk go past `device`.
    pub env: Env,
    /// What they show.
    pub device: Arc<Device>,
}

impl Watched {
    /// Watches the disk of `env`.
    #[must_use]
    pub fn new(env: Env) -> Self {
        let now = env.clock.now();
        let notes = Notes {
            state: DeviceState::Writable,
            since: now,
            error: None,
            under_way: BTreeMap::new(),
            next: 0,
            returned: now,
            is_stall_told: false,
        };
        let device = Arc::new(Device { clock: env.clock.clone(), notes: Mutex::new(notes) });
        let disk = Arc::new(WatchedDisk { disk: env.disk, device: device.clone() });
        Self { env: Env { disk, ..env }, device }
    }
}

impl Device {
    /// How the volume is.
    #[must_use]
    pub fn status(&self) -> DeviceStatus {
        let now = self.clock.now();
        let mut notes = self.notes.lock();
        let eldest = notes.under_way.values().min_by_key(|waiting| waiting.since);
        if let Some(Waiting { since, action, path }) = eldest
            && now.since(*since) >= STALL_AFTER
        {
            let for_seconds = now.since(*since).as_secs();
            let cause = format!("{action} {path} does not return");
            if !std::mem::replace(&mut notes.is_stall_told, true) {
                tracing::warn!(for_seconds, cause, "the disk is stalled");
            }
            return DeviceStatus { state: DeviceState::Stalled, for_seconds, cause: Some(cause) };
        }
        DeviceStatus {
            state: notes.state,
            for_seconds: now.since(notes.since).as_secs(),
            cause: notes.error.clone().filter(|_| notes.state != DeviceState::Writable),
        }
    }

    /// For how long a change has not returned, in whole seconds, if that is a stall.
    #[must_use]
    pub fn stalled_seconds(&self) -> Option<u64> {
        let status = self.status();
        (status.state == DeviceState::Stalled).then_some(status.for_seconds)
    }

    /// Whether it is time to try whether a volume that took no changes takes them again: something is
    /// wrong, and nothing was tried since.
    pub(crate) fn wants_probe(&self, rest: std::time::Duration) -> bool {
        let notes = self.notes.lock();
        let is_idle = notes.under_way.is_empty();
        let is_due = self.clock.now().since(notes.returned) >= rest;
        notes.state != DeviceState::Writable && is_idle && is_due
    }

    fn begin(self: &Arc<Self>, call: Call, action: &'static str, path: &DiskPath) -> Running {
        let since = self.clock.now();
        let mut notes = self.notes.lock();
        let number = notes.next;
        notes.next += 1;
        notes.under_way.insert(number, Waiting { since, action, path: path.clone() });
        Running { device: self.clone(), number, call }
    }

    fn end(&self, call: Call, end: End, error: Option<&DiskError>) {
        let now = self.clock.now();
        let mut notes = self.notes.lock();
        let before = notes.state;
        let after = before.after(call, end);
        notes.returned = now;
        if let Some(error) = error {
            notes.error = Some(error.to_string());
        }
        if std::mem::take(&mut notes.is_stall_told) {
            tracing::info!("the disk returns again");
        }
        if after == before {
            return;
        }
        (notes.state, notes.since) = (after, now);
        let cause = error.map(ToString::to_string);
        match after {
            DeviceState::Writable => tracing::info!("the disk takes writes again"),
            state => tracing::warn!(state = state.name(), cause, "the disk takes no writes"),
        }
    }
}

/// A change that was asked for. Dropped without an end, it is as if it had not been.
struct Running {
    device: Arc<Device>,
    number: u64,
    call: Call,
}

impl Running {
    fn ended<T>(self, outcome: Result<T, DiskError>) -> Result<T, DiskError> {
        let end = match &outcome {
            Ok(_) => Some(End::Well),
            Err(error) => match error.kind {
                DiskErrorKind::NoSpace | DiskErrorKind::Quota => Some(End::Full),
                DiskErrorKind::ReadOnly => Some(End::ReadOnly),
                DiskErrorKind::Io | DiskErrorKind::Other { .. } => Some(End::Failed),
                // They say something of a name, or of the file system, and nothing of its state.
                DiskErrorKind::NotFound
                | DiskErrorKind::AlreadyExists
                | DiskErrorKind::Unsupported => None,
            },
        };
        if let Some(end) = end {
            self.device.end(self.call, end, outcome.as_ref().err());
        }
        outcome
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.device.notes.lock().under_way.remove(&self.number);
    }
}

struct WatchedDisk {
    disk: Arc<dyn Disk>,
    device: Arc<Device>,
}

impl WatchedDisk {
    fn wrapped(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(WatchedFile { file, device: self.device.clone() })
    }
}

impl Disk for WatchedDisk {
    fn create<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<Arc<dyn File>, DiskError>> {
        let running = self.device.begin(Call::Names, "create", path);
        Box::pin(async move { Ok(self.wrapped(running.ended(self.disk.create(path).await)?)) })
    }

    fn open<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<Arc<dyn File>, DiskError>> {
        Box::pin(async move { Ok(self.wrapped(self.disk.open(path).await?)) })
    }

    fn mkdir<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<(), DiskError>> {
        let running = self.device.begin(Call::Names, "mkdir", path);
        Box::pin(async move { running.ended(self.disk.mkdir(path).await) })
    }

    fn rename<'a>(
        &'a self,
        from: &'a DiskPath,
        to: &'a DiskPath,
    ) -> BoxFuture<'a, Result<(), DiskError>> {
        let running = self.device.begin(Call::Names, "rename", from);
        Box::pin(async move { running.ended(self.disk.rename(from, to).await) })
    }

    fn unlink<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<(), DiskError>> {
        let running = self.device.begin(Call::Names, "unlink", path);
        Box::pin(async move { running.ended(self.disk.unlink(path).await) })
    }

    fn list<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<Vec<DirEntry>, DiskError>> {
        self.disk.list(path)
    }

    fn sync_dir<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<(), DiskError>> {
        let running = self.device.begin(Call::Names, "sync", path);
        Box::pin(async move { running.ended(self.disk.sync_dir(path).await) })
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

struct WatchedFile {
    file: Arc<dyn File>,
    device: Arc<Device>,
}

impl WatchedFile {
    fn begin(&self, action: &'static str) -> Running {
        self.device.begin(Call::Bytes, action, self.file.path())
    }
}

impl File for WatchedFile {
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
        let running = self.begin("append");
        Box::pin(async move { running.ended(self.file.append(data).await) })
    }

    fn write_at(&self, offset: u64, data: Bytes) -> BoxFuture<'_, Result<(), DiskError>> {
        let running = self.begin("write");
        Box::pin(async move { running.ended(self.file.write_at(offset, data).await) })
    }

    fn read_at(&self, offset: u64, len_bytes: usize) -> BoxFuture<'_, Result<Bytes, DiskError>> {
        self.file.read_at(offset, len_bytes)
    }

    fn allocate(&self, len_bytes: u64) -> BoxFuture<'_, Result<(), DiskError>> {
        let running = self.begin("allocate");
        Box::pin(async move { running.ended(self.file.allocate(len_bytes).await) })
    }

    fn sync_data(&self) -> BoxFuture<'_, Result<(), DiskError>> {
        let running = self.begin("sync");
        Box::pin(async move { running.ended(self.file.sync_data().await) })
    }

    fn freeze(&self) -> BoxFuture<'_, Result<(), DiskError>> {
        self.file.freeze()
    }
}
