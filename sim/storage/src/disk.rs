//! The device: outlives the lives of its node, decides what a crash leaves, and can be inspected
//! without a cost.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    sync::Arc,
};

use bytes::Bytes;
use kura_env::{Clock, Disk, DiskEffect, DiskErrorKind, DiskPath, EffectKind, Instant, Space};
use parking_lot::{Mutex, MutexGuard};

use crate::{
    attached::Attached,
    config::{Crash, SimDiskConfig},
    content::size,
    device::Device,
    draw::Draw,
    effect::{CrashReport, Effect, EffectHook, EffectVerdict, LifeId},
    names::FileId,
    volume::{DirUsage, Volume},
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
        let state = State {
            volume: Volume::new(&config),
            device: Device::default(),
            lives: BTreeSet::new(),
            next_life: 1,
            locks: BTreeSet::new(),
            effects: 0,
            effect_classes: BTreeMap::new(),
            crashes: 0,
        };
        let shared = Shared {
            config,
            clock,
            state: Mutex::new(state),
            hook: Mutex::new(None),
            on_crash: Mutex::new(None),
        };
        Self { shared: Arc::new(shared) }
    }

    /// A new life. Several may run at once, as two processes on one directory.
    #[must_use]
    pub fn attach(&self) -> Arc<dyn Disk> {
        let mut state = self.shared.state.lock();
        let life = LifeId(state.next_life);
        state.next_life += 1;
        state.lives.insert(life);
        drop(state);
        Arc::new(Attached::new(Arc::clone(&self.shared), life))
    }

    /// Ends every life and decides what remains. Power loss also decides about what an earlier
    /// SIGKILL left unsynced.
    pub fn crash(&self, crash: Crash) {
        let now = self.shared.clock.now();
        self.shared.state.lock().crash(&self.shared.config, now, crash);
    }

    /// Who is asked before every effect from now on.
    pub fn set_effect_hook(&self, hook: Box<dyn EffectHook>) {
        *self.shared.hook.lock() = Some(hook);
    }

    /// Who is told when the effect hook ended the life. The disk has crashed by then; the owner
    /// stops the node's tasks. Called in the middle of one of them.
    pub fn set_on_crash(&self, on_crash: Box<dyn FnMut(&CrashReport) + Send>) {
        *self.shared.on_crash.lock() = Some(on_crash);
    }

    /// Every file, in order of the paths.
    #[must_use]
    pub fn walk(&self) -> Vec<WalkedFile> {
        let state = self.shared.state.lock();
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
        let state = self.shared.state.lock();
        let id = state.volume.names.file(&DiskPath::new(path)).ok()?;
        let content = &state.volume.file(id).content;
        Some(content.read(0, content.len()))
    }

    /// Some bytes of a file; fewer where it ends.
    #[must_use]
    pub fn peek_at(&self, path: &str, offset: u64, len_bytes: u64) -> Option<Bytes> {
        let state = self.shared.state.lock();
        let id = state.volume.names.file(&DiskPath::new(path)).ok()?;
        Some(state.volume.file(id).content.read(offset, len_bytes))
    }

    /// What the files of one directory hold, kept as they change. `None` if there is no such
    /// directory.
    #[must_use]
    pub fn dir_bytes(&self, path: &str) -> Option<DirUsage> {
        self.shared.state.lock().volume.usage(&DiskPath::new(path))
    }

    /// The blocks in use: directories, files with a name, and files that are open.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.shared.state.lock().volume.used_bytes()
    }

    /// The blocks of files that have no name any more and are still open.
    #[must_use]
    pub fn open_unlinked_bytes(&self) -> u64 {
        self.shared.state.lock().volume.open_unlinked_bytes()
    }

    /// The space, as the node would be told.
    #[must_use]
    pub fn space(&self) -> Space {
        self.shared.state.lock().volume.space()
    }

    /// How much others on the same file system hold.
    pub fn set_foreign_bytes(&self, bytes: u64) {
        self.shared.state.lock().volume.set_foreign_bytes(bytes);
    }

    /// How many effects there were.
    #[must_use]
    pub fn effect_count(&self) -> u64 {
        self.shared.state.lock().effects
    }

    /// How often each class of effect happened: the crash points there were.
    #[must_use]
    pub fn effect_classes(&self) -> BTreeMap<String, u64> {
        self.shared.state.lock().effect_classes.clone()
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
        let mut state = self.shared.state.lock();
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

    /// Changes one byte of a file on the device, as decay does.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is no such file or byte.
    pub fn rot(&self, path: &str, offset: u64, flip: u8) -> Result<(), DiskErrorKind> {
        let mut state = self.shared.state.lock();
        let id = state.volume.names.file(&DiskPath::new(path))?;
        let content = &mut state.volume.file_mut(id).content;
        let byte = content.read(offset, 1);
        let old = byte.first().ok_or(DiskErrorKind::NotFound)?;
        content.rot(offset, old ^ flip);
        Ok(())
    }
}

