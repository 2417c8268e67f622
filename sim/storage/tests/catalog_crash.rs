//! The catalog over a disk that crashes and fails: what remains is a prefix of the commits, and at
//! least the synced ones.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;

use kura_env::{
    Batch, Catalog, CatalogError, CatalogHealth, CommitDurability, DiskErrorKind, EffectKind,
    Keyspace,
};
use parking_lot::Mutex;
use sim_storage::{
    Crash, Effect, EffectVerdict, Keep, RowCosts, SimCatalog, SimCatalogConfig, SimDisk,
    SimDiskConfig,
};
use support::{Handle, JumpingClock};

const ROWS: Keyspace = Keyspace("rows");
const ALSO: Keyspace = Keyspace("also");
const CRASHES: [Crash; 4] = [
    Crash::Sigkill,
    Crash::PowerLoss { keep: Keep::Nothing },
    Crash::PowerLoss { keep: Keep::Everything },
    Crash::PowerLoss { keep: Keep::Sampled },
];

struct World {
    clock: Arc<JumpingClock>,
    device: SimDisk,
}

fn world(seed: u64, capacity_bytes: u64) -> World {
    let clock = JumpingClock::shared();
    let config = SimDiskConfig::instant(capacity_bytes, seed);
    let device = SimDisk::new(config, Arc::new(Handle(Arc::clone(&clock))));
    World { clock, device }
}

impl World {
    /// A catalog of a new life, with a log that is replaced every few commits.
    fn catalog(&self) -> Arc<SimCatalog> {
        self.catalog_with(400)
    }

    fn catalog_with(&self, log_bytes_max: u64) -> Arc<SimCatalog> {
        let config = SimCatalogConfig {
            log_bytes_max,
            costs: RowCosts::NONE,
            ..SimCatalogConfig::default()
        };
        let clock = Arc::new(Handle(Arc::clone(&self.clock)));
        Arc::new(SimCatalog::new(self.device.attach(), clock, &[ROWS, ALSO], config))
    }
}

/// The n-th commit: a row of its own in both keyspaces, and its number in a shared one.
fn batch(number: u64) -> Batch {
    let mut batch = Batch::default();
    batch.put(ROWS, format!("{number:04}"), "a value of some length");
    batch.put(ALSO, format!("{number:04}"), "");
    batch.put(ROWS, "last", format!("{number:04}"));
    batch
}

/// How many commits there are, having asserted that they are a prefix and whole.
fn commits_in(catalog: &SimCatalog) -> u64 {
    let rows = catalog.peek_rows(ROWS);
    let count = rows.len().saturating_sub(1) as u64;
    for number in 1..=count {
        let key = format!("{number:04}");
        assert!(catalog.peek(ROWS, key.as_bytes()).is_some(), "commit {number} of {count}");
        assert!(catalog.peek(ALSO, key.as_bytes()).is_some(), "commit {number} is whole");
    }
    assert_eq!(catalog.peek_len(ALSO) as u64, count, "nothing of any other commit");
    if count > 0 {
        let last = catalog.peek(ROWS, b"last").unwrap();
        assert_eq!(last, format!("{count:04}"), "the last commit is the last");
    }
    count
}

/// What a life that commits got answers for: how many commits, and up to which they were synced.
#[derive(Clone, Copy, Default)]
struct Answered {
    all: u64,
    synced: u64,
}

async fn commit_some(catalog: &SimCatalog, first: u64, answered: &Mutex<Answered>) {
    catalog.open().await.unwrap();
    for number in first..first + 25 {
        let synced = number % 4 == 0;
        let durability = if synced { CommitDurability::Synced } else { CommitDurability::Buffered };
        catalog.commit(batch(number), durability).await.unwrap();
        let mut answered = answered.lock();
        answered.all = number;
        if synced {
            answered.synced = number;
        }
    }
}

