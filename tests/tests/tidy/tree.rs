//! The files of the repository as git sees them: tracked, or new and not ignored.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().expect("the package lies below the root").to_owned()
}

/// A text file.
pub(crate) struct Page {
    /// Its path from the root, with `/`.
    pub(crate) path: String,
    /// What is in it.
    pub(crate) text: String,
}

impl Page {
    /// The lines, numbered from one.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(position, line)| (position + 1, line))
    }

    /// The file's name without directory and ending.
    pub(crate) fn stem(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        name.split('.').next().unwrap_or_default()
    }
}

/// All paths, sorted.
pub(crate) fn paths() -> Vec<String> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git is installed");
    assert!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("paths are UTF-8");
    let mut paths: Vec<String> =
        text.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect();
    // A file that was deleted and not yet committed is still listed.
    paths.retain(|path| root().join(path).is_file());
    paths.sort();
    paths.dedup();
    paths
}

/// The text files whose path `wanted` picks.
pub(crate) fn pages(wanted: impl Fn(&str) -> bool) -> Vec<Page> {
    let mut pages = Vec::new();
    for path in paths().into_iter().filter(|path| wanted(path)) {
        let bytes = fs::read(root().join(&path)).expect("git lists it");
        if let Ok(text) = String::from_utf8(bytes) {
            pages.push(Page { path, text });
        }
    }
    pages
}

/// All Rust sources.
pub(crate) fn sources() -> Vec<Page> {
    let sources = pages(|path| path.ends_with(".rs"));
    assert!(!sources.is_empty(), "no sources below {}", root().display());
    sources
}

/// One file; empty if there is none, so that the rule that needs it says what is missing.
pub(crate) fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_default()
}

/// One TOML file.
pub(crate) fn table(path: &str) -> toml::Table {
    text(path).parse().unwrap_or_else(|error| panic!("{path}: {error}"))
}
