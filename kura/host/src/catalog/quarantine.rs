//! Where a catalog goes that cannot be trusted: out of the way, and still there for people to look at.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

/// Beside the catalog; see the layout of the data directory in `docs/storage.md`.
const QUARANTINE: &str = "quarantine";

/// The place of a catalog that lies in `directory`.
pub(super) fn place_of(directory: &Path) -> PathBuf {
    let name = directory.file_name().unwrap_or(directory.as_os_str());
    directory.with_file_name(QUARANTINE).join(name)
}

/// Moves `directory` to `place`, and removes what was there. Without room for that it is removed
/// instead: what is in it can be made again. Durable when it returns; a `directory` that is not there
/// is none to move.
pub(super) fn set_aside(directory: &Path, place: &Path) -> io::Result<()> {
    absent_is_fine(fs::remove_dir_all(place))?;
    match move_away(directory, place) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT)) => {
            absent_is_fine(fs::remove_dir_all(directory))?;
        }
        moved => absent_is_fine(moved)?,
    }
    sync_parent(directory)
}

fn move_away(directory: &Path, place: &Path) -> io::Result<()> {
    if let Some(quarantine) = place.parent() {
        fs::create_dir_all(quarantine)?;
    }
    fs::rename(directory, place)?;
    sync_parent(place)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

fn absent_is_fine(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_is_kept_and_one_that_is_not_there_is_no_error() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("catalog");
        let place = place_of(&directory);
        assert_eq!(place, root.path().join("quarantine/catalog"));
        set_aside(&directory, &place).unwrap();
        for content in ["first", "second"] {
            fs::create_dir(&directory).unwrap();
            fs::write(directory.join("file"), content).unwrap();
            set_aside(&directory, &place).unwrap();
            assert!(!directory.exists());
            assert_eq!(fs::read_to_string(place.join("file")).unwrap(), content);
        }
    }
}
