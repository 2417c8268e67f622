//! What a node has its catalog do at once is bounded, however many artifacts a segment holds.

use super::{Invariant, Violation};

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "batches_bounded",
    demands: "no batch that a node hands to its catalog has more than 6300 rows: six for each of the \
              1024 records that are stored together, or of the 256 that are evicted in one step, and \
              the watermarks",
    checked: "four times a second on every node, but where nodes are made to stand still",
};

/// Rows of one batch.
const ROWS_MAX: usize = 6300;

/// Judges the largest batch of a node.
///
/// # Errors
///
/// If it is too large.
pub fn check(node: &str, largest_rows: usize) -> Result<(), Violation> {
    if largest_rows <= ROWS_MAX {
        return Ok(());
    }
    Err(INVARIANT.violated(format!("{node}: {largest_rows} rows in one batch")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_too_many_is_reported() {
        assert!(check("n", ROWS_MAX).is_ok());
        assert!(check("n", ROWS_MAX + 1).is_err());
    }
}
