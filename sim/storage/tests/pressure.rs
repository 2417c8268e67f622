//! Space under pressure: quotas, blocks that are looked for late, co-tenants, mappings.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use kura_env::{Disk, DiskErrorKind, DiskPath, File};
use sim_storage::{CoTenant, Crash, Keep, SimDisk, SimDiskConfig, TenantShape};
use support::{Draws, Handle, JumpingClock};

const BLOCK: u64 = 4096;

/// A device with this many blocks beside the one of its root directory.
fn blocks(blocks: u64) -> SimDiskConfig {
    SimDiskConfig::instant((blocks + 1) * BLOCK, 1)
}

fn device(config: SimDiskConfig) -> (Arc<JumpingClock>, SimDisk) {
    let clock = JumpingClock::shared();
    let device = SimDisk::new(config, Arc::new(Handle(Arc::clone(&clock))));
    (clock, device)
}

fn at(path: &str) -> DiskPath {
    DiskPath::new(path)
}

async fn create(disk: &dyn Disk, path: &str) -> Arc<dyn File> {
    disk.create(&at(path)).await.unwrap()
}

async fn append(file: &dyn File, len: u64) -> Result<(), DiskErrorKind> {
    file.append(vec![bytes(len)]).await.map_err(|error| error.kind)
}

async fn sync(file: &dyn File) -> Result<(), DiskErrorKind> {
    file.sync_data().await.map_err(|error| error.kind)
}

async fn available(disk: &dyn Disk) -> u64 {
    disk.space().await.unwrap().available_bytes / BLOCK
}

fn bytes(len: u64) -> Bytes {
    Bytes::from(vec![1; usize::try_from(len).unwrap()])
}

fn held(device: &SimDisk) -> u64 {
    device.walk().iter().map(|file| file.allocated_bytes).sum::<u64>() / BLOCK
}

#[test]
fn a_quota_ends_below_the_size_of_the_volume_and_may_go_untold() {
    for quota_is_told in [false, true] {
        // The root directory is charged as well.
        let quota_bytes = Some(5 * BLOCK);
        let (clock, device) = device(SimDiskConfig { quota_bytes, quota_is_told, ..blocks(8) });
        let disk = device.attach();
        clock.block_on(async {
            assert_eq!(available(&*disk).await, if quota_is_told { 4 } else { 8 });
            let file = create(&*disk, "a").await;
            assert_eq!(append(&*file, 5 * BLOCK).await, Err(DiskErrorKind::Quota));
            assert_eq!(file.len().await.unwrap(), 4 * BLOCK, "what the quota allows is written");
            let made = disk.mkdir(&at("dir")).await.unwrap_err();
            assert_eq!(made.kind, DiskErrorKind::Quota);
            let reserved = file.allocate(5 * BLOCK).await.unwrap_err();
            assert_eq!(reserved.kind, DiskErrorKind::Quota);
            disk.unlink(&at("a")).await.unwrap();
            let other = create(&*disk, "b").await;
            assert_eq!(append(&*other, 1).await, Err(DiskErrorKind::Quota), "a is still open");
            drop(file);
            append(&*other, 4 * BLOCK).await.unwrap();
        });
    }
}

#[test]
fn whoever_meets_both_limits_is_told_of_the_quota() {
    let (clock, device) = device(SimDiskConfig { quota_bytes: Some(5 * BLOCK), ..blocks(8) });
    let disk = device.attach();
    device.set_foreign_bytes(6 * BLOCK);
    clock.block_on(async {
        let file = create(&*disk, "a").await;
        assert_eq!(append(&*file, 3 * BLOCK).await, Err(DiskErrorKind::NoSpace), "room for two");
        assert_eq!(append(&*file, 3 * BLOCK).await, Err(DiskErrorKind::Quota), "none of either");
        device.set_quota_bytes(None);
        assert_eq!(append(&*file, 1).await, Err(DiskErrorKind::NoSpace));
        // A quota below what is held already: nothing is taken away, nothing is given.
        device.set_quota_bytes(Some(BLOCK));
        device.set_foreign_bytes(0);
        assert_eq!(append(&*file, 1).await, Err(DiskErrorKind::Quota));
        file.write_at(0, bytes(2 * BLOCK)).await.unwrap();
    });
}

fn delayed(count: u64) -> SimDiskConfig {
    SimDiskConfig { delayed_allocation: true, ..blocks(count) }
}

