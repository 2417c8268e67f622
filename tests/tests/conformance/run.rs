//! Seeds, counts, and what a failure tells.

use std::{env, fmt::Debug};

use kura_tests::endurance;

use crate::draws::Draws;

/// Operations of one round, which begins with empty disks.
pub(crate) const OPERATIONS: usize = 1000;

/// Operations that a failure shows of those that led to it.
const SHOWN_MAX: usize = 40;

/// One round: operations that follow from a seed.
pub(crate) struct Round {
    pub(crate) seed: u64,
}

/// The rounds of a test. Each run of the suite draws the same; in full, others each time. What the
/// first round of a seed does is the same in both.
pub(crate) fn rounds(test: &str, brief: u64, full: u64) -> impl Iterator<Item = Round> {
    let count = endurance::rounds(brief, full);
    let is_given = env::var_os(endurance::SEED).is_some();
    let first = if count == full || is_given { endurance::seed(test) } else { 1 };
    eprintln!("{test}: {count} rounds of {OPERATIONS} operations, seeds from {first} on");
    (first..first + count).map(|seed| Round { seed })
}

impl Round {
    /// The draws of one purpose.
    pub(crate) fn draws(&self, purpose: u64) -> Draws {
        Draws(Draws(self.seed).next().wrapping_add(purpose))
    }

    /// Fails, with everything that it takes to see it again. The last operation is the one that did.
    pub(crate) fn fail(&self, operations: &[impl Debug], error: &str) -> ! {
        let hidden = operations.len().saturating_sub(SHOWN_MAX);
        eprintln!("the operations so far, without the first {hidden}:");
        for (number, operation) in operations.iter().enumerate().skip(hidden) {
            eprintln!("  {number}: {operation:?}");
        }
        panic!("{}={}, operation {}: {error}", endurance::SEED, self.seed, operations.len() - 1);
    }
}
