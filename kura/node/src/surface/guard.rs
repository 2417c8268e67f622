//! The byte stream of a connection as hyper sees it: every byte is noted in the connection's
//! [`Activity`], and closing it does not cut off an answer that the client has not read yet.
//!
//! A socket that is closed while bytes from the client lie unread resets the connection, and the
//! client may then never see what was sent to it. So after the last answer of a connection whose
//! client is still sending, only the sending half is closed, and what comes is read and thrown away,
//! up to a number of bytes and for a bounded time.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use kura_env::Stream;
use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::activity::Activity;
use crate::replicate::Ceilings;

/// How much is thrown away at a time while lingering.
const DISCARD_BYTES: usize = 16 * 1024;

/// A stream under watch.
pub(crate) struct Guarded {
    stream: Box<dyn Stream>,
    activity: Arc<Activity>,
    bytes_in: Counter,
    bytes_out: Counter,
    /// Peers give way to what moves here.
    ceilings: Option<Arc<Ceilings>>,
    closing: Closing,
    /// How many more bytes may be thrown away.
    discard_bytes_left: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Closing {
    /// Not asked to close.
    No,
    /// The sending half is closed, or was by the client's doing.
    Lingering,
    Done,
}

impl Guarded {
    pub(crate) fn new(
        stream: Box<dyn Stream>,
        activity: Arc<Activity>,
        (bytes_in, bytes_out): (Counter, Counter),
        ceilings: Option<Arc<Ceilings>>,
        discard_bytes_max: u64,
    ) -> Self {
        Self {
            stream,
            activity,
            bytes_in,
            bytes_out,
            ceilings,
            closing: Closing::No,
            discard_bytes_left: discard_bytes_max,
        }
    }

    fn note_sent(&self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Ready(Ok(count)) if *count > 0 => {
                self.bytes_out.inc_by(*count as u64);
                if let Some(ceilings) = &self.ceilings {
                    ceilings.serving.give_way(*count);
                }
                self.activity.sent();
            }
            // The watch of the connection wakes its task every few seconds, and hyper tries again
            // then, so this is a look at the socket every few seconds.
            Poll::Pending => self.activity.waits(self.stream.unsent_bytes()),
            Poll::Ready(_) => {}
        }
    }

    /// Reads and throws away until the client stops sending or has sent too much.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0; DISCARD_BYTES];
        // The activity ends this by time: the connection is dropped then.
        while self.discard_bytes_left > 0 && self.activity.linger() {
            let mut buf = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut *self).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {
                    let count = buf.filled().len() as u64;
                    self.discard_bytes_left = self.discard_bytes_left.saturating_sub(count);
                }
                // Its end, or a reset: nobody is left to see the answer.
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(())
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let came = &buf.filled()[before..];
        if !came.is_empty() {
            self.bytes_in.inc_by(came.len() as u64);
            if let Some(ceilings) = &self.ceilings {
                ceilings.fetching.give_way(came.len());
            }
            self.activity.received(came);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note_sent(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.note_sent(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closing == Closing::No {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.closing = Closing::Lingering;
        }
        if self.closing == Closing::Lingering {
            ready!(self.poll_discard(cx));
            self.closing = Closing::Done;
        }
        Poll::Ready(Ok(()))
    }
}
