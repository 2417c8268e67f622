//! What travels through a connection: writing into the window, arriving, reading, and the news that
//! there is room again.

use std::{
    io,
    task::{Poll, Waker},
};

use bytes::Bytes;
use tokio::io::ReadBuf;

use super::{
    Moment, Network,
    conn::{CHUNK_BYTES_MAX, Flow, Item, Packet, Side, len_bytes},
};
use crate::{host::Power, journal::Event};

impl Network {
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

    /// What `side` wrote and what waits at a link still. What is on its way beyond the last link
    /// counts as confirmed: it arrives, or the whole connection is lost.
    pub(super) fn unsent_bytes(&self, id: u64, side: Side) -> Option<u64> {
        let pipe = self.conns.get(&id).filter(|conn| conn.end(side).held)?.pipe(side);
        Some(pipe.hops.iter().flat_map(|hop| &hop.items).map(Item::len_bytes).sum())
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
