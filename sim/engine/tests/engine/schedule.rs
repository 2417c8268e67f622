//! Order, hash, wake-ups, and the failures that end a run.

use std::{sync::Arc, time::Duration};

use kura_env::{Instant, Tasks, timeout};
use parking_lot::Mutex;
use sim_engine::{JournalHash, NodeId, Outcome, World, WorldConfig};
use tokio::sync::mpsc;

use crate::{at, hour, world_of};

/// Forty tasks on two nodes that note their turns; returns the order and the hash.
fn noted_order(config: WorldConfig) -> (Vec<u32>, JournalHash) {
    let (world, nodes) = world_of::<2>(config);
    let order = Arc::new(Mutex::new(Vec::new()));
    for number in 0..40_u32 {
        let node = nodes[usize::from(number % 2 == 1)];
        let (order, clock) = (Arc::clone(&order), world.clock(node));
        world.launch(node, "notes its turns", async move {
            for _ in 0..3 {
                order.lock().push(number);
                clock.sleep(Duration::from_millis(1)).await;
            }
        });
    }
    let outcome = world.run_until(|_| order.lock().len() == 120, hour());
    assert!(outcome.is_goal(), "{outcome}");
    let noted = order.lock().clone();
    (noted, world.journal_hash())
}

#[test]
fn the_same_keys_give_the_same_order_and_hash_twice_in_one_process() {
    assert_eq!(noted_order(WorldConfig::from_seed(1)), noted_order(WorldConfig::from_seed(1)));
}

#[test]
fn another_schedule_key_gives_another_order_and_hash() {
    let config = WorldConfig::from_seed(1);
    let first = noted_order(config.clone());
    let second = noted_order(WorldConfig { schedule_key: [7; 32], ..config });
    assert_ne!(first.0, second.0);
    assert_ne!(first.1, second.1);
}

#[test]
fn another_seed_leaves_the_order_alone() {
    let config = WorldConfig::from_seed(1);
    let first = noted_order(config.clone());
    let second = noted_order(WorldConfig { seed: 2, ..config });
    assert_eq!(first, second, "nothing here asks for randomness but the schedule");
}

#[test]
fn worlds_on_threads_side_by_side_do_not_touch_each_other() {
    let alone = noted_order(WorldConfig::from_seed(9));
    #[expect(clippy::disallowed_methods, reason = "several runs in one process, a thread each")]
    std::thread::scope(|scope| {
        let runs: Vec<_> =
            (0..4).map(|_| scope.spawn(|| noted_order(WorldConfig::from_seed(9)))).collect();
        for run in runs {
            assert_eq!(run.join().unwrap(), alone);
        }
    });
}

#[test]
fn a_recorder_sees_every_event_and_does_not_change_the_hash() {
    let run = |recorded: bool| {
        let (world, [node]) = world_of::<1>(WorldConfig::from_seed(4));
        let lines = Arc::new(Mutex::new(Vec::new()));
        if recorded {
            let lines = Arc::clone(&lines);
            world.record_journal(Some(Box::new(move |line| lines.lock().push(line.to_owned()))));
        }
        let clock = world.clock(node);
        let handle = world.clone();
        world.launch(node, "sleeper", async move {
            clock.sleep(Duration::from_secs(1)).await;
            handle.note("step", "slept");
        });
        assert!(world.run_until(|_| false, hour()) != Outcome::Goal);
        let lines = lines.lock().clone();
        (world.journal_hash(), world.journal_len(), lines)
    };
    let (hash, events, lines) = run(true);
    assert_eq!((hash, events, Vec::new()), run(false));
    assert_eq!(u64::try_from(lines.len()).unwrap(), events);
    assert!(lines.iter().any(|line| line.ends_with("1000000000 note step slept")), "{lines:#?}");
}

#[test]
fn a_note_with_other_text_gives_another_hash() {
    let hash = |text| {
        let (world, []) = world_of::<0>(WorldConfig::from_seed(4));
        world.note("kind", text);
        world.journal_hash()
    };
    assert_ne!(hash("one"), hash("two"));
}

/// A message hops through a ring of tasks, some of which sleep first, some of which select between
/// the channel and a timer that never wins. One lost wake-up and the ring stands still.
async fn ring_hop(
    world: World,
    position: u32,
    mut inbox: mpsc::Receiver<u32>,
    next: mpsc::Sender<u32>,
) {
    let clock = world.clock(NodeId::OPERATOR);
    loop {
        let message = timeout(&*clock, Duration::from_secs(600), inbox.recv()).await;
        let message = message.expect("a wake-up was lost");
        let Some(left) = message else { return };
        if (left + position).is_multiple_of(3) {
            clock.sleep(Duration::from_micros(u64::from(left % 7))).await;
        }
        if left == 0 || next.send(left - 1).await.is_err() {
            return;
        }
    }
}

