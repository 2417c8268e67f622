//! Listening and connecting.

use std::{
    collections::VecDeque,
    future::{Future, pending},
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use kura_env::{BoxFuture, Listener, Net, NetError, NetErrorKind, Stream};

use super::{
    Moment, NetEvent, Network,
    conn::{Conn, End, Packet, Phase, Pipe, Side},
    stream::SimStream,
};
use crate::{
    config::nanos,
    host::{Life, NodeId, Power},
    journal::Event,
    shared::Shared,
    task::Wait,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ListenKey {
    pub(super) node: NodeId,
    port: u16,
    ip: IpAddr,
}

pub(super) struct Listening {
    /// Tells the listener of one life from that of another.
    serial: u64,
    backlog: VecDeque<u64>,
    pub(super) acceptors: Vec<Waker>,
}

impl Network {
    fn port_taken(&self, node: NodeId, port: u16, ip: IpAddr) -> bool {
        self.listeners.keys().any(|key| {
            let overlaps = key.ip == ip || key.ip.is_unspecified() || ip.is_unspecified();
            key.node == node && key.port == port && overlaps
        })
    }

    /// The listener that a connect to this address reaches.
    fn listener(&self, node: NodeId, addr: SocketAddr) -> Option<ListenKey> {
        self.listeners
            .keys()
            .find(|key| {
                let hears = key.ip == addr.ip() || key.ip.is_unspecified();
                key.node == node && key.port == addr.port() && hears
            })
            .copied()
    }

    fn free_port(&self, node: NodeId, ip: IpAddr, moment: &Moment<'_>) -> u16 {
        loop {
            let port = moment.shared.hosts.lock().next_port(node);
            if !self.port_taken(node, port, ip) {
                return port;
            }
        }
    }

    fn listen(
        &mut self,
        node: NodeId,
        addr: SocketAddr,
        moment: &Moment<'_>,
    ) -> Result<(ListenKey, u64), NetErrorKind> {
        let ip = addr.ip();
        let own = ip.is_unspecified() || ip.is_loopback();
        if !own && moment.shared.hosts.lock().addr(node) != ip {
            return Err(NetErrorKind::Io(io::ErrorKind::AddrNotAvailable.into()));
        }
        let port = match addr.port() {
            0 => self.free_port(node, ip, moment),
            port if self.port_taken(node, port, ip) => return Err(NetErrorKind::AddressInUse),
            port => port,
        };
        let key = ListenKey { node, port, ip };
        self.next_listener += 1;
        let serial = self.next_listener;
        let listening = Listening { serial, backlog: VecDeque::new(), acceptors: Vec::new() };
        self.listeners.insert(key, listening);
        moment.shared.record(Event::Listen, [u64::from(node.number()), u64::from(port)], || {
            format!("{node} {ip}:{port}")
        });
        Ok((key, serial))
    }

    fn unlisten(&mut self, key: ListenKey, serial: u64, moment: &mut Moment<'_>) {
        if self.listeners.get(&key).is_some_and(|listening| listening.serial == serial)
            && let Some(listening) = self.listeners.remove(&key)
        {
            moment.wake.extend(listening.acceptors);
            for id in listening.backlog {
                self.abort(id, Side::Server, moment);
            }
        }
    }

    fn accept(
        &mut self,
        (key, serial): (ListenKey, u64),
        waker: &Waker,
    ) -> Poll<(u64, SocketAddr)> {
        let listening = self.listeners.get_mut(&key).filter(|found| found.serial == serial);
        let Some(listening) = listening else { return Poll::Pending };
        let Some(id) = listening.backlog.pop_front() else {
            if !listening.acceptors.iter().any(|acceptor| acceptor.will_wake(waker)) {
                listening.acceptors.push(waker.clone());
            }
            return Poll::Pending;
        };
        let conn = self.conns.get(&id).expect("the backlog holds the connections in it");
        Poll::Ready((id, conn.end(Side::Client).addr))
    }

    /// Begins a connection from a node to an address of another.
    fn ask(
        &mut self,
        node: NodeId,
        (server, target): (NodeId, SocketAddr),
        moment: &mut Moment<'_>,
    ) -> u64 {
        let id = self.next_conn;
        self.next_conn += 1;
        let own_ip = if target.ip().is_loopback() {
            target.ip()
        } else {
            moment.shared.hosts.lock().addr(node)
        };
        let own = SocketAddr::new(own_ip, self.free_port(node, own_ip, moment));
        let mut pipe = |from, to| {
            let pair = self.pair(from, to, moment);
            Pipe::new(Arc::clone(&pair.path), pair.window_bytes)
        };
        let pipes = [pipe(node, server), pipe(server, node)];
        let ends = [End::new(node, own, true), End::new(server, target, false)];
        let conn = Conn {
            ends,
            pipes,
            phase: Phase::Asked,
            arrived: false,
            connecting: None,
            muted: false,
        };
        self.conns.insert(id, conn);
        moment.shared.record(Event::Connect, [id, u64::from(server.number())], || {
            format!("{node}>{server} c{id} {own} {target}")
        });
        self.send_packet(node, server, Packet::Connect(id), moment);
        id
    }

    /// A connect reaches the server's host.
    pub(super) fn connect_arrived(&mut self, id: u64, moment: &mut Moment<'_>) {
        let Some(conn) = self.conns.get(&id).filter(|conn| !conn.arrived) else { return };
        let (client, server) = conn.direction(Side::Client);
        let target = conn.end(Side::Server).addr;
        if moment.shared.hosts.lock().power(server) == Power::Dark {
            self.stranded.entry(server).or_default().push(id);
            return;
        }
        let refused = self.pair(client, server, moment).refused;
        let key = self.listener(server, target).filter(|_| !refused);
        let Some(listening) = key.and_then(|key| self.listeners.get_mut(&key)) else {
            self.send_packet(server, client, Packet::Refused(id), moment);
            return;
        };
        if listening.backlog.len() >= self.config.backlog_max {
            let at_nanos = moment.now_nanos + nanos(self.config.connect_retry);
            let packet = Packet::Connect(id);
            moment.at(at_nanos, NetEvent::Arrive { from: client, to: server, packet });
            return;
        }
        listening.backlog.push_back(id);
        moment.wake.append(&mut listening.acceptors);
        let conn = self.conns.get_mut(&id).expect("it was found above");
        conn.arrived = true;
        conn.end_mut(Side::Server).held = true;
        self.send_packet(server, client, Packet::Accepted(id), moment);
    }

    pub(super) fn accepted_arrived(&mut self, id: u64, moment: &mut Moment<'_>) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if conn.phase == Phase::Asked {
            conn.phase = Phase::Open;
            moment.wake(&mut conn.connecting);
            moment.shared.record(Event::Establish, [id, 0], || format!("c{id}"));
        }
    }

    pub(super) fn refused_arrived(&mut self, id: u64, moment: &mut Moment<'_>) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.phase = Phase::Refused;
        moment.wake(&mut conn.connecting);
        moment.shared.record(Event::Refuse, [id, 0], || format!("c{id}"));
    }

    fn connecting(
        &mut self,
        id: u64,
        waker: &Waker,
        moment: &mut Moment<'_>,
    ) -> Poll<Result<(), NetErrorKind>> {
        // Only what a dead life began is not held.
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.end(Side::Client).held) else {
            return Poll::Pending;
        };
        if conn.end(Side::Client).reset {
            let error = io::ErrorKind::ConnectionReset.into();
            return Poll::Ready(Err(NetErrorKind::Io(error)));
        }
        match conn.phase {
            Phase::Asked => {
                moment.park(&mut conn.connecting, waker);
                Poll::Pending
            }
            Phase::Open => Poll::Ready(Ok(())),
            Phase::Refused => Poll::Ready(Err(NetErrorKind::Refused)),
        }
    }

    /// Nobody waits for this connection any more.
    fn give_up(&mut self, id: u64, moment: &mut Moment<'_>) {
        let Some(conn) = self.conns.get(&id).filter(|conn| conn.end(Side::Client).held) else {
            return;
        };
        if conn.arrived { self.abort(id, Side::Client, moment) } else { self.forget(id, moment) }
    }
}

