//! The project's chores: test, sweep, prove, twin, endure, bench. Light on purpose, because it is built before
//! anything else; what it needs of Kura it runs as a program.

mod artifacts;
mod bench;
mod endure;
mod failure;
mod parallel;
mod process;
mod prove;
mod report;
mod rotation;
mod scenarios;
mod setup;
mod skips;
mod suites;
mod test;
mod twin;
mod workspace;

use std::{env, process::ExitCode};

use clap::{Parser, Subcommand};

use failure::Failure;
use workspace::Workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Test, sweep, prove and measure Kura")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Everything that must pass before a change lands; installs what it needs
    Test {
        /// Only format, clippy, suites and the fixed seeds: no proof, no real processes
        #[arg(long)]
        fast: bool,
    },
    /// Scenarios over a range of seeds
    Sweep {
        /// Seeds A..B, B excluded; without it 0..100, and 0..500 for those that it was founded on
        #[arg(long)]
        seeds: Option<String>,
        /// Scenario files or names; all incidents if none is given
        scenarios: Vec<String>,
    },
    /// One story with a crash at every change of the disk in turn and a second one in recovery, and one with every two
    /// faults at the points of a pass
    Enumerate,
    /// Shows that each mutant is caught by its own oracle
    Prove {
        /// All mutants; else the first three, the changed ones and a rotating tenth
        #[arg(long, conflicts_with = "names")]
        all: bool,
        /// These mutants only
        names: Vec<String>,
    },
    /// Builds the turmoil twin and runs it over its scenarios
    Twin {
        /// Also shows that it catches mutants
        #[arg(long)]
        mutants: bool,
    },
    /// Kills, power cuts and freezes of a real node, and the simulator beside real disks, in full; takes the
    /// right to mount
    Endure {
        /// kills, power_cuts, freeze; all if none is named
        names: Vec<String>,
    },
    /// Measures the store on this machine's disk
    Bench {
        /// store, scale, restart, reconcile; all if none is named
        names: Vec<String>,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments.chore) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            report::line(&format!("\nxtask: {}", failure::chain(&failure)));
            ExitCode::FAILURE
        }
    }
}

fn run(chore: &Chore) -> Result<(), Failure> {
    let workspace = Workspace::find()?;
    match chore {
        Chore::Test { fast } => {
            let strict = env::var("CI").is_ok_and(|value| value == "true");
            test::run(&workspace, *fast, strict)
        }
        Chore::Sweep { seeds, scenarios } => {
            scenarios::sweep(&workspace, seeds.as_deref(), scenarios)
        }
        Chore::Enumerate => {
            let artifacts = artifacts::build_simulator(&workspace)?;
            scenarios::enumerate(&workspace, &artifacts, true)
        }
        Chore::Prove { all, names } => {
            let choice = match (all, names.is_empty()) {
                (true, _) => prove::Choice::All,
                (false, true) => prove::Choice::Rotating,
                (false, false) => prove::Choice::Named(names.clone()),
            };
            prove::run(&workspace, &choice)
        }
        Chore::Twin { mutants } => twin::run(&workspace, *mutants),
        Chore::Endure { names } => endure::run(&workspace, names),
        Chore::Bench { names } => bench::run(&workspace, names),
    }
}
