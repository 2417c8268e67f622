//! One way of one connection over a link.

use bytes::Bytes;
use futures_util::future::{Either, select};
use kura_env::{Instant, Stream};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf},
    sync::mpsc,
};

use super::{Ended, Flow, PIECES_MAX, Shared, Way, size};

/// One way of one connection.
pub(super) struct Pipe<'a> {
    shared: &'a Shared,
    way: Way,
    /// How often the way had begun to swallow when the connection came about: once more, and it is lost.
    forgets: u64,
}

/// What is on its way.
struct Piece {
    arrives: Instant,
    /// Empty: the sender has declared its end.
    bytes: Bytes,
}

impl<'a> Pipe<'a> {
    pub(super) fn new(shared: &'a Shared, way: Way, forgets: u64) -> Self {
        Self { shared, way, forgets }
    }

    /// Carries everything until the sender ends or something breaks.
    pub(super) async fn carry(
        self,
        from: ReadHalf<Box<dyn Stream>>,
        to: WriteHalf<Box<dyn Stream>>,
    ) -> Ended {
        let (sender, receiver) = mpsc::channel(PIECES_MAX);
        let sends = Box::pin(self.send(from, sender));
        let arrives = Box::pin(self.deliver(receiver, to));
        match select(sends, arrives).await {
            // What is on its way still arrives.
            Either::Left((Ended::InOrder, rest)) => rest.await,
            Either::Left((ended, _)) | Either::Right((ended, _)) => ended,
        }
    }

    async fn send(
        &self,
        mut from: ReadHalf<Box<dyn Stream>>,
        pieces: mpsc::Sender<Piece>,
    ) -> Ended {
        loop {
            let mut bytes = vec![0; self.shared.piece_bytes(self.way)];
            let Ok(len) = from.read(&mut bytes).await else { return Ended::Broken };
            bytes.truncate(len);
            let arrives = self.shared.sets_out(self.way, len).await;
            // It fails only if nothing is delivered any more, and then this is dropped.
            let sent = pieces.send(Piece { arrives, bytes: bytes.into() }).await;
            if sent.is_err() {
                return Ended::Broken;
            }
            if len == 0 {
                return Ended::InOrder;
            }
        }
    }

    async fn deliver(
        &self,
        mut pieces: mpsc::Receiver<Piece>,
        mut to: WriteHalf<Box<dyn Stream>>,
    ) -> Ended {
        let Self { shared, way, forgets } = *self;
        let mut delivered = 0;
        while let Some(Piece { arrives, bytes }) = pieces.recv().await {
            shared.clock.sleep_until(arrives).await;
            if shared.dial(way).flow == Flow::Held {
                shared.count(|counts| counts.way_mut(way).held += 1);
            }
            let flow = shared.arrives(way).await;
            if flow == Flow::Swallowed || shared.forgets(way) != forgets {
                shared.count(|counts| counts.way_mut(way).swallowed_bytes += size(bytes.len()));
                continue;
            }
            if bytes.is_empty() {
                return if to.shutdown().await.is_ok() { Ended::InOrder } else { Ended::Broken };
            }
            let left = shared.dial(way).cut_after_bytes.map(|most| most.saturating_sub(delivered));
            let allowed = left.and_then(|left| usize::try_from(left).ok()).unwrap_or(usize::MAX);
            let part = &bytes[..bytes.len().min(allowed)];
            if to.write_all(part).await.is_err() {
                return Ended::Broken;
            }
            delivered += size(part.len());
            shared.count(|counts| counts.way_mut(way).delivered_bytes += size(part.len()));
            if part.len() < bytes.len() {
                return Ended::Cut;
            }
        }
        Ended::InOrder
    }
}
