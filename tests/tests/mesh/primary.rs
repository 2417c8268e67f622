//! Which node of a region is primary, each as a story.

use std::{pin::pin, time::Duration};

use futures_util::future::{Either, select};
use kura_core::primary::PULSE_EVERY;
use kura_node::{node::Ended, service::Service};

use crate::bed::{Bed, body};

const SECOND: Duration = Duration::from_secs(1);

/// Three nodes that ask each other how they are.
fn three(seed: u64) -> Bed {
    let mut bed = Bed::new(seed, 3, |config| {
        config.peers.as_mut().unwrap().primary.pulse_every = PULSE_EVERY;
    });
    for number in 0..3 {
        bed.start(number);
    }
    for number in 0..3 {
        bed.until_ready(number, 10 * SECOND);
    }
    bed.pass(3 * SECOND);
    bed
}

fn is_primary(service: &Service) -> bool {
    service.primacy().is_primary
}

/// The hosts whose nodes say that they are primary.
fn primaries(bed: &Bed, of: &[usize]) -> Vec<usize> {
    of.iter().copied().filter(|number| is_primary(&bed.service(*number))).collect()
}

/// The only primary, and the others.
fn one_of_three(bed: &Bed) -> (usize, [usize; 2]) {
    let [one] = primaries(bed, &[0, 1, 2])[..] else {
        panic!("{:?}", primaries(bed, &[0, 1, 2]));
    };
    (one, [(one + 1) % 3, (one + 2) % 3])
}

#[test]
fn one_of_three_is_primary_and_stays_so_beside_one_that_comes_back() {
    for seed in 0..8 {
        let mut bed = three(seed);
        let (first, others) = one_of_three(&bed);
        for n in 0..50 {
            bed.put(first, &format!("key-{n}"), body(n, 3_000)).unwrap();
        }
        bed.pass(2 * SECOND);
        let changes = |bed: &Bed, number| bed.metrics(number).replication.primary_changes.get();
        let before = others.map(|number| changes(&bed, number));
        bed.kill(first);
        bed.pass(5 * SECOND);
        let [second] = primaries(&bed, &others)[..] else { panic!("seed {seed}") };
        bed.start(first);
        bed.until_ready(first, 20 * SECOND);
        bed.pass(5 * SECOND);
        assert_eq!(one_of_three(&bed).0, second, "seed {seed}");
        let after = others.map(|number| changes(&bed, number) + u64::from(number != second));
        assert_eq!(after, before.map(|before| before + 1), "seed {seed}: one of them, once");
        assert_eq!(changes(&bed, first), 0, "seed {seed}: since it came back");
    }
}

#[test]
fn who_is_told_to_stop_hands_over_first_and_serves_meanwhile() {
    for seed in 10..18 {
        let mut bed = three(seed);
        let (first, others) = one_of_three(&bed);
        let (leaving, staying) = (bed.service(first), others.map(|number| bed.service(number)));
        let (node, clock) = (bed.take(first), bed.clock(others[0]));
        let ended = bed.run(async move {
            let mut drain = pin!(node.drain());
            loop {
                drain = match select(drain, clock.sleep(SECOND / 50)).await {
                    Either::Left((ended, _)) => return ended,
                    Either::Right(((), drain)) => drain,
                };
                let is_there = is_primary(&leaving) || staying.iter().any(is_primary);
                assert!(is_there && !leaving.readiness().ready, "seed {seed}");
            }
        });
        assert!(matches!(ended, Ended::Drained));
        assert_eq!(primaries(&bed, &others).len(), 1, "seed {seed}");
    }
}

#[test]
fn a_node_beside_dead_peers_is_primary_in_seconds_and_stops_at_once() {
    let mut bed = Bed::new(30, 3, |config| {
        let peers = config.peers.as_mut().unwrap();
        (peers.primary.pulse_every, peers.peer_wait) = (PULSE_EVERY, 5 * SECOND);
    });
    bed.start(0);
    bed.pass(SECOND / 2);
    assert!(!is_primary(&bed.service(0)), "somebody else may be it");
    bed.pass(5 * SECOND);
    assert!(is_primary(&bed.service(0)), "{}", bed.service(0).cluster());
    let (node, clock, begun) = (bed.take(0), bed.clock(0), bed.world.now());
    bed.run(async move { node.drain().await });
    assert!(clock.now().since(begun) < SECOND);
}

#[test]
fn a_node_alone_is_primary_at_once_and_stops_at_once() {
    let mut bed = Bed::new(20, 1, |config| config.peers = None);
    bed.start(0);
    bed.until_ready(0, SECOND);
    assert!(is_primary(&bed.service(0)));
    let (node, clock, begun) = (bed.take(0), bed.clock(0), bed.world.now());
    bed.run(async move { node.drain().await });
    assert!(clock.now().since(begun) < SECOND);
}
