//! Effects: each change is asked for, numbered, counted by class, and may end the life.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use kura_env::{Clock, Disk, DiskErrorKind, DiskPath};
use parking_lot::Mutex;
use sim_storage::{
    Crash, CrashReport, Effect, EffectHook, EffectVerdict, Keep, SimDisk, SimDiskConfig,
};
use support::{Handle, JumpingClock};

const LOSS: Crash = Crash::PowerLoss { keep: Keep::Nothing };

fn device(seed: u64) -> (Arc<JumpingClock>, SimDisk) {
    let clock = JumpingClock::shared();
    let config = SimDiskConfig::instant(64 << 20, seed);
    let device = SimDisk::new(config, Arc::new(Handle(Arc::clone(&clock))));
    (clock, device)
}

fn at(path: &str) -> DiskPath {
    DiskPath::new(path)
}

/// Every kind of effect once; append and write in two parts each.
async fn story(disk: Arc<dyn Disk>) {
    let lock = disk.lock(&at("LOCK"), "me").await.unwrap();
    disk.mkdir(&at("blobs")).await.unwrap();
    let file = disk.create(&at("blobs/0001.seg")).await.unwrap();
    file.allocate(1 << 16).await.unwrap();
    file.append(vec![Bytes::from(vec![1; 300]), Bytes::from(vec![2; 700])]).await.unwrap();
    file.write_at(500, Bytes::from(vec![3; 1000])).await.unwrap();
    file.sync_data().await.unwrap();
    disk.sync_dir(&at("blobs")).await.unwrap();
    disk.sync_dir(&DiskPath::root()).await.unwrap();
    file.freeze().await.unwrap();
    disk.rename(&at("blobs/0001.seg"), &at("blobs/0002.seg")).await.unwrap();
    disk.unlink(&at("blobs/0002.seg")).await.unwrap();
    drop(lock);
}

/// Gives its verdict at one effect, and notes all.
struct At {
    number: u64,
    verdict: EffectVerdict,
    notes: Arc<Mutex<Vec<String>>>,
}

impl EffectHook for At {
    fn before(&mut self, effect: &Effect) -> EffectVerdict {
        self.notes.lock().push(format!("{} {}", effect.number, effect.change));
        if effect.number == self.number { self.verdict.clone() } else { EffectVerdict::Go }
    }

    fn after(&mut self, effect: &Effect, outcome: &Result<(), DiskErrorKind>) {
        self.notes.lock().push(format!("{} {outcome:?}", effect.number));
    }
}

fn hook(device: &SimDisk, number: u64, verdict: EffectVerdict) -> Arc<Mutex<Vec<String>>> {
    let notes = Arc::new(Mutex::new(Vec::new()));
    device.set_effect_hook(Box::new(At { number, verdict, notes: Arc::clone(&notes) }));
    notes
}

#[test]
fn effects_are_numbered_named_and_told_after() {
    let (clock, device) = device(0);
    let notes = hook(&device, 0, EffectVerdict::Go);
    clock.block_on(story(device.attach()));
    let before: Vec<String> =
        notes.lock().iter().filter(|note| !note.ends_with("Ok(())")).cloned().collect();
    let expected = [
        "1 lock LOCK",
        "2 mkdir blobs",
        "3 create blobs/0001.seg",
        "4 allocate blobs/0001.seg 65536",
        "5 append blobs/0001.seg 0+1000",
        "6 write_at blobs/0001.seg 500+1000",
        "7 sync_data blobs/0001.seg",
        "8 sync_dir blobs",
        "9 sync_dir .",
        "10 freeze blobs/0001.seg",
        "11 rename blobs/0001.seg -> blobs/0002.seg",
        "12 unlink blobs/0002.seg",
    ];
    assert_eq!(before, expected);
    assert_eq!(notes.lock().len(), 2 * expected.len(), "each is told after as well");
    assert_eq!(device.effect_count(), 12);
    let classes = device.effect_classes();
    assert_eq!(classes["append blobs/*.seg"], 1);
    assert_eq!(classes["rename blobs/*.seg -> blobs/*.seg"], 1);
    assert_eq!(classes.values().sum::<u64>(), 12);
}

