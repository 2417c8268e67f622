//! Disks that fail or are full while the store writes.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use fault_injection::{DiskFault, Fault, FaultId, Plan, What, When};
use kura_env::{DiskErrorKind, DiskPath, EffectKind};
use kura_node::service::Refusal;
use sim_storage::{Effect, EffectVerdict};

use crate::{
    bed::{Bed, body, plain, put},
    stories::POWER_LOSS,
};

#[test]
fn a_staging_file_that_cannot_be_read_fails_its_own_put_alone() {
    for (nth, len) in [(1, 20_000), (1, 5_000)] {
        let mut bed = Bed::new(51);
        let when = When::EffectMatching { label: "read tmp/*.part".to_owned(), nth };
        let what = What::DiskError { kind: DiskFault::Io };
        let fault = Fault { id: FaultId(0), node: "node-1".to_owned(), when, what, times: 1 };
        bed.plan = Plan { faults: vec![fault] };
        bed.start().unwrap();
        let store = bed.store();
        let outcomes = bed.run(async move {
            let lens = [100, len, 6_000, 200, 7_000];
            let puts = lens.iter().enumerate().map(|(n, len)| {
                put(store.clone(), plain(&format!("key-{n}")), body(n as u64, *len))
            });
            futures_util::future::join_all(puts).await
        });
        let refused: Vec<_> = outcomes.iter().filter_map(|it| it.as_ref().err()).collect();
        assert!(matches!(refused[..], [Refusal::Disk(_)]), "{refused:?}");
        assert_eq!(bed.metrics().store.sources_failed.get(), 1);
        assert_eq!(bed.metrics().store.segments_given_up.get(), 0);
        bed.put(plain("after"), body(9, 9_000)).unwrap();
        for life in 0..2 {
            for (n, outcome) in outcomes.iter().enumerate() {
                let found = bed.get(&plain(&format!("key-{n}"))).unwrap();
                assert_eq!(found.is_some(), outcome.is_ok(), "{n} in life {life}");
            }
            assert_eq!(bed.get(&plain("after")).unwrap(), Some(body(9, 9_000)));
            assert_eq!(bed.segments().len(), 1);
            bed.crash(POWER_LOSS);
            bed.forget_index();
            bed.plan = Plan::default();
            bed.start().unwrap();
        }
    }
}

/// A ring of eight segments that is full, and how many artifacts went in.
fn filled(bed: &mut Bed) -> u64 {
    let mut n = 0;
    while bed.segments().len() < 8 {
        bed.put(plain(&format!("key-{n}")), body(n, 3_000)).unwrap();
        n += 1;
    }
    n
}

