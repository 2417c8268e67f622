//! The differences between the simulated disk and catalog and the real ones that are known. Each has
//! a row in the table of `docs/simulation.md`, which says why it does no harm.

use std::collections::BTreeMap;

/// More would mean that the simulator is of another world.
const DIFFERENCES_MAX: usize = 10;

/// One known difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Difference {
    HowMuchFits,
    BlocksOfDirectories,
    BlocksOfFiles,
    SyncDirOfAFile,
    RenameOntoADirectory,
    GivenBackLater,
    GapInAFrozenFile,
    FailedReservation,
    FailedCommit,
    PoisonedByItself,
}

impl Difference {
    const ALL: [Self; 10] = [
        Self::HowMuchFits,
        Self::BlocksOfDirectories,
        Self::BlocksOfFiles,
        Self::SyncDirOfAFile,
        Self::RenameOntoADirectory,
        Self::GivenBackLater,
        Self::GapInAFrozenFile,
        Self::FailedReservation,
        Self::FailedCommit,
        Self::PoisonedByItself,
    ];

    /// As the table has it.
    fn name(self) -> &'static str {
        match self {
            Self::HowMuchFits => "how much fits",
            Self::BlocksOfDirectories => "blocks of directories",
            Self::BlocksOfFiles => "blocks of files",
            Self::SyncDirOfAFile => "`sync_dir` of a file",
            Self::RenameOntoADirectory => "rename onto a directory",
            Self::GivenBackLater => "given back later",
            Self::GapInAFrozenFile => "a gap in a frozen file",
            Self::FailedReservation => "a reservation that failed",
            Self::FailedCommit => "a commit that failed",
            Self::PoisonedByItself => "poisoned by itself",
        }
    }
}

/// How often each difference was met.
#[derive(Debug, Default)]
pub(crate) struct Met(BTreeMap<Difference, u64>);

impl Met {
    pub(crate) fn note(&mut self, difference: Difference) {
        *self.0.entry(difference).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (difference, times) in &other.0 {
            *self.0.entry(*difference).or_default() += times;
        }
    }
}

#[test]
fn the_page_explains_every_known_difference_and_no_other() {
    let page = include_str!("../../../docs/simulation.md");
    let (_, section) =
        page.split_once("\n## Where it differs\n").expect("the page has the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    let told: Vec<&str> = rows.filter_map(|row| row.split('|').nth(1)).map(str::trim).collect();
    assert_eq!(told, Difference::ALL.map(Difference::name));
    assert!(told.len() <= DIFFERENCES_MAX);
}
