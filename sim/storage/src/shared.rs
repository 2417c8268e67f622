//! What the device and the handles of its lives share, and the one way in which changes happen.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    sync::Arc,
};

use kura_env::{Clock, DiskEffect, DiskErrorKind, EffectKind, Instant};
use parking_lot::{Mutex, MutexGuard};

use crate::{
    config::{Crash, SimDiskConfig},
    device::Device,
    draw::Draw,
    effect::{CrashReport, Effect, EffectHook, EffectVerdict, LifeId, OnCrash},
    mapping::Mappings,
    names::FileId,
    tenant::CoTenant,
    volume::Volume,
};

/// What a life and the device share.
pub(crate) struct Shared {
    pub(crate) config: SimDiskConfig,
    pub(crate) clock: Arc<dyn Clock>,
    state: Mutex<State>,
    pub(crate) mappings: Mappings,
    hook: Mutex<Option<Box<dyn EffectHook>>>,
    on_crash: Mutex<Option<OnCrash>>,
}

/// The device as it is now.
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
    /// Who else holds space of the file system.
    pub(crate) tenants: Vec<CoTenant>,
}

impl State {
    fn new(config: &SimDiskConfig) -> Self {
        Self {
            volume: Volume::new(config),
            device: Device::new(config),
            lives: BTreeSet::new(),
            next_life: 1,
            locks: BTreeSet::new(),
            effects: 0,
            effect_classes: BTreeMap::new(),
            crashes: 0,
            tenants: Vec::new(),
        }
    }

    pub(crate) fn begin_life(&mut self) -> LifeId {
        let life = LifeId(self.next_life);
        self.next_life += 1;
        self.lives.insert(life);
        life
    }

    pub(crate) fn effect_count(&self) -> u64 {
        self.effects
    }

    pub(crate) fn effect_classes(&self) -> &BTreeMap<String, u64> {
        &self.effect_classes
    }

    pub(crate) fn crash(&mut self, config: &SimDiskConfig, now: Instant, crash: Crash) {
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
        while let Some(at) = self.volume.next_on_device().filter(|at| *at <= now) {
            self.co_tenants_take(at);
            self.volume.write_back(at);
        }
        self.co_tenants_take(now);
    }

    /// What became free is taken by whoever waited for it before the node gets any.
    fn co_tenants_take(&mut self, now: Instant) {
        let wanted = self.tenants.iter().map(|tenant| tenant.wants_bytes(now));
        self.volume.set_tenant_bytes(wanted.fold(0, u64::saturating_add));
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
    pub(crate) fn new(config: SimDiskConfig, clock: Arc<dyn Clock>) -> Self {
        let state = Mutex::new(State::new(&config));
        Self {
            config,
            clock,
            state,
            mappings: Mappings::default(),
            hook: Mutex::new(None),
            on_crash: Mutex::new(None),
        }
    }

    pub(crate) fn set_hook(&self, hook: Box<dyn EffectHook>) {
        *self.hook.lock() = Some(hook);
    }

    pub(crate) fn set_on_crash(&self, on_crash: OnCrash) {
        *self.on_crash.lock() = Some(on_crash);
    }

    /// The state, for a life that has not ended; the others wait for ever.
    pub(crate) async fn alive(&self, life: LifeId) {
        if !self.is_alive(life) {
            pending::<()>().await;
        }
    }

    pub(crate) fn is_alive(&self, life: LifeId) -> bool {
        self.state.lock().is_alive(life)
    }

    /// The state, without the mappings that have ended.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        for (life, file) in self.mappings.ended() {
            if state.is_alive(life) {
                state.volume.close(file);
            }
        }
        state
    }

    /// The state as it is now, whatever happened last.
    pub(crate) fn state_now(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        state.age(&self.config, self.clock.now());
        state
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
            let mut state = self.state();
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
        self.state().crash(&self.config, now, crash);
        let report = CrashReport { effect: effect.clone(), crash };
        if let Some(on_crash) = self.on_crash.lock().as_mut() {
            on_crash(&report);
        }
    }
}
