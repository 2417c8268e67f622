//! A directory of the data directory that lies elsewhere, perhaps on another file system.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use kura_env::{COPY_SUFFIX, DiskPath};

/// A directory of the data directory, and where it lies.
#[derive(Clone, Debug)]
pub struct Elsewhere {
    /// Its name in the data directory.
    pub dir: DiskPath,
    /// Where it lies. It must be there.
    pub path: PathBuf,
}

impl Elsewhere {
    /// Where `path` lies, if it is this directory or below it.
    pub(super) fn full_path(&self, path: &DiskPath) -> Option<PathBuf> {
        let below = path.as_str().strip_prefix(self.dir.as_str())?;
        match below.strip_prefix('/') {
            Some(rest) => Some(self.path.join(rest)),
            None => below.is_empty().then(|| self.path.clone()),
        }
    }
}

/// Renames, and copies where that cannot be done. Blocks.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(cause) if cause.kind() == io::ErrorKind::CrossesDevices => copy(from, to),
        renamed => renamed,
    }
}

/// Moves a file between file systems. After an error `to` names what it did before.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut beside = to.as_os_str().to_owned();
    beside.push(COPY_SUFFIX);
    let beside = PathBuf::from(beside);
    let copied = copy_synced(from, &beside).and_then(|()| fs::rename(&beside, to));
    if copied.is_err() {
        fs::remove_file(&beside).ok();
        return copied;
    }
    // The move is made. What is left of the old name is removed by whoever made the file.
    fs::remove_file(from).ok();
    Ok(())
}

fn copy_synced(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = fs::File::open(from)?;
    let mut target = fs::File::create(to)?;
    io::copy(&mut source, &mut target)?;
    target.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_lies_elsewhere_and_nothing_else() {
        let elsewhere = Elsewhere { dir: DiskPath::new("staging"), path: "/there".into() };
        for (path, full) in [
            ("staging", Some("/there")),
            ("staging/1.part", Some("/there/1.part")),
            ("stagings", None),
            ("tmp/staging", None),
            ("", None),
        ] {
            assert_eq!(
                elsewhere.full_path(&DiskPath::new(path)),
                full.map(PathBuf::from),
                "{path}"
            );
        }
    }

    #[test]
    fn a_copy_is_whole_under_its_name_or_not_there() {
        let root = tempfile::tempdir().unwrap();
        let (from, to) = (root.path().join("from"), root.path().join("to"));
        fs::write(&from, b"body").unwrap();
        fs::write(&to, b"before").unwrap();
        copy(&from, &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"body");
        assert!(!from.exists());
        copy(&from, &to).unwrap_err();
        assert_eq!(fs::read(&to).unwrap(), b"body", "after an error it is as before");
        fs::write(&from, b"later").unwrap();
        let dir = root.path().join("dir");
        fs::create_dir(&dir).unwrap();
        copy(&from, &dir).unwrap_err();
        assert!(from.exists());
        let names: Vec<_> = fs::read_dir(root.path()).unwrap().collect();
        assert_eq!(names.len(), 3, "{names:?}");
    }
}
