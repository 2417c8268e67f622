//! What a crash leaves of names and bytes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use kura_env::{Disk, DiskPath, File, LockOutcome};
use sim_storage::{Crash, Keep, SimDisk, SimDiskConfig};
use support::{Draws, Handle, JumpingClock};

const KEEPS: [Keep; 3] = [Keep::Nothing, Keep::Everything, Keep::Sampled];

struct World {
    clock: Arc<JumpingClock>,
    device: SimDisk,
}

fn world(seed: u64) -> World {
    world_on(SimDiskConfig::instant(64 << 20, seed))
}

fn world_on(config: SimDiskConfig) -> World {
    let clock = JumpingClock::shared();
    let device = SimDisk::new(config, Arc::new(Handle(Arc::clone(&clock))));
    World { clock, device }
}

impl World {
    fn does<T>(&self, work: impl AsyncFnOnce(Arc<dyn Disk>) -> T) -> T {
        let disk = self.device.attach();
        self.clock.block_on(work(disk))
    }

    fn lose_power(&self, keep: Keep) {
        self.device.crash(Crash::PowerLoss { keep });
    }

    fn names(&self) -> Vec<String> {
        self.device.walk().iter().map(|file| file.path.as_str().to_owned()).collect()
    }
}

fn at(path: &str) -> DiskPath {
    DiskPath::new(path)
}

async fn durable(disk: &dyn Disk, path: &str, bytes: &[u8]) -> Arc<dyn File> {
    let file = disk.create(&at(path)).await.unwrap();
    file.append(vec![Bytes::copy_from_slice(bytes)]).await.unwrap();
    file.sync_data().await.unwrap();
    disk.sync_dir(&at(path).parent()).await.unwrap();
    file
}

async fn append(file: &dyn File, bytes: &[u8]) {
    file.append(vec![Bytes::copy_from_slice(bytes)]).await.unwrap();
}

#[test]
fn what_was_synced_survives_every_crash() {
    for keep in KEEPS {
        for seed in 0..50 {
            let world = world(seed);
            world.does(async |disk| drop(durable(&*disk, "a", &[7; 10_000]).await));
            world.device.crash(Crash::Sigkill);
            world.lose_power(keep);
            world.lose_power(keep);
            assert_eq!(world.device.peek("a").unwrap(), [7; 10_000][..], "{keep:?} {seed}");
        }
    }
}

#[test]
fn what_a_lying_device_acknowledged_is_lost_with_power_and_not_before() {
    let lying =
        SimDiskConfig { lying_sync_millionths: 1_000_000, ..SimDiskConfig::instant(64 << 20, 1) };
    let world = world_on(lying);
    world.does(async |disk| drop(durable(&*disk, "a", b"acknowledged").await));
    world.device.crash(Crash::Sigkill);
    assert_eq!(world.device.peek("a").as_deref(), Some(&b"acknowledged"[..]));
    world.lose_power(Keep::Nothing);
    assert_eq!(world.names(), Vec::<String>::new());
    // Of two syncs one, drawn, keeps what it says, for all that was written until then.
    let half =
        SimDiskConfig { lying_sync_millionths: 500_000, ..SimDiskConfig::instant(64 << 20, 1) };
    let kept = (0..40).filter(|seed| {
        let world = world_on(SimDiskConfig { seed: *seed, ..half.clone() });
        world.does(async |disk| drop(durable(&*disk, "a", b"acknowledged").await));
        world.lose_power(Keep::Nothing);
        world.device.peek("a").is_some_and(|bytes| *bytes == b"acknowledged"[..])
    });
    let kept = kept.count();
    assert!((4..20).contains(&kept), "a quarter keeps both, and not {kept} of 40");
}

#[test]
fn sigkill_keeps_everything_and_power_loss_may_still_take_it() {
    let world = world(0);
    world.does(async |disk| {
        let file = disk.create(&at("a")).await.unwrap();
        append(&*file, b"written").await;
    });
    world.device.crash(Crash::Sigkill);
    assert_eq!(world.device.peek("a").unwrap(), "written");
    world.lose_power(Keep::Nothing);
    assert_eq!(world.names(), [""; 0]);
}

