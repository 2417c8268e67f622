//! Clean stops and starts: a node is left alone, looked at, drained as by SIGTERM, started, and looked
//! at again.

use std::{sync::Arc, time::Duration};

use kura_env::Instant;
use kura_node::service::State;
use sim_engine::Outcome;

use super::{
    Judgement, Run,
    heal::{READ_BACK_MAX, decided},
    machine::Machine,
};
use crate::{
    client::{Ask, Reader, Seen, connection::Connection},
    court::Court,
    invariants::{
        Violation,
        restart_is_neutral::{self, Answers, INVARIANT, Sight},
    },
    scenario::Phase,
};

/// A node that changed nothing on its disk for so long is at rest: longer than it waits between any two
/// things that it does by itself.
const REST: Duration = Duration::from_secs(6);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How long somebody waits before he starts a process that has ended.
const PAUSE: Duration = Duration::from_millis(500);

impl Run {
    /// Restarts the nodes that the phase says so of, one after the other.
    pub(super) fn restart(&self, phase: &Phase) -> Result<(), Judgement> {
        for position in self.scenario.positions(&phase.restart) {
            self.restart_one(&self.machines[position])?;
        }
        Ok(())
    }

    fn restart_one(&self, machine: &Arc<Machine>) -> Result<(), Judgement> {
        self.await_quiet(machine)?;
        let answers = self.ask_everything(machine)?;
        self.await_quiet(machine)?;
        let before = machine.sight();
        self.stop(machine)?;
        self.advance(PAUSE)?;
        machine.start();
        self.await_quiet(machine)?;
        let found = machine.sight();
        self.judge(restart_is_neutral::check(&machine.name, &before, &found))?;
        let asked = self.ask_everything(machine)?;
        let left = machine.sight();
        let mut counted = self.court.evidence().restarts;
        counted.restarts += 1;
        counted.with_all_generations += u64::from(found.has_all_generations());
        let answers = (&answers, &asked);
        let sights = (&found, &left);
        let verdict =
            restart_is_neutral::check_answers(&machine.name, answers, sights, &mut counted);
        self.court.evidence().restarts = counted;
        self.judge(verdict)
    }

    /// Drains a node, and waits for the end of its process.
    fn stop(&self, machine: &Arc<Machine>) -> Result<(), Judgement> {
        let (begun, life) = (self.world.now(), machine.starts());
        let limit = self.scenario.node.drain_timeout;
        machine.stop();
        let ended = |machine: &Machine| machine.life() != life;
        let outcome = self.world.run_until(|_| ended(machine), begun + limit);
        match outcome {
            Outcome::Goal if machine.starts() == life => Ok(()),
            Outcome::Goal | Outcome::Deadline | Outcome::Deadlock(_) => {
                let name = &machine.name;
                self.judge(Err(INVARIANT.violated(format!("{name} did not stop within {limit:?}"))))
            }
            failed @ (Outcome::Panic { .. } | Outcome::Stalled(_)) => {
                Err(self.engine_failed(&failed))
            }
        }
    }

    /// Waits until a node serves and has changed nothing on its disk for a while.
    fn await_quiet(&self, machine: &Arc<Machine>) -> Result<(), Judgement> {
        let limit = self.scenario.expect.healed_within;
        let begun = self.world.now();
        let (mut effects, mut since) = (0, begun);
        loop {
            let now = self.world.now();
            let seen = machine.disk.effect_count();
            if seen != effects || machine.state() != Some(State::Serving) {
                (effects, since) = (seen, now);
            } else if now.since(since) >= REST {
                return Ok(());
            }
            if now.since(begun) > limit + REST {
                let (name, state) = (&machine.name, machine.state());
                return self.judge(Err(INVARIANT.violated(format!(
                    "{name} does not come to rest around a restart within {limit:?}: it is in \
                     {state:?}, after {seen} effects of its disk"
                ))));
            }
            self.advance(LOOK)?;
        }
    }

    /// Reads every key that anything was put to on this node.
    fn ask_everything(&self, machine: &Arc<Machine>) -> Result<Answers, Judgement> {
        let node = machine.index;
        let paths: Vec<String> = {
            let evidence = self.court.evidence();
            let keys = evidence.history.keys().filter(|(of, _)| *of == node);
            keys.map(|(_, path)| path.to_owned()).collect()
        };
        let (place, court) = (self.operator(), self.court.clone());
        let (name, addr) = (machine.name.clone(), machine.addr);
        let work = async move {
            let mut open = None;
            let mut answers = Answers::new();
            for path in paths {
                let unanswered = |why: &dyn std::fmt::Display| {
                    INVARIANT.violated(format!("{name}: GET {path} around a restart: {why}"))
                };
                let mut connection = match open.take().filter(Connection::is_usable) {
                    Some(connection) => connection,
                    None => {
                        let opened = Connection::open(&place, addr).await;
                        opened.map_err(|failure| unanswered(&failure))?
                    }
                };
                let clock = &*place.clock;
                let mut reader = Reader { court: &court, connection: &mut connection, clock };
                let ask = Ask { node, path: &path, start: clock.now() };
                let answer = match reader.get(ask).await {
                    Ok(Seen::Hit(body)) => body,
                    Ok(Seen::Miss) => None,
                    Ok(Seen::Refused(status)) => {
                        return Err(unanswered(&format!("status {status}")));
                    }
                    Err(failure) => return Err(unanswered(&failure)),
                };
                answers.insert(path, answer);
                open = Some(connection);
            }
            Ok(answers)
        };
        match self.world.block_on(work, self.world.now() + READ_BACK_MAX) {
            Ok(Ok(answers)) => {
                decided(&self.court)?;
                Ok(answers)
            }
            Ok(Err(violation)) => Err(self.refuse(violation)),
            Err(outcome) => Err(self.engine_failed(&outcome)),
        }
    }

    fn advance(&self, time: Duration) -> Result<(), Judgement> {
        let deadline: Instant = self.world.now() + time;
        self.run_to(deadline)?;
        decided(&self.court)
    }

    fn judge(&self, verdict: Result<(), Violation>) -> Result<(), Judgement> {
        match verdict {
            Ok(()) => decided(&self.court),
            Err(violation) => Err(self.refuse(violation)),
        }
    }

    fn refuse(&self, violation: Violation) -> Judgement {
        let court: &Court = &self.court;
        court.evidence().judge(self.world.now(), Err(violation.clone()));
        Judgement::Violated(court.evidence().violation().cloned().unwrap_or(violation))
    }
}

impl Machine {
    /// What the node is to those who look at it.
    fn sight(&self) -> Sight {
        let told = self.status()["ring"].take();
        Sight::of(&self.image(), told)
    }
}
