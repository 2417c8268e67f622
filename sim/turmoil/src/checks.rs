//! What the stories do as clients and operators, judged by the invariants of the main simulator.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use http::Method;
use kura_env::Instant;
use sim::{
    body::Body,
    client::{
        Ask, Break, Reader, Seen, Upload,
        connection::{Connection, Failure},
    },
    draw::Draw,
    gone::Gone,
    history::{Put, PutOutcome},
    holdings::{self, Holder, Holdings, Missing},
    invariants::{
        Violation, appended_once,
        mesh_heals::{self, Beat, Path, Pulse},
        no_orphan_at_rest, reference_in_ring_or_miss, staging_bounded, true_digest, whole_body,
    },
};

use crate::{
    machine::{Machine, PEER_WAIT},
    world::Stage,
};

/// How often a node is asked whether it is ready, and a device whether it is at rest.
const LOOK: Duration = Duration::from_millis(100);
/// How long a client waits for an answer.
const ANSWER: Duration = Duration::from_secs(60);
/// How long a node may take until nothing is left to be cleared away.
const REST_MAX: Duration = Duration::from_secs(60);
/// turmoil models no bandwidth; this is far below what its disk and its segments let through.
const BYTES_PER_SECOND: u64 = 1 << 20;
/// Above the longest way there and back that the engine draws.
const ROUND_TRIP: Duration = Duration::from_millis(250);

/// Puts so many bodies of drawn lengths to a node, each under a key of its own, and waits until all
/// are acknowledged. A node that reads its data back says 503, and is asked again.
pub(crate) async fn fill(stage: &Stage, node: usize, count: u64, longest_bytes: u64) {
    let mut draw = Draw::named(stage.seed, &format!("bodies of {node}"));
    for number in 0..count {
        let id = stage.court.evidence().history.next_body();
        let len_bytes = draw.octaves(1 << 10, longest_bytes);
        let body = Body { id, len_bytes, forged: draw.chance(100_000) };
        let path = format!("/builds/{}/{number}", stage.machines[node].name);
        while put(stage, node, &path, body).await != Some(()) {
            stage.sleep(LOOK).await;
        }
    }
    stage.tell(format!("{} took in {count} bodies", stage.machines[node].name));
}

/// One put, judged; nothing if it was not acknowledged.
async fn put(stage: &Stage, node: usize, path: &str, body: Body) -> Option<()> {
    let at = stage.machines[node].index;
    let start = stage.now();
    let outcome = PutOutcome::Unknown;
    let put = Put { body, start, end: None, outcome, fraud: None };
    let id = stage.court.evidence().history.begin_put(at, path, put);
    let sending = async {
        let mut connection = Connection::open(&stage.place, stage.addr(node)).await?;
        let upload = Upload::new(body, Break::Never, None);
        let answer = connection.request(Method::PUT, path, upload).await?;
        Ok::<_, Failure>((answer.status, answer.sequence))
    };
    let sent = kura_env::timeout(&*stage.place.clock, ANSWER, sending).await;
    let now = stage.now();
    let mut evidence = stage.court.evidence();
    let outcome = match sent {
        Ok(Ok((status, sequence))) => {
            evidence.history.saw_status(status);
            match sequence.filter(|_| (200..300).contains(&status)) {
                Some(sequence) => PutOutcome::Acked(sequence),
                None => PutOutcome::Unknown,
            }
        }
        Ok(Err(_)) | Err(_) => PutOutcome::Unknown,
    };
    evidence.history.end_put((at, path), id, now, outcome);
    if matches!(outcome, PutOutcome::Acked(_)) {
        evidence.judge(now, whole_body::check_acknowledgement(path, &body, body.len_bytes, None));
        evidence.judge(now, true_digest::check_acknowledgement(path, &body, None));
        return Some(());
    }
    None
}

/// Waits until these nodes are ready and lack nothing of each other, within the bound of
/// `mesh_heals`.
///
/// # Errors
///
/// If they are not, in time.
pub(crate) async fn await_ready(stage: &Stage, nodes: &[usize]) -> Result<(), Violation> {
    let begun = stage.now();
    let path =
        Path { bytes_per_second: BYTES_PER_SECOND, round_trip: ROUND_TRIP, peer_wait: PEER_WAIT };
    let mut pulse = Pulse::new(begun, mesh_heals::bound(&missing(stage, nodes), path));
    loop {
        let mut unready = Vec::new();
        for node in nodes {
            unready.extend(asked(stage, *node).await);
        }
        match pulse.check(stage.now(), &missing(stage, nodes), &unready)? {
            Beat::Over => break,
            Beat::Wait => stage.sleep(LOOK).await,
        }
    }
    let names: Vec<&str> = nodes.iter().map(|node| &*stage.machines[*node].name).collect();
    stage.tell(format!("ready after {:?}: {}", stage.now().since(begun), names.join(", ")));
    Ok(())
}

