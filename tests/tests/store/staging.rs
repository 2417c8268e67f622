//! Bodies in flight: what they may hold, and that they give it back.

use std::time::Duration;

use futures_util::future::join;
use kura_core::record::POOL_BODY_OFFSET;
use kura_env::{DiskErrorKind, EffectKind, timeout};
use kura_node::service::Refusal;
use sim_storage::{Effect, EffectVerdict};

use crate::bed::{Bed, body, plain};

#[test]
fn a_file_that_cannot_be_removed_keeps_its_room_only_until_it_can() {
    let mut bed = Bed::new(31);
    bed.config.staging_bytes_max = 30_000;
    bed.start().unwrap();
    let mut failures = 2;
    bed.disk.set_effect_hook(Box::new(move |effect: &Effect| {
        let path = effect.change.path.as_str();
        // The node tries the disk by a block of its own, which is not what is looked at here.
        let is_staging = path.starts_with("tmp/") && path != "tmp/probe.part";
        if is_staging && effect.change.kind == EffectKind::Unlink && failures > 0 {
            failures -= 1;
            return EffectVerdict::Fail(DiskErrorKind::Io);
        }
        EffectVerdict::Go
    }));
    let store = bed.store();
    bed.run(async move { drop(store.begin(plain("first"), Some(20_000)).await.unwrap()) });
    bed.world.run_to(bed.now() + Duration::from_secs(1));
    let refusal = bed.put(plain("second"), body(2, 20_000)).unwrap_err();
    assert!(matches!(refusal, Refusal::StagingFull { in_use_bytes: 20_000, .. }), "{refusal}");
    bed.settle();
    bed.put(plain("second"), body(2, 20_000)).unwrap();
    bed.settle();
    assert_eq!(bed.metrics().store.staging_stuck.get(), 2);
    assert_eq!((bed.staged_bytes(), bed.metrics().store.staging_bytes.get()), (0, 0));
}

#[test]
fn a_file_that_cannot_be_made_leaves_no_trace_in_the_gauge() {
    let mut bed = Bed::new(32);
    bed.start().unwrap();
    bed.disk.set_effect_hook(Box::new(|effect: &Effect| {
        if effect.change.kind == EffectKind::Create {
            return EffectVerdict::Fail(DiskErrorKind::Io);
        }
        EffectVerdict::Go
    }));
    let refusal = bed.put(plain("key"), body(1, 20_000)).unwrap_err();
    assert!(matches!(refusal, Refusal::Disk(_)), "{refusal}");
    assert_eq!(bed.metrics().store.staging_bytes.get(), 0);
}

#[test]
fn clients_wait_a_moment_for_room_in_order_of_arrival_and_are_then_refused() {
    let mut bed = Bed::new(35);
    bed.config.staging_bytes_max = 30_000;
    bed.start().unwrap();
    let store = bed.store();
    let first = bed.run(async move { store.begin(plain("first"), Some(20_000)).await.unwrap() });
    let asked_at = bed.now();
    let (one, other) = (bed.store(), bed.store());
    let turns = bed.run(async move {
        // Two wait behind the first. The small one would fit beside it, but came later.
        let large = one.begin(plain("large"), Some(25_000));
        let small = other.begin(plain("small"), Some(9_000));
        let (large, small) = join(large, small).await;
        (large.err(), small.is_ok())
    });
    let (Some(Refusal::StagingFull { wanted_bytes: 25_000, .. }), true) = turns else {
        panic!("{turns:?}")
    };
    let waited = bed.now() - asked_at;
    assert!(waited >= Duration::from_secs(2) && waited < Duration::from_secs(5), "{waited:?}");
    let metrics = bed.metrics();
    assert_eq!(metrics.store.staging_waits_timed_out.get(), 1);
    assert_eq!(metrics.store.staging_refused.get(), 1);
    assert_eq!(metrics.store.staging_waited.get(), 1);
    bed.settle();
    let files = bed.disk.walk();
    let staged = files.iter().filter(|file| file.path.as_str().starts_with("tmp/"));
    assert_eq!(staged.count(), 1, "nothing is made for who waits");

    let store = bed.store();
    let second = bed.run(async move {
        let waiting = store.begin(plain("second"), Some(25_000));
        let (second, ()) = join(waiting, async move { drop(first) }).await;
        second.unwrap()
    });
    assert_eq!(metrics.store.staging_waited.get(), 2);
    drop(second);
    bed.settle();
    let status = bed.store().staging_status();
    assert_eq!((&status["in_use_bytes"], &status["clients_waiting"]), (&0.into(), &0.into()));
    assert_eq!(metrics.store.staging_bytes.get(), 0);
}