#[test]
fn an_append_succeeds_and_the_sync_finds_no_room() {
    let (clock, device) = device(delayed(4));
    let disk = device.attach();
    clock.block_on(async {
        let file = create(&*disk, "a").await;
        append(&*file, 2 * BLOCK).await.unwrap();
        sync(&*file).await.unwrap();
        append(&*file, 4 * BLOCK).await.unwrap();
        assert_eq!(sync(&*file).await, Err(DiskErrorKind::NoSpace));
        // As Linux does: reported once, and what was not written is served from memory for now.
        sync(&*file).await.unwrap();
        assert_eq!(file.len().await.unwrap(), 6 * BLOCK);
        let read = file.read_at(5 * BLOCK, 4096).await.unwrap();
        assert!(read.iter().all(|byte| *byte == 1));
        assert_eq!((available(&*disk).await, held(&device)), (0, 4), "it holds what it found");
    });
    for keep in [Keep::Everything, Keep::Sampled] {
        device.crash(Crash::PowerLoss { keep });
        let left = device.peek("a").unwrap();
        let (kept, lost) = left.split_at(usize::try_from(2 * BLOCK).unwrap());
        assert!(kept.iter().all(|byte| *byte == 1), "what was synced before is whole");
        assert!(lost.iter().all(|byte| *byte == 0), "a later sync did not cover what was lost");
        assert!(device.used_bytes() <= 5 * BLOCK);
    }
}

#[test]
fn every_sync_that_was_running_hears_of_it() {
    let timed = SimDiskConfig { sync_latency: Duration::from_millis(1), ..delayed(2) };
    let (clock, device) = device(timed);
    let disk = device.attach();
    clock.block_on(async {
        let file = create(&*disk, "a").await;
        append(&*file, 4 * BLOCK).await.unwrap();
        let (first, second) = futures_util::join!(sync(&*file), sync(&*file));
        assert_eq!((first, second), (Err(DiskErrorKind::NoSpace), Err(DiskErrorKind::NoSpace)));
        sync(&*file).await.unwrap();
    });
}

#[test]
fn what_was_lost_and_is_written_again_is_covered_again() {
    let (clock, device) = device(delayed(4));
    let disk = device.attach();
    device.set_foreign_bytes(3 * BLOCK);
    clock.block_on(async {
        let file = create(&*disk, "a").await;
        append(&*file, 2 * BLOCK).await.unwrap();
        assert_eq!(sync(&*file).await, Err(DiskErrorKind::NoSpace));
        device.set_foreign_bytes(0);
        file.write_at(0, bytes(2 * BLOCK)).await.unwrap();
        sync(&*file).await.unwrap();
        disk.sync_dir(&DiskPath::root()).await.unwrap();
    });
    device.crash(Crash::PowerLoss { keep: Keep::Nothing });
    assert_eq!(device.peek("a").unwrap(), bytes(2 * BLOCK));
    assert_eq!(held(&device), 2);
}

#[test]
fn what_was_reserved_is_found_when_it_is_written() {
    let quota = SimDiskConfig { quota_bytes: Some(5 * BLOCK), ..delayed(8) };
    for (config, kind) in [(delayed(4), DiskErrorKind::NoSpace), (quota, DiskErrorKind::Quota)] {
        let (clock, device) = device(config);
        let disk = device.attach();
        clock.block_on(async {
            let reserved = create(&*disk, "reserved").await;
            reserved.allocate(3 * BLOCK).await.unwrap();
            let other = create(&*disk, "other").await;
            append(&*other, 2 * BLOCK).await.unwrap();
            assert_eq!(sync(&*other).await, Err(kind.clone()));
            append(&*reserved, 3 * BLOCK).await.unwrap();
            sync(&*reserved).await.unwrap();
            append(&*reserved, 1).await.unwrap();
            assert_eq!(sync(&*reserved).await, Err(kind.clone()));
            let error = reserved.allocate(9 * BLOCK).await.unwrap_err();
            assert_eq!(error.kind, kind, "a reservation is told at once");
        });
    }
}

