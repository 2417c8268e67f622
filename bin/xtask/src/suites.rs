//! Running compiled suites as cargo would, one after the other, quietly unless one fails.

use std::{process::Command, time::Duration};

use crate::{
    artifacts::{Artifacts, Suite},
    failure::Failure,
    process, report,
    skips::{self, Skip},
};

/// No suite may hang the run. Several times what the slowest needs.
const SUITE_TIME_MAX: Duration = Duration::from_secs(480);

/// What suites reported.
pub(crate) struct Reported {
    /// Tests that passed.
    pub(crate) passed: u64,
    /// Tests that were skipped.
    pub(crate) skips: Vec<Skip>,
}

/// Runs the suites that `wanted` picks.
///
/// # Errors
///
/// If a suite fails or does not end. Its whole output is printed.
pub(crate) fn run(
    artifacts: &Artifacts,
    wanted: impl Fn(&Suite) -> bool,
) -> Result<Reported, Failure> {
    let (mut total, mut skips) = (0, Vec::new());
    for suite in artifacts.suites().iter().filter(|suite| wanted(suite)) {
        let begun = std::time::Instant::now();
        let mut command = Command::new(&suite.executable);
        command
            .arg("--show-output")
            .current_dir(&suite.directory)
            .env("CARGO_MANIFEST_DIR", &suite.directory)
            .env("KURA_BIN", artifacts.program("kura")?)
            .env("KURA_SIM_BIN", artifacts.program("kura-sim")?)
            .env("INSTA_UPDATE", "no");
        let caught = process::catch(&mut command, SUITE_TIME_MAX)?;
        if !caught.status.success() {
            report::line(&caught.stdout);
            report::line(&caught.stderr);
            return Err(Failure::Unmet {
                what: format!("suite {} failed ({})", suite.name, caught.status),
            });
        }
        let took = report::time(begun.elapsed());
        let passed = passed(&caught.stdout);
        total += passed;
        report::line(&format!("{:<28} {passed:>4} passed  {took}", suite.name));
        skips.extend(skips::find(&caught.stdout));
    }
    skips.sort();
    skips.dedup();
    Ok(Reported { passed: total, skips })
}

/// How many tests the harness says have passed.
fn passed(stdout: &str) -> u64 {
    let count = |line: &str| {
        line.strip_prefix("test result: ok. ")?.split_once(" passed")?.0.parse::<u64>().ok()
    };
    stdout.lines().filter_map(count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passed_tests_are_counted() {
        let stdout = "\nrunning 2 tests\ntest result: ok. 2 passed; 0 failed; 0 ignored; \n";
        assert_eq!(passed(stdout), 2);
        assert_eq!(passed("no harness"), 0);
    }
}
