//! Hosts and links of a run, from the zones of its scenario.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use sim_engine::{LinkConfig, LinkId, NodeId, World};

use crate::scenario::Scenario;

/// The hosts of a run.
pub(super) struct Hosts {
    /// By position in the scenario.
    pub(super) nodes: Vec<NodeId>,
    /// One for each group of clients, by position in the scenario.
    pub(super) clients: Vec<NodeId>,
}

/// Adds the hosts of a scenario to a world and lays the links between them.
pub(super) fn build(world: &World, scenario: &Scenario) -> Hosts {
    let address = |net: u8, position: usize| {
        // The schema allows 64 nodes; groups of clients are written one by one.
        let (high, low) = (position / 250, position % 250 + 1);
        let byte = |part: usize| u8::try_from(part).unwrap_or(u8::MAX);
        IpAddr::from([10, net, byte(high), byte(low)])
    };
    let nodes = scenario.nodes.iter().enumerate();
    let nodes: Vec<NodeId> = nodes.map(|(at, name)| world.add_node(name, address(0, at))).collect();
    if !scenario.lags_by.is_zero() {
        let lag_ms = i64::try_from(scenario.lags_by.as_millis()).unwrap_or(i64::MAX);
        for position in scenario.positions(&scenario.lagging) {
            world.set_wall_skew(nodes[position], -lag_ms);
        }
    }
    let clients = scenario.clients.iter().enumerate();
    let clients: Vec<NodeId> = clients
        .map(|(at, group)| world.add_node(&format!("client {}", group.name), address(1, at)))
        .collect();
    let mut zoned: Vec<(&str, NodeId)> = Vec::new();
    zoned.extend(scenario.nodes.iter().map(|name| scenario.zone_of_node(name)).zip(nodes.clone()));
    let groups = scenario.clients.iter().map(|group| scenario.zone_of_client(&group.name));
    zoned.extend(groups.zip(clients.clone()));
    lay(world, scenario, &zoned);
    Hosts { nodes, clients }
}

/// One link in each direction between two zones, shared by all flows; within a zone one for both.
fn lay(world: &World, scenario: &Scenario, zoned: &[(&str, NodeId)]) {
    let network = world.network();
    let mut links: BTreeMap<(&str, &str), LinkId> = BTreeMap::new();
    for link in &scenario.links {
        let config = LinkConfig {
            latency: link.latency,
            bandwidth_bytes_per_second: Some(link.bandwidth_bytes_per_second),
            jitter_max: Duration::ZERO,
            loss_per_million: 0,
        };
        for (from, to) in [(&link.from, &link.to), (&link.to, &link.from)] {
            links
                .entry((from, to))
                .or_insert_with(|| network.add_link(&format!("{from} to {to}"), config));
        }
    }
    for (from_zone, from) in zoned {
        for (to_zone, to) in zoned.iter().filter(|(_, to)| to != from) {
            if let Some(link) = links.get(&(*from_zone, *to_zone)) {
                network.route(*from, *to, &[*link]);
            }
        }
    }
}
