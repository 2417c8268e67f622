//! The feed of a node within its bound, whatever becomes of its process and its catalog.

use kura_core::feed::{Cursor, Follow, parse_feed_key};
use kura_node::store::KEYSPACES;
use sim_storage::Crash;

use crate::bed::{Bed, body, plain};

/// The sequences of the rows that the catalog has.
fn rows(bed: &Bed) -> Vec<u64> {
    let rows = bed.catalog().peek_rows(KEYSPACES[2]);
    rows.iter().filter_map(|(key, _)| parse_feed_key(key)).collect()
}

/// A store whose feed may have ten rows, with so many artifacts in it.
fn written(seed: u64, artifacts: u64) -> Bed {
    let mut bed = Bed::new(seed);
    bed.config.feed_rows_max = 10;
    bed.start().unwrap();
    for n in 0..artifacts {
        bed.put(plain(&format!("key-{n}")), body(n, 1_000)).unwrap();
    }
    bed
}

fn follow(bed: &Bed, sequence: u64) -> Follow {
    let extent = bed.store().extent();
    extent.follow(Cursor { incarnation: extent.incarnation, sequence })
}

#[test]
fn the_eldest_rows_go_and_who_has_not_read_them_compares() {
    let mut bed = written(1, 10);
    let from = rows(&bed)[0];
    assert_eq!(follow(&bed, from), Follow::Rows { from });
    bed.put(plain("one more"), body(1, 1_000)).unwrap();
    let held = rows(&bed);
    assert_eq!((held.len(), held[0]), (10, from + 1));
    for life in 0..2 {
        assert_eq!(follow(&bed, from), Follow::Gone, "{life}");
        assert_eq!(follow(&bed, from + 1), Follow::Rows { from: from + 1 }, "{life}");
        bed.crash(Crash::Sigkill);
        bed.start().unwrap();
        assert_eq!(rows(&bed), held, "{life}");
    }
    let store = bed.store();
    let page = bed.run(async move { store.feed(from + 1, 100).await.unwrap() });
    assert_eq!(page.rows.len(), 10);
}

#[test]
fn a_catalog_that_is_made_again_keeps_to_the_bound() {
    let mut bed = written(2, 200);
    let held = rows(&bed);
    bed.close();
    bed.forget_index();
    bed.start().unwrap();
    assert!(rows(&bed).len() <= 10, "{:?}", rows(&bed));
    assert_eq!(follow(&bed, held[0] - 1), Follow::Gone);
    for n in 0..200 {
        let address = plain(&format!("key-{n}"));
        assert_eq!(bed.get(&address).unwrap(), Some(body(n, 1_000)), "{n}");
    }
    bed.put(plain("one more"), body(1, 1_000)).unwrap();
    assert!(rows(&bed).len() <= 10);
}

#[test]
fn a_bound_that_is_lowered_is_reached_with_the_next_writes() {
    let mut bed = written(3, 10);
    bed.close();
    bed.config.feed_rows_max = 3;
    bed.start().unwrap();
    bed.put(plain("one more"), body(1, 1_000)).unwrap();
    assert_eq!(rows(&bed).len(), 3);
    assert_eq!(bed.metrics().replication.feed_rows_dropped.get(), 8);
}

#[test]
fn what_is_replaced_and_evicted_leaves_room() {
    let mut bed = Bed::new(4);
    bed.config.feed_rows_max = 40;
    bed.start().unwrap();
    // Several turns of a ring of two MiB.
    for n in 0..3_000 {
        bed.put(plain(&format!("key-{}", n % 300)), body(n, 3_000)).unwrap();
        assert!(rows(&bed).len() <= 40);
    }
    let (held, extent) = (rows(&bed), bed.store().extent());
    assert!(held.iter().all(|sequence| *sequence >= extent.floor), "{extent:?} {held:?}");
}
