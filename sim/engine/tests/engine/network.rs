//! Times, shares and windows of the network, and the order of what arrives.

use std::{sync::Arc, time::Duration};

use futures_util::future::{join, join_all, join3};
use kura_env::{Instant, Stream, timeout};
use sim_engine::{LinkConfig, NetConfig, NodeId, World, WorldConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{hour, pair, world_of};

/// 10 MB/s and 5 ms.
const LINK: LinkConfig = LinkConfig {
    latency: Duration::from_millis(5),
    bandwidth_bytes_per_second: Some(10_000_000),
    jitter_max: Duration::ZERO,
    loss_per_million: 0,
};

fn config(seed: u64) -> WorldConfig {
    let net = NetConfig { default_link: LINK, ..NetConfig::default() };
    WorldConfig { net, ..WorldConfig::from_seed(seed) }
}

fn run<T: Send + 'static>(world: &World, work: impl Future<Output = T> + Send + 'static) -> T {
    world.block_on(work, hour()).unwrap_or_else(|outcome| panic!("{outcome}"))
}

/// Sends so many bytes and returns when the last one was read.
async fn transfer(
    world: &World,
    (mut near, mut far): (Box<dyn Stream>, Box<dyn Stream>),
    bytes: usize,
) -> Instant {
    let send = async {
        let chunk = vec![7; 100_000];
        let mut left = bytes;
        while left > 0 {
            let len = left.min(chunk.len());
            near.write_all(&chunk[..len]).await.expect("the peer reads");
            left -= len;
        }
        near.shutdown().await.expect("the peer is there");
    };
    let receive = async {
        let mut buffer = vec![0; 64 << 10];
        let mut total = 0;
        loop {
            match far.read(&mut buffer).await.expect("an orderly end") {
                0 => return total,
                len => total += len,
            }
        }
    };
    let ((), received) = join(send, receive).await;
    assert_eq!(received, bytes);
    world.now()
}

fn assert_within_a_percent(took: Duration, expected: Duration) {
    let (took, expected) = (took.as_secs_f64(), expected.as_secs_f64());
    assert!((took / expected - 1.0).abs() < 0.01, "{took} s instead of {expected} s");
}

#[test]
fn one_flow_has_the_whole_link() {
    let (world, [from, to]) = world_of::<2>(config(1));
    let here = world.clone();
    run(&world, async move {
        let streams = pair(&here, from, to).await;
        let begin = here.now();
        let end = transfer(&here, streams, 10_000_000).await;
        assert_within_a_percent(end.since(begin), Duration::from_millis(1_005));
        let network = here.network();
        let link = network.path(from, to)[0];
        assert_eq!(network.link_stats(link).bytes, 10_000_000);
    });
}

#[test]
fn two_flows_on_one_link_have_half_each() {
    // Once between the same hosts, and once from two hosts over a link that they share.
    for shared in [false, true] {
        let (world, [first, second, to]) = world_of::<3>(config(1));
        let second = if shared { second } else { first };
        if shared {
            let network = world.network();
            let uplink = network.add_link("uplink", LINK);
            network.route(first, to, &[uplink]);
            network.route(second, to, &[uplink]);
        }
        let here = world.clone();
        run(&world, async move {
            let one = pair(&here, first, to).await;
            let two = pair(&here, second, to).await;
            let begin = here.now();
            let (long, short) =
                join(transfer(&here, one, 10_000_000), transfer(&here, two, 5_000_000)).await;
            // Half of the link until the shorter one is done, all of it from then on.
            assert_within_a_percent(short.since(begin), Duration::from_millis(1_005));
            assert_within_a_percent(long.since(begin), Duration::from_millis(1_505));
        });
    }
}

#[test]
fn a_flow_that_needs_less_than_its_share_gets_all_it_needs() {
    let (world, [from, to]) = world_of::<2>(config(1));
    let here = world.clone();
    run(&world, async move {
        let (mut near, mut far) = pair(&here, from, to).await;
        let big = pair(&here, from, to).await;
        let other = pair(&here, from, to).await;
        let clock = here.clock(from);
        let trickle = async {
            let mut worst = Duration::ZERO;
            for _ in 0..100 {
                let begin = here.now();
                near.write_all(&[1; 1_000]).await.unwrap();
                far.read_exact(&mut [0; 1_000]).await.unwrap();
                worst = worst.max(here.now().since(begin));
                clock.sleep(Duration::from_millis(5)).await;
            }
            worst
        };
        let bulk = (transfer(&here, big, 10_000_000), transfer(&here, other, 10_000_000));
        let (worst, _, _) = join3(trickle, bulk.0, bulk.1).await;
        // Behind one quantum, of a millisecond, of each of the others.
        assert!(worst <= LINK.latency + Duration::from_micros(2_100), "{worst:?}");
    });
}

