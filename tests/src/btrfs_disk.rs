//! A small btrfs in a file with a quota that ends below its size, for what only a quota shows: writes fail
//! with `EDQUOT` while the volume tells that it has room. Takes the right to mount and a loop device.

use std::{path::PathBuf, process::Command};

use crate::loop_disk::{LoopDisk, run};

/// The quota of the first subvolume: their numbers begin at 256.
const FIRST_QUOTA: &str = "0/256";

/// A mounted btrfs of its own, with a subvolume that has a quota; unmounted on drop.
pub struct BtrfsDisk(LoopDisk);

impl BtrfsDisk {
    /// Makes and mounts one, or says why that cannot be.
    ///
    /// # Errors
    ///
    /// What stands in the way: the right to mount, a program, or a kernel without btrfs.
    pub fn mount(size_mib: u64, quota_mib: u64) -> Result<Self, String> {
        let mut make = Command::new("mkfs.btrfs");
        let disk = Self(LoopDisk::mount(size_mib, make.arg("-q"), "btrfs", "loop")?);
        run(Command::new("btrfs").args(["quota", "enable"]).arg(disk.0.path()))?;
        run(Command::new("btrfs").args(["subvolume", "create"]).arg(disk.path()))?;
        disk.limit(quota_mib)?;
        Ok(disk)
    }

    /// Where the subvolume with the quota is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.0.path().join("limited")
    }

    /// Sets the quota anew. It holds at once, also below what is there already.
    ///
    /// # Errors
    ///
    /// Why it could not be set.
    pub fn limit(&self, quota_mib: u64) -> Result<(), String> {
        let mut limit = Command::new("btrfs");
        limit.args(["qgroup", "limit", &format!("{quota_mib}M"), FIRST_QUOTA]);
        // From outside the subvolume: a used-up quota does not even pay for its own raise.
        run(limit.arg(self.0.path()))
    }
}
