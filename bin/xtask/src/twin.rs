//! The turmoil twin: another engine under the same node code, built by itself because it needs
//! tokio's unstable seed, run over small forms of some scenarios, and shown to catch what the main
//! simulator catches.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    failure::Failure,
    process, prove, report,
    scenarios::{Run, Verdict},
    workspace::Workspace,
};

/// The twin's manifest: a workspace of its own.
pub(crate) const MANIFEST: &str = "sim/turmoil/Cargo.toml";
/// The twin.
pub(crate) const PROGRAM: &str = "kura-sim-turmoil";
/// The twin with mutants in it, so that it can lie beside the one without.
pub(crate) const MUTANTS_PROGRAM: &str = "kura-sim-turmoil-mutants";
/// It refuses to compile without.
const FLAGS: &str = "--cfg tokio_unstable";

/// Seeds of each scenario. The first ones are run twice, and in two processes.
const SEEDS: std::ops::Range<u64> = 0..10;
const COMPARED: u64 = 2;

/// Mutants that the twin catches as well.
const MUTANTS: [&str; 2] = ["error_ends_the_pass", "short_body_is_served"];
/// Seeds within which it does.
const MUTANT_SEEDS: std::ops::Range<u64> = 0..20;

/// Far above what naming the scenarios takes.
const LIST_TIME_MAX: Duration = Duration::from_secs(60);

/// Builds the twin and runs what it can run; with `mutants`, also against the sources with mutants
/// in them.
///
/// # Errors
///
/// If it does not build, a run fails, two runs of one seed differ, or a mutant is not caught.
pub(crate) fn run(workspace: &Workspace, mutants: bool) -> Result<(), Failure> {
    let program = build(workspace, &workspace.path(""), PROGRAM)?;
    if prove::source::holds_mutants(&program)? {
        return Err(Failure::Unmet { what: "the twin was built with mutants in it".to_owned() });
    }
    let plays = process::output(Command::new(&program).arg("list"), LIST_TIME_MAX)?;
    for play in plays.lines() {
        let begun = Instant::now();
        for seed in SEEDS {
            passes(workspace, &program, play, seed)?;
        }
        let took = report::time(begun.elapsed());
        report::line(&format!("{play}: seeds {SEEDS:?} pass, the first {COMPARED} alike  {took}"));
    }
    if mutants { catches(workspace, plays.lines()) } else { Ok(()) }
}

fn build(workspace: &Workspace, root: &Path, program: &str) -> Result<PathBuf, Failure> {
    let begun = Instant::now();
    let target = workspace.target().join("turmoil");
    let manifest = root.join(MANIFEST);
    let cargo = |chore: &str, rest: &[&str]| {
        let mut cargo = workspace.cargo(&[chore, "--quiet", "--manifest-path"]);
        cargo.arg(&manifest).args(rest);
        cargo.env("CARGO_TARGET_DIR", &target).env("RUSTFLAGS", FLAGS);
        process::pass_through(&mut cargo)
    };
    if program == PROGRAM {
        cargo("fmt", &["--check"])?;
        cargo("clippy", &["--all-targets", "--", "-D", "warnings"])?;
    }
    cargo("build", &["--bin", program])?;
    report::line(&format!("built {program}  {}", report::time(begun.elapsed())));
    Ok(target.join("debug").join(program))
}

fn run_of<'a>(workspace: &'a Workspace, program: &'a Path, play: &'a str, seed: u64) -> Run<'a> {
    Run { workspace, program, scenario: Path::new(play), seed, settings: &[], mutant: None }
}

fn passes(workspace: &Workspace, program: &Path, play: &str, seed: u64) -> Result<(), Failure> {
    let run = run_of(workspace, program, play, seed);
    let verdict = if seed < COMPARED { run.verdict_twice()? } else { run.verdict()? };
    let differs =
        verdict.differs || seed < COMPARED && run.verdict()?.journal_hash != verdict.journal_hash;
    if verdict.passed && !differs {
        return Ok(());
    }
    let Verdict { invariant, reason, .. } = verdict;
    let how = if differs { "is not the same twice".to_owned() } else { invariant + ": " + &reason };
    Err(Failure::Unmet { what: format!("the twin's {play} with seed {seed} {how}") })
}

/// Builds the twin from the sources with all mutants in them, and wakes some.
fn catches<'a>(
    workspace: &Workspace,
    plays: impl Iterator<Item = &'a str> + Clone,
) -> Result<(), Failure> {
    let sources = prove::sources(workspace)?;
    let program = build(workspace, &sources, MUTANTS_PROGRAM)?;
    for mutant in MUTANTS {
        let (scenario, oracle) = prove::entry(workspace, mutant)?;
        if !plays.clone().any(|play| play == scenario) {
            let what = format!("small form of {scenario}, for mutant {mutant}");
            return Err(Failure::Absent { what });
        }
        let mut caught = None;
        for seed in MUTANT_SEEDS {
            let run = Run { mutant: Some(mutant), ..run_of(workspace, &program, &scenario, seed) };
            let verdict = run.verdict()?;
            if !verdict.passed {
                caught = Some((seed, verdict));
                break;
            }
        }
        let Some((seed, verdict)) = caught else {
            let what = format!("the twin does not catch {mutant} within seeds {MUTANT_SEEDS:?}");
            return Err(Failure::Unmet { what });
        };
        if verdict.invariant != oracle {
            let Verdict { invariant, reason, .. } = verdict;
            let how = format!("by {invariant}, not by {oracle}: {reason}");
            return Err(Failure::Unmet { what: format!("the twin catches {mutant} {how}") });
        }
        report::line(&format!("{mutant}: caught at seed {seed} by {oracle}"));
    }
    Ok(())
}
