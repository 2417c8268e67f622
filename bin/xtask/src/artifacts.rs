//! Building the whole workspace once, and knowing where its programs and suites came to lie.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::Stdio,
};

use serde::Deserialize;

use crate::{
    failure::Failure,
    process,
    workspace::{PROFILE, Workspace},
};

/// What the build made.
pub(crate) struct Artifacts {
    suites: Vec<Suite>,
    programs: Vec<(String, PathBuf)>,
}

/// A compiled set of tests.
pub(crate) struct Suite {
    /// Its name: package, and target where it is not the library.
    pub(crate) name: String,
    /// The target's name.
    pub(crate) target: String,
    /// The program.
    pub(crate) executable: PathBuf,
    /// The directory of its package, in which cargo would run it.
    pub(crate) directory: PathBuf,
}

impl Artifacts {
    /// All suites, in order of their names.
    pub(crate) fn suites(&self) -> &[Suite] {
        &self.suites
    }

    /// Where a program lies.
    ///
    /// # Errors
    ///
    /// If the workspace has none of that name.
    pub(crate) fn program(&self, name: &str) -> Result<&Path, Failure> {
        let found = self.programs.iter().find(|(program, _)| program == name);
        found
            .map(|(_, path)| path.as_path())
            .ok_or_else(|| Failure::Absent { what: format!("program {name} in the workspace") })
    }
}

#[derive(Deserialize)]
struct Message {
    reason: String,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// Builds every target of the workspace.
///
/// # Errors
///
/// If it does not compile.
pub(crate) fn build(workspace: &Workspace) -> Result<Artifacts, Failure> {
    collect(workspace, &["--all-targets"])
}

/// Builds the simulator alone, from the same dependencies as [`build`].
///
/// # Errors
///
/// If it does not compile.
pub(crate) fn build_simulator(workspace: &Workspace) -> Result<Artifacts, Failure> {
    collect(workspace, &["--bin", "kura-sim"])
}

fn collect(workspace: &Workspace, selection: &[&str]) -> Result<Artifacts, Failure> {
    let mut command = workspace.cargo(&["build", "--workspace", "--profile", PROFILE]);
    command.args(selection).arg("--message-format=json-render-diagnostics");
    let start = |source| Failure::Start { line: "cargo build".to_owned(), source };
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(start)?;
    let mut artifacts = Artifacts { suites: Vec::new(), programs: Vec::new() };
    if let Some(stdout) = child.stdout.take() {
        for text in BufReader::new(stdout).lines() {
            artifacts.take(&text.map_err(start)?);
        }
    }
    let status = child.wait().map_err(start)?;
    if !status.success() {
        return Err(process::failed(&command, status));
    }
    artifacts.suites.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(artifacts)
}

impl Artifacts {
    fn take(&mut self, text: &str) {
        // Build scripts may print lines of their own between the messages.
        let Ok(message) = serde_json::from_str::<Message>(text) else { return };
        let Message { reason, manifest_path, target, profile, executable } = message;
        let (Some(manifest), Some(target), Some(profile), Some(executable)) =
            (manifest_path, target, profile, executable)
        else {
            return;
        };
        let is = |kind: &str| target.kind.iter().any(|found| found == kind);
        if reason != "compiler-artifact" || is("custom-build") {
            return;
        }
        let directory = manifest.parent().unwrap_or(&manifest).to_owned();
        if profile.test && !is("bench") {
            let package = directory.file_name().map(|name| name.to_string_lossy().into_owned());
            let package = package.unwrap_or_default();
            let name = if is("lib") { package } else { format!("{package} {}", target.name) };
            self.suites.push(Suite { name, target: target.name, executable, directory });
        } else if is("bin") {
            self.programs.push((target.name, executable));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: &str, test: bool) -> String {
        format!(
            r#"{{"reason":"compiler-artifact","manifest_path":"/w/kura/core/Cargo.toml","target":{{"name":"n","kind":["{kind}"]}},"profile":{{"test":{test}}},"executable":"/w/t/n"}}"#
        )
    }

    #[test]
    fn suites_and_programs_are_told_apart() {
        let mut artifacts = Artifacts { suites: Vec::new(), programs: Vec::new() };
        artifacts.take("warning: not a message");
        artifacts.take(&message("lib", true));
        artifacts.take(&message("test", true));
        artifacts.take(&message("bin", false));
        artifacts.take(&message("custom-build", false));
        let names: Vec<&str> = artifacts.suites().iter().map(|suite| suite.name.as_str()).collect();
        assert_eq!(names, ["core", "core n"]);
        assert_eq!(artifacts.program("n").unwrap(), Path::new("/w/t/n"));
        assert!(artifacts.program("m").is_err());
    }
}
