//! The faults of a run at the disks: asks the plan about every effect, and watches what lies staged.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use fault_injection::{
    CrashKind, CrashMoment, DiskFault, Fault, FaultId, Faults, Injector, KeepUnsynced, Operation,
    What,
};
use kura_env::{Clock, DiskErrorKind, DiskPath, EffectKind, Env};
use parking_lot::Mutex;
use sim_storage::{Crash, Effect, EffectHook, EffectVerdict, Keep, LifeId, SimDisk};

use crate::{
    court::Court,
    invariants::{Violation, disk_ceiling::Ceiling, never_full, staging_bounded},
    scenario::{CatalogFate, FaultSpec},
};

/// Crashes behind which it is noted what comes.
const CRASHES_MET: usize = 2;

/// A crash that just happened, for whoever brings the node back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fallen {
    /// How long until the node comes back.
    pub(super) down_for: Duration,
    /// The second crash that follows, if one does.
    pub(super) again: Option<Again>,
    /// What becomes of its catalog meanwhile.
    pub(super) catalog: CatalogFate,
}

impl Fallen {
    /// Comes back after a while with everything that it left.
    pub(super) fn for_a_while(down_for: Duration) -> Self {
        Self { down_for, again: None, catalog: CatalogFate::Kept }
    }
}

/// A second crash, so many effects after the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Again {
    at_effect: u64,
    /// How many effects behind it a third one comes; 0: none does.
    third_nth: u64,
    kind: CrashKind,
    moment: CrashMoment,
}

/// The plan of a run, and how far it has got.
pub(super) struct Weather {
    injector: Arc<Injector>,
    specs: Vec<FaultSpec>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Nothing strikes any more.
    is_calm: bool,
    again_fired: u64,
    /// What became of catalogs whose nodes were down, and how often.
    decayed: BTreeMap<String, u64>,
    /// By class of the effect, how often a crash came there.
    crashed_at: BTreeMap<String, u64>,
    /// The nodes and the effects at which the first two crashes came.
    crashes: Vec<(String, u64)>,
    /// By number of the crash and class of effect, how far behind it that happened for the first time.
    met_behind: BTreeMap<(usize, String), u64>,
}

impl Weather {
    pub(super) fn new(specs: Vec<FaultSpec>) -> Self {
        let faults = specs.iter().map(|spec| spec.fault.clone()).collect();
        let injector = Arc::new(Injector::new(fault_injection::Plan { faults }));
        Self { injector, specs, state: Mutex::default() }
    }

    /// Nothing strikes any more.
    pub(super) fn calm(&self) {
        self.injector.calm();
        self.state.lock().is_calm = true;
    }

    /// The world of one life of a node, with the faults that do not strike its disk: that asks by
    /// its hook.
    pub(super) fn over(&self, env: Env, node: &str) -> Env {
        if self.injector.is_empty() {
            return env;
        }
        let clock = env.clock.clone();
        // Crashes strike changes of the disk, about which these wrappers do not ask.
        let on_crash = Arc::new(|_: &Fault| ());
        let faults = Faults::new(self.injector.clone(), node, clock, on_crash);
        Env { catalog: faults.catalog(env.catalog), net: faults.net(env.net), ..env }
    }

    /// How often each class of fault struck, those that never did included.
    pub(super) fn fired(&self) -> BTreeMap<String, u64> {
        let never = self.specs.iter().map(|spec| (spec.fault.what.class(), 0));
        let mut fired: BTreeMap<String, u64> = never.collect();
        fired.extend(self.injector.fired());
        let fates = self.specs.iter().filter(|spec| spec.catalog != CatalogFate::Kept);
        fired.extend(fates.map(|spec| (fate_class(spec.catalog), 0)));
        fired.extend(self.state.lock().decayed.clone());
        if self.specs.iter().any(|spec| spec.again_nth > 0) {
            fired.insert("crash.again".to_owned(), self.state.lock().again_fired);
        }
        fired
    }

    /// A catalog has met its fate.
    pub(super) fn decayed(&self, fate: CatalogFate) {
        *self.state.lock().decayed.entry(fate_class(fate)).or_default() += 1;
    }

