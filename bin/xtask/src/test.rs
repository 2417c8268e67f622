//! Everything that must hold before a change lands, in the order in which a failure is cheapest.

use crate::{
    artifacts::{self, Suite},
    failure::Failure,
    process, prove,
    report::{self, Steps},
    scenarios, setup, skips, suites, twin,
    workspace::Workspace,
};

/// Suites of this name start real processes; they run last and alone.
const REAL: &str = "real";

/// Runs all steps; `fast` leaves out proof and real processes, `strict` lets no test be skipped
/// that is not listed.
///
/// # Errors
///
/// The failure of the first step that fails.
pub(crate) fn run(workspace: &Workspace, fast: bool, strict: bool) -> Result<(), Failure> {
    let mut steps = Steps::start();
    steps.step("setup", || setup::run(workspace))?;
    steps.step("format", || {
        process::pass_through(&mut workspace.cargo(&["fmt", "--all", "--check"]))
    })?;
    steps.step("clippy", || clippy(workspace))?;
    let artifacts = steps.step("build", || artifacts::build(workspace))?;
    steps.step("determinism", || scenarios::determinism(workspace, &artifacts))?;
    let is_real = |suite: &Suite| suite.target == REAL;
    let mut passed = steps.step("unit and conformance", || {
        let reported = suites::run(&artifacts, |suite| !is_real(suite))?;
        skips::judge(workspace, &reported.skips, strict)?;
        Ok(reported.passed)
    })?;
    steps.step("scenarios", || scenarios::test(workspace, &artifacts, fast))?;
    if !fast {
        steps.step("crash points and pairs of faults", || {
            scenarios::enumerate(workspace, &artifacts, false)
        })?;
        steps.step("prove", || prove::prove(workspace, &artifacts, &prove::Choice::Rotating))?;
        steps.step("turmoil twin", || twin::run(workspace, true))?;
        passed += steps.step("real processes", || {
            let reported = suites::run(&artifacts, is_real)?;
            skips::judge(workspace, &reported.skips, strict)?;
            Ok(reported.passed)
        })?;
    }
    steps.summary();
    // The run ends at the first failure, so that here there is none.
    report::line(&format!("\n{passed} passed, 0 failed"));
    Ok(())
}

fn clippy(workspace: &Workspace) -> Result<(), Failure> {
    let arguments = ["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"];
    process::pass_through(&mut workspace.cargo(&arguments))
}
