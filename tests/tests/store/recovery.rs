//! What a start makes of what it finds.

use fault_injection::{DiskFault, Fault, FaultId, Plan, What, When};
use kura_core::{
    feed::{Cursor, Follow},
    record::RECORD_MAGIC,
};
use kura_env::{DiskErrorKind, EffectKind};
use kura_node::config::Durability;
use sim_storage::{Crash, Effect, EffectVerdict};

use crate::{
    bed::{Bed, body, plain},
    stories::POWER_LOSS,
};

/// One read of this class fails.
fn io_errors(label: &str, nth: u64) -> Plan {
    let when = When::EffectMatching { label: label.to_owned(), nth };
    let what = What::DiskError { kind: DiskFault::Io };
    Plan { faults: vec![Fault { id: FaultId(0), node: "node-1".to_owned(), when, what, times: 1 }] }
}

#[test]
fn appends_go_on_behind_a_torn_tail() {
    // What a torn write leaves: a body, or a header, that is not what was written.
    for (seed, from_end, torn_tails, damaged) in [(11, 10, 0, 1), (12, 3_050, 1, 0)] {
        let mut bed = Bed::new(seed);
        bed.start().unwrap();
        bed.put(plain("before"), body(1, 3_000)).unwrap();
        let segment = bed.segments()[0];
        let path = format!("blobs/{}", segment.file_name());
        bed.die_at_sync(plain("torn"), body(2, 3_000));
        let len = bed.disk.peek(&path).unwrap().len() as u64;
        bed.disk.rot(&path, len - from_end, 0xff).unwrap();
        bed.start().unwrap();
        assert_eq!(bed.metrics().store.recovered_torn_tails.get(), torn_tails);
        assert_eq!(bed.metrics().store.recovered_damaged.get(), damaged);
        assert_eq!(bed.get(&plain("torn")).unwrap(), None);
        bed.put(plain("after"), body(3, 3_000)).unwrap();
        assert_eq!(bed.segments(), [segment], "the same segment goes on");
        for stop in 0..2 {
            bed.crash(POWER_LOSS);
            bed.start().unwrap();
            assert_eq!(bed.get(&plain("before")).unwrap(), Some(body(1, 3_000)), "stop {stop}");
            assert_eq!(bed.get(&plain("after")).unwrap(), Some(body(3, 3_000)), "stop {stop}");
        }
    }
}

#[test]
fn one_rotten_body_costs_one_artifact_when_the_index_is_made_again() {
    let mut bed = Bed::new(33);
    bed.start().unwrap();
    for n in 0..5 {
        bed.put(plain(&format!("key-{n}")), body(n, 3_000)).unwrap();
    }
    bed.close();
    let path = format!("blobs/{}", bed.segments()[0].file_name());
    bed.disk.rot(&path, 2 * 3_000, 0xff).unwrap();
    bed.forget_index();
    bed.start().unwrap();
    assert_eq!(bed.metrics().store.recovered_records.get(), 4);
    assert_eq!(bed.metrics().store.recovered_damaged.get(), 1);
    bed.put(plain("after"), body(9, 3_000)).unwrap();
    for stop in 0..2 {
        for n in [0, 2, 3, 4] {
            let found = bed.get(&plain(&format!("key-{n}"))).unwrap();
            assert_eq!(found, Some(body(n, 3_000)), "{n}, stop {stop}");
        }
        assert_eq!(bed.get(&plain("key-1")).unwrap(), None);
        assert_eq!(bed.get(&plain("after")).unwrap(), Some(body(9, 3_000)));
        bed.close();
        bed.forget_index();
        bed.start().unwrap();
    }
}

