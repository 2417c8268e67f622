//! A small file system of a kind of one's own in a file. Takes the right to mount and a loop device.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// A mounted file system; unmounted on drop, which gives the loop device back.
pub(crate) struct LoopDisk {
    directory: TempDir,
    kind: &'static str,
    options: &'static str,
}

impl LoopDisk {
    /// Has `make` make one of `kind` in an empty file, and mounts it with `options`, or says why that
    /// cannot be.
    pub(crate) fn mount(
        size_mib: u64,
        make: &mut Command,
        kind: &'static str,
        options: &'static str,
    ) -> Result<Self, String> {
        let directory = tempfile::tempdir().expect("there is room for a directory");
        let disk = Self { directory, kind, options };
        let image = fs::File::create(disk.image()).expect("there is room for a file");
        image.set_len(size_mib << 20).expect("an empty file takes no room");
        fs::create_dir(disk.path()).expect("there is room for a directory");
        run(make.arg(disk.image()))?;
        disk.mount_image()?;
        Ok(disk)
    }

    fn image(&self) -> PathBuf {
        self.directory.path().join("image")
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("mount")
    }

    fn mount_image(&self) -> Result<(), String> {
        let options = ["-t", self.kind, "-o", self.options];
        run(Command::new("mount").args(options).arg(self.image()).arg(self.path()))
    }

    /// Mounts anew. No process may have a file open.
    pub(crate) fn mount_again(&self) {
        run(Command::new("umount").arg(self.path())).expect("nothing uses the file system");
        self.mount_image().expect("it was mounted before");
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        // Lazily: a node that a failing test leaves behind may still have files open.
        Command::new("umount").arg("--lazy").arg(self.path()).status().ok();
    }
}

/// Runs a program to its end; what it said where it fails.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let program = Path::new(command.get_program()).display().to_string();
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("{program}: {error}")),
    }
}
