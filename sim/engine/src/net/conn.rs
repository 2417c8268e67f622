//! A connection: two ends and a pipe in each direction.
//!
//! An end goes through three states. *Held*: a stream, a backlog or a connect under way owns it.
//! Not held: it was dropped in good order and the host goes on sending what was accepted. *Dead*:
//! the host knows nothing of it any more, and answers whatever arrives with a reset.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::Arc,
    task::{Poll, Waker},
};

use bytes::Bytes;
use tokio::io::ReadBuf;

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
    fn number(self) -> u64 {
        self.conn * 2 + u64::from(self.side == Side::Server)
    }

    fn back(self) -> Self {
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
    window_bytes: u64,
    /// Accepted from the writer and not yet known to be read. Never above `window_bytes`.
    used_bytes: u64,
    /// The writer has declared the end.
    ended: bool,
    pub(super) writer: Option<Waker>,
    /// Arrived and not yet read.
    pub(super) unread: VecDeque<Bytes>,
    /// The end has arrived.
    end_arrived: bool,
    pub(super) reader: Option<Waker>,
    /// Read, and the writer not yet told.
    read_bytes: u64,
    /// Something was swallowed by a host without power, so a reset will come once it is back.
    lost: bool,
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

    /// Nobody holds an end, and nothing is left to be seen by anybody.
    fn is_over(&self) -> bool {
        let nobody = self.ends.iter().all(|end| !end.held);
        nobody
            && (self.ends.iter().any(|end| end.dead)
                || self.pipes.iter().all(|pipe| pipe.end_arrived))
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

    /// Bytes, or the end, reach the host of the reader.
    pub(super) fn deliver(&mut self, flow: Flow, item: Item, moment: &mut Moment<'_>) {
        let reader = flow.side.other();
        let Some(conn) = self.conns.get_mut(&flow.conn) else { return };
        let (from, to) = conn.direction(flow.side);
        let end = conn.end(reader);
        if end.dead {
            if moment.shared.hosts.lock().power(to) == Power::Dark {
                conn.pipe_mut(flow.side).lost = true;
            } else {
                self.send_packet(to, from, Packet::Reset(flow.conn, flow.side), moment);
            }
            return;
        }
        match item {
            Item::Bytes(_) if !end.held => self.abort(flow.conn, reader, moment),
            Item::Bytes(bytes) => {
                let len = len_bytes(bytes.len());
                self.bytes_delivered += len;
                moment.shared.record(Event::Deliver, [flow.number(), len], || {
                    format!("{from}>{to} c{} {len} bytes", flow.conn)
                });
                let pipe = conn.pipe_mut(flow.side);
                pipe.unread.push_back(bytes);
                moment.wake(&mut pipe.reader);
            }
            Item::End => {
                moment.shared.record(Event::Eof, [flow.number(), 0], || {
                    format!("{from}>{to} c{}", flow.conn)
                });
                let pipe = conn.pipe_mut(flow.side);
                pipe.end_arrived = true;
                moment.wake(&mut pipe.reader);
                self.reap(flow.conn, moment);
            }
        }
    }

    /// The writer learns that so many bytes were read.
    pub(super) fn make_room(&mut self, flow: Flow, bytes: u64, moment: &mut Moment<'_>) {
        let Some(conn) = self.conns.get_mut(&flow.conn) else { return };
        let pipe = conn.pipe_mut(flow.side);
        pipe.used_bytes -= bytes;
        moment.wake(&mut pipe.writer);
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

    /// Declares the end of what `side` writes, once.
    pub(super) fn end_writing(&mut self, id: u64, side: Side, moment: &mut Moment<'_>) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if conn.end(side).dead {
            return;
        }
        let pipe = conn.pipe_mut(side);
        if !std::mem::replace(&mut pipe.ended, true) {
            self.enqueue(Flow { conn: id, side }, 0, Item::End, moment);
        }
    }

    /// Reads into `buffer` what has arrived at `side`.
    pub(super) fn read(
        &mut self,
        (id, side): (u64, Side),
        buffer: &mut ReadBuf<'_>,
        waker: &Waker,
        moment: &mut Moment<'_>,
    ) -> Poll<io::Result<()>> {
        // Only the stream of a dead life has no connection, and it waits for ever.
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.end(side).held) else {
            return Poll::Pending;
        };
        let reset = conn.end(side).reset;
        let flow = Flow { conn: id, side }.back();
        let pipe = conn.pipe_mut(flow.side);
        let room = buffer.remaining();
        while let Some(chunk) = pipe.unread.front_mut() {
            if chunk.len() > buffer.remaining() {
                let part = chunk.split_to(buffer.remaining());
                buffer.put_slice(&part);
                break;
            }
            buffer.put_slice(chunk);
            pipe.unread.pop_front();
        }
        let taken = room - buffer.remaining();
        if taken > 0 || room == 0 || pipe.end_arrived {
            pipe.read_bytes += len_bytes(taken);
            self.tell_writer(flow, moment);
            return Poll::Ready(Ok(()));
        }
        if reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        moment.park(&mut pipe.reader, waker);
        Poll::Pending
    }

    /// Tells the writer what was read, once it is a quarter of the window: then a full window
    /// always moves on, and small reads cost no packet each.
    fn tell_writer(&mut self, flow: Flow, moment: &mut Moment<'_>) {
        let Some(conn) = self.conns.get_mut(&flow.conn) else { return };
        let (from, to) = conn.direction(flow.side);
        let pipe = conn.pipe_mut(flow.side);
        if pipe.read_bytes < pipe.window_bytes.div_ceil(4) {
            return;
        }
        let bytes = std::mem::take(&mut pipe.read_bytes);
        if from == to {
            self.make_room(flow, bytes, moment);
        } else {
            self.send_packet(to, from, Packet::Room(flow, bytes), moment);
        }
    }

    /// Takes from `slices` what the window of `side` has room for.
    pub(super) fn write(
        &mut self,
        (id, side): (u64, Side),
        slices: &[io::IoSlice<'_>],
        waker: &Waker,
        moment: &mut Moment<'_>,
    ) -> Poll<io::Result<usize>> {
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.end(side).held) else {
            return Poll::Pending;
        };
        if conn.end(side).reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let pipe = conn.pipe_mut(side);
        if pipe.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
        if wanted == 0 {
            return Poll::Ready(Ok(0));
        }
        let room_bytes = pipe.window_bytes - pipe.used_bytes;
        if room_bytes == 0 {
            moment.park(&mut pipe.writer, waker);
            return Poll::Pending;
        }
        let accepted = wanted.min(usize::try_from(room_bytes).unwrap_or(usize::MAX));
        pipe.used_bytes += len_bytes(accepted);
        for chunk in chunks(slices, accepted) {
            self.enqueue(Flow { conn: id, side }, 0, Item::Bytes(chunk), moment);
        }
        Poll::Ready(Ok(accepted))
    }
}

/// Copies the first `accepted` bytes of `slices`, as if joined, into chunks.
fn chunks(slices: &[io::IoSlice<'_>], accepted: usize) -> impl Iterator<Item = Bytes> {
    let chunk_max = usize::try_from(CHUNK_BYTES_MAX).expect("64 KiB fit into a length");
    let mut slices = slices.iter().map(|slice| &**slice);
    let mut rest: &[u8] = &[];
    let mut left = accepted;
    std::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let len = left.min(chunk_max);
        left -= len;
        let mut chunk = Vec::with_capacity(len);
        while chunk.len() < len {
            if rest.is_empty() {
                rest = slices.next()?;
                continue;
            }
            let (part, after) = rest.split_at(rest.len().min(len - chunk.len()));
            chunk.extend_from_slice(part);
            rest = after;
        }
        Some(Bytes::from(chunk))
    })
}
