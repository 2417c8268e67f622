//! What pages of nodes that catch up show, beside what has come to them.

use std::{sync::Arc, time::Duration};

use kura_env::{Clock, TaskHandle};
use kura_node::service::State;
use sim_engine::NodeId;

use super::{Run, machine::Machine};
use crate::{court::Court, invariants::progress_is_visible};

/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// One node as it was seen last.
struct Seen {
    machine: Arc<Machine>,
    /// What its page said of its passes, and in which life.
    page: (u64, Vec<serde_json::Value>),
    /// What it held of others when that was new.
    bytes: u64,
}

impl Run {
    /// Watches the pages of all nodes, for as long as the handle is kept.
    pub(super) fn watch_progress(&self) -> Option<TaskHandle> {
        if !self.scenario.expect.progress_visible {
            return None;
        }
        let see = |machine: &Arc<Machine>| {
            let (machine, page) = (machine.clone(), (0, Vec::new()));
            Seen { machine, page, bytes: 0 }
        };
        let all: Vec<Seen> = self.machines.iter().map(see).collect();
        let bodies = self.scenario.clients.iter().map(|client| client.body_bytes_max);
        let (clock, court) = (self.world.clock(NodeId::OPERATOR), self.court.clone());
        let work = watch(all, clock, court, bodies.max().unwrap_or(0));
        Some(self.world.spawn(NodeId::OPERATOR, "progress", work))
    }
}

async fn watch(mut all: Vec<Seen>, clock: Arc<dyn Clock>, court: Court, largest: u64) {
    let peers = all.len();
    loop {
        clock.sleep(LOOK).await;
        for seen in all.iter_mut().filter(|it| it.machine.state() == Some(State::Joining)) {
            let bytes = seen.came_unseen();
            let name = &seen.machine.name;
            let verdict = progress_is_visible::check(name, bytes, peers, largest);
            court.evidence().judge(clock.now(), verdict);
        }
    }
}

impl Seen {
    /// Bytes that have come from others since the page said something new.
    fn came_unseen(&mut self) -> u64 {
        let page = (self.machine.life(), shown(&self.machine.cluster()));
        let node = self.machine.node();
        let held = self.machine.holdings();
        let theirs = held.values().filter(|it| Some(it.version.node) != node);
        let bytes = theirs.map(|it| it.body_bytes).sum();
        if page != self.page {
            (self.page, self.bytes) = (page, bytes);
        }
        bytes.saturating_sub(self.bytes)
    }
}

/// What a page says of passes and of what follows them.
fn shown(cluster: &serde_json::Value) -> Vec<serde_json::Value> {
    let peers = cluster["peers"].as_array().into_iter().flatten();
    let of = |peer: &serde_json::Value| {
        let pass = &peer["pass"];
        [&peer["passes"], &peer["lag"], &peer["fetched"], &pass["done"]].map(Clone::clone)
    };
    peers.flat_map(of).collect()
}
