//! A connection: two ends and a pipe in each direction.
//!
//! An end goes through three states. *Held*: a stream, a backlog or a connect under way owns it.
//! Not held: it was dropped in good order and the host goes on sending what was accepted. *Dead*:
//! the host knows nothing of it any more, and answers whatever arrives with a reset.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc, task::Waker};

use bytes::Bytes;

use super::{LinkId, Moment, NetEvent, Network};
use crate::{
    host::{NodeId, Power},
    journal::Event,
};

/// What one write is cut into.
pub(super) const CHUNK_BYTES_MAX: u64 = 64 << 10;

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Client,
    Server,
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }

    fn index(self) -> usize {
        match self {
            Self::Client => 0,
            Self::Server => 1,
        }
    }
}

/// One direction of a connection: what `side` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Flow {
    pub(crate) conn: u64,
    pub(crate) side: Side,
}

impl Flow {
    pub(super) fn number(self) -> u64 {
        self.conn * 2 + u64::from(self.side == Side::Server)
    }

    pub(super) fn back(self) -> Self {
        Self { conn: self.conn, side: self.side.other() }
    }
}

/// What travels along a flow, in order.
pub(crate) enum Item {
    Bytes(Bytes),
    End,
}

impl Item {
    pub(super) fn len_bytes(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => len_bytes(bytes.len()),
            Self::End => 0,
        }
    }
}

/// What arrives at a host.
pub(crate) enum Packet {
    Data(Flow, Item),
    /// So many bytes of the flow were read.
    Room(Flow, u64),
    Connect(u64),
    Accepted(u64),
    Refused(u64),
    /// For this end of the connection.
    Reset(u64, Side),
}

pub(super) fn len_bytes(len: usize) -> u64 {
    u64::try_from(len).expect("a length fits into 64 bits")
}

/// What waits at one hop of a pipe's route.
#[derive(Default)]
pub(super) struct HopQueue {
    pub(super) items: VecDeque<Item>,
    /// Whether the link has it among its turns.
    pub(super) has_turn: bool,
    /// Nothing arrives at the next hop before what was sent earlier.
    pub(super) last_arrival_nanos: u64,
}

impl HopQueue {
    /// Takes the first item, or as much of it as `bytes_max` allows.
    pub(super) fn take(&mut self, bytes_max: u64) -> Option<Item> {
        let fits = self.items.front()?.len_bytes() <= bytes_max;
        match self.items.front_mut()? {
            Item::Bytes(bytes) if !fits => {
                let part_bytes = usize::try_from(bytes_max).unwrap_or(usize::MAX);
                Some(Item::Bytes(bytes.split_to(part_bytes)))
            }
            Item::Bytes(_) | Item::End => self.items.pop_front(),
        }
    }
}

pub(super) struct Pipe {
    pub(super) path: Arc<[LinkId]>,
    pub(super) hops: Vec<HopQueue>,
    pub(super) window_bytes: u64,
    /// Accepted from the writer and not yet known to be read. Never above `window_bytes`.
    pub(super) used_bytes: u64,
    /// The writer has declared the end.
    pub(super) ended: bool,
    pub(super) writer: Option<Waker>,
    /// Arrived and not yet read.
    pub(super) unread: VecDeque<Bytes>,
    /// The end has arrived.
    pub(super) end_arrived: bool,
    pub(super) reader: Option<Waker>,
    /// Read, and the writer not yet told.
    pub(super) read_bytes: u64,
    /// Something was swallowed by a host without power, so a reset will come once it is back.
    pub(super) lost: bool,
}

impl Pipe {
    pub(super) fn new(path: Arc<[LinkId]>, window_bytes: u64) -> Self {
        Self {
            hops: path.iter().map(|_| HopQueue::default()).collect(),
            path,
            window_bytes,
            used_bytes: 0,
            ended: false,
            writer: None,
            unread: VecDeque::new(),
            end_arrived: false,
            reader: None,
            read_bytes: 0,
            lost: false,
        }
    }
}

pub(super) struct End {
    pub(super) node: NodeId,
    pub(super) addr: SocketAddr,
    pub(super) held: bool,
    pub(super) dead: bool,
    /// What the holder is told: the other side reset the connection.
    pub(super) reset: bool,
}

impl End {
    pub(super) fn new(node: NodeId, addr: SocketAddr, held: bool) -> Self {
        Self { node, addr, held, dead: false, reset: false }
    }
}

/// How far the opening of a connection has come, as the client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Asked,
    Open,
    Refused,
}

pub(super) struct Conn {
    pub(super) ends: [End; 2],
    pub(super) pipes: [Pipe; 2],
    pub(super) phase: Phase,
    /// The server's host has heard of it.
    pub(super) arrived: bool,
    pub(super) connecting: Option<Waker>,
    /// A fault made it silent for good, in both directions.
    pub(super) muted: bool,
}

impl Conn {
    pub(super) fn end(&self, side: Side) -> &End {
        &self.ends[side.index()]
    }

    pub(super) fn end_mut(&mut self, side: Side) -> &mut End {
        &mut self.ends[side.index()]
    }

    /// The pipe that `side` writes into.
    pub(super) fn pipe(&self, side: Side) -> &Pipe {
        &self.pipes[side.index()]
    }

    pub(super) fn pipe_mut(&mut self, side: Side) -> &mut Pipe {
        &mut self.pipes[side.index()]
    }

