//! A small file system in memory, which takes the right to mount.

use std::{fs, path::Path, process::Command};

use tempfile::TempDir;

const KIB: usize = 1024;
const MIB: usize = 1024 * 1024;

/// A mounted file system of its own; unmounted on drop.
pub struct SmallDisk(TempDir);

impl SmallDisk {
    /// Mounts one, or says why that cannot be.
    ///
    /// # Errors
    ///
    /// What stands in the way.
    pub fn mount(size_mib: usize) -> Result<Self, String> {
        let at = tempfile::tempdir().expect("there is room for a directory");
        let options = format!("size={size_mib}m,mode=700");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "kura-test"]).arg(at.path());
        match mount.output() {
            Ok(output) if output.status.success() => Ok(Self(at)),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(format!("mount: {error}")),
        }
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all of the space that is left, as another program on the same disk would.
    pub fn fill(&self) {
        let filler = fs::File::create(self.path().join("filler")).expect("files can be made");
        let mut at = 0;
        for step in [MIB, 4 * KIB] {
            let piece = vec![1; step];
            while std::os::unix::fs::FileExt::write_all_at(&filler, &piece, at).is_ok() {
                at += step as u64;
            }
        }
    }

    /// Gives that space back.
    pub fn relieve(&self) {
        fs::remove_file(self.path().join("filler")).expect("it was filled");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a node that a failing test leaves behind may still have files open.
        Command::new("umount").arg("--lazy").arg(self.path()).status().ok();
    }
}

/// What the file system that holds `path` has, in bytes: in all, and still available.
#[must_use]
pub fn space_bytes(path: &Path) -> (u64, u64) {
    let stat = Command::new("stat").args(["-f", "-c", "%S %b %a"]).arg(path).output();
    let said = stat.expect("there is a stat").stdout;
    let said = String::from_utf8(said).expect("numbers are ASCII");
    let numbers = said.split_whitespace().map(|word| word.parse().expect("three numbers"));
    let numbers: Vec<u64> = numbers.collect();
    let &[block_bytes, blocks, available] = &*numbers else { panic!("stat -f said {said:?}") };
    (blocks * block_bytes, available * block_bytes)
}
