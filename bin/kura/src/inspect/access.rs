//! A data directory that is looked at and not changed: its files through a disk that refuses every change,
//! its catalog as a copy.

use std::{
    fs::{self, DirEntry, File, TryLockError},
    io::{self, ErrorKind, Read as _},
    path::{Path, PathBuf},
};

use kura_env::{Catalog as _, CatalogError};
use kura_host::{HostCatalog, HostDisk};
use kura_node::store::KEYSPACES;
use rustix::process::{Pid, test_kill_process};
use tempfile::TempDir;

use super::{Failure, text::size};
use crate::{settings::Settings, staging};

/// Threads that read.
const DISK_THREADS: usize = 2;
/// The catalog, below the data directory.
const CATALOG: &str = "catalog";
/// The lock of the data directory.
const LOCK: &str = "LOCK";
/// Copies of the catalog lie in directories whose names begin so, and hold the id of the process that made them.
const COPY_PREFIX: &str = "kura-inspect-";
/// What is read of the text in it.
const HOLDER_BYTES_MAX: u64 = 4096;
/// Directories that are gone into. The catalog nests less deep.
const DEPTH_MAX: usize = 8;

/// A data directory, to look at.
pub(super) struct Access {
    path: PathBuf,
    pub(super) disk: HostDisk,
}

/// Who has the data directory.
pub(super) enum Hold {
    /// A process, which says this of itself.
    Taken(String),
    /// Nobody, for as long as this value lives: a node that starts meanwhile ends with 75.
    Free {
        /// Closing it gives the lock back; none where there is no lock file.
        _lock: Option<File>,
    },
}

/// Why there is no copy of the catalog.
#[derive(Debug, thiserror::Error)]
pub(super) enum CopyError {
    #[error(
        "a copy of the catalog takes {}, and {} has {} free, of which it may take half; set TMPDIR to \
         a directory with more room", size(*.needed_bytes), at.display(), size(*.free_bytes)
    )]
    NoRoom { at: PathBuf, needed_bytes: u64, free_bytes: u64 },
    #[error("{} lies in the data directory; set TMPDIR to a directory elsewhere", .0.display())]
    Inside(PathBuf),
    #[error("the catalog cannot be copied: {0}")]
    Io(#[from] io::Error),
}

impl Access {
    /// To the data directory of these settings.
    pub(super) fn to(settings: &Settings) -> Result<Self, Failure> {
        let path = settings.data_dir().to_owned();
        if !path.is_dir() {
            return Err(Failure::Missing(path));
        }
        let disk = HostDisk::read_only(&path, DISK_THREADS).map_err(Failure::World)?;
        let elsewhere = staging::existing(settings)?;
        Ok(Self { path, disk: disk.with_elsewhere(elsewhere) })
    }

    /// Who has it now.
    pub(super) fn hold(&self) -> Result<Hold, Failure> {
        let path = self.path.join(LOCK);
        hold(&path).map_err(|source| Failure::Unreadable { path, source })
    }

    /// What to say beside what was found, if a node runs.
    pub(super) fn note_of_holder(&self) -> Result<Option<String>, Failure> {
        Ok(match self.hold()? {
            Hold::Taken(holder) => Some(format!(
                "{holder} has the data directory: what it has under way may be seen half done"
            )),
            Hold::Free { .. } => None,
        })
    }

    /// A copy of the catalog, open; `None` if there is no catalog. No node runs while it is copied.
    pub(super) async fn catalog(&self) -> Result<Option<CatalogCopy>, Failure> {
        let hold = match self.hold()? {
            Hold::Taken(holder) => {
                return Err(Failure::Locked { path: self.path.clone(), holder });
            }
            hold @ Hold::Free { .. } => hold,
        };
        let copied = CatalogCopy::of(&self.path);
        drop(hold);
        let Some(copy) = copied? else { return Ok(None) };
        copy.open().await?;
        Ok(Some(copy))
    }
}

