//! Links: latency, and bandwidth shared between the flows that cross them.
//!
//! A link sends one quantum of one flow at a time, in turn: a flow with less to send than its share
//! leaves the rest to the others, which is max-min fairness at the grain of a quantum. A quantum is
//! what the link sends in a millisecond, so a newcomer waits at most that long for each flow that
//! was there before.

use std::{collections::VecDeque, time::Duration};

use super::{
    Moment, NetEvent, Network,
    conn::{Flow, Item, Packet},
};
use crate::{
    config::{nanos, transfer_nanos},
    entropy::KeyedStream,
};

/// A link of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkId(usize);

/// How a link behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkConfig {
    /// How long everything is on its way.
    pub latency: Duration,
    /// How many bytes the link sends in a second, all flows together; no limit if `None`.
    pub bandwidth_bytes_per_second: Option<u64>,
    /// Up to how much longer bytes may be on their way; drawn evenly. They never overtake each
    /// other within a flow.
    pub jitter_max: Duration,
    /// How many of a million quanta are lost and sent again. Loss is delay: the flow stands still
    /// for [`crate::NetConfig::retransmit`], or twice the latency if that is more.
    pub loss_per_million: u32,
}

impl Default for LinkConfig {
    /// Half a millisecond, 10 Gbit/s, no jitter, no loss.
    fn default() -> Self {
        Self {
            latency: Duration::from_micros(500),
            bandwidth_bytes_per_second: Some(1_250_000_000),
            jitter_max: Duration::ZERO,
            loss_per_million: 0,
        }
    }
}

/// What a link has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Bytes sent.
    pub bytes: u64,
    /// How long it was sending, in nanoseconds.
    pub busy_nanos: u64,
}

pub(super) struct Link {
    pub(super) name: String,
    pub(super) config: LinkConfig,
    pub(super) stalled: bool,
    pub(super) stats: LinkStats,
    sending: bool,
    /// The flows that have something to send, each once, with the hop of their route that this
    /// link is.
    turns: VecDeque<(Flow, usize)>,
    /// What is left of the quantum of the first flow; 0 if it has not begun.
    turn_left_bytes: u64,
    /// The first flow has used its quantum up and has more to send. It goes to the back when the
    /// link is free, so behind those who came while it was sending.
    turn_over: bool,
    chance: KeyedStream,
}

/// Bounds of a quantum: one Ethernet frame's payload, and what one write is cut into.
const QUANTUM_BYTES_MIN: u64 = 1_460;
const QUANTUM_BYTES_MAX: u64 = super::conn::CHUNK_BYTES_MAX;

impl Link {
    fn quantum_bytes(&self) -> u64 {
        self.config.bandwidth_bytes_per_second.map_or(QUANTUM_BYTES_MAX, |rate| {
            (rate / 1_000).clamp(QUANTUM_BYTES_MIN, QUANTUM_BYTES_MAX)
        })
    }

    fn end_turn(&mut self) {
        self.turns.pop_front();
        self.turn_left_bytes = 0;
    }

    /// How long something that leaves the link now is on its way.
    fn travel_nanos(&mut self, retransmit: Duration) -> u64 {
        let latency_nanos = nanos(self.config.latency);
        let mut travel_nanos = latency_nanos;
        if !self.config.jitter_max.is_zero() {
            travel_nanos += self.chance.between(0, nanos(self.config.jitter_max));
        }
        if self.config.loss_per_million > 0 && self.chance.chance(self.config.loss_per_million) {
            travel_nanos += nanos(retransmit).max(2 * latency_nanos);
        }
        travel_nanos
    }
}

impl Network {
    pub(super) fn add_link(&mut self, name: &str, config: LinkConfig) -> LinkId {
        let chance = KeyedStream::new(self.seed, &[b"link", name.as_bytes()]);
        self.links.push(Link {
            name: name.to_owned(),
            config,
            stalled: false,
            stats: LinkStats::default(),
            sending: false,
            turns: VecDeque::new(),
            turn_left_bytes: 0,
            turn_over: false,
            chance,
        });
        LinkId(self.links.len() - 1)
    }

