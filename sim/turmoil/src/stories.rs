//! The stories, in a small form: three nodes, tens of artifacts. Named as the scenarios of the main
//! simulator that they tell again.

use std::time::Duration;

use bytes::Bytes;
use fault_injection::{Cut, Fault, FaultId, Plan, What, When};
use kura_core::place::Place;
use sim::{draw::Draw, invariants::Violation};

use crate::{
    checks::{await_ready, await_rest, fill, read_back},
    machine::{Machine, name},
    world::{NODES, Play, Stage},
};

/// All nodes.
const ALL: [usize; NODES] = [0, 1, 2];

/// Every play.
pub(crate) const PLAYS: [Play; 3] = [
    Play {
        scenario: "full_mesh_cold_start",
        plan: broken_talks,
        story: |stage| Box::pin(full_mesh_cold_start(stage)),
    },
    Play {
        scenario: "short_segment_is_never_served",
        plan: |_| Plan::default(),
        story: |stage| Box::pin(short_segment_is_never_served(stage)),
    },
    Play {
        scenario: "one_transient_error_joins_for_ever",
        plan: one_talk_fails,
        story: |stage| Box::pin(one_transient_error_joins_for_ever(stage)),
    },
];

/// Each node takes in builds alone; then all start at once. Some bodies are rotten on the only node
/// that has them, and some talks break in the middle.
async fn full_mesh_cold_start(stage: Stage) -> Result<(), Violation> {
    let mut draw = Draw::named(stage.seed, "cold start");
    for node in ALL {
        stage.start(&[node]).await;
        fill(&stage, node, 40, 64 << 10).await;
        stage.kill(&[node]).await;
        spoil(&stage, node, &mut draw, Machine::rot)?;
    }
    stage.tell("all start at once".to_owned());
    stage.start(&ALL).await;
    converge(&stage).await
}

/// Files of a node that serves end early; what is cut off is never served as if it were whole, and
/// empty nodes come to have all the rest.
async fn short_segment_is_never_served(stage: Stage) -> Result<(), Violation> {
    let mut draw = Draw::named(stage.seed, "short segment");
    stage.start(&[0]).await;
    fill(&stage, 0, 40, 96 << 10).await;
    spoil(&stage, 0, &mut draw, Machine::cut_off)?;
    if draw.chance(500_000) {
        read_back(&stage, &[0]).await?;
    }
    stage.start(&[1, 2]).await;
    converge(&stage).await
}

/// Two nodes hold the data and a third one comes up empty; something breaks on its way, once.
async fn one_transient_error_joins_for_ever(stage: Stage) -> Result<(), Violation> {
    let mut draw = Draw::named(stage.seed, "transient error");
    stage.start(&[0, 1]).await;
    fill(&stage, 0, 30, 96 << 10).await;
    fill(&stage, 1, 30, 96 << 10).await;
    let parted = draw.chance(500_000);
    if parted {
        stage.partition(2).await;
    }
    stage.start(&[2]).await;
    if parted {
        let lasts = Duration::from_millis(draw.between(10, 20_000));
        stage.sleep(lasts).await;
        stage.tell(format!("the partition ends after {lasts:?}"));
        stage.repair(2).await;
    }
    converge(&stage).await
}

/// All become ready by themselves and hold the same, byte by byte.
async fn converge(stage: &Stage) -> Result<(), Violation> {
    await_ready(stage, &ALL).await?;
    stage.injector.calm();
    read_back(stage, &ALL).await?;
    await_rest(stage).await
}

/// Spoils one or two drawn artifacts of a node. A story in which nothing could be spoilt would tell
/// nothing.
fn spoil(
    stage: &Stage,
    node: usize,
    draw: &mut Draw,
    how: fn(&Machine, &(Bytes, Place)),
) -> Result<(), Violation> {
    let machine = &stage.machines[node];
    let settled = machine.settled();
    let count = u64::try_from(settled.len()).unwrap_or(u64::MAX);
    for _ in 0..draw.between(1, 2) {
        let drawn = usize::try_from(draw.below(count)).unwrap_or(usize::MAX);
        let Some(drawn) = settled.get(drawn) else {
            let reason = format!("{} has no full segment to spoil", machine.name);
            return Err(Violation { invariant: "expect.spoilt", reason });
        };
        how(machine, drawn);
    }
    Ok(())
}

/// Every node loses some of its talks with peers.
fn broken_talks(seed: u64) -> Plan {
    let mut draw = Draw::named(seed, "broken talks");
    let mut faults = Vec::new();
    for node in ALL {
        let nth = draw.between(1, 8);
        let times = draw.between(1, 4);
        faults.push(talk(&mut draw, node, (nth, times)));
    }
    numbered(faults)
}

/// The third node loses one of its first talks, or two in a row.
fn one_talk_fails(seed: u64) -> Plan {
    let mut draw = Draw::named(seed, "one talk fails");
    let nth = draw.between(1, 8);
    let times = draw.between(1, 2);
    numbered(vec![talk(&mut draw, 2, (nth, times))])
}

fn numbered(mut faults: Vec<Fault>) -> Plan {
    for (number, fault) in (1..).zip(&mut faults) {
        fault.id = FaultId(number);
    }
    Plan { faults }
}

/// A connection to a peer is refused, or ends after a while in one way or another.
fn talk(draw: &mut Draw, node: usize, (nth, times): (u64, u64)) -> Fault {
    let after_bytes = draw.octaves(1, 256 << 10);
    let what = match draw.below(4) {
        0 => What::NetRefuse,
        1 => What::NetCut { after_bytes, how: Cut::Reset },
        2 => What::NetCut { after_bytes, how: Cut::Eof },
        _ => What::NetCut { after_bytes, how: Cut::Silence },
    };
    Fault {
        id: FaultId(0),
        node: name(node),
        when: When::EffectMatching { label: "connect *:7000".to_owned(), nth },
        what,
        times: u32::try_from(times).unwrap_or(1),
    }
}