fn hold(lock: &Path) -> io::Result<Hold> {
    let file = match File::open(lock) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Hold::Free { _lock: None }),
        opened => opened?,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Hold::Free { _lock: Some(file) }),
        Err(TryLockError::WouldBlock) => {
            let mut text = Vec::new();
            file.take(HOLDER_BYTES_MAX).read_to_end(&mut text)?;
            Ok(Hold::Taken(String::from_utf8_lossy(&text).into_owned()))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// A copy of the catalog in a directory of its own, which goes with it.
pub(super) struct CatalogCopy {
    pub(super) catalog: HostCatalog,
    pub(super) bytes: u64,
    _directory: CopyDir,
}

/// Where a copy lies: gone with this value, or, where the process was ended before, with the next copy.
struct CopyDir {
    directory: TempDir,
    /// Locked for as long as the copy is used, because processes may share a directory and not see each
    /// other.
    _lock: File,
}

impl CopyDir {
    fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl CatalogCopy {
    fn of(data: &Path) -> Result<Option<Self>, Failure> {
        let source = data.join(CATALOG);
        if !source.is_dir() {
            return Ok(None);
        }
        let (directory, bytes) = copy(std::env::temp_dir(), data, &source)?;
        let catalog = HostCatalog::new(directory.path().join(CATALOG), &KEYSPACES);
        let catalog = catalog.map_err(Failure::World)?;
        Ok(Some(Self { catalog, bytes, _directory: directory }))
    }

    async fn open(&self) -> Result<(), CatalogError> {
        self.catalog.open().await
    }

    /// What to say beside what was found.
    pub(super) fn note(&self) -> String {
        format!("a copy of the catalog was opened, of {}, and is gone", size(self.bytes))
    }
}

fn copy(at: PathBuf, data: &Path, source: &Path) -> Result<(CopyDir, u64), CopyError> {
    if fs::canonicalize(&at)?.starts_with(fs::canonicalize(data)?) {
        return Err(CopyError::Inside(at));
    }
    clear_copies(&at)?;
    let files = files_below(source)?;
    let needed_bytes = files.iter().map(|(_, bytes)| bytes).sum();
    let stat = rustix::fs::statvfs(&at).map_err(io::Error::from)?;
    let free_bytes = stat.f_bavail.saturating_mul(stat.f_frsize);
    if needed_bytes > free_bytes / 2 {
        return Err(CopyError::NoRoom { at, needed_bytes, free_bytes });
    }
    let prefix = format!("{COPY_PREFIX}{}-", std::process::id());
    let directory = tempfile::Builder::new().prefix(&prefix).tempdir_in(&at)?;
    let lock = File::open(directory.path())?;
    lock.lock()?;
    let directory = CopyDir { directory, _lock: lock };
    let target = directory.path().join(CATALOG);
    fs::create_dir(&target)?;
    for (file, _) in &files {
        let to = target.join(file);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::copy(source.join(file), to)?;
    }
    Ok((directory, needed_bytes))
}

/// Removes the copies of processes that were ended before they could do it, as by Ctrl-C.
fn clear_copies(at: &Path) -> io::Result<()> {
    for entry in fs::read_dir(at)? {
        let entry = entry?;
        // What goes in this moment, or belongs to somebody else, is none of ours.
        if is_left(&entry).unwrap_or(false) {
            fs::remove_dir_all(entry.path()).ok();
        }
    }
    Ok(())
}

/// Whether this is a copy whose process is gone.
fn is_left(entry: &DirEntry) -> io::Result<bool> {
    let name = entry.file_name();
    let Some(pid) = name.to_str().and_then(process_of) else { return Ok(false) };
    // Whoever it is that may not be asked, it is there.
    let is_gone = test_kill_process(pid) == Err(rustix::io::Errno::SRCH);
    Ok(is_gone && entry.file_type()?.is_dir() && File::open(entry.path())?.try_lock().is_ok())
}

/// The process in the name of a copy.
fn process_of(name: &str) -> Option<Pid> {
    let (pid, _) = name.strip_prefix(COPY_PREFIX)?.split_once('-')?;
    pid.parse().ok().filter(|pid| *pid > 0).and_then(Pid::from_raw)
}

/// The files below a directory and their lengths, by their paths from it.
fn files_below(root: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let (mut files, mut dirs) = (Vec::new(), vec![(PathBuf::new(), 0)]);
    while let Some((dir, depth)) = dirs.pop() {
        for entry in fs::read_dir(root.join(&dir))? {
            let entry = entry?;
            let (path, metadata) = (dir.join(entry.file_name()), entry.metadata()?);
            if metadata.is_file() {
                files.push((path, metadata.len()));
            } else if metadata.is_dir() && depth < DEPTH_MAX {
                dirs.push((path, depth + 1));
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_lies_elsewhere_and_goes_with_its_value() {
        let data = tempfile::tempdir().unwrap();
        let source = data.path().join(CATALOG);
        fs::create_dir_all(source.join("keyspaces/1")).unwrap();
        fs::write(source.join("keyspaces/1/table"), "abc").unwrap();
        fs::write(source.join("journal"), "de").unwrap();
        let tmp = tempfile::tempdir().unwrap();
        let (copied, bytes) = copy(tmp.path().to_owned(), data.path(), &source).unwrap();
        let at = copied.path().to_owned();
        let read = |name: &str| fs::read_to_string(at.join(CATALOG).join(name)).unwrap();
        assert_eq!(
            (read("keyspaces/1/table"), read("journal"), bytes),
            ("abc".into(), "de".into(), 5)
        );
        assert!(!at.starts_with(data.path()));
        drop(copied);
        assert!(!at.exists());
    }

    #[test]
    fn a_copy_of_a_process_that_is_gone_goes_with_the_next_one() {
        let (data, tmp) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let source = data.path().join(CATALOG);
        fs::create_dir_all(&source).unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let (gone, here) = (child.id(), std::process::id());
        let plant = |name: String| {
            fs::create_dir_all(tmp.path().join(&name).join(CATALOG)).unwrap();
            fs::write(tmp.path().join(&name).join(CATALOG).join("journal"), "x").unwrap();
            tmp.path().join(name)
        };
        let left = plant(format!("{COPY_PREFIX}{gone}-abc"));
        // Of a process that this one cannot see.
        let locked = plant(format!("{COPY_PREFIX}{gone}-def"));
        let lock = File::open(&locked).unwrap();
        lock.try_lock().unwrap();
        let others = [
            plant(format!("{COPY_PREFIX}{here}-abc")),
            plant(format!("{COPY_PREFIX}none-abc")),
            plant(format!("{COPY_PREFIX}-1-abc")),
            plant(format!("other-{gone}-abc")),
        ];
        let (copied, _) = copy(tmp.path().to_owned(), data.path(), &source).unwrap();
        assert!(!left.exists() && locked.exists() && others.iter().all(|path| path.exists()));
        let (next, _) = copy(tmp.path().to_owned(), data.path(), &source).unwrap();
        assert!(copied.path().exists() && next.path().exists());
    }

    #[test]
    fn a_lock_that_is_held_is_seen_and_left_as_it_is() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join(LOCK);
        assert!(matches!(hold(&path).unwrap(), Hold::Free { _lock: None }));
        assert!(!path.exists(), "a look makes no file");
        fs::write(&path, "somebody").unwrap();
        let holder = File::options().write(true).open(&path).unwrap();
        holder.try_lock().unwrap();
        assert!(matches!(hold(&path).unwrap(), Hold::Taken(text) if text == "somebody"));
        drop(holder);
        let looking = hold(&path).unwrap();
        let starting = File::open(&path).unwrap();
        assert!(starting.try_lock().is_err(), "no node starts meanwhile");
        drop(looking);
        starting.try_lock().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "somebody");
    }
}