/// Three flows share a link of 10 MB/s, and one of them has to go through one of 1 MB/s as well,
/// in front of the shared link or behind it.
fn shares(narrow_first: bool) -> [Duration; 3] {
    let (world, [first, second, third, to]) = world_of::<4>(config(1));
    let network = world.network();
    let narrow = LinkConfig { bandwidth_bytes_per_second: Some(1_000_000), ..LINK };
    let (shared, narrow) = (network.add_link("shared", LINK), network.add_link("narrow", narrow));
    let both = if narrow_first { [narrow, shared] } else { [shared, narrow] };
    network.route(first, to, &both);
    network.route(second, to, &[shared]);
    network.route(third, to, &[shared]);
    let here = world.clone();
    run(&world, async move {
        let streams = [
            pair(&here, first, to).await,
            pair(&here, second, to).await,
            pair(&here, third, to).await,
        ];
        let begin = here.now();
        let [one, two, three] = streams;
        // What each gets in ten seconds at its max-min share: 1, 4.5 and 4.5 MB/s.
        let (one, two, three) = join3(
            transfer(&here, one, 10_000_000),
            transfer(&here, two, 45_000_000),
            transfer(&here, three, 45_000_000),
        )
        .await;
        [one, two, three].map(|end| end.since(begin))
    })
}

#[test]
fn what_a_flow_cannot_use_of_a_shared_link_goes_to_the_others_in_equal_parts() {
    for narrow_first in [true, false] {
        for took in shares(narrow_first) {
            let (took, expected) = (took.as_secs_f64(), 10.01);
            assert!((took / expected - 1.0).abs() < 0.015, "{took} s, {narrow_first}");
        }
    }
}

#[test]
fn the_narrowest_link_of_a_route_sets_the_rate() {
    let (world, [from, to]) = world_of::<2>(config(1));
    let network = world.network();
    let wide = LinkConfig { bandwidth_bytes_per_second: None, ..LINK };
    let narrow = LinkConfig { bandwidth_bytes_per_second: Some(5_000_000), ..LINK };
    let links = [wide, narrow, LINK].map(|config| network.add_link(&format!("{config:?}"), config));
    network.route(from, to, &links);
    network.set_window(from, to, 1 << 20);
    let here = world.clone();
    run(&world, async move {
        let streams = pair(&here, from, to).await;
        let begin = here.now();
        let end = transfer(&here, streams, 10_000_000).await;
        assert_within_a_percent(end.since(begin), Duration::from_millis(2_015));
    });
}

#[test]
fn a_window_bounds_what_is_unread_and_a_long_way_needs_a_wide_one() {
    let (world, [from, to]) = world_of::<2>(config(1));
    let here = world.clone();
    run(&world, async move {
        let (mut near, mut far) = pair(&here, from, to).await;
        let clock = here.clock(from);
        let mut accepted = 0;
        let wait = Duration::from_secs(1);
        while let Ok(written) = timeout(&*clock, wait, near.write(&[0; 10_000])).await {
            accepted += written.unwrap();
        }
        assert_eq!(accepted, 256 << 10);
        // Less than a quarter read is not told; a quarter is.
        far.read_exact(&mut vec![0; (64 << 10) - 1]).await.unwrap();
        assert!(timeout(&*clock, wait, near.write(&[0])).await.is_err());
        far.read_exact(&mut [0]).await.unwrap();
        let begin = here.now();
        assert_eq!(near.write(&vec![0; 100_000]).await.unwrap(), 64 << 10);
        assert_eq!(here.now().since(begin), LINK.latency, "the news travels back");

        // A window of 100 kB and a round trip of 10 ms: at most 10 MB/s, less while waiting.
        here.network().set_window(from, to, 25_000);
        let streams = pair(&here, from, to).await;
        let begin = here.now();
        let end = transfer(&here, streams, 2_500_000).await;
        assert!(end.since(begin) >= Duration::from_secs(1), "a window per round trip");
    });
}

