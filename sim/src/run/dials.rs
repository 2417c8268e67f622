//! Watches the connections that a node makes to its peers, for `retries_bounded`.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use kura_env::{BoxFuture, Clock, Instant, Listener, Net, NetError, Stream};
use parking_lot::Mutex;

use crate::{court::Court, invariants::retries_bounded};

/// A network whose connections are counted.
pub(super) struct Dials {
    net: Arc<dyn Net>,
    clock: Arc<dyn Clock>,
    court: Court,
    node: String,
    failing: Mutex<BTreeMap<SocketAddr, Failing>>,
}

/// Connections to one address that failed in a row.
#[derive(Clone, Copy)]
struct Failing {
    count: u64,
    since: Instant,
}

impl Dials {
    pub(super) fn new(net: Arc<dyn Net>, clock: Arc<dyn Clock>, court: Court, node: &str) -> Self {
        Self { net, clock, court, node: node.to_owned(), failing: Mutex::default() }
    }

    fn failed(&self, addr: SocketAddr) {
        let now = self.clock.now();
        let Failing { count, since } = {
            let mut failing = self.failing.lock();
            let failing = failing.entry(addr).or_insert(Failing { count: 0, since: now });
            failing.count += 1;
            *failing
        };
        let (node, peer) = (&self.node, addr.to_string());
        let verdict = retries_bounded::check(node, &peer, count, now.since(since));
        if verdict.is_err() {
            self.court.evidence().judge(now, verdict);
        }
    }
}

/// Counts as failed unless it is told otherwise: whoever stops waiting for a connection has failed
/// to make it, too.
struct Dial<'a> {
    dials: &'a Dials,
    addr: SocketAddr,
    stands: bool,
}

impl Drop for Dial<'_> {
    fn drop(&mut self) {
        if self.stands {
            self.dials.failing.lock().remove(&self.addr);
        } else {
            self.dials.failed(self.addr);
        }
    }
}

impl Net for Dials {
    fn listen(&self, addr: SocketAddr) -> BoxFuture<'_, Result<Box<dyn Listener>, NetError>> {
        self.net.listen(addr)
    }

    fn connect(&self, addr: SocketAddr) -> BoxFuture<'_, Result<Box<dyn Stream>, NetError>> {
        Box::pin(async move {
            let mut dial = Dial { dials: self, addr, stands: false };
            let stream = self.net.connect(addr).await?;
            dial.stands = true;
            Ok(stream)
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
