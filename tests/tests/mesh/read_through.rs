//! Reads of what a peer nearby was heard to hold.

use std::time::Duration;

use bytes::Bytes;
use kura_core::limits::FETCHES_MAX;
use kura_node::config::NodeConfig;

use crate::{
    bed::{Bed, body},
    puppet::{Asked, Log, Told, compared, feed, hello_from, pretend, row},
};

const SECOND: Duration = Duration::from_secs(1);
const WAIT: Duration = Duration::from_millis(500);
/// Too large to be asked for together with others.
const LARGE: usize = 100 << 10;

fn reads_through(config: &mut NodeConfig) {
    config.peers.as_mut().unwrap().read_through = WAIT;
}

/// A node that fetches large bodies from a peer that hardly sends, as many as it fetches at once and more, with
/// `wanted` behind them, which the peer sends as `wanted_as` says.
fn behind_large_bodies(
    region: &'static str,
    change: fn(&mut NodeConfig),
    wanted_as: fn(Told) -> Told,
) -> (Bed, Log) {
    let mut bed = Bed::new(1, 2, change);
    let (large, wanted) = (body(2, LARGE), body(1, 1000));
    let names = (0..FETCHES_MAX + 4).map(|number| format!("large-{number}"));
    let mut rows: Vec<_> = names.map(|name| row(&name, &large)).collect();
    rows.push(row("wanted", &wanted));
    let log = pretend(&bed, 1, move |asked: &Asked| match asked.what.as_str() {
        "hello" => hello_from(77, region),
        "compare" => compared(&rows),
        "feed" => feed(&[], 1),
        _ if asked.keys == ["wanted"] => wanted_as(Told::bodies(std::slice::from_ref(&wanted))),
        _ => Told::bodies(std::slice::from_ref(&large)).dripping(SECOND / 4),
    });
    bed.start(0);
    bed.pass(5 * SECOND);
    let asked = log.lock().unwrap();
    let bodies = asked.iter().filter(|asked| asked.what == "bodies").count();
    assert_eq!(bodies, FETCHES_MAX, "the followers have as many under way as may be");
    drop(asked);
    (bed, log)
}

fn asked_for_it(log: &Log) -> usize {
    log.lock().unwrap().iter().filter(|asked| asked.keys == ["wanted"]).count()
}

/// What a read finds, and how long it took.
fn get(bed: &Bed) -> (Option<Bytes>, Duration) {
    let begun = bed.world.now();
    let found = bed.get(0, "wanted");
    (found, bed.world.now().since(begun))
}

#[test]
fn a_read_does_not_wait_for_what_is_fetched_already() {
    let (bed, log) = behind_large_bodies("here", reads_through, |told| told);
    let (found, took) = get(&bed);
    assert_eq!(found, Some(body(1, 1000)));
    assert!(took < WAIT, "{took:?}");
    assert!(bed.get(0, "never heard of").is_none());
    get(&bed).0.unwrap();
    assert_eq!(asked_for_it(&log), 1, "then it is here");
    let count = &bed.metrics(0).replication;
    assert_eq!((count.read_through_hits.get(), count.read_through_failures.get()), (1, 0));
}

#[test]
fn a_read_that_waited_long_enough_is_a_miss_and_the_next_one_is_a_hit() {
    let slowly = |told: Told| told.dripping(SECOND / 500);
    let (bed, log) = behind_large_bodies("here", reads_through, slowly);
    let (found, took) = get(&bed);
    assert!(found.is_none());
    assert!(took >= WAIT && took < WAIT + SECOND / 10, "{took:?}");
    assert_eq!(bed.metrics(0).replication.read_through_late.get(), 1);
    bed.pass(3 * SECOND);
    assert_eq!(get(&bed).0, Some(body(1, 1000)));
    assert_eq!(asked_for_it(&log), 1);
}

#[test]
fn reads_of_the_same_at_once_ask_once() {
    let slowly = |told: Told| told.dripping(SECOND / 5000);
    let (bed, log) = behind_large_bodies("here", reads_through, slowly);
    let (service, address) = (bed.service(0), crate::bed::plain("wanted"));
    let found = bed.run(async move {
        let read = async || service.open(&address).await.unwrap().is_some();
        futures_util::future::join_all((0..20).map(|_| read())).await
    });
    let count = &bed.metrics(0).replication;
    let (hits, shed) = (count.read_through_hits.get(), count.read_through_shed.get());
    assert_eq!((hits, shed), (20, 0));
    assert!(found.iter().all(|found| *found));
    assert_eq!(asked_for_it(&log), 1);
}

#[test]
fn nobody_far_away_is_asked_and_nobody_at_all_unless_it_is_set() {
    let off: fn(&mut NodeConfig) = |_| ();
    for (region, change) in [("there", reads_through as fn(&mut NodeConfig)), ("here", off)] {
        let (bed, log) = behind_large_bodies(region, change, |told| told);
        let (found, took) = get(&bed);
        assert!(found.is_none() && took < SECOND / 10, "{took:?}");
        assert_eq!(asked_for_it(&log), 0);
    }
}