#[test]
fn a_place_that_the_device_cannot_read_keeps_no_node_from_starting() {
    // RING; what is read ahead of the segment, once; its header. How many are here then, and how many
    // once the device can read it again.
    for (label, nth, now, then) in
        [("read RING", 1, 5, 5), ("read blobs/*.seg", 2, 5, 5), ("read blobs/*.seg", 1, 0, 5)]
    {
        let mut bed = Bed::new(34);
        bed.start().unwrap();
        let here = |bed: &Bed| {
            let read = |n| (n, bed.get(&plain(&format!("key-{n}"))).unwrap());
            let found = (0..5).map(read).filter(|(n, read)| *read == Some(body(*n, 3_000)));
            found.count()
        };
        for n in 0..5 {
            bed.put(plain(&format!("key-{n}")), body(n, 3_000)).unwrap();
        }
        bed.close();
        bed.forget_index();
        bed.plan = io_errors(label, nth);
        bed.start().unwrap();
        assert_eq!(bed.metrics().store.recovered_read_errors.get(), 1, "{label} {nth}");
        bed.put(plain("after"), body(9, 3_000)).unwrap();
        assert_eq!(here(&bed), now, "{label} {nth}");
        bed.close();
        bed.plan = Plan::default();
        bed.start().unwrap();
        assert_eq!(here(&bed), then, "{label} {nth}");
        assert_eq!(bed.get(&plain("after")).unwrap(), Some(body(9, 3_000)));
    }
}

#[test]
fn what_a_killed_process_left_unsynced_is_synced_before_the_index_vouches_for_it() {
    let mut bed = Bed::new(31);
    bed.start().unwrap();
    bed.put(plain("key"), body(1, 3_000)).unwrap();
    bed.die_at_sync(plain("key"), body(2, 3_000));
    bed.start().unwrap();
    assert_eq!(bed.metrics().store.recovered_records.get(), 1);
    assert_eq!(bed.get(&plain("key")).unwrap(), Some(body(2, 3_000)));
    // The index reaches the disk by itself, and then power fails.
    bed.keep_index();
    bed.crash(POWER_LOSS);
    bed.start().unwrap();
    assert_eq!(bed.get(&plain("key")).unwrap(), Some(body(2, 3_000)));
    bed.put(plain("after"), body(3, 3_000)).unwrap();
    assert_eq!(bed.get(&plain("after")).unwrap(), Some(body(3, 3_000)));
}

#[test]
fn a_file_shorter_than_the_index_knows_is_read_again_and_takes_no_more() {
    let mut bed = Bed::new(32);
    bed.config.durability = Durability::ProcessCrash;
    bed.start().unwrap();
    bed.put(plain("early"), body(1, 3_000)).unwrap();
    bed.close();
    bed.config.durability = Durability::PowerLoss;
    bed.start().unwrap();
    bed.put(plain("key"), body(2, 3_000)).unwrap();
    bed.close();
    bed.config.durability = Durability::ProcessCrash;
    bed.start().unwrap();
    bed.put(plain("key"), body(3, 3_000)).unwrap();
    bed.keep_index();
    bed.crash(POWER_LOSS);
    bed.config.durability = Durability::PowerLoss;
    bed.start().unwrap();
    // The version that was synced is back, and what comes next lies where the index says.
    assert_eq!(bed.get(&plain("key")).unwrap(), Some(body(2, 3_000)));
    bed.put(plain("after"), body(4, 3_000)).unwrap();
    assert_eq!(bed.segments().len(), 2);
    for stop in [Crash::Sigkill, POWER_LOSS] {
        bed.crash(stop);
        bed.start().unwrap();
        for (key, seed) in [("early", 1), ("key", 2), ("after", 4)] {
            assert_eq!(bed.get(&plain(key)).unwrap(), Some(body(seed, 3_000)), "{key} {stop:?}");
        }
    }
}

