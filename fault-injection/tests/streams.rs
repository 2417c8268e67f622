//! Faults on streams: refused, reset, ended, silent and paused are five different things.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../sim/storage/tests/support/mod.rs"]
mod support;

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use fault_injection::{Cut, Fault, FaultId, Faults, Injector, Plan, What, When};
use kura_env::{BoxFuture, Clock, Listener, Net, NetError, NetErrorKind, Stream};
use parking_lot::Mutex;
use support::{Handle, JumpingClock};
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex,
};

const ADDR: &str = "10.0.0.1:80";

/// A network of pipes: each connection waits until it is accepted.
#[derive(Clone, Default)]
struct Pipes(Arc<Mutex<VecDeque<DuplexStream>>>);

struct Pipe(DuplexStream);

impl Net for Pipes {
    fn listen(&self, _: SocketAddr) -> BoxFuture<'_, Result<Box<dyn Listener>, NetError>> {
        Box::pin(async move { Ok(Box::new(self.clone()) as Box<dyn Listener>) })
    }

    fn connect(&self, _: SocketAddr) -> BoxFuture<'_, Result<Box<dyn Stream>, NetError>> {
        let (near, far) = duplex(1 << 16);
        self.0.lock().push_back(far);
        Box::pin(async move { Ok(Box::new(Pipe(near)) as Box<dyn Stream>) })
    }

    fn resolve<'a>(
        &'a self,
        name: &'a str,
        _: u16,
    ) -> BoxFuture<'a, Result<Vec<SocketAddr>, NetError>> {
        Box::pin(async move { Ok(vec![name.parse().unwrap()]) })
    }
}

impl Listener for Pipes {
    fn local_addr(&self) -> SocketAddr {
        ADDR.parse().unwrap()
    }

    fn accept(&self) -> BoxFuture<'_, Result<Box<dyn Stream>, NetError>> {
        let next = self.0.lock().pop_front();
        Box::pin(async move {
            match next {
                Some(stream) => Ok(Box::new(Pipe(stream)) as Box<dyn Stream>),
                None => std::future::pending().await,
            }
        })
    }
}

impl Stream for Pipe {
    fn peer_addr(&self) -> SocketAddr {
        ADDR.parse().unwrap()
    }

    fn unsent_bytes(&self) -> Option<u64> {
        None
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buf)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

struct World {
    clock: Arc<JumpingClock>,
    pipes: Pipes,
    net: Arc<dyn Net>,
    injector: Arc<Injector>,
}

fn world(what: Option<What>) -> World {
    let clock = JumpingClock::shared();
    let fault = |what| Fault {
        id: FaultId(1),
        node: "node".to_owned(),
        when: When::EffectMatching { label: format!("* {ADDR}"), nth: 1 },
        what,
        times: 1,
    };
    let plan = Plan { faults: what.map(fault).into_iter().collect() };
    let injector = Arc::new(Injector::new(plan));
    let handle = Arc::new(Handle(Arc::clone(&clock)));
    let faults = Faults::new(Arc::clone(&injector), "node", handle, Arc::new(|_| ()));
    let pipes = Pipes::default();
    let net = faults.net(Arc::new(pipes.clone()));
    World { clock, pipes, net, injector }
}

impl World {
    /// A stream of ours, and the other end without faults.
    fn connected(&self) -> (Box<dyn Stream>, Box<dyn Stream>) {
        self.clock.block_on(async {
            let near = self.net.connect(ADDR.parse().unwrap()).await.unwrap();
            (near, self.pipes.accept().await.unwrap())
        })
    }
}

fn cut(how: Cut) -> Option<What> {
    Some(What::NetCut { after_bytes: 6, how })
}

#[test]
fn without_a_fault_bytes_pass_both_ways_and_end_in_order() {
    let world = world(None);
    let (mut near, mut far) = world.connected();
    world.clock.block_on(async {
        near.write_all(b"hello").await.unwrap();
        far.write_all(b"hello to you").await.unwrap();
        far.shutdown().await.unwrap();
        let mut got = Vec::new();
        near.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"hello to you");
        let mut got = [0; 5];
        far.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"hello");
        assert_eq!(near.peer_addr(), ADDR.parse().unwrap());
    });
}