/// Who is told of a crash that the effect hook asked for.
type OnCrash = Box<dyn FnMut(&CrashReport) + Send>;

/// What a life and the device share.
pub(crate) struct Shared {
    pub(crate) config: SimDiskConfig,
    pub(crate) clock: Arc<dyn Clock>,
    state: Mutex<State>,
    hook: Mutex<Option<Box<dyn EffectHook>>>,
    on_crash: Mutex<Option<OnCrash>>,
}

pub(crate) struct State {
    pub(crate) volume: Volume,
    pub(crate) device: Device,
    lives: BTreeSet<LifeId>,
    next_life: u64,
    /// The lock files that are held, each by a life that goes on.
    locks: BTreeSet<FileId>,
    effects: u64,
    effect_classes: BTreeMap<String, u64>,
    crashes: u64,
}

impl State {
    fn crash(&mut self, config: &SimDiskConfig, now: Instant, crash: Crash) {
        self.crashes += 1;
        self.lives.clear();
        self.locks.clear();
        self.age(config, now);
        self.volume.close_all();
        if let Crash::PowerLoss { keep } = crash {
            let mut draw = Draw::keyed(config.seed, "power loss", self.crashes);
            self.volume.lose_power(keep, &mut draw);
            self.device.clear();
        }
    }

    pub(crate) fn age(&mut self, config: &SimDiskConfig, now: Instant) {
        let interval = u64::try_from(config.journal_interval.as_nanos()).unwrap_or(u64::MAX);
        if let Some(before) = now.0.checked_sub(interval) {
            self.volume.age(Instant(before));
        }
    }

    /// Takes the lock of a file; false if somebody has it.
    pub(crate) fn take_lock(&mut self, id: FileId) -> bool {
        self.locks.insert(id)
    }

    pub(crate) fn is_alive(&self, life: LifeId) -> bool {
        self.lives.contains(&life)
    }

    /// Releases a lock of a life that goes on.
    pub(crate) fn release_lock(&mut self, id: FileId) {
        self.locks.remove(&id);
    }
}

/// How much of an effect is to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Amount {
    All,
    /// This many bytes of an append or a write.
    Prefix(u64),
    Nothing,
}

/// What an effect did, and when its caller may learn of it.
pub(crate) struct Done<T> {
    pub(crate) result: Result<T, DiskErrorKind>,
    pub(crate) at: Instant,
}

impl Shared {
    /// The state, for a life that has not ended; the others wait for ever.
    pub(crate) async fn alive(&self, life: LifeId) {
        if !self.is_alive(life) {
            pending::<()>().await;
        }
    }

