//! The registry of mutants, `scenarios/mutants/mutants.toml`, and which of them a run tries.

use std::{collections::BTreeMap, ops::Range};

use serde::Deserialize;

use super::Choice;
use crate::{failure::Failure, report, rotation, workspace::Workspace};

/// The registry's file.
pub(crate) const FILE: &str = "scenarios/mutants/mutants.toml";

/// Where its patches lie.
pub(crate) const DIRECTORY: &str = "scenarios/mutants";

/// These run every time: they stand for the incidents that founded the project.
const ALWAYS: usize = 3;

/// One known bug, and who must notice it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mutant {
    /// Its name: the name that its patch asks for.
    pub(crate) name: String,
    /// The scenario in which it shows.
    pub(crate) scenario: String,
    /// The invariant that must report first.
    pub(crate) oracle: String,
    /// The seeds to try, in order, until one fails.
    pub(crate) seeds: Range<u64>,
    /// What is set in the scenario, without it as with it: one of the runs of an enumeration, say.
    pub(crate) with: Vec<String>,
    /// What brings the bug back.
    pub(crate) change: Change,
}

/// What brings a bug back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Legal but bad settings, as `key=value`.
    Settings(Vec<String>),
    /// A patch beside the registry.
    Patch(String),
}

impl Mutant {
    /// The file name of its patch, if it is one.
    pub(crate) fn patch(&self) -> Option<&str> {
        match &self.change {
            Change::Patch(file) => Some(file),
            Change::Settings(_) => None,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    mutant: Vec<Entry>,
    /// Read by the tidy test alone.
    #[serde(default, rename = "exempt")]
    _exempt: Vec<toml::Table>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    /// For readers.
    #[serde(rename = "about")]
    _about: String,
    scenario: String,
    oracle: String,
    seeds: String,
    #[serde(default)]
    with: BTreeMap<String, toml::Value>,
    setting: Option<BTreeMap<String, toml::Value>>,
    patch: Option<String>,
}

/// Reads the registry.
///
/// # Errors
///
/// If it cannot be read, or an entry is wrong; its name is told.
pub(crate) fn load(workspace: &Workspace) -> Result<Vec<Mutant>, Failure> {
    let mutants = parse(&workspace.read(FILE)?)
        .map_err(|problem| Failure::Data { path: workspace.path(FILE), problem })?;
    for patch in mutants.iter().filter_map(Mutant::patch) {
        let file = format!("{DIRECTORY}/{patch}");
        if !workspace.path(&file).is_file() {
            return Err(Failure::Absent { what: format!("patch {file}") });
        }
    }
    Ok(mutants)
}

fn parse(text: &str) -> Result<Vec<Mutant>, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    let mut mutants: Vec<Mutant> = Vec::new();
    for entry in file.mutant {
        let name = entry.name.clone();
        if mutants.iter().any(|other| other.name == name) {
            return Err(format!("two mutants are called {name}"));
        }
        mutants.push(mutant(entry).map_err(|problem| format!("mutant {name}: {problem}"))?);
    }
    Ok(mutants)
}

fn mutant(entry: Entry) -> Result<Mutant, String> {
    let arguments = |settings: &BTreeMap<String, toml::Value>| -> Vec<String> {
        settings.iter().map(|(key, value)| format!("{key}={}", plain(value))).collect()
    };
    let with = arguments(&entry.with);
    let change = match (entry.setting, entry.patch) {
        (Some(settings), None) => Change::Settings(arguments(&settings)),
        (None, Some(patch)) => Change::Patch(patch),
        (None, None) | (Some(_), Some(_)) => {
            return Err("needs either `setting` or `patch`".to_owned());
        }
    };
    let seeds = seeds(&entry.seeds)
        .ok_or_else(|| format!("seeds {:?} are no range A..B with A < B", entry.seeds))?;
    let Entry { name, scenario, oracle, .. } = entry;
    Ok(Mutant { name, scenario, oracle, seeds, with, change })
}

/// A value as it stands on a command line: strings without their quotes.
fn plain(value: &toml::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn seeds(text: &str) -> Option<Range<u64>> {
    let (from, to) = text.split_once("..")?;
    let range = from.parse().ok()?..to.parse().ok()?;
    (!range.is_empty()).then_some(range)
}

/// The mutants to try, in the registry's order.
///
/// # Errors
///
/// If a name is unknown, or git cannot tell what changed.
pub(crate) fn choose<'a>(
    workspace: &Workspace,
    registry: &'a [Mutant],
    choice: &Choice,
) -> Result<Vec<&'a Mutant>, Failure> {
    match choice {
        Choice::All => Ok(registry.iter().collect()),
        Choice::Named(names) => {
            let known = |name: &&String| !registry.iter().any(|mutant| mutant.name == **name);
            if let Some(name) = names.iter().find(known) {
                return Err(Failure::Absent { what: format!("mutant {name} in {FILE}") });
            }
            Ok(registry.iter().filter(|mutant| names.contains(&mutant.name)).collect())
        }
        Choice::Rotating => {
            let part = rotation::part(workspace)?;
            let changed = changed(workspace, registry)?;
            let turn = |position: usize, mutant: &Mutant| {
                position < ALWAYS
                    || rotation::holds(part, position)
                    || changed.contains(&mutant.name)
            };
            Ok(registry.iter().enumerate().filter(|(n, m)| turn(*n, m)).map(|(_, m)| m).collect())
        }
    }
}

