//! A clean stop and a start change no answer, and not how the ring is split into old and young.

use bytes::Bytes;
use kura_core::address::Address;

use crate::bed::{Bed, body, plain};

/// What every one of `addresses` is answered with, and the rings and the pool in numbers.
fn seen(bed: &Bed, addresses: &[Address]) -> (Vec<Option<Bytes>>, serde_json::Value) {
    let answers = addresses.iter().map(|address| bed.get(address).unwrap()).collect();
    bed.settle();
    (answers, bed.store().ring_status())
}

#[test]
fn a_restart_changes_no_answer_and_no_split() {
    let mut bed = Bed::new(71);
    bed.start().unwrap();
    let mut addresses = Vec::new();
    let mut turned = 0;
    for life in 0..6_u64 {
        for number in 0..40 {
            // Every seventh is large enough for the pool.
            let len = if number % 7 == 0 { 60_000 } else { 20_000 };
            let address = plain(&format!("{life}-{number}"));
            bed.put(address.clone(), body(life * 40 + number, len)).unwrap();
            addresses.push(address);
        }
        // What reading copies forward is copied before the look that counts.
        seen(&bed, &addresses);
        let before = seen(&bed, &addresses);
        let rotations = bed.metrics().store.rotations.get();
        turned += rotations;
        bed.close();
        bed.start().unwrap();
        bed.settle();
        assert_eq!(bed.store().ring_status(), before.1, "in life {life}");
        assert_eq!(bed.metrics().store.rotations.get(), 0, "no segment for a start");
        assert!(seen(&bed, &addresses).0 == before.0, "an answer of life {life} changed");
    }
    let (answers, _) = seen(&bed, &addresses);
    let misses = answers.iter().filter(|answer| answer.is_none()).count();
    assert!(turned > 20 && misses > 100, "{turned} turns, {misses} of 240 evicted");
}
