//! What an operator's own probes see: whether a node that runs says so, and when it takes writes again.

use std::{sync::Arc, time::Duration};

use http::Method;
use kura_env::{Instant, TaskHandle, timeout};

use super::{Judgement, Run, heal::decided, machine::Machine};
use crate::{
    body::{Body, BodyId},
    client::{
        Break, Upload,
        connection::{Connection, Failure, Place},
    },
    court::Court,
    invariants::{live_answers, writes_resume},
};

/// How often a node is asked whether it lives.
const EVERY: Duration = Duration::from_secs(1);
/// How often a put is tried.
const TRY_EVERY: Duration = Duration::from_millis(250);
/// How long a put that is tried may take.
const PUT_MAX: Duration = Duration::from_secs(5);
/// What is put. No client puts a body of this id.
const BODY: Body = Body { id: BodyId(u64::MAX), len_bytes: 1024, forged: false };

impl Run {
    /// Asks every node every second whether it lives, for as long as the handles are kept.
    pub(super) fn watch_lives(&self) -> Vec<TaskHandle> {
        let Some(limit) = self.scenario.expect.up_within else { return Vec::new() };
        let watch = |machine: &Arc<Machine>| {
            let (place, court) = (self.operator(), self.court.clone());
            let tasks = place.tasks.clone();
            tasks.spawn("liveness", Box::pin(ask_for_life(place, court, machine.clone(), limit)))
        };
        self.machines.iter().map(watch).collect()
    }

    /// Waits until every node takes writes.
    pub(super) fn await_writes(&self, begun: Instant) -> Result<(), Judgement> {
        let Some(limit) = self.scenario.expect.writes_back_within else { return Ok(()) };
        for machine in &self.machines {
            let (place, machine) = (self.operator(), machine.clone());
            let work = async move {
                loop {
                    let said = match put(&place, &machine).await {
                        Ok(201) => return Ok(()),
                        Ok(status) => format!("status {status}"),
                        Err(failure) => failure.to_string(),
                    };
                    let waited = place.clock.now().since(begun);
                    writes_resume::check(&machine.name, &said, waited, limit)?;
                    place.clock.sleep(TRY_EVERY).await;
                }
            };
            match self.world.block_on(work, begun + limit + PUT_MAX * 4) {
                Ok(verdict) => self.court.evidence().judge(self.world.now(), verdict),
                Err(outcome) => return Err(self.engine_failed(&outcome)),
            }
            decided(&self.court)?;
        }
        Ok(())
    }
}

async fn ask_for_life(place: Place, court: Court, machine: Arc<Machine>, limit: Duration) {
    let mut known = 0;
    loop {
        place.clock.sleep(EVERY).await;
        let life = machine.life();
        // A process that began since the last look may have its listener still to bind.
        if std::mem::replace(&mut known, life) != life || life == 0 {
            continue;
        }
        let begun = place.clock.now();
        let ask = async { Connection::open(&place, machine.addr).await?.text("/up").await };
        // Longer than allowed, so that what is late can be told from what never comes.
        let answer = match timeout(&*place.clock, limit * 4, ask).await {
            Ok(Ok((status, _))) => Ok((status, place.clock.now().since(begun))),
            Ok(Err(failure)) => Err(failure.to_string()),
            Err(_) => Err(format!("no answer within {:?}", limit * 4)),
        };
        if machine.life() == life {
            let verdict = live_answers::check(&machine.name, &answer, limit);
            court.evidence().judge(place.clock.now(), verdict);
        }
    }
}

/// The status of a small put under a name that no client uses.
async fn put(place: &Place, machine: &Machine) -> Result<u16, Failure> {
    let ask = async {
        let mut connection = Connection::open(place, machine.addr).await?;
        let upload = Upload::new(BODY, Break::Never, None);
        let path = format!("/operator/{}", machine.name);
        Ok(connection.request(Method::PUT, &path, upload).await?.status)
    };
    match timeout(&*place.clock, PUT_MAX, ask).await {
        Ok(answered) => answered,
        Err(_) => Err(Failure::Timeout(PUT_MAX)),
    }
}
