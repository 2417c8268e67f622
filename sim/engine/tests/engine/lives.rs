//! Death and return of nodes: what ends with a life, and what its handles still do.

use std::{
    io::ErrorKind,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use kura_env::{NetErrorKind, TaskEnd, timeout};
use sim_engine::{NodeId, Power, World, WorldConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{address, at, hour, listen, pair, world_of};

struct Counted(Arc<AtomicU32>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

fn run<T: Send + 'static>(world: &World, work: impl Future<Output = T> + Send + 'static) -> T {
    world.block_on(work, hour()).unwrap_or_else(|outcome| panic!("{outcome}"))
}

#[test]
fn a_kill_drops_every_task_of_its_node_and_no_other() {
    let (world, [doomed, other]) = world_of::<2>(WorldConfig::from_seed(1));
    let dropped = Arc::new(AtomicU32::new(0));
    let mut handles = Vec::new();
    for node in [doomed, doomed, doomed, other] {
        let counted = Counted(Arc::clone(&dropped));
        handles.push(world.spawn(node, "waits", async move {
            let _counted = counted;
            std::future::pending::<()>().await;
        }));
    }
    world.run_to(at(Duration::from_secs(1)));
    world.kill(doomed);
    assert_eq!(dropped.load(SeqCst), 3);
    assert_eq!(run(&world, handles[0].join()), TaskEnd::Aborted);
    assert_eq!(world.dump().tasks.len(), 1);
    assert_eq!((world.power(doomed), world.power(other)), (Power::ProcessDead, Power::Up));
}

#[test]
fn a_frozen_node_does_nothing_until_it_is_thawed_or_dies() {
    let (world, [frozen, other]) = world_of::<2>(WorldConfig::from_seed(1));
    let count = |node| {
        let (clock, ticks) = (world.clock(node), Arc::new(AtomicU32::new(0)));
        let counted = Arc::clone(&ticks);
        world.launch(node, "ticks", async move {
            loop {
                clock.sleep(Duration::from_secs(1)).await;
                counted.fetch_add(1, SeqCst);
            }
        });
        ticks
    };
    let (here, there) = (count(frozen), count(other));
    world.run_to(at(Duration::from_millis(2_500)));
    world.freeze(frozen);
    world.run_to(at(Duration::from_millis(9_500)));
    assert_eq!((here.load(SeqCst), there.load(SeqCst)), (2, 9));
    world.thaw(frozen);
    world.run_to(at(Duration::from_millis(9_600)));
    assert_eq!(here.load(SeqCst), 3, "the timer that was due is noticed late, and once");
    world.freeze(frozen);
    world.kill(frozen);
    world.start(frozen);
    let again = count(frozen);
    world.run_to(at(Duration::from_secs(20)));
    assert_eq!(here.load(SeqCst), 3);
    assert_eq!(again.load(SeqCst), 10, "the next life moves");
}

#[test]
fn a_task_that_kills_its_own_node_is_not_polled_again() {
    let (world, [node]) = world_of::<1>(WorldConfig::from_seed(1));
    let after = Arc::new(AtomicU32::new(0));
    let (killer, clock, counted) = (world.clone(), world.clock(node), Arc::clone(&after));
    world.launch(node, "crash point", async move {
        killer.kill(node);
        // Nothing that the dead do has an effect.
        let born = Arc::clone(&counted);
        killer.launch(node, "too late", async move {
            born.fetch_add(1, SeqCst);
        });
        clock.sleep(Duration::from_millis(1)).await;
        counted.fetch_add(1, SeqCst);
    });
    world.run_to(at(Duration::from_secs(1)));
    assert_eq!(after.load(SeqCst), 0);
}

#[test]
fn handles_of_a_dead_life_do_nothing_in_the_next() {
    let (world, [node]) = world_of::<1>(WorldConfig::from_seed(1));
    let (net, tasks, entropy) = (world.net(node), world.tasks(node), world.entropy(node));
    let listener = {
        let (net, addr) = (world.net(node), address(&world, node));
        run(&world, async move { net.listen(addr).await.unwrap() })
    };
    world.kill(node);
    world.start(node);

    let (other, addr, clock) = (world.net(node), address(&world, node), world.clock(node));
    run(&world, async move {
        let limit = Duration::from_secs(1);
        let again = other.listen(addr).await.unwrap();
        assert!(timeout(&*clock, limit, net.listen(addr)).await.is_err(), "the dead listen");
        assert!(timeout(&*clock, limit, net.connect(addr)).await.is_err(), "the dead connect");
        assert!(timeout(&*clock, limit, listener.accept()).await.is_err(), "the dead accept");
        // The drop of the dead listener leaves the new one alone.
        drop(listener);
        let (client, server) =
            futures_util::future::join(other.connect(addr), again.accept()).await;
        assert!(client.is_ok() && server.is_ok());
        let task = tasks.spawn("of the dead", Box::pin(async { panic!("it ran") }));
        assert_eq!(task.join().await, TaskEnd::Aborted);
    });
    let draw = |entropy: &dyn kura_env::Entropy| entropy.stream("ids").next_u64();
    assert_ne!(draw(&*entropy), draw(&*world.entropy(node)), "each life draws its own");
}

#[test]
fn the_peers_of_a_killed_process_see_a_reset_and_its_host_refuses() {
    let (world, [client, server]) = world_of::<2>(WorldConfig::from_seed(1));
    let here = world.clone();
    run(&world, async move {
        let net = here.net(client);
        let (mut near, mut far) = pair(&here, client, server).await;
        far.write_all(b"before").await.unwrap();
        here.clock(client).sleep(Duration::from_secs(1)).await;
        here.kill(server);
        // What has arrived can be read; then comes the reset.
        near.read_exact(&mut [0; 6]).await.unwrap();
        assert_eq!(near.read(&mut [0; 1]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(near.write(b"x").await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        let refused = net.connect(address(&here, server)).await.err().unwrap();
        assert!(matches!(refused.kind, NetErrorKind::Refused), "{refused}");
        // The dead end is dropped much later, and nothing comes of it.
        drop((near, far));
        assert_eq!(here.network().connections(), 0);
    });
}

#[test]
fn the_peers_of_a_host_without_power_hear_nothing_until_it_is_back() {
    let (world, [client, server]) = world_of::<2>(WorldConfig::from_seed(1));
    let here = world.clone();
    run(&world, async move {
        let (clock, net) = (here.clock(client), here.net(client));
        let (mut talks, _far) = pair(&here, client, server).await;
        let (mut listens, _far) = pair(&here, client, server).await;
        here.kill_silent(server);
        talks.write_all(b"lost").await.unwrap();
        let limit = Duration::from_secs(60);
        assert!(timeout(&*clock, limit, talks.read(&mut [0; 1])).await.is_err());
        let addr = address(&here, server);
        let mut asked = net.connect(addr);
        assert!(timeout(&*clock, limit, &mut asked).await.is_err(), "nobody is there to answer");

        here.start(server);
        let error = timeout(&*clock, limit, talks.read(&mut [0; 1])).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        let refused = timeout(&*clock, limit, asked).await.unwrap().err().unwrap();
        assert!(matches!(refused.kind, NetErrorKind::Refused), "{refused}");
        // Who only listens learns nothing, until it says something.
        assert!(timeout(&*clock, limit, listens.read(&mut [0; 1])).await.is_err());
        listens.write_all(b"still there?").await.unwrap();
        let error = timeout(&*clock, limit, listens.read(&mut [0; 1])).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_started_node_can_be_reached_again() {
    let (world, [client, server]) = world_of::<2>(WorldConfig::from_seed(1));
    let here = world.clone();
    run(&world, async move {
        for kill in [World::kill, World::kill_silent] {
            let (near, far) = pair(&here, client, server).await;
            kill(&here, server);
            here.start(server);
            let (mut near_again, mut far_again) = pair(&here, client, server).await;
            near_again.write_all(b"hello").await.unwrap();
            far_again.read_exact(&mut [0; 5]).await.unwrap();
            drop((near, far));
        }
    });
}

#[test]
fn connects_of_the_dying_leave_nothing_behind() {
    let (world, [client, server]) = world_of::<2>(WorldConfig::from_seed(1));
    let here = world.clone();
    let listener = run(&world, async move { listen(&here, server).await });
    for (kill, after_micros) in [(World::kill as fn(&World, NodeId), 100), (World::kill, 700)] {
        let (net, addr) = (world.net(client), address(&world, server));
        world.launch(client, "connects", async move {
            let _stream = net.connect(addr).await;
            std::future::pending::<()>().await;
        });
        world.run_to(world.now() + Duration::from_micros(after_micros));
        kill(&world, client);
        world.run_to(world.now() + Duration::from_secs(1));
        world.start(client);
    }
    drop(listener);
    assert_eq!(world.network().connections(), 0);
}

#[test]
fn a_wall_clock_that_drifts_keeps_what_it_has_drifted() {
    let (world, [node, other]) = world_of::<2>(WorldConfig::from_seed(1));
    let off = |world: &World| {
        let wall = |node| world.clock(node).wall().0.cast_signed();
        wall(node) - wall(other)
    };
    world.set_wall_skew(node, -2_000);
    world.set_wall_drift(node, 100);
    world.run_to(at(Duration::from_secs(1_000)));
    assert_eq!(off(&world), -1_900, "100 ppm of 1000 s");
    world.set_wall_drift(node, -500);
    assert_eq!(off(&world), -1_900);
    world.run_to(at(Duration::from_secs(2_000)));
    assert_eq!(off(&world), -2_400);
    world.set_wall_drift(node, 0);
    world.set_wall_skew(node, 0);
    world.run_to(at(Duration::from_secs(3_000)));
    assert_eq!(off(&world), 0);
}

#[test]
fn wall_clocks_have_a_skew_of_their_own() {
    let (world, [first, second]) = world_of::<2>(WorldConfig::from_seed(1));
    world.set_wall_skew(first, -300_000);
    let apart = world.clock(second).wall().0 - world.clock(first).wall().0;
    assert_eq!(apart, 300_000);
    world.run_to(at(Duration::from_secs(2)));
    assert_eq!(world.clock(second).wall().0, 1_767_225_602_000);
}

#[test]
fn nothing_outlives_its_world() {
    let dropped = Arc::new(AtomicU32::new(0));
    let (world, [node]) = world_of::<1>(WorldConfig::from_seed(1));
    let (handle, clock, counted) = (world.clone(), world.clock(node), Counted(dropped.clone()));
    world.launch(node, "holds its world", async move {
        let _held = (handle, counted);
        clock.sleep(Duration::from_secs(9)).await;
    });
    let (event, handle) = (Counted(dropped.clone()), world.clone());
    world.schedule(hour(), move |_| drop((event, handle)));
    world.run_to(at(Duration::from_secs(1)));
    drop(world);
    assert_eq!(dropped.load(SeqCst), 2);
}
