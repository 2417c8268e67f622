//! A link between two places, for processes that cannot be wrapped: proxies in front of them, with dials that turn while
//! everything runs.
//!
//! ```text
//! a process at the near end -> proxy -> a process at the far end      what it sends goes forth
//! a process at the far end  -> proxy -> a process at the near end     what it sends goes back
//!            all proxies of a link share its dials, its rates and its counts
//! ```
//!
//! A connection comes about when both ways are open, as its handshake would. Bytes are read, wait for their turn by the
//! rate, are on their way for as long as the delay says, and meet at the end what the flow says: so a delay holds up
//! nothing but each byte, as long as no more than [`BUFFER_BYTES_MAX`] are on their way. The kernel takes a connection
//! before the proxy can refuse it: who dials a link that refuses, or a process that is dead, sees a connection that
//! closes.
//!
//! A link is written against the seams and knows no more than other faults do which world it is in.

mod bucket;
mod dials;
mod pipe;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{
    StreamExt as _,
    future::{Either, select},
    stream::FuturesUnordered,
};
use kura_env::{Clock, Instant, Listener, Net, NetError, Stream, TaskHandle, Tasks, timeout};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt as _, split},
    sync::watch,
};

use bucket::Bucket;
pub use dials::{Dial, Dials, End, Flow, LinkCounts, Way, WayCounts};
use pipe::Pipe;

/// Connections of a proxy at a time; further ones wait to be accepted.
pub const CONNECTIONS_MAX: usize = 256;
/// Bytes of a piece, the unit in which a link moves anything.
const PIECE_BYTES_MAX: usize = 16 * 1024;
/// Pieces of a connection that are on their way in one direction.
const PIECES_MAX: usize = 64;
/// Bytes of a connection that are on their way in one direction; who sends more waits.
pub const BUFFER_BYTES_MAX: usize = PIECES_MAX * PIECE_BYTES_MAX;
/// How long a target may take to accept.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long to wait when the system has no room for another connection.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// A link. What it carries goes through its proxies.
#[derive(Clone)]
pub struct Link(Arc<Shared>);

/// A way into a link. Dropping it frees its address and closes its connections.
pub struct Proxy {
    addr: SocketAddr,
    _acceptor: TaskHandle,
}

struct Shared {
    clock: Arc<dyn Clock>,
    net: Arc<dyn Net>,
    tasks: Arc<dyn Tasks>,
    settings: watch::Sender<Settings>,
    buckets: Mutex<Buckets>,
    counts: Mutex<LinkCounts>,
}

/// What connections watch.
#[derive(Clone, Copy, Debug, Default)]
struct Settings {
    dials: Dials,
    /// How often all connections were cut.
    cuts: u64,
    /// How often each way began to swallow, forth and back.
    forgets: [u64; 2],
}

impl Settings {
    fn forgets(&self, way: Way) -> u64 {
        match way {
            Way::Forth => self.forgets[0],
            Way::Back => self.forgets[1],
        }
    }
}

struct Buckets {
    forth: Bucket,
    back: Bucket,
}

impl Buckets {
    fn way(&mut self, way: Way) -> &mut Bucket {
        match way {
            Way::Forth => &mut self.forth,
            Way::Back => &mut self.back,
        }
    }
}

