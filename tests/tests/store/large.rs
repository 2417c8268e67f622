//! Large objects: each has a file of its own, and a number that is never given out twice.

use fault_injection::{DiskFault, Fault, FaultId, Plan, What, When};
use kura_core::{
    address::{Address, Space},
    ledger::floor_bytes,
};
use kura_env::{Batch, Catalog as _, CommitDurability};
use kura_node::store::KEYSPACES;
use sim_storage::Crash;

use crate::bed::{Bed, body, plain};

const LARGE: usize = 60_000;

fn objects(bed: &Bed) -> usize {
    bed.disk.walk().iter().filter(|file| file.path.as_str().starts_with("pool/")).count()
}

/// The file of the large object in which these bytes of its key are.
fn file_of(bed: &Bed, key: &str) -> String {
    let mut files = bed.disk.walk().into_iter().map(|file| file.path.as_str().to_owned());
    let holds = |path: &String| {
        let file = bed.disk.peek(path).unwrap();
        path.starts_with("pool/") && file.windows(key.len()).any(|bytes| bytes == key.as_bytes())
    };
    files.find(holds).unwrap()
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
fn one_that_cannot_be_synced_at_a_start_is_served_before_what_it_replaced() {
    let mut bed = Bed::new(93);
    bed.start().unwrap();
    bed.put(plain("key"), body(1, 3_000)).unwrap();
    bed.put(plain("key"), body(2, LARGE)).unwrap();
    bed.close();
    bed.forget_index();
    let when = When::EffectMatching { label: "sync_data pool/*/*.blob".to_owned(), nth: 1 };
    let what = What::DiskError { kind: DiskFault::Io };
    let fault = Fault { id: FaultId(0), node: "node-1".to_owned(), when, what, times: 1 };
    bed.plan = Plan { faults: vec![fault] };
    for _ in 0..2 {
        bed.start().unwrap();
        assert_eq!(bed.get(&plain("key")).unwrap(), Some(body(2, LARGE)));
        bed.close();
    }
}

#[test]
fn one_that_cannot_be_read_now_stays_for_the_next_start() {
    let mut bed = Bed::new(82);
    bed.start().unwrap();
    bed.put(plain("large"), body(1, LARGE)).unwrap();
    bed.close();
    let path = file_of(&bed, "large");
    // At its header and in its body, which is not looked at where the index knows it.
    for (round, (at, forgets)) in (2..).zip([(0, false), (0, true), (300_000, true)]) {
        if forgets {
            bed.forget_index();
        }
        bed.sickness.strike(&path, at..at + 1);
        bed.start().unwrap();
        assert_eq!(bed.get(&plain("large")).unwrap(), None, "round {round}");
        let other = plain(&format!("other-{round}"));
        bed.put(other.clone(), body(round, LARGE)).unwrap();
        bed.settle();
        assert_eq!(bed.store().ring_status()["pool"]["objects"], round, "round {round}");
        bed.close();
        bed.sickness.pass();
        bed.start().unwrap();
        assert_eq!(bed.get(&plain("large")).unwrap(), Some(body(1, LARGE)), "round {round}");
        assert_eq!(bed.get(&other).unwrap(), Some(body(round, LARGE)), "round {round}");
        assert_eq!(objects(&bed) as u64, round);
        bed.close();
    }
}

/// A bed with four large objects, whose index is lost and whose device fails at `at` of the third, and the
/// file of that. There is room for one more.
fn one_of_four_cannot_be_read(mut bed: Bed, at: u64) -> (Bed, String) {
    bed.start().unwrap();
    for n in 0..4 {
        bed.put(plain(&format!("large-{n}")), body(n, LARGE)).unwrap();
    }
    bed.close();
    let path = file_of(&bed, "large-2");
    bed.forget_index();
    bed.sickness.strike(&path, at..at + 1);
    (bed, path)
}

/// Which of so many large objects are here, each as it was written.
fn here(bed: &Bed, objects: u64) -> Vec<u64> {
    let is_here = |n: &u64| {
        let found = bed.get(&plain(&format!("large-{n}"))).unwrap();
        assert!(found.as_ref().is_none_or(|found| *found == body(*n, LARGE)), "large-{n}");
        found.is_some()
    };
    (0..objects).filter(is_here).collect()
}

#[test]
fn one_that_cannot_be_read_goes_before_any_that_can_where_the_pool_needs_room() {
    // At its header and in its body; and where RING is lost as well, so that all that can be read is promised.
    for (at, loses_ring) in [(0, false), (300_000, false), (300_000, true)] {
        let mut bed = Bed::new(90);
        bed.config.promise = std::time::Duration::from_secs(20);
        let (mut bed, path) = one_of_four_cannot_be_read(bed, at);
        if loses_ring {
            bed.disk.rot("RING", 20, 1).unwrap();
        }
        bed.start().unwrap();
        let mut put = 4;
        while bed.metrics().store.evicted_objects.get() == 0 {
            assert!(bed.disk.peek(&path).is_some(), "{at}: {put} objects have room");
            bed.put(plain(&format!("large-{put}")), body(put, LARGE)).unwrap();
            put += 1;
        }
        assert!(bed.disk.peek(&path).is_none(), "{at}, RING lost: {loses_ring}");
        let others: Vec<u64> = (0..put).filter(|n| *n != 2).collect();
        assert_eq!(here(&bed, put), others, "{at}, RING lost: {loses_ring}");
        bed.settle();
        bed.close();
        bed.sickness.pass();
        bed.start().unwrap();
        assert_eq!(here(&bed, put), others, "{at}, RING lost: {loses_ring}");
        while bed.metrics().store.evicted_objects.get() == 0 {
            bed.put(plain(&format!("large-{put}")), body(put, LARGE)).unwrap();
            put += 1;
        }
        let others: Vec<u64> = (1..put).filter(|n| *n != 2).collect();
        assert_eq!(here(&bed, put), others, "the eldest that can be read is the next");
    }
}

#[test]
fn one_that_cannot_be_read_goes_before_all_else_where_the_disk_is_short() {
    // Below the floor, while nobody writes; and too little above it for what is written.
    for (above_bytes, writes) in [(-10_000, false), (550_000, true)] {
        let mut bed = Bed::new(91);
        bed.start().unwrap();
        for n in 0..40 {
            bed.put(plain(&format!("small-{n}")), body(n, 20_000)).unwrap();
        }
        bed.close();
        let segments = bed.segments();
        let (mut bed, path) = one_of_four_cannot_be_read(bed, 0);
        bed.start().unwrap();
        let space = bed.disk.space();
        let spare_bytes = space.available_bytes - floor_bytes(space.total_bytes);
        bed.disk.set_foreign_bytes(spare_bytes.checked_add_signed(-above_bytes).unwrap());
        if writes {
            bed.put(plain("large-4"), body(4, LARGE)).unwrap();
        }
        bed.wait(3);
        assert!(bed.disk.peek(&path).is_none(), "writes: {writes}");
        assert_eq!(bed.metrics().store.evicted_for_space.get(), 1, "writes: {writes}");
        assert!(segments.iter().all(|it| bed.segments().contains(it)), "writes: {writes}");
        let others: Vec<u64> = if writes { vec![0, 1, 3, 4] } else { vec![0, 1, 3] };
        assert_eq!(here(&bed, 5), others, "writes: {writes}");
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
