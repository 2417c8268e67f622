//! A second opinion on the same node code: turmoil's executor, time and TCP instead of our own, with
//! our simulated device and catalog underneath, and the invariants of the main simulator.
//!
//! Exit codes are those of `kura-sim`: 0 passed, 1 violated, 2 usage, 3 not healed, 4 two runs of one
//! seed differ.

// RUSTFLAGS replaces what a configuration file says without a word, and without this flag the order
// of tasks would follow no seed.
#[cfg(not(tokio_unstable))]
compile_error!(
    "needs RUSTFLAGS=\"--cfg tokio_unstable\", and a target directory of its own: \
     CARGO_TARGET_DIR=target/turmoil"
);

mod checks;
mod clock;
mod entropy;
mod journal;
mod machine;
mod net;
mod stories;
mod tasks;
mod world;

use std::{io::Write as _, process::ExitCode, thread, time::Instant};

use clap::{Parser, Subcommand};
use serde::Serialize;
use sim::report::{EXIT_DIFFERENT, RunReport, Verdict};

use world::Play;

/// The exit code for what the user got wrong.
const EXIT_USAGE: u8 = 2;
/// Enough for the deepest nesting of futures in an unoptimised build.
const STACK_BYTES: usize = 16 << 20;

#[derive(Parser)]
#[command(name = "kura-sim-turmoil", version, about = "Runs small scenarios over turmoil.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Names the scenarios that have a small form here.
    List,
    /// Runs one scenario under one seed and says what it came to.
    Run {
        /// The scenario, by its name or its file.
        scenario: String,
        /// From which everything is drawn.
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// Prints one line of JSON instead of text.
        #[arg(long)]
        json: bool,
        /// Runs twice and compares: the same seed must do the same.
        #[arg(long)]
        twice: bool,
    },
}

/// A run and how long it took, with the fields that `kura-sim` prints.
#[derive(Serialize)]
struct Timed {
    #[serde(flatten)]
    report: RunReport,
    wall_seconds: f64,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::List => stories::PLAYS.iter().try_for_each(|play| say(play.scenario)).map(|()| 0),
        Command::Run { scenario, seed, json, twice } => run(&scenario, seed, (json, twice)),
    };
    result.map_or_else(
        |problem| {
            complain(&problem);
            ExitCode::from(EXIT_USAGE)
        },
        ExitCode::from,
    )
}

fn complain(problem: &str) {
    // Nobody is left to be told where standard error is closed.
    writeln!(std::io::stderr(), "kura-sim-turmoil: {problem}").ok();
}

fn say(line: &str) -> Result<(), String> {
    writeln!(std::io::stdout(), "{line}").map_err(|error| error.to_string())
}

fn run(scenario: &str, seed: u64, (json, twice): (bool, bool)) -> Result<u8, String> {
    let stem = std::path::Path::new(scenario).file_stem().unwrap_or_default();
    let play = stories::PLAYS.iter().find(|play| stem == play.scenario);
    let Some(play) = play else {
        return Err(format!("{scenario} has no small form; `kura-sim-turmoil list` names those"));
    };
    let timed = execute(play, seed)?;
    if json {
        say(&serde_json::to_string(&timed).map_err(|error| error.to_string())?)?;
    } else {
        say(&text(&timed))?;
    }
    if twice {
        let again = execute(play, seed)?;
        if again.report != timed.report {
            let hashes = (&timed.report.journal_hash, &again.report.journal_hash);
            complain(&format!("two runs differ: {} and then {}", hashes.0, hashes.1));
            return Ok(EXIT_DIFFERENT);
        }
    }
    Ok(timed.report.verdict.exit_code())
}

/// Runs a play on a fresh thread: what the engine keeps by thread does not outlive it.
fn execute(play: &'static Play, seed: u64) -> Result<Timed, String> {
    let work = move || {
        let begun = Instant::now();
        let report = world::run(play, seed);
        Timed { report, wall_seconds: begun.elapsed().as_secs_f64() }
    };
    let thread = thread::Builder::new().name("run".to_owned()).stack_size(STACK_BYTES);
    let running = thread.spawn(work).map_err(|error| error.to_string())?;
    // Its message is on standard error already.
    running.join().map_err(|_| format!("a panic under seed {seed}"))
}

fn text(timed: &Timed) -> String {
    let Timed { report, wall_seconds } = timed;
    let timeline =
        if report.verdict == Verdict::Pass { String::new() } else { report.timeline.clone() };
    format!(
        "{timeline}{} seed {}: {:?} {} {}\n{:.1} s in {wall_seconds:.1} s, {} events, {} hits, history {}",
        report.scenario,
        report.seed,
        report.verdict,
        report.invariant,
        report.reason,
        report.sim_seconds,
        report.events,
        report.hits,
        report.journal_hash,
    )
}
