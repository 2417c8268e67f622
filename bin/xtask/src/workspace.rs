//! Where the workspace lies, what it holds, and how it is built.
//!
//! Everything that runs is built by one command in one profile: another selection of packages may
//! choose other features of a dependency and compile it once more.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{failure::Failure, process};

/// The one profile in which everything that runs is built: optimised, assertions on.
pub(crate) const PROFILE: &str = "sim";

/// Far above what git needs for a question.
const GIT_TIME_MAX: Duration = Duration::from_secs(60);

/// The workspace on disk.
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// Finds the workspace that this program was built in.
    ///
    /// # Errors
    ///
    /// If it is not there any more.
    pub(crate) fn find() -> Result<Self, Failure> {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = package.ancestors().nth(2).unwrap_or(package);
        if root.join("Cargo.lock").is_file() {
            Ok(Self { root: root.to_owned() })
        } else {
            Err(Failure::Absent { what: format!("workspace at {}", root.display()) })
        }
    }

    /// One that lies elsewhere.
    #[cfg(test)]
    pub(crate) fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// A path in it.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// Where cargo puts what it builds.
    pub(crate) fn target(&self) -> PathBuf {
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| self.root.join("target"), PathBuf::from)
    }

    /// A cargo command at the root.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(program);
        command.current_dir(&self.root).args(arguments);
        command
    }

    /// What git answers at the root.
    ///
    /// # Errors
    ///
    /// If git fails, as it does outside of a repository.
    pub(crate) fn git(&self, arguments: &[&str]) -> Result<String, Failure> {
        let mut command = git();
        command.current_dir(&self.root).args(arguments);
        process::output(&mut command, GIT_TIME_MAX)
    }

    /// The text of a file in it.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub(crate) fn read(&self, relative: &str) -> Result<String, Failure> {
        read(&self.path(relative))
    }
}

/// A git command that looks for its repository from where it runs. Within a hook of git's own it
/// would be told another one.
pub(crate) fn git() -> Command {
    let mut command = Command::new("git");
    for variable in ["GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE", "GIT_PREFIX"] {
        command.env_remove(variable);
    }
    command
}

/// The text of a file.
///
/// # Errors
///
/// If it cannot be read.
pub(crate) fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|source| Failure::File { path: path.to_owned(), source })
}

/// All files below a directory that end with `suffix`, sorted; none if there is no directory.
///
/// # Errors
///
/// If a directory cannot be read.
pub(crate) fn files_below(directory: &Path, suffix: &str) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        if !directory.is_dir() {
            continue;
        }
        let failed = |source| Failure::File { path: directory.clone(), source };
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.is_dir() {
                pending.push(path);
            } else if path.to_string_lossy().ends_with(suffix) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