impl Link {
    /// A link that does nothing yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, net: Arc<dyn Net>, tasks: Arc<dyn Tasks>) -> Self {
        let open = Bucket::new(None);
        Self(Arc::new(Shared {
            clock,
            net,
            tasks,
            settings: watch::Sender::default(),
            buckets: Mutex::new(Buckets { forth: open, back: open }),
            counts: Mutex::default(),
        }))
    }

    /// Listens on `listen` for those at the end `dialer`, and connects them with `target` at the other end.
    ///
    /// # Errors
    ///
    /// If nobody can listen there.
    pub async fn proxy(
        &self,
        dialer: End,
        listen: SocketAddr,
        target: SocketAddr,
    ) -> Result<Proxy, NetError> {
        let shared = self.0.clone();
        let listener = shared.net.listen(listen).await?;
        let addr = listener.local_addr();
        let accepting = Box::pin(accept(shared.clone(), listener, target, dialer));
        Ok(Proxy { addr, _acceptor: shared.tasks.spawn("proxy", accepting) })
    }

    /// Turns all dials.
    pub fn turn(&self, dials: Dials) {
        let old = self.dials();
        for way in [Way::Forth, Way::Back] {
            let rate = dials.way(way).bytes_per_second;
            if rate != old.way(way).bytes_per_second {
                *self.0.buckets.lock().way(way) = Bucket::new(rate);
            }
        }
        self.0.settings.send_modify(|settings| {
            settings.dials = dials;
            settings.cuts += u64::from(dials.refuses);
            let [forth, back] = &mut settings.forgets;
            *forth += u64::from(dials.forth.flow == Flow::Swallowed);
            *back += u64::from(dials.back.flow == Flow::Swallowed);
        });
    }

    /// The dials as they are.
    #[must_use]
    pub fn dials(&self) -> Dials {
        self.0.settings.borrow().dials
    }

    /// Closes all connections that there are. What the ends see is an end, or a reset where something was unread.
    pub fn cut(&self) {
        self.0.settings.send_modify(|settings| settings.cuts += 1);
    }

    /// What it has done so far.
    #[must_use]
    pub fn counts(&self) -> LinkCounts {
        *self.0.counts.lock()
    }
}

impl Proxy {
    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

async fn accept(shared: Arc<Shared>, listener: Box<dyn Listener>, target: SocketAddr, dialer: End) {
    let mut open = FuturesUnordered::new();
    loop {
        if open.len() >= CONNECTIONS_MAX {
            open.next().await;
            continue;
        }
        let accepted = if open.is_empty() {
            listener.accept().await
        } else {
            match select(listener.accept(), open.next()).await {
                Either::Left((accepted, _)) => accepted,
                Either::Right(_) => continue,
            }
        };
        match accepted {
            Ok(stream) => {
                shared.count(|counts| counts.accepted += 1);
                open.push(carry(&shared, stream, target, dialer));
            }
            // Connections that are open give room back; they are not held up by much.
            Err(_) => shared.clock.sleep(ACCEPT_AGAIN).await,
        }
    }
}

/// Carries one connection until it ends or is cut.
async fn carry(shared: &Shared, near: Box<dyn Stream>, target: SocketAddr, dialer: End) {
    let mut settings = shared.settings.subscribe();
    let born = *settings.borrow_and_update();
    if born.dials.refuses {
        return shared.count(|counts| counts.refused += 1);
    }
    let _open = OpenConnection::new(shared);
    let cut = Box::pin(settings.wait_for(|settings| settings.cuts != born.cuts));
    let carried = Box::pin(async {
        match connect(shared, near, target, dialer).await {
            Some((near, far)) => relay(shared, born, (near, far), dialer).await,
            None => Ended::InOrder,
        }
    });
    let is_cut = match select(cut, carried).await {
        Either::Left(_) => true,
        Either::Right((ended, _)) => ended == Ended::Cut,
    };
    if is_cut {
        shared.count(|counts| counts.cut += 1);
    }
}

/// How a connection, or one way of it, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// Its sender said so.
    InOrder,
    /// One of its ends broke.
    Broken,
    /// By the dial.
    Cut,
}

