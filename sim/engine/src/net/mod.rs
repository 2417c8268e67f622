//! The network: connections between hosts over links with latency and shared bandwidth.
//!
//! What is written into a connection queues at the first link of its route. Each link serves the
//! flows that have something to send in turn, a quantum each, and hands the bytes on after its
//! latency: to the next link, or to the host. There a gate per ordered pair of hosts lets them
//! through, or holds them while the pair is cut. Reads give room back to the writer's window, and
//! the news of that travels back with the latency of the way back.
//!
//! Four endings are kept apart: *refused* (the host is up, nobody listens), *reset* (the other
//! process died, or threw unread bytes away), *end* (declared by `shutdown` or an orderly drop) and
//! *silence* (the host is off, or the way is cut).

mod conn;
mod control;
mod gate;
mod link;
mod listen;
mod stream;
mod transfer;

use std::{collections::BTreeMap, net::IpAddr, task::Waker, time::Duration};

pub use control::NetControl;
pub use gate::{Cut, CutAfter, Ending};
pub use link::{LinkConfig, LinkId, LinkStats};
pub(crate) use listen::SimNet;

use self::{
    conn::{Conn, Flow, Item, Packet},
    gate::Pair,
    link::Link,
    listen::{ListenKey, Listening},
};
use crate::{
    host::{NodeId, Power},
    shared::Shared,
    timer::Action,
};

/// The network's defaults.
#[derive(Clone, Debug)]
pub struct NetConfig {
    /// The link that an ordered pair of hosts gets of its own where no route was set.
    pub default_link: LinkConfig,
    /// How many bytes of one direction of a connection may be in flight or unread. Too low: one
    /// connection cannot fill a link with a long way. Too high: more memory, less back-pressure.
    pub window_bytes: u64,
    /// How many connections wait at a listener to be accepted. Further ones are tried again after
    /// `connect_retry`, as by a kernel whose SYN was dropped.
    pub backlog_max: usize,
    /// See `backlog_max`.
    pub connect_retry: Duration,
    /// What a lost packet costs at least: its flow stands still for so long.
    pub retransmit: Duration,
}

impl Default for NetConfig {
    fn default() -> Self {
        Self {
            default_link: LinkConfig::default(),
            window_bytes: 256 << 10,
            backlog_max: 1024,
            connect_retry: Duration::from_secs(1),
            retransmit: Duration::from_millis(200),
        }
    }
}

/// What the network has set timers for.
pub(crate) enum NetEvent {
    /// A link has sent what it was sending.
    LinkFree(LinkId),
    /// Bytes reach another link of their route.
    Hop { flow: Flow, hop: usize, item: Item },
    /// A packet reaches the gate of its host.
    Arrive { from: NodeId, to: NodeId, packet: Packet },
}

pub(crate) struct Network {
    seed: u64,
    config: NetConfig,
    links: Vec<Link>,
    pairs: BTreeMap<(NodeId, NodeId), Pair>,
    /// By ids that are never used again.
    conns: BTreeMap<u64, Conn>,
    next_conn: u64,
    listeners: BTreeMap<ListenKey, Listening>,
    next_listener: u64,
    names: BTreeMap<String, Vec<IpAddr>>,
    /// Connects that wait for a host without power: whoever asks again is answered once it is back.
    stranded: BTreeMap<NodeId, Vec<u64>>,
    bytes_delivered: u64,
    cuts_fired: u64,
}

/// One call into the network: what it needs of the world, and the wakers to wake or drop when its
/// lock is free again.
pub(crate) struct Moment<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) now_nanos: u64,
    wake: Vec<Waker>,
    stale: Vec<Waker>,
}

impl Moment<'_> {
    fn wake(&mut self, slot: &mut Option<Waker>) {
        self.wake.extend(slot.take());
    }

    fn park(&mut self, slot: &mut Option<Waker>, waker: &Waker) {
        if !slot.as_ref().is_some_and(|parked| parked.will_wake(waker)) {
            self.stale.extend(slot.replace(waker.clone()));
        }
    }

    fn at(&self, at_nanos: u64, event: NetEvent) {
        self.shared.timers.lock().set(at_nanos, Action::Net(event));
    }
}

impl Shared {
    pub(crate) fn with_net<R>(&self, work: impl FnOnce(&mut Network, &mut Moment<'_>) -> R) -> R {
        let mut moment = Moment {
            shared: self,
            now_nanos: self.now_nanos(),
            wake: Vec::new(),
            stale: Vec::new(),
        };
        let result = work(&mut self.net.lock(), &mut moment);
        moment.wake.into_iter().for_each(Waker::wake);
        result
    }
}

impl Network {
    pub(crate) fn new(seed: u64, config: NetConfig) -> Self {
        Self {
            seed,
            config,
            links: Vec::new(),
            pairs: BTreeMap::new(),
            conns: BTreeMap::new(),
            next_conn: 0,
            listeners: BTreeMap::new(),
            next_listener: 0,
            names: BTreeMap::new(),
            stranded: BTreeMap::new(),
            bytes_delivered: 0,
            cuts_fired: 0,
        }
    }

    pub(crate) fn happen(&mut self, event: NetEvent, moment: &mut Moment<'_>) {
        match event {
            NetEvent::LinkFree(id) => self.link_free(id, moment),
            NetEvent::Hop { flow, hop, item } => self.enqueue(flow, hop, item, moment),
            NetEvent::Arrive { from, to, packet } => self.arrive(from, to, packet, moment),
        }
    }

    pub(crate) fn bytes_delivered(&self) -> u64 {
        self.bytes_delivered
    }

    /// The process of a host, or the host itself, is gone.
    pub(crate) fn host_died(&mut self, node: NodeId, power: Power, moment: &mut Moment<'_>) {
        self.listeners.retain(|key, listening| {
            let stays = key.node != node;
            if !stays {
                moment.stale.append(&mut listening.acceptors);
            }
            stays
        });
        let touched: Vec<u64> = self.conns_of(node);
        for id in touched {
            self.end_died(id, node, power, moment);
        }
    }

    /// A host is back: it answers what was sent to it meanwhile.
    pub(crate) fn host_started(&mut self, node: NodeId, moment: &mut Moment<'_>) {
        for id in self.stranded.remove(&node).unwrap_or_default() {
            if let Some(conn) = self.conns.get(&id) {
                let from = conn.client_node();
                self.send_packet(from, node, Packet::Connect(id), moment);
            }
        }
        for id in self.conns_of(node) {
            self.answer_lost(id, node, moment);
        }
    }

    fn conns_of(&self, node: NodeId) -> Vec<u64> {
        let mine = self.conns.iter().filter(|(_, conn)| conn.touches(node));
        mine.map(|(id, _)| *id).collect()
    }

    /// Forgets everything; the parts are returned to be dropped without the lock.
    pub(crate) fn clear(&mut self) -> impl Sized + use<> {
        (
            std::mem::take(&mut self.conns),
            std::mem::take(&mut self.listeners),
            std::mem::take(&mut self.pairs),
        )
    }
}
