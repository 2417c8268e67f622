//! The hosts of a world: names, addresses, power, and which life of a node is the present one.
//!
//! A node lives from its start to its death. What was handed out to one life (clock, network,
//! tasks) has no effect after that life: the number of the life is compared at every call.

use std::{collections::BTreeMap, fmt, net::IpAddr, sync::Arc};

/// A host of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(crate) u32);

impl NodeId {
    /// The host on which the world's own work runs: operators, checks, drivers of a scenario. It
    /// never dies.
    pub const OPERATOR: Self = Self(0);

    /// Its number, in the order in which the hosts were added.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }

    fn position(self) -> usize {
        usize::try_from(self.0).expect("the number of a host is a position in a list in memory")
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

/// Whether a node's process runs, and if not, how its host behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// The process runs.
    Up,
    /// The process is gone, the host is there: connects are refused, old connections were reset.
    ProcessDead,
    /// The host is off: nothing sent to it is ever answered.
    Dark,
}

/// One life of a node: from a start to a death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) node: NodeId,
    pub(crate) number: u32,
}

struct Host {
    name: Arc<str>,
    addr: IpAddr,
    power: Power,
    life: u32,
    wall_skew_ms: i64,
    wall_drift: WallDrift,
    /// When the node's one CPU has done all the work charged to it.
    cpu_free_nanos: u64,
    /// How many streams of a purpose this life has asked for.
    streams: BTreeMap<&'static str, u64>,
    next_port: u16,
}

/// How a wall clock goes on getting more wrong.
#[derive(Clone, Copy, Default)]
struct WallDrift {
    since_nanos: u64,
    per_million: i64,
}

/// Ephemeral ports are taken from here up to the last one, and then from here again.
const EPHEMERAL_PORT_FIRST: u16 = 32_768;

#[derive(Default)]
pub(crate) struct Hosts {
    list: Vec<Host>,
    by_addr: BTreeMap<IpAddr, NodeId>,
}

impl Hosts {
    pub(crate) fn add(&mut self, name: &str, addr: IpAddr) -> NodeId {
        let node = NodeId(u32::try_from(self.list.len()).expect("fewer than 2^32 hosts"));
        assert!(
            self.by_addr.insert(addr, node).is_none(),
            "two hosts of a world have the address {addr}"
        );
        assert!(
            self.list.iter().all(|host| &*host.name != name),
            "two hosts of a world have the name {name}"
        );
        self.list.push(Host {
            name: name.into(),
            addr,
            power: Power::Up,
            life: 1,
            wall_skew_ms: 0,
            wall_drift: WallDrift::default(),
            cpu_free_nanos: 0,
            streams: BTreeMap::new(),
            next_port: EPHEMERAL_PORT_FIRST,
        });
        node
    }

    fn at(&self, node: NodeId) -> &Host {
        &self.list[node.position()]
    }

    fn at_mut(&mut self, node: NodeId) -> &mut Host {
        &mut self.list[node.position()]
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..u32::try_from(self.list.len()).expect("fewer than 2^32 hosts")).map(NodeId)
    }

    pub(crate) fn life(&self, node: NodeId) -> Life {
        Life { node, number: self.at(node).life }
    }

    pub(crate) fn alive(&self, life: Life) -> bool {
        let host = self.at(life.node);
        host.life == life.number && host.power == Power::Up
    }

    pub(crate) fn power(&self, node: NodeId) -> Power {
        self.at(node).power
    }

    pub(crate) fn set_power(&mut self, node: NodeId, power: Power) {
        self.at_mut(node).power = power;
    }

    /// Begins the next life of a node that is not up.
    pub(crate) fn start(&mut self, node: NodeId, now_nanos: u64) {
        let host = self.at_mut(node);
        host.power = Power::Up;
        host.life += 1;
        host.streams.clear();
        host.cpu_free_nanos = now_nanos;
    }

    pub(crate) fn name(&self, node: NodeId) -> Arc<str> {
        Arc::clone(&self.at(node).name)
    }

    pub(crate) fn addr(&self, node: NodeId) -> IpAddr {
        self.at(node).addr
    }

    pub(crate) fn by_addr(&self, addr: IpAddr) -> Option<NodeId> {
        self.by_addr.get(&addr).copied()
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<NodeId> {
        self.nodes().find(|&node| &*self.at(node).name == name)
    }

    /// How far the wall clock of a node is off by now.
    pub(crate) fn wall_skew_ms(&self, node: NodeId, now_nanos: u64) -> i64 {
        let Host { wall_skew_ms, wall_drift: WallDrift { since_nanos, per_million }, .. } =
            self.at(node);
        let drifted_nanos = i128::from(now_nanos.saturating_sub(*since_nanos))
            * i128::from(*per_million)
            / 1_000_000;
        let drifted_ms = i64::try_from(drifted_nanos / 1_000_000).unwrap_or(0);
        wall_skew_ms.saturating_add(drifted_ms)
    }

    /// Lets the wall clock of a node run faster or slower than time from now on.
    pub(crate) fn set_wall_drift(&mut self, node: NodeId, per_million: i64, now_nanos: u64) {
        let skew_ms = self.wall_skew_ms(node, now_nanos);
        let host = self.at_mut(node);
        host.wall_skew_ms = skew_ms;
        host.wall_drift = WallDrift { since_nanos: now_nanos, per_million };
    }

    pub(crate) fn set_wall_skew_ms(&mut self, node: NodeId, skew_ms: i64) {
        self.at_mut(node).wall_skew_ms = skew_ms;
    }

    /// Puts `cost_nanos` of work behind what the node's CPU has to do and returns when it is done.
    pub(crate) fn charge(&mut self, node: NodeId, now_nanos: u64, cost_nanos: u64) -> u64 {
        let host = self.at_mut(node);
        host.cpu_free_nanos = host.cpu_free_nanos.max(now_nanos).saturating_add(cost_nanos);
        host.cpu_free_nanos
    }

    /// The node's name, and how many streams of this purpose its life had before this one.
    pub(crate) fn next_stream(&mut self, node: NodeId, purpose: &'static str) -> (Arc<str>, u64) {
        let host = self.at_mut(node);
        let count = host.streams.entry(purpose).or_insert(0);
        let nth = *count;
        *count += 1;
        (Arc::clone(&host.name), nth)
    }

    pub(crate) fn next_port(&mut self, node: NodeId) -> u16 {
        let host = self.at_mut(node);
        let port = host.next_port;
        host.next_port = port.checked_add(1).unwrap_or(EPHEMERAL_PORT_FIRST);
        port
    }
}
