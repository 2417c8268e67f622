//! Files of bodies in flight, in `tmp/` and where `staging.dir` is.

use kura_env::{DirEntry, Disk, DiskError, DiskErrorKind, DiskPath, FileKind};
use serde::Serialize;

use crate::store::{STAGING_DIR, STAGING_ELSEWHERE, STAGING_LOCK};

/// The ending of a staging file.
const PART: &str = ".part";

/// What lies in one directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StagingReport {
    /// `tmp`, or `staging` where the settings say that bodies in flight lie elsewhere.
    pub dir: &'static str,
    /// Whether the directory is there.
    pub is_there: bool,
    /// In the order of their names.
    pub files: Vec<StagedReport>,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StagedReport {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: StagedKind,
    /// Its length.
    pub len_bytes: u64,
    /// The bytes of the disk that it holds.
    pub allocated_bytes: u64,
}

/// What lies in a directory of staging files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StagedKind {
    /// A body in flight while the node runs; else what a dead one left, which the next start removes.
    Part,
    /// The lock of a directory that lies elsewhere.
    Lock,
    /// None of ours; left alone.
    Foreign,
}

/// Lists the staging files; those elsewhere as well, if `with_elsewhere`.
///
/// # Errors
///
/// [`DiskError`].
pub async fn staging(
    disk: &dyn Disk,
    with_elsewhere: bool,
) -> Result<Vec<StagingReport>, DiskError> {
    let mut reports = Vec::new();
    for dir in std::iter::once(STAGING_DIR).chain(with_elsewhere.then_some(STAGING_ELSEWHERE)) {
        let entries = match disk.list(&DiskPath::new(dir)).await {
            Err(error) if error.kind == DiskErrorKind::NotFound => None,
            listed => Some(listed?),
        };
        let is_there = entries.is_some();
        let files = entries.into_iter().flatten().map(|entry| staged(dir, entry)).collect();
        reports.push(StagingReport { dir, is_there, files });
    }
    Ok(reports)
}

fn staged(dir: &str, entry: DirEntry) -> StagedReport {
    let DirEntry { name, kind, len_bytes, allocated_bytes } = entry;
    let kind = kind_of(dir, &name, kind);
    StagedReport { name, kind, len_bytes, allocated_bytes }
}

fn kind_of(dir: &str, name: &str, kind: FileKind) -> StagedKind {
    match kind {
        FileKind::File if name.ends_with(PART) => StagedKind::Part,
        FileKind::File if name == STAGING_LOCK && dir == STAGING_ELSEWHERE => StagedKind::Lock,
        FileKind::File | FileKind::Directory | FileKind::Other => StagedKind::Foreign,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_that_a_start_would_remove_are_parts() {
        for (dir, name, kind, expected) in [
            ("tmp", "7.part", FileKind::File, StagedKind::Part),
            ("staging", "7.part", FileKind::File, StagedKind::Part),
            ("staging", "LOCK", FileKind::File, StagedKind::Lock),
            ("tmp", "LOCK", FileKind::File, StagedKind::Foreign),
            ("tmp", "7.part", FileKind::Directory, StagedKind::Foreign),
            ("tmp", "notes.txt", FileKind::File, StagedKind::Foreign),
        ] {
            assert_eq!(kind_of(dir, name, kind), expected, "{dir}/{name}");
        }
    }
}
