//! Byte streams between processes. hyper runs on top in every world, so that time-outs, half-open
//! connections and truncated bodies are the real ones.

use std::{io, net::SocketAddr};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::BoxFuture;

/// A connected, ordered, reliable byte stream in both directions.
///
/// Contract: a read of zero bytes is the end that the peer declared by `shutdown` or an orderly
/// close; a reset by the peer is an error of kind `ConnectionReset`; silence is neither and lasts
/// for ever. Writes are accepted only while the peer's window has room (back-pressure). Dropping a
/// stream closes it in both directions: bytes already accepted are still delivered, unless unread
/// bytes are thrown away by the drop, in which case the peer sees a reset.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
    /// The address of the other end.
    fn peer_addr(&self) -> SocketAddr;

    /// Bytes that were accepted by writes and that the host of the other end has not confirmed yet;
    /// `None` where the system does not tell. While nothing is written it only falls, and it falls
    /// while bytes move, also when the window has no room for a write yet.
    fn unsent_bytes(&self) -> Option<u64>;
}

/// A bound address that accepts streams. Dropping it frees the address.
pub trait Listener: Send + Sync {
    /// The address that was bound, with the port that was chosen if zero was asked for.
    fn local_addr(&self) -> SocketAddr;

    /// The next connection, with `TCP_NODELAY` on.
    fn accept(&self) -> BoxFuture<'_, Result<Box<dyn Stream>, NetError>>;
}

/// The network.
///
/// Contract: nothing here waits without end except `accept` and `connect` to an address that is
/// silent; who calls `connect` brings a time-out.
pub trait Net: Send + Sync {
    /// Binds `addr`; port 0 chooses a free one.
    fn listen(&self, addr: SocketAddr) -> BoxFuture<'_, Result<Box<dyn Listener>, NetError>>;

    /// Connects to `addr`, with `TCP_NODELAY` on.
    fn connect(&self, addr: SocketAddr) -> BoxFuture<'_, Result<Box<dyn Stream>, NetError>>;

    /// All addresses of `name`, sorted. A name that is an address resolves to itself.
    fn resolve<'a>(
        &'a self,
        name: &'a str,
        port: u16,
    ) -> BoxFuture<'a, Result<Vec<SocketAddr>, NetError>>;
}

/// Why the network said no.
#[derive(Debug, thiserror::Error)]
#[error("{action} {target}: {kind}")]
pub struct NetError {
    /// What was tried: `listen`, `accept`, `connect`, `resolve`.
    pub action: &'static str,
    /// The address or the name.
    pub target: String,
    /// The cause.
    pub kind: NetErrorKind,
}

/// The causes that callers tell apart.
#[derive(Debug, thiserror::Error)]
pub enum NetErrorKind {
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// The address is taken.
    #[error("address in use")]
    AddressInUse,
    /// The name has no address.
    #[error("no such name")]
    UnknownName,
    /// This process has no file descriptors left, or the like; trying again may help.
    #[error("out of resources: {0}")]
    Exhausted(#[source] io::Error),
    /// Any other error of the system.
    #[error("{0}")]
    Io(#[source] io::Error),
}