#[test]
fn unsynced_bytes_may_be_lost_in_every_way() {
    let (mut lens, mut holes, mut torn) = (BTreeSet::new(), 0, 0);
    for seed in 0..300 {
        let world = world(seed);
        world.does(async |disk| {
            let file = durable(&*disk, "a", &[1; 5_000]).await;
            append(&*file, &[2; 40_000]).await;
        });
        world.lose_power(Keep::Sampled);
        let left = world.device.peek("a").unwrap();
        assert!((5_000..=45_000).contains(&left.len()), "seed {seed}: {} bytes", left.len());
        assert_eq!(left[..5_000], [1; 5_000], "seed {seed}: synced bytes");
        for sector in left[5_000..].chunks(512) {
            assert!(sector.iter().all(|byte| [0, 2].contains(byte)), "seed {seed}: old or new");
        }
        let pages: Vec<&[u8]> = left.chunks(4096).skip(2).collect();
        holes += usize::from(pages.iter().any(|page| page.iter().all(|byte| *byte == 0)));
        torn += usize::from(pages.iter().any(|page| page.contains(&0) && page.contains(&2)));
        lens.insert(left.len());
    }
    assert!(lens.len() > 50, "lengths: {lens:?}");
    assert!(lens.contains(&5_000) && lens.contains(&45_000), "both ends are drawn");
    assert!(holes > 20 && torn > 20, "{holes} with holes, {torn} torn");
}

#[test]
fn overwritten_pages_come_back_old_new_or_torn_at_sectors() {
    let (mut old, mut new, mut torn) = (0, 0, 0);
    for seed in 0..200 {
        let world = world(seed);
        world.does(async |disk| {
            let file = durable(&*disk, "a", &[1; 4096]).await;
            file.write_at(0, Bytes::from(vec![2; 4096])).await.unwrap();
        });
        world.lose_power(Keep::Sampled);
        let page = world.device.peek("a").unwrap();
        assert_eq!(page.len(), 4096);
        let sectors: Vec<u8> = page.chunks(512).map(|sector| sector[0]).collect();
        assert!(page.chunks(512).all(|s| s.iter().all(|byte| *byte == s[0])), "seed {seed}");
        match (sectors.contains(&1), sectors.contains(&2)) {
            (true, false) => old += 1,
            (false, true) => new += 1,
            _ => torn += 1,
        }
        assert!(sectors.iter().all(|byte| [1, 2].contains(byte)), "seed {seed}: {sectors:?}");
    }
    assert!(old > 20 && new > 20 && torn > 10, "{old} old, {new} new, {torn} torn");
}

#[test]
fn a_sync_covers_what_was_written_before_it_began() {
    let config = SimDiskConfig {
        capacity_bytes: 64 << 20,
        sync_latency: Duration::from_millis(5),
        ..SimDiskConfig::default()
    };
    let clock = JumpingClock::shared();
    let device = SimDisk::new(config, Arc::new(Handle(Arc::clone(&clock))));
    let disk = device.attach();
    clock.block_on(async {
        let file = durable(&*disk, "a", &[1; 4096]).await;
        file.write_at(0, Bytes::from_static(&[2; 100])).await.unwrap();
        let later = async {
            file.write_at(0, Bytes::from_static(&[3; 200])).await.unwrap();
            append(&*file, &[4; 100]).await;
        };
        let (synced, ()) = futures_util::join!(file.sync_data(), later);
        synced.unwrap();
    });
    assert_eq!(device.peek("a").unwrap()[..100], [3; 100]);
    device.crash(Crash::PowerLoss { keep: Keep::Nothing });
    let left = device.peek("a").unwrap();
    assert_eq!(left.len(), 4096, "the append came after the sync had begun");
    assert_eq!(left[..100], [2; 100], "the first write was covered, the second was not");
    assert_eq!(left[100..], [1; 3996]);
}