#[test]
fn what_comes_in_late_sends_followers_back_to_compare() {
    let mut bed = Bed::new(42);
    bed.start().unwrap();
    bed.put(plain("before"), body(1, 3_000)).unwrap();
    let mut failures = 1;
    bed.disk.set_effect_hook(Box::new(move |effect: &Effect| {
        let fails = effect.change.kind == EffectKind::SyncData && failures > 0;
        failures -= i32::from(fails);
        if fails { EffectVerdict::Fail(DiskErrorKind::Io) } else { EffectVerdict::Go }
    }));
    bed.put(plain("refused"), body(2, 3_000)).unwrap_err();
    bed.settle();
    bed.put(plain("after"), body(3, 3_000)).unwrap();
    let extent = bed.store().extent();
    let cursor = Cursor { incarnation: extent.incarnation, sequence: extent.head };
    assert_eq!(extent.follow(cursor), Follow::Wait);
    // Two lives, because a follower may not have come by in the first.
    for life in 0..2 {
        bed.crash(Crash::Sigkill);
        bed.start().unwrap();
        assert_eq!(bed.get(&plain("refused")).unwrap(), Some(body(2, 3_000)));
        assert_eq!(bed.store().extent().follow(cursor), Follow::Gone, "{life}");
    }
    let extent = bed.store().extent();
    let cursor = Cursor { incarnation: extent.incarnation, sequence: extent.head };
    bed.put(plain("later"), body(4, 3_000)).unwrap();
    let rows = Follow::Rows { from: cursor.sequence };
    assert_eq!(bed.store().extent().follow(cursor), rows);
    bed.crash(Crash::Sigkill);
    bed.start().unwrap();
    assert_eq!(bed.store().extent().follow(cursor), rows, "nothing came in late");
}

/// Where the record that holds these bytes of its key begins.
fn record_of(bed: &Bed, path: &str, key: &str) -> u64 {
    let file = bed.disk.peek(path).unwrap();
    let named = file.windows(key.len()).position(|bytes| bytes == key.as_bytes()).unwrap();
    file[..named].windows(4).rposition(|bytes| bytes == RECORD_MAGIC).unwrap() as u64
}

#[test]
fn one_rotten_header_costs_one_artifact_when_the_index_is_made_again() {
    // The magic, the length of the header, that of the body, and the checksum of a chunk.
    for at in [0, 8, 17, 100] {
        let mut bed = Bed::new(34);
        bed.start().unwrap();
        for n in 0..5 {
            bed.put(plain(&format!("key-{n}")), body(n, 3_000)).unwrap();
        }
        bed.close();
        let path = format!("blobs/{}", bed.segments()[0].file_name());
        bed.disk.rot(&path, record_of(&bed, &path, "key-2") + at, 0xff).unwrap();
        bed.forget_index();
        for start in 0..2 {
            bed.start().unwrap();
            for n in [0, 1, 3, 4] {
                let found = bed.get(&plain(&format!("key-{n}"))).unwrap();
                assert_eq!(found, Some(body(n, 3_000)), "byte {at}, start {start}, key-{n}");
            }
            assert_eq!(bed.get(&plain("key-2")).unwrap(), None, "byte {at}");
            let store = &bed.metrics().store;
            let counted = (store.recovered_records.get(), store.recovered_gaps.get());
            assert_eq!(counted, if start == 0 { (4, 1) } else { (0, 0) }, "byte {at}");
            bed.put(plain("later"), body(9, 3_000)).unwrap();
            bed.close();
        }
    }
}

#[test]
fn a_header_that_cannot_be_read_costs_its_artifact_and_is_tried_again() {
    let mut bed = Bed::new(35);
    bed.start().unwrap();
    for n in 0..12 {
        bed.put(plain(&format!("key-{n}")), body(n, 20_000)).unwrap();
    }
    bed.close();
    bed.forget_index();
    let path = format!("blobs/{}", bed.segments()[0].file_name());
    let header = record_of(&bed, &path, "key-2");
    bed.sickness.strike(&path, header..header + 1);
    bed.start().unwrap();
    // Ahead, for the header and what follows it, and for the header alone.
    assert_eq!(bed.metrics().store.recovered_read_errors.get(), 3);
    for n in 0..12 {
        let found = bed.get(&plain(&format!("key-{n}"))).unwrap();
        assert_eq!(found.is_some(), n != 2, "key-{n}");
    }
    bed.close();
    bed.sickness.pass();
    bed.start().unwrap();
    for n in 0..12 {
        let found = bed.get(&plain(&format!("key-{n}"))).unwrap();
        assert_eq!(found, Some(body(n, 20_000)), "key-{n}");
    }
}

