//! How fast the engine is: the executor alone, and nine hosts that speak HTTP/1 over links that
//! they share, once for half a virtual hour at a steady rate and once as fast as they can.
#![expect(clippy::print_stdout, reason = "a program whose output is its purpose")]
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "measures real time around the simulated one"
)]

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::{
    Request, Response,
    body::{Frame, Incoming},
    client, server,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use kura_env::{EntropyStream as _, Instant};
use sim_engine::{LinkConfig, NetConfig, NodeId, Outcome, World, WorldConfig};
use tokio::sync::mpsc;

const HOSTS: u8 = 9;
const PORT: u16 = 80;
const FRAME_BYTES: usize = 256 << 10;

fn main() {
    executor_alone();
    steady();
    flat_out();
}

fn measure(name: &str, world: &World, goal: impl FnMut(&World) -> bool) {
    let begin = std::time::Instant::now();
    let outcome = world.run_until(goal, Instant(u64::MAX));
    let wall = begin.elapsed().as_secs_f64();
    assert!(matches!(outcome, Outcome::Goal | Outcome::Deadlock(_)), "{outcome}");
    let stats = world.stats();
    let millions = |count: u64| count as f64 / 1e6;
    let sim = Duration::from_nanos(stats.sim_nanos).as_secs_f64();
    println!(
        "{name}: {sim:.1} s simulated in {wall:.3} s, {:.0} times faster than time; \
         {:.2} M events/s, {:.2} M polls/s; {:.0} MB/s; hash {}",
        sim / wall,
        millions(stats.events) / wall,
        millions(stats.polls) / wall,
        millions(stats.bytes_delivered) / wall,
        world.journal_hash(),
    );
}

/// A thousand tasks hand messages on and sleep.
fn executor_alone() {
    const TASKS: u64 = 1_000;
    const ROUNDS: u64 = 500;
    let world = World::new(WorldConfig::from_seed(1));
    for number in 0..TASKS {
        let (send, mut receive) = mpsc::channel::<u64>(1);
        let (first, second) = (world.clock(NodeId::OPERATOR), world.clock(NodeId::OPERATOR));
        world.launch(NodeId::OPERATOR, "sends", async move {
            for round in 0..ROUNDS {
                first.sleep(Duration::from_micros(number + round)).await;
                if send.send(round).await.is_err() {
                    return;
                }
            }
        });
        world.launch(NodeId::OPERATOR, "receives", async move {
            while receive.recv().await.is_some() {
                second.sleep(Duration::from_micros(3)).await;
            }
        });
    }
    measure("executor alone", &world, |_| false);
}

/// Nine hosts, each with an uplink and a downlink of its own that all its flows share.
fn mesh() -> (World, Vec<NodeId>) {
    let net = NetConfig { window_bytes: 1 << 20, ..NetConfig::default() };
    let world = World::new(WorldConfig { net, ..WorldConfig::from_seed(1) });
    let nodes: Vec<NodeId> = (1..=HOSTS)
        .map(|number| world.add_node(&format!("n{number}"), IpAddr::from([10, 0, 0, number])))
        .collect();
    let network = world.network();
    let half = LinkConfig { latency: Duration::from_micros(250), ..LinkConfig::default() };
    let links: Vec<_> = nodes
        .iter()
        .map(|&node| {
            let name = world.name(node);
            (network.add_link(&format!("{name} up"), half), network.add_link(&name, half))
        })
        .collect();
    for (&from, (up, _)) in nodes.iter().zip(&links) {
        for (&to, (_, down)) in nodes.iter().zip(&links).filter(|(to, _)| **to != from) {
            network.route(from, to, &[*up, *down]);
        }
    }
    for &node in &nodes {
        world.launch(node, "server", serve(world.clone(), node));
    }
    (world, nodes)
}

async fn serve(world: World, node: NodeId) {
    let frame = Bytes::from(vec![7; FRAME_BYTES]);
    let addr = SocketAddr::new(world.addr(node), PORT);
    let listener = world.net(node).listen(addr).await.expect("the port is free");
    loop {
        let stream = listener.accept().await.expect("a listener lives");
        let frame = frame.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let frame = frame.clone();
            async move { Ok::<_, Infallible>(answer(&request, &frame)) }
        });
        let mut builder = server::conn::http1::Builder::new();
        builder.auto_date_header(false);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        world.launch(node, "connection", async move {
            connection.await.expect("the client ends in good order");
        });
    }
}

