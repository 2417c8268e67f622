//! Running scenarios by `kura-sim`: each twice to see that a seed decides everything, and over
//! ranges of seeds to see that the invariants hold.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde::Deserialize;

use crate::{
    artifacts::{self, Artifacts},
    failure::Failure,
    process, report,
    rotation::{self, PARTS},
    workspace::{Workspace, files_below},
};

/// The seeds of a full sweep.
pub(crate) const FULL_SEEDS: &str = "0..500";
const FULL_SEEDS_COUNT: u64 = 500;

/// The seeds that every test run takes.
const FIXED_SEEDS: &str = "0..20";
const FAST_SEEDS: &str = "0..5";

/// Seeds whose runs are made twice and compared.
const COMPARED_SEEDS: [u64; 2] = [1, 7];

/// Many times what one run takes.
const RUN_TIME_MAX: Duration = Duration::from_secs(300);

/// What `kura-sim run --json` prints, as far as it is read here.
#[derive(Debug, Deserialize)]
pub(crate) struct Verdict {
    /// Whether the program said so by its exit status.
    #[serde(skip)]
    pub(crate) passed: bool,
    /// `pass`, or how the run failed.
    pub(crate) verdict: String,
    /// The invariant that reported first; empty if none did.
    pub(crate) invariant: String,
    /// What it said; empty if it said nothing.
    pub(crate) reason: String,
    /// Rolling hash over all events.
    pub(crate) journal_hash: String,
}

/// One run to make.
pub(crate) struct Run<'a> {
    /// The program, which may be one with mutants in it.
    pub(crate) program: &'a Path,
    /// The scenario's file.
    pub(crate) scenario: &'a Path,
    /// The seed.
    pub(crate) seed: u64,
    /// Settings that differ from the scenario's: `key=value`.
    pub(crate) settings: &'a [String],
    /// The mutant to switch on.
    pub(crate) mutant: Option<&'a str>,
}

impl Run<'_> {
    /// Runs it. A violated invariant is an answer, not an error.
    ///
    /// # Errors
    ///
    /// If the program does not run, refuses its arguments, or prints no verdict.
    pub(crate) fn verdict(&self) -> Result<Verdict, Failure> {
        let mut command = Command::new(self.program);
        command.arg("run").arg(self.scenario).args(["--seed", &self.seed.to_string(), "--json"]);
        for setting in self.settings {
            command.args(["--set", setting]);
        }
        if let Some(name) = self.mutant {
            command.env("KURA_MUTANT", name);
        }
        let caught = process::catch(&mut command, RUN_TIME_MAX)?;
        let text = caught.stdout.trim();
        let verdict: Verdict = serde_json::from_str(text).map_err(|_| {
            report::line(caught.stderr.trim_end());
            Failure::Output { line: process::line(&command), expected: "verdict" }
        })?;
        Ok(Verdict { passed: caught.status.success(), ..verdict })
    }
}

/// All scenario files, sorted. Mutants and the corpus of seeds are no scenarios.
///
/// # Errors
///
/// If there is none, or a directory cannot be read.
pub(crate) fn files(workspace: &Workspace) -> Result<Vec<PathBuf>, Failure> {
    let mut found = files_below(&workspace.path("scenarios"), ".toml")?;
    let beside = [workspace.path("scenarios/mutants"), workspace.path("scenarios/corpus")];
    found.retain(|path| !beside.iter().any(|directory| path.starts_with(directory)));
    if found.is_empty() {
        return Err(Failure::Absent { what: "scenario".to_owned() });
    }
    Ok(found)
}

/// The file of a scenario given by name or path.
///
/// # Errors
///
/// If no scenario is called that.
pub(crate) fn file(workspace: &Workspace, name: &str) -> Result<PathBuf, Failure> {
    let is = |path: &PathBuf| {
        path.file_stem().is_some_and(|stem| stem == name) || *path == workspace.path(name)
    };
    let found = files(workspace)?.into_iter().find(is);
    found.ok_or_else(|| Failure::Absent { what: format!("scenario {name}") })
}

/// Makes each run in two processes and compares their journals.
///
/// # Errors
///
/// If two runs of the same seed differ.
pub(crate) fn determinism(workspace: &Workspace, artifacts: &Artifacts) -> Result<(), Failure> {
    let program = artifacts.program("kura-sim")?;
    for scenario in files(workspace)? {
        for seed in COMPARED_SEEDS {
            let run = Run { program, scenario: &scenario, seed, settings: &[], mutant: None };
            let (first, second) = (run.verdict()?, run.verdict()?);
            let name = stem(&scenario);
            if first.journal_hash != second.journal_hash {
                return Err(Failure::Unmet {
                    what: format!(
                        "{name} with seed {seed} is not deterministic: {} and {}; write both \
                         journals with `kura-sim run --out` and compare them with `kura-sim diff`",
                        first.journal_hash, second.journal_hash
                    ),
                });
            }
            report::line(&format!("{name} seed {seed}: {} twice", first.journal_hash));
        }
    }
    Ok(())
}

/// Sweeps all scenarios over the fixed seeds and over the tenth of the full range whose turn it is.
///
/// # Errors
///
/// If a run fails.
pub(crate) fn test(
    workspace: &Workspace,
    artifacts: &Artifacts,
    fast: bool,
) -> Result<(), Failure> {
    let program = artifacts.program("kura-sim")?;
    let scenarios = files(workspace)?;
    if fast {
        return sweep_with(workspace, program, FAST_SEEDS, &scenarios);
    }
    sweep_with(workspace, program, FIXED_SEEDS, &scenarios)?;
    let size = FULL_SEEDS_COUNT / PARTS;
    let from = rotation::part(workspace)? * size;
    let seeds = format!("{from}..{}", from + size);
    report::line(&format!(
        "seeds {seeds}, by the commit; the same with `cargo xtask sweep --seeds {seeds}`"
    ));
    sweep_with(workspace, program, &seeds, &scenarios)
}

/// Builds the simulator and sweeps the named scenarios, or all.
///
/// # Errors
///
/// If it does not build, a scenario does not exist, or a run fails.
pub(crate) fn sweep(workspace: &Workspace, seeds: &str, names: &[String]) -> Result<(), Failure> {
    let artifacts = artifacts::build_simulator(workspace)?;
    let scenarios = if names.is_empty() {
        files(workspace)?
    } else {
        names.iter().map(|name| file(workspace, name)).collect::<Result<_, _>>()?
    };
    sweep_with(workspace, artifacts.program("kura-sim")?, seeds, &scenarios)
}

fn sweep_with(
    workspace: &Workspace,
    program: &Path,
    seeds: &str,
    scenarios: &[PathBuf],
) -> Result<(), Failure> {
    let mut command = Command::new(program);
    command.current_dir(workspace.path("")).arg("sweep").args(scenarios).args(["--seeds", seeds]);
    process::pass_through(&mut command)
}

/// The name of a scenario: its file without directory and ending.
pub(crate) fn stem(scenario: &Path) -> String {
    scenario.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}
