//! Reads: what they count as.

use kura_core::address::Address;
use kura_node::service::Refusal;

use crate::bed::{Bed, body, plain};

fn counted(bed: &Bed) -> (u64, u64) {
    let store = &bed.metrics().store;
    (store.hits.get(), store.misses.get())
}

#[test]
fn a_read_that_proves_damaged_at_once_is_no_hit() {
    let mut bed = Bed::new(41);
    bed.start().unwrap();
    for (seed, key, len) in [(1, "rotten", 10_000), (2, "whole", 50_000), (3, "empty", 0)] {
        bed.put(plain(key), body(seed, len)).unwrap();
    }
    let path = format!("blobs/{}", bed.segments()[0].file_name());
    bed.disk.rot(&path, 5_000, 1).unwrap();
    let refusal = bed.get(&plain("rotten")).unwrap_err();
    assert!(matches!(refusal, Refusal::Damaged { .. }), "{refusal}");
    assert_eq!(counted(&bed), (0, 1), "it is answered as a miss");
    bed.settle();
    for (key, after) in [("rotten", (0, 2)), ("whole", (1, 2)), ("empty", (2, 2))] {
        bed.get(&plain(key)).unwrap();
        assert_eq!(counted(&bed), after, "{key}");
    }
    look(&bed, plain("whole"));
    assert_eq!(counted(&bed), (3, 2), "looked at and not read");
}

fn look(bed: &Bed, address: Address) {
    let store = bed.store();
    bed.run(async move { drop(store.open(&address).await.unwrap()) });
}
