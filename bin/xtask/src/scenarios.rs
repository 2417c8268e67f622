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
    parallel, process, prove, report,
    rotation::{self, PARTS},
    workspace::{Workspace, files_below},
};

/// The seeds of a full sweep.
const FULL_SEEDS: u64 = 100;
/// The same for the scenarios that the simulator was founded on: what must never happen again.
const FOUNDING_SEEDS: u64 = 500;
const FOUNDING: [&str; 5] = [
    "crash_in_rotation_window",
    "full_mesh_cold_start",
    "leaked_staging_fills_disk",
    "staging_overflow_evicts_node",
    "torn_tail_after_power_loss",
];

/// The seeds that every test run takes.
const FIXED_SEEDS: u64 = 20;
const FAST_SEEDS: &str = "0..5";

/// Scenarios that are here to be timed. One run says as much as many.
const TIMED: &str = "scenarios/speed";

/// What `kura-sim run --twice` ends with when its two runs differ.
const EXIT_DIFFERENT: i32 = 4;

/// Seeds whose runs are made again and compared.
const COMPARED_SEEDS: [u64; 2] = [1, 7];

/// Many times what one run takes.
const RUN_TIME_MAX: Duration = Duration::from_secs(300);

/// What `kura-sim run --json` prints, as far as it is read here.
#[derive(Debug, Deserialize)]
pub(crate) struct Verdict {
    /// Whether the program ended with success.
    #[serde(skip)]
    pub(crate) passed: bool,
    /// Whether the program made the run twice and saw it differ.
    #[serde(skip)]
    pub(crate) differs: bool,
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
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    /// Where the workspace lies: scenarios are named from there.
    pub(crate) workspace: &'a Workspace,
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
        self.verdict_with(&[])
    }

    /// Runs it twice in one process.
    ///
    /// # Errors
    ///
    /// As [`Run::verdict`].
    pub(crate) fn verdict_twice(&self) -> Result<Verdict, Failure> {
        self.verdict_with(&["--twice"])
    }

    fn verdict_with(&self, flags: &[&str]) -> Result<Verdict, Failure> {
        let mut command = Command::new(self.program);
        command.current_dir(self.workspace.path("")).arg("run").arg(self.scenario).args(flags);
        command.args(["--seed", &self.seed.to_string(), "--json"]);
        for setting in self.settings {
            command.args(["--set", setting]);
        }
        if let Some(name) = self.mutant {
            command.env(prove::source::VARIABLE, name);
        }
        let caught = process::catch(&mut command, RUN_TIME_MAX)?;
        let verdict: Verdict = serde_json::from_str(caught.stdout.trim()).map_err(|_| {
            report::line(caught.stderr.trim_end());
            Failure::Output { line: process::line(&command), expected: "verdict" }
        })?;
        let differs = caught.status.code() == Some(EXIT_DIFFERENT);
        Ok(Verdict { passed: caught.status.success(), differs, ..verdict })
    }
}

/// All scenario files from the root of the workspace, sorted. Mutants and the corpus of seeds are no
/// scenarios.
///
/// # Errors
///
/// If there is none, or a directory cannot be read.
pub(crate) fn files(workspace: &Workspace) -> Result<Vec<PathBuf>, Failure> {
    let root = workspace.path("");
    let below = |path: PathBuf| path.strip_prefix(&root).map(Path::to_owned).unwrap_or(path);
    let found = files_below(&workspace.path("scenarios"), ".toml")?.into_iter().map(below);
    let beside = ["scenarios/mutants", "scenarios/corpus"];
    let found: Vec<PathBuf> =
        found.filter(|path| !beside.iter().any(|directory| path.starts_with(directory))).collect();
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
    let is = |path: &PathBuf| stem(path) == name || path == Path::new(name);
    let found = files(workspace)?.into_iter().find(is);
    found.ok_or_else(|| Failure::Absent { what: format!("scenario {name}") })
}

/// Makes each run twice in one process and once more in another, and compares their journals.
///
/// # Errors
///
/// If two runs of the same seed differ.
pub(crate) fn determinism(workspace: &Workspace, artifacts: &Artifacts) -> Result<(), Failure> {
    let program = artifacts.program("kura-sim")?;
    let scenarios = files(workspace)?;
    let mut runs = Vec::new();
    for scenario in &scenarios {
        let timed = scenario.starts_with(TIMED);
        for seed in COMPARED_SEEDS.into_iter().take(if timed { 1 } else { usize::MAX }) {
            runs.push(Run { workspace, program, scenario, seed, settings: &[], mutant: None });
        }
    }
    parallel::each(&runs, is_the_same_three_times).into_iter().collect()
}

