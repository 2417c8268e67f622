//! `kura verify`: looks at the data directory of a node that does not run, and repairs it if asked to.

use std::io;

use kura_host::{HostOptions, host_env};
use kura_node::{
    config::StoreConfig,
    store::KEYSPACES,
    verify::{Findings, Repaired, VerifyError, verify, verify_and_repair},
};
use serde::Serialize;
use tokio::runtime::Builder;

use crate::{
    complain,
    exit::Exit,
    inspect::count,
    settings::Settings,
    staging::{self, Unfit},
    try_print,
};

/// Why nothing could be looked at.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the system gives no threads or file descriptors: {0}")]
    World(#[source] io::Error),
    #[error("there is no data directory {0}")]
    Missing(String),
    #[error(transparent)]
    Staging(#[from] Unfit),
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

/// What was seen, and whether all is well.
struct Seen {
    text: String,
    is_sound: bool,
}

/// Looks, repairs if that is asked for, and prints what was found: for people, or as JSON.
pub(crate) fn run(settings: &Settings, json: bool, repair: bool) -> Exit {
    match look(settings, json, repair) {
        Ok(Seen { text, is_sound }) => match try_print(&text) {
            Ok(()) if is_sound => Exit::Clean,
            Ok(()) => Exit::Unsound,
            Err(exit) => exit,
        },
        Err(failure) => {
            complain(&format!("kura: {failure}\n"));
            match failure {
                Failure::Verify(VerifyError::Locked { .. }) => Exit::Locked,
                Failure::World(_)
                | Failure::Missing(_)
                | Failure::Staging(_)
                | Failure::Verify(
                    VerifyError::Disk(_) | VerifyError::Catalog(_) | VerifyError::Repair(_),
                ) => Exit::Io,
            }
        }
    }
}

fn look(settings: &Settings, json: bool, repair: bool) -> Result<Seen, Failure> {
    let path = settings.data_dir();
    // A look must not make one.
    if !path.is_dir() {
        return Err(Failure::Missing(path.display().to_string()));
    }
    let runtime = Builder::new_multi_thread().enable_all().build().map_err(Failure::World)?;
    let elsewhere = staging::existing(settings)?.filter(|it| it.path.is_dir());
    let has_elsewhere = elsewhere.is_some();
    let options = HostOptions { elsewhere, ..HostOptions::new(path, &KEYSPACES) };
    let host = host_env(options, runtime.handle().clone()).map_err(Failure::World)?;
    let holder = format!("kura verify with process id {}", std::process::id());
    if repair {
        let store = settings.node_config().store;
        // Where there is no such directory, nothing is staged in it.
        let has_staging = store.staging_elsewhere && has_elsewhere;
        let config = StoreConfig { staging_elsewhere: has_staging, ..store };
        let repaired = runtime.block_on(verify_and_repair(&host.env, &config, &holder))?;
        let text = if json { as_json(&repaired) } else { repaired_as_text(&repaired) };
        return Ok(Seen { text, is_sound: repaired.is_sound() });
    }
    let findings = runtime.block_on(verify(&host.env, &holder))?;
    let text = if json { as_json(&findings) } else { as_text(&findings) };
    Ok(Seen { text, is_sound: findings.is_sound() })
}

fn as_json(found: &impl Serialize) -> String {
    let text = serde_json::to_string(found).expect("findings are plain data");
    format!("{text}\n")
}

fn as_text(findings: &Findings) -> String {
    let Findings { segments, objects, records, body_bytes, rows, .. } = findings;
    let mut lines = vec![
        format!(
            "{} and {} hold {}",
            count(*segments, "segment"),
            count(*objects, "large object"),
            count(*records, "record")
        ),
        format!("{body_bytes} bytes of bodies were read and checked"),
        format!("{} of the index lead to them", count(*rows, "row")),
    ];
    let of = |(account, bytes): (&&str, &u64)| format!("  {account:<10} {bytes:>16}");
    lines.push("allocated bytes:".to_owned());
    lines.extend(findings.ledger.iter().map(of));
    lines.push(of((&"beside", &findings.beside_bytes)));
    lines.push(of((&"all", &findings.walked_bytes)));
    lines.join("\n") + "\n" + &told(findings) + &sum("", findings.problem_count)
}

fn repaired_as_text(repaired: &Repaired) -> String {
    let Repaired { before, repairs, repair_count, after } = repaired;
    let mut text = as_text(before);
    let Some(after) = after else {
        let nothing = if before.is_sound() { "nothing was to be done" } else { "nothing was done" };
        return text + nothing + "\n";
    };
    text.extend(repairs.iter().map(|repair| format!("repaired: {repair}\n")));
    let repaired = count(*repair_count, "repair");
    text + &format!(
        "{repaired}\n\n{}{}",
        told(after),
        sum("by a second look, ", after.problem_count)
    )
}

/// Notes, and then problems.
fn told(findings: &Findings) -> String {
    let notes = findings.notes.iter().map(|note| format!("note: {note}\n"));
    let untold = findings.note_count.saturating_sub(findings.notes.len() as u64);
    let more = (untold > 0).then(|| format!("note: and {untold} more of these\n"));
    let problems = findings.problems.iter().map(|problem| format!("problem: {problem}\n"));
    notes.chain(more).chain(problems).collect()
}

fn sum(when: &str, problems: u64) -> String {
    match problems {
        0 => format!("{when}no problem was found\n"),
        1 => format!("{when}1 problem was found\n"),
        many => format!("{when}{many} problems were found\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_come_last_and_are_counted() {
        let mut findings = Findings::default();
        findings.notes.push("n".to_owned());
        findings.note_count = 1;
        assert!(as_text(&findings).ends_with("note: n\nno problem was found\n"));
        findings.note_count = 5;
        findings.problems.push("p".to_owned());
        findings.problem_count = 7;
        assert!(as_text(&findings).contains("note: n\nnote: and 4 more of these\nproblem: p\n"));
        assert!(as_text(&findings).ends_with("problem: p\n7 problems were found\n"));
        assert!(as_json(&findings).contains("\"problem_count\":7"));
    }

    #[test]
    fn what_was_repaired_stands_between_two_looks() {
        let (mut before, repairs) = (Findings::default(), vec!["r".to_owned()]);
        let left =
            Repaired { before: before.clone(), repairs: vec![], repair_count: 0, after: None };
        assert!(
            repaired_as_text(&left).ends_with("no problem was found\nnothing was to be done\n")
        );
        let mut refused = left;
        refused.before.problem_count = 1;
        assert!(repaired_as_text(&refused).ends_with("1 problem was found\nnothing was done\n"));
        let after = Some(before.clone());
        before.problems.push("p".to_owned());
        before.problem_count = 1;
        let repaired = Repaired { before, repairs, repair_count: 1, after };
        let end = "problem: p\n1 problem was found\nrepaired: r\n1 repair\n\nby a second look, no \
                   problem was found\n";
        assert!(repaired_as_text(&repaired).ends_with(end), "{}", repaired_as_text(&repaired));
    }
}
