//! The faults of the network, and the endings that must not be mistaken for each other.

use std::{io::ErrorKind, time::Duration};

use kura_env::{NetErrorKind, Stream, timeout};
use sim_engine::{Cut, CutAfter, Ending, World, WorldConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{address, hour, listen, pair, world_of};

const WAIT: Duration = Duration::from_secs(30);

fn run<T: Send + 'static>(world: &World, work: impl Future<Output = T> + Send + 'static) -> T {
    world.block_on(work, hour()).unwrap_or_else(|outcome| panic!("{outcome}"))
}

/// What a reader sees next.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Bytes,
    End,
    Reset,
    Silence,
}

async fn next(world: &World, stream: &mut dyn Stream) -> Seen {
    let clock = world.clock(sim_engine::NodeId::OPERATOR);
    match timeout(&*clock, WAIT, stream.read(&mut [0; 64])).await {
        Err(_) => Seen::Silence,
        Ok(Ok(0)) => Seen::End,
        Ok(Ok(_)) => Seen::Bytes,
        Ok(Err(error)) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            Seen::Reset
        }
    }
}

#[test]
fn four_endings_are_four_different_things() {
    let (world, [near, far]) = world_of::<2>(WorldConfig::from_seed(1));
    let here = world.clone();
    run(&world, async move {
        let refused = here.net(near).connect(address(&here, far)).await.err().unwrap();
        assert!(matches!(refused.kind, NetErrorKind::Refused), "{refused}");

        let (mut client, server) = pair(&here, near, far).await;
        drop(server);
        assert_eq!(next(&here, &mut *client).await, Seen::End);
        assert_eq!(next(&here, &mut *client).await, Seen::End);

        let (mut client, server) = pair(&here, near, far).await;
        client.write_all(b"unread").await.unwrap();
        here.clock(near).sleep(WAIT).await;
        drop(server);
        assert_eq!(next(&here, &mut *client).await, Seen::Reset);

        let (mut client, server) = pair(&here, near, far).await;
        here.network().cut(near, far, Cut::Silent);
        drop(server);
        assert_eq!(next(&here, &mut *client).await, Seen::Silence);
    });
}