type Frames = stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>;

/// As many bytes as the path says.
fn answer(request: &Request<Incoming>, frame: &Bytes) -> Response<StreamBody<Frames>> {
    let mut left: usize = request.uri().path()[1..].parse().expect("a length");
    let mut frames = Vec::new();
    let response = Response::builder().header("content-length", left);
    while left > 0 {
        let part = frame.slice(..left.min(frame.len()));
        left -= part.len();
        frames.push(Ok(Frame::data(part)));
    }
    response.body(StreamBody::new(stream::iter(frames))).expect("a legal answer")
}

/// Asks for `lengths`, one after the other, with a pause before each, over one connection.
async fn fetch(world: Arc<World>, from: NodeId, to: NodeId, lengths: Vec<(Duration, usize)>) {
    let addr = SocketAddr::new(world.addr(to), PORT);
    let stream = world.net(from).connect(addr).await.expect("the server listens");
    let shaken = client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.expect("the server is there");
    let connection = world.spawn(from, "client connection", async move {
        connection.await.expect("the server ends in good order");
    });
    let clock = world.clock(from);
    for (pause, len) in lengths {
        clock.sleep(pause).await;
        let request = Request::get(format!("/{len}")).header("host", "n");
        let request = request.body(Empty::<Bytes>::new()).expect("a legal request");
        let mut body = sender.send_request(request).await.expect("an answer").into_body();
        let mut got = 0;
        while let Some(frame) = body.frame().await {
            got += frame.expect("the body is whole").data_ref().map_or(0, Bytes::len);
        }
        assert_eq!(got, len);
    }
    drop(sender);
    connection.join().await;
}

/// Starts a client for every pair of hosts; the number returned is 0 when all are done.
fn fetch_all(
    world: &World,
    nodes: &[NodeId],
    mut plan: impl FnMut() -> Vec<(Duration, usize)>,
) -> Arc<AtomicU32> {
    let (here, busy) = (Arc::new(world.clone()), Arc::new(AtomicU32::new(0)));
    for &from in nodes {
        for &to in nodes.iter().filter(|to| **to != from) {
            busy.fetch_add(1, Relaxed);
            let (work, busy) = (fetch(Arc::clone(&here), from, to, plan()), Arc::clone(&busy));
            world.launch(from, "client", async move {
                work.await;
                busy.fetch_sub(1, Relaxed);
            });
        }
    }
    busy
}

/// Half an hour of 20 requests and 2 MiB a second, all hosts together.
fn steady() {
    let (world, nodes) = mesh();
    let mut chance = world.stream("clients", "plan");
    let busy = fetch_all(&world, &nodes, || {
        // 72 pairs: each asks every 3.6 s on average, for 105 kB.
        (0..500)
            .map(|_| {
                let pause = Duration::from_micros(chance.between(0, 7_200_000));
                let len = usize::try_from(chance.next_u64() % 210_000).expect("a small number");
                (pause, len)
            })
            .collect()
    });
    measure("steady", &world, |_| busy.load(Relaxed) == 0);
}

/// Every pair fetches 64 MiB.
fn flat_out() {
    let (world, nodes) = mesh();
    let busy = fetch_all(&world, &nodes, || vec![(Duration::ZERO, 16 << 20); 4]);
    measure("flat out", &world, |_| busy.load(Relaxed) == 0);
}