#[test]
fn a_sync_that_was_interrupted_promises_nothing() {
    let config = SimDiskConfig { capacity_bytes: 64 << 20, ..SimDiskConfig::default() };
    let clock = JumpingClock::shared();
    let device = SimDisk::new(config, Arc::new(Handle(Arc::clone(&clock))));
    let disk = device.attach();
    let crashed = clock.run(async {
        let file = disk.create(&at("a")).await.unwrap();
        disk.sync_dir(&DiskPath::root()).await.unwrap();
        append(&*file, b"bytes").await;
        let crash = async {
            let microsecond = Duration::from_micros(1);
            kura_env::Clock::sleep(&Handle(Arc::clone(&clock)), microsecond).await;
            device.crash(Crash::PowerLoss { keep: Keep::Nothing });
        };
        futures_util::join!(file.sync_data(), crash).0
    });
    assert!(crashed.is_none(), "a call in flight never returns");
    assert_eq!(device.peek("a").unwrap(), "");
    assert!(clock.run(disk.space()).is_none(), "nor does any later call of that life");
    clock.block_on(device.attach().space()).unwrap();
}

/// From the durable files `a` and `dir/b` on, does what `story` tells, and compares the names that
/// are left with nothing and with everything of what was not synced.
fn names_left(story: impl AsyncFn(Arc<dyn Disk>), with_nothing: &[&str], with_everything: &[&str]) {
    for (keep, expected) in [(Keep::Nothing, with_nothing), (Keep::Everything, with_everything)] {
        let world = world(1);
        world.does(async |disk| {
            disk.mkdir(&at("dir")).await.unwrap();
            drop(durable(&*disk, "dir/b", b"b").await);
            drop(durable(&*disk, "a", b"a").await);
            story(disk).await;
        });
        world.lose_power(keep);
        assert_eq!(world.names(), expected, "{keep:?}");
    }
}

#[test]
fn a_created_name_needs_a_sync_of_its_directory() {
    let created = async |disk: Arc<dyn Disk>| drop(disk.create(&at("new")).await.unwrap());
    names_left(created, &["a", "dir/b"], &["a", "dir/b", "new"]);
    let synced_elsewhere = async |disk: Arc<dyn Disk>| {
        drop(disk.create(&at("dir/new")).await.unwrap());
        disk.sync_dir(&DiskPath::root()).await.unwrap();
    };
    names_left(synced_elsewhere, &["a", "dir/b"], &["a", "dir/b", "dir/new"]);
}

#[test]
fn an_unlinked_name_needs_a_sync_of_its_directory() {
    let unlinked = async |disk: Arc<dyn Disk>| disk.unlink(&at("a")).await.unwrap();
    names_left(unlinked, &["a", "dir/b"], &["dir/b"]);
}

#[test]
fn a_rename_is_one_change_of_both_directories() {
    let renamed = async |disk: Arc<dyn Disk>| disk.rename(&at("a"), &at("dir/c")).await.unwrap();
    names_left(renamed, &["a", "dir/b"], &["dir/b", "dir/c"]);
    for directory in ["", "dir"] {
        let synced = async |disk: Arc<dyn Disk>| {
            disk.rename(&at("a"), &at("dir/c")).await.unwrap();
            disk.sync_dir(&DiskPath::new(directory)).await.unwrap();
        };
        names_left(synced, &["dir/b", "dir/c"], &["dir/b", "dir/c"]);
    }
}

#[test]
fn a_synced_rename_takes_the_history_of_its_names_along() {
    let renamed = async |disk: Arc<dyn Disk>| {
        drop(disk.create(&at("new")).await.unwrap());
        disk.rename(&at("new"), &at("dir/c")).await.unwrap();
        disk.sync_dir(&at("dir")).await.unwrap();
    };
    names_left(renamed, &["a", "dir/b", "dir/c"], &["a", "dir/b", "dir/c"]);
}

#[test]
fn a_sync_of_a_directory_covers_what_changed_before_it_began() {
    let config = SimDiskConfig { capacity_bytes: 64 << 20, ..SimDiskConfig::default() };
    let clock = JumpingClock::shared();
    let device = SimDisk::new(config, Arc::new(Handle(Arc::clone(&clock))));
    let disk = device.attach();
    clock.block_on(async {
        drop(disk.create(&at("before")).await.unwrap());
        let root = DiskPath::root();
        let during = at("during");
        let (synced, created) = futures_util::join!(disk.sync_dir(&root), disk.create(&during));
        synced.unwrap();
        created.unwrap();
    });
    device.crash(Crash::PowerLoss { keep: Keep::Nothing });
    assert_eq!(device.peek("before").unwrap(), "");
    assert_eq!(device.peek("during"), None);
}