#[test]
fn a_full_disk_takes_new_bodies_in_the_room_of_the_eldest() {
    let mut bed = Bed::new(52);
    bed.start().unwrap();
    let before = filled(&mut bed);
    // Nothing is left, not even for a new RING or a row of the index.
    bed.disk.set_foreign_bytes(bed.disk.space().available_bytes);
    let mut stored = 0;
    for n in 0..60 {
        match bed.put(plain(&format!("new-{n}")), body(n, 3_000)) {
            Ok(_) => stored += 1,
            Err(Refusal::DiskFull(_) | Refusal::DiskFailed { .. } | Refusal::Catalog(_)) => {
                bed.settle();
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(stored >= 50, "{stored} of 60 were stored");
    assert!(bed.metrics().store.evicted_for_space.get() > 0);
    assert!(!bed.segments().is_empty());
    let here = (0..before).filter(|n| bed.get(&plain(&format!("key-{n}"))).unwrap().is_some());
    assert!(here.count() > 0, "not all of the ring went");
    bed.disk.set_foreign_bytes(0);
    bed.settle();
    bed.crash(POWER_LOSS);
    bed.start().unwrap();
    bed.settle();
    assert_eq!(bed.get(&plain("new-59")).unwrap(), Some(body(59, 3_000)));
}

#[test]
fn where_space_cannot_be_reserved_a_full_disk_does_not_turn_the_ring_for_each_put() {
    let mut bed = Bed::new(53);
    let is_full = Arc::new(AtomicBool::new(false));
    let (asked, mut is_header) = (is_full.clone(), false);
    bed.disk.set_effect_hook(Box::new(move |effect: &Effect| {
        if effect.change.kind == EffectKind::Allocate {
            is_header = true;
            return EffectVerdict::Fail(DiskErrorKind::Unsupported);
        }
        let is_append = effect.change.kind == EffectKind::Append
            && effect.change.path.parent() == DiskPath::new("blobs");
        // What follows the header of a segment finds no room, whatever else does.
        let is_record = is_append && !std::mem::take(&mut is_header);
        let fails = is_record && asked.load(Ordering::SeqCst);
        if fails { EffectVerdict::Fail(DiskErrorKind::Quota) } else { EffectVerdict::Go }
    }));
    bed.start().unwrap();
    filled(&mut bed);
    is_full.store(true, Ordering::SeqCst);
    let rotations = bed.metrics().store.rotations.get();
    for n in 0..20 {
        let refusal = bed.put(plain(&format!("new-{n}")), body(n, 3_000)).unwrap_err();
        assert!(matches!(refusal, Refusal::DiskFull(_)), "{refusal}");
        bed.wait(1);
    }
    let turns = bed.metrics().store.rotations.get() - rotations;
    assert!(turns <= 20 / 5, "{turns} turns of the ring in 20 s");
    is_full.store(false, Ordering::SeqCst);
    bed.settle();
    bed.put(plain("after"), body(9, 3_000)).unwrap();
}

#[test]
fn a_segment_that_was_given_up_gives_back_what_was_reserved() {
    let mut bed = Bed::new(54);
    bed.start().unwrap();
    bed.put(plain("before"), body(1, 100)).unwrap();
    let used = bed.disk.used_bytes();
    let mut failures = 1;
    bed.disk.set_effect_hook(Box::new(move |effect: &Effect| {
        let fails = effect.change.kind == EffectKind::SyncData && failures > 0;
        failures -= i32::from(fails);
        if fails { EffectVerdict::Fail(DiskErrorKind::Io) } else { EffectVerdict::Go }
    }));
    bed.put(plain("failed"), body(2, 100)).unwrap_err();
    let freed = used - bed.disk.used_bytes();
    assert!(freed > 50 << 10, "{freed} bytes of 64 KiB came back");
}

#[test]
fn a_backlog_is_cleared_beside_the_writers() {
    let mut bed = Bed::new(55);
    bed.start().unwrap();
    let mut n = 0;
    let mut is_full = false;
    while !is_full {
        is_full = bed.segments().len() == 8;
        let store = bed.store();
        bed.run(async move {
            let puts = (n..n + 64).map(|n| put(store.clone(), plain(&format!("{n}")), body(n, 10)));
            for outcome in futures_util::future::join_all(puts).await {
                outcome.unwrap();
            }
        });
        n += 64;
    }
    bed.close();
    bed.config.capacity_bytes = Some((5 * bed.config.segment_bytes * 100).div_ceil(70));
    bed.start().unwrap();
    // Twice what a segment takes, in the largest records that go there.
    for n in 0..18 {
        bed.put(plain(&format!("large-{n}")), body(n, 30_000)).unwrap();
    }
    let left = bed.segments().len();
    assert!(left > 6, "{left} files: the second turn waited for one segment and not for all");
    bed.settle();
    assert_eq!(bed.segments().len(), 5);
}

#[test]
fn a_file_that_cannot_be_removed_keeps_no_other_and_no_writer() {
    let mut bed = Bed::new(56);
    let when = When::EffectMatching { label: "unlink blobs/*.seg".to_owned(), nth: 1 };
    let what = What::DiskError { kind: DiskFault::Io };
    let fault = Fault { id: FaultId(0), node: "node-1".to_owned(), when, what, times: 3 };
    bed.plan = Plan { faults: vec![fault] };
    bed.start().unwrap();
    for n in 0..200 {
        bed.put(plain(&format!("key-{n}")), body(n, 30_000)).unwrap();
    }
    assert_eq!(bed.metrics().store.eviction_errors.get(), 3);
    bed.wait(60);
    assert_eq!(bed.segments().len(), 8, "in the end it is gone");
}
