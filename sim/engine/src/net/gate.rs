//! The gate of an ordered pair of hosts, where the faults of the network act: what arrives is let
//! through, held until the pair is healed, or answered with an ending.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use super::{
    LinkId, Moment, Network,
    conn::{Flow, Item, Packet, Side, len_bytes},
};
use crate::{config::nanos, host::NodeId, journal::Event};

/// How two hosts are cut off from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Both are told: connects are refused, open connections are reset.
    Refuse,
    /// Neither hears anything. What is sent is held and arrives after healing, as by
    /// retransmission.
    Silent,
    /// Nothing gets from the first to the second, held like that; the other direction works.
    OneWay,
    /// Connections that are open carry nothing more, for ever, and neither end is told, as by a firewall that forgot
    /// them; new ones work. Nothing is left of it to heal.
    Forget,
}

/// How a connection that is cut in the middle ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Both ends see a reset.
    Reset,
    /// Both ends hear nothing more, for ever.
    Silent,
    /// The receiver sees an orderly end, as by a proxy in between; the sender a reset.
    End,
}

/// A cut of one connection after a number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutAfter {
    /// How many more bytes get through.
    pub bytes: u64,
    /// What happens then.
    pub ending: Ending,
}

struct Armed {
    cut: CutAfter,
    /// The first flow that delivered something since, and how much it still may.
    victim: Option<(Flow, u64)>,
}

pub(super) struct Pair {
    pub(super) path: Arc<[LinkId]>,
    pub(super) window_bytes: u64,
    pub(super) delay_nanos: u64,
    pub(super) refused: bool,
    blocked: bool,
    held: VecDeque<Packet>,
    armed: Option<Armed>,
}

impl Network {
    /// The ordered pair; made with a link of its own where no route was set.
    pub(super) fn pair(&mut self, from: NodeId, to: NodeId, moment: &Moment<'_>) -> &mut Pair {
        if !self.pairs.contains_key(&(from, to)) {
            let path: Arc<[LinkId]> = if from == to {
                [].into()
            } else {
                let name = {
                    let hosts = moment.shared.hosts.lock();
                    format!("{}>{}", hosts.name(from), hosts.name(to))
                };
                [self.add_link(&name, self.config.default_link)].into()
            };
            let pair = Pair {
                path,
                window_bytes: self.config.window_bytes,
                delay_nanos: 0,
                refused: false,
                blocked: false,
                held: VecDeque::new(),
                armed: None,
            };
            self.pairs.insert((from, to), pair);
        }
        self.pairs.get_mut(&(from, to)).expect("it was there or was just put there")
    }

    pub(super) fn latency_nanos(&mut self, from: NodeId, to: NodeId, moment: &Moment<'_>) -> u64 {
        let pair = self.pair(from, to, moment);
        let (path, delay_nanos) = (Arc::clone(&pair.path), pair.delay_nanos);
        self.path_nanos(&path) + delay_nanos
    }

    /// A packet reaches its host's gate.
    pub(super) fn arrive(
        &mut self,
        from: NodeId,
        to: NodeId,
        packet: Packet,
        moment: &mut Moment<'_>,
    ) {
        let pair = self.pair(from, to, moment);
        if pair.blocked {
            pair.held.push_back(packet);
            return;
        }
        match packet {
            Packet::Data(flow, item) => {
                let armed = pair.armed.is_some();
                if self.is_muted(flow.conn) {
                    return;
                }
                if armed {
                    self.deliver_to_cut(flow, item, (from, to), moment);
                } else {
                    self.deliver(flow, item, moment);
                }
            }
            Packet::Room(flow, bytes) if !self.is_muted(flow.conn) => {
                self.make_room(flow, bytes, moment);
            }
            Packet::Reset(id, side) if !self.is_muted(id) => self.reset_arrived(id, side, moment),
            Packet::Room(..) | Packet::Reset(..) => {}
            Packet::Connect(id) => self.connect_arrived(id, moment),
            Packet::Accepted(id) => self.accepted_arrived(id, moment),
            Packet::Refused(id) => self.refused_arrived(id, moment),
        }
    }

    fn is_muted(&self, id: u64) -> bool {
        self.conns.get(&id).is_some_and(|conn| conn.muted)
    }