    pub(crate) fn is_alive(&self, life: LifeId) -> bool {
        self.state.lock().is_alive(life)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Waits until `at`, or does not wait at all if that is now.
    pub(crate) async fn until(&self, at: Instant) {
        if at > self.clock.now() {
            self.clock.sleep_until(at).await;
        }
    }

    /// Makes a change happen, or not, or in part, as the hook decides, and returns when its time
    /// is up. A life that ends meanwhile never hears of it.
    pub(crate) async fn effect<T>(
        &self,
        life: LifeId,
        change: DiskEffect,
        apply: impl FnOnce(&mut State, Instant, Amount, Option<DiskErrorKind>) -> Done<T>,
    ) -> Result<T, DiskErrorKind> {
        self.alive(life).await;
        let effect = self.announce(life, change);
        let verdict = self.verdict(&effect);
        let now = self.clock.now();
        let (amount, failure, crash) = self.split(&effect, &verdict);
        let mut done = {
            let mut state = self.state.lock();
            state.age(&self.config, now);
            apply(&mut state, now, amount, failure)
        };
        if let Some(crash) = crash {
            self.end(&effect, crash, now);
            return pending().await;
        }
        if let EffectVerdict::Stall(longer) = verdict {
            done.at = done.at + longer;
        }
        if let Some(hook) = self.hook.lock().as_mut() {
            let outcome = done.result.as_ref().map(|_| ()).map_err(Clone::clone);
            hook.after(&effect, &outcome);
        }
        self.until(done.at).await;
        self.alive(life).await;
        done.result
    }

    fn announce(&self, life: LifeId, change: DiskEffect) -> Effect {
        let class = change.class();
        let mut state = self.state.lock();
        state.effects += 1;
        *state.effect_classes.entry(class).or_insert(0) += 1;
        Effect { number: state.effects, life, change }
    }

    fn verdict(&self, effect: &Effect) -> EffectVerdict {
        self.hook.lock().as_mut().map_or(EffectVerdict::Go, |hook| hook.before(effect))
    }

    /// How much of the effect happens, what its caller is told instead of the truth, and whether
    /// the life ends with it.
    fn split(
        &self,
        effect: &Effect,
        verdict: &EffectVerdict,
    ) -> (Amount, Option<DiskErrorKind>, Option<Crash>) {
        match verdict {
            EffectVerdict::Go | EffectVerdict::Stall(_) => (Amount::All, None, None),
            EffectVerdict::CrashBefore(crash) => (Amount::Nothing, None, Some(*crash)),
            EffectVerdict::CrashWithin(crash) => (self.drawn_part(effect), None, Some(*crash)),
            EffectVerdict::CrashAfter(crash) => (Amount::All, None, Some(*crash)),
            EffectVerdict::Fail(kind) => (Amount::Nothing, Some(kind.clone()), None),
            EffectVerdict::FailWithin(kind) => match self.drawn_part(effect) {
                Amount::Prefix(bytes) => (Amount::Prefix(bytes), Some(kind.clone()), None),
                Amount::All | Amount::Nothing => (Amount::Nothing, Some(kind.clone()), None),
            },
        }
    }

    fn drawn_part(&self, effect: &Effect) -> Amount {
        let mut draw = Draw::keyed(self.config.seed, "torn effect", effect.number);
        match effect.change.kind {
            EffectKind::Append | EffectKind::WriteAt => {
                Amount::Prefix(draw.below(effect.change.len_bytes))
            }
            EffectKind::Create
            | EffectKind::Mkdir
            | EffectKind::Allocate
            | EffectKind::Rename
            | EffectKind::Unlink
            | EffectKind::SyncData
            | EffectKind::SyncDir
            | EffectKind::Lock
            | EffectKind::Freeze => {
                if draw.coin() {
                    Amount::All
                } else {
                    Amount::Nothing
                }
            }
        }
    }

    fn end(&self, effect: &Effect, crash: Crash, now: Instant) {
        self.state.lock().crash(&self.config, now, crash);
        let report = CrashReport { effect: effect.clone(), crash };
        if let Some(on_crash) = self.on_crash.lock().as_mut() {
            on_crash(&report);
        }
    }
}
