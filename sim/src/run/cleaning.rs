//! Deletes that a phase asks for, as an operator would: each is sent again until the node says that it is done.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kura_env::{TaskHandle, timeout};
use parking_lot::Mutex;

use super::{Judgement, Run, machine::Machine};
use crate::{
    client::{
        Cleaner, OnDisk,
        connection::{Connection, Failure, Place},
    },
    court::Court,
    invariants::Violation,
    scenario::Phase,
};

/// How long an answer is waited for.
const ANSWER: Duration = Duration::from_secs(10);
/// How long until it is sent again.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a node is asked again and again.
const PATIENCE: Duration = Duration::from_secs(120);

/// Deletes that are not done yet, by node and namespace, and what came of the last try.
type Unmet = Arc<Mutex<BTreeMap<(String, String), String>>>;

/// The deletes of one phase.
pub(super) struct Cleaning {
    unmet: Unmet,
    tasks: Vec<TaskHandle>,
}

/// What asks one node for one delete.
struct Task {
    place: Place,
    court: Court,
    machine: Arc<Machine>,
    namespace: String,
    on_disk: Arc<OnDisk>,
    unmet: Unmet,
}

impl Run {
    /// Has nodes asked for the deletes of a phase.
    pub(super) fn clean(&self, phase: &Phase) -> Cleaning {
        let unmet = Unmet::default();
        let mut tasks = Vec::new();
        for position in self.scenario.positions(&phase.clean.nodes) {
            for namespace in &phase.clean.namespaces {
                let machine = self.machines[position].clone();
                let key = (machine.name.clone(), namespace.clone());
                unmet.lock().insert(key, "not asked yet".to_owned());
                let place = self.operator();
                let spawner = place.tasks.clone();
                let task = Task {
                    place,
                    court: self.court.clone(),
                    machine,
                    namespace: namespace.clone(),
                    on_disk: self.on_disk().into(),
                    unmet: unmet.clone(),
                };
                tasks.push(spawner.spawn("delete of a namespace", Box::pin(task.run())));
            }
        }
        Cleaning { unmet, tasks }
    }

    /// Judges the deletes of a phase that is over.
    pub(super) fn has_cleaned(&self, phase: &Phase, cleaning: Cleaning) -> Result<(), Judgement> {
        drop(cleaning.tasks);
        let unmet = cleaning.unmet.lock();
        let Some(((node, namespace), why)) = unmet.first_key_value() else { return Ok(()) };
        let reason = format!(
            "{} deletes of phase {} were not done, such as that of {namespace} on {node}: {why}",
            unmet.len(),
            phase.name
        );
        self.judged(Err(Violation { invariant: "phase.clean", reason }))
    }

    /// What nodes keep of deletes.
    pub(super) fn on_disk(&self) -> Box<OnDisk> {
        let machines = self.machines.clone();
        Box::new(move |node| machines[node.0].tombstones().unwrap_or_default())
    }
}

impl Cleaning {
    /// Whether all of them are done.
    pub(super) fn is_done(&self) -> impl Fn() -> bool + use<> {
        let unmet = self.unmet.clone();
        move || unmet.lock().is_empty()
    }
}

impl Task {
    async fn run(self) {
        let clock = self.place.clock.clone();
        let key = (self.machine.name.clone(), self.namespace.clone());
        let begun = clock.now();
        while clock.now().since(begun) < PATIENCE {
            let said = match timeout(&*clock, ANSWER, self.ask()).await {
                Ok(Ok(204)) => {
                    let what = format!("{}: has deleted {}", self.machine.name, self.namespace);
                    self.court.evidence().tell(clock.now(), what);
                    self.unmet.lock().remove(&key);
                    return;
                }
                Ok(Ok(status)) => format!("status {status}"),
                Ok(Err(failure)) => failure.to_string(),
                Err(_) => Failure::Timeout(ANSWER).to_string(),
            };
            self.unmet.lock().insert(key.clone(), said);
            clock.sleep(PAUSE).await;
        }
    }

    async fn ask(&self) -> Result<u16, Failure> {
        let Self { place, court, machine, namespace, on_disk, .. } = self;
        let mut connection = Connection::open(place, machine.addr).await?;
        let cleaner = Cleaner { court, clock: &*place.clock, on_disk: &**on_disk };
        cleaner.clean(&mut connection, machine.index, namespace).await
    }
}
