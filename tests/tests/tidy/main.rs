//! What the compiler and clippy cannot hold: edges between crates, the shape of files, and that
//! data, registry and pages tell the same story.

mod edges;
mod pages;
mod registry;
mod source;
mod tree;

/// Fails with all findings at once, so that one run shows everything there is to do.
fn no_findings(rule: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{rule}\n  {}", findings.join("\n  "));
}
