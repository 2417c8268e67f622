//! The volume as its calls show it: every change goes through here, and how it ends is noted.
//!
//! Staging on a file system of its own is not the volume, and is left out.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use kura_core::device::{DeviceState, End, STALL_AFTER};
use kura_env::{
    BoxFuture, Clock, DirEntry, Disk, DiskError, DiskErrorKind, DiskPath, Env, File, Instant,
    LockOutcome, Space,
};
use parking_lot::Mutex;

use crate::store::STAGING_ELSEWHERE;

/// What is written and removed to see whether a volume takes changes again. What a crash leaves of it
/// goes with the rest of staging at the next start.
pub(crate) const PROBE: &str = "tmp/probe.part";

/// The action that reaches the device.
const SYNC: &str = "sync";

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
    /// Changes and looks that were asked for and did not return yet, by number, and so in their order.
    under_way: BTreeMap<u64, Waiting>,
    /// The eldest change that nobody waits for any more. Nobody learns when it returns: one that was
    /// asked for later and ends well shows that it may have.
    abandoned: Option<Waiting>,
    next: u64,
    /// When a sync returned last: it was at the device, and other changes may have come no further than
    /// the page cache.
    returned: Instant,
    /// When a probe was made last.
    probed: Instant,
    is_stall_told: bool,
}

#[derive(Clone)]
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
            abandoned: None,
            next: 0,
            returned: now,
            probed: now,
            is_stall_told: false,
        };
        let device = Arc::new(Device { clock: env.clock.clone(), notes: Mutex::new(notes) });
        let disk = Arc::new(WatchedDisk { disk: env.disk, device: device.clone() });
        Self { env: Env { disk, ..env }, device }
    }
}

impl Notes {
    /// The change that has been waited for longest, and for how long no sync has returned since it was
    /// asked for.
    fn longest(&self, now: Instant) -> Option<(&Waiting, Duration)> {
        let first = self.under_way.values().next().into_iter().chain(&self.abandoned);
        let eldest = first.min_by_key(|waiting| waiting.since)?;
        Some((eldest, now.since(eldest.since.max(self.returned))))
    }

    fn stalled(&self, now: Instant) -> Option<(&Waiting, Duration)> {
        self.longest(now).filter(|(_, waited)| *waited >= STALL_AFTER)
    }
}

impl Device {
    /// How the volume is.
    #[must_use]
    pub fn status(&self) -> DeviceStatus {
        let now = self.clock.now();
        let mut notes = self.notes.lock();
        let Some((Waiting { action, path, .. }, waited)) = notes.stalled(now) else {
            return DeviceStatus {
                state: notes.state,
                for_seconds: now.since(notes.since).as_secs(),
                cause: notes.error.clone().filter(|_| notes.state != DeviceState::Writable),
            };
        };
        let (for_seconds, cause) = (waited.as_secs(), format!("{action} {path} does not return"));
        let was_told = std::mem::replace(&mut notes.is_stall_told, true);
        drop(notes);
        if !was_told {
            tracing::warn!(for_seconds, cause, "the disk is stalled");
        }
        DeviceStatus { state: DeviceState::Stalled, for_seconds, cause: Some(cause) }
    }

    /// For how long no change has returned, in whole seconds, if that is a stall.
    #[must_use]
    pub fn stalled_seconds(&self) -> Option<u64> {
        let status = self.status();
        (status.state == DeviceState::Stalled).then_some(status.for_seconds)
    }

    /// Whether to try now whether the volume takes changes again: something is wrong, and it was not
    /// tried for `rest`.
    pub(crate) fn wants_probe(&self, rest: Duration) -> bool {
        let now = self.clock.now();
        let mut notes = self.notes.lock();
        let is_bad = notes.state != DeviceState::Writable || notes.stalled(now).is_some();
        let is_due = is_bad && now.since(notes.probed) >= rest;
        if is_due {
            notes.probed = now;
        }
        is_due
    }

