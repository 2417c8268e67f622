//! `kura verify`: looks at the data directory of a node that does not run.

use std::io;

use kura_host::{HostOptions, host_env};
use kura_node::{
    store::KEYSPACES,
    verify::{Findings, VerifyError, verify},
};
use tokio::runtime::Builder;

use crate::{complain, exit::Exit, settings::Settings, try_print};

/// Why nothing could be looked at.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the system gives no threads or file descriptors: {0}")]
    World(#[source] io::Error),
    #[error("there is no data directory {0}")]
    Missing(String),
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

/// Looks, and prints what was found: for people, or as JSON.
pub(crate) fn run(settings: &Settings, json: bool) -> Exit {
    match look(settings) {
        Ok(findings) => {
            let text = if json { as_json(&findings) } else { as_text(&findings) };
            match try_print(&text) {
                Ok(()) if findings.is_sound() => Exit::Clean,
                Ok(()) => Exit::Unsound,
                Err(exit) => exit,
            }
        }
        Err(failure) => {
            complain(&format!("kura: {failure}\n"));
            match failure {
                Failure::Verify(VerifyError::Locked { .. }) => Exit::Locked,
                Failure::World(_)
                | Failure::Missing(_)
                | Failure::Verify(
                    VerifyError::Disk(_) | VerifyError::Catalog(_) | VerifyError::Repair(_),
                ) => Exit::Io,
            }
        }
    }
}

fn look(settings: &Settings) -> Result<Findings, Failure> {
    let path = settings.data_dir();
    // A look must not make one.
    if !path.is_dir() {
        return Err(Failure::Missing(path.display().to_string()));
    }
    let runtime = Builder::new_multi_thread().enable_all().build().map_err(Failure::World)?;
    let options = HostOptions::new(path, &KEYSPACES);
    let host = host_env(options, runtime.handle().clone()).map_err(Failure::World)?;
    let holder = format!("kura verify with process id {}", std::process::id());
    Ok(runtime.block_on(verify(&host.env, &holder))?)
}

fn as_json(findings: &Findings) -> String {
    let text = serde_json::to_string(findings).expect("findings are plain data");
    format!("{text}\n")
}

fn as_text(findings: &Findings) -> String {
    let Findings { segments, objects, records, body_bytes, rows, .. } = findings;
    let mut lines = vec![
        format!("{segments} segments and {objects} large objects hold {records} records"),
        format!("{body_bytes} bytes of bodies were read and checked"),
        format!("{rows} rows of the index lead to them"),
    ];
    let of = |(account, bytes): (&&str, &u64)| format!("  {account:<9} {bytes}");
    lines.push("allocated bytes:".to_owned());
    lines.extend(findings.ledger.iter().map(of));
    lines.push(format!("  beside    {}", findings.beside_bytes));
    lines.push(format!("  all       {}", findings.walked_bytes));
    lines.extend(findings.notes.iter().map(|note| format!("note: {note}")));
    lines.extend(findings.problems.iter().map(|problem| format!("problem: {problem}")));
    lines.push(match findings.problem_count {
        0 => "no problem was found".to_owned(),
        1 => "1 problem was found".to_owned(),
        count => format!("{count} problems were found"),
    });
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_come_last_and_are_counted() {
        let mut findings = Findings { notes: vec!["n".to_owned()], ..Findings::default() };
        assert!(as_text(&findings).ends_with("note: n\nno problem was found\n"));
        findings.problems.push("p".to_owned());
        findings.problem_count = 7;
        assert!(as_text(&findings).ends_with("note: n\nproblem: p\n7 problems were found\n"));
        assert!(as_json(&findings).contains("\"problem_count\":7"));
    }
}