/// Why a node is not ready, asked over HTTP; nothing if it is.
async fn asked(stage: &Stage, node: usize) -> Option<String> {
    let machine = &stage.machines[node];
    let asking = async {
        let mut connection = Connection::open(&stage.place, machine.addr).await?;
        connection.text("/ready").await
    };
    let why = match kura_env::timeout(&*stage.place.clock, ANSWER, asking).await {
        Ok(Ok((200, _))) => return None,
        Ok(Ok((status, text))) => format!("{status} {}", text.trim()),
        Ok(Err(failure)) => failure.to_string(),
        Err(elapsed) => elapsed.to_string(),
    };
    Some(machine.unready().unwrap_or_else(|| format!("{}: {why}", machine.name)))
}

/// What each of these nodes lacks of what another one can deliver.
fn missing(stage: &Stage, nodes: &[usize]) -> Vec<Missing> {
    let machines: Vec<&Machine> = nodes.iter().map(|node| &*stage.machines[*node]).collect();
    let holds: Vec<Holdings> = machines.iter().map(|machine| machine.holdings()).collect();
    let spoilt: Vec<BTreeSet<Bytes>> = machines.iter().map(|machine| machine.spoilt()).collect();
    // The stories are small: no ring turns, so nothing is evicted, and there is room for everything.
    let gone = Gone::default();
    let holders = machines.iter().zip(&holds).zip(&spoilt).map(|((machine, holds), spoilt)| {
        Holder { node: &machine.name, holds, spoilt, gone: &gone }
    });
    holdings::compare(&holders.collect::<Vec<_>>()).missing
}

/// Reads every key that anything was put to, on each of these nodes: all bodies are there and
/// right, but for those that were spoilt before anybody could fetch them.
///
/// # Errors
///
/// If one is missing; whatever else is wrong goes to the court.
pub(crate) async fn read_back(stage: &Stage, nodes: &[usize]) -> Result<(), Violation> {
    let paths: BTreeSet<String> = {
        let evidence = stage.court.evidence();
        evidence.history.keys().map(|(_, path)| path.to_owned()).collect()
    };
    let is_lost = |path: &str| {
        let evidence = stage.court.evidence();
        stage.machines.iter().any(|machine| evidence.history.is_spoilt(machine.index, path))
    };
    let (mut hits, mut lost) = (0, 0);
    for node in nodes {
        for path in &paths {
            let seen = read(stage, *node, path).await;
            match seen {
                Ok(Seen::Hit(_)) => hits += 1,
                Ok(Seen::Miss | Seen::Refused(_)) | Err(_) if is_lost(path) => lost += 1,
                Ok(Seen::Miss | Seen::Refused(_)) | Err(_) => {
                    return Err(mesh_heals::INVARIANT.violated(format!(
                        "GET {path} of {}, which is ready: {seen:?}, though it was acknowledged",
                        stage.machines[*node].name
                    )));
                }
            }
        }
    }
    stage.tell(format!("{hits} bodies were read back, {lost} could not be, as was to be expected"));
    Ok(())
}

async fn read(stage: &Stage, node: usize, path: &str) -> Result<Seen, Failure> {
    let start: Instant = stage.now();
    let reading = async {
        let mut connection = Connection::open(&stage.place, stage.addr(node)).await?;
        let clock = &*stage.place.clock;
        let mut reader = Reader { court: &stage.court, connection: &mut connection, clock };
        reader.get(Ask { node: stage.machines[node].index, path, start }).await
    };
    let read = kura_env::timeout(&*stage.place.clock, ANSWER, reading).await;
    read.unwrap_or(Err(Failure::Timeout(ANSWER)))
}

/// Waits until nothing is left to be cleared away, and judges what lies there.
///
/// # Errors
///
/// If something is wrong, and stays so.
pub(crate) async fn await_rest(stage: &Stage) -> Result<(), Violation> {
    let deadline = stage.now() + REST_MAX;
    for machine in &stage.machines {
        loop {
            match at_rest(machine) {
                Ok(()) => break,
                Err(violation) if stage.now() >= deadline => return Err(violation),
                Err(_) => stage.sleep(LOOK).await,
            }
        }
    }
    Ok(())
}

fn at_rest(machine: &Machine) -> Result<(), Violation> {
    let image = machine.image();
    staging_bounded::check_rest(&machine.name, image.below("tmp"))?;
    no_orphan_at_rest::check(&machine.name, &image, |_| false)?;
    let spoilt = machine.spoilt();
    appended_once::check(&machine.name, &image, &spoilt)?;
    // A row of what was spoilt stays until somebody asks for it.
    if !spoilt.is_empty() {
        return Ok(());
    }
    reference_in_ring_or_miss::check(&machine.name, &image, |_| false)
}