#[test]
fn a_body_that_cannot_be_read_costs_its_artifact_and_is_tried_again() {
    // Into the ring, and into the pool.
    for len in [20_000, 80_000] {
        let mut bed = Bed::new(41);
        bed.start().unwrap();
        let present = |bed: &Bed| {
            let is_here = |n: &u64| {
                let found = bed.get(&plain(&format!("key-{n}"))).unwrap();
                assert!(found.as_ref().is_none_or(|found| *found == body(*n, len)), "key-{n}");
                found.is_some()
            };
            (0..5).filter(is_here).collect::<Vec<_>>()
        };
        for n in 0..5 {
            bed.put(plain(&format!("key-{n}")), body(n, len)).unwrap();
        }
        bed.close();
        bed.forget_index();
        let files = bed.disk.walk();
        let mut paths = files.iter().map(|file| file.path.as_str().to_owned());
        let holds = |path: &String| {
            let file = bed.disk.peek(path).unwrap();
            !path.contains("catalog") && file.windows(5).any(|bytes| bytes == b"key-2")
        };
        let path = paths.find(holds).unwrap();
        let inside = record_of(&bed, &path, "key-2") + len as u64 / 2;
        bed.sickness.strike(&path, inside..inside + 1);
        for start in 0..2 {
            bed.start().unwrap();
            assert!(bed.metrics().store.recovered_read_errors.get() > 0, "{path}, start {start}");
            assert_eq!(present(&bed), [0, 1, 3, 4], "{path}, start {start}");
            bed.put(plain("after"), body(9, 3_000)).unwrap();
            bed.close();
        }
        bed.sickness.pass();
        bed.start().unwrap();
        assert_eq!(present(&bed), [0, 1, 2, 3, 4], "{path}");
        assert_eq!(bed.get(&plain("after")).unwrap(), Some(body(9, 3_000)));
        bed.close();
    }
}

#[test]
fn a_ring_that_is_lost_again_gives_no_sequence_twice() {
    let mut bed = Bed::new(42);
    let mut given = Vec::new();
    for round in 0..3 {
        bed.start().unwrap();
        assert_eq!(bed.metrics().store.recovered_rings.get(), u64::from(round > 0));
        for n in 0..2 {
            given.push(bed.put(plain(&format!("key-{n}")), body(round, 3_000)).unwrap().sequence);
        }
        assert_eq!(bed.get(&plain("key-0")).unwrap(), Some(body(round, 3_000)), "round {round}");
        bed.close();
        bed.disk.rot("RING", 20, 1).unwrap();
    }
    assert!(given.is_sorted_by(|a, b| a < b), "{given:?}");
}

#[test]
fn the_number_of_a_segment_that_is_to_go_is_not_given_out_again() {
    let mut bed = Bed::new(43);
    bed.start().unwrap();
    for n in 0..30 {
        bed.put(plain(&format!("key-{n}")), body(n, 20_000)).unwrap();
    }
    bed.close();
    let newest = *bed.segments().last().unwrap();
    bed.disk.rot("RING", 20, 1).unwrap();
    bed.disk.rot(&format!("blobs/{}", newest.file_name()), 20, 1).unwrap();
    bed.start().unwrap();
    bed.put(plain("after"), body(9, 20_000)).unwrap();
    bed.settle();
    assert_eq!(bed.get(&plain("after")).unwrap(), Some(body(9, 20_000)));
    assert!(!bed.segments().contains(&newest), "{newest}");
    assert!(bed.segments().last() > Some(&newest), "{:?}", bed.segments());
}

#[test]
fn a_body_of_beginnings_of_records_ends_no_search_in_a_record() {
    let mut bed = Bed::new(36);
    bed.start().unwrap();
    // As a header that claims to be as long as any may be.
    let mut claim = [0; 88];
    claim[..4].copy_from_slice(&RECORD_MAGIC);
    claim[8..12].copy_from_slice(&200_000_u32.to_le_bytes());
    bed.put(plain("key-0"), body(0, 3_000)).unwrap();
    bed.put(plain("spoilt"), claim.repeat(300).into()).unwrap();
    bed.put(plain("key-1"), body(1, 3_000)).unwrap();
    bed.close();
    let path = format!("blobs/{}", bed.segments()[0].file_name());
    bed.disk.rot(&path, record_of(&bed, &path, "spoilt"), 0xff).unwrap();
    bed.forget_index();
    bed.start().unwrap();
    for n in 0..2 {
        assert_eq!(bed.get(&plain(&format!("key-{n}"))).unwrap(), Some(body(n, 3_000)));
    }
    assert_eq!(bed.get(&plain("spoilt")).unwrap(), None);
}

