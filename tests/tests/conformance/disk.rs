//! The same drawn operations on the simulated disk and on real file systems: with room for everything,
//! and on small ones that run out of space.

use std::{fs, path::Path, sync::Arc};

use kura_env::Disk as _;
use kura_host::{HostClock, HostDisk};
use kura_tests::{ext4_disk::Ext4Disk, skip::skip, small_disk::SmallDisk};
use sim_storage::{SimDisk, SimDiskConfig};

use crate::{
    differences::Met,
    operation::{Operation, Sizes},
    pair::{Pair, Place},
    run::{self, OPERATIONS, Round},
    side::Side,
};

const KIB: u64 = 1024;
/// Steps between two looks at everything.
const LOOK_EVERY: usize = 100;
/// Steps between two times when everything is unlinked.
const RELIEVE_EVERY: usize = 500;

/// A small disk that is full less often in a round shows nothing.
const TIMES_FULL_MIN: u64 = 5;

/// As if there were no end.
const ROOMY_BYTES: u64 = 64 << 30;
const ROOMY: Sizes = Sizes { write_bytes_max: 40_000, offset_bytes_max: 300_000 };
/// A few of these fill a disk of 4 MiB.
const TIGHT: Sizes = Sizes { write_bytes_max: 1_200_000, offset_bytes_max: 3_000_000 };

/// Runs the same on the disk at `root` and on a simulated one of its size.
async fn compare(test: &str, root: &Path, place: Place, (brief, full): (u64, u64)) {
    let (mut met, mut times_full, mut count) = (Met::default(), 0, 0);
    for round in run::rounds(test, brief, full) {
        let directory = root.join("round");
        let pair = compare_once(&directory, place, &round).await;
        met.add(&pair.met);
        times_full += pair.times_full;
        count += 1;
        drop(pair);
        fs::remove_dir_all(&directory).expect("it can be removed");
    }
    eprintln!("{test}: {times_full} times full, met {met:?}");
    let least = place.space_slack_bytes.map_or(0, |_| count * TIMES_FULL_MIN);
    assert!(times_full >= least, "the disk was full {times_full} times");
}

async fn compare_once(root: &Path, place: Place, round: &Round) -> Pair {
    let real = HostDisk::new(root, 2).expect("the directory can be used");
    let space = real.space().await.expect("the disk tells its space");
    let capacity_bytes = match place.space_slack_bytes {
        // The simulated one holds its root in a block of its own.
        Some(_) => space.available_bytes + space.block_bytes,
        None => ROOMY_BYTES,
    };
    let config = SimDiskConfig {
        block_bytes: space.block_bytes,
        ..SimDiskConfig::instant(capacity_bytes, round.seed)
    };
    let simulated = SimDisk::new(config, Arc::new(HostClock::new())).attach();
    let mut pair = Pair::new(Side::new(simulated), Side::new(Arc::new(real)), place).await;

    let (mut draws, mut fill) = (round.draws(0), round.draws(1));
    let mut operations = Vec::new();
    for step in 1..=OPERATIONS {
        let operation = Operation::draw(&mut draws, place.sizes);
        operations.push(operation.clone());
        let mut outcome = pair.step(&operation, fill.next()).await;
        if outcome.is_ok() && step % LOOK_EVERY == 0 {
            outcome = pair.compare_all(usize::MAX).await;
        }
        if outcome.is_ok() && step % RELIEVE_EVERY == 0 {
            outcome = pair.relieve().await;
        }
        if let Err(error) = outcome {
            round.fail(&operations, &error);
        }
    }
    pair
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_with_room_is_as_the_simulated_one() {
    let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let place = Place {
        sizes: ROOMY,
        blocks_slack_bytes: None,
        space_slack_bytes: None,
        fills_gaps: false,
    };
    let test = "a_disk_with_room_is_as_the_simulated_one";
    compare(test, root.path(), place, (2, 20)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_with_room_is_as_the_simulated_disk() {
    let root = tempfile::tempdir_in("/dev/shm").unwrap();
    let place = Place {
        sizes: ROOMY,
        blocks_slack_bytes: Some(0),
        space_slack_bytes: None,
        fills_gaps: true,
    };
    let test = "memory_with_room_is_as_the_simulated_disk";
    compare(test, root.path(), place, (2, 20)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_that_runs_out_is_as_the_simulated_disk() {
    let test = "memory_that_runs_out_is_as_the_simulated_disk";
    let disk = match SmallDisk::mount(4) {
        Ok(disk) => disk,
        Err(reason) => return skip(test, &reason),
    };
    // Directories take a block each in the simulator.
    let slack_bytes = Some(64 * KIB);
    let place = Place {
        sizes: TIGHT,
        blocks_slack_bytes: Some(0),
        space_slack_bytes: slack_bytes,
        fills_gaps: true,
    };
    compare(test, disk.path(), place, (2, 20)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ext4_that_runs_out_is_as_the_simulated_disk() {
    let test = "an_ext4_that_runs_out_is_as_the_simulated_disk";
    let disk = match Ext4Disk::mount(8) {
        Ok(disk) => disk,
        Err(reason) => return skip(test, &reason),
    };
    // Directories and the blocks of long lists of extents.
    let place = Place {
        sizes: TIGHT,
        blocks_slack_bytes: Some(16 * KIB),
        space_slack_bytes: Some(512 * KIB),
        fills_gaps: false,
    };
    compare(test, &disk.path(), place, (1, 20)).await;
}