#[test]
fn connecting_takes_a_round_trip() {
    let (world, [from, to]) = world_of::<2>(config(1));
    let here = world.clone();
    run(&world, async move {
        let begin = here.now();
        let (mut near, mut far) = pair(&here, from, to).await;
        assert_eq!(here.now().since(begin), 2 * LINK.latency);
        assert_eq!(near.peer_addr().ip(), here.addr(to));
        assert_eq!(far.peer_addr().ip(), here.addr(from));
        far.write_all(b"x").await.unwrap();
        near.read_exact(&mut [0]).await.unwrap();
    });
}

#[test]
fn a_full_backlog_makes_connects_wait() {
    let mut config = config(1);
    config.net.backlog_max = 2;
    let (world, [from, to]) = world_of::<2>(config);
    let here = world.clone();
    run(&world, async move {
        let listener = crate::listen(&here, to).await;
        let (net, clock, addr) = (here.net(from), here.clock(from), listener.local_addr());
        let connects =
            (0..3).map(|_| timeout(&*clock, Duration::from_millis(500), net.connect(addr)));
        let ends = join_all(connects).await;
        assert_eq!(ends.iter().filter(|end| end.is_ok()).count(), 2);
        let (late, _) = join(net.connect(addr), async {
            let first = listener.accept().await.unwrap();
            let second = listener.accept().await.unwrap();
            (first, second)
        })
        .await;
        assert!(late.is_ok(), "the third is tried again and gets in");
    });
}

#[test]
fn bytes_keep_their_order_under_jitter_and_loss() {
    let mut config = config(7);
    config.net.default_link.jitter_max = Duration::from_millis(20);
    config.net.default_link.loss_per_million = 50_000;
    let (world, [from, to]) = world_of::<2>(config);
    let here = world.clone();
    run(&world, async move {
        let (mut near, mut far) = pair(&here, from, to).await;
        let sent: Vec<u8> = (0..1_000_000_u32).map(|i| (i ^ i >> 8).to_le_bytes()[0]).collect();
        let begin = here.now();
        let mut got = Vec::new();
        let send = async {
            near.write_all(&sent).await.unwrap();
            near.shutdown().await.unwrap();
        };
        join(send, async { far.read_to_end(&mut got).await.unwrap() }).await;
        assert!(got == sent, "bytes changed places");
        // A hundred quanta, of which about five were lost.
        assert!(here.now().since(begin) > Duration::from_millis(400), "loss is delay");
    });
}

#[test]
fn a_vectored_write_arrives_as_if_joined() {
    let (world, [from, to]) = world_of::<2>(config(1));
    let here = world.clone();
    run(&world, async move {
        let (mut near, mut far) = pair(&here, from, to).await;
        assert!(near.is_write_vectored());
        let parts = [vec![1; 10], vec![], vec![2; 70_000], vec![3; 70_000]];
        let slices: Vec<_> = parts.iter().map(|part| std::io::IoSlice::new(part)).collect();
        assert_eq!(near.write_vectored(&slices).await.unwrap(), 140_010);
        let mut got = vec![0; 140_010];
        far.read_exact(&mut got).await.unwrap();
        assert!(got == parts.concat());
    });
}

#[test]
fn names_of_hosts_and_given_names_resolve() {
    let (world, [node, other]) = world_of::<2>(config(1));
    let addresses = vec![world.addr(other), world.addr(node)];
    world.network().set_name("peers.example", addresses);
    let net = world.net(node);
    run(&world, async move {
        let text = |found: Vec<std::net::SocketAddr>| format!("{found:?}");
        assert_eq!(text(net.resolve("n2", 80).await.unwrap()), "[10.0.0.2:80]");
        let both = net.resolve("peers.example", 81).await.unwrap();
        assert_eq!(text(both), "[10.0.0.1:81, 10.0.0.2:81]");
    });
}

#[test]
fn a_busy_network_runs_alike_twice() {
    let hash = || {
        let mut config = config(11);
        config.net.default_link.jitter_max = Duration::from_millis(3);
        config.net.default_link.loss_per_million = 10_000;
        let (world, nodes) = world_of::<4>(config);
        let here = Arc::new(world.clone());
        let pairs: Vec<(NodeId, NodeId)> =
            nodes.iter().flat_map(|&a| nodes.map(|b| (a, b))).filter(|(a, b)| a != b).collect();
        run(&world, async move {
            let mut transfers = Vec::new();
            for (a, b) in pairs {
                let streams = pair(&here, a, b).await;
                let here = Arc::clone(&here);
                transfers.push(async move { transfer(&here, streams, 300_000).await });
            }
            join_all(transfers).await;
        });
        (world.journal_hash(), world.stats())
    };
    assert_eq!(hash(), hash());
}