fn is_the_same_three_times(run: &Run<'_>) -> Result<(), Failure> {
    let (here, there) = (run.verdict_twice()?, run.verdict()?);
    let (name, seed) = (stem(run.scenario), run.seed);
    if here.differs || here.journal_hash != there.journal_hash {
        let place = if here.differs { "in one process" } else { "in two processes" };
        let what = format!("{name} with seed {seed} is not the same twice {place}");
        return Err(Failure::Unmet { what });
    }
    if here.verdict != "pass" {
        let what = format!("{name} with seed {seed}: {} {}", here.invariant, here.reason);
        return Err(Failure::Unmet { what });
    }
    report::line(&format!("{name} seed {seed}: {} three times", here.journal_hash));
    Ok(())
}

/// Sweeps the scenarios over the fixed seeds and over the tenth of the full range whose turn it is.
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
    let mut scenarios = files(workspace)?;
    scenarios.retain(|path| !path.starts_with(TIMED));
    if fast {
        return sweep_with(workspace, program, FAST_SEEDS, &scenarios);
    }
    sweep_with(workspace, program, &format!("0..{FIXED_SEEDS}"), &scenarios)?;
    let part = rotation::part(workspace)?;
    for (count, scenarios) in by_count(scenarios) {
        let seeds = tenth(part, count);
        report::line(&format!(
            "seeds {seeds}, by the commit; the same again: cargo xtask sweep --seeds {seeds} ..."
        ));
        sweep_with(workspace, program, &seeds, &scenarios)?;
    }
    Ok(())
}

/// The stories that are told in every way there is.
const ENUMERATED: [&str; 2] = ["crash_at_every_effect", "fault_pairs_in_a_pass"];

/// Tells of crashes at every change of the disk, and of every two faults at the points of a pass: as a whole, or the part
/// whose turn it is.
///
/// # Errors
///
/// If a run fails, or a change of the disk was left out.
pub(crate) fn enumerate(
    workspace: &Workspace,
    artifacts: &Artifacts,
    all: bool,
) -> Result<(), Failure> {
    for story in ENUMERATED {
        let mut command = Command::new(artifacts.program("kura-sim")?);
        command.current_dir(workspace.path("")).args(["enumerate", story]);
        if !all {
            let part = rotation::part(workspace)?;
            command.args(["--part", &format!("{part}/{PARTS}")]);
        }
        process::pass_through(&mut command)?;
    }
    Ok(())
}

/// That tenth of `count` seeds, without the fixed ones, whose turn it is.
fn tenth(part: u64, count: u64) -> String {
    let size = (count - FIXED_SEEDS) / PARTS;
    let from = FIXED_SEEDS + part * size;
    format!("{from}..{}", from + size)
}

/// The scenarios by how many seeds a full sweep of them has.
fn by_count(scenarios: Vec<PathBuf>) -> [(u64, Vec<PathBuf>); 2] {
    let is_founding = |path: &PathBuf| FOUNDING.contains(&stem(path).as_str());
    let (founding, others) = scenarios.into_iter().partition(is_founding);
    [(FOUNDING_SEEDS, founding), (FULL_SEEDS, others)]
}

/// Builds the simulator and sweeps the named scenarios, or all but those that are here to be timed,
/// over these seeds, or over those of a full sweep.
///
/// # Errors
///
/// If it does not build, a scenario does not exist, or a run fails.
pub(crate) fn sweep(
    workspace: &Workspace,
    seeds: Option<&str>,
    names: &[String],
) -> Result<(), Failure> {
    let artifacts = artifacts::build_simulator(workspace)?;
    let scenarios: Vec<PathBuf> = if names.is_empty() {
        files(workspace)?.into_iter().filter(|path| !path.starts_with(TIMED)).collect()
    } else {
        names.iter().map(|name| file(workspace, name)).collect::<Result<_, _>>()?
    };
    let program = artifacts.program("kura-sim")?;
    if let Some(seeds) = seeds {
        return sweep_with(workspace, program, seeds, &scenarios);
    }
    for (count, scenarios) in by_count(scenarios) {
        sweep_with(workspace, program, &format!("0..{count}"), &scenarios)?;
    }
    Ok(())
}

fn sweep_with(
    workspace: &Workspace,
    program: &Path,
    seeds: &str,
    scenarios: &[PathBuf],
) -> Result<(), Failure> {
    if scenarios.is_empty() {
        return Ok(());
    }
    let mut command = Command::new(program);
    command.current_dir(workspace.path("")).arg("sweep").args(scenarios).args(["--seeds", seeds]);
    process::pass_through(&mut command)
}

/// The name of a scenario: its file without directory and ending.
pub(crate) fn stem(scenario: &Path) -> String {
    scenario.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenths_cover_what_is_not_fixed() {
        assert_eq!((tenth(0, 100), tenth(9, 100)), ("20..28".to_owned(), "92..100".to_owned()));
        assert_eq!((tenth(0, 500), tenth(9, 500)), ("20..68".to_owned(), "452..500".to_owned()));
    }

    #[test]
    fn the_founding_scenarios_are_there() {
        let incidents = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios/incidents");
        for name in FOUNDING {
            assert!(incidents.join(format!("{name}.toml")).is_file(), "{name}");
        }
    }
}
