//! A request's body as an actor sends it: honest, slow, or broken off in the middle.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use kura_env::{BoxFuture, Clock};

use crate::body::Body;

/// Where a body breaks off, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// It does not.
    Never,
    /// The connection is closed after so many bytes.
    Close(u64),
    /// Nothing more comes after so many bytes.
    Silence(u64),
}

/// How fast a body is sent.
#[derive(Clone)]
pub struct Pace {
    /// By which time passes.
    pub clock: Arc<dyn Clock>,
    /// How much of it in a second.
    pub bytes_per_second: u64,
}

/// A body on its way out.
pub struct Upload {
    body: Option<Body>,
    /// Whether its length is told beforehand.
    declares: bool,
    sent_bytes: u64,
    breaks: Break,
    pace: Option<Pace>,
    pause: Option<BoxFuture<'static, ()>>,
}

/// The actor closes its connection on purpose.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("broken off on purpose")]
pub struct BrokenOff;

/// How often in a second a paced body sends something.
const PARTS_PER_SECOND: u64 = 10;

impl Upload {
    /// No body at all.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            body: None,
            declares: true,
            sent_bytes: 0,
            breaks: Break::Never,
            pace: None,
            pause: None,
        }
    }

    /// This body.
    #[must_use]
    pub fn new(body: Body, breaks: Break, pace: Option<Pace>) -> Self {
        Self { body: Some(body), declares: true, sent_bytes: 0, breaks, pace, pause: None }
    }

    /// The same, in chunks, without a word of how long it will be.
    #[must_use]
    pub fn undeclared(self) -> Self {
        Self { declares: false, ..self }
    }

    /// The next bytes, no further than where it breaks off or the pace allows.
    fn next_part(&self, body: &Body) -> Bytes {
        let end = match self.breaks {
            Break::Never => body.len_bytes,
            Break::Close(at) | Break::Silence(at) => at.min(body.len_bytes),
        };
        let mut part = body.part(self.sent_bytes);
        let mut longest = end.saturating_sub(self.sent_bytes);
        if let Some(pace) = &self.pace {
            longest = longest.min((pace.bytes_per_second / PARTS_PER_SECOND).max(1));
        }
        part.truncate(usize::try_from(longest).unwrap_or(usize::MAX));
        part
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let this = self.get_mut();
        if let Some(pause) = &mut this.pause {
            if pause.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            this.pause = None;
        }
        let Some(body) = this.body else { return Poll::Ready(None) };
        let part = this.next_part(&body);
        if part.is_empty() {
            return match this.breaks {
                Break::Close(at) if at < body.len_bytes => Poll::Ready(Some(Err(BrokenOff))),
                // Nobody wakes this: the server gives up, or the actor's time-out does.
                Break::Silence(at) if at < body.len_bytes => Poll::Pending,
                Break::Never | Break::Close(_) | Break::Silence(_) => Poll::Ready(None),
            };
        }
        let len_bytes = u64::try_from(part.len()).unwrap_or(u64::MAX);
        this.sent_bytes += len_bytes;
        if let Some(pace) = &this.pace {
            let nanos = u128::from(len_bytes) * 1_000_000_000 / u128::from(pace.bytes_per_second);
            let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
            this.pause = Some(pace.clock.sleep(Duration::from_nanos(nanos)));
        }
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none_or(|body| self.sent_bytes >= body.len_bytes && self.pause.is_none())
    }

    fn size_hint(&self) -> SizeHint {
        if !self.declares {
            return SizeHint::default();
        }
        SizeHint::with_exact(self.body.map_or(0, |body| body.len_bytes - self.sent_bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use http_body::Body as _;

    use super::*;
    use crate::body::BodyId;

    /// Bytes sent until the end, and how it ended: `None` is silence.
    fn send(breaks: Break) -> (u64, Option<Result<(), ()>>) {
        let body = Body { id: BodyId(1), len_bytes: 100_000, forged: false };
        let mut upload = Upload::new(body, breaks, None);
        let mut cx = Context::from_waker(Waker::noop());
        let mut sent = 0;
        loop {
            match Pin::new(&mut upload).poll_frame(&mut cx) {
                Poll::Ready(Some(Ok(frame))) => sent += frame.into_data().unwrap().len() as u64,
                Poll::Ready(Some(Err(BrokenOff))) => return (sent, Some(Err(()))),
                Poll::Ready(None) => return (sent, Some(Ok(()))),
                Poll::Pending => return (sent, None),
            }
        }
    }

    #[test]
    fn a_body_ends_as_it_was_told_to() {
        assert_eq!(send(Break::Never), (100_000, Some(Ok(()))));
        assert_eq!(send(Break::Close(70_000)), (70_000, Some(Err(()))));
        assert_eq!(send(Break::Silence(3)), (3, None));
        assert_eq!(Upload::empty().size_hint().exact(), Some(0));
        let body = Body { id: BodyId(1), len_bytes: 5, forged: false };
        let upload = Upload::new(body, Break::Never, None);
        assert_eq!(upload.size_hint().exact(), Some(5));
        assert_eq!(upload.undeclared().size_hint().exact(), None);
    }
}
