//! Large objects: each has a file of its own, and a number that is never given out twice.

use fault_injection::{DiskFault, Fault, FaultId, Plan, What, When};
use kura_core::address::{Address, Space};
use kura_env::{Batch, Catalog as _, CommitDurability};
use kura_node::store::KEYSPACES;
use sim_storage::Crash;

use crate::bed::{Bed, body, plain};

const LARGE: usize = 60_000;

fn objects(bed: &Bed) -> usize {
    bed.disk.walk().iter().filter(|file| file.path.as_str().starts_with("pool/")).count()
}

/// Deletes all rows of `places`, as when that keyspace alone is lost.
fn lose_places(bed: &Bed) {
    let places = KEYSPACES[0];
    let (_, catalog) = bed.env();
    bed.run(async move {
        catalog.open().await.unwrap();
        let mut batch = Batch::default();
        for (key, _) in catalog.range(places, &[], &[], usize::MAX).await.unwrap() {
            batch.delete(places, key);
        }
        catalog.commit(batch, CommitDurability::Synced).await.unwrap();
        catalog.close().await;
    });
}

#[test]
fn they_are_found_again_where_their_places_alone_are_lost() {
    let mut bed = Bed::new(81);
    bed.start().unwrap();
    bed.put(plain("large"), body(1, LARGE)).unwrap();
    bed.put(plain("small"), body(2, 3_000)).unwrap();
    bed.close();
    lose_places(&bed);
    bed.start().unwrap();
    assert_eq!(bed.get(&plain("large")).unwrap(), Some(body(1, LARGE)));
    assert_eq!(bed.get(&plain("small")).unwrap(), Some(body(2, 3_000)));
}

#[test]
fn one_that_cannot_be_read_now_stays_for_the_next_start() {
    let mut bed = Bed::new(82);
    bed.start().unwrap();
    bed.put(plain("large"), body(1, LARGE)).unwrap();
    bed.close();
    for forgets in [false, true] {
        if forgets {
            bed.forget_index();
        }
        let when = When::EffectMatching { label: "read pool/*.blob".to_owned(), nth: 1 };
        let what = What::DiskError { kind: DiskFault::Io };
        let fault = Fault { id: FaultId(0), node: "node-1".to_owned(), when, what, times: 1 };
        bed.plan = Plan { faults: vec![fault] };
        bed.start().unwrap();
        bed.settle();
        assert_eq!(objects(&bed), 1, "forgets: {forgets}");
        bed.close();
        bed.plan = Plan::default();
        bed.start().unwrap();
        assert_eq!(bed.get(&plain("large")).unwrap(), Some(body(1, LARGE)), "forgets: {forgets}");
        bed.close();
    }
}

#[test]
fn one_that_nobody_could_be_told_of_goes_once_it_can_be_removed() {
    let mut bed = Bed::new(83);
    let fails = |id, label: &str| Fault {
        id: FaultId(id),
        node: "node-1".to_owned(),
        when: When::EffectMatching { label: label.to_owned(), nth: 1 },
        what: What::DiskError { kind: DiskFault::Quota },
        times: 1,
    };
    bed.plan = Plan { faults: vec![fails(0, "sync_dir pool/*"), fails(1, "unlink pool/*/*.blob")] };
    bed.start().unwrap();
    bed.put(plain("large"), body(1, LARGE)).unwrap_err();
    bed.settle();
    bed.wait(10);
    assert_eq!(objects(&bed), 0, "it was tried again");
    assert_eq!(bed.get(&plain("large")).unwrap(), None);
    bed.put(plain("large"), body(2, LARGE)).unwrap();
    assert_eq!((objects(&bed), bed.get(&plain("large")).unwrap()), (1, Some(body(2, LARGE))));
}

#[test]
fn their_numbers_are_not_given_out_again_where_all_else_is_lost() {
    let mut bed = Bed::new(83);
    bed.start().unwrap();
    for n in 0..3 {
        bed.put(plain(&format!("large-{n}")), body(n, LARGE)).unwrap();
    }
    bed.close();
    bed.forget_index();
    let disk = bed.disk.attach();
    bed.run(async move { disk.unlink(&kura_env::DiskPath::new("RING")).await.unwrap() });
    bed.start().unwrap();
    for n in 3..6 {
        bed.put(plain(&format!("large-{n}")), body(n, LARGE)).unwrap();
    }
    for n in 0..6 {
        let found = bed.get(&plain(&format!("large-{n}"))).unwrap();
        assert_eq!(found, Some(body(n, LARGE)), "{n}");
    }
}

#[test]
fn one_that_is_here_is_not_stored_again() {
    let mut bed = Bed::new(84);
    bed.start().unwrap();
    let content = body(1, LARGE);
    let digest = kura_core::digest::Digest::of(&content);
    let address = Address::new("team", Space::Cas, digest.to_string()).unwrap();
    let first = bed.put(address.clone(), content.clone()).unwrap();
    let again = bed.put(address.clone(), content.clone()).unwrap();
    assert_eq!((first.sequence, objects(&bed)), (again.sequence, 1));
    assert_eq!(bed.get(&address).unwrap(), Some(content));
}

#[test]
fn small_segments_make_small_bodies_large_and_they_are_stored_all_the_same() {
    let mut bed = Bed::new(85);
    bed.config.memory_body_bytes_max = 256 << 10;
    bed.start().unwrap();
    for len in (1_000..120_000).step_by(7_001) {
        for space in [Space::Plain, Space::Ac] {
            let address = Address::new("team", space, format!("{len:064x}")).unwrap();
            let content = body(len as u64, len);
            bed.put(address.clone(), content.clone()).unwrap();
            assert_eq!(bed.get(&address).unwrap(), Some(content), "{space:?} {len}");
        }
    }
}

