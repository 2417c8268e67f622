//! The decision: does a fault strike this operation? Answers from a plan by counting, and nothing
//! else, so that the same operations in the same order always meet the same faults.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

use kura_env::EffectKind;
use parking_lot::Mutex;

use crate::plan::{Fault, Plan, What, When};

/// What is about to happen, as far as faults tell things apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A change of the disk.
    Effect(EffectKind),
    /// A call of the disk that changes nothing.
    DiskRead,
    /// A commit of the catalog.
    Commit,
    /// A call of the catalog that changes nothing.
    CatalogRead,
    /// A connection that is made or comes in.
    Connection,
}

/// A fault that strikes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strike {
    /// The fault as the plan has it.
    pub fault: Fault,
}

/// A plan, how far it has got, and what has struck.
#[derive(Debug)]
pub struct Injector {
    state: Mutex<State>,
    is_empty: bool,
    is_calm: AtomicBool,
}

#[derive(Debug)]
struct State {
    faults: Vec<Progress>,
    /// Changes of the disk of each node so far.
    effects: BTreeMap<String, u64>,
    fired: BTreeMap<String, u64>,
    /// Connections that were struck, by node and class. As many as there are addresses.
    struck: BTreeMap<(String, String), u64>,
}

#[derive(Debug)]
struct Progress {
    fault: Fault,
    matched: u64,
    fired: u32,
}

impl Injector {
    /// Starts to count. Ids of the plan must differ.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let is_empty = plan.is_empty();
        let progress = |fault| Progress { fault, matched: 0, fired: 0 };
        let state = State {
            faults: plan.faults.into_iter().map(progress).collect(),
            effects: BTreeMap::new(),
            fired: BTreeMap::new(),
            struck: BTreeMap::new(),
        };
        Self { state: Mutex::new(state), is_empty, is_calm: AtomicBool::new(false) }
    }

    /// From now on nothing strikes any more, whatever is left of the plan.
    pub fn calm(&self) {
        self.is_calm.store(true, Ordering::Relaxed);
    }

    /// Whether the plan is empty, so that nothing needs to be asked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// The fault that strikes this operation, if one does. To be asked exactly once for each, in
    /// the order in which they begin.
    pub fn decide(
        &self,
        node: &str,
        operation: Operation,
        class: &str,
        now_millis: u64,
    ) -> Option<Strike> {
        if self.is_empty || self.is_calm.load(Ordering::Relaxed) {
            return None;
        }
        let mut state = self.state.lock();
        let state = &mut *state;
        let effects = state.effects.entry(node.to_owned()).or_insert(0);
        if matches!(operation, Operation::Effect(_)) {
            *effects += 1;
        }
        let mut strike = None;
        for progress in &mut state.faults {
            let due = progress.is_due(node, class, *effects, now_millis);
            if due && strike.is_none() && can_strike(&progress.fault.what, operation) {
                progress.fired += 1;
                *state.fired.entry(progress.fault.what.class()).or_insert(0) += 1;
                strike = Some(Strike { fault: progress.fault.clone() });
            }
        }
        if strike.is_some() && operation == Operation::Connection {
            *state.struck.entry((node.to_owned(), class.to_owned())).or_insert(0) += 1;
        }
        strike
    }

    /// How many connections of a node were struck of those of this class.
    #[must_use]
    pub fn connections_struck(&self, node: &str, class: &str) -> u64 {
        let key = (node.to_owned(), class.to_owned());
        self.state.lock().struck.get(&key).copied().unwrap_or(0)
    }

    /// The crashes that are due by the clock alone, each once; the owner brings them about.
    pub fn due_crashes(&self, now_millis: u64) -> Vec<Fault> {
        if self.is_calm.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let mut state = self.state.lock();
        let state = &mut *state;
        let mut due = Vec::new();
        for progress in &mut state.faults {
            if progress.crash_millis().is_some_and(|millis| millis <= now_millis) {
                progress.fired += 1;
                *state.fired.entry(progress.fault.what.class()).or_insert(0) += 1;
                due.push(progress.fault.clone());
            }
        }
        due
    }

    /// When the next crash is due by the clock alone.
    #[must_use]
    pub fn next_crash_millis(&self) -> Option<u64> {
        if self.is_calm.load(Ordering::Relaxed) {
            return None;
        }
        self.state.lock().faults.iter().filter_map(Progress::crash_millis).min()
    }

    /// How often each class of fault has struck.
    #[must_use]
    pub fn fired(&self) -> BTreeMap<String, u64> {
        self.state.lock().fired.clone()
    }

    /// The faults that have not struck once.
    #[must_use]
    pub fn unfired(&self) -> Vec<Fault> {
        let state = self.state.lock();
        let unfired = state.faults.iter().filter(|progress| progress.fired == 0);
        unfired.map(|progress| progress.fault.clone()).collect()
    }
}

impl Progress {
    fn is_spent(&self) -> bool {
        self.fired >= self.fault.times
    }

    /// Counts the operation, and tells whether the fault's point has come.
    fn is_due(&mut self, node: &str, class: &str, effects: u64, now_millis: u64) -> bool {
        if self.fault.node != node || self.is_spent() {
            return false;
        }
        match &self.fault.when {
            When::Effect(number) => effects >= *number,
            When::EffectMatching { label, nth } => {
                let matches = glob(label, class);
                self.matched += u64::from(matches);
                matches && self.matched >= *nth
            }
            // Crashes by the clock do not wait for an operation.
            When::AtMillis(millis) => {
                now_millis >= *millis && !matches!(self.fault.what, What::Crash { .. })
            }
        }
    }

