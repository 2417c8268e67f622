//! What nodes do about peers that are in trouble, or make some.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use fault_injection::{Dial, Dials, End, Flow, Link};
use kura_node::config::NodeConfig;
use serde_json::Value;
use sim_storage::SimDiskConfig;

use crate::{
    bed::{Bed, body},
    puppet::{self, Asked, Told, compared, feed, hello, pretend, row},
};

const SECOND: Duration = Duration::from_secs(1);

/// A peer as the first host sees it.
fn peer(bed: &Bed, number: usize) -> Value {
    let name = format!("http://10.0.0.{}:7000", number + 1);
    let cluster = bed.service(0).cluster();
    let peers = cluster["peers"].as_array().unwrap();
    peers.iter().find(|peer| peer["peer"] == name.as_str()).unwrap().clone()
}

fn slow_disk(_: usize) -> SimDiskConfig {
    let slow = Duration::from_millis(200);
    SimDiskConfig { op_latency: slow, ..SimDiskConfig::instant(256 << 20, 1) }
}

/// Two hosts with something each, that have never met.
fn strangers(mut bed: Bed) -> Bed {
    for number in 0..2 {
        bed.start(number);
        bed.pass(30 * SECOND);
        bed.put(number, &format!("of {number}"), body(1, 1000)).unwrap();
        bed.kill(number);
    }
    bed
}

#[test]
fn time_in_which_a_node_recovers_is_no_silence_of_its_peers() {
    let bed = Bed::with_disks(1, 2, |config| peer_wait(config, 1), slow_disk);
    let mut bed = strangers(bed);
    bed.start(1);
    bed.pass(20 * SECOND);
    bed.start(0);
    let took = bed.until_ready(0, 60 * SECOND);
    assert!(took > 2 * SECOND, "reading the data back took longer than the wait: {took:?}");
    assert!(bed.get(0, "of 1").is_some(), "ready after a pass over the peer");
}

#[test]
fn a_node_says_hello_while_it_reads_its_data_back() {
    let mut bed = strangers(Bed::with_disks(
        2,
        2,
        |_| (),
        |number| match number {
            0 => SimDiskConfig::instant(256 << 20, 1),
            _ => slow_disk(number),
        },
    ));
    bed.start(1);
    bed.start(0);
    bed.pass(SECOND);
    let peer = peer(&bed, 1);
    assert_eq!((&peer["standing"], &peer["state"]), (&"recovering".into(), &"recovering".into()));
    bed.until_ready(0, 60 * SECOND);
    assert!(bed.get(0, "of 1").is_some());
}

#[test]
fn our_own_pauses_are_no_silence_of_the_peer() {
    for seed in 0..6 {
        let mut bed = strangers(Bed::new(seed, 2, |config| peer_wait(config, 10)));
        bed.start(0);
        bed.pass(8 * SECOND);
        bed.start(1);
        let took = 8 * SECOND + bed.until_ready(0, 30 * SECOND);
        assert!(
            bed.get(0, "of 1").is_some(),
            "{seed}: nobody asked the peer, ready after {took:?}"
        );
    }
}

#[test]
fn who_was_not_waited_for_is_told_when_the_node_is_ready() {
    let mut bed = strangers(Bed::new(3, 2, |config| peer_wait(config, 10)));
    bed.start(0);
    let took = bed.until_ready(0, 20 * SECOND);
    assert!(took >= 10 * SECOND && took < 12 * SECOND, "the wait ends with an attempt: {took:?}");
    let reasons = bed.service(0).readiness().reasons;
    assert!(
        reasons[0].contains("10.0.0.2") && reasons[0].contains("not waited for"),
        "{reasons:?}"
    );
}

#[test]
fn a_row_of_the_feed_outlives_a_minute_of_trouble() {
    let mut bed = Bed::new(4, 2, |_| ());
    let (wanted, clock) = (body(1, 1000), bed.clock(1));
    let begun = clock.now();
    pretend(&bed, 1, move |asked| match asked.what.as_str() {
        "hello" => hello(77),
        "compare" => compared(&[]),
        "feed" => feed(&[row("key", &wanted)], 2),
        _ if clock.now().since(begun) < 60 * SECOND => Told::failure(),
        _ => Told::bodies(std::slice::from_ref(&wanted)),
    });
    bed.start(0);
    bed.pass(180 * SECOND);
    assert_eq!(bed.get(0, "key"), Some(body(1, 1000)));
}