#[test]
fn after_a_crash_at_any_effect_a_prefix_of_the_commits_is_there() {
    let effects = {
        let world = world(0, 64 << 20);
        let answered = Mutex::default();
        world.clock.block_on(commit_some(&world.catalog(), 1, &answered));
        world.device.effect_count()
    };
    assert!(effects > 60, "the log is replaced on the way: {effects} effects");
    for number in 1..=effects {
        for crash in CRASHES {
            for side in
                [EffectVerdict::CrashBefore, EffectVerdict::CrashWithin, EffectVerdict::CrashAfter]
            {
                let world = world(number, 64 << 20);
                let verdict = side(crash);
                let hook = {
                    let verdict = verdict.clone();
                    move |effect: &Effect| {
                        if effect.number == number { verdict.clone() } else { EffectVerdict::Go }
                    }
                };
                world.device.set_effect_hook(Box::new(hook));
                let answered = Mutex::default();
                let end = world.clock.run(commit_some(&world.catalog(), 1, &answered));
                assert!(end.is_none(), "no crash at effect {number}");
                let answered = *answered.lock();
                let least = if crash == Crash::Sigkill { answered.all } else { answered.synced };
                check_next_lives(&world, least, &format!("{verdict:?} at effect {number}"));
            }
        }
    }
}

/// Opens after a crash, goes on, loses power, opens again.
fn check_next_lives(world: &World, least: u64, title: &str) {
    let catalog = world.catalog();
    world.clock.block_on(catalog.open()).unwrap();
    let found = commits_in(&catalog);
    assert!(found >= least, "{title}: {found} of at least {least} commits");
    let answered = Mutex::default();
    world.clock.block_on(commit_some(&catalog, found + 1, &answered));
    world.device.crash(Crash::PowerLoss { keep: Keep::Nothing });
    let catalog = world.catalog();
    world.clock.block_on(catalog.open()).unwrap();
    let again = commits_in(&catalog);
    let least = answered.lock().synced;
    assert!(again >= least, "{title}, and once more: {again} of at least {least} commits");
}

#[test]
fn a_failed_write_poisons_until_the_next_open() {
    for kind in [EffectKind::Append, EffectKind::SyncData] {
        let world = world(1, 64 << 20);
        let catalog = world.catalog_with(1 << 20);
        world.clock.block_on(async {
            catalog.open().await.unwrap();
            catalog.commit(batch(1), CommitDurability::Synced).await.unwrap();
            let mut left = 1;
            world.device.set_effect_hook(Box::new(move |effect: &Effect| {
                if effect.change.kind == kind && left > 0 {
                    left -= 1;
                    return EffectVerdict::Fail(DiskErrorKind::Io);
                }
                EffectVerdict::Go
            }));
            // Longer than the page that a later commit writes again.
            let mut large = batch(2);
            large.put(ROWS, "0002", vec![7; 20_000]);
            let failed = catalog.commit(large, CommitDurability::Synced).await;
            assert!(matches!(failed, Err(CatalogError::Io(_))), "{kind:?}");
            assert!(matches!(catalog.health(), CatalogHealth::Poisoned(_)), "{kind:?}");
            let next = catalog.commit(batch(3), CommitDurability::Buffered).await;
            assert!(matches!(next, Err(CatalogError::Poisoned(_))), "{kind:?}");
            assert!(catalog.get(ROWS, b"0001").await.unwrap().is_some(), "reads go on");
            catalog.open().await.unwrap();
            assert_eq!(catalog.health(), CatalogHealth::Open);
        });
        // What failed may be there or not; what follows is durable even so.
        let found = commits_in(&catalog);
        assert!([1, 2].contains(&found), "{kind:?}: {found} commits");
        let next = catalog.commit(batch(found + 1), CommitDurability::Synced);
        world.clock.block_on(next).unwrap();
        world.device.crash(Crash::PowerLoss { keep: Keep::Nothing });
        let catalog = world.catalog_with(1 << 20);
        world.clock.block_on(catalog.open()).unwrap();
        assert_eq!(commits_in(&catalog), found + 1, "{kind:?}");
    }
}

#[test]
fn a_full_disk_poisons_and_space_heals() {
    let world = world(1, 16 * 4096);
    let catalog = world.catalog();
    world.clock.block_on(async {
        catalog.open().await.unwrap();
        world.device.set_foreign_bytes(10 * 4096);
        let mut number = 0;
        let error = loop {
            number += 1;
            match catalog.commit(batch(number), CommitDurability::Synced).await {
                Ok(()) => assert!(number < 1000, "the disk never gets full"),
                Err(error) => break error,
            }
        };
        // A commit that fits may still be the one whose new generation does not.
        assert!(matches!(error, CatalogError::NoSpace(_) | CatalogError::Poisoned(_)), "{error}");
        let found = commits_in(&catalog);
        assert!(catalog.get(ROWS, b"0001").await.unwrap().is_some(), "reads go on");
        world.device.set_foreign_bytes(0);
        catalog.open().await.unwrap();
        let again = commits_in(&catalog);
        assert!(again >= found, "{again} of {found} commits");
        catalog.commit(batch(again + 1), CommitDurability::Synced).await.unwrap();
    });
}