/// Connects with the target, once both ways are open.
async fn connect(
    shared: &Shared,
    mut near: Box<dyn Stream>,
    target: SocketAddr,
    dialer: End,
) -> Option<(Box<dyn Stream>, Box<dyn Stream>)> {
    for way in [dialer.out(), dialer.out().reverse()] {
        if shared.arrives(way).await == Flow::Swallowed {
            shared.count(|counts| counts.lost += 1);
            swallow(shared, &mut near, dialer.out()).await;
            return None;
        }
    }
    let connected = timeout(&*shared.clock, CONNECT_MAX, shared.net.connect(target)).await;
    let Ok(Ok(far)) = connected else {
        shared.count(|counts| counts.unreachable += 1);
        return None;
    };
    Some((near, far))
}

/// Throws away what comes, until the dialer gives up.
async fn swallow(shared: &Shared, near: &mut Box<dyn Stream>, way: Way) {
    let mut piece = vec![0; PIECE_BYTES_MAX];
    while let Ok(len @ 1..) = near.read(&mut piece).await {
        shared.count(|counts| counts.way_mut(way).swallowed_bytes += size(len));
    }
}

async fn relay(
    shared: &Shared,
    born: Settings,
    (near, far): (Box<dyn Stream>, Box<dyn Stream>),
    dialer: End,
) -> Ended {
    let (from_near, to_near) = split(near);
    let (from_far, to_far) = split(far);
    let pipe = |way| Pipe::new(shared, way, born.forgets(way));
    let out = Box::pin(pipe(dialer.out()).carry(from_near, to_far));
    let back = Box::pin(pipe(dialer.out().reverse()).carry(from_far, to_near));
    match select(out, back).await {
        Either::Left((Ended::InOrder, other)) => other.await,
        Either::Right((Ended::InOrder, other)) => other.await,
        Either::Left((ended, _)) | Either::Right((ended, _)) => ended,
    }
}

/// Counted for as long as it is open.
struct OpenConnection<'a>(&'a Shared);

impl<'a> OpenConnection<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.count(|counts| counts.open += 1);
        Self(shared)
    }
}

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.0.count(|counts| counts.open -= 1);
    }
}

impl Shared {
    fn count(&self, change: impl FnOnce(&mut LinkCounts)) {
        change(&mut self.counts.lock());
    }

    fn dial(&self, way: Way) -> Dial {
        *self.settings.borrow().dials.way(way)
    }

    /// Waits while the way is held; what becomes of what arrives then.
    async fn arrives(&self, way: Way) -> Flow {
        let flow = |settings: &Settings| settings.dials.way(way).flow;
        let mut settings = self.settings.subscribe();
        match settings.wait_for(|settings| flow(settings) != Flow::Held).await {
            Ok(settings) => flow(&settings),
            // The sender of settings is `self`.
            Err(_) => Flow::Swallowed,
        }
    }

    /// How often a way began to swallow.
    fn forgets(&self, way: Way) -> u64 {
        self.settings.borrow().forgets(way)
    }

    /// How much to read at a time.
    fn piece_bytes(&self, way: Way) -> usize {
        self.buckets.lock().way(way).piece_bytes(PIECE_BYTES_MAX)
    }

    /// Waits until so many bytes may set out by the rate. When they arrive.
    async fn sets_out(&self, way: Way, bytes: usize) -> Instant {
        let rate = |settings: &Settings| settings.dials.way(way).bytes_per_second;
        let mut settings = self.settings.subscribe();
        let mut has_waited = false;
        loop {
            let old = rate(&settings.borrow_and_update());
            let now = self.clock.now();
            let turn = self.buckets.lock().way(way).take(size(bytes), now);
            if turn > now {
                if !has_waited {
                    self.count(|counts| counts.way_mut(way).throttled += 1);
                    has_waited = true;
                }
                let changed = Box::pin(settings.wait_for(|settings| rate(settings) != old));
                let is_over = select(self.clock.sleep_until(turn), changed).await;
                if matches!(is_over, Either::Right(_)) {
                    // By the new rate it may be its turn at once.
                    continue;
                }
            }
            return self.clock.now() + self.dial(way).delay;
        }
    }
}

/// A length in memory as a count of bytes.
fn size(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