#[test]
fn an_artifact_that_was_set_aside_is_tried_again() {
    let mut bed = Bed::new(5, 2, |_| ());
    let (wanted, clock) = (body(1, 1000), bed.clock(1));
    let begun = clock.now();
    // The peer holds it, and cannot read it for some minutes.
    pretend(&bed, 1, move |asked| match asked.what.as_str() {
        "hello" => hello(77),
        "compare" => compared(&[row("key", &wanted)]),
        "feed" => feed(&[], 1),
        _ if clock.now().since(begun) < 240 * SECOND => puppet::unreadable(),
        _ => Told::bodies(std::slice::from_ref(&wanted)),
    });
    bed.start(0);
    bed.until_ready(0, 120 * SECOND);
    let of_peer = peer(&bed, 1);
    assert_eq!((&of_peer["set_aside_total"], &of_peer["standing"]), (&1.into(), &"passed".into()));
    bed.pass(480 * SECOND);
    assert_eq!(bed.get(0, "key"), Some(body(1, 1000)));
    assert_eq!(peer(&bed, 1)["set_aside_total"], 0);
}

#[test]
fn a_feed_goes_on_behind_artifacts_that_began_to_fail_one_after_the_other() {
    let mut bed = Bed::new(6, 2, |_| ());
    let clock = bed.clock(1);
    let begun = clock.now();
    // The page grows while its first row is tried: each is given up at another time.
    pretend(&bed, 1, move |asked| match asked.what.as_str() {
        "hello" => hello(77),
        "compare" => compared(&[]),
        "feed" => {
            let seconds = clock.now().since(begun).as_secs();
            let rows: Vec<_> = [0, 6, 20, 50]
                .into_iter()
                .filter(|since| *since <= seconds)
                .map(|since| row(&format!("key-{since}"), &body(since, 1000)))
                .collect();
            feed(&rows, 1 + rows.len() as u64)
        }
        _ => puppet::unreadable(),
    });
    bed.start(0);
    bed.pass(600 * SECOND);
    let of_peer = peer(&bed, 1);
    assert_eq!((&of_peer["set_aside_total"], &of_peer["lag"]), (&4.into(), &0.into()));
}

#[test]
fn rows_of_a_space_that_is_unknown_here_are_skipped_and_counted() {
    let mut bed = Bed::new(12, 2, |_| ());
    let known = body(1, 1000);
    let mut later = row("later", &known);
    later["space"] = 250.into();
    pretend(&bed, 1, move |asked| match asked.what.as_str() {
        "hello" => hello(77),
        "compare" => compared(&[row("key", &known), later.clone()]),
        "feed" => feed(std::slice::from_ref(&later), 2),
        _ => Told::bodies(std::slice::from_ref(&known)),
    });
    bed.start(0);
    bed.until_ready(0, 60 * SECOND);
    bed.pass(SECOND);
    assert_eq!(bed.get(0, "key"), Some(body(1, 1000)));
    assert!(bed.metrics(0).replication.rows_unknown.get() >= 2);
}

#[test]
fn a_peer_is_asked_for_no_more_than_it_takes() {
    let mut bed = Bed::new(13, 2, |_| ());
    let rows: Vec<Value> = (0..60).map(|n| row(&format!("key-{n}"), &body(1, 100))).collect();
    let log = pretend(&bed, 1, move |asked| match asked.what.as_str() {
        "hello" => {
            let life = serde_json::json!({ "node": 77, "incarnation": 1, "head": 1 });
            let limits = serde_json::json!({ "batch_rows": 7, "spans": 0 });
            Told::json(&serde_json::json!({
                "life": life, "region": "there", "state": "serving", "limits": limits
            }))
        }
        "compare" => compared(&rows),
        "feed" => feed(&[], 1),
        _ => Told::bodies(&vec![body(1, 100); asked.rows]),
    });
    bed.start(0);
    bed.until_ready(0, 60 * SECOND);
    let log = log.lock().unwrap();
    let asked = log.iter().filter(|asked| asked.what == "bodies").map(|asked| asked.rows);
    let mut asked: Vec<usize> = asked.collect();
    asked.sort_unstable();
    assert_eq!(asked, [4, 7, 7, 7, 7, 7, 7, 7, 7]);
    assert_eq!(bed.metrics(0).replication.limits_raised.get(), 1, "the ranges");
}

#[test]
fn a_sick_peer_does_not_hold_readiness_for_ever() {
    holds_readiness_for_five_minutes(Told::failure);
}

#[test]
fn a_peer_that_never_has_time_does_not_hold_readiness_for_ever() {
    holds_readiness_for_five_minutes(Told::busy);
}