#[test]
fn a_co_tenant_fills_the_disk_between_append_and_sync() {
    let slow = SimDiskConfig { write_bytes_per_second: BLOCK, ..delayed(8) };
    let (clock, device) = device(slow);
    device.set_co_tenants(vec![tenant(8, TenantShape::Step)]);
    let disk = device.attach();
    clock.block_on(async {
        let file = create(&*disk, "a").await;
        for _ in 0..3 {
            append(&*file, BLOCK).await.unwrap();
        }
        assert_eq!(available(&*disk).await, 5, "what waits for its blocks is not available");
        // A block a second reaches the device; the co-tenant comes after two and a half.
        assert_eq!(sync(&*file).await, Err(DiskErrorKind::NoSpace));
        assert_eq!((held(&device), device.foreign_bytes()), (2, 6 * BLOCK));
    });
}

#[test]
fn what_nobody_can_read_any_more_looks_for_no_blocks() {
    let slow = SimDiskConfig { write_bytes_per_second: BLOCK, ..delayed(2) };
    let (clock, device) = device(slow);
    let disk = device.attach();
    clock.block_on(async {
        let file = create(&*disk, "a").await;
        append(&*file, 9 * BLOCK).await.unwrap();
        drop(file);
        disk.unlink(&at("a")).await.unwrap();
        assert_eq!(available(&*disk).await, 2);
        let file = create(&*disk, "b").await;
        append(&*file, 2 * BLOCK).await.unwrap();
        sync(&*file).await.unwrap();
        assert_eq!(available(&*disk).await, 0);
    });
}

#[test]
fn blocks_stay_in_step_with_what_is_written_and_lost() {
    for seed in 0..200 {
        let mut draws = Draws(seed);
        let rate = [0, 100 * BLOCK][usize::try_from(draws.below(2)).unwrap()];
        let config = SimDiskConfig {
            write_bytes_per_second: rate,
            quota_bytes: (draws.below(2) == 0).then_some(30 * BLOCK),
            ..delayed(40)
        };
        let (clock, device) = device(config);
        for _ in 0..3 {
            drawn_work(&clock, &device, &mut draws);
            let keep = [Keep::Nothing, Keep::Everything, Keep::Sampled];
            let keep = keep[usize::try_from(draws.below(3)).unwrap()];
            let crash = [Crash::Sigkill, Crash::PowerLoss { keep }];
            device.crash(crash[usize::try_from(draws.below(2)).unwrap()]);
            clock.pass(Duration::from_secs(10));
            let used = device.used_bytes() / BLOCK;
            assert_eq!(used, held(&device) + 1, "seed {seed}: no file is open");
            assert!(used <= 41, "seed {seed}: {used} blocks of 41");
            assert_eq!(device.dir_bytes("").unwrap().allocated_bytes / BLOCK, held(&device));
        }
    }
}

fn drawn_work(clock: &JumpingClock, device: &SimDisk, draws: &mut Draws) {
    let disk = device.attach();
    clock.block_on(async {
        for _ in 0..40 {
            let path = at(&format!("file-{}", draws.below(4)));
            let file = match disk.open(&path).await {
                Ok(file) => file,
                Err(_) => disk.create(&path).await.unwrap(),
            };
            match draws.below(8) {
                0 | 1 => append(&*file, draws.below(9 * BLOCK)).await.unwrap(),
                2 => file.write_at(draws.below(20 * BLOCK), bytes(5000)).await.unwrap(),
                3 => drop(sync(&*file).await),
                4 => drop(file.allocate(draws.below(20 * BLOCK)).await),
                5 => drop(disk.unlink(&path).await),
                6 => device.set_foreign_bytes(draws.below(20) * BLOCK),
                _ => clock.pass(Duration::from_millis(draws.below(200))),
            }
        }
    });
}

#[test]
fn a_file_system_that_cannot_reserve_says_so() {
    let (clock, device) = device(SimDiskConfig { preallocation: false, ..blocks(8) });
    let disk = device.attach();
    clock.block_on(async {
        let file = create(&*disk, "a").await;
        let error = file.allocate(BLOCK).await.unwrap_err();
        assert_eq!(error.kind, DiskErrorKind::Unsupported);
        assert_eq!(held(&device), 0);
    });
}

/// Comes after two and a half seconds and goes ten later.
fn tenant(count: u64, shape: TenantShape) -> CoTenant {
    let (begins, lasts) = (Duration::from_millis(2500), Some(Duration::from_secs(10)));
    CoTenant { bytes: count * BLOCK, begins, lasts, shape, seed: 1 }
}

