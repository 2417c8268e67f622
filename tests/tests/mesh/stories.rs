//! What a mesh promises, each as a story.

use std::time::Duration;

use crate::bed::{Bed, body};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn what_one_node_takes_in_the_others_come_to_have() {
    let mut bed = Bed::new(1, 3, |_| ());
    for number in 0..3 {
        bed.start(number);
    }
    for number in 0..3 {
        let took = bed.until_ready(number, 10 * SECOND);
        assert!(took < 5 * SECOND, "{took:?}");
    }
    for (key, len) in [("empty", 0), ("small", 100), ("medium", 100_000), ("large", 900_000)] {
        bed.put(0, key, body(1, len)).unwrap();
    }
    bed.pass(2 * SECOND);
    for number in 0..3 {
        for (key, len) in [("empty", 0), ("small", 100), ("medium", 100_000), ("large", 900_000)] {
            assert_eq!(bed.get(number, key), Some(body(1, len)), "{key} on {number}");
        }
    }
    bed.put(2, "small", body(2, 200)).unwrap();
    bed.pass(SECOND);
    for number in 0..3 {
        assert_eq!(bed.get(number, "small"), Some(body(2, 200)), "the later one, on {number}");
    }
}

#[test]
fn a_node_that_comes_late_has_everything_before_it_is_ready() {
    let mut bed = Bed::new(2, 3, |_| ());
    bed.start(0);
    bed.start(1);
    for number in 0..2 {
        // Both are empty and miss the third, which they do not wait for longer than a minute.
        bed.until_ready(number, 70 * SECOND);
    }
    for n in 0..500 {
        bed.put(n % 2, &format!("key-{n}"), body(n as u64, 3_000)).unwrap();
    }
    bed.start(2);
    bed.until_ready(2, 30 * SECOND);
    for n in 0..500 {
        assert_eq!(bed.get(2, &format!("key-{n}")), Some(body(n as u64, 3_000)), "key-{n}");
    }
}

#[test]
fn a_mesh_that_restarts_at_once_converges() {
    let mut bed = Bed::new(3, 3, |_| ());
    // Each takes writes alone first, so that the data is split between them.
    for number in 0..3 {
        bed.start(number);
        bed.pass(SECOND);
        for n in 0..50 {
            bed.put(number, &format!("key-{number}-{n}"), body(n, 20_000)).unwrap();
        }
        bed.kill(number);
    }
    for number in 0..3 {
        bed.start(number);
    }
    for number in 0..3 {
        bed.until_ready(number, 60 * SECOND);
    }
    bed.pass(5 * SECOND);
    for number in 0..3 {
        for owner in 0..3 {
            for n in 0..50 {
                let found = bed.get(number, &format!("key-{owner}-{n}"));
                assert_eq!(found, Some(body(n, 20_000)), "key-{owner}-{n} on {number}");
            }
        }
    }
}

#[test]
fn an_empty_node_that_reaches_nobody_is_isolated_and_one_with_data_serves() {
    let mut bed = Bed::new(4, 2, |_| ());
    bed.start(0);
    bed.pass(120 * SECOND);
    let readiness = bed.service(0).readiness();
    assert!(!readiness.ready);
    assert!(readiness.reasons.iter().any(|it| it.contains("isolated")), "{readiness:?}");
    // It takes writes all the same: they depend on no peer.
    bed.put(0, "key", body(1, 100)).unwrap();
    bed.kill(0);
    bed.start(0);
    let took = bed.until_ready(0, 90 * SECOND);
    assert!(took >= 59 * SECOND, "the silent peer is waited for: {took:?}");
}

#[test]
fn the_same_key_written_on_two_nodes_ends_as_one_body_everywhere() {
    let mut bed = Bed::new(5, 3, |_| ());
    for number in 0..3 {
        bed.start(number);
    }
    for number in 0..3 {
        bed.until_ready(number, 10 * SECOND);
    }
    for n in 0..20 {
        let key = format!("key-{n}");
        bed.put(0, &key, body(100, 5_000)).unwrap();
        bed.put(1, &key, body(200, 6_000)).unwrap();
    }
    bed.pass(5 * SECOND);
    for n in 0..20 {
        let key = format!("key-{n}");
        let found: Vec<_> = (0..3).map(|number| bed.get(number, &key)).collect();
        assert!(found[0].is_some());
        assert!(found.iter().all(|it| *it == found[0]), "{key} is the same everywhere");
    }
}

#[test]
fn a_staging_budget_smaller_than_the_data_fills_in_waves() {
    let mut bed = Bed::new(6, 2, |config| config.store.staging_bytes_max = 2_000_000);
    bed.start(0);
    bed.pass(SECOND);
    for n in 0..30 {
        bed.put(0, &format!("key-{n}"), body(n, 900_000)).unwrap();
    }
    bed.start(1);
    bed.until_ready(1, 120 * SECOND);
    for n in 0..30 {
        assert_eq!(bed.get(1, &format!("key-{n}")), Some(body(n, 900_000)), "key-{n}");
    }
}

#[test]
fn what_a_start_finds_gone_is_asked_for_at_once() {
    let mut bed = Bed::new(8, 2, |_| ());
    bed.start(0);
    bed.start(1);
    for number in 0..2 {
        bed.until_ready(number, 10 * SECOND);
    }
    for n in 0..300 {
        bed.put(0, &format!("key-{n}"), body(n, 2_000)).unwrap();
    }
    bed.pass(5 * SECOND);
    // The peer answers all the time, so that nothing but its own start has the node compare.
    bed.kill(1);
    assert!(bed.behead_segments(1) > 0);
    bed.start(1);
    bed.until_ready(1, 60 * SECOND);
    bed.pass(5 * SECOND);
    for n in 0..300 {
        assert_eq!(bed.get(1, &format!("key-{n}")), Some(body(n, 2_000)), "key-{n}");
    }
}

#[test]
fn a_deleted_namespace_is_gone_on_all_nodes_also_on_one_that_was_away() {
    let mut bed = Bed::new(60, 3, |_| ());
    for number in 0..3 {
        bed.start(number);
    }
    for number in 0..3 {
        bed.until_ready(number, 10 * SECOND);
    }
    for n in 0..50 {
        bed.put(n % 3, &format!("key-{n}"), body(n as u64, 3_000)).unwrap();
    }
    bed.pass(2 * SECOND);
    bed.kill(2);
    bed.delete(0, "team");
    bed.pass(SECOND);
    for number in 0..2 {
        for n in 0..50 {
            assert_eq!(bed.get(number, &format!("key-{n}")), None, "key-{n} on {number}");
        }
    }
    bed.put(1, "key-7", body(99, 3_000)).unwrap();
    bed.start(2);
    bed.until_ready(2, 30 * SECOND);
    bed.pass(5 * SECOND);
    for number in 0..3 {
        for n in 0..50 {
            let wanted = (n == 7).then(|| body(99, 3_000));
            assert_eq!(bed.get(number, &format!("key-{n}")), wanted, "key-{n} on {number}");
        }
    }
    // Nobody who follows has to wait for the end of a long poll.
    bed.delete(2, "team");
    bed.pass(SECOND / 2);
    for number in 0..3 {
        assert_eq!(bed.get(number, "key-7"), None, "on {number}");
    }
}