#[test]
fn bytes_that_arrive_after_the_drop_are_answered_with_a_reset() {
    let (world, [near, far]) = world_of::<2>(WorldConfig::from_seed(1));
    let here = world.clone();
    run(&world, async move {
        let (mut client, mut server) = pair(&here, near, far).await;
        server.write_all(b"early answer").await.unwrap();
        drop(server);
        client.write_all(b"the rest of the question").await.unwrap();
        assert_eq!(next(&here, &mut *client).await, Seen::Bytes);
        assert_eq!(next(&here, &mut *client).await, Seen::End);
        here.clock(near).sleep(WAIT).await;
        assert_eq!(client.write(b"x").await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        drop(client);
        assert_eq!(here.network().connections(), 0);
    });
}

#[test]
fn a_dropped_listener_resets_who_waited_there() {
    let (world, [near, far]) = world_of::<2>(WorldConfig::from_seed(1));
    let here = world.clone();
    run(&world, async move {
        let listener = listen(&here, far).await;
        let mut client = here.net(near).connect(address(&here, far)).await.unwrap();
        drop(listener);
        assert_eq!(next(&here, &mut *client).await, Seen::Reset);
    });
}

#[test]
fn a_silent_cut_holds_what_was_sent_until_it_is_healed() {
    let (world, [near, far]) = world_of::<2>(WorldConfig::from_seed(1));
    let here = world.clone();
    run(&world, async move {
        let (network, clock) = (here.network(), here.clock(near));
        let (mut client, mut server) = pair(&here, near, far).await;
        let listener = listen(&here, far).await;
        network.cut(near, far, Cut::Silent);
        client.write_all(b"hello").await.unwrap();
        assert_eq!(next(&here, &mut *server).await, Seen::Silence);
        let net = here.net(near);
        let mut asked = net.connect(listener.local_addr());
        assert!(timeout(&*clock, WAIT, &mut asked).await.is_err());
        network.heal(near, far);
        assert_eq!(next(&here, &mut *server).await, Seen::Bytes);
        assert!(timeout(&*clock, WAIT, asked).await.unwrap().is_ok());
    });
}

#[test]
fn a_one_way_cut_lets_the_other_way_through() {
    let (world, [near, far]) = world_of::<2>(WorldConfig::from_seed(1));
    let here = world.clone();
    run(&world, async move {
        let (mut client, mut server) = pair(&here, near, far).await;
        here.network().cut(near, far, Cut::OneWay);
        client.write_all(b"hello").await.unwrap();
        server.write_all(b"hello").await.unwrap();
        assert_eq!(next(&here, &mut *server).await, Seen::Silence);
        assert_eq!(next(&here, &mut *client).await, Seen::Bytes);
        here.network().heal(far, near);
        assert_eq!(next(&here, &mut *server).await, Seen::Bytes);
    });
}

#[test]
fn a_refusing_cut_resets_and_refuses_both_ways() {
    let (world, [near, far]) = world_of::<2>(WorldConfig::from_seed(1));
    let here = world.clone();
    run(&world, async move {
        let (mut client, mut server) = pair(&here, near, far).await;
        let _listeners = (listen(&here, far).await, listen(&here, near).await);
        here.network().cut(near, far, Cut::Refuse);
        assert_eq!(next(&here, &mut *client).await, Seen::Reset);
        assert_eq!(next(&here, &mut *server).await, Seen::Reset);
        for (from, to) in [(near, far), (far, near)] {
            let refused = here.net(from).connect(address(&here, to)).await.err().unwrap();
            assert!(matches!(refused.kind, NetErrorKind::Refused), "{refused}");
        }
        here.network().heal(near, far);
        here.net(near).connect(address(&here, far)).await.unwrap();
    });
}

#[test]
fn what_a_firewall_forgot_carries_nothing_and_what_is_opened_then_does() {
    let (world, [near, far]) = world_of::<2>(WorldConfig::from_seed(1));
    let here = world.clone();
    run(&world, async move {
        let (mut client, mut server) = pair(&here, near, far).await;
        here.network().cut(far, near, Cut::Forget);
        client.write_all(b"hello").await.unwrap();
        server.write_all(b"hello").await.unwrap();
        assert_eq!(next(&here, &mut *server).await, Seen::Silence);
        assert_eq!(next(&here, &mut *client).await, Seen::Silence);
        here.network().heal(near, far);
        assert_eq!(next(&here, &mut *server).await, Seen::Silence, "for ever");
        let (mut client, mut server) = pair(&here, near, far).await;
        client.write_all(b"hello").await.unwrap();
        assert_eq!(next(&here, &mut *server).await, Seen::Bytes);
        server.write_all(b"hello").await.unwrap();
        assert_eq!(next(&here, &mut *client).await, Seen::Bytes);
    });
}

#[test]
fn a_connection_is_cut_after_so_many_bytes() {
    let cases = [
        (Ending::Reset, Seen::Reset, Seen::Reset),
        (Ending::Silent, Seen::Silence, Seen::Silence),
        (Ending::End, Seen::End, Seen::Reset),
    ];
    for (ending, reader_sees, writer_sees) in cases {
        let (world, [near, far]) = world_of::<2>(WorldConfig::from_seed(1));
        let here = world.clone();
        run(&world, async move {
            let network = here.network();
            let (mut client, mut server) = pair(&here, near, far).await;
            client.write_all(&[0; 500]).await.unwrap();
            server.read_exact(&mut [0; 500]).await.unwrap();
            network.cut_after(near, far, CutAfter { bytes: 1_000, ending });
            client.write_all(&[0; 999]).await.unwrap();
            server.read_exact(&mut [0; 999]).await.unwrap();
            assert_eq!(network.cuts_fired(), 0);
            client.write_all(&[0; 100]).await.unwrap();
            assert_eq!(server.read(&mut [0; 100]).await.unwrap(), 1, "the thousandth byte");
            assert_eq!(network.cuts_fired(), 1);
            assert_eq!(next(&here, &mut *server).await, reader_sees);
            assert_eq!(next(&here, &mut *client).await, writer_sees);
            drop((client, server));
            assert_eq!(network.connections(), 0);
            // It was one connection that was cut.
            let (mut client, mut server) = pair(&here, near, far).await;
            client.write_all(&[0; 5_000]).await.unwrap();
            server.read_exact(&mut [0; 5_000]).await.unwrap();
        });
    }
}

#[test]
fn a_stalled_link_sends_nothing_until_it_goes_on() {
    let (world, [near, far]) = world_of::<2>(WorldConfig::from_seed(1));
    let here = world.clone();
    run(&world, async move {
        let network = here.network();
        let (mut client, mut server) = pair(&here, near, far).await;
        let link = network.path(near, far)[0];
        network.stall(link);
        client.write_all(b"hello").await.unwrap();
        assert_eq!(next(&here, &mut *server).await, Seen::Silence);
        network.resume(link);
        assert_eq!(next(&here, &mut *server).await, Seen::Bytes);
    });
}

#[test]
fn every_connection_of_a_pair_is_reset_and_no_other() {
    let (world, [near, far, other]) = world_of::<3>(WorldConfig::from_seed(1));
    let here = world.clone();
    run(&world, async move {
        let (mut first, mut first_far) = pair(&here, near, far).await;
        let (mut second, _second_far) = pair(&here, far, near).await;
        let (mut third, mut third_far) = pair(&here, near, other).await;
        assert_eq!(here.network().reset(near, far), 2);
        assert_eq!(next(&here, &mut *first).await, Seen::Reset);
        assert_eq!(next(&here, &mut *first_far).await, Seen::Reset);
        assert_eq!(next(&here, &mut *second).await, Seen::Reset);
        third.write_all(b"on").await.unwrap();
        assert_eq!(next(&here, &mut *third_far).await, Seen::Bytes);
    });
}

#[test]
fn a_delay_makes_one_direction_longer() {
    let (world, [near, far]) = world_of::<2>(WorldConfig::from_seed(1));
    let here = world.clone();
    run(&world, async move {
        let (mut client, mut server) = pair(&here, near, far).await;
        here.network().delay(near, far, Duration::from_secs(3));
        for (least_ms, most_ms) in [(3_000, 3_001), (0, 1)] {
            let begin = here.now();
            client.write_all(b"x").await.unwrap();
            server.read_exact(&mut [0]).await.unwrap();
            let took_ms = here.now().since(begin).as_millis();
            assert!((least_ms..=most_ms).contains(&took_ms), "{took_ms} ms");
            // What the other end sends next has the short way.
            std::mem::swap(&mut client, &mut server);
        }
    });
}