#[test]
fn what_lies_in_a_directory_is_lost_with_its_name() {
    let made = async |disk: Arc<dyn Disk>| {
        disk.mkdir(&at("more")).await.unwrap();
        drop(durable(&*disk, "more/c", b"c").await);
    };
    names_left(made, &["a", "dir/b"], &["a", "dir/b", "more/c"]);
}

#[test]
fn a_name_is_lost_or_kept_by_itself_and_its_history_stays_in_order() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let world = world(seed);
        world.does(async |disk| {
            drop(durable(&*disk, "old", b"1").await);
            disk.rename(&at("old"), &at("new")).await.unwrap();
            drop(disk.create(&at("old")).await.unwrap());
            drop(disk.create(&at("other")).await.unwrap());
        });
        world.lose_power(Keep::Sampled);
        seen.insert(world.names());
        let first = ["old", "new"].map(|name| world.device.peek(name) == Some("1".into()));
        assert!(first[0] != first[1], "seed {seed}: one name tells the first file");
    }
    let states: Vec<Vec<&str>> =
        seen.iter().map(|names| names.iter().map(String::as_str).collect()).collect();
    let legal = [
        vec!["new"],
        vec!["new", "old"],
        vec!["new", "old", "other"],
        vec!["new", "other"],
        vec!["old"],
        vec!["old", "other"],
    ];
    assert_eq!(states, legal, "all legal states, and no other");
}

#[test]
fn a_replacing_rename_leaves_the_old_or_the_new_file_and_never_neither() {
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        for keep in KEEPS {
            let world = world(seed);
            world.does(async |disk| {
                drop(durable(&*disk, "RING", b"old").await);
                let file = disk.create(&at("RING.new")).await.unwrap();
                append(&*file, b"new").await;
                file.sync_data().await.unwrap();
                disk.rename(&at("RING.new"), &at("RING")).await.unwrap();
            });
            world.lose_power(keep);
            let ring = world.device.peek("RING").expect("the name is there");
            assert!(ring == "old" || ring == "new", "seed {seed} {keep:?}: {ring:?}");
            seen.insert(ring);
        }
    }
    assert_eq!(seen.len(), 2, "both happen");
}

#[test]
fn without_a_sync_of_the_data_a_renamed_file_may_be_empty() {
    let world = world(0);
    world.does(async |disk| {
        let file = disk.create(&at("a.new")).await.unwrap();
        append(&*file, b"bytes").await;
        disk.rename(&at("a.new"), &at("a")).await.unwrap();
        disk.sync_dir(&DiskPath::root()).await.unwrap();
    });
    world.lose_power(Keep::Nothing);
    assert_eq!(world.device.peek("a").unwrap(), "");
}

#[test]
fn the_journal_commits_names_by_itself() {
    let world = world(0);
    world.does(async |disk| drop(disk.create(&at("early")).await.unwrap()));
    world.clock.pass(Duration::from_secs(6));
    world.does(async |disk| drop(disk.create(&at("late")).await.unwrap()));
    world.lose_power(Keep::Nothing);
    assert_eq!(world.names(), ["early"]);
}

#[test]
fn an_unlinked_file_may_come_back_with_its_bytes() {
    let world = world(0);
    world.does(async |disk| {
        drop(durable(&*disk, "a", &[5; 9000]).await);
        disk.unlink(&at("a")).await.unwrap();
    });
    assert_eq!(world.device.used_bytes(), 4096, "its space is free at once");
    world.lose_power(Keep::Nothing);
    assert_eq!(world.device.peek("a").unwrap(), [5; 9000][..]);
    assert_eq!(world.device.used_bytes(), 4096 + 3 * 4096, "and taken again");
}