    pub(super) fn link(&mut self, id: LinkId) -> &mut Link {
        &mut self.links[id.0]
    }

    pub(super) fn path_nanos(&self, path: &[LinkId]) -> u64 {
        path.iter().map(|id| nanos(self.links[id.0].config.latency)).sum()
    }

    /// Puts `item` into the queue of its flow at this hop of the route, or past the last hop on its
    /// way to the gate.
    pub(super) fn enqueue(&mut self, flow: Flow, hop: usize, item: Item, moment: &mut Moment<'_>) {
        let Some(conn) = self.conns.get_mut(&flow.conn) else { return };
        let pipe = conn.pipe_mut(flow.side);
        let Some(&link_id) = pipe.path.get(hop) else {
            // Both ends on one host.
            let (from, to) = conn.direction(flow.side);
            let packet = Packet::Data(flow, item);
            moment.at(moment.now_nanos, NetEvent::Arrive { from, to, packet });
            return;
        };
        let queue = &mut pipe.hops[hop];
        queue.items.push_back(item);
        if !queue.has_turn {
            queue.has_turn = true;
            self.links[link_id.0].turns.push_back((flow, hop));
        }
        self.transmit(link_id, moment);
    }

    pub(super) fn link_free(&mut self, id: LinkId, moment: &mut Moment<'_>) {
        self.links[id.0].sending = false;
        self.transmit(id, moment);
    }

    /// Lets the link send until it is busy, stalled, or has nothing to send.
    pub(super) fn transmit(&mut self, id: LinkId, moment: &mut Moment<'_>) {
        loop {
            let link = &mut self.links[id.0];
            if link.sending || link.stalled {
                return;
            }
            if std::mem::take(&mut link.turn_over) {
                link.turns.rotate_left(1);
            }
            let Some(&(flow, hop)) = link.turns.front() else { return };
            let Some(conn) = self.conns.get_mut(&flow.conn) else {
                link.end_turn();
                continue;
            };
            if link.turn_left_bytes == 0 {
                link.turn_left_bytes = link.quantum_bytes();
            }
            let queue = &mut conn.pipe_mut(flow.side).hops[hop];
            let Some(item) = queue.take(link.turn_left_bytes) else {
                // A reset emptied the queue.
                queue.has_turn = false;
                link.end_turn();
                continue;
            };
            link.turn_left_bytes -= item.len_bytes();
            if queue.items.is_empty() {
                queue.has_turn = false;
                link.end_turn();
            } else {
                link.turn_over = link.turn_left_bytes == 0;
            }
            self.send_off(id, (flow, hop), item, moment);
        }
    }

    fn send_off(
        &mut self,
        id: LinkId,
        (flow, hop): (Flow, usize),
        item: Item,
        moment: &mut Moment<'_>,
    ) {
        let Some(conn) = self.conns.get_mut(&flow.conn) else { return };
        let link = &mut self.links[id.0];
        let rate = link.config.bandwidth_bytes_per_second.unwrap_or(0);
        let busy_nanos = transfer_nanos(item.len_bytes(), rate);
        link.stats.bytes += item.len_bytes();
        link.stats.busy_nanos += busy_nanos;
        let mut at_nanos =
            moment.now_nanos + busy_nanos + link.travel_nanos(self.config.retransmit);
        let (from, to) = conn.direction(flow.side);
        let pipe = conn.pipe_mut(flow.side);
        let last = hop + 1 == pipe.path.len();
        if last {
            at_nanos += self.pairs.get(&(from, to)).map_or(0, |pair| pair.delay_nanos);
        }
        let queue = &mut pipe.hops[hop];
        at_nanos = at_nanos.max(queue.last_arrival_nanos);
        queue.last_arrival_nanos = at_nanos;
        let event = if last {
            NetEvent::Arrive { from, to, packet: Packet::Data(flow, item) }
        } else {
            NetEvent::Hop { flow, hop: hop + 1, item }
        };
        moment.at(at_nanos, event);
        if busy_nanos > 0 {
            link.sending = true;
            moment.at(moment.now_nanos + busy_nanos, NetEvent::LinkFree(id));
        }
    }
}
