//! Measuring the store on this machine's disk. Prints ratios; nothing here passes or fails.

use crate::{failure::Failure, process, workspace::Workspace};

/// Runs the store's benchmark, with assertions off as in production.
///
/// # Errors
///
/// If there is no benchmark, or it fails.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<(), Failure> {
    if !workspace.path("tests/benches/store.rs").is_file() {
        return Err(Failure::Absent { what: "benchmark tests/benches/store.rs".to_owned() });
    }
    let mut command = workspace.cargo(&["bench", "--package", "kura-tests", "--bench", "store"]);
    if !arguments.is_empty() {
        command.arg("--").args(arguments);
    }
    process::pass_through(&mut command)
}
