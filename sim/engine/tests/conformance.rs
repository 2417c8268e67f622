//! Holds the simulated clock, entropy, tasks and network to the contracts of the seams.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use kura_env::{Instant, conformance};
use sim_engine::{NodeId, World, WorldConfig};

const DEADLINE: Instant = Instant(3_600_000_000_000);

fn world(config: WorldConfig) -> (World, NodeId, NodeId) {
    let world = World::new(config);
    let first = world.add_node("first", IpAddr::from([10, 0, 0, 1]));
    let second = world.add_node("second", IpAddr::from([10, 0, 0, 2]));
    (world, first, second)
}

fn run(world: &World, suite: impl Future<Output = ()> + Send + 'static) {
    if let Err(outcome) = world.block_on(suite, DEADLINE) {
        panic!("{outcome}");
    }
}

#[test]
fn the_clock_keeps_its_contract() {
    let (world, node, _) = world(WorldConfig::from_seed(1));
    run(&world, conformance::clock::suite(world.clock(node)));
}

#[test]
fn a_skewed_clock_keeps_its_contract() {
    let (world, node, _) = world(WorldConfig::from_seed(1));
    world.set_wall_skew(node, -86_400_000);
    run(&world, conformance::clock::suite(world.clock(node)));
}

#[test]
fn entropy_keeps_its_contract() {
    let (world, node, _) = world(WorldConfig::from_seed(2));
    run(&world, conformance::entropy::suite(world.entropy(node)));
}

#[test]
fn tasks_keep_their_contract_under_many_schedules() {
    for seed in 0..50 {
        let (world, node, _) = world(WorldConfig::from_seed(seed));
        run(&world, conformance::tasks::suite(world.tasks(node), world.clock(node)));
    }
}

#[test]
fn panics_are_kept_within_their_task_where_they_do_not_end_the_run() {
    let config = WorldConfig { panic_ends_run: false, ..WorldConfig::from_seed(3) };
    let (world, node, _) = world(config);
    run(&world, conformance::tasks::panics(world.tasks(node)));
}

#[test]
fn the_network_keeps_its_contract_between_hosts() {
    for seed in 0..20 {
        let (world, first, second) = world(WorldConfig::from_seed(seed));
        let bind = SocketAddr::new(world.addr(first), 0);
        run(&world, conformance::net::suite(net_world(&world, first, second, bind)));
    }
}

#[test]
fn the_network_keeps_its_contract_on_one_host() {
    let (world, first, _) = world(WorldConfig::from_seed(4));
    let bind = SocketAddr::from(([127, 0, 0, 1], 0));
    run(&world, conformance::net::suite(net_world(&world, first, first, bind)));
}

#[test]
fn the_network_keeps_its_contract_over_a_narrow_lossy_way() {
    let mut config = WorldConfig::from_seed(5);
    config.net.default_link.latency = Duration::from_millis(10);
    config.net.default_link.bandwidth_bytes_per_second = Some(4_000_000);
    config.net.default_link.jitter_max = Duration::from_millis(5);
    config.net.default_link.loss_per_million = 1_000;
    let (world, first, second) = world(config);
    let bind = SocketAddr::new(world.addr(first), 0);
    run(&world, conformance::net::suite(net_world(&world, first, second, bind)));
}

#[test]
fn unknown_names_are_unknown() {
    let (world, node, _) = world(WorldConfig::from_seed(6));
    run(&world, conformance::net::unknown_names(world.net(node)));
}

fn net_world(
    world: &World,
    server: NodeId,
    client: NodeId,
    bind: SocketAddr,
) -> conformance::net::World {
    conformance::net::World {
        server: world.net(server),
        client: world.net(client),
        bind,
        clock: world.clock(client),
    }
}
