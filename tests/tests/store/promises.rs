//! What was vouched for stays, and what is vouched for without end keeps no writer out for good.

use std::{collections::BTreeMap, time::Duration};

use kura_core::address::Address;
use kura_env::Instant;
use kura_node::service::Refusal;

use crate::bed::{Bed, body, plain, put};

const PROMISE: Duration = Duration::from_secs(10);
/// Enough for the ring to turn many times, one write a second.
const ROUNDS: u64 = 600;

/// What was vouched for and until when it has to be here.
#[derive(Default)]
struct Promised(BTreeMap<Address, Instant>);

impl Promised {
    /// Vouches for all of `addresses`, eldest first.
    fn ask(&mut self, bed: &Bed, addresses: &[Address]) {
        let (store, asked) = (bed.store(), addresses.to_vec());
        let until = bed.now() + PROMISE;
        let held = bed.run(async move { store.vouch(&asked).await }).unwrap();
        for (address, _) in addresses.iter().zip(held).filter(|(_, held)| *held) {
            self.0.insert(address.clone(), until);
        }
    }

    /// Fails if something that is promised is not here.
    fn check(&mut self, bed: &Bed) {
        let now = bed.now();
        self.0.retain(|_, until| *until > now);
        let (store, promised) = (bed.store(), self.0.clone());
        bed.run(async move {
            for address in promised.keys() {
                assert!(store.open(address).await.unwrap().is_some(), "{address:?} was promised");
            }
        });
    }
}

#[test]
fn vouches_that_never_end_keep_their_word_and_writers_out_for_a_promise_at_most() {
    let mut bed = Bed::new(61);
    bed.config.promise = PROMISE;
    bed.start().unwrap();
    let mut written = Vec::new();
    let mut promised = Promised::default();
    let (mut stored_at, mut longest) = (bed.now(), Duration::ZERO);
    for number in 0..ROUNDS {
        let address = plain(&format!("key-{number}"));
        match bed.put(address.clone(), body(number, 20_000)) {
            Ok(_) => {
                stored_at = bed.now();
                written.push(address);
            }
            Err(Refusal::Promised { .. }) => longest = longest.max(bed.now() - stored_at),
            Err(refusal) => panic!("{refusal}"),
        }
        promised.ask(&bed, &written);
        promised.check(&bed);
        bed.wait(1);
        promised.check(&bed);
    }
    let store = &bed.metrics().store;
    // A mark reaches a quarter further than what it stands for.
    assert!(longest < PROMISE * 3 / 2, "no write for {longest:?}");
    assert!(store.evicted_segments.get() > 8, "the ring turns");
    assert!(store.vouched.get() > 0 && store.vouches_declined.get() > 0);
}

#[test]
fn what_is_promised_of_a_name_is_promised_of_what_takes_its_place() {
    let mut bed = Bed::new(62);
    bed.config.promise = PROMISE;
    bed.start().unwrap();
    // Each of them is an object of the pool, which has room for about a dozen.
    bed.put(plain("kept"), body(1, 40_000)).unwrap();
    let (store, asked) = (bed.store(), vec![plain("kept")]);
    assert_eq!(bed.run(async move { store.vouch(&asked).await }).unwrap(), [true]);
    bed.put(plain("kept"), body(2, 40_000)).unwrap();
    for number in 0..30 {
        bed.put(plain(&format!("other-{number}")), body(number, 40_000)).unwrap();
    }
    assert!(bed.metrics().store.evicted_objects.get() > 10, "the pool turns");
    assert_eq!(bed.get(&plain("kept")).unwrap(), Some(body(2, 40_000)), "it was promised");
}

#[test]
fn copies_that_were_not_made_are_made_when_writers_wait_for_them() {
    let promise = Duration::from_secs(100);
    let mut bed = Bed::new(63);
    bed.config.promise = promise;
    bed.start().unwrap();
    let names: Vec<Address> = (0..14_000).map(|number| plain(&format!("key-{number}"))).collect();
    let (store, all) = (bed.store(), names.clone());
    bed.run(async move {
        for name in all {
            put(store.clone(), name, body(7, 60)).await.unwrap();
        }
    });
    let evicted = usize::try_from(bed.metrics().store.evicted_artifacts.get()).unwrap();
    assert!(evicted > 0, "the ring is full");
    // Most of the eldest segment, and nothing else.
    let promised = names[evicted..evicted + 1_300].to_vec();
    let (store, asked) = (bed.store(), promised.clone());
    let held = bed.run(async move { store.vouch(&asked).await }).unwrap();
    assert!(held.iter().all(|held| *held));
    assert!(bed.metrics().store.refreshes_shed.get() > 0, "more are old than may wait");
    let (began, mut stored) = (bed.now(), 0);
    while stored < 30 && bed.now() - began < promise / 2 {
        match bed.put(plain(&format!("later-{stored}")), body(stored, 25_000)) {
            Ok(_) => stored += 1,
            Err(Refusal::Promised { .. }) => bed.wait(1),
            Err(refusal) => panic!("{refusal}"),
        }
    }
    assert_eq!(stored, 30, "writers wait for copies, not for the end of promises");
    assert!(bed.metrics().store.refreshes_by_turn.get() > 0);
    for name in &promised {
        assert!(bed.get(name).unwrap().is_some(), "{name:?} was promised");
    }
}