/// Two peers that say that they serve, and answer everything else like this.
fn holds_readiness_for_five_minutes(answer: fn() -> Told) {
    let mut bed = strangers(Bed::new(6, 3, |_| ()));
    bed.start(0);
    bed.pass(SECOND);
    bed.kill(0);
    for number in 1..3 {
        pretend(&bed, number, move |asked| match asked.what.as_str() {
            "hello" => hello(76 + number as u64),
            _ => answer(),
        });
    }
    bed.start(0);
    bed.pass(240 * SECOND);
    assert!(!bed.is_ready(0), "they answer, and may have what is lacking here");
    bed.until_ready(0, 120 * SECOND);
    let reasons = bed.service(0).readiness().reasons;
    let is_given_up = |it: &String| it.contains("nothing for 300 s");
    assert!(reasons.len() == 2 && reasons.iter().all(is_given_up), "{reasons:?}");
}

#[test]
fn a_peer_that_has_no_time_to_say_hello_counts_as_silent() {
    let mut bed = strangers(Bed::new(6, 2, |config| peer_wait(config, 10)));
    pretend(&bed, 1, |_| Told::busy());
    bed.start(0);
    bed.until_ready(0, 60 * SECOND);
    let reasons = bed.service(0).readiness().reasons;
    assert!(reasons[0].contains("is silent"), "{reasons:?}");
}

#[test]
fn a_peer_that_fails_every_body_is_not_asked_for_every_row() {
    let mut bed = Bed::new(7, 2, |_| ());
    let rows: Vec<Value> = (0..600).map(|n| row(&format!("key-{n}"), &body(n, 70_000))).collect();
    let log = pretend(&bed, 1, move |asked| match asked.what.as_str() {
        "hello" => hello(77),
        "compare" => compared(&rows),
        _ => Told::failure(),
    });
    bed.start(0);
    bed.pass(60 * SECOND);
    let requests = log.lock().unwrap().iter().filter(|asked| asked.what == "bodies").count();
    // Back-off: 2, 4, 8, 16, 32 s, at least half of each.
    assert!((20..=7 * 20).contains(&requests), "{requests}");
}

#[test]
fn a_name_that_led_to_the_node_itself_may_lead_elsewhere_later() {
    let mut bed = Bed::new(8, 2, |_| ());
    let (itself, wanted) = (Arc::new(Mutex::new(None)), body(1, 1000));
    let node = itself.clone();
    pretend(&bed, 1, move |asked| match asked.what.as_str() {
        "hello" => hello(node.lock().unwrap().unwrap_or(77)),
        "compare" => compared(&[row("key", &wanted)]),
        "feed" => feed(&[], 1),
        _ => Told::bodies(std::slice::from_ref(&wanted)),
    });
    bed.start(0);
    bed.pass(SECOND);
    let id = bed.service(0).cluster()["self"]["node"].as_str().unwrap().to_owned();
    bed.kill(0);
    *itself.lock().unwrap() = u64::from_str_radix(&id, 16).ok();
    bed.start(0);
    bed.until_ready(0, 10 * SECOND);
    assert_eq!(peer(&bed, 1)["standing"], "myself");
    *itself.lock().unwrap() = None;
    bed.pass(70 * SECOND);
    assert_eq!(peer(&bed, 1)["standing"], "passed");
    assert_eq!(bed.get(0, "key"), Some(body(1, 1000)));
}

#[test]
fn what_a_lost_node_left_on_another_one_is_found() {
    let mut bed = Bed::new(9, 3, |_| ());
    let (wanted, comparisons) = (body(1, 1000), Mutex::new(0));
    // The second host fetches what the third one wrote after it was compared with; the third one is
    // gone before the first host has it.
    pretend(&bed, 1, move |asked| match asked.what.as_str() {
        "hello" => hello(77),
        "compare" => {
            let mut comparisons = comparisons.lock().unwrap();
            *comparisons += 1;
            if *comparisons == 1 { compared(&[]) } else { compared(&[row("key", &wanted)]) }
        }
        "feed" => feed(&[], 1),
        _ => Told::bodies(std::slice::from_ref(&wanted)),
    });
    bed.start(0);
    bed.pass(240 * SECOND);
    assert_eq!(bed.get(0, "key"), Some(body(1, 1000)));
    assert_eq!(peer(&bed, 1)["passes"], 2, "one pass more, for one peer lost");
}

