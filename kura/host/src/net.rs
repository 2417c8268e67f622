//! TCP of this machine.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    os::fd::AsRawFd,
    pin::Pin,
    task::{Context, Poll},
};

use kura_env::{BoxFuture, Listener, Net, NetError, NetErrorKind, Stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpSocket, TcpStream, lookup_host},
};

use crate::disk::sigbus::may_be_zeros;

/// Connections that the kernel completes before they are accepted. Too low: bursts of new
/// connections wait a second for their next SYN. The kernel clamps it to `somaxconn`.
const LISTEN_BACKLOG: u32 = 1024;

/// TCP on tokio. Its futures must be polled inside a tokio runtime.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostNet;

struct HostListener {
    listener: TcpListener,
    addr: SocketAddr,
}

struct HostStream {
    stream: TcpStream,
    peer: SocketAddr,
}

impl Net for HostNet {
    fn listen(&self, addr: SocketAddr) -> BoxFuture<'_, Result<Box<dyn Listener>, NetError>> {
        Box::pin(async move {
            let listener = listen(addr).map_err(|cause| failed("listen", addr, cause))?;
            Ok(Box::new(listener) as Box<dyn Listener>)
        })
    }

    fn connect(&self, addr: SocketAddr) -> BoxFuture<'_, Result<Box<dyn Stream>, NetError>> {
        Box::pin(async move {
            let connected = async {
                let stream = TcpStream::connect(addr).await?;
                stream.set_nodelay(true)?;
                Ok(stream)
            };
            let stream = connected.await.map_err(|cause| failed("connect", addr, cause))?;
            Ok(Box::new(HostStream { stream, peer: addr }) as Box<dyn Stream>)
        })
    }

    fn resolve<'a>(
        &'a self,
        name: &'a str,
        port: u16,
    ) -> BoxFuture<'a, Result<Vec<SocketAddr>, NetError>> {
        Box::pin(async move {
            let unknown = |kind| NetError { action: "resolve", target: name.to_owned(), kind };
            let found = lookup_host((name, port)).await.map_err(|cause| {
                // The resolver's own answers carry no errno; what does is a failing system.
                unknown(match cause.raw_os_error() {
                    None => NetErrorKind::UnknownName,
                    Some(_) => kind_of(cause),
                })
            })?;
            let mut addrs: Vec<_> = found.collect();
            addrs.sort_unstable();
            addrs.dedup();
            if addrs.is_empty() {
                return Err(unknown(NetErrorKind::UnknownName));
            }
            Ok(addrs)
        })
    }
}

fn listen(addr: SocketAddr) -> io::Result<HostListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Without it a restarted node could not bind while connections of its predecessor linger.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    let listener = socket.listen(LISTEN_BACKLOG)?;
    let addr = listener.local_addr()?;
    Ok(HostListener { listener, addr })
}

impl Listener for HostListener {
    fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    fn accept(&self) -> BoxFuture<'_, Result<Box<dyn Stream>, NetError>> {
        Box::pin(async move {
            loop {
                let accepted = self.listener.accept().await;
                match accepted.and_then(|(s, peer)| s.set_nodelay(true).map(|()| (s, peer))) {
                    Ok((stream, peer)) => {
                        return Ok(Box::new(HostStream { stream, peer }) as Box<dyn Stream>);
                    }
                    // Gone before it was accepted; nothing is wrong with the listener.
                    Err(cause) if is_gone(&cause) => {}
                    Err(cause) => return Err(failed("accept", self.addr, cause)),
                }
            }
        })
    }
}

impl Stream for HostStream {
    fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    fn unsent_bytes(&self) -> Option<u64> {
        let mut bytes: libc::c_int = 0;
        // SAFETY: the descriptor is open while `self.stream` lives, and `SIOCOUTQ` (tcp(7)), which
        // has the number of `TIOCOUTQ`, writes one `int` to where the third argument points.
        let failed =
            unsafe { libc::ioctl(self.stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
        if failed == 0 { u64::try_from(bytes).ok() } else { None }
    }
}

impl AsyncRead for HostStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

/// Bytes of a mapping are asked about once more as they are handed to the system: a page that could
/// not be read again since they were checked holds zeros. Better a connection that breaks.
fn damaged() -> io::Error {
    io::Error::other("a page of a mapped file could not be read any more")
}

impl AsyncWrite for HostStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if may_be_zeros(buf) {
            return Poll::Ready(Err(damaged()));
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if bufs.iter().any(|buf| may_be_zeros(buf)) {
            return Poll::Ready(Err(damaged()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

fn failed(action: &'static str, target: SocketAddr, cause: io::Error) -> NetError {
    NetError { action, target: target.to_string(), kind: kind_of(cause) }
}

/// Whether a connection ended between its handshake and its accept. Linux hands network errors
/// that were already pending on the new socket to `accept`, which are to be treated alike.
fn is_gone(cause: &io::Error) -> bool {
    matches!(
        cause.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::NotConnected
    ) || matches!(
        cause.raw_os_error(),
        Some(libc::EPROTO | libc::ENETDOWN | libc::EHOSTUNREACH | libc::ENETUNREACH)
    )
}

fn kind_of(cause: io::Error) -> NetErrorKind {
    match cause.raw_os_error() {
        Some(libc::ECONNREFUSED) => NetErrorKind::Refused,
        Some(libc::EADDRINUSE) => NetErrorKind::AddressInUse,
        // No descriptors, no memory, or (on connect) no local port.
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EAGAIN) => {
            NetErrorKind::Exhausted(cause)
        }
        _ => NetErrorKind::Io(cause),
    }
}