/// The network as one life of a node sees it.
pub(crate) struct SimNet {
    pub(crate) shared: Arc<Shared>,
    pub(crate) life: Life,
}

impl SimNet {
    fn node_at(&self, ip: IpAddr) -> Option<NodeId> {
        if ip.is_loopback() || ip.is_unspecified() {
            Some(self.life.node)
        } else {
            self.shared.hosts.lock().by_addr(ip)
        }
    }

    fn names(&self, name: &str) -> Option<Vec<IpAddr>> {
        if let Ok(ip) = name.parse() {
            return Some(vec![ip]);
        }
        if let Some(ips) = self.shared.net.lock().addresses(name) {
            return Some(ips);
        }
        if name == "localhost" {
            return Some(vec![IpAddr::from([127, 0, 0, 1])]);
        }
        let hosts = self.shared.hosts.lock();
        hosts.by_name(name).map(|node| vec![hosts.addr(node)])
    }
}

impl Net for SimNet {
    fn listen(&self, addr: SocketAddr) -> BoxFuture<'_, Result<Box<dyn Listener>, NetError>> {
        Box::pin(async move {
            if !self.shared.alive(self.life) {
                return pending().await;
            }
            let made = self.shared.with_net(|net, moment| net.listen(self.life.node, addr, moment));
            let (key, serial) = made.map_err(|kind| error("listen", addr, kind))?;
            let addr = SocketAddr::new(addr.ip(), key.port);
            let shared = Arc::clone(&self.shared);
            Ok(Box::new(SimListener { shared, key, serial, addr }) as Box<dyn Listener>)
        })
    }

    fn connect(&self, addr: SocketAddr) -> BoxFuture<'_, Result<Box<dyn Stream>, NetError>> {
        Box::pin(async move {
            if !self.shared.alive(self.life) {
                return pending().await;
            }
            let Some(server) = self.node_at(addr.ip()) else {
                // No such host: nothing will ever answer.
                self.shared.waiting(Wait::Connect(addr));
                return pending().await;
            };
            let node = self.life.node;
            let id = self.shared.with_net(|net, moment| net.ask(node, (server, addr), moment));
            let shared = Arc::clone(&self.shared);
            let asked = Asked { shared: Arc::clone(&shared), id, target: addr, settled: false };
            asked.await.map_err(|kind| error("connect", addr, kind))?;
            let stream = SimStream { shared, conn: id, side: Side::Client, peer: addr };
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }

    fn resolve<'a>(
        &'a self,
        name: &'a str,
        port: u16,
    ) -> BoxFuture<'a, Result<Vec<SocketAddr>, NetError>> {
        let found = self.names(name).map(|mut ips| {
            ips.sort_unstable();
            ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()
        });
        let missing = || error("resolve", name, NetErrorKind::UnknownName);
        Box::pin(std::future::ready(found.ok_or_else(missing)))
    }
}