#[test]
fn a_catalog_opens_on_a_full_disk() {
    let world = world(1, 16 * 4096);
    let catalog = world.catalog();
    world.clock.block_on(commit_some(&catalog, 1, &Mutex::default()));
    world.device.set_foreign_bytes(16 * 4096);
    world.device.crash(Crash::Sigkill);
    let catalog = world.catalog();
    world.clock.block_on(catalog.open()).unwrap();
    assert_eq!(commits_in(&catalog), 25);
}

#[test]
fn commits_that_wait_go_together() {
    let clock = JumpingClock::shared();
    let config = SimDiskConfig { capacity_bytes: 64 << 20, ..SimDiskConfig::default() };
    let device = SimDisk::new(config, Arc::new(Handle(Arc::clone(&clock))));
    let catalog = SimCatalog::new(
        device.attach(),
        Arc::new(Handle(Arc::clone(&clock))),
        &[ROWS, ALSO],
        SimCatalogConfig::default(),
    );
    clock.block_on(async {
        catalog.open().await.unwrap();
        let commits = (1..=100).map(|n| catalog.commit(batch(n), CommitDurability::Synced));
        for result in futures_util::future::join_all(commits).await {
            result.unwrap();
        }
    });
    assert_eq!(commits_in(&catalog), 100);
    let syncs = device.effect_classes()["sync_data catalog/*.log"];
    assert!(syncs <= 3, "{syncs} syncs for 100 commits at once");
}

#[test]
fn a_committer_that_is_dropped_leaves_its_group_to_the_next() {
    // Polls each of three commits for a different number of times, then drops the first.
    for polls in 1..12 {
        let world = timed_world();
        let catalog = world.catalog();
        world.clock.block_on(async {
            catalog.open().await.unwrap();
            let first = catalog.commit(batch(1), CommitDurability::Synced);
            let limit = std::time::Duration::from_micros(polls * 300);
            let clock = Handle(Arc::clone(&world.clock));
            let second = async {
                // Joins while the first one writes.
                kura_env::Clock::sleep(&clock, std::time::Duration::from_micros(1)).await;
                catalog.commit(batch(2), CommitDurability::Synced).await
            };
            let cut = kura_env::timeout(&clock, limit, first);
            let (_, second) = futures_util::join!(cut, second);
            second.unwrap();
            catalog.commit(batch(3), CommitDurability::Synced).await.unwrap();
        });
        assert!(catalog.peek(ROWS, b"0002").is_some() && catalog.peek(ROWS, b"0003").is_some());
        let rows = catalog.peek_rows(ROWS);
        world.device.crash(Crash::PowerLoss { keep: Keep::Nothing });
        let catalog = world.catalog();
        world.clock.block_on(catalog.open()).unwrap();
        assert_eq!(catalog.peek_rows(ROWS), rows, "after {polls} polls");
    }
}

#[test]
fn a_new_generation_that_is_dropped_halfway_loses_nothing() {
    let mut generations = std::collections::BTreeSet::new();
    let ends = [Crash::Sigkill, Crash::PowerLoss { keep: Keep::Nothing }];
    for (limit, end) in (0..200).flat_map(|limit| ends.map(|end| (limit, end))) {
        let world = timed_world();
        let catalog = world.catalog();
        let clock = Handle(Arc::clone(&world.clock));
        world.clock.block_on(async {
            catalog.open().await.unwrap();
            for number in 1..=4 {
                catalog.commit(batch(number), CommitDurability::Buffered).await.unwrap();
            }
            // The fifth starts a new generation, and is dropped somewhere on the way.
            let limit = std::time::Duration::from_micros(limit * 100);
            let fifth = catalog.commit(batch(5), CommitDurability::Synced);
            drop(kura_env::timeout(&clock, limit, fifth).await);
            catalog.commit(batch(6), CommitDurability::Synced).await.unwrap();
        });
        let rows = catalog.peek_rows(ROWS);
        let logs = world.device.walk();
        generations.extend(logs.into_iter().map(|file| file.path.to_string()));
        world.device.crash(end);
        let catalog = world.catalog();
        world.clock.block_on(catalog.open()).unwrap();
        assert_eq!(catalog.peek_rows(ROWS), rows, "dropped after {limit}00 us, {end:?}");
    }
    assert!(generations.contains("catalog/00000002.log"), "some were begun twice: {generations:?}");
}

