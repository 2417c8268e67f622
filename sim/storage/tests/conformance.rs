//! The disk and the catalog of the simulator keep what every disk and catalog must.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{sync::Arc, time::Duration};

use kura_env::{Clock, conformance};
use sim_storage::{
    DirUsage, RowCosts, SimCatalog, SimCatalogConfig, SimDisk, SimDiskConfig, Slow, Stalls,
};
use support::{Draws, Handle, JumpingClock};

fn configs() -> [SimDiskConfig; 4] {
    let timed = SimDiskConfig { capacity_bytes: 64 << 20, ..SimDiskConfig::default() };
    let late = SimDiskConfig { delayed_allocation: true, ..timed.clone() };
    let slow = Slow { millionths: 100_000, longer: Duration::from_secs(1) };
    let stalls = Stalls { every: Duration::from_secs(1), lasts: Duration::from_millis(300) };
    let poor = SimDiskConfig {
        slow_calls: slow,
        slow_reads: slow,
        slow_syncs: slow,
        stalls: Some(stalls),
        preallocation: false,
        quota_bytes: Some(48 << 20),
        ..timed.clone()
    };
    [SimDiskConfig::instant(64 << 20, 1), timed, late, poor]
}

fn device(config: SimDiskConfig) -> (Arc<JumpingClock>, SimDisk) {
    let clock = JumpingClock::shared();
    let disk = SimDisk::new(config, Arc::new(Handle(Arc::clone(&clock))));
    (clock, disk)
}

fn catalog(disk: &SimDisk, clock: &Arc<JumpingClock>, log_bytes_max: u64) -> Arc<SimCatalog> {
    let config = SimCatalogConfig { log_bytes_max, ..SimCatalogConfig::default() };
    let clock = Arc::new(Handle(Arc::clone(clock)));
    Arc::new(SimCatalog::new(disk.attach(), clock, &conformance::catalog::SPACES, config))
}

#[test]
fn the_disk_keeps_the_contract() {
    for config in configs() {
        let (clock, disk) = device(config);
        clock.block_on(conformance::disk::suite(disk.attach()));
        let two_directories = 2 * 4096;
        assert_eq!(disk.used_bytes(), two_directories, "every block was given back");
        assert_eq!(disk.open_unlinked_bytes(), 0);
        assert_eq!(disk.dir_bytes("conformance"), Some(DirUsage::default()));
        assert_eq!(disk.walk(), []);
    }
}

#[test]
fn the_disk_tells_the_truth_about_its_space() {
    for config in configs() {
        let (clock, disk) = device(config);
        clock.block_on(conformance::disk::alone(disk.attach()));
        assert_eq!((disk.used_bytes(), disk.open_unlinked_bytes()), (2 * 4096, 0));
    }
}

#[test]
fn the_disk_agrees_with_a_plain_model() {
    for seed in 0..20 {
        for config in configs() {
            let (clock, disk) = device(config);
            let mut draws = Draws(seed);
            let work = conformance::disk::random_operations(disk.attach(), &mut draws, 400);
            clock.block_on(work);
            assert_eq!(disk.used_bytes(), 2 * 4096, "seed {seed}: blocks were given back");
        }
    }
}

#[test]
fn the_catalog_keeps_the_contract() {
    for config in configs() {
        // With a log so short that nearly every commit starts a new generation, and without.
        for log_bytes_max in [100, 1 << 30] {
            let (clock, disk) = device(config.clone());
            let catalog = catalog(&disk, &clock, log_bytes_max);
            clock.block_on(conformance::catalog::suite(catalog));
            assert!(disk.walk().len() <= 2, "one generation is left: {:?}", disk.walk());
        }
    }
}

#[test]
fn the_catalog_agrees_with_a_plain_model() {
    for seed in 0..10 {
        for log_bytes_max in [2_000, 1 << 30] {
            let (clock, disk) = device(SimDiskConfig::instant(64 << 20, seed));
            let catalog = catalog(&disk, &clock, log_bytes_max);
            let mut draws = Draws(seed);
            clock.block_on(async {
                kura_env::Catalog::open(&*catalog).await.unwrap();
                conformance::catalog::random_operations(catalog, &mut draws, 200).await;
            });
        }
    }
}

#[test]
fn work_on_rows_and_syncs_takes_time() {
    let (clock, disk) = device(configs()[1].clone());
    let catalog = catalog(&disk, &clock, 1 << 30);
    clock.block_on(conformance::catalog::suite(catalog));
    let time = Handle(clock).now().0;
    let one_sync = u64::try_from(SimDiskConfig::default().sync_latency.as_nanos()).unwrap();
    let row = u64::try_from(RowCosts::default().written.as_nanos()).unwrap();
    assert!(time > 5 * one_sync + 1000 * row, "the whole suite took {time} ns");
}
