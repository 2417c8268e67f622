//! Bodies in flight: what they may hold, and that they give it back.

use std::time::Duration;

use kura_env::{DiskErrorKind, EffectKind};
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
        let is_staging = effect.change.path.as_str().starts_with("tmp/");
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
