//! Watches the talks of a node with its peers, for `retries_bounded`, and so that others can tell
//! when a peer was last heard.

mod answer;
mod sight;

use std::{
    collections::BTreeMap,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use kura_core::resume::STEP_BYTES_MIN;
use kura_env::{BoxFuture, Clock, Instant, Listener, Net, NetError, Stream};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(super) use self::sight::Sight;
use self::{answer::Answer, sight::Look};
use crate::{
    court::Court,
    invariants::{Violation, liars_are_contained, retries_bounded},
};

/// Told when an answer of a peer has come to its end.
pub(super) type OnAnswer = Box<dyn Fn(SocketAddr, Answered) + Send + Sync>;

/// An answer that has come to its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered {
    pub(super) at: Instant,
    /// Whether it brought bodies, or a page of what the peer holds.
    pub(super) moves: bool,
}

/// What a peer is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    Bodies,
    List,
    Other,
}

/// A network whose connections are counted.
pub(super) struct Dials {
    net: Arc<dyn Net>,
    count: Arc<Count>,
}

/// What failed in a row, by peer.
struct Count {
    clock: Arc<dyn Clock>,
    court: Court,
    node: String,
    on_answer: OnAnswer,
    /// Sees how far passes have come, where anything goes by that.
    sight: Option<Arc<Sight>>,
    connections: Mutex<BTreeMap<SocketAddr, Failing>>,
    fetches: Mutex<BTreeMap<SocketAddr, Failing>>,
    /// How often each peer that lies was asked, since it does.
    asks: Mutex<BTreeMap<SocketAddr, (Instant, u64)>>,
}

/// What failed in a row.
#[derive(Clone, Copy)]
struct Failing {
    count: u64,
    since: Instant,
}

/// Judges so many failures in a row since the first of them.
type Check = fn(&str, &str, u64, std::time::Duration) -> Result<(), Violation>;

impl Dials {
    pub(super) fn new(
        net: Arc<dyn Net>,
        clock: Arc<dyn Clock>,
        (court, node): (Court, &str),
        (on_answer, sight): (OnAnswer, Option<Arc<Sight>>),
    ) -> Self {
        let (connections, fetches, asks) = (Mutex::default(), Mutex::default(), Mutex::default());
        let node = node.to_owned();
        let count = Count { clock, court, node, on_answer, sight, connections, fetches, asks };
        Self { net, count: Arc::new(count) }
    }
}

impl Count {
    fn connection_failed(&self, addr: SocketAddr) {
        self.failed(&self.connections, addr, retries_bounded::check);
    }

    /// A request is sent.
    fn asks(&self, addr: SocketAddr) {
        let Some(since) = self.court.evidence().liars.get(&addr).copied() else { return };
        let asks = {
            let mut asks = self.asks.lock();
            let asks = asks.entry(addr).or_insert((since, 0));
            *asks = if asks.0 == since { (since, asks.1 + 1) } else { (since, 1) };
            asks.1
        };
        let now = self.clock.now();
        let (peer, lies_for) = (addr.to_string(), now.since(since));
        let verdict = liars_are_contained::check_asks(&self.node, &peer, asks, lies_for);
        if verdict.is_err() {
            self.court.evidence().judge(now, verdict);
        }
    }

    fn fetch_failed(&self, addr: SocketAddr) {
        self.failed(&self.fetches, addr, retries_bounded::check_fetches);
    }

    /// A request broke off behind bytes that need not come again.
    fn fetch_moved_on(&self, addr: SocketAddr) {
        self.fetches.lock().remove(&addr);
    }

    fn failed(
        &self,
        failing: &Mutex<BTreeMap<SocketAddr, Failing>>,
        addr: SocketAddr,
        check: Check,
    ) {
        let now = self.clock.now();
        let Failing { count, since } = {
            let mut failing = failing.lock();
            let failing = failing.entry(addr).or_insert(Failing { count: 0, since: now });
            failing.count += 1;
            *failing
        };
        let verdict = check(&self.node, &addr.to_string(), count, now.since(since));
        if verdict.is_err() {
            self.court.evidence().judge(now, verdict);
        }
    }