    /// Whether a fault of the plan has a disk say that it is full.
    pub(super) fn fills_disks(&self) -> bool {
        let fills = |kind: DiskFault| matches!(kind, DiskFault::NoSpace | DiskFault::Quota);
        self.specs.iter().any(|spec| match spec.fault.what {
            What::DiskError { kind } | What::ShortAppend { kind } => fills(kind),
            What::Crash { .. }
            | What::Stall { .. }
            | What::CatalogError { .. }
            | What::NetRefuse
            | What::NetCut { .. }
            | What::NetStall { .. } => false,
        })
    }

    /// How often a call of a disk was made to fail.
    pub(super) fn disk_errors(&self) -> u64 {
        let fired = self.injector.fired();
        let fails =
            |class: &&String| class.starts_with("disk-error") || class.starts_with("short-append");
        fired.keys().filter(fails).map(|class| fired[class]).sum()
    }

    /// How often a crash came at each class of effect.
    pub(super) fn crashed_at(&self) -> BTreeMap<String, u64> {
        self.state.lock().crashed_at.clone()
    }

    /// By number of the crash, from 0, and class of effect: how many effects behind it that came first.
    pub(super) fn met_behind(&self) -> BTreeMap<(usize, String), u64> {
        self.state.lock().met_behind.clone()
    }

    /// How many connections of a node were struck of those of this class, as `accept 10.0.0.1:7000`.
    pub(super) fn connections_struck(&self, node: &str, class: &str) -> u64 {
        self.injector.connections_struck(node, class)
    }

    /// When the next crash is due by the clock alone.
    pub(super) fn next_crash_millis(&self) -> Option<u64> {
        self.injector.next_crash_millis()
    }

    /// The crashes that are due by the clock alone.
    pub(super) fn due_crashes(&self, now_millis: u64) -> Vec<Fault> {
        self.injector.due_crashes(now_millis)
    }

    /// What follows a crash of the plan.
    pub(super) fn fallen(&self, id: FaultId, effect: u64) -> Fallen {
        let spec = self.specs.iter().find(|spec| spec.fault.id == id);
        let again = spec.filter(|spec| spec.again_nth > 0).and_then(|spec| {
            let What::Crash { kind, moment } = spec.fault.what else { return None };
            let (at_effect, third_nth) = (effect + spec.again_nth, spec.third_nth);
            Some(Again { at_effect, third_nth, kind, moment })
        });
        let catalog = spec.map_or(CatalogFate::Kept, |spec| spec.catalog);
        let down_for = spec.map_or(Duration::from_secs(1), |spec| spec.down_for);
        Fallen { down_for, again, catalog }
    }
}

/// The class under which a fate of a catalog is counted.
fn fate_class(fate: CatalogFate) -> String {
    let name = match fate {
        CatalogFate::Kept => "kept",
        CatalogFate::Lost => "lost",
        CatalogFate::JournalLost => "journal-lost",
        CatalogFate::Shortened => "shortened",
        CatalogFate::Spoilt => "spoilt",
        CatalogFate::Broken => "broken",
    };
    format!("catalog.{name}")
}

/// A crash as the disk knows it.
pub(super) fn crash_of(kind: CrashKind) -> Crash {
    let keep = match kind {
        CrashKind::Sigkill => return Crash::Sigkill,
        CrashKind::PowerLoss { keep: KeepUnsynced::Nothing } => Keep::Nothing,
        CrashKind::PowerLoss { keep: KeepUnsynced::Everything } => Keep::Everything,
        CrashKind::PowerLoss { keep: KeepUnsynced::Sampled } => Keep::Sampled,
    };
    Crash::PowerLoss { keep }
}

fn crash_at(moment: CrashMoment, kind: CrashKind) -> EffectVerdict {
    let crash = crash_of(kind);
    match moment {
        CrashMoment::Before => EffectVerdict::CrashBefore(crash),
        CrashMoment::Within => EffectVerdict::CrashWithin(crash),
        CrashMoment::After => EffectVerdict::CrashAfter(crash),
    }
}

