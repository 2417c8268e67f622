//! Bodies on their way out over HTTP/2, watched stream by stream.
//!
//! Bytes may move on a connection while one of its streams stands still, because its client opens no
//! window for it. What such a stream holds would stay held: its task, and the segment that is read,
//! also after eviction. So each stream has a watch of its own. It runs beside the task of the stream,
//! because hyper does not ask the body for anything while there is no window.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use kura_env::{Clock, Instant};
use parking_lot::Mutex;

/// Bytes handed over at once: a stream that takes fewer within its time stands still. Small, because
/// all streams of a slow connection share what it carries.
const PIECE_BYTES_MAX: usize = 8 * 1024;

/// Whether the client of one stream takes what it asked for.
pub(crate) struct Pace {
    clock: Arc<dyn Clock>,
    /// Since when the node waits for the client. Nothing while the client waits for the node.
    handed: Mutex<Option<Instant>>,
}

impl Pace {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, handed: Mutex::new(None) })
    }

    /// Ends when the client has taken nothing for `idle_timeout`.
    pub(crate) async fn stalled(&self, idle_timeout: Duration) {
        loop {
            let now = self.clock.now();
            let deadline = self.handed.lock().unwrap_or(now) + idle_timeout;
            if deadline <= now {
                return;
            }
            self.clock.sleep_until(deadline).await;
        }
    }
}

/// The pace of the stream whose task is about to be started: hyper calls the service for a request
/// and then starts its task, before it looks at the next request of the connection.
#[derive(Clone, Default)]
pub(crate) struct NextStream(Arc<Mutex<Option<Arc<Pace>>>>);

impl NextStream {
    pub(crate) fn put(&self, pace: Arc<Pace>) {
        *self.0.lock() = Some(pace);
    }

    pub(crate) fn take(&self) -> Option<Arc<Pace>> {
        self.0.lock().take()
    }
}

/// `body`, of `len_bytes`, handed over in pieces at the pace of its client.
pub(crate) fn paced(body: Body, len_bytes: u64, pace: Arc<Pace>) -> Body {
    Body::new(Paced { body, left: Bytes::new(), left_bytes: len_bytes, pace })
}

struct Paced {
    body: Body,
    /// Read and not handed over.
    left: Bytes,
    /// What is still to be handed over in all.
    left_bytes: u64,
    pace: Arc<Pace>,
}

impl HttpBody for Paced {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        *self.pace.handed.lock() = None;
        while self.left.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.left = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                end @ (None | Some(Err(_))) => return Poll::Ready(end),
            }
        }
        let piece_bytes = self.left.len().min(PIECE_BYTES_MAX);
        let mut piece = self.left.split_to(piece_bytes);
        self.left_bytes = self.left_bytes.saturating_sub(piece_bytes as u64);
        if self.left_bytes == 0 {
            // The task ends with this, and the piece waits for its window without a watch. So it
            // must not keep a segment.
            piece = Bytes::copy_from_slice(&piece);
        }
        *self.pace.handed.lock() = Some(self.pace.clock.now());
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left_bytes == 0 && self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left_bytes)
    }
}