#[test]
fn no_wake_up_is_lost() {
    const TASKS: u32 = 200;
    const HOPS: u32 = 5_000;
    for seed in 0..5 {
        let (world, []) = world_of::<0>(WorldConfig::from_seed(seed));
        let (first, mut inbox) = mpsc::channel(1);
        let mut done = Vec::new();
        for position in 0..TASKS {
            let (next, next_inbox) = mpsc::channel(1);
            let next = if position + 1 == TASKS { first.clone() } else { next };
            let hop = ring_hop(world.clone(), position, inbox, next);
            done.push(world.spawn(NodeId::OPERATOR, "ring", hop));
            inbox = next_inbox;
        }
        first.try_send(HOPS).unwrap();
        drop(first);
        let joins: Vec<_> = done.iter().map(kura_env::TaskHandle::join).collect();
        let all = world.block_on(futures_util::future::join_all(joins), hour());
        assert!(all.is_ok(), "{}", all.unwrap_err());
        assert!(world.stats().polls > u64::from(HOPS));
    }
}

#[test]
fn a_waker_called_twice_gives_one_turn() {
    let (world, []) = world_of::<0>(WorldConfig::from_seed(1));
    let polls = Arc::new(Mutex::new(0));
    let waker = Arc::new(Mutex::new(None));
    let (counted, parked) = (Arc::clone(&polls), Arc::clone(&waker));
    world.launch(NodeId::OPERATOR, "counts its turns", async move {
        std::future::poll_fn::<(), _>(|cx| {
            *counted.lock() += 1;
            *parked.lock() = Some(cx.waker().clone());
            std::task::Poll::Pending
        })
        .await;
    });
    world.run_to(at(Duration::from_secs(1)));
    let waker: std::task::Waker = waker.lock().take().unwrap();
    waker.wake_by_ref();
    waker.wake_by_ref();
    waker.wake();
    world.run_to(at(Duration::from_secs(2)));
    assert_eq!(*polls.lock(), 2);
}

#[test]
fn a_deadlock_is_reported_with_names_and_reasons() {
    let (world, [node]) = world_of::<1>(WorldConfig::from_seed(1));
    let net = world.net(node);
    world.launch(node, "listener", async move {
        let listener = net.listen("10.0.0.1:80".parse().unwrap()).await.unwrap();
        listener.accept().await.unwrap();
    });
    let (_keep, mut never) = mpsc::channel::<()>(1);
    world.launch(NodeId::OPERATOR, "waits for a message", async move {
        never.recv().await;
    });
    let Outcome::Deadlock(dump) = world.run_until(|_| false, hour()) else {
        panic!("nothing can happen any more");
    };
    let lines: Vec<_> = dump
        .tasks
        .iter()
        .map(|task| (task.node.as_str(), task.name.as_str(), task.waits_for.as_str()))
        .collect();
    let expected = [
        ("n1", "listener", "a connection to 10.0.0.1:80"),
        ("operator", "waits for a message", "another task"),
    ];
    assert_eq!(lines, expected);
}

#[test]
fn a_panic_ends_the_run_and_names_its_task() {
    let (world, [node]) = world_of::<1>(WorldConfig::from_seed(1));
    let clock = world.clock(node);
    world.launch(node, "falls", async move {
        clock.sleep(Duration::from_secs(1)).await;
        panic!("on {}", "purpose");
    });
    let other = world.clock(node);
    world.launch(node, "stands", async move { other.sleep(Duration::from_secs(9)).await });
    let Outcome::Panic { report, dump } = world.run_until(|_| false, hour()) else {
        panic!("a task panicked");
    };
    assert_eq!((&*report.node, &*report.task, &*report.message), ("n1", "falls", "on purpose"));
    assert_eq!(dump.at, at(Duration::from_secs(1)));
    let lines: Vec<_> = dump.tasks.iter().map(ToString::to_string).collect();
    assert_eq!(lines, ["n1/stands (2) since 0.000000000s for time 9.000000000s"]);
}

#[test]
fn a_panic_in_a_drop_or_a_world_event_ends_the_run_too() {
    struct Falls;
    impl Drop for Falls {
        fn drop(&mut self) {
            panic!("in a drop");
        }
    }
    let (world, [node]) = world_of::<1>(WorldConfig::from_seed(1));
    world.launch(node, "holds", async {
        let _falls = Falls;
        std::future::pending::<()>().await;
    });
    world.schedule(at(Duration::from_secs(1)), move |world| world.kill(node));
    world.schedule(at(Duration::from_secs(2)), |_| panic!("in an event"));
    for message in ["in a drop", "in an event"] {
        let Outcome::Panic { report, .. } = world.run_until(|_| false, hour()) else {
            panic!("a panic was swallowed");
        };
        assert_eq!(report.message, message);
    }
}

