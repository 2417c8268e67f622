//! A network with faults.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use kura_env::{BoxFuture, Listener, Net, NetError, NetErrorKind, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    faults::Faults,
    injector::{Operation, Strike},
    plan::{Cut, What},
};

/// A network with the faults of a plan.
///
/// A fault ends a stream for this node. What its peer sees is what the network makes of a stream
/// that is dropped, or of one that is never read again.
pub struct FaultyNet {
    net: Arc<dyn Net>,
    faults: Faults,
}

impl FaultyNet {
    /// Wraps `net`.
    #[must_use]
    pub fn new(net: Arc<dyn Net>, faults: Faults) -> Self {
        Self { net, faults }
    }
}

impl Net for FaultyNet {
    fn listen(&self, addr: SocketAddr) -> BoxFuture<'_, Result<Box<dyn Listener>, NetError>> {
        Box::pin(async move {
            let listener = self.net.listen(addr).await?;
            let faults = self.faults.clone();
            Ok(Box::new(FaultyListener { listener, faults }) as Box<dyn Listener>)
        })
    }

    fn connect(&self, addr: SocketAddr) -> BoxFuture<'_, Result<Box<dyn Stream>, NetError>> {
        Box::pin(async move {
            let class = || format!("connect {addr}");
            let strike = self.faults.ask(Operation::Connection, class).await;
            self.faults.stalled(strike.as_ref()).await;
            if is_refused(strike.as_ref()) {
                let target = addr.to_string();
                return Err(NetError { action: "connect", target, kind: NetErrorKind::Refused });
            }
            Ok(self.faults.stream(self.net.connect(addr).await?, strike))
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

struct FaultyListener {
    listener: Box<dyn Listener>,
    faults: Faults,
}

impl Listener for FaultyListener {
    fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    fn accept(&self) -> BoxFuture<'_, Result<Box<dyn Stream>, NetError>> {
        Box::pin(async move {
            loop {
                let stream = self.listener.accept().await?;
                let class = || format!("accept {}", self.listener.local_addr());
                let strike = self.faults.ask(Operation::Connection, class).await;
                self.faults.stalled(strike.as_ref()).await;
                if !is_refused(strike.as_ref()) {
                    return Ok(self.faults.stream(stream, strike));
                }
            }
        })
    }
}

fn is_refused(strike: Option<&Strike>) -> bool {
    strike.is_some_and(|strike| strike.fault.what == What::NetRefuse)
}

impl Faults {
    fn stream(&self, stream: Box<dyn Stream>, strike: Option<Strike>) -> Box<dyn Stream> {
        let (left_bytes, end) = match strike.map(|strike| strike.fault.what) {
            Some(What::NetCut { after_bytes, how }) => (after_bytes, End::Cut(how)),
            Some(What::NetStall { after_bytes, millis }) => {
                (after_bytes, End::Stall(Duration::from_millis(millis)))
            }
            Some(
                What::Crash { .. }
                | What::DiskError { .. }
                | What::ShortAppend { .. }
                | What::Stall { .. }
                | What::CatalogError { .. }
                | What::NetRefuse,
            )
            | None => return stream,
        };
        let peer_addr = stream.peer_addr();
        let faults = self.clone();
        let (reader, writer) = (None, None);
        let stream = Some(stream);
        Box::new(FaultyStream { stream, peer_addr, left_bytes, end, faults, reader, writer })
    }
}

/// What happens once the bytes are used up.
enum End {
    Cut(Cut),
    Stall(Duration),
    Stalling(BoxFuture<'static, ()>),
    /// Nothing any more: the pause is over.
    Never,
}

/// A stream that breaks after so many bytes.
struct FaultyStream {
    /// Gone after a reset or an end, so that the peer hears of it.
    stream: Option<Box<dyn Stream>>,
    peer_addr: SocketAddr,
    left_bytes: u64,
    end: End,
    faults: Faults,
    /// Who waits for each direction, because a cut noticed by one ends the other as well.
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// How a stream goes on.
enum Next {
    /// Up to so many bytes may pass.
    Pass(usize),
    Broken(Cut),
}

impl FaultyStream {
    fn poll_next(&mut self, context: &mut Context<'_>, wanted: usize) -> Poll<Next> {
        loop {
            let left = usize::try_from(self.left_bytes).unwrap_or(usize::MAX);
            match &mut self.end {
                End::Never => return Poll::Ready(Next::Pass(wanted)),
                _ if left > 0 => return Poll::Ready(Next::Pass(wanted.min(left))),
                End::Cut(how) => {
                    let how = *how;
                    if how != Cut::Silence && self.stream.take().is_some() {
                        let waiting = self.reader.take().into_iter().chain(self.writer.take());
                        waiting.for_each(Waker::wake);
                    }
                    return Poll::Ready(Next::Broken(how));
                }
                End::Stall(pause) => {
                    self.end = End::Stalling(self.faults.clock().sleep(*pause));
                }
                End::Stalling(sleep) => {
                    ready!(sleep.as_mut().poll(context));
                    self.end = End::Never;
                }
            }
        }
    }

    fn passed(&mut self, bytes: usize) {
        self.left_bytes = self.left_bytes.saturating_sub(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// The stream below, for as long as bytes may pass.
    fn below(&mut self) -> io::Result<Pin<&mut dyn Stream>> {
        match &mut self.stream {
            Some(stream) => Ok(Pin::new(&mut **stream)),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl AsyncRead for FaultyStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.reader = Some(context.waker().clone());
        let allowed = match ready!(self.poll_next(context, buf.remaining())) {
            Next::Pass(allowed) => allowed,
            Next::Broken(Cut::Reset) => {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            Next::Broken(Cut::Eof) => return Poll::Ready(Ok(())),
            Next::Broken(Cut::Silence) => return Poll::Pending,
        };
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(allowed));
        ready!(self.below()?.poll_read(context, &mut part))?;
        let read = part.filled().len();
        buf.advance(read);
        self.passed(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for FaultyStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writer = Some(context.waker().clone());
        let allowed = match ready!(self.poll_next(context, data.len())) {
            Next::Pass(allowed) => allowed,
            Next::Broken(Cut::Reset) => {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            Next::Broken(Cut::Eof) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Next::Broken(Cut::Silence) => return Poll::Pending,
        };
        let written = ready!(self.below()?.poll_write(context, &data[..allowed]))?;
        self.passed(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Some(stream) => Pin::new(&mut **stream).poll_flush(context),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.left_bytes == 0 && matches!(self.end, End::Cut(Cut::Silence)) {
            return Poll::Ready(Ok(()));
        }
        match &mut self.stream {
            Some(stream) => Pin::new(&mut **stream).poll_shutdown(context),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl Stream for FaultyStream {
    fn peer_addr(&self) -> SocketAddr {
        self.peer_addr
    }

    fn unsent_bytes(&self) -> Option<u64> {
        self.stream.as_ref()?.unsent_bytes()
    }
}
