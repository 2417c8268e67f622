//! Five nodes in three regions, and the links between these.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr, TcpListener},
    sync::{Arc, Mutex},
    time::Duration,
};

use fault_injection::{Dials, End, Link, LinkCounts, Proxy};
use futures_util::future::join_all;
use kura_tests::{
    node::{Home, Kura},
    wait::until,
};
use sim::client::connection::Place;

/// The nodes, by the region that each is in.
pub(crate) const REGIONS: [&str; NODES] = ["north", "north", "south", "south", "east"];
pub(crate) const NODES: usize = 5;

/// Room for everything that is put here, with areas to spare.
const ROOM: [&str; 2] = ["--cas-capacity=1GiB", "--segment=16MiB"];
/// How long a start may take until the node takes writes, and then until it is ready: peers that start at the same time
/// are missed at first, and tried again after pauses.
const START_MAX: Duration = Duration::from_secs(45);

/// In which of its lives each node is, while it takes puts.
#[derive(Default)]
pub(crate) struct Lives {
    open: Mutex<([Option<u64>; NODES], u64)>,
}

impl Lives {
    pub(crate) fn of(&self, node: usize) -> Option<u64> {
        self.open.lock().unwrap().0[node]
    }

    fn begin(&self, node: usize) {
        let mut open = self.open.lock().unwrap();
        open.1 += 1;
        open.0[node] = Some(open.1);
    }

    fn end(&self, node: usize) {
        self.open.lock().unwrap().0[node] = None;
    }
}

/// Nodes, links and proxies. A proxy for each two nodes of different regions, in each direction.
pub(crate) struct Site {
    homes: Vec<Home>,
    addrs: Vec<SocketAddr>,
    flags: Vec<Vec<String>>,
    links: BTreeMap<[&'static str; 2], Link>,
    _proxies: Vec<Proxy>,
    nodes: Vec<Kura>,
    pub(crate) lives: Arc<Lives>,
}

impl Site {
    /// Five empty homes. Nothing runs yet but the proxies.
    pub(crate) async fn new(place: &Place) -> Self {
        // Each node has an address of its own, so that nobody else takes its ports while it is dead.
        let taken: Vec<[SocketAddr; 2]> = (0..NODES).map(two_free_addrs).collect();
        let internal: Vec<SocketAddr> = taken.iter().map(|addrs| addrs[1]).collect();
        let links = [["north", "south"], ["east", "north"], ["east", "south"]].map(|between| {
            (between, Link::new(place.clock.clone(), place.net.clone(), place.tasks.clone()))
        });
        let links = BTreeMap::from(links);
        let (mut proxies, mut flags) = (Vec::new(), Vec::new());
        for (node, region) in REGIONS.into_iter().enumerate() {
            let mut peers = Vec::new();
            for (peer, other) in REGIONS.into_iter().enumerate().filter(|(peer, _)| *peer != node) {
                if other == region {
                    peers.push(internal[peer].to_string());
                    continue;
                }
                let between = between(region, other);
                let dialer = if between[0] == region { End::Near } else { End::Far };
                let listen = SocketAddr::from(([127, 0, 0, 1], 0));
                let proxy = links[&between].proxy(dialer, listen, internal[peer]).await;
                let proxy = proxy.expect("loopback has free ports");
                peers.push(proxy.addr().to_string());
                proxies.push(proxy);
            }
            flags.push(vec![
                format!("--region={region}"),
                format!("--internal-port={}", internal[node].port()),
                format!("--peers={}", peers.join(",")),
            ]);
        }
        let addrs: Vec<SocketAddr> = taken.iter().map(|addrs| addrs[0]).collect();
        let homes = addrs.iter().map(|addr| Home::at(*addr)).collect();
        let (nodes, lives) = (Vec::new(), Arc::default());
        Self { homes, addrs, flags, links, _proxies: proxies, nodes, lives }
    }

    /// Starts all nodes at once, and waits until all take puts.
    pub(crate) async fn start_all(&mut self) {
        let launching = self.homes.iter().zip(&self.flags).map(|(home, flags)| async move {
            let flags = flags.iter().map(String::as_str);
            home.launch(&ROOM.into_iter().chain(flags).collect::<Vec<_>>()).await
        });
        let nodes = join_all(launching).await;
        let lives = &self.lives;
        let opening = nodes.iter().enumerate().map(|(at, node)| async move {
            until("the node takes puts", START_MAX, async || {
                let state = node.json("/status").await["state"].as_str()?.to_owned();
                ["joining", "serving"].contains(&state.as_str()).then_some(())
            })
            .await;
            lives.begin(at);
        });
        join_all(opening).await;
        self.nodes = nodes;
    }

    /// Waits until all nodes are ready.
    pub(crate) async fn all_ready(&self) {
        for node in &self.nodes {
            until("the node is ready", START_MAX, async || {
                (node.get("/ready").await.status == 200).then_some(())
            })
            .await;
        }
    }

    /// Kills all nodes, one right after the other.
    pub(crate) fn kill_all(&mut self) {
        (0..NODES).for_each(|node| self.lives.end(node));
        self.nodes.iter_mut().for_each(Kura::kill);
        self.nodes.clear();
    }

    /// Where a node serves clients, in all of its lives.
    pub(crate) fn addr(&self, node: usize) -> SocketAddr {
        self.addrs[node]
    }

    pub(crate) fn nodes(&self) -> &[Kura] {
        &self.nodes
    }

    /// Turns the dials of all links.
    pub(crate) fn turn_all(&self, dials: Dials) {
        self.links.values().for_each(|link| link.turn(dials));
    }

    /// The link between two regions, and the end of it that is the first one.
    pub(crate) fn link(&self, region: &'static str, other: &'static str) -> (&Link, End) {
        let between = between(region, other);
        let end = if between[0] == region { End::Near } else { End::Far };
        (&self.links[&between], end)
    }

    /// The links of a region, each with the end of it that is there.
    pub(crate) fn links_of(&self, region: &'static str) -> Vec<(&Link, End)> {
        let others = ["north", "south", "east"].into_iter().filter(|other| *other != region);
        others.map(|other| self.link(region, other)).collect()
    }

    /// Of all links: what they did.
    pub(crate) fn counts(&self) -> Vec<(String, LinkCounts)> {
        let counts = |(between, link): (&[&str; 2], &Link)| (between.join("-"), link.counts());
        self.links.iter().map(counts).collect()
    }

    /// Why requests were refused, by node: the rows of the table of outcomes, with how often.
    pub(crate) async fn refusals(&self) -> Vec<(usize, String, u64)> {
        let mut refusals = Vec::new();
        for (at, node) in self.nodes.iter().enumerate() {
            let text = node.get("/metrics").await.text();
            let refusal = |line: &str| {
                let line = line.strip_prefix("kura_http_refusals_total{reason=\"")?;
                let (reason, count) = line.split_once("\"} ")?;
                Some((at, reason.to_owned(), count.parse().ok()?))
            };
            refusals.extend(text.lines().filter_map(refusal));
        }
        refusals
    }
}

/// The name of the link between two regions.
fn between(region: &'static str, other: &'static str) -> [&'static str; 2] {
    let mut between = [region, other];
    between.sort_unstable();
    between
}

/// Two addresses of a node that nobody listens on.
fn two_free_addrs(node: usize) -> [SocketAddr; 2] {
    let last = u8::try_from(node + 1).expect("there are few nodes");
    let free = || TcpListener::bind((IpAddr::from([127, 0, 5, last]), 0)).unwrap();
    [free(), free()].map(|listener| listener.local_addr().unwrap())
}