#[test]
fn who_stops_waiting_leaves_the_queue_and_a_body_that_has_begun_does_not_wait() {
    let mut bed = Bed::new(36);
    bed.config.staging_bytes_max = 30_000;
    bed.start().unwrap();
    let store = bed.store();
    let first = bed.run(async move { store.begin(plain("first"), Some(28_000)).await.unwrap() });
    let (store, clock) = (bed.store(), bed.env().0.clock);
    let asked_at = bed.now();
    bed.run(async move {
        let waiting = store.begin(plain("second"), Some(20_000));
        timeout(&*clock, Duration::from_millis(10), waiting).await.err().unwrap();
        assert_eq!(store.staging_status()["clients_waiting"], 0);
        let mut chunked = store.begin(plain("chunked"), None).await.unwrap();
        let refusal = chunked.write(body(1, 20_000)).await.unwrap_err();
        assert!(matches!(refusal, Refusal::StagingFull { .. }), "{refusal}");
    });
    assert!(bed.now() - asked_at < Duration::from_secs(1));
    drop(first);
    bed.settle();
    assert_eq!((bed.staged_bytes(), bed.metrics().store.staging_bytes.get()), (0, 0));
}

#[test]
fn an_upload_without_memory_gathers_little_before_it_writes() {
    for (memory_bytes_max, gathers) in [(8 << 10, 64 << 10), (4 << 20, 1 << 20)] {
        let mut bed = Bed::new(33);
        bed.config.segment_bytes = 4 << 20;
        bed.config.capacity_bytes = Some(40 << 20);
        bed.config.staging_bytes_max = 8 << 20;
        bed.config.memory_bytes_max = memory_bytes_max;
        bed.start().unwrap();
        let (store, whole) = (bed.store(), body(1, 2_000_000));
        let sent = whole.clone();
        let upload = bed.run(async move {
            let mut upload = store.begin(plain("key"), Some(2_000_000)).await.unwrap();
            for at in (0..1_900_000).step_by(1000) {
                upload.write(sent.slice(at..at + 1000)).await.unwrap();
            }
            upload
        });
        // A large body lies behind room for its header.
        let in_memory = 1_900_000 + POOL_BODY_OFFSET - bed.staged_bytes();
        assert!(in_memory < gathers, "{in_memory} bytes with {memory_bytes_max} of memory");
        let rest = whole.slice(1_900_000..);
        bed.run(async move {
            let mut upload = upload;
            upload.write(rest).await.unwrap();
            upload.publish().await.unwrap();
        });
        assert_eq!(bed.get(&plain("key")).unwrap(), Some(whole));
    }
}

#[test]
fn a_body_that_the_store_refused_at_the_end_counts_as_abandoned() {
    let mut bed = Bed::new(34);
    bed.start().unwrap();
    bed.disk.set_effect_hook(Box::new(|effect: &Effect| {
        if effect.change.kind == EffectKind::SyncData {
            return EffectVerdict::Fail(DiskErrorKind::Io);
        }
        EffectVerdict::Go
    }));
    bed.put(plain("key"), body(1, 100)).unwrap_err();
    assert_eq!(bed.metrics().store.uploads_abandoned.get(), 1);
}