/// What the watch of a disk and the machine tell each other.
#[derive(Default)]
pub(super) struct Signals {
    /// The crash that the watch asked for and that the machine has to follow up.
    pub(super) fallen: Option<Fallen>,
    /// The second crash that is to come.
    pub(super) again: Option<Again>,
}

/// Asked before every effect of a node's disk, and told after it.
pub(super) struct Watch {
    pub(super) node: String,
    pub(super) weather: Arc<Weather>,
    pub(super) signals: Arc<Mutex<Signals>>,
    pub(super) court: Court,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) disk: SimDisk,
    pub(super) staging_bytes_max: u64,
    /// What the node may hold in all; unset where that cannot be told.
    pub(super) ceiling: Option<Ceiling>,
    pub(super) note: Box<dyn Fn(&str) + Send>,
    /// Told before a segment's file goes.
    pub(super) on_unlink: Box<dyn Fn(&DiskPath) + Send>,
    /// Told before every effect.
    pub(super) on_effect: Box<dyn Fn(&Effect) + Send>,
    /// The life whose staging is known to have been empty once: what lay there before its start is
    /// not of its making.
    pub(super) swept: Option<LifeId>,
    /// Whether somebody else held space since each file was synced.
    pub(super) crowded: Crowded,
}

impl Watch {
    fn decide(&self, effect: &Effect) -> EffectVerdict {
        if self.weather.state.lock().is_calm {
            return EffectVerdict::Go;
        }
        self.meet(effect);
        let again = self.signals.lock().again.take_if(|again| effect.number >= again.at_effect);
        if let Some(Again { third_nth, kind, moment, .. }) = again {
            self.weather.state.lock().again_fired += 1;
            let at_effect = effect.number + third_nth;
            let third = Again { at_effect, third_nth: 0, kind, moment };
            let again = (third_nth > 0).then_some(third);
            self.fell(effect, Fallen { again, ..Fallen::for_a_while(Duration::from_secs(1)) });
            return crash_at(moment, kind);
        }
        if self.weather.injector.is_empty() {
            return EffectVerdict::Go;
        }
        let class = effect.change.class();
        let operation = Operation::Effect(effect.change.kind);
        let now_millis = self.clock.now().0 / 1_000_000;
        let strike = self.weather.injector.decide(&self.node, operation, &class, now_millis);
        let Some(strike) = strike else { return EffectVerdict::Go };
        match strike.fault.what {
            What::Crash { kind, moment } => {
                self.fell(effect, self.weather.fallen(strike.fault.id, effect.number));
                crash_at(moment, kind)
            }
            What::DiskError { kind } => EffectVerdict::Fail(kind.error()),
            What::ShortAppend { kind } => EffectVerdict::FailWithin(kind.error()),
            What::Stall { millis } => EffectVerdict::Stall(Duration::from_millis(millis)),
            // The injector does not let these strike an effect.
            What::CatalogError { .. }
            | What::NetRefuse
            | What::NetCut { .. }
            | What::NetStall { .. } => EffectVerdict::Go,
        }
    }

    fn judge(&self, verdict: Result<(), Violation>) {
        if verdict.is_err() {
            self.court.evidence().judge(self.clock.now(), verdict);
        }
    }

    /// Notes how far behind the last crash an effect of this class comes for the first time.
    fn meet(&self, effect: &Effect) {
        let mut state = self.weather.state.lock();
        // Each disk counts its own effects.
        let last = state.crashes.last().filter(|(node, _)| *node == self.node);
        let Some(last) = last.map(|(_, effect)| *effect) else { return };
        let met = (state.crashes.len() - 1, effect.change.class());
        state.met_behind.entry(met).or_insert(effect.number.saturating_sub(last));
    }

    fn fell(&self, effect: &Effect, fallen: Fallen) {
        let mut state = self.weather.state.lock();
        *state.crashed_at.entry(effect.change.class()).or_default() += 1;
        if state.crashes.len() < CRASHES_MET {
            state.crashes.push((self.node.clone(), effect.number));
        }
        drop(state);
        self.signals.lock().fallen = Some(fallen);
    }
}

