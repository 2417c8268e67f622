//! The same drawn operations on the simulated catalog and on fjall: on a disk that runs out of space at
//! times, and in a process that is killed at times.

use std::{fs, path::Path};

use kura_env::{Batch, CommitDurability};
use kura_tests::{skip::skip, small_disk::SmallDisk};

use crate::{
    catalog_pair::CatalogPair,
    differences::Met,
    draws::Draws,
    killed,
    rows::{self, SPACES},
    run::{self, OPERATIONS, Round},
};

#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Commit {
        batch: u64,
    },
    Get {
        space: usize,
        key: u64,
    },
    Range {
        space: usize,
        from: u64,
        to: u64,
        rows_max: usize,
    },
    Close,
    Open,
    SetAside,
    /// Somebody else takes all the space that is left.
    Fill,
    /// And gives it back.
    Relieve,
    /// A process commits so many batches and is killed when some have been acknowledged.
    Kill {
        batches: u64,
        count: usize,
        acknowledged: usize,
    },
}

/// What may befall a catalog beside what is asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    FullDisk,
    Killed,
}

impl Operation {
    fn draw(draws: &mut Draws, fate: Fate) -> Self {
        let space = draws.index(SPACES.len());
        match draws.below(200) {
            0..90 => Self::Commit { batch: draws.next() },
            90..130 => Self::Get { space, key: draws.below(rows::KEYS) },
            130..170 => {
                let (from, to) = (draws.below(rows::KEYS), draws.below(rows::KEYS));
                let rows_max = draws.one_of(&[0, 1, 10, usize::MAX]);
                Self::Range { space, from, to, rows_max }
            }
            170..172 => Self::Close,
            172..184 => Self::Open,
            184 => Self::SetAside,
            185..192 if fate == Fate::FullDisk => Self::Fill,
            192..196 if fate == Fate::FullDisk => Self::Relieve,
            185..188 => {
                let count = 1 + draws.index(40);
                Self::Kill { batches: draws.next(), count, acknowledged: draws.index(count) }
            }
            _ => Self::Commit { batch: draws.next() },
        }
    }
}

/// The batch that a number stands for, and what its commit waits for.
pub(crate) fn batch(number: u64) -> (Batch, CommitDurability) {
    let mut draws = Draws(number);
    let mut batch = Batch::default();
    for _ in 0..draws.below(8) {
        let (space, key) = (SPACES[draws.index(SPACES.len())], draws.below(rows::KEYS));
        if draws.below(3) == 0 {
            batch.delete(space, rows::key(key));
        } else {
            let len = draws.one_of(&[0, 8, 100, 3000, 30_000]);
            batch.put(space, rows::key(key), draws.bytes(len));
        }
    }
    let is_synced = draws.below(8) == 0;
    (batch, if is_synced { CommitDurability::Synced } else { CommitDurability::Buffered })
}

/// Does the operations of one round on both.
async fn compare_once(round: &Round, fate: Fate, pair: &mut CatalogPair<'_>) {
    let mut draws = round.draws(0);
    let mut operations = Vec::new();
    for _ in 0..OPERATIONS {
        let operation = Operation::draw(&mut draws, fate);
        operations.push(operation.clone());
        if let Err(error) = pair.step(&operation).await {
            round.fail(&operations, &error);
        }
    }
    if let Err(error) = pair.end().await {
        round.fail(&operations, &error);
    }
}

async fn compare(test: &str, root: &Path, disk: Option<&SmallDisk>, (brief, full): (u64, u64)) {
    let fate = if disk.is_some() { Fate::FullDisk } else { Fate::Killed };
    let (mut met, mut blows) = (Met::default(), 0);
    for round in run::rounds(test, brief, full) {
        let directory = root.join("round");
        fs::create_dir(&directory).expect("it can be made");
        let mut pair = CatalogPair::new(&directory, disk, round.seed).await;
        compare_once(&round, fate, &mut pair).await;
        met.add(&pair.met);
        blows += pair.blows;
        drop(pair);
        fs::remove_dir_all(&directory).expect("it can be removed");
    }
    eprintln!("{test}: {fate:?} {blows} times, met {met:?}");
    assert!(blows >= brief * 5, "only {blows} times {fate:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fjall_on_a_disk_that_runs_out_is_as_the_simulated_catalog() {
    let test = "fjall_on_a_disk_that_runs_out_is_as_the_simulated_catalog";
    match SmallDisk::mount(256) {
        Ok(disk) => compare(test, disk.path(), Some(&disk), (1, 10)).await,
        Err(reason) => skip(test, &reason),
    }
}

/// The test, and the process that it starts and kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fjall_in_a_process_that_is_killed_is_as_the_simulated_catalog() {
    if let Some(job) = killed::Job::of_this_process() {
        return job.commit().await;
    }
    let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let test = "fjall_in_a_process_that_is_killed_is_as_the_simulated_catalog";
    compare(test, root.path(), None, (1, 10)).await;
}
