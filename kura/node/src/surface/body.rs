//! Bodies on their way: in from a client, watched for stalls and breaks, and out of the store.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::Version;
use http_body::{Body as _, Frame};
use kura_env::{BoxFuture, Clock, Instant};

use super::{chain, outcome::Failure};
use crate::{
    metrics::{Metrics, Port},
    service::Refusal,
    store::Reading,
};

/// Reads the body of a request.
pub(crate) struct Incoming {
    body: Body,
    /// HTTP/2 alone tells the end of a body from a stream that was reset.
    has_end_mark: bool,
    clock: Arc<dyn Clock>,
    idle_timeout: Duration,
    /// Kept from one frame to the next: it is cheaper to let a timer fire early now and then than
    /// to make one for each frame.
    timer: Option<BoxFuture<'static, ()>>,
    is_touched: bool,
}

impl Incoming {
    pub(crate) fn new(
        body: Body,
        version: Version,
        clock: Arc<dyn Clock>,
        idle_timeout: Duration,
    ) -> Self {
        let has_end_mark = version == Version::HTTP_2;
        Self { body, has_end_mark, clock, idle_timeout, timer: None, is_touched: false }
    }

    /// Its length, if the client declared it.
    pub(crate) fn declared_bytes(&self) -> Option<u64> {
        self.body.size_hint().exact()
    }

    /// Whether it was asked for. A client that waits to be told to go on has been told so then.
    pub(crate) fn is_touched(&self) -> bool {
        self.is_touched
    }

    /// The next bytes, or nothing behind the last ones.
    ///
    /// # Errors
    ///
    /// [`Failure::Stalled`] and [`Failure::BrokenBody`]; never a short body that looks complete.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        self.is_touched = true;
        let since = self.clock.now();
        loop {
            match poll_fn(|cx| self.poll_frame(since, cx)).await? {
                Some(frame) => {
                    // Trailers say nothing to us.
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                // hyper takes a stream that was reset without an error for one that has ended.
                None if self.has_end_mark && !self.body.is_end_stream() => {
                    return Err(Failure::BrokenBody(None));
                }
                None => return Ok(None),
            }
        }
    }

    /// Reads and throws away what is left, at most `bytes_max`. How much that was, and whether it
    /// was all.
    pub(crate) async fn discard(&mut self, bytes_max: u64) -> (u64, bool) {
        // What is known to be too much is not begun.
        if self.body.size_hint().lower() > bytes_max {
            return (0, false);
        }
        let mut discarded = 0;
        loop {
            match self.next().await {
                Ok(Some(data)) => discarded += data.len() as u64,
                Ok(None) => return (discarded, true),
                Err(_) => return (discarded, false),
            }
            if discarded > bytes_max {
                return (discarded, false);
            }
        }
    }

    fn poll_frame(
        &mut self,
        since: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Frame<Bytes>>, Failure>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(
                frame.transpose().map_err(|error| Failure::BrokenBody(Some(error))),
            );
        }
        let deadline = since + self.idle_timeout;
        loop {
            let clock = &self.clock;
            let timer = self.timer.get_or_insert_with(|| clock.sleep_until(deadline));
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.timer = None;
            if self.clock.now() >= deadline {
                let idle_timeout = self.idle_timeout;
                return Poll::Ready(Err(Failure::Stalled { idle_timeout }));
            }
        }
    }
}

/// A body from the store broke off. The client sees the stream break, not a short body.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BrokenReading {
    /// The store said so.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It ended early, or did not end.
    #[error("the body is {len_bytes} bytes long, and {sent_bytes} came out of the store")]
    Length {
        /// How long it should be.
        len_bytes: u64,
        /// How long it was, at least.
        sent_bytes: u64,
    },
}

/// Makes a body of a reading whose first bytes were read already.
pub(crate) fn outgoing(reading: Reading, first: Option<Bytes>, metrics: Arc<Metrics>) -> Body {
    let len_bytes = reading.meta().len_bytes;
    // No turn is taken for the rest: hyper does not ask for more while the client does not read, so
    // a turn could be held by a read that is long done, and the connection would never be idle.
    if let Some(whole) = first.as_ref().filter(|first| first.len() as u64 == len_bytes) {
        return Body::from(whole.clone());
    }
    let rest = Outgoing { reading, first, len_bytes, sent_bytes: 0 };
    Body::from_stream(stream::try_unfold(rest, move |mut rest| {
        let metrics = metrics.clone();
        async move {
            match rest.next().await {
                Ok(Some(chunk)) => Ok(Some((chunk, rest))),
                Ok(None) => Ok(None),
                Err(error) => {
                    metrics.port(Port::Public).http.broken_bodies.inc();
                    tracing::warn!(cause = %chain(&error), "a body breaks off");
                    Err(error)
                }
            }
        }
    }))
}

struct Outgoing {
    reading: Reading,
    first: Option<Bytes>,
    len_bytes: u64,
    sent_bytes: u64,
}

impl Outgoing {
    async fn next(&mut self) -> Result<Option<Bytes>, BrokenReading> {
        let chunk = match self.first.take() {
            Some(first) => Some(first),
            None => self.reading.next().await?,
        };
        let (len_bytes, sent_bytes) = (self.len_bytes, self.sent_bytes);
        match chunk {
            Some(chunk) => {
                self.sent_bytes += chunk.len() as u64;
                if self.sent_bytes > len_bytes {
                    return Err(BrokenReading::Length { len_bytes, sent_bytes: self.sent_bytes });
                }
                Ok(Some(chunk))
            }
            None if sent_bytes == len_bytes => Ok(None),
            None => Err(BrokenReading::Length { len_bytes, sent_bytes }),
        }
    }
}