#[test]
fn a_refused_connection_is_never_made() {
    let world = world(Some(What::NetRefuse));
    world.clock.block_on(async {
        let refused = world.net.connect(ADDR.parse().unwrap()).await;
        assert!(refused.is_err_and(|error| matches!(error.kind, NetErrorKind::Refused)));
        assert!(world.pipes.0.lock().is_empty(), "nobody was asked");
        world.net.connect(ADDR.parse().unwrap()).await.unwrap();
    });
    assert_eq!(world.injector.fired()["net-refuse"], 1);
}

#[test]
fn a_refused_guest_is_closed_and_the_next_one_is_let_in() {
    let world = world(Some(What::NetRefuse));
    world.clock.block_on(async {
        let mut first = world.pipes.connect(ADDR.parse().unwrap()).await.unwrap();
        let mut second = world.pipes.connect(ADDR.parse().unwrap()).await.unwrap();
        let listener = world.net.listen(ADDR.parse().unwrap()).await.unwrap();
        let mut guest = listener.accept().await.unwrap();
        assert_eq!(first.read(&mut [0; 9]).await.unwrap(), 0, "the first was closed");
        second.write_all(b"hello").await.unwrap();
        assert_eq!(guest.read(&mut [0; 9]).await.unwrap(), 5);
    });
}

#[test]
fn a_reset_is_an_error_after_the_last_byte_that_passes() {
    let world = world(cut(Cut::Reset));
    let (mut near, mut far) = world.connected();
    world.clock.block_on(async {
        // Both directions count: four bytes out, two bytes in.
        near.write_all(b"four").await.unwrap();
        far.write_all(b"a long answer").await.unwrap();
        let mut got = [0; 99];
        assert_eq!(near.read(&mut got).await.unwrap(), 2);
        let kind = near.read(&mut got).await.unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::ConnectionReset);
        let kind = near.write(b"more").await.unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::ConnectionReset);
        let mut all = Vec::new();
        far.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"four", "the other end sees the stream end");
    });
    assert_eq!(world.injector.fired()["net-cut.reset"], 1);
}

#[test]
fn an_early_end_looks_orderly() {
    let world = world(cut(Cut::Eof));
    let (mut near, mut far) = world.connected();
    world.clock.block_on(async {
        far.write_all(b"a long answer").await.unwrap();
        let mut got = Vec::new();
        near.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"a long", "cut short, and no error tells so");
    });
}

#[test]
fn silence_tells_nobody() {
    let world = world(cut(Cut::Silence));
    let (mut near, mut far) = world.connected();
    world.clock.block_on(near.write_all(b"sixes!")).unwrap();
    world.clock.block_on(far.write_all(b"answer")).unwrap();
    assert!(world.clock.run(near.read(&mut [0; 9])).is_none(), "nothing arrives");
    assert!(world.clock.run(near.write(b"more")).is_none(), "nothing is accepted");
    world.clock.block_on(near.shutdown()).unwrap();
    let mut got = [0; 6];
    world.clock.block_on(far.read_exact(&mut got)).unwrap();
    assert!(world.clock.run(far.read(&mut got)).is_none(), "not even the end");
}

#[test]
fn a_cut_noticed_by_the_writer_ends_a_reader_that_waits() {
    let world = world(cut(Cut::Reset));
    let (near, _far) = world.connected();
    let (mut reader, mut writer) = tokio::io::split(near);
    let mut buf = [0; 9];
    let read = reader.read(&mut buf);
    let write = async {
        writer.write_all(b"sixes!").await.unwrap();
        writer.write_all(b"more").await.unwrap_err().kind()
    };
    let (read, wrote) = world.clock.block_on(async { futures_util::join!(read, write) });
    assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(wrote, io::ErrorKind::ConnectionReset);
}

#[test]
fn a_pause_ends_and_everything_passes() {
    let world = world(Some(What::NetStall { after_bytes: 3, millis: 700 }));
    let (mut near, mut far) = world.connected();
    world.clock.block_on(async {
        far.write_all(b"a long answer").await.unwrap();
        far.shutdown().await.unwrap();
        let mut got = Vec::new();
        near.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"a long answer");
    });
    assert_eq!(Handle(Arc::clone(&world.clock)).now().0, 700_000_000);
}