    pub(super) fn direction(&self, side: Side) -> (NodeId, NodeId) {
        (self.end(side).node, self.end(side.other()).node)
    }

    pub(super) fn client_node(&self) -> NodeId {
        self.end(Side::Client).node
    }

    pub(super) fn touches(&self, node: NodeId) -> bool {
        self.ends.iter().any(|end| end.node == node)
    }

    /// Nobody holds an end, and nothing more can come of it.
    fn is_over(&self) -> bool {
        let nobody = self.ends.iter().all(|end| !end.held);
        let dead = self.ends.iter().any(|end| end.dead);
        let ended = self.pipes.iter().all(|pipe| pipe.end_arrived);
        nobody && (dead || ended || self.muted)
    }

    fn wake_all(&mut self, side: Side, moment: &mut Moment<'_>) {
        moment.wake(&mut self.connecting);
        moment.wake(&mut self.pipe_mut(side).writer);
        moment.wake(&mut self.pipe_mut(side.other()).reader);
    }
}

impl Network {
    /// Sends a packet without bytes of its own: it takes the latency of the way and no bandwidth.
    pub(super) fn send_packet(
        &mut self,
        from: NodeId,
        to: NodeId,
        packet: Packet,
        moment: &mut Moment<'_>,
    ) {
        let at_nanos = moment.now_nanos + self.latency_nanos(from, to, moment);
        moment.at(at_nanos, NetEvent::Arrive { from, to, packet });
    }

    /// Forgets a connection of which nothing can be seen any more.
    pub(super) fn reap(&mut self, id: u64, moment: &mut Moment<'_>) {
        if self.conns.get(&id).is_some_and(Conn::is_over) {
            self.forget(id, moment);
        }
    }

    pub(super) fn forget(&mut self, id: u64, moment: &mut Moment<'_>) {
        if let Some(conn) = self.conns.remove(&id) {
            moment.stale.extend(conn.connecting);
            for pipe in conn.pipes {
                moment.stale.extend(pipe.reader);
                moment.stale.extend(pipe.writer);
            }
        }
    }

    /// This end gives the connection up: the other one will see a reset.
    pub(super) fn abort(&mut self, id: u64, side: Side, moment: &mut Moment<'_>) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let (from, to) = conn.direction(side);
        let end = conn.end_mut(side);
        end.held = false;
        if !end.dead {
            end.dead = true;
            self.purge(id, side);
            self.send_packet(from, to, Packet::Reset(id, side.other()), moment);
        }
        self.reap(id, moment);
    }

    /// What this end had not sent yet is thrown away.
    fn purge(&mut self, id: u64, side: Side) {
        if let Some(conn) = self.conns.get_mut(&id) {
            for hop in &mut conn.pipe_mut(side).hops {
                hop.items.clear();
            }
        }
    }

    /// A reset reaches this end. What has arrived before can still be read.
    pub(super) fn reset_arrived(&mut self, id: u64, side: Side, moment: &mut Moment<'_>) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let end = conn.end_mut(side);
        if end.dead {
            return;
        }
        end.dead = true;
        end.reset = true;
        let (node, number) = (end.node, Flow { conn: id, side }.number());
        moment.shared.record(Event::Reset, [number, 0], || format!("{node} c{id}"));
        conn.wake_all(side, moment);
        self.purge(id, side);
        self.reap(id, moment);
    }

    /// An end whose host or process is gone.
    pub(super) fn end_died(
        &mut self,
        id: u64,
        node: NodeId,
        power: Power,
        moment: &mut Moment<'_>,
    ) {
        for side in [Side::Client, Side::Server] {
            let Some(conn) = self.conns.get_mut(&id) else { return };
            if conn.end(side).node != node {
                continue;
            }
            match power {
                // What was dropped in good order before is still sent by the host.
                Power::Up | Power::ProcessDead if !conn.end(side).held => {}
                Power::Up | Power::ProcessDead if side == Side::Server || conn.arrived => {
                    self.abort(id, side, moment);
                }
                Power::Up | Power::ProcessDead => self.forget(id, moment),
                Power::Dark => {
                    let end = conn.end_mut(side);
                    end.held = false;
                    end.dead = true;
                    self.purge(id, side);
                    self.reap(id, moment);
                }
            }
        }
    }

    /// A host is back and hears again what was sent to a connection of its former life.
    pub(super) fn answer_lost(&mut self, id: u64, node: NodeId, moment: &mut Moment<'_>) {
        for side in [Side::Client, Side::Server] {
            let Some(conn) = self.conns.get_mut(&id) else { return };
            let flow = Flow { conn: id, side };
            let (from, to) = conn.direction(side);
            if to == node && std::mem::take(&mut conn.pipe_mut(side).lost) {
                self.send_packet(to, from, Packet::Reset(id, flow.side), moment);
            }
        }
    }

    /// The holder of this end drops it.
    pub(super) fn close(&mut self, id: u64, side: Side, moment: &mut Moment<'_>) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let unread = !conn.pipe_mut(side.other()).unread.is_empty();
        let end = conn.end_mut(side);
        if !end.held {
            return;
        }
        end.held = false;
        let (node, dead) = (end.node, end.dead);
        let number = Flow { conn: id, side }.number();
        moment.shared.record(Event::Close, [number, u64::from(unread)], || format!("{node} c{id}"));
        if dead {
            self.reap(id, moment);
        } else if unread {
            self.abort(id, side, moment);
        } else {
            self.end_writing(id, side, moment);
            self.reap(id, moment);
        }
    }
}