impl EffectHook for Watch {
    fn before(&mut self, effect: &Effect) -> EffectVerdict {
        let text = effect.change.to_string();
        (self.note)(&text);
        (self.on_effect)(effect);
        if effect.change.kind == EffectKind::Unlink && text.ends_with(".seg") {
            (self.on_unlink)(&effect.change.path);
        }
        let verdict = self.decide(effect);
        if verdict != EffectVerdict::Go {
            let what = format!("{}: {verdict:?} at effect {} ({text})", self.node, effect.number);
            let mut evidence = self.court.evidence();
            evidence.tell(self.clock.now(), what);
            if effect.change.kind == EffectKind::SyncData {
                let path = effect.change.path.as_str().to_owned();
                evidence.unsynced.insert((self.node.clone(), path));
            }
        }
        verdict
    }

    fn after(&mut self, effect: &Effect, outcome: &Result<(), DiskErrorKind>) {
        let crowding_bytes = self.crowded.after(effect, self.disk.foreign_bytes());
        let Some(staged) = self.disk.dir_bytes("tmp") else { return };
        if staged.files == 0 {
            self.swept = Some(effect.life);
        }
        if self.swept == Some(effect.life) {
            let budget = self.staging_bytes_max;
            let verdict = staging_bounded::check_budget(
                &self.node,
                staged.allocated_bytes,
                staged.files,
                budget,
            );
            self.judge(verdict);
            if let Some(ceiling) = self.ceiling {
                let held = |dir: &str| self.disk.dir_bytes(dir).map_or(0, |it| it.allocated_bytes);
                let catalog = held("catalog") + held("quarantine");
                let named = self.disk.named_bytes();
                self.judge(ceiling.check(&self.node, named, catalog, staged.files));
            }
            if outcome.is_err() && !self.weather.fills_disks() {
                let what = effect.change.to_string();
                self.judge(never_full::check(&self.node, &what, outcome, crowding_bytes));
            }
        }
    }
}

/// What others hold, as far as it counts against a call of the disk. A sync reports what befell the
/// bytes that were written since the one before, while others may have held what is free by now.
#[derive(Default)]
pub(super) struct Crowded {
    effects: u64,
    /// The effect behind which somebody else was last seen to hold something, and how much.
    last: (u64, u64),
    /// The effect that synced each file last, while it is there.
    synced: BTreeMap<DiskPath, u64>,
}

