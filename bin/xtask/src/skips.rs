//! Tests that did not run, and whether that is allowed.
//!
//! A test that cannot run where it is prints `SKIPPED name: reason` and returns. On a developer's
//! machine that is a remark; where `CI=true` it is a failure unless `tests/skips.toml` lists the
//! name with a reason of its own.

use serde::Deserialize;

use crate::{failure::Failure, report, workspace::Workspace};

const FILE: &str = "tests/skips.toml";

/// One test that did not run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Skip {
    /// The test.
    pub(crate) name: String,
    /// What it said.
    pub(crate) reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Allowed {
    #[serde(default)]
    skip: Vec<AllowedSkip>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AllowedSkip {
    name: String,
    reason: String,
}

/// The skips that a suite printed: its own lines, and what the test harness ignored.
pub(crate) fn find(output: &str) -> Vec<Skip> {
    output.lines().filter_map(skip_in).collect()
}

fn skip_in(line: &str) -> Option<Skip> {
    let line = line.trim();
    if let Some(rest) = line.strip_prefix("SKIPPED ") {
        let (name, reason) = rest.split_once(": ")?;
        return Some(Skip { name: name.to_owned(), reason: reason.to_owned() });
    }
    let (name, outcome) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let reason = outcome.strip_prefix("ignored")?;
    let reason = reason.strip_prefix(", ").unwrap_or("ignored without a reason");
    Some(Skip { name: name.to_owned(), reason: reason.to_owned() })
}

/// Prints what was skipped and judges it; `strict` is how CI judges.
///
/// # Errors
///
/// In strict runs, if a skip is not allowed by `tests/skips.toml`.
pub(crate) fn judge(workspace: &Workspace, skips: &[Skip], strict: bool) -> Result<(), Failure> {
    let allowed: Allowed = toml::from_str(&workspace.read(FILE)?).map_err(|error| {
        Failure::Data { path: workspace.path(FILE), problem: error.to_string() }
    })?;
    for skip in skips {
        report::line(&format!("skipped {}: {}", skip.name, skip.reason));
    }
    let unlisted = unlisted(&allowed, skips);
    if strict && !unlisted.is_empty() {
        return Err(Failure::Unmet {
            what: format!("skipped and not listed in {FILE}: {}", unlisted.join(", ")),
        });
    }
    Ok(())
}

fn unlisted<'a>(allowed: &Allowed, skips: &'a [Skip]) -> Vec<&'a str> {
    let listed = |name: &str| {
        allowed.skip.iter().any(|entry| entry.name == name && !entry.reason.trim().is_empty())
    };
    skips.iter().map(|skip| skip.name.as_str()).filter(|name| !listed(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_skip_are_found() {
        let output = "running 3 tests\ntest a::b ... ok\ntest c ... ignored\n\
                      test d ... ignored, needs a tape\n\nSKIPPED full_disk: no tmpfs here\n";
        let names: Vec<(String, String)> =
            find(output).into_iter().map(|skip| (skip.name, skip.reason)).collect();
        let expected = [
            ("c", "ignored without a reason"),
            ("d", "needs a tape"),
            ("full_disk", "no tmpfs here"),
        ];
        assert_eq!(names, expected.map(|(name, reason)| (name.to_owned(), reason.to_owned())));
    }

    #[test]
    fn a_skip_is_allowed_by_name_and_only_with_a_reason() {
        let allowed: Allowed = toml::from_str(
            "[[skip]]\nname = \"a\"\nreason = \"no such disk\"\n[[skip]]\nname = \"b\"\nreason = \" \"",
        )
        .unwrap();
        let skips =
            ["a", "b", "c"].map(|name| Skip { name: name.to_owned(), reason: "x".to_owned() });
        assert_eq!(unlisted(&allowed, &skips), ["b", "c"]);
    }
}