    fn wait(&self, action: &'static str, path: &DiskPath) -> u64 {
        let waiting = Waiting { since: self.clock.now(), action, path: path.clone() };
        let mut notes = self.notes.lock();
        let number = notes.next;
        notes.next += 1;
        notes.under_way.insert(number, waiting);
        number
    }

    /// Waits for a look at the disk.
    async fn look<T>(
        self: &Arc<Self>,
        (action, path): (&'static str, &DiskPath),
        look: BoxFuture<'_, T>,
    ) -> T {
        let number = self.wait(action, path);
        let _looking = Looking { device: self.clone(), number };
        look.await
    }

    fn begin(self: &Arc<Self>, action: &'static str, path: &DiskPath) -> Running {
        let number = self.wait(action, path);
        let is_sync = action == SYNC;
        let is_probe = is_sync && path.as_str() == PROBE;
        Running { device: self.clone(), number, is_sync, is_probe }
    }

    fn end(&self, running: &Running, end: End, error: Option<&DiskError>) {
        let now = self.clock.now();
        let mut notes = self.notes.lock();
        let waiting = notes.under_way.remove(&running.number);
        let began = waiting.map_or(now, |waiting| waiting.since);
        if running.is_sync {
            notes.returned = now;
        }
        if end == End::Well && notes.abandoned.as_ref().is_some_and(|it| it.since <= began) {
            notes.abandoned = None;
        }
        let before = notes.state;
        let after = before.after(end, running.is_probe);
        if let Some(error) = error {
            notes.error = Some(error.to_string());
        }
        let was_stalled = std::mem::take(&mut notes.is_stall_told);
        if after != before {
            (notes.state, notes.since) = (after, now);
        }
        drop(notes);
        if was_stalled {
            tracing::info!("the disk returns again");
        }
        match after {
            _ if after == before => {}
            DeviceState::Writable => tracing::info!("the disk takes writes again"),
            state @ (DeviceState::Full
            | DeviceState::ReadOnly
            | DeviceState::Failing
            | DeviceState::Stalled) => {
                let cause = error.map(ToString::to_string);
                tracing::warn!(state = state.name(), cause, "the disk takes no writes");
            }
        }
    }
}

/// A look at the disk that was asked for. It tells nothing but that it waits.
struct Looking {
    device: Arc<Device>,
    number: u64,
}

impl Drop for Looking {
    fn drop(&mut self) {
        self.device.notes.lock().under_way.remove(&self.number);
    }
}

/// A change that was asked for.
struct Running {
    device: Arc<Device>,
    number: u64,
    is_sync: bool,
    is_probe: bool,
}

impl Running {
    fn ended<T>(self, outcome: Result<T, DiskError>) -> Result<T, DiskError> {
        let end = match &outcome {
            Ok(_) => End::Well,
            Err(error) => match error.kind {
                DiskErrorKind::NoSpace | DiskErrorKind::Quota => End::Full,
                DiskErrorKind::ReadOnly => End::ReadOnly,
                DiskErrorKind::Io => End::Failed,
                // They say something of a name, of the file system or of this process, and nothing of
                // the state of the volume; but it did answer.
                DiskErrorKind::NotFound
                | DiskErrorKind::AlreadyExists
                | DiskErrorKind::Unsupported
                | DiskErrorKind::Other { .. } => End::Well,
            },
        };
        let error = outcome.as_ref().err().filter(|_| end != End::Well);
        self.device.end(&self, end, error);
        outcome
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut notes = self.device.notes.lock();
        if let Some(waiting) = notes.under_way.remove(&self.number) {
            // Its call goes on: whoever waited for it went away.
            notes.abandoned.get_or_insert(waiting);
        }
    }
}

struct WatchedDisk {
    disk: Arc<dyn Disk>,
    device: Arc<Device>,
}

impl WatchedDisk {
    /// Notes how a change of a name ends, unless it is of another volume.
    async fn noted<T>(
        &self,
        (action, path): (&'static str, &DiskPath),
        change: BoxFuture<'_, Result<T, DiskError>>,
    ) -> Result<T, DiskError> {
        if is_apart(path) {
            return change.await;
        }
        let running = self.device.begin(action, path);
        running.ended(change.await)
    }

    fn wrapped(&self, path: &DiskPath, file: Arc<dyn File>) -> Arc<dyn File> {
        if is_apart(path) {
            return file;
        }
        Arc::new(WatchedFile { file, device: self.device.clone() })
    }
}

/// Whether it lies on the file system of staging, where that is another one.
fn is_apart(path: &DiskPath) -> bool {
    let rest = path.as_str().strip_prefix(STAGING_ELSEWHERE);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Disk for WatchedDisk {
    fn create<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<Arc<dyn File>, DiskError>> {
        Box::pin(async move {
            let file = self.noted(("create", path), self.disk.create(path)).await?;
            Ok(self.wrapped(path, file))
        })
    }

    fn open<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<Arc<dyn File>, DiskError>> {
        Box::pin(async move {
            let file = self.device.look(("open", path), self.disk.open(path)).await?;
            Ok(self.wrapped(path, file))
        })
    }

    fn mkdir<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<(), DiskError>> {
        Box::pin(self.noted(("mkdir", path), self.disk.mkdir(path)))
    }

    /// A rename from another file system is a copy, which may take long: it is not watched.
    fn rename<'a>(
        &'a self,
        from: &'a DiskPath,
        to: &'a DiskPath,
    ) -> BoxFuture<'a, Result<(), DiskError>> {
        Box::pin(self.noted(("rename", from), self.disk.rename(from, to)))
    }