impl Crowded {
    /// An effect was done while others held `foreign_bytes`. Gives what they held at any time that
    /// counts for it.
    fn after(&mut self, effect: &Effect, foreign_bytes: u64) -> u64 {
        self.effects += 1;
        if foreign_bytes > 0 {
            self.last = (self.effects, foreign_bytes);
        }
        let change = &effect.change;
        if change.kind == EffectKind::Unlink {
            self.synced.remove(&change.path);
        }
        if change.kind != EffectKind::SyncData {
            return foreign_bytes;
        }
        let since = self.synced.insert(change.path.clone(), self.effects).unwrap_or(0);
        if self.last.0 > since { self.last.1 } else { foreign_bytes }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use fault_injection::{DiskFault, When};
    use kura_env::{DiskEffect, Instant};
    use sim_engine::{NodeId, World, WorldConfig};
    use sim_storage::SimDiskConfig;

    use super::*;

    fn watch(world: &World, specs: Vec<FaultSpec>) -> Watch {
        let clock = world.clock(NodeId::OPERATOR);
        Watch {
            node: "node-1".to_owned(),
            weather: Arc::new(Weather::new(specs)),
            signals: Arc::default(),
            court: Court::default(),
            clock: clock.clone(),
            disk: SimDisk::new(SimDiskConfig::instant(1 << 20, 0), clock),
            staging_bytes_max: 10_000,
            ceiling: None,
            note: Box::new(|_| ()),
            on_unlink: Box::new(|_| ()),
            on_effect: Box::new(|_| ()),
            swept: None,
            crowded: Crowded::default(),
        }
    }

    fn spec(what: What, when: When, again_nth: u64) -> FaultSpec {
        let fault = Fault { id: FaultId(0), node: "node-1".to_owned(), when, what, times: 1 };
        let (name, down_for) = ("f".to_owned(), Duration::from_secs(2));
        FaultSpec { name, fault, down_for, again_nth, third_nth: 2, catalog: CatalogFate::Kept }
    }

    fn unlink(number: u64) -> Effect {
        let change = DiskEffect::named(EffectKind::Unlink, &DiskPath::new("blobs/0001.seg"));
        Effect { number, life: LifeId(1), change }
    }

    #[test]
    fn a_second_crash_follows_so_many_effects_after_the_first() {
        let world = World::new(WorldConfig::from_seed(0));
        let what = What::Crash { kind: CrashKind::Sigkill, moment: CrashMoment::Before };
        let mut watch = watch(&world, vec![spec(what, When::Effect(2), 3)]);
        assert_eq!(watch.before(&unlink(1)), EffectVerdict::Go);
        assert_eq!(watch.before(&unlink(2)), EffectVerdict::CrashBefore(Crash::Sigkill));
        let fallen = watch.signals.lock().fallen.take().unwrap();
        assert_eq!(fallen.down_for, Duration::from_secs(2));
        watch.signals.lock().again = fallen.again;
        let verdicts = [3, 4, 5].map(|number| watch.before(&unlink(number)));
        let (go, crash) = (EffectVerdict::Go, EffectVerdict::CrashBefore(Crash::Sigkill));
        assert_eq!(verdicts, [go.clone(), go.clone(), crash.clone()]);
        let fallen = watch.signals.lock().fallen.take().unwrap();
        watch.signals.lock().again = fallen.again;
        let verdicts = [6, 7, 8].map(|number| watch.before(&unlink(number)));
        assert_eq!(verdicts, [go.clone(), crash, go]);
        assert_eq!(watch.weather.crashed_at()["unlink blobs/*.seg"], 3);
        assert_eq!(watch.weather.fired()["crash.again"], 2);
        let behind = |crash| (crash, "unlink blobs/*.seg".to_owned());
        assert_eq!(watch.weather.met_behind(), BTreeMap::from([(behind(0), 1), (behind(1), 1)]));
    }

    #[test]
    fn once_it_is_calm_nothing_strikes_and_what_never_did_is_told() {
        let world = World::new(WorldConfig::from_seed(0));
        let what = What::DiskError { kind: DiskFault::NoSpace };
        let mut watch = watch(&world, vec![spec(what, When::Effect(1), 0)]);
        watch.weather.calm();
        assert_eq!(watch.before(&unlink(1)), EffectVerdict::Go);
        assert_eq!(watch.weather.fired()["disk-error.no-space"], 0);
    }

    #[test]
    fn staging_is_held_to_its_budget_once_it_was_swept() {
        let world = World::new(WorldConfig::from_seed(0));
        let watch = watch(&world, Vec::new());
        let (disk, court) = (watch.disk.clone(), watch.court.clone());
        disk.plant("tmp/stale.part", &Bytes::from(vec![0; 40_000])).unwrap();
        disk.set_effect_hook(Box::new(watch));
        let life = disk.attach();
        let path = DiskPath::new("tmp/stale.part");
        world.block_on(async move { life.unlink(&path).await.unwrap() }, Instant(1)).unwrap();
        assert!(!court.is_decided(), "what an earlier life left is not judged");
        let life = disk.attach();
        let write = async move {
            let other = DiskPath::new("tmp/1.part");
            life.unlink(&other).await.unwrap_err();
            let file = life.create(&other).await.unwrap();
            file.append(vec![Bytes::from(vec![0; 10_000 + 20 * 1024])]).await.unwrap();
        };
        world.block_on(write, Instant(1)).unwrap();
        assert!(court.is_decided(), "over the budget and what a file may hold beside");
        disk.set_effect_hook(Box::new(|_: &_| EffectVerdict::Go));
    }
}
