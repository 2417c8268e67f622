//! A node whose peer plane lies, for a phase: whoever asks it as a peer is answered by somebody else. As a client of its
//! own peers, and to its clients, it is what it always was.

mod liar;

use std::{net::SocketAddr, sync::Arc};

use kura_env::{BoxFuture, Clock, Listener, Net, NetError, Stream, TaskHandle, Tasks};
use parking_lot::Mutex;

pub(super) use self::liar::Names;
use self::liar::{Liar, Talk};
use super::Run;
use crate::{
    draw::Draw,
    invariants::liars_are_contained,
    scenario::{EvilHow, Phase},
};

/// A network in which one address is answered by a liar.
pub(super) struct EvilNet {
    pub(super) net: Arc<dyn Net>,
    pub(super) tasks: Arc<dyn Tasks>,
    pub(super) clock: Arc<dyn Clock>,
    /// Where it lies.
    pub(super) addr: SocketAddr,
    pub(super) how: EvilHow,
    /// What its lies are about.
    pub(super) names: Names,
    pub(super) draw: Mutex<Draw>,
}

/// Takes connections and hands none of them on.
struct EvilListener {
    listener: Box<dyn Listener>,
    tasks: Arc<dyn Tasks>,
    liar: Arc<Liar>,
    talks: Mutex<Vec<TaskHandle>>,
}

impl Net for EvilNet {
    fn listen(&self, addr: SocketAddr) -> BoxFuture<'_, Result<Box<dyn Listener>, NetError>> {
        if addr != self.addr {
            return self.net.listen(addr);
        }
        Box::pin(async move {
            let listener = self.net.listen(addr).await?;
            let draw = Draw::named(self.draw.lock().next_u64(), "liar");
            let liar = Liar::new(self.how, self.clock.clone(), self.names.clone(), draw);
            let (tasks, talks) = (self.tasks.clone(), Mutex::default());
            let listener = EvilListener { listener, tasks, liar: Arc::new(liar), talks };
            Ok(Box::new(listener) as Box<dyn Listener>)
        })
    }

    fn connect(&self, addr: SocketAddr) -> BoxFuture<'_, Result<Box<dyn Stream>, NetError>> {
        self.net.connect(addr)
    }

    fn resolve<'a>(
        &'a self,
        name: &'a str,
        port: u16,
    ) -> BoxFuture<'a, Result<Vec<SocketAddr>, NetError>> {
        self.net.resolve(name, port)
    }
}

impl Listener for EvilListener {
    fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    fn accept(&self) -> BoxFuture<'_, Result<Box<dyn Stream>, NetError>> {
        Box::pin(async move {
            loop {
                let stream = self.listener.accept().await?;
                let talk = Talk { liar: self.liar.clone(), stream };
                self.talks.lock().push(self.tasks.spawn("liar", Box::pin(talk.run())));
            }
        })
    }
}

impl Run {
    /// Replaces the processes of the nodes that a phase says lie in it.
    pub(super) fn begin_lies(&self, phase: &Phase) {
        for position in self.scenario.positions(&phase.evil) {
            let machine = &self.machines[position];
            self.court.evidence().liars.insert(machine.peer_addr, self.world.now());
            machine.turn(Some(phase.evil_how));
        }
    }

    /// And has them be honest again.
    pub(super) fn end_lies(&self, phase: &Phase) {
        for position in self.scenario.positions(&phase.evil) {
            let machine = &self.machines[position];
            self.court.evidence().liars.remove(&machine.peer_addr);
            machine.turn(None);
        }
    }

    /// Judges what the catalogs hold of what liars told.
    pub(super) fn lies_are_not_stored(&self) {
        if self.scenario.phases.iter().all(|phase| phase.evil.is_empty()) {
            return;
        }
        for machine in &self.machines {
            let verdict = liars_are_contained::check_held(&machine.name, &machine.holdings());
            self.court.evidence().judge(self.world.now(), verdict);
        }
    }
}
