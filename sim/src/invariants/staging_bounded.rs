//! Bodies in flight never hold more of the disk than their budget, and nothing once they are over.

use super::{Invariant, Violation};

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "staging_bounded",
    demands: "the blocks of files under tmp/ never exceed the staging budget by more than each \
              file's header and its ends, and are zero at rest",
    checked: "after every disk effect of every node, and at rest",
};

/// What a file may hold beside its body: the header of a large object, which is written just before
/// it gets its place, and the blocks in which its body begins and ends.
const FILE_SLACK_BYTES: u64 = 16 * 1024;

/// Judges what lies under `tmp/` while uploads are under way.
///
/// # Errors
///
/// If it is over the budget.
pub fn check_budget(
    node: &str,
    staged_bytes: u64,
    files: u64,
    budget_bytes: u64,
) -> Result<(), Violation> {
    let slack_bytes = files.saturating_mul(FILE_SLACK_BYTES);
    if staged_bytes <= budget_bytes.saturating_add(slack_bytes) {
        return Ok(());
    }
    Err(INVARIANT.violated(format!(
        "{node}: {staged_bytes} bytes staged in {files} files, the budget is {budget_bytes}"
    )))
}

/// Judges what lies under `tmp/` when nothing is under way any more.
///
/// # Errors
///
/// If anything is left, be it an empty file.
pub fn check_rest<'a>(
    node: &str,
    mut files: impl Iterator<Item = (&'a str, u64)>,
) -> Result<(), Violation> {
    match files.next() {
        None => Ok(()),
        Some((name, len)) => Err(INVARIANT.violated(format!(
            "{node}: at rest, and still {} files under tmp/, the first is {name} of {len} bytes",
            files.count() + 1
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_over_the_budget_and_an_empty_file_at_rest_are_reported() {
        assert!(check_budget("n", 10, 0, 10).is_ok());
        assert!(check_budget("n", 11, 0, 10).is_err());
        assert!(check_budget("n", 10 + FILE_SLACK_BYTES, 1, 10).is_ok());
        assert!(check_budget("n", 11 + FILE_SLACK_BYTES, 1, 10).is_err());
        assert!(check_rest("n", [].into_iter()).is_ok());
        assert!(check_rest("n", [("1.part", 0)].into_iter()).is_err());
    }
}
