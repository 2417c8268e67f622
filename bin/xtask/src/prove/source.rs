//! The sources with all patches in them, in a scratch copy, and the program built from it.
//!
//! The copy is made in two places: patches are applied in one, and only files that differ move on
//! to the other, so that what no patch and no edit touched keeps its time stamp and is not
//! compiled again.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use super::registry::{DIRECTORY, Mutant};
use crate::{
    failure::Failure,
    process, report, twin,
    workspace::{PROFILE, Workspace, files_below, git, read},
};

/// The name of the program with mutants in it, so that it can lie beside the one without.
const PROGRAM: &str = "kura-sim-mutants";

/// Stands before the version of the copy's packages. `0.1.0` becomes `990.1.0`.
const VERSION_EPOCH: &str = "99";

/// How node code asks which mutant is awake: this file becomes the module `kura_core::mutant`.
const SWITCH: &str = include_str!("switch.rs.in");

/// The variable that names the mutant to wake; `switch.rs.in` reads it.
pub(crate) const VARIABLE: &str = "KURA_MUTANT";

/// Far above what applying a patch takes.
const PATCH_TIME_MAX: Duration = Duration::from_secs(60);

/// What a build needs; everything else in the repository may change without a new one.
const PARTS: [&str; 8] =
    ["Cargo.toml", "Cargo.lock", ".cargo", "kura", "fault-injection", "sim", "bin", "tests"];

/// Builds the simulator with the patches of all mutants in it.
///
/// # Errors
///
/// If a patch does not apply (it is named), or the result does not compile.
pub(crate) fn build(workspace: &Workspace, registry: &[Mutant]) -> Result<PathBuf, Failure> {
    let sources = prepare(workspace, registry)?;
    report::line("building the simulator with mutants in it");
    let mut cargo = workspace.cargo(&["build", "--workspace", "--profile", PROFILE, "--quiet"]);
    cargo.args(["--bin", PROGRAM]).current_dir(&sources);
    cargo.env("CARGO_TARGET_DIR", workspace.target());
    process::pass_through(&mut cargo)?;
    Ok(workspace.target().join(PROFILE).join(PROGRAM))
}

/// The sources with the patches of all mutants in them.
///
/// # Errors
///
/// If a patch does not apply (it is named).
pub(crate) fn prepare(workspace: &Workspace, registry: &[Mutant]) -> Result<PathBuf, Failure> {
    let scratch = workspace.target().join("mutants");
    let (staged, sources) = (scratch.join("staged"), scratch.join("sources"));
    remove(&staged)?;
    stage(workspace, &staged)?;
    add_switch(&staged)?;
    set_version(&staged)?;
    for mutant in registry {
        if let Some(patch) = mutant.patch() {
            apply(workspace, &staged, &mutant.name, patch)?;
        }
    }
    settle(&staged, &sources)?;
    Ok(sources)
}

/// Whether a program asks which mutant is awake.
///
/// # Errors
///
/// If it cannot be read.
pub(crate) fn holds_mutants(program: &Path) -> Result<bool, Failure> {
    let bytes =
        fs::read(program).map_err(|source| Failure::File { path: program.to_owned(), source })?;
    Ok(bytes.windows(VARIABLE.len()).any(|window| window == VARIABLE.as_bytes()))
}

/// Copies what git knows or would know: the sources as they stand, without what was built.
fn stage(workspace: &Workspace, staged: &Path) -> Result<(), Failure> {
    let mut arguments = vec!["ls-files", "--cached", "--others", "--exclude-standard", "--"];
    arguments.extend(PARTS);
    let files: BTreeSet<String> = workspace.git(&arguments)?.lines().map(str::to_owned).collect();
    for file in files {
        // A tracked file that was deleted is still listed.
        let from = workspace.path(&file);
        if from.is_file() {
            let bytes = fs::read(&from).map_err(|source| Failure::File { path: from, source })?;
            write(&staged.join(&file), &bytes)?;
        }
    }
    Ok(())
}