    /// An answer has come to its end.
    fn answered(&self, addr: SocketAddr, about: About, status: u16) {
        let moves = about != About::Other && status == 200;
        (self.on_answer)(addr, Answered { at: self.clock.now(), moves });
        match (about, status) {
            (About::Bodies, 200) => self.fetch_moved_on(addr),
            (About::Bodies, _) => self.fetch_failed(addr),
            (About::List | About::Other, _) => {}
        }
    }
}

/// Counts as failed unless it is told otherwise: whoever stops waiting for a connection has failed
/// to make it, too.
struct Dial<'a> {
    count: &'a Count,
    addr: SocketAddr,
    stands: bool,
}

impl Drop for Dial<'_> {
    fn drop(&mut self) {
        if self.stands {
            self.count.connections.lock().remove(&self.addr);
        } else {
            self.count.connection_failed(self.addr);
        }
    }
}

impl Net for Dials {
    fn listen(&self, addr: SocketAddr) -> BoxFuture<'_, Result<Box<dyn Listener>, NetError>> {
        self.net.listen(addr)
    }

    fn connect(&self, addr: SocketAddr) -> BoxFuture<'_, Result<Box<dyn Stream>, NetError>> {
        Box::pin(async move {
            let mut dial = Dial { count: &self.count, addr, stands: false };
            let stream = self.net.connect(addr).await?;
            dial.stands = true;
            let count = self.count.clone();
            Ok(Box::new(Talk { stream, count, addr, asked: None }) as Box<dyn Stream>)
        })
    }

    fn resolve<'a>(
        &'a self,
        name: &'a str,
        port: u16,
    ) -> BoxFuture<'a, Result<Vec<SocketAddr>, NetError>> {
        self.net.resolve(name, port)
    }
}

/// A connection to a peer: one request after the other.
struct Talk {
    stream: Box<dyn Stream>,
    count: Arc<Count>,
    addr: SocketAddr,
    /// The request that is not answered to its end yet.
    asked: Option<Asked>,
}

struct Asked {
    about: About,
    answer: Answer,
    received_bytes: u64,
    look: Option<Look>,
}

impl Talk {
    /// The node has sent these bytes.
    fn sent(&mut self, data: &[u8]) {
        let about = if data.starts_with(b"POST /peer/v1/bodies") {
            About::Bodies
        } else if data.starts_with(b"POST /peer/v1/compare") {
            About::List
        } else if data.starts_with(b"GET ") {
            About::Other
        } else {
            return;
        };
        self.count.asks(self.addr);
        if self.asked.is_some() {
            return;
        }
        let look = self.count.sight.as_ref().and_then(|sight| sight.asked(self.addr, data));
        let answer = Answer::default();
        self.asked = Some(Asked { about, answer, received_bytes: 0, look });
    }

    /// The peer has sent these bytes; none of them at its end.
    fn received(&mut self, data: &[u8]) {
        if data.is_empty() {
            return self.broke();
        }
        let Some(asked) = &mut self.asked else { return };
        asked.received_bytes += data.len() as u64;
        let Asked { answer, look, .. } = asked;
        answer.take(data, |content| {
            if let Some(look) = look {
                look.content(content);
            }
        });
        if let Some(status) = asked.answer.ended() {
            let about = asked.about;
            if let Some(look) = self.asked.take().and_then(|asked| asked.look) {
                look.ended(status);
            }
            self.count.answered(self.addr, about, status);
        }
    }

    /// Nothing more comes from the peer.
    fn broke(&mut self) {
        let Some(Asked { about: About::Bodies, received_bytes, .. }) = self.asked.take() else {
            return;
        };
        if received_bytes < STEP_BYTES_MIN {
            self.count.fetch_failed(self.addr);
        } else {
            self.count.fetch_moved_on(self.addr);
        }
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        // Who has all the bodies may go without the end of the answer.
        let is_over = |asked: &Asked| asked.answer.is_between_chunks();
        if !self.asked.as_ref().is_some_and(is_over) {
            self.broke();
        }
    }
}

