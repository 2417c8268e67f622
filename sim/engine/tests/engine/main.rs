//! What the engine promises: order by key, nothing lost, failures with names, lives that end, and
//! a network with exact times.

mod faults;
mod lives;
mod network;
mod schedule;

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use kura_env::{Instant, Listener, Stream};
use sim_engine::{NodeId, World, WorldConfig};

const PORT: u16 = 80;

fn at(duration: Duration) -> Instant {
    Instant::default() + duration
}

/// A virtual hour: no test needs it, and one that waits for ever meets it.
fn hour() -> Instant {
    at(Duration::from_secs(3_600))
}

/// A world with hosts `n1`, `n2`, ... at `10.0.0.1`, `10.0.0.2`, ...
fn world_of<const N: usize>(config: WorldConfig) -> (World, [NodeId; N]) {
    let world = World::new(config);
    let nodes = std::array::from_fn(|position| {
        let number = u8::try_from(position + 1).expect("few hosts");
        world.add_node(&format!("n{number}"), IpAddr::from([10, 0, 0, number]))
    });
    (world, nodes)
}

fn address(world: &World, node: NodeId) -> SocketAddr {
    SocketAddr::new(world.addr(node), PORT)
}

async fn listen(world: &World, node: NodeId) -> Box<dyn Listener> {
    world.net(node).listen(address(world, node)).await.expect("the port is free")
}

/// A connection from `client` to `server`: the client's end and the server's.
async fn pair(world: &World, client: NodeId, server: NodeId) -> (Box<dyn Stream>, Box<dyn Stream>) {
    let listener = listen(world, server).await;
    let net = world.net(client);
    let (client, server) =
        futures_util::future::join(net.connect(listener.local_addr()), listener.accept()).await;
    (client.expect("somebody listens"), server.expect("somebody connects"))
}
