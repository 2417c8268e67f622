//! A volume that stalls, fills up or fails: what is said of it, what is refused, and how it ends.

use std::time::Duration;

use kura_env::{DiskErrorKind, EffectKind};
use kura_node::service::Refusal;
use sim_storage::{Effect, EffectVerdict};

use crate::bed::{Bed, body, plain};

const STALL: Duration = Duration::from_secs(40);

fn state(bed: &Bed) -> String {
    bed.store().disk_status()["state"].as_str().unwrap().to_owned()
}

/// The next sync of a segment takes as long as a stall.
fn stall_next_sync(bed: &Bed) {
    let mut is_next = true;
    bed.disk.set_effect_hook(Box::new(move |effect: &Effect| {
        let is_sync = effect.change.kind == EffectKind::SyncData;
        if is_sync && effect.change.path.as_str().starts_with("blobs/") && is_next {
            is_next = false;
            return EffectVerdict::Stall(STALL);
        }
        EffectVerdict::Go
    }));
}

#[test]
fn writers_do_not_wait_for_a_stalled_disk_and_readers_go_on() {
    let mut bed = Bed::new(401);
    bed.start().unwrap();
    bed.put(plain("before"), body(1, 1_000)).unwrap();
    stall_next_sync(&bed);
    let began = bed.now();
    let refusal = bed.put(plain("during"), body(2, 1_000)).unwrap_err();
    assert!(matches!(refusal, Refusal::DiskStalled { for_seconds: 10.. }), "{refusal}");
    let waited = bed.now().since(began);
    assert!(waited < Duration::from_secs(17), "{waited:?}");
    assert_eq!(state(&bed), "stalled");
    let began = bed.now();
    let refusal = bed.put(plain("later"), body(3, 1_000)).unwrap_err();
    assert!(matches!(refusal, Refusal::DiskStalled { .. }), "{refusal}");
    let store = bed.store();
    let vouched = bed.run(async move { store.vouch(&[plain("before")]).await });
    assert!(matches!(vouched, Err(Refusal::DiskStalled { .. })), "{vouched:?}");
    assert_eq!(bed.get(&plain("before")).unwrap(), Some(body(1, 1_000)));
    assert_eq!(bed.now().since(began), Duration::ZERO, "nobody waited");
    bed.wait(30);
    assert_eq!(state(&bed), "writable");
    assert_eq!(bed.get(&plain("during")).unwrap(), Some(body(2, 1_000)), "it was stored after all");
    bed.put(plain("after"), body(4, 1_000)).unwrap();
    assert!(bed.metrics().store.stalled_refused.get() >= 3);
}

#[test]
fn a_stall_that_nobody_waits_for_any_more_is_still_one() {
    let mut bed = Bed::new(402);
    bed.start().unwrap();
    bed.disk.set_effect_hook(Box::new(|effect: &Effect| {
        match effect.change.path.as_str().starts_with("tmp/") {
            true => EffectVerdict::Stall(STALL),
            false => EffectVerdict::Go,
        }
    }));
    // Too large for memory.
    let refusal = bed.put(plain("staged"), body(1, 100_000)).unwrap_err();
    assert!(matches!(refusal, Refusal::DiskStalled { .. }), "{refusal}");
    assert_eq!(state(&bed), "stalled");
}

#[test]
fn a_full_and_a_failing_disk_are_named_until_a_probe_shows_that_they_are_not() {
    for (error, name) in [
        (DiskErrorKind::NoSpace, "full"),
        (DiskErrorKind::ReadOnly, "read-only"),
        (DiskErrorKind::Io, "failing"),
    ] {
        let mut bed = Bed::new(403);
        bed.start().unwrap();
        let mut failures = 3;
        bed.disk.set_effect_hook(Box::new(move |effect: &Effect| {
            if effect.change.kind == EffectKind::Append && failures > 0 {
                failures -= 1;
                return EffectVerdict::Fail(error.clone());
            }
            EffectVerdict::Go
        }));
        bed.put(plain("refused"), body(1, 1_000)).unwrap_err();
        assert_eq!(state(&bed), name);
        let status = bed.store().disk_status();
        assert!(status["cause"].as_str().unwrap().starts_with("append "), "{status}");
        // Nobody writes, and it is tried all the same.
        bed.wait(60);
        assert_eq!(state(&bed), "writable", "{name}");
        let probes = bed.metrics().store.probes.get();
        assert!((1..=4).contains(&probes), "{probes} probes");
        bed.put(plain("taken"), body(2, 1_000)).unwrap();
        bed.settle();
        assert_eq!(bed.staged_bytes(), 0, "the probe is gone");
    }
}