    /// Delivers what the armed cut of this pair allows, and cuts.
    fn deliver_to_cut(
        &mut self,
        flow: Flow,
        item: Item,
        (from, to): (NodeId, NodeId),
        moment: &mut Moment<'_>,
    ) {
        let conns = &self.conns;
        let pair = self.pairs.get_mut(&(from, to)).expect("an armed pair exists");
        let armed = pair.armed.as_mut().expect("the caller saw it armed");
        let gone = armed.victim.is_some_and(|(victim, _)| !conns.contains_key(&victim.conn));
        if gone {
            armed.victim = None;
        }
        let (victim, left_bytes) = armed.victim.get_or_insert((flow, armed.cut.bytes));
        let len = item.len_bytes();
        if *victim != flow || len < *left_bytes {
            if *victim == flow {
                *left_bytes -= len;
            }
            self.deliver(flow, item, moment);
            return;
        }
        let (left_bytes, ending) = (*left_bytes, armed.cut.ending);
        pair.armed = None;
        self.cuts_fired += 1;
        moment.shared.record(Event::Fault, [flow.conn, left_bytes], || {
            format!("{from}>{to} c{} is cut: {ending:?}", flow.conn)
        });
        if let Item::Bytes(mut bytes) = item
            && left_bytes > 0
        {
            bytes.truncate(usize::try_from(left_bytes).unwrap_or(usize::MAX));
            debug_assert_eq!(len_bytes(bytes.len()), left_bytes, "the rest of what may pass");
            self.deliver(flow, Item::Bytes(bytes), moment);
        }
        self.end_as(flow, ending, moment);
    }

    fn end_as(&mut self, flow: Flow, ending: Ending, moment: &mut Moment<'_>) {
        let receiver = flow.side.other();
        match ending {
            Ending::Reset => {
                self.reset_arrived(flow.conn, receiver, moment);
                self.reset_arrived(flow.conn, flow.side, moment);
            }
            Ending::Silent => self.mute(flow.conn),
            Ending::End => {
                self.deliver(flow, Item::End, moment);
                self.reset_arrived(flow.conn, flow.side, moment);
            }
        }
    }

    pub(super) fn cut(&mut self, first: NodeId, second: NodeId, cut: Cut, moment: &mut Moment<'_>) {
        match cut {
            Cut::Refuse => {
                self.pair(first, second, moment).refused = true;
                self.pair(second, first, moment).refused = true;
                self.reset_pair(first, second, moment);
            }
            Cut::Silent => {
                self.pair(first, second, moment).blocked = true;
                self.pair(second, first, moment).blocked = true;
            }
            Cut::OneWay => self.pair(first, second, moment).blocked = true,
            Cut::Forget => {
                for id in self.between(first, second) {
                    self.mute(id);
                }
            }
        }
    }

    /// Ends every cut between two hosts; what was held arrives now, in its order.
    pub(super) fn heal(&mut self, first: NodeId, second: NodeId, moment: &mut Moment<'_>) {
        for (from, to) in [(first, second), (second, first)] {
            let pair = self.pair(from, to, moment);
            pair.refused = false;
            pair.blocked = false;
            for packet in std::mem::take(&mut pair.held) {
                self.arrive(from, to, packet, moment);
            }
        }
    }

    /// Resets every connection between two hosts, at both ends. Returns how many there were.
    pub(super) fn reset_pair(
        &mut self,
        first: NodeId,
        second: NodeId,
        moment: &mut Moment<'_>,
    ) -> usize {
        let hit = self.between(first, second);
        for &id in &hit {
            self.reset_arrived(id, Side::Client, moment);
            self.reset_arrived(id, Side::Server, moment);
        }
        hit.len()
    }

    /// The connections between two hosts, whichever of them connected.
    fn between(&self, first: NodeId, second: NodeId) -> Vec<u64> {
        let both = |nodes| nodes == (first, second) || nodes == (second, first);
        let hit = self.conns.iter().filter(|(_, conn)| both(conn.direction(Side::Client)));
        hit.map(|(id, _)| *id).collect()
    }

    /// Nothing that is sent over a connection arrives any more.
    fn mute(&mut self, id: u64) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.muted = true;
        }
    }

    pub(super) fn arm(&mut self, from: NodeId, to: NodeId, cut: CutAfter, moment: &Moment<'_>) {
        self.pair(from, to, moment).armed = Some(Armed { cut, victim: None });
    }

    pub(super) fn set_delay(
        &mut self,
        from: NodeId,
        to: NodeId,
        delay: Duration,
        moment: &Moment<'_>,
    ) {
        self.pair(from, to, moment).delay_nanos = nanos(delay);
    }
}