/// The ring that a start saves finds no room.
fn ring_finds_no_room_at_the_start() -> Plan {
    let when = When::EffectMatching { label: "append RING.new".to_owned(), nth: 1 };
    let what = What::DiskError { kind: DiskFault::NoSpace };
    let fault = Fault { id: FaultId(0), node: "node-1".to_owned(), when, what, times: 1 };
    Plan { faults: vec![fault] }
}

#[test]
fn a_start_on_a_full_disk_goes_on_in_the_newest_segment() {
    let mut bed = Bed::new(89);
    bed.start().unwrap();
    bed.put(plain("first"), body(1, 9_000)).unwrap();
    bed.close();
    let before = bed.segments();
    bed.plan = ring_finds_no_room_at_the_start();
    bed.start().unwrap();
    bed.put(plain("second"), body(2, 9_000)).unwrap();
    assert_eq!(bed.segments(), before, "no segment was opened for what has room in the newest");
    bed.crash(Crash::Sigkill);
    bed.plan = Plan::default();
    bed.start().unwrap();
    bed.put(plain("third"), body(3, 9_000)).unwrap();
    for (key, n) in [("first", 1), ("second", 2), ("third", 3)] {
        assert_eq!(bed.get(&plain(key)).unwrap(), Some(body(n, 9_000)), "{key}");
    }
}

#[test]
fn a_start_on_a_full_disk_gives_no_number_out_that_the_next_one_gives_out_again() {
    let mut bed = Bed::new(86);
    bed.start().unwrap();
    bed.put(plain("first"), body(1, LARGE)).unwrap();
    bed.close();
    bed.plan = ring_finds_no_room_at_the_start();
    bed.start().unwrap();
    bed.put(plain("second"), body(2, LARGE)).unwrap();
    bed.crash(Crash::Sigkill);
    bed.plan = Plan::default();
    bed.start().unwrap();
    bed.put(plain("third"), body(3, LARGE)).unwrap();
    for (key, n) in [("first", 1), ("second", 2), ("third", 3)] {
        assert_eq!(bed.get(&plain(key)).unwrap(), Some(body(n, LARGE)), "{key}");
    }
}

#[test]
fn they_are_promised_where_it_is_lost_what_was() {
    let mut bed = Bed::new(87);
    bed.config.promise = std::time::Duration::from_secs(20);
    bed.start().unwrap();
    let store = bed.store();
    bed.put(plain("large"), body(1, LARGE)).unwrap();
    let held = bed.run(async move { store.vouch(&[plain("large")]).await }).unwrap();
    assert_eq!(held, [true]);
    bed.close();
    let disk = bed.disk.attach();
    bed.run(async move { disk.unlink(&kura_env::DiskPath::new("RING")).await.unwrap() });
    bed.start().unwrap();
    // More than the pool takes.
    for n in 0..20 {
        bed.put(plain(&format!("other-{n}")), body(n, LARGE)).ok();
    }
    assert_eq!(bed.get(&plain("large")).unwrap(), Some(body(1, LARGE)));
    assert!(bed.metrics().store.evicted_objects.get() > 5, "others had to go");
}

#[test]
fn fresh_ones_stay_for_their_grace_whatever_restarts_in_between() {
    let mut bed = Bed::new(88);
    bed.config.write_grace = std::time::Duration::from_secs(20);
    bed.start().unwrap();
    bed.put(plain("large"), body(1, LARGE)).unwrap();
    bed.wait(5);
    for crashes in [false, true] {
        if crashes {
            bed.crash(Crash::Sigkill);
            bed.forget_index();
        } else {
            bed.close();
        }
        bed.start().unwrap();
        // More than the pool takes: all of it is fresh.
        let stored =
            (0..20).filter(|n| bed.put(plain(&format!("other-{n}")), body(*n, LARGE)).is_ok());
        assert!(stored.count() < 20, "crashes: {crashes}");
        assert_eq!(bed.get(&plain("large")).unwrap(), Some(body(1, LARGE)), "crashes: {crashes}");
    }
    assert_eq!(bed.metrics().store.evicted_objects.get(), 0);
    bed.wait(16);
    for n in 0..20 {
        bed.put(plain(&format!("later-{n}")), body(n, LARGE)).ok();
    }
    assert_eq!(bed.get(&plain("large")).unwrap(), None, "its grace is over");
}

#[test]
fn one_whose_artifact_was_put_again_goes_at_once_and_never_comes_back() {
    let mut bed = Bed::new(89);
    bed.start().unwrap();
    bed.put(plain("key"), body(1, LARGE)).unwrap();
    bed.put(plain("key"), body(2, LARGE)).unwrap();
    assert_eq!(objects(&bed), 1);
    bed.put(plain("key"), body(3, 3_000)).unwrap();
    assert_eq!(objects(&bed), 0);
    assert_eq!(bed.metrics().store.evicted_objects.get(), 0, "nothing that anybody can miss");
    // What took its place is evicted by the ring.
    for n in 0..200 {
        bed.put(plain(&format!("other-{n}")), body(n, 20_000)).unwrap();
    }
    assert_eq!(bed.get(&plain("key")).unwrap(), None);
    bed.settle();
    bed.close();
    bed.start().unwrap();
    assert_eq!(bed.get(&plain("key")).unwrap(), None);
}
