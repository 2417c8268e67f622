//! The tests that kill, cut and freeze, and those that compare the simulator with the real world, in full:
//! what each run of the suites does a few times is done often.

use crate::{
    failure::Failure,
    process,
    workspace::{PROFILE, Workspace},
};

/// Modules of the suite `real` that count their rounds, and the suite whose tests all do, in the order in
/// which they run.
const NAMES: [&str; 4] = ["kills", "power_cuts", "freeze", CONFORMANCE];

/// Compares the simulated disk and catalog with real ones.
const CONFORMANCE: &str = "conformance";

/// Read by those tests.
const VARIABLE: &str = "KURA_ENDURE";

/// Runs the tests of these modules, or all, one after the other.
///
/// # Errors
///
/// If there is no such module, or one of its tests fails.
pub(crate) fn run(workspace: &Workspace, names: &[String]) -> Result<(), Failure> {
    let mut chosen: Vec<&str> = names.iter().map(String::as_str).collect();
    if chosen.is_empty() {
        chosen.extend(NAMES);
    }
    if let Some(name) = chosen.iter().find(|name| !NAMES.contains(name)) {
        return Err(Failure::Absent { what: format!("{name} among {}", NAMES.join(", ")) });
    }
    for name in chosen {
        let module = format!("{name}::");
        let (suite, filter) = if name == CONFORMANCE { (name, "") } else { ("real", &*module) };
        let arguments = ["test", "--quiet", "--profile", PROFILE, "--package", "kura-tests"];
        let mut command = workspace.cargo(&arguments);
        command.args(["--test", suite, "--", "--nocapture", "--test-threads=1", filter]);
        process::pass_through(command.env(VARIABLE, "1"))?;
    }
    Ok(())
}
