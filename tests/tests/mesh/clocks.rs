//! What a node makes of peers whose clocks are wrong.

use std::time::Duration;

use crate::bed::{Bed, body};

const SECOND: Duration = Duration::from_secs(1);

/// The second host as the first one sees it.
fn peer(bed: &Bed) -> serde_json::Value {
    let cluster = bed.service(0).cluster();
    let peers = cluster["peers"].as_array().unwrap();
    peers.iter().find(|peer| peer["peer"] == "http://10.0.0.2:7000").unwrap().clone()
}

/// Two hosts that follow each other, and what the second one writes while its clock is 20 minutes ahead.
fn ahead() -> Bed {
    let mut bed = Bed::new(1, 2, |_| ());
    bed.start(0);
    bed.start(1);
    bed.until_ready(0, 10 * SECOND);
    bed.until_ready(1, 10 * SECOND);
    bed.set_clock_ahead(1, 20 * 60 * SECOND);
    bed.put(1, "late", body(1, 1000)).unwrap();
    bed.pass(SECOND);
    bed
}

#[test]
fn a_version_that_is_too_far_ahead_is_left_until_its_time_comes() {
    let bed = ahead();
    assert_eq!(bed.get(0, "late"), None);
    let told = peer(&bed);
    assert_eq!(told["set_aside"], serde_json::json!(["team/late"]));
    assert!(told["ahead_seconds"].as_u64().is_some_and(|ahead| ahead > 19 * 60), "{told}");
    bed.set_clock_ahead(1, Duration::ZERO);
    bed.pass(14 * 60 * SECOND);
    assert_eq!(bed.get(0, "late"), None);
    bed.pass(5 * 60 * SECOND);
    assert_eq!(bed.get(0, "late"), Some(body(1, 1000)));
    let told = peer(&bed);
    assert_eq!((&told["set_aside_total"], &told["ahead_seconds"]), (&0.into(), &().into()));
}

#[test]
fn a_pass_leaves_it_too_and_its_node_is_ready() {
    let mut bed = ahead();
    bed.kill(0);
    bed.start(0);
    bed.until_ready(0, 10 * SECOND);
    assert_eq!(bed.get(0, "late"), None);
    assert_eq!(peer(&bed)["set_aside_total"], 1);
    bed.pass(20 * 60 * SECOND);
    assert_eq!(bed.get(0, "late"), Some(body(1, 1000)));
}

#[test]
fn own_writes_do_not_go_on_from_a_version_that_is_too_far_ahead() {
    let bed = ahead();
    bed.put(0, "own", body(2, 1000)).unwrap();
    bed.set_clock_ahead(1, Duration::ZERO);
    bed.pass(2 * SECOND);
    // By its own version, which is not ahead: the second host fetches it at once.
    assert_eq!(bed.get(1, "own"), Some(body(2, 1000)));
}