    fn crash_millis(&self) -> Option<u64> {
        match (&self.fault.when, &self.fault.what) {
            (When::AtMillis(millis), What::Crash { .. }) if !self.is_spent() => Some(*millis),
            _ => None,
        }
    }
}

fn can_strike(what: &What, operation: Operation) -> bool {
    match what {
        What::Crash { .. } => matches!(operation, Operation::Effect(_)),
        What::DiskError { .. } => {
            matches!(operation, Operation::Effect(_) | Operation::DiskRead)
        }
        What::ShortAppend { .. } => {
            matches!(operation, Operation::Effect(EffectKind::Append | EffectKind::WriteAt))
        }
        What::Stall { .. } => true,
        What::CatalogError { .. } => operation == Operation::Commit,
        What::NetRefuse | What::NetCut { .. } | What::NetStall { .. } => {
            operation == Operation::Connection
        }
    }
}

/// Whether `text` has the form of `pattern`, in which `*` stands for anything.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((head, mut pattern)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    while let Some((part, rest)) = pattern.split_once('*') {
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
        pattern = rest;
    }
    text.ends_with(pattern)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{CrashKind, CrashMoment, DiskFault, FaultId};

    const APPEND: Operation = Operation::Effect(EffectKind::Append);
    const RENAME: Operation = Operation::Effect(EffectKind::Rename);

    fn fault(id: u32, when: When, what: What) -> Fault {
        Fault { id: FaultId(id), node: "a".to_owned(), when, what, times: 1 }
    }

    fn injector(faults: Vec<Fault>) -> Injector {
        Injector::new(Plan { faults })
    }

    fn struck(strike: Option<Strike>) -> Option<u32> {
        strike.map(|strike| strike.fault.id.0)
    }

    #[test]
    fn a_star_stands_for_anything() {
        let table = [
            ("append blobs/*.seg", "append blobs/*.seg", true),
            ("append blobs/*.seg", "append entries/*.seg", false),
            ("append *", "append RING.new", true),
            ("*.seg", "append blobs/*.seg", true),
            ("*ab*ab", "xabab", true),
            ("*ab*ab", "xab", false),
            ("rename RING.new -> RING", "rename RING.new -> RING", true),
            ("rename RING.new", "rename RING.new -> RING", false),
            ("*", "", true),
        ];
        for (pattern, text, expected) in table {
            assert_eq!(glob(pattern, text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn a_fault_strikes_the_first_operation_that_fits_at_or_after_its_point() {
        let short = What::ShortAppend { kind: DiskFault::Io };
        let injector = injector(vec![fault(1, When::Effect(2), short)]);
        assert_eq!(struck(injector.decide("a", APPEND, "append x", 0)), None);
        assert_eq!(struck(injector.decide("b", APPEND, "append x", 0)), None);
        assert_eq!(struck(injector.decide("a", RENAME, "rename x -> y", 0)), None);
        assert_eq!(struck(injector.decide("a", Operation::DiskRead, "read x", 0)), None);
        assert_eq!(struck(injector.decide("a", APPEND, "append x", 0)), Some(1));
        assert_eq!(struck(injector.decide("a", APPEND, "append x", 0)), None);
        assert_eq!(injector.fired(), BTreeMap::from([("short-append.io".to_owned(), 1)]));
    }

    #[test]
    fn matching_counts_only_what_matches() {
        let when = When::EffectMatching { label: "append b*".to_owned(), nth: 2 };
        let mut stall = fault(1, when, What::Stall { millis: 5 });
        stall.times = 2;
        let injector = injector(vec![stall]);
        let strikes: Vec<_> = ["append b1", "append a", "append b2", "append b3", "append b4"]
            .iter()
            .map(|class| injector.decide("a", APPEND, class, 0).is_some())
            .collect();
        assert_eq!(strikes, [false, false, true, true, false]);
    }

    #[test]
    fn of_two_faults_at_one_operation_the_second_strikes_the_next() {
        let error = What::DiskError { kind: DiskFault::NoSpace };
        let injector = injector(vec![
            fault(1, When::Effect(1), error.clone()),
            fault(2, When::Effect(1), error),
        ]);
        assert_eq!(struck(injector.decide("a", APPEND, "append x", 0)), Some(1));
        assert_eq!(struck(injector.decide("a", APPEND, "append x", 0)), Some(2));
        assert_eq!(injector.unfired(), []);
    }

    #[test]
    fn a_crash_by_the_clock_waits_for_no_operation() {
        let what = What::Crash { kind: CrashKind::Sigkill, moment: CrashMoment::After };
        let injector = injector(vec![fault(1, When::AtMillis(50), what)]);
        assert_eq!(injector.next_crash_millis(), Some(50));
        assert_eq!(struck(injector.decide("a", APPEND, "append x", 60)), None);
        assert_eq!(injector.due_crashes(49), []);
        assert_eq!(injector.due_crashes(50).len(), 1);
        assert_eq!(injector.due_crashes(99), []);
        assert_eq!(injector.next_crash_millis(), None);
    }

    #[test]
    fn a_calm_plan_strikes_no_more() {
        let what = What::Crash { kind: CrashKind::Sigkill, moment: CrashMoment::After };
        let injector = injector(vec![
            fault(1, When::Effect(1), What::DiskError { kind: DiskFault::Io }),
            fault(2, When::AtMillis(5), what),
        ]);
        injector.calm();
        assert_eq!(struck(injector.decide("a", APPEND, "append x", 9)), None);
        assert_eq!((injector.next_crash_millis(), injector.due_crashes(9)), (None, Vec::new()));
    }
}
