//! What was vouched for stays, and what is vouched for without end keeps no writer out for good.

use std::{collections::BTreeMap, time::Duration};

use kura_core::address::Address;
use kura_env::Instant;
use kura_node::service::Refusal;

use crate::bed::{Bed, body, plain};

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
