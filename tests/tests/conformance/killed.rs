//! A process that commits, and is killed: this one again, with a job in its environment.

use std::{
    env,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use futures_util::{StreamExt as _, stream};
use kura_env::Catalog;
use kura_host::HostCatalog;

use crate::{catalog, draws::Draws, rows::SPACES};

/// The job of a process that is to be killed.
const VARIABLE: &str = "KURA_CONFORMANCE_JOB";
/// The test that does the job instead.
const TEST: &str = "catalog::fjall_in_a_process_that_is_killed_is_as_the_simulated_catalog";
/// In front of how many were acknowledged.
const SAID: &str = "acknowledged ";
/// Commits under way at once, and so at most as many that are there and not acknowledged.
pub(crate) const UNDER_WAY_MAX: usize = 4;

/// The numbers of the batches of a job.
pub(crate) fn batches(first: u64, count: usize) -> Vec<u64> {
    let mut draws = Draws(first);
    (0..count).map(|_| draws.next()).collect()
}

/// Commits them in their order, several at once; after each, `told` learns how many were acknowledged.
pub(crate) async fn commit_all(
    catalog: &dyn Catalog,
    batches: &[u64],
    mut told: impl FnMut(usize),
) {
    let commit = |number: &u64| {
        let (batch, durability) = catalog::batch(*number);
        catalog.commit(batch, durability)
    };
    let mut commits = stream::iter(batches).map(commit).buffered(UNDER_WAY_MAX);
    let mut acknowledged = 0;
    while let Some(done) = commits.next().await {
        done.expect("there is room");
        acknowledged += 1;
        told(acknowledged);
    }
}

pub(crate) struct Job {
    pub(crate) directory: PathBuf,
    pub(crate) first: u64,
    pub(crate) count: usize,
}

impl Job {
    /// What this process was started for, if for anything but to test.
    pub(crate) fn of_this_process() -> Option<Self> {
        let job = env::var(VARIABLE).ok()?;
        let (first, rest) = job.split_once(' ')?;
        let (count, directory) = rest.split_once(' ')?;
        let (first, count) = (first.parse().ok()?, count.parse().ok()?);
        Some(Self { directory: Path::new(directory).to_owned(), first, count })
    }

    /// Does it.
    #[allow(
        clippy::print_stdout,
        reason = "whoever kills this process reads what was acknowledged"
    )]
    pub(crate) async fn commit(&self) {
        let catalog = HostCatalog::new(&self.directory, &SPACES).expect("there are threads");
        catalog.open().await.expect("whoever had it open has closed it");
        let batches = batches(self.first, self.count);
        // The harness may have begun a line.
        commit_all(&catalog, &batches, |acknowledged| println!("\n{SAID}{acknowledged}")).await;
    }

    /// Has another process do it and kills that once so many were acknowledged. Gives how many were when
    /// it was dead.
    pub(crate) fn kill_after(&self, acknowledged: usize) -> usize {
        let this = env::current_exe().expect("a running program has a path");
        let job = format!("{} {} {}", self.first, self.count, self.directory.display());
        let mut command = Command::new(this);
        command.args(["--exact", TEST, "--nocapture", "--test-threads=1"]).env(VARIABLE, job);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("this program starts again");
        let mut said = 0;
        let mut is_killed = false;
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        // To the end: what it said before it died was acknowledged.
        for line in lines {
            let line = line.expect("its words are text");
            said = line.strip_prefix(SAID).map_or(said, |n| n.parse().expect("a number"));
            if said > acknowledged && !is_killed {
                child.kill().expect("it has not been waited for");
                is_killed = true;
            }
        }
        child.wait().expect("a child can be waited for");
        assert!(said > acknowledged, "it ended by itself after {said} of {}", self.count);
        said
    }
}