#[test]
fn a_peer_that_drips_does_not_keep_an_artifact_from_a_healthy_one() {
    let mut bed = Bed::new(10, 3, |_| ());
    let wanted = body(1, 100_000);
    let answer = |wanted: bytes::Bytes, drip: Option<Duration>| {
        move |asked: &Asked| match asked.what.as_str() {
            "hello" => hello(if drip.is_some() { 77 } else { 78 }),
            "compare" => compared(&[row("key", &wanted)]),
            "feed" => feed(&[], 1),
            _ => match drip {
                Some(pause) => Told::bodies(std::slice::from_ref(&wanted)).dripping(pause),
                None => Told::bodies(std::slice::from_ref(&wanted)),
            },
        }
    };
    pretend(&bed, 1, answer(wanted.clone(), Some(20 * SECOND)));
    pretend(&bed, 2, answer(wanted.clone(), None));
    bed.start(0);
    bed.pass(90 * SECOND);
    assert_eq!(bed.get(0, "key"), Some(wanted));
}

#[test]
fn a_pass_over_more_than_fits_keeps_the_newest() {
    let mut bed = Bed::new(11, 2, |config| {
        if config.listen.ip().to_string() == "10.0.0.1" {
            config.store.capacity_bytes = Some(32 << 20);
        }
    });
    bed.start(1);
    bed.pass(SECOND);
    for n in 0..40 {
        bed.put(1, &format!("key-{n}"), body(n, 500_000)).unwrap();
    }
    bed.start(0);
    bed.until_ready(0, 60 * SECOND);
    for n in 35..40 {
        assert_eq!(bed.get(0, &format!("key-{n}")).map(|it| it.len()), Some(500_000), "key-{n}");
    }
    assert!(bed.get(0, "key-0").is_none(), "it does not fit");
}

#[test]
fn a_pass_that_takes_too_long_is_cut_and_goes_on_and_no_body_is_cut_with_it() {
    let change = |config: &mut kura_node::config::NodeConfig| {
        if let Some(peers) = &mut config.peers {
            peers.pass_timeout = SECOND;
        }
    };
    let disk = |number| match number {
        0 => SimDiskConfig::instant(256 << 20, 1),
        _ => slow_disk(number),
    };
    let mut bed = Bed::with_disks(12, 2, change, disk);
    bed.start(1);
    bed.pass(60 * SECOND);
    for n in 0..100 {
        bed.put(1, &format!("key-{n}"), body(n, 70_000)).unwrap();
    }
    bed.start(0);
    bed.until_ready(0, 120 * SECOND);
    let counted = bed.metrics(0);
    let counted = &counted.replication;
    assert!(counted.passes_cut.get() > 0);
    assert_eq!((counted.passes_begun.get(), counted.fetched.get()), (1, 100));
    assert_eq!(counted.fetch_failures.get(), 0);
}

fn peer_wait(config: &mut kura_node::config::NodeConfig, seconds: u64) {
    if let Some(peers) = &mut config.peers {
        peers.peer_wait = Duration::from_secs(seconds);
    }
}

/// The first host reaches the second one through a link on the third; the second one follows nobody.
fn through_a_link(config: &mut NodeConfig) {
    let is_first = config.listen.ip().to_string() == "10.0.0.1";
    let peers = if is_first { vec!["http://10.0.0.3:7000".to_owned()] } else { Vec::new() };
    config.peers.as_mut().expect("it has some").peers = peers;
}

#[test]
fn connections_that_a_firewall_forgot_cost_one_time_out_and_not_one_each() {
    let mut bed = Bed::new(8, 3, through_a_link);
    let (net, clock, tasks) = bed.seams(2);
    let link = Link::new(clock, net, tasks);
    let (way_in, target) = ("10.0.0.3:7000".parse().unwrap(), "10.0.0.2:7000".parse().unwrap());
    let proxied = link.clone();
    let _proxy = bed.run(async move { proxied.proxy(End::Near, way_in, target).await }).unwrap();
    bed.start(1);
    bed.start(0);
    bed.until_ready(0, 60 * SECOND);
    for number in 0..64 {
        bed.put(1, &format!("early {number}"), body(number, 100_000)).unwrap();
    }
    bed.pass(SECOND);
    assert!(link.counts().open > 8, "bodies came on {} connections", link.counts().open);

    let forgets = Dial { flow: Flow::Swallowed, ..Dial::default() };
    link.turn(Dials { back: forgets, ..Dials::default() });
    bed.pass(SECOND);
    link.turn(Dials::default());
    bed.put(1, "late", body(64, 1000)).unwrap();
    // What stands still is given up after 30 s, and a pause of some seconds follows.
    bed.pass(45 * SECOND);
    assert!(bed.get(0, "late").is_some(), "{}", bed.service(0).cluster());
}
