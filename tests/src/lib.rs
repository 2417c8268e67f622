//! What the suites and benchmarks of real processes share: the program under test, clients, a proxy, small
//! disks.
//!
//! Everything here fails by panicking with a sentence: there is nobody to handle an error.

pub mod btrfs_disk;
pub mod client;
pub mod dev;
pub mod endurance;
pub mod ext4_disk;
mod loop_disk;
pub mod node;
pub mod process;
mod program;
pub mod proxy;
pub mod raw;
pub mod skip;
pub mod small_disk;
pub mod wait;