#[test]
fn a_livelock_is_reported() {
    let config = WorldConfig { stall_events_max: 1_000, ..WorldConfig::from_seed(1) };
    let (world, [node]) = world_of::<1>(config);
    let clock = world.clock(node);
    world.launch(node, "spins", async move {
        loop {
            clock.sleep(Duration::ZERO).await;
        }
    });
    let Outcome::Stalled(dump) = world.run_until(|_| false, hour()) else {
        panic!("time did not move");
    };
    assert_eq!(dump.tasks[0].name, "spins");
    assert_eq!(world.now(), Instant(0));
}

#[test]
fn time_stands_at_the_deadline_when_it_passed() {
    let (world, [node]) = world_of::<1>(WorldConfig::from_seed(1));
    let clock = world.clock(node);
    world.launch(node, "sleeps long", async move { clock.sleep(Duration::from_secs(60)).await });
    assert_eq!(world.run_until(|_| false, at(Duration::from_secs(5))), Outcome::Deadline);
    assert_eq!(world.now(), at(Duration::from_secs(5)));
    assert_eq!(world.run_to(at(Duration::from_secs(90))), Outcome::Deadline);
    assert_eq!(world.now(), at(Duration::from_secs(90)));
}

#[test]
fn computing_takes_its_turn_on_the_one_cpu() {
    let config = WorldConfig {
        compute_fixed: Duration::from_micros(10),
        compute_bytes_per_second: 1_000_000,
        ..WorldConfig::from_seed(1)
    };
    let (world, [node, other]) = world_of::<2>(config);
    let ends = Arc::new(Mutex::new(Vec::new()));
    for node in [node, node, other] {
        let (tasks, clock): (Arc<dyn Tasks>, _) = (world.tasks(node), world.clock(node));
        let ends = Arc::clone(&ends);
        world.launch(node, "computes", async move {
            tasks.compute("sum", 1_000, Box::new(|| {})).await;
            ends.lock().push(clock.now());
        });
    }
    world.run_to(hour());
    ends.lock().sort();
    let [one, two] = [1_010, 2_020].map(|micros| at(Duration::from_micros(micros)));
    assert_eq!(*ends.lock(), [one, one, two]);
    assert_eq!(world.charge(node, 5), hour() + Duration::from_nanos(5));
}

#[test]
fn keyed_streams_do_not_depend_on_each_other() {
    use kura_env::EntropyStream as _;
    let (world, [node]) = world_of::<1>(WorldConfig::from_seed(1));
    let alone = world.stream("disk", "faults").next_u64();
    world.stream("disk", "others").next_u64();
    assert_eq!(world.stream("disk", "faults").next_u64(), alone);
    assert_ne!(world.stream("net", "faults").next_u64(), alone);

    let first = world.entropy(node).stream("ids").next_u64();
    let second = world.entropy(node).stream("ids").next_u64();
    assert_ne!(first, second, "the second stream of a purpose is another one");
    let (again, [same]) = world_of::<1>(WorldConfig::from_seed(1));
    again.entropy(same).stream("other");
    assert_eq!(again.entropy(same).stream("ids").next_u64(), first);
}

#[test]
fn a_drop_may_wake_and_spawn_and_lock() {
    struct Busy {
        world: World,
        lock: Arc<Mutex<u32>>,
        tell: mpsc::Sender<()>,
    }
    impl Drop for Busy {
        fn drop(&mut self) {
            *self.lock.lock() += 1;
            self.tell.try_send(()).unwrap();
            self.world.launch(NodeId::OPERATOR, "born of a drop", async {});
        }
    }
    let (world, [node]) = world_of::<1>(WorldConfig::from_seed(1));
    let lock = Arc::new(Mutex::new(0));
    let (tell, mut told) = mpsc::channel(1);
    let busy = Busy { world: world.clone(), lock: Arc::clone(&lock), tell };
    world.launch(node, "busy to the end", async move {
        let _busy = busy;
        std::future::pending::<()>().await;
    });
    // The killer holds the lock that the drop wants, and is itself a task in its poll.
    let (killer, held) = (world.clone(), Arc::clone(&lock));
    world.launch(node, "kills its own node", async move {
        let guard = held.lock();
        killer.kill(node);
        drop(guard);
    });
    let outcome = world.block_on(async move { told.recv().await }, hour());
    assert_eq!(outcome, Ok(Some(())));
    assert_eq!(*lock.lock(), 1);
    assert_eq!(world.stats().tasks_spawned, 4);
}