#[test]
fn a_life_may_end_on_either_side_of_every_effect() {
    let seen = |verdict: EffectVerdict, number: u64| {
        let (clock, device) = device(3);
        hook(&device, number, verdict);
        let reports: Arc<Mutex<Vec<CrashReport>>> = Arc::default();
        let told = Arc::clone(&reports);
        device.set_on_crash(Box::new(move |report| told.lock().push(report.clone())));
        let end = clock.run(story(device.attach()));
        assert!(end.is_none(), "effect {number}: the life goes on");
        let reports = reports.lock();
        assert_eq!(reports.len(), 1, "effect {number}: the owner is told once");
        assert_eq!(reports[0].effect.number, number);
        assert_eq!(device.effect_count(), number, "nothing happens after the end");
        (device.walk(), device.used_bytes(), device.peek("blobs/0001.seg"))
    };
    for number in 1..=12 {
        let before = seen(EffectVerdict::CrashBefore(Crash::Sigkill), number);
        let after = seen(EffectVerdict::CrashAfter(Crash::Sigkill), number);
        let within = seen(EffectVerdict::CrashWithin(Crash::Sigkill), number);
        let syncs = 7..=9;
        // The write of 6 changes bytes and not the walk; all but syncs can be seen.
        assert_eq!(before == after, syncs.contains(&number), "effect {number}");
        if ![5, 6].contains(&number) {
            assert!(within == before || within == after, "effect {number}: all or nothing");
        }
        // Only syncs make a difference to who loses power (that of the directory alone is not
        // enough while the directory has no durable name), and space that is given back.
        let before = seen(EffectVerdict::CrashBefore(LOSS), number);
        let after = seen(EffectVerdict::CrashAfter(LOSS), number);
        assert_eq!(before == after, ![9, 10].contains(&number), "effect {number}: power loss");
    }
}

#[test]
fn a_write_may_end_in_its_middle() {
    let mut lens = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let (clock, device) = device(seed);
        hook(&device, 5, EffectVerdict::CrashWithin(Crash::Sigkill));
        assert!(clock.run(story(device.attach())).is_none());
        let left = device.peek("blobs/0001.seg").unwrap();
        let whole = [vec![1; 300], vec![2; 700]].concat();
        assert!(left.len() < 1000 && left == whole[..left.len()], "seed {seed}");
        lens.insert(left.len());
    }
    assert!(lens.len() > 20, "prefixes are drawn: {lens:?}");
}

#[test]
fn an_effect_may_fail_and_the_life_goes_on() {
    let kinds = [DiskErrorKind::Io, DiskErrorKind::NoSpace, DiskErrorKind::Quota];
    for kind in kinds {
        for within in [false, true] {
            let (clock, device) = device(1);
            let disk = device.attach();
            clock.block_on(async {
                let file = disk.create(&at("a")).await.unwrap();
                let verdict = match within {
                    false => EffectVerdict::Fail(kind.clone()),
                    true => EffectVerdict::FailWithin(kind.clone()),
                };
                hook(&device, 2, verdict);
                let failed = file.append(vec![Bytes::from(vec![1; 100_000])]).await;
                assert_eq!(failed.unwrap_err().kind, kind);
                let len = file.len().await.unwrap();
                assert!(if within { len > 0 && len < 100_000 } else { len == 0 }, "{len} bytes");
                file.append(vec![Bytes::from_static(b"more")]).await.unwrap();
                assert_eq!(file.len().await.unwrap(), len + 4);
            });
        }
    }
}

#[test]
fn a_failed_change_of_names_changes_nothing() {
    for number in [1, 2, 3] {
        let (clock, device) = device(1);
        let disk = device.attach();
        clock.block_on(async {
            hook(&device, number, EffectVerdict::Fail(DiskErrorKind::Io));
            let created = disk.create(&at("a")).await;
            assert_eq!(created.is_err(), number == 1);
            let renamed = disk.rename(&at("a"), &at("b")).await;
            assert_eq!(renamed.is_err(), number <= 2);
            let unlinked = disk.unlink(&at("b")).await;
            assert!(unlinked.is_err(), "{number}: not there, or not removed");
            let names: Vec<String> =
                device.walk().iter().map(|file| file.path.to_string()).collect();
            let expected: &[&str] = match number {
                1 => &[],
                2 => &["a"],
                _ => &["b"],
            };
            assert_eq!(names, expected);
        });
    }
}

#[test]
fn a_stall_takes_its_time() {
    let (clock, device) = device(1);
    hook(&device, 1, EffectVerdict::Stall(Duration::from_secs(3)));
    let disk = device.attach();
    clock.block_on(async { drop(disk.create(&at("a")).await.unwrap()) });
    assert_eq!(Handle(clock).now().0, 3_000_000_000);
}

#[test]
fn the_same_seed_crashes_in_the_same_way() {
    let left = |seed| {
        let (clock, device) = device(seed);
        let crash = Crash::PowerLoss { keep: Keep::Sampled };
        hook(&device, 11, EffectVerdict::CrashAfter(crash));
        let disk = device.attach();
        assert!(
            clock
                .run(async {
                    let file = disk.create(&at("other")).await.unwrap();
                    file.append(vec![Bytes::from(vec![9; 100_000])]).await.unwrap();
                    story(disk).await;
                })
                .is_none()
        );
        let walked = device.walk();
        let bytes: Vec<_> = walked.iter().map(|file| device.peek(file.path.as_str())).collect();
        (walked, bytes)
    };
    for seed in 0..10 {
        assert_eq!(left(seed), left(seed), "seed {seed}");
    }
    let different = (0..10).map(left).collect::<Vec<_>>();
    assert!(different.iter().any(|state| *state != different[0]), "seeds differ");
}
