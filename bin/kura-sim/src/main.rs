//! The simulator's program: lists, runs, sweeps and compares.
//!
//! Exit 0: all passed. 1: an invariant was violated. 2: usage. 3: a node did not heal within its
//! bound. 4: two runs that should be equal differ.

mod capsule;
mod diff;
mod enumerate;
mod execute;
mod library;
mod pairs;
mod run;
mod show;
mod sweep;
mod twin;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

/// A run makes and drops millions of small things on one thread; see `docs/performance.md`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit code for what the user got wrong.
const EXIT_USAGE: u8 = 2;

#[derive(Parser)]
#[command(name = "kura-sim", version, about = "Runs Kura in simulated worlds, from seeds.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lists the scenarios and the invariants.
    List,
    /// Runs one scenario under one seed and says what it came to and how fast.
    Run(run::RunArguments),
    /// Runs scenarios under many seeds; goes on where it stopped.
    Sweep(sweep::SweepArguments),
    /// Tells one story with a crash at every change of the disk in turn, and a second one in recovery; or one with
    /// strikes with every pair of them.
    Enumerate(enumerate::EnumerateArguments),
    /// Prints the fields of scenario files and the invariants as `docs/simulation.md` holds them.
    Schema,
    /// Shows the first event in which two journals differ.
    Diff {
        /// A journal, as a capsule holds it.
        first: PathBuf,
        /// Another one.
        second: PathBuf,
    },
}

/// What a command can fail with beside a verdict.
#[derive(Debug)]
enum Failure {
    /// A scenario or an argument is wrong.
    Usage(String),
    /// A file or a stream of the program's own failed.
    Io(String, std::io::Error),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Usage(what) => f.write_str(what),
            Self::Io(what, error) => write!(f, "{what}: {error}"),
        }
    }
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::List => library::list(),
        Command::Run(arguments) => run::run(&arguments),
        Command::Sweep(arguments) => sweep::sweep(&arguments),
        Command::Enumerate(arguments) => enumerate::enumerate(&arguments),
        Command::Schema => library::schema(),
        Command::Diff { first, second } => diff::diff(&first, &second),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        // Whoever read our output has gone: nothing is left to say.
        Err(Failure::Io(_, error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(failure) => {
            show::complain(&failure);
            ExitCode::from(EXIT_USAGE)
        }
    }
}