#[test]
fn a_failed_sync_is_not_made_good_by_a_later_one() {
    use sim_storage::{Effect, EffectVerdict};
    let world = world(0);
    let mut syncs = 0;
    world.device.set_effect_hook(Box::new(move |effect: &Effect| {
        syncs += u32::from(effect.change.kind == kura_env::EffectKind::SyncData);
        if effect.change.kind == kura_env::EffectKind::SyncData && syncs == 2 {
            return EffectVerdict::Fail(kura_env::DiskErrorKind::Io);
        }
        EffectVerdict::Go
    }));
    world.does(async |disk| {
        let file = durable(&*disk, "a", &[1; 4096]).await;
        append(&*file, &[2; 4096]).await;
        file.sync_data().await.unwrap_err();
        append(&*file, &[3; 4096]).await;
        file.sync_data().await.unwrap();
    });
    assert_eq!(world.device.peek("a").unwrap()[4096..8192], [2; 4096], "readers see the cache");
    world.lose_power(Keep::Everything);
    let left = world.device.peek("a").unwrap();
    assert_eq!(left.len(), 3 * 4096);
    assert_eq!(left[..4096], [1; 4096]);
    assert_eq!(left[4096..8192], [0; 4096], "the page of the failed sync never got there");
    assert_eq!(left[8192..], [3; 4096]);
}

#[test]
fn locks_and_handles_end_with_their_life() {
    let world = world(0);
    let first = world.device.attach();
    let outcome = world.clock.block_on(first.lock(&at("LOCK"), "first")).unwrap();
    let LockOutcome::Held(held) = outcome else { panic!("nobody else is there") };
    let second = world.device.attach();
    let outcome = world.clock.block_on(second.lock(&at("LOCK"), "second")).unwrap();
    assert!(matches!(outcome, LockOutcome::Taken(holder) if holder == "first"));
    let file = world.clock.block_on(first.create(&at("a"))).unwrap();
    world.clock.block_on(append(&*file, &[1; 4096]));
    world.clock.block_on(first.unlink(&at("a"))).unwrap();
    assert_eq!(world.device.open_unlinked_bytes(), 4096);
    world.device.crash(Crash::Sigkill);
    assert_eq!(world.device.open_unlinked_bytes(), 0);
    let third = world.device.attach();
    let kept = world.clock.block_on(third.lock(&at("LOCK"), "third")).unwrap();
    assert!(matches!(kept, LockOutcome::Held(_)), "the lock ended with its life");
    // What belonged to the life that ended is dropped late, and disturbs nobody.
    drop((held, file));
    let outcome = world.clock.block_on(third.lock(&at("LOCK"), "fourth")).unwrap();
    assert!(matches!(outcome, LockOutcome::Taken(holder) if holder == "third"));
}

/// Draws writes and syncs, loses power, and checks every sector against what it may hold: its
/// content at the last sync, or any later one.
#[test]
fn every_sector_holds_its_last_synced_content_or_a_later_one() {
    const SECTORS: usize = 64;
    for seed in 0..300 {
        let world = world(seed);
        let mut draws = Draws(seed);
        // The contents a sector may have, the durable one first.
        let mut may: Vec<Vec<u8>> = vec![vec![0]; SECTORS];
        let mut synced_sectors = 0;
        let mut end = 0;
        world.does(async |disk| {
            let file = durable(&*disk, "a", b"").await;
            for step in 1..=40_u8 {
                let start = usize::try_from(draws.below(SECTORS as u64)).unwrap().min(end + 3);
                let count = usize::try_from(draws.below(12)).unwrap().min(SECTORS - start);
                if draws.below(5) == 0 {
                    file.sync_data().await.unwrap();
                    for contents in &mut may {
                        *contents = vec![*contents.last().unwrap()];
                    }
                    synced_sectors = end;
                } else if count > 0 {
                    let bytes = Bytes::from(vec![step; count * 512]);
                    file.write_at(start as u64 * 512, bytes).await.unwrap();
                    may[start..start + count].iter_mut().for_each(|contents| contents.push(step));
                    end = end.max(start + count);
                }
            }
        });
        world.lose_power(KEEPS[usize::try_from(seed % 3).unwrap()]);
        let left = world.device.peek("a").unwrap();
        assert!((synced_sectors * 512..=end * 512).contains(&left.len()), "seed {seed}");
        for (index, sector) in left.chunks(512).enumerate() {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "seed {seed}: sector {index}");
            assert!(may[index].contains(&sector[0]), "seed {seed}: sector {index}");
        }
    }
}
