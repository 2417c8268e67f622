//! The scenarios on disk: finding them and reading them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use sim::{invariants, scenario, scenario::Document};

use crate::{Failure, show::say};

/// Where scenarios lie, below the directory that the program runs in.
const SCENARIOS: &str = "scenarios";
/// What lies there and is no scenario.
const BESIDE: [&str; 2] = ["mutants", "corpus"];

/// A scenario and where it was read.
pub(crate) struct Found {
    /// As it was named, for replaying.
    pub(crate) path: String,
    /// What it says.
    pub(crate) document: Document,
    /// Its text, to notice when it changes.
    pub(crate) text: String,
}

/// Reads a scenario by its path, or by its name if there is no such path.
pub(crate) fn find(wanted: &str) -> Result<Found, Failure> {
    let path = PathBuf::from(wanted);
    if path.is_file() {
        return read(&path);
    }
    let named = all()?.into_iter().find(|path| path.file_stem().is_some_and(|stem| stem == wanted));
    match named {
        Some(path) => read(&path),
        None => Err(Failure::Usage(format!(
            "{wanted} is neither a file nor the name of a scenario below {SCENARIOS}/; `kura-sim \
             list` names them"
        ))),
    }
}

fn read(path: &Path) -> Result<Found, Failure> {
    let name = path.display().to_string();
    let text = fs::read_to_string(path).map_err(|error| Failure::Io(name.clone(), error))?;
    let wrong = |error: scenario::ScenarioError| Failure::Usage(error.to_string());
    let document = scenario::read(&name, &text).map_err(wrong)?;
    scenario::Scenario::of(&document, 0).map_err(wrong)?;
    Ok(Found { path: name, document, text })
}

/// Every scenario file, sorted.
fn all() -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    let mut directories = vec![PathBuf::from(SCENARIOS)];
    while let Some(directory) = directories.pop() {
        let failed = |error| Failure::Io(directory.display().to_string(), error);
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.is_dir() {
                let is_beside = BESIDE.iter().any(|name| path.ends_with(name));
                directories.extend((!is_beside).then_some(path));
            } else if path.extension().is_some_and(|extension| extension == "toml") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Names every scenario with its story, and every invariant.
pub(crate) fn list() -> Result<u8, Failure> {
    for path in all()? {
        let Found { path, document, .. } = read(&path)?;
        say(&path)?;
        for line in document.story.lines() {
            say(&format!("    {line}"))?;
        }
    }
    say(&"\nInvariants, checked in every run:")?;
    for invariant in invariants::ALL {
        say(&format!("    {}: {}", invariant.name, invariant.demands))?;
    }
    Ok(0)
}

/// Prints the tables of the documentation.
pub(crate) fn schema() -> Result<u8, Failure> {
    say(&scenario::markdown())?;
    say(&invariants::markdown().trim_end())?;
    Ok(0)
}
