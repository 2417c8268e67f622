//! Invariants, scenarios and mutants: each is in the docs, and each check has a mutant that shows
//! it can fail.

use std::collections::BTreeSet;

use toml::{Table, Value};

use crate::{
    no_findings,
    tree::{self, Page},
};

const DOCS: &str = "docs/simulation.md";
const REGISTRY: &str = "scenarios/mutants/mutants.toml";
const MUTANTS: &str = "scenarios/mutants/";

/// One file each; `mod.rs` only lists them.
fn invariants() -> BTreeSet<String> {
    let is = |path: &str| path.starts_with("sim/src/invariants/") && path.ends_with(".rs");
    let pages = tree::pages(is);
    pages.iter().map(Page::stem).filter(|stem| *stem != "mod").map(str::to_owned).collect()
}

/// Whatever a run may be failed by: the invariants, what the engine judges by itself, and what a phase asks for.
fn oracles() -> BTreeSet<String> {
    let others = ["no_panic", "no_deadlock", "no_livelock", "phase.roll"].map(str::to_owned);
    invariants().into_iter().chain(others).collect()
}

fn scenarios() -> BTreeSet<String> {
    let beside = [MUTANTS, "scenarios/corpus/"];
    let is = |path: &str| {
        path.starts_with("scenarios/")
            && path.ends_with(".toml")
            && !beside.iter().any(|directory| path.starts_with(directory))
    };
    tree::pages(is).iter().map(|page| page.stem().to_owned()).collect()
}

fn entries(table: &Table, kind: &str) -> Vec<Table> {
    let list = table.get(kind).and_then(Value::as_array).cloned().unwrap_or_default();
    list.into_iter().filter_map(|entry| entry.as_table().cloned()).collect()
}

fn field(entry: &Table, name: &str) -> String {
    entry.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[test]
fn there_are_invariants_and_scenarios() {
    assert!(!invariants().is_empty(), "no invariants in sim/src/invariants");
    assert!(!scenarios().is_empty(), "no scenarios in scenarios");
}

#[test]
fn invariants_and_scenarios_are_in_the_docs() {
    let docs = tree::text(DOCS);
    let missing = |name: &String| !docs.contains(&format!("`{name}`"));
    let findings: Vec<String> =
        invariants().into_iter().chain(scenarios()).filter(missing).collect();
    no_findings(&format!("not in {DOCS}, as `name`:"), &findings);
}

#[test]
fn every_invariant_and_scenario_has_a_mutant() {
    let registry = tree::table(REGISTRY);
    let mutants = entries(&registry, "mutant");
    let proven = |kind: &str| -> BTreeSet<String> {
        mutants.iter().map(|mutant| field(mutant, kind)).collect()
    };
    let exempt = |kind: &str| -> BTreeSet<String> {
        let exemptions = entries(&registry, "exempt");
        let with_reason = exemptions.iter().filter(|entry| field(entry, "reason").len() > 20);
        with_reason.map(|entry| field(entry, kind)).collect()
    };
    let unproven = |kind: &str, names: BTreeSet<String>, by: &str| -> Vec<String> {
        let (proven, exempt) = (proven(by), exempt(kind));
        let missing = names.into_iter().filter(|n| !proven.contains(n) && !exempt.contains(n));
        missing.map(|name| format!("{kind} {name}")).collect()
    };
    let mut findings = unproven("invariant", invariants(), "oracle");
    findings.extend(unproven("scenario", scenarios(), "scenario"));
    no_findings("never seen to fail, and not exempt for a reason:", &findings);
}

#[test]
fn mutants_name_what_exists() {
    let registry = tree::table(REGISTRY);
    let patches: BTreeSet<String> = tree::paths()
        .iter()
        .filter_map(|path| path.strip_prefix(MUTANTS))
        .map(str::to_owned)
        .filter(|file| file.ends_with(".patch"))
        .collect();
    let (invariants, oracles, scenarios) = (invariants(), oracles(), scenarios());
    let mut used = BTreeSet::new();
    let mut findings = Vec::new();
    for mutant in entries(&registry, "mutant") {
        let name = field(&mutant, "name");
        for (kind, known) in [("oracle", &oracles), ("scenario", &scenarios)] {
            let found = field(&mutant, kind);
            if !known.contains(&found) {
                findings.push(format!("{name}: no {kind} is called {found:?}"));
            }
        }
        let patch = field(&mutant, "patch");
        if !patch.is_empty() && !patches.contains(&patch) {
            findings.push(format!("{name}: there is no {MUTANTS}{patch}"));
        }
        used.insert(patch);
    }
    findings.extend(patches.difference(&used).map(|patch| format!("{patch} belongs to no mutant")));
    for exemption in entries(&registry, "exempt") {
        for (kind, known) in [("invariant", &invariants), ("scenario", &scenarios)] {
            let found = field(&exemption, kind);
            if !found.is_empty() && !known.contains(&found) {
                findings.push(format!("exempt: no {kind} is called {found:?}"));
            }
        }
    }
    no_findings(&format!("{REGISTRY}:"), &findings);
}

#[test]
fn allowed_skips_have_a_reason() {
    let skips = tree::table("tests/skips.toml");
    let findings: Vec<String> = entries(&skips, "skip")
        .iter()
        .filter(|skip| field(skip, "name").is_empty() || field(skip, "reason").len() <= 20)
        .map(|skip| format!("{skip:?}"))
        .collect();
    no_findings("tests/skips.toml, without a reason:", &findings);
}