/// Gives the copy the switch that patches ask, and the program its own name.
fn add_switch(staged: &Path) -> Result<(), Failure> {
    write(&staged.join("kura/core/src/mutant.rs"), SWITCH.as_bytes())?;
    let root = staged.join("kura/core/src/lib.rs");
    write(&root, format!("{}\npub mod mutant;\n", read(&root)?).as_bytes())?;
    let manifest = staged.join("bin/kura-sim/Cargo.toml");
    let text = read(&manifest)?.replacen("[package]\n", "[package]\nautobins = false\n", 1);
    let program = format!("\n[[bin]]\nname = \"{PROGRAM}\"\npath = \"src/main.rs\"\n");
    write(&manifest, (text + &program).as_bytes())?;
    rename_twin(staged)
}

/// Gives the copy of the twin, which is a workspace of its own, another name for its program and
/// another version.
fn rename_twin(staged: &Path) -> Result<(), Failure> {
    let manifest = staged.join(twin::MANIFEST);
    let text = read(&manifest)?;
    let renamed = text
        .replacen(
            &format!("name = \"{}\"", twin::PROGRAM),
            &format!("name = \"{}\"", twin::MUTANTS_PROGRAM),
            1,
        )
        .replacen("\nversion = \"", &format!("\nversion = \"{VERSION_EPOCH}"), 1);
    write(&manifest, renamed.as_bytes())
}

/// Gives the copy's packages a version of their own. Cargo tells packages of a workspace apart by name,
/// version and place below its root, so without it the copy and the sources would be the same packages,
/// and in the shared target directory each would be taken for the other.
fn set_version(staged: &Path) -> Result<(), Failure> {
    let path = staged.join("Cargo.toml");
    let text = read(&path)?;
    let (before, version) =
        text.split_once("[workspace.package]\nversion = \"").ok_or_else(|| Failure::Data {
            path: path.clone(),
            problem: "no version where expected".to_owned(),
        })?;
    let changed = format!("{before}[workspace.package]\nversion = \"{VERSION_EPOCH}{version}");
    write(&path, changed.as_bytes())
}

/// Applies one patch and sees to it that it asks for the mutant's own name.
fn apply(workspace: &Workspace, staged: &Path, name: &str, patch: &str) -> Result<(), Failure> {
    let path = workspace.path(&format!("{DIRECTORY}/{patch}"));
    let question = format!("kura_core::mutant::active(\"{name}\")");
    if !read(&path)?.lines().any(|line| line.starts_with('+') && line.contains(&question)) {
        let problem = format!("does not ask {question}, so it would change every other mutant too");
        return Err(Failure::Data { path, problem });
    }
    let mut git = git();
    git.args(["apply", "--whitespace=nowarn"]).arg(&path).current_dir(staged);
    // The copy lies below the repository, whose root git must not take the paths to start from.
    git.env("GIT_CEILING_DIRECTORIES", staged.parent().unwrap_or(staged));
    let caught = process::catch(&mut git, PATCH_TIME_MAX)?;
    if caught.status.success() {
        return Ok(());
    }
    let problem = format!("does not apply to the sources as they are: {}", caught.stderr.trim());
    Err(Failure::Data { path, problem })
}

/// Makes `sources` equal to `staged` without touching files that are equal already.
fn settle(staged: &Path, sources: &Path) -> Result<(), Failure> {
    let relative = |root: &Path| -> Result<BTreeSet<PathBuf>, Failure> {
        let below = |path: PathBuf| path.strip_prefix(root).map(Path::to_owned).unwrap_or(path);
        Ok(files_below(root, "")?.into_iter().map(below).collect())
    };
    let wanted = relative(staged)?;
    for gone in relative(sources)?.difference(&wanted) {
        let path = sources.join(gone);
        fs::remove_file(&path).map_err(|source| Failure::File { path, source })?;
    }
    for file in &wanted {
        let (from, to) = (staged.join(file), sources.join(file));
        let bytes = fs::read(&from).map_err(|source| Failure::File { path: from, source })?;
        if !fs::read(&to).is_ok_and(|present| present == bytes) {
            write(&to, &bytes)?;
        }
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |source| Failure::File { path: path.to_owned(), source };
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(failed)?;
    }
    fs::write(path, bytes).map_err(failed)
}

