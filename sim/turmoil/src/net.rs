//! turmoil's TCP as a node sees it.

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use kura_env::{BoxFuture, Clock, Listener, Net, NetError, NetErrorKind, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

use crate::journal::Journal;

/// The network of one host.
#[derive(Clone)]
pub(crate) struct TurmoilNet {
    pub(crate) host: Arc<str>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) journal: Journal,
}

struct TurmoilListener {
    net: TurmoilNet,
    listener: TcpListener,
    addr: SocketAddr,
}

struct TurmoilStream {
    net: TurmoilNet,
    stream: TcpStream,
    peer: SocketAddr,
}

impl TurmoilNet {
    fn record(&self, what: std::fmt::Arguments<'_>) {
        self.journal.record(self.clock.now(), &self.host, what);
    }

    fn stream(&self, stream: TcpStream, peer: SocketAddr) -> Box<dyn Stream> {
        Box::new(TurmoilStream { net: self.clone(), stream, peer })
    }
}

impl Net for TurmoilNet {
    fn listen(&self, addr: SocketAddr) -> BoxFuture<'_, Result<Box<dyn Listener>, NetError>> {
        Box::pin(async move {
            // turmoil binds to all addresses of a host or to none.
            let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), addr.port());
            let bound = TcpListener::bind(any).await;
            let listener = bound.map_err(|cause| failed("listen", addr, cause))?;
            let port = listener.local_addr().map_or(addr.port(), |bound| bound.port());
            let addr = SocketAddr::new(addr.ip(), port);
            Ok(Box::new(TurmoilListener { net: self.clone(), listener, addr }) as Box<dyn Listener>)
        })
    }

    fn connect(&self, addr: SocketAddr) -> BoxFuture<'_, Result<Box<dyn Stream>, NetError>> {
        Box::pin(async move {
            let connected = TcpStream::connect(addr).await;
            let outcome = connected.as_ref().map_or_else(|error| error.to_string(), |_| "".into());
            self.record(format_args!("connect {addr} {outcome}"));
            let stream = connected.map_err(|cause| failed("connect", addr, cause))?;
            Ok(self.stream(stream, addr))
        })
    }

    fn resolve<'a>(
        &'a self,
        name: &'a str,
        port: u16,
    ) -> BoxFuture<'a, Result<Vec<SocketAddr>, NetError>> {
        Box::pin(async move {
            // Asking turmoil for a name that it does not know would make one up.
            let unknown = |_| NetError {
                action: "resolve",
                target: name.to_owned(),
                kind: NetErrorKind::UnknownName,
            };
            let ip: IpAddr = name.parse().map_err(unknown)?;
            Ok(vec![SocketAddr::new(ip, port)])
        })
    }
}

impl Listener for TurmoilListener {
    fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    fn accept(&self) -> BoxFuture<'_, Result<Box<dyn Stream>, NetError>> {
        Box::pin(async move {
            let accepted = self.listener.accept().await;
            let (stream, peer) = accepted.map_err(|cause| failed("accept", self.addr, cause))?;
            self.net.record(format_args!("accept {peer}"));
            Ok(self.net.stream(stream, peer))
        })
    }
}

impl Stream for TurmoilStream {
    fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    fn unsent_bytes(&self) -> Option<u64> {
        None
    }
}

impl AsyncRead for TurmoilStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if polled.is_ready() {
            let (peer, len) = (self.peer, buf.filled().len() - before);
            self.net.record(format_args!("read {peer} {len}"));
        }
        polled
    }
}

impl AsyncWrite for TurmoilStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

fn failed(action: &'static str, target: SocketAddr, cause: io::Error) -> NetError {
    let kind = if cause.kind() == ErrorKind::ConnectionRefused {
        NetErrorKind::Refused
    } else if cause.kind() == ErrorKind::AddrInUse {
        NetErrorKind::AddressInUse
    } else {
        NetErrorKind::Io(cause)
    };
    NetError { action, target: target.to_string(), kind }
}
