//! Proof that the checks can fail: each mutant brings one known bug back, and the oracle that it
//! names must be the first to report it.
//!
//! A mutant is a legal but bad setting, or a patch. All patches go into one scratch copy of the
//! sources, each behind a question for its own name, so one build holds them all. A mutant is
//! caught when one of its seeds fails by its oracle; the same seeds must pass without it.

mod registry;
pub(crate) mod source;

use std::path::{Path, PathBuf};

use crate::{
    artifacts::{self, Artifacts},
    failure::Failure,
    parallel, report,
    scenarios::{self, Run, Verdict},
    workspace::Workspace,
};
use registry::{Change, Mutant};

/// Which mutants to try.
pub(crate) enum Choice {
    /// Every one.
    All,
    /// The first three, those changed since the last commit, and a rotating tenth.
    Rotating,
    /// These.
    Named(Vec<String>),
}

/// The programs to run: as it is, and with all patches in it.
struct Programs {
    plain: PathBuf,
    patched: Option<PathBuf>,
}

/// What became of one mutant.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// Its oracle reported first, at this seed.
    Caught { seed: u64 },
    /// Something else happened; the text says what.
    Missed(String),
}

/// Builds the simulator and proves the chosen mutants.
///
/// # Errors
///
/// As [`prove`], or if it does not build.
pub(crate) fn run(workspace: &Workspace, choice: &Choice) -> Result<(), Failure> {
    let artifacts = artifacts::build_simulator(workspace)?;
    prove(workspace, &artifacts, choice)
}

/// Proves the chosen mutants and prints a table.
///
/// # Errors
///
/// If the registry is wrong, a patch does not apply, or a mutant is not caught by its oracle.
pub(crate) fn prove(
    workspace: &Workspace,
    artifacts: &Artifacts,
    choice: &Choice,
) -> Result<(), Failure> {
    let registry = registry::load(workspace)?;
    let chosen = registry::choose(workspace, &registry, choice)?;
    report::line(&format!("{} of {} mutants", chosen.len(), registry.len()));
    let patched = chosen.iter().any(|mutant| mutant.patch().is_some());
    let programs = Programs {
        plain: artifacts.program("kura-sim")?.to_owned(),
        patched: if patched { Some(source::build(workspace, &registry)?) } else { None },
    };
    // Both programs come from one target directory; were a library of one taken for that of the other,
    // every outcome below would be worthless.
    let patched = programs.patched.as_deref().map(source::holds_mutants).transpose()?;
    if source::holds_mutants(&programs.plain)? || patched == Some(false) {
        return Err(Failure::Unmet {
            what: "the builds with and without mutants got mixed".to_owned(),
        });
    }
    let outcomes = parallel::each(&chosen, |mutant| try_one(workspace, &programs, mutant));
    let outcomes = outcomes.into_iter().collect::<Result<Vec<Outcome>, Failure>>()?;
    let rows: Vec<Vec<String>> =
        chosen.iter().zip(&outcomes).map(|(mutant, outcome)| row(mutant, outcome)).collect();
    report::table(&["mutant", "scenario", "oracle", "outcome"], &rows);
    let missed = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Missed(_))).count();
    if missed > 0 {
        return Err(Failure::Unmet {
            what: format!("{missed} of {} mutants were not caught by their oracle", chosen.len()),
        });
    }
    Ok(())
}

/// The sources with all mutants in them, for another program than the simulator.
///
/// # Errors
///
/// If the registry is wrong or a patch does not apply.
pub(crate) fn sources(workspace: &Workspace) -> Result<PathBuf, Failure> {
    source::prepare(workspace, &registry::load(workspace)?)
}

/// The scenario and the oracle of a mutant.
///
/// # Errors
///
/// If the registry has none of that name.
pub(crate) fn entry(workspace: &Workspace, name: &str) -> Result<(String, String), Failure> {
    let found = registry::load(workspace)?.into_iter().find(|mutant| mutant.name == name);
    let mutant = found.ok_or_else(|| Failure::Absent { what: format!("mutant {name}") })?;
    Ok((mutant.scenario, mutant.oracle))
}

fn row(mutant: &Mutant, outcome: &Outcome) -> Vec<String> {
    let outcome = match outcome {
        Outcome::Caught { seed } => format!("caught at seed {seed}"),
        Outcome::Missed(how) => format!("MISSED: {how}"),
    };
    vec![mutant.name.clone(), mutant.scenario.clone(), mutant.oracle.clone(), outcome]
}

fn try_one(
    workspace: &Workspace,
    programs: &Programs,
    mutant: &Mutant,
) -> Result<Outcome, Failure> {
    let scenario = scenarios::file(workspace, &mutant.scenario)?;
    let (program, changed): (&Path, &[String]) = match (&mutant.change, &programs.patched) {
        (Change::Settings(settings), _) => (&programs.plain, settings),
        (Change::Patch(_), Some(patched)) => (patched, &[]),
        (Change::Patch(_), None) => return Ok(Outcome::Missed("not built".to_owned())),
    };
    let name = mutant.patch().map(|_| mutant.name.as_str());
    let settings = [&mutant.with, changed].concat();
    for seed in mutant.seeds.clone() {
        let scenario = scenario.as_path();
        let clean =
            Run { workspace, program, scenario, seed, settings: &mutant.with, mutant: None };
        let without = clean.verdict()?;
        let with = Run { settings: &settings, mutant: name, ..clean }.verdict()?;
        if let Some(outcome) = judge(&mutant.oracle, seed, &without, &with) {
            return Ok(outcome);
        }
    }
    Ok(Outcome::Missed(format!("no seed of {:?} failed", mutant.seeds)))
}

/// What a seed says about a mutant; nothing if the run passes with it, as without.
fn judge(oracle: &str, seed: u64, without: &Verdict, with: &Verdict) -> Option<Outcome> {
    if !without.passed {
        return Some(Outcome::Missed(format!("seed {seed} fails without it: {}", why(without))));
    }
    if with.passed {
        return None;
    }
    Some(if with.invariant == oracle {
        Outcome::Caught { seed }
    } else {
        Outcome::Missed(format!("seed {seed} failed otherwise: {}", why(with)))
    })
}

fn why(verdict: &Verdict) -> String {
    let Verdict { verdict, invariant, reason, .. } = verdict;
    format!("{verdict} by {invariant:?}: {}", reason.lines().next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(invariant: Option<&str>) -> Verdict {
        Verdict {
            passed: invariant.is_none(),
            differs: false,
            verdict: "v".to_owned(),
            invariant: invariant.unwrap_or_default().to_owned(),
            reason: String::new(),
            journal_hash: String::new(),
        }
    }

    #[test]
    fn only_its_own_oracle_catches_a_mutant() {
        let with = |invariant| judge("mine", 3, &verdict(None), &verdict(invariant));
        assert_eq!(with(Some("mine")), Some(Outcome::Caught { seed: 3 }));
        assert!(matches!(with(Some("other")), Some(Outcome::Missed(_))));
        assert_eq!(with(None), None);
    }

    #[test]
    fn a_scenario_that_fails_anyway_proves_nothing() {
        let outcome = judge("mine", 3, &verdict(Some("mine")), &verdict(Some("mine")));
        assert!(matches!(outcome, Some(Outcome::Missed(_))), "{outcome:?}");
    }
}