/// Names of mutants whose entry, patch or scenario is not what it was one commit ago.
fn changed(workspace: &Workspace, registry: &[Mutant]) -> Result<Vec<String>, Failure> {
    let commits = workspace.git(&["rev-list", "--max-count=2", "HEAD"])?;
    let Some(before) = commits.lines().nth(1) else {
        report::line("no commit before this one: all mutants count as changed");
        return Ok(registry.iter().map(|mutant| mutant.name.clone()).collect());
    };
    let tracked = workspace.git(&["diff", "--name-only", before, "--", "scenarios"])?;
    let new = ["ls-files", "--others", "--exclude-standard", "--", "scenarios"];
    let files = format!("{tracked}\n{}", workspace.git(&new)?);
    let old = if files.lines().any(|file| file == FILE) {
        // No registry in that commit, or one in another form: nothing in it is the same.
        let text = workspace.git(&["show", &format!("{before}:{FILE}")]).unwrap_or_default();
        Some(parse(&text).unwrap_or_default())
    } else {
        None
    };
    let is_changed = |mutant: &Mutant| {
        let scenario = format!("/{}.toml", mutant.scenario);
        let touched = |file: &str| {
            file.ends_with(&scenario)
                || mutant.patch().is_some_and(|patch| file == format!("{DIRECTORY}/{patch}"))
        };
        files.lines().any(touched) || old.as_ref().is_some_and(|old| !old.contains(mutant))
    };
    Ok(registry.iter().filter(|m| is_changed(m)).map(|m| m.name.clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        [[mutant]]
        name = "a"
        about = "grace of nothing"
        scenario = "s"
        oracle = "o"
        seeds = "3..9"
        setting = { "node.idle_timeout" = "1s", "node.connections_max" = 4 }
        [[mutant]]
        name = "b"
        about = "no sync"
        scenario = "s"
        oracle = "o"
        seeds = "0..1"
        with = { "fault.f.nth" = 7 }
        patch = "b.patch"
    "#;

    #[test]
    fn settings_become_arguments_and_patches_keep_their_names() {
        let mutants = parse(GOOD).unwrap();
        let settings = ["node.connections_max=4", "node.idle_timeout=1s"].map(str::to_owned);
        assert_eq!(mutants[0].change, Change::Settings(settings.to_vec()));
        assert_eq!(mutants[0].seeds, 3..9);
        assert_eq!(mutants[1].patch(), Some("b.patch"));
        assert_eq!(
            (&*mutants[0].with, &*mutants[1].with),
            (&[][..], &["fault.f.nth=7".to_owned()][..])
        );
    }

    #[test]
    fn wrong_entries_are_named() {
        let problem = |from: &str, to: &str| parse(&GOOD.replace(from, to)).unwrap_err();
        assert!(problem("3..9", "9..3").contains("mutant a: seeds \"9..3\""));
        assert!(problem("patch = \"b.patch\"", "").contains("mutant b: needs either"));
        assert!(problem("name = \"b\"", "name = \"a\"").contains("two mutants are called a"));
        assert!(problem("oracle = \"o\"", "orcale = \"o\"").contains("orcale"));
    }
}
