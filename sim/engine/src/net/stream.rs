//! One end of a connection as a byte stream.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use kura_env::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::conn::Side;
use crate::{shared::Shared, task::Wait};

/// Belongs to one life: when that is over, everything pends for ever and the drop does nothing,
/// because the connection does not count as held any more.
pub(super) struct SimStream {
    pub(super) shared: Arc<Shared>,
    pub(super) conn: u64,
    pub(super) side: Side,
    pub(super) peer: SocketAddr,
}

impl Stream for SimStream {
    fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    fn unsent_bytes(&self) -> Option<u64> {
        self.shared.with_net(|net, _| net.unsent_bytes(self.conn, self.side))
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let which = (self.conn, self.side);
        let read = self.shared.with_net(|net, moment| net.read(which, buffer, cx.waker(), moment));
        if read.is_pending() {
            self.shared.waiting(Wait::Read(self.peer));
        }
        read
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let which = (self.conn, self.side);
        let written =
            self.shared.with_net(|net, moment| net.write(which, slices, cx.waker(), moment));
        if written.is_pending() {
            self.shared.waiting(Wait::Write(self.peer));
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.with_net(|net, moment| net.end_writing(self.conn, self.side, moment));
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.shared.with_net(|net, moment| net.close(self.conn, self.side, moment));
    }
}