#[test]
fn a_device_that_fails_at_every_read_is_not_asked_for_every_block() {
    let mut bed = Bed::new(37);
    bed.config.segment_bytes = 4 << 20;
    bed.config.capacity_bytes = Some(40 << 20);
    bed.start().unwrap();
    for n in 0..40 {
        bed.put(plain(&format!("key-{n}")), body(n, 60_000)).unwrap();
    }
    bed.close();
    bed.forget_index();
    // The header of the first record, and whatever is read from then on.
    let mut plan = io_errors("read blobs/*.seg", 2);
    plan.faults[0].times = 100_000;
    bed.plan = plan;
    bed.start().unwrap();
    // Three for the header, and sixteen of the search behind it, four pages after each but the last: the
    // segment has more than thirty blocks of sixteen pages.
    assert_eq!(bed.metrics().store.recovered_read_errors.get(), 3 + 16 + 15 * 4);
    bed.close();
    bed.plan = Plan::default();
    bed.start().unwrap();
    for n in 0..40 {
        assert_eq!(bed.get(&plain(&format!("key-{n}"))).unwrap(), Some(body(n, 60_000)));
    }
}

#[test]
fn what_could_not_be_read_behind_a_rotten_header_is_found_by_the_next_start() {
    let mut bed = Bed::new(38);
    bed.start().unwrap();
    for n in 0..12 {
        bed.put(plain(&format!("key-{n}")), body(n, 20_000)).unwrap();
    }
    bed.close();
    let path = format!("blobs/{}", bed.segments()[0].file_name());
    bed.disk.rot(&path, record_of(&bed, &path, "key-0"), 0xff).unwrap();
    bed.forget_index();
    // In the first block in which the next record is looked for: in the body of that.
    bed.sickness.strike(&path, 30_000..30_001);
    let here = |bed: &Bed| {
        let is_here = |n: &u64| bed.get(&plain(&format!("key-{n}"))).unwrap().is_some();
        (0..12).filter(is_here).collect::<Vec<_>>()
    };
    bed.start().unwrap();
    assert_eq!(here(&bed), (2..12).collect::<Vec<_>>());
    bed.close();
    bed.sickness.pass();
    bed.start().unwrap();
    assert_eq!(here(&bed), (1..12).collect::<Vec<_>>());
}

#[test]
fn a_segment_whose_header_cannot_be_read_is_a_miss_for_one_life_and_not_gone() {
    let mut bed = Bed::new(39);
    bed.start().unwrap();
    let key = |n: u64| plain(&format!("key-{n}"));
    let mut put = 0;
    while bed.segments().len() < 3 {
        bed.put(key(put), body(put, 20_000)).unwrap();
        put += 1;
    }
    bed.close();
    let segments = bed.segments();
    for segment in segments.clone() {
        let path = format!("blobs/{}", segment.file_name());
        bed.sickness.strike(&path, 0..1);
        bed.start().unwrap();
        assert_eq!(bed.metrics().store.recovered_unreadable.get(), 1, "{path}");
        let misses = (0..put).filter(|n| bed.get(&key(*n)).unwrap().is_none()).count();
        assert!(misses > 0, "{path}");
        bed.put(plain("meanwhile"), body(99, 20_000)).unwrap();
        bed.settle();
        bed.close();
        bed.sickness.pass();
        bed.start().unwrap();
        for n in 0..put {
            assert_eq!(bed.get(&key(n)).unwrap(), Some(body(n, 20_000)), "key-{n} after {path}");
        }
        assert_eq!(bed.get(&plain("meanwhile")).unwrap(), Some(body(99, 20_000)), "{path}");
        bed.close();
    }
    assert!(segments.iter().all(|it| bed.segments().contains(it)), "each is still in its ring");
}
