//! What is asked of a disk, drawn. What is drawn does not depend on any answer, so a prefix of a
//! sequence is that of any longer one.

use kura_env::DiskPath;

use crate::draws::Draws;

/// Handles that may be open at once.
pub(crate) const SLOTS: usize = 6;

/// Every name that is ever asked for. Some lie below what may be a file, or below nothing.
const PATHS: [&str; 16] = [
    "f0", "f1", "f2", "a", "b", "a/f0", "a/f1", "a/c", "a/c/f0", "b/f0", "b/f1", "b/c", "b/c/f0",
    "f0/x", "a/f0/x", "none/x",
];

/// Those of them that are meant as directories.
const DIRECTORIES: [&str; 4] = ["a", "b", "a/c", "b/c"];

/// How large things are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// No part of an append, and no write, is longer.
    pub(crate) write_bytes_max: u64,
    /// Where writes begin, and how much is reserved.
    pub(crate) offset_bytes_max: u64,
}

#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Create {
        path: DiskPath,
        slot: usize,
    },
    Open {
        path: DiskPath,
        slot: usize,
    },
    Close {
        slot: usize,
    },
    Mkdir {
        path: DiskPath,
    },
    Append {
        slot: usize,
        parts: Vec<usize>,
    },
    WriteAt {
        slot: usize,
        offset: u64,
        len: usize,
    },
    ReadAt {
        slot: usize,
        offset: u64,
        len: usize,
    },
    /// Reads, and keeps what was read for a while.
    Hold {
        slot: usize,
        offset: u64,
        len: usize,
    },
    Allocate {
        slot: usize,
        len: u64,
    },
    SyncData {
        slot: usize,
    },
    Freeze {
        slot: usize,
    },
    Len {
        slot: usize,
    },
    Rename {
        from: DiskPath,
        to: DiskPath,
    },
    Unlink {
        path: DiskPath,
    },
    List {
        path: DiskPath,
    },
    SyncDir {
        path: DiskPath,
    },
}

impl Operation {
    /// The next one.
    pub(crate) fn draw(draws: &mut Draws, sizes: Sizes) -> Self {
        let slot = draws.index(SLOTS);
        let (path, dir) = (path(draws), directory(draws));
        match draws.below(100) {
            0..12 => Self::Create { path, slot },
            12..20 => Self::Open { path, slot },
            20..24 => Self::Close { slot },
            24..27 => Self::Mkdir { path: if draws.below(8) == 0 { path } else { dir } },
            27..43 => {
                let parts = (0..=draws.below(3)).map(|_| length(draws, sizes)).collect();
                Self::Append { slot, parts }
            }
            43..50 => {
                let offset = draws.below(sizes.offset_bytes_max);
                Self::WriteAt { slot, offset, len: length(draws, sizes) }
            }
            50..60 => {
                let offset = draws.below(sizes.offset_bytes_max);
                let len = length(draws, sizes);
                if draws.below(4) == 0 {
                    Self::Hold { slot, offset, len }
                } else {
                    Self::ReadAt { slot, offset, len }
                }
            }
            60..64 => Self::Allocate { slot, len: draws.below(sizes.offset_bytes_max) },
            64..67 => Self::SyncData { slot },
            67..69 => Self::Freeze { slot },
            69..74 => Self::Len { slot },
            74..82 => Self::Rename { from: path, to: self::path(draws) },
            82..91 => Self::Unlink { path },
            91..97 => Self::List { path: if draws.below(4) == 0 { path } else { dir } },
            _ => Self::SyncDir { path: if draws.below(4) == 0 { path } else { dir } },
        }
    }

    /// The handle it is asked of.
    pub(crate) fn slot(&self) -> Option<usize> {
        match self {
            Self::Append { slot, .. }
            | Self::WriteAt { slot, .. }
            | Self::ReadAt { slot, .. }
            | Self::Hold { slot, .. }
            | Self::Allocate { slot, .. }
            | Self::SyncData { slot }
            | Self::Freeze { slot }
            | Self::Len { slot } => Some(*slot),
            Self::Create { .. }
            | Self::Open { .. }
            | Self::Close { .. }
            | Self::Mkdir { .. }
            | Self::Rename { .. }
            | Self::Unlink { .. }
            | Self::List { .. }
            | Self::SyncDir { .. } => None,
        }
    }

    /// Whether it changes the bytes or the blocks of a file, as nobody may who has frozen it.
    pub(crate) fn changes_a_file(&self) -> bool {
        matches!(self, Self::Append { .. } | Self::WriteAt { .. } | Self::Allocate { .. })
    }

    /// Where its bytes begin, in a file of this length, and how many it writes or reserves.
    pub(crate) fn extent(&self, len_bytes: u64) -> Option<(u64, u64)> {
        match self {
            Self::Append { parts, .. } => Some((len_bytes, wide(parts.iter().sum()))),
            Self::WriteAt { offset, len, .. } => Some((*offset, wide(*len))),
            Self::Allocate { len, .. } => Some((0, *len)),
            Self::Create { .. }
            | Self::Open { .. }
            | Self::Close { .. }
            | Self::Mkdir { .. }
            | Self::ReadAt { .. }
            | Self::Hold { .. }
            | Self::SyncData { .. }
            | Self::Freeze { .. }
            | Self::Len { .. }
            | Self::Rename { .. }
            | Self::Unlink { .. }
            | Self::List { .. }
            | Self::SyncDir { .. } => None,
        }
    }
}

/// A length as a disk counts.
pub(crate) fn wide(len: usize) -> u64 {
    u64::try_from(len).unwrap()
}

fn path(draws: &mut Draws) -> DiskPath {
    DiskPath::new(draws.one_of(&PATHS))
}

fn directory(draws: &mut Draws) -> DiskPath {
    match draws.below(4) {
        0 => DiskPath::root(),
        _ => DiskPath::new(draws.one_of(&DIRECTORIES)),
    }
}

/// Small ones and none as often as large ones.
fn length(draws: &mut Draws, sizes: Sizes) -> usize {
    let bound = draws.one_of(&[2, 5000, sizes.write_bytes_max, sizes.write_bytes_max]);
    usize::try_from(draws.below(bound)).unwrap()
}