    fn unlink<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<(), DiskError>> {
        Box::pin(self.noted(("unlink", path), self.disk.unlink(path)))
    }

    fn list<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<Vec<DirEntry>, DiskError>> {
        Box::pin(self.device.look(("list", path), self.disk.list(path)))
    }

    fn sync_dir<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<(), DiskError>> {
        Box::pin(self.noted((SYNC, path), self.disk.sync_dir(path)))
    }

    fn lock<'a>(
        &'a self,
        path: &'a DiskPath,
        holder: &'a str,
    ) -> BoxFuture<'a, Result<LockOutcome, DiskError>> {
        self.disk.lock(path, holder)
    }

    fn space(&self) -> BoxFuture<'_, Result<Space, DiskError>> {
        Box::pin(async move {
            self.device.look(("measure", &DiskPath::root()), self.disk.space()).await
        })
    }
}

struct WatchedFile {
    file: Arc<dyn File>,
    device: Arc<Device>,
}

impl WatchedFile {
    fn begin(&self, action: &'static str) -> Running {
        self.device.begin(action, self.file.path())
    }
}

impl File for WatchedFile {
    fn path(&self) -> &DiskPath {
        self.file.path()
    }

    fn len(&self) -> BoxFuture<'_, Result<u64, DiskError>> {
        Box::pin(self.device.look(("measure", self.file.path()), self.file.len()))
    }

    fn allocated_bytes(&self) -> BoxFuture<'_, Result<u64, DiskError>> {
        Box::pin(self.device.look(("measure", self.file.path()), self.file.allocated_bytes()))
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
        Box::pin(self.device.look(("read", self.file.path()), self.file.read_at(offset, len_bytes)))
    }

    fn allocate(&self, len_bytes: u64) -> BoxFuture<'_, Result<(), DiskError>> {
        let running = self.begin("allocate");
        Box::pin(async move { running.ended(self.file.allocate(len_bytes).await) })
    }

    fn sync_data(&self) -> BoxFuture<'_, Result<(), DiskError>> {
        let running = self.begin(SYNC);
        Box::pin(async move { running.ended(self.file.sync_data().await) })
    }

    fn freeze(&self) -> BoxFuture<'_, Result<(), DiskError>> {
        self.file.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn staging_elsewhere_is_apart_and_nothing_else_is() {
        for (path, apart) in [
            ("staging", true),
            ("staging/1.part", true),
            ("tmp/1.part", false),
            ("stagings", false),
        ] {
            assert_eq!(is_apart(&DiskPath::new(path)), apart, "{path}");
        }
    }
}