#[test]
fn a_co_tenant_takes_what_is_free_and_what_becomes_free() {
    let (clock, device) = device(blocks(8));
    let ramp = TenantShape::Ramp(Duration::from_secs(8));
    device.set_co_tenants(vec![tenant(8, ramp), tenant(2, TenantShape::Step)]);
    let disk = device.attach();
    clock.block_on(async {
        let file = create(&*disk, "a").await;
        append(&*file, 3 * BLOCK).await.unwrap();
        assert_eq!(available(&*disk).await, 5);
        clock.pass(Duration::from_millis(4500));
        assert_eq!(available(&*disk).await, 1, "two of the one and two of the other");
        clock.pass(Duration::from_secs(4));
        assert_eq!(append(&*file, 1).await, Err(DiskErrorKind::NoSpace));
        assert_eq!(device.foreign_bytes(), 5 * BLOCK, "no more than there is");
        disk.unlink(&at("a")).await.unwrap();
        drop(file);
        let file = create(&*disk, "b").await;
        assert_eq!(append(&*file, 1).await, Err(DiskErrorKind::NoSpace), "it took that as well");
        clock.pass(Duration::from_secs(4));
        assert_eq!(available(&*disk).await, 8, "all is given back");
        append(&*file, 8 * BLOCK).await.unwrap();
    });
}

#[test]
fn co_tenants_that_are_sent_away_are_gone() {
    let (clock, device) = device(blocks(8));
    let noise = CoTenant {
        lasts: None,
        begins: Duration::ZERO,
        ..tenant(100, TenantShape::Noise(Duration::from_secs(1)))
    };
    device.set_co_tenants(vec![noise]);
    let disk = device.attach();
    clock.block_on(async {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            seen.insert(available(&*disk).await);
            clock.pass(Duration::from_secs(1));
        }
        assert!(seen.contains(&0) && seen.len() > 4, "it comes and goes: {seen:?}");
        device.set_co_tenants(Vec::new());
        assert_eq!(available(&*disk).await, 8);
    });
}

#[test]
fn bytes_of_a_frozen_file_hold_its_blocks() {
    let (clock, device) = device(blocks(16));
    let disk = device.attach();
    clock.block_on(async {
        let file = create(&*disk, "a").await;
        append(&*file, 4 * BLOCK).await.unwrap();
        let copied = file.read_at(0, 4096).await.unwrap();
        file.freeze().await.unwrap();
        let (whole, empty) =
            (file.read_at(0, 99_999).await.unwrap(), file.read_at(99_999, 1).await);
        let part = whole.slice(100..5000);
        disk.unlink(&at("a")).await.unwrap();
        drop((file, whole));
        assert_eq!(device.open_unlinked_bytes(), 4 * BLOCK, "a slice is left");
        assert_eq!(available(&*disk).await, 12);
        // What is written holds its own blocks, and not those it was read from.
        let copy = create(&*disk, "copy").await;
        copy.append(vec![part.clone(), part.slice(..10)]).await.unwrap();
        copy.write_at(0, part.slice(7..)).await.unwrap();
        let expected = part.clone();
        drop((part, empty));
        assert_eq!(device.open_unlinked_bytes(), 4 * BLOCK);
        drop(expected);
        assert_eq!(device.open_unlinked_bytes(), 0, "nobody has it mapped");
        assert_eq!(available(&*disk).await, 14);
        assert_eq!(copy.read_at(0, 99_999).await.unwrap(), bytes(4910));
        drop(copied);
    });
}

#[test]
fn the_end_of_a_life_ends_its_mappings() {
    for crash in [Crash::Sigkill, Crash::PowerLoss { keep: Keep::Everything }] {
        let (clock, device) = device(blocks(8));
        let disk = device.attach();
        let bytes = clock.block_on(async {
            let file = create(&*disk, "a").await;
            append(&*file, 4 * BLOCK).await.unwrap();
            file.freeze().await.unwrap();
            let bytes = file.read_at(0, 4096).await.unwrap();
            disk.unlink(&at("a")).await.unwrap();
            bytes
        });
        assert_eq!(device.open_unlinked_bytes(), 4 * BLOCK);
        device.crash(crash);
        assert_eq!(device.used_bytes(), BLOCK);
        drop(bytes);
        assert_eq!(device.used_bytes(), BLOCK);
    }
}