fn remove(directory: &Path) -> Result<(), Failure> {
    if !directory.exists() {
        return Ok(());
    }
    fs::remove_dir_all(directory)
        .map_err(|source| Failure::File { path: directory.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str = "--- a/kura/f.rs\n+++ b/kura/f.rs\n@@ -1,2 +1,3 @@\n fn f() {\n\
                         +    if kura_core::mutant::active(\"m\") { return; }\n }\n";

    /// A repository with one source, one patch, and the source staged in a directory below.
    fn repository(patch: &str) -> (tempfile::TempDir, Workspace, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let workspace = Workspace::at(directory.path());
        workspace.git(&["init", "--quiet"]).unwrap();
        write(&workspace.path("kura/f.rs"), b"fn f() {\n}\n").unwrap();
        write(&workspace.path("scenarios/mutants/m.patch"), patch.as_bytes()).unwrap();
        let staged = workspace.path("target/mutants/staged");
        stage(&workspace, &staged).unwrap();
        (directory, workspace, staged)
    }

    fn problem(patch: &str) -> String {
        let (_directory, workspace, staged) = repository(patch);
        let outcome = apply(&workspace, &staged, "m", "m.patch");
        outcome.map_or_else(|failure| failure.to_string(), |()| "none".to_owned())
    }

    #[test]
    fn the_switch_reads_the_variable_that_runs_set() {
        assert!(SWITCH.contains(&format!("std::env::var(\"{VARIABLE}\")")));
    }

    #[test]
    fn the_copy_is_another_version() {
        let directory = tempfile::tempdir().unwrap();
        let manifest = directory.path().join("Cargo.toml");
        write(&manifest, b"[workspace.package]\nversion = \"0.1.0\"\n").unwrap();
        set_version(directory.path()).unwrap();
        assert!(read(&manifest).unwrap().contains("version = \"990.1.0\""));
        write(&manifest, b"[package]\nversion = \"0.1.0\"\n").unwrap();
        assert!(set_version(directory.path()).is_err());
    }

    #[test]
    fn a_patch_changes_the_copy_and_not_the_sources() {
        let (_directory, workspace, staged) = repository(PATCH);
        apply(&workspace, &staged, "m", "m.patch").unwrap();
        assert!(read(&staged.join("kura/f.rs")).unwrap().contains("active(\"m\")"));
        assert_eq!(workspace.read("kura/f.rs").unwrap(), "fn f() {\n}\n");
    }

    #[test]
    fn a_patch_that_does_not_apply_or_asks_for_nothing_is_named() {
        let stale = problem(&PATCH.replace(" fn f() {", " fn g() {"));
        assert!(stale.contains("m.patch") && stale.contains("does not apply"), "{stale}");
        let unguarded = problem(&PATCH.replace("(\"m\")", "(\"other\")"));
        assert!(unguarded.contains("does not ask"), "{unguarded}");
    }

    #[test]
    fn equal_files_keep_their_time_stamps() {
        let directory = tempfile::tempdir().unwrap();
        let (staged, sources) = (directory.path().join("a"), directory.path().join("b"));
        for (place, name, text) in [
            (&staged, "same", "1"),
            (&sources, "same", "1"),
            (&staged, "d/new", "2"),
            (&sources, "gone", "3"),
        ] {
            write(&place.join(name), text.as_bytes()).unwrap();
        }
        let long_ago = std::time::SystemTime::UNIX_EPOCH;
        fs::File::open(sources.join("same")).unwrap().set_modified(long_ago).unwrap();
        settle(&staged, &sources).unwrap();
        let modified = fs::metadata(sources.join("same")).unwrap().modified().unwrap();
        assert_eq!(modified, long_ago);
        assert_eq!(read(&sources.join("d/new")).unwrap(), "2");
        assert!(!sources.join("gone").exists());
    }
}