/// The fifth commit starts a new generation and is dropped on the way, while two others wait; the
/// process is killed a little later.
#[test]
fn what_was_answered_is_never_behind_a_generation_that_was_dropped_halfway() {
    let millis = std::time::Duration::from_millis;
    for (limit, rest) in (0..16).flat_map(|limit| (0..20).map(move |rest| (limit, rest))) {
        let world = timed_world();
        let catalog = world.catalog();
        let clock = Handle(Arc::clone(&world.clock));
        let answered = Mutex::new(4);
        let answer = async |number: u64| {
            kura_env::Clock::sleep(&clock, std::time::Duration::from_nanos(number)).await;
            catalog.commit(batch(number), CommitDurability::Synced).await.unwrap();
            let mut answered = answered.lock();
            *answered = number.max(*answered);
        };
        world.clock.block_on(async {
            catalog.open().await.unwrap();
            for number in 1..=4 {
                catalog.commit(batch(number), CommitDurability::Buffered).await.unwrap();
            }
            let fifth = catalog.commit(batch(5), CommitDurability::Synced);
            let fifth = kura_env::timeout(&clock, millis(limit), fifth);
            let all = async { futures_util::join!(fifth, answer(6), answer(7)) };
            drop(kura_env::timeout(&clock, millis(limit + rest), all).await);
        });
        world.device.crash(Crash::Sigkill);
        let catalog = world.catalog();
        world.clock.block_on(catalog.open()).unwrap();
        let (found, answered) = (commits_in(&catalog), *answered.lock());
        assert!(found >= answered, "{found} of {answered}: dropped after {limit}, {rest} more ms");
    }
}

#[test]
fn what_lies_behind_a_bad_frame_never_comes_back() {
    let world = world(1, 64 << 20);
    let catalog = world.catalog_with(1 << 20);
    world.clock.block_on(async {
        catalog.open().await.unwrap();
        for number in 1..=3 {
            catalog.commit(batch(number), CommitDurability::Synced).await.unwrap();
        }
    });
    world.device.rot("catalog/00000000.log", 20, 1).unwrap();
    world.device.crash(Crash::Sigkill);
    let catalog = world.catalog_with(1 << 20);
    world.clock.block_on(catalog.open()).unwrap();
    assert_eq!(commits_in(&catalog), 0);
    // The very bytes that were lost are written again, before the ones that were behind them.
    world.clock.block_on(catalog.commit(batch(1), CommitDurability::Synced)).unwrap();
    world.clock.block_on(catalog.open()).unwrap();
    assert_eq!(commits_in(&catalog), 1);
}

fn timed_world() -> World {
    let clock = JumpingClock::shared();
    let config = SimDiskConfig { capacity_bytes: 64 << 20, ..SimDiskConfig::default() };
    let device = SimDisk::new(config, Arc::new(Handle(Arc::clone(&clock))));
    World { clock, device }
}

#[test]
fn a_damaged_snapshot_is_noticed_and_a_damaged_log_ends_there() {
    let world = world(1, 64 << 20);
    world.clock.block_on(commit_some(&world.catalog(), 1, &Mutex::default()));
    let files = world.device.walk();
    let named = |kind: &str| {
        let found = files.iter().find(|file| file.path.name().ends_with(kind));
        found.unwrap().path.as_str().to_owned()
    };
    let (snapshot, log) = (named("snapshot"), named("log"));
    world.device.rot(&log, 20, 1).unwrap();
    let catalog = world.catalog();
    world.clock.block_on(catalog.open()).unwrap();
    let found = commits_in(&catalog);
    assert!(found > 0 && found < 25, "{found} commits: those of the snapshot");
    world.device.rot(&snapshot, 20, 1).unwrap();
    let error = world.clock.block_on(world.catalog().open()).unwrap_err();
    assert!(matches!(error, CatalogError::Damaged(_)), "{error}");
}
