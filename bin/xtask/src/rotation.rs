//! Which tenth of a large set runs today: chosen by the commit, so that a run can be repeated and
//! every part gets its turn.

use crate::{failure::Failure, workspace::Workspace};

/// How many commits, on average, until every part has run.
pub(crate) const PARTS: u64 = 10;

/// The part whose turn it is, below [`PARTS`].
///
/// # Errors
///
/// If git cannot tell the commit.
pub(crate) fn part(workspace: &Workspace) -> Result<u64, Failure> {
    let commit = workspace.git(&["rev-parse", "HEAD"])?;
    Ok(part_of(commit.trim()))
}

fn part_of(commit: &str) -> u64 {
    commit
        .bytes()
        .filter_map(|byte| char::from(byte).to_digit(16))
        .fold(0, |part, digit| (part * 16 + u64::from(digit)) % PARTS)
}

/// Whether the element at `position` belongs to `part`.
pub(crate) fn holds(part: u64, position: usize) -> bool {
    u64::try_from(position).is_ok_and(|position| position % PARTS == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_is_the_commit_modulo_ten() {
        assert_eq!(part_of("00"), 0);
        assert_eq!(part_of("0b"), 1);
        assert_eq!(part_of("ff"), 5);
        assert!(part_of("4f3f415bde77aa0912c3") < PARTS);
    }

    #[test]
    fn every_position_has_one_turn() {
        for position in 0..25 {
            assert_eq!((0..PARTS).filter(|part| holds(*part, position)).count(), 1);
        }
    }
}