fn error(action: &'static str, target: impl ToString, kind: NetErrorKind) -> NetError {
    NetError { action, target: target.to_string(), kind }
}

/// A connect under way. Dropping it before it is settled gives the connection up.
struct Asked {
    shared: Arc<Shared>,
    id: u64,
    target: SocketAddr,
    settled: bool,
}

impl Future for Asked {
    type Output = Result<(), NetErrorKind>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let id = self.id;
        let polled = self.shared.with_net(|net, moment| net.connecting(id, cx.waker(), moment));
        match &polled {
            Poll::Pending => self.shared.waiting(Wait::Connect(self.target)),
            Poll::Ready(Ok(())) => self.settled = true,
            // The drop forgets the connection.
            Poll::Ready(Err(_)) => {}
        }
        polled
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if !self.settled {
            self.shared.with_net(|net, moment| net.give_up(self.id, moment));
        }
    }
}

struct SimListener {
    shared: Arc<Shared>,
    key: ListenKey,
    serial: u64,
    addr: SocketAddr,
}

impl Listener for SimListener {
    fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    fn accept(&self) -> BoxFuture<'_, Result<Box<dyn Stream>, NetError>> {
        Box::pin(std::future::poll_fn(|cx| {
            let which = (self.key, self.serial);
            match self.shared.with_net(|net, _| net.accept(which, cx.waker())) {
                Poll::Pending => {
                    self.shared.waiting(Wait::Accept(self.addr));
                    Poll::Pending
                }
                Poll::Ready((conn, peer)) => {
                    let shared = Arc::clone(&self.shared);
                    let stream = SimStream { shared, conn, side: Side::Server, peer };
                    Poll::Ready(Ok(Box::new(stream) as Box<dyn Stream>))
                }
            }
        }))
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        self.shared.with_net(|net, moment| net.unlisten(self.key, self.serial, moment));
    }
}
