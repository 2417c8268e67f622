//! Measuring the store on this machine's disk, and two nodes on its loopback. Prints ratios; nothing here passes or fails.

use crate::{failure::Failure, process, workspace::Workspace};

/// The benchmarks, in the order in which they run.
const NAMES: [&str; 4] = ["store", "scale", "restart", "reconcile"];

/// Runs the benchmarks of these names, or all, with assertions off as in production.
///
/// # Errors
///
/// If there is no such benchmark, or it fails.
pub(crate) fn run(workspace: &Workspace, names: &[String]) -> Result<(), Failure> {
    let mut chosen: Vec<&str> = names.iter().map(String::as_str).collect();
    if chosen.is_empty() {
        chosen.extend(NAMES);
    }
    for name in &chosen {
        if !workspace.path(&format!("tests/benches/{name}.rs")).is_file() {
            return Err(Failure::Absent { what: format!("benchmark tests/benches/{name}.rs") });
        }
    }
    for name in chosen {
        let arguments = ["bench", "--package", "kura-tests", "--bench", name];
        process::pass_through(&mut workspace.cargo(&arguments))?;
    }
    Ok(())
}