impl AsyncRead for Talk {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut *self.stream).poll_read(context, buf));
        match &read {
            Ok(()) => self.received(&buf.filled()[before..]),
            Err(_) => self.broke(),
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Talk {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut *self.stream).poll_write(context, data))?;
        self.sent(&data[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut *self.stream);
        let written = ready!(stream.poll_write_vectored(context, parts))?;
        if let Some(first) = parts.iter().find(|part| !part.is_empty()) {
            self.sent(&first[..written.min(first.len())]);
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(context)
    }
}

impl Stream for Talk {
    fn peer_addr(&self) -> SocketAddr {
        self.stream.peer_addr()
    }

    fn unsent_bytes(&self) -> Option<u64> {
        self.stream.unsent_bytes()
    }
}

#[cfg(test)]
mod tests {
    use sim_engine::{NodeId, World, WorldConfig};

    use super::*;

    /// A stream that carries nothing.
    struct Nothing;

    impl AsyncRead for Nothing {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Nothing {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl Stream for Nothing {
        fn peer_addr(&self) -> SocketAddr {
            SocketAddr::from(([10, 0, 0, 2], 7000))
        }

        fn unsent_bytes(&self) -> Option<u64> {
            None
        }
    }

    const BODIES: &[u8] = b"POST /peer/v1/bodies HTTP/1.1\r\n\r\n[]";
    const HELLO: &[u8] = b"GET /peer/v1/hello HTTP/1.1\r\n\r\n";
    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

    /// What is asked, what of the answer comes, and how often that happens.
    type Line<'a> = (&'a [u8], &'a [&'a [u8]], u32);

    /// Makes talks of each line. Whether the court has decided after them.
    fn talks(lines: &[Line<'_>]) -> bool {
        let world = World::new(WorldConfig::from_seed(0));
        let (clock, court) = (world.clock(NodeId::OPERATOR), Court::default());
        let net = world.net(NodeId::OPERATOR);
        let dials = Dials::new(net, clock, (court.clone(), "n"), (Box::new(|_, _| ()), None));
        for (asked, answers, times) in lines {
            for _ in 0..*times {
                let (stream, count) = (Box::new(Nothing), dials.count.clone());
                let addr = stream.peer_addr();
                let mut talk = Talk { stream, count, addr, asked: None };
                talk.sent(asked);
                answers.iter().for_each(|part| talk.received(part));
            }
        }
        court.is_decided()
    }

    #[test]
    fn requests_for_bodies_that_fail_in_a_row_are_counted_and_no_others() {
        let cut: &[&[u8]] = &[HEAD, b"5\r\nhel"];
        assert!(!talks(&[(BODIES, cut, 32)]));
        assert!(talks(&[(BODIES, cut, 33)]), "dropped in the middle");
        assert!(talks(&[(BODIES, &[HEAD, b""], 33)]), "ended by the peer");
        assert!(talks(&[(BODIES, &[b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n"], 33)]));
        assert!(talks(&[(BODIES, cut, 20), (HELLO, &[HEAD, b"0\r\n\r\n"], 1), (BODIES, cut, 20)]));
        let whole: &[&[u8]] = &[HEAD, b"5\r\nhello\r\n0\r\n\r\n"];
        assert!(!talks(&[(BODIES, cut, 20), (BODIES, whole, 1), (BODIES, cut, 20)]));
        assert!(!talks(&[(HELLO, &[], 99)]), "another request");
        let some = vec![b'x'; 80 << 10];
        let moved: &[&[u8]] = &[HEAD, b"20000\r\n", &some];
        assert!(!talks(&[(BODIES, moved, 99)]), "each brought some of a large body");
        assert!(!talks(&[(BODIES, cut, 20), (BODIES, moved, 1), (BODIES, cut, 20)]));
        let unended: &[&[u8]] = &[HEAD, b"5\r\nhello\r\n"];
        assert!(!talks(&[(BODIES, unended, 99)]), "who has all bodies may go before the end");
    }
}
