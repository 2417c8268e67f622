//! A node that has its disk for itself never writes into a full one: what it takes in was checked
//! against the room before.

use kura_env::DiskErrorKind;

use super::{Invariant, Violation};

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "never_full",
    demands: "while nobody else holds anything of a node's disk, and nothing lay staged there before, \
              no call of the disk finds it full; a sync, if nobody did since the one before",
    checked: "after every disk effect of every node, where no fault of the plan fills the disk",
};

/// Judges how a call of the disk, `what`, ended while others held `foreign_bytes`.
///
/// # Errors
///
/// If the disk was full, and nobody but the node can have filled it.
pub fn check(
    node: &str,
    what: &str,
    outcome: &Result<(), DiskErrorKind>,
    foreign_bytes: u64,
) -> Result<(), Violation> {
    match outcome {
        Err(DiskErrorKind::NoSpace) if foreign_bytes == 0 => {
            Err(INVARIANT.violated(format!("{node}: {what} met a disk that the node has filled")))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_forgiven_only_beside_others() {
        let full = Err(DiskErrorKind::NoSpace);
        assert!(check("n", "append", &full, 0).is_err());
        assert!(check("n", "append", &full, 1).is_ok());
        assert!(check("n", "append", &Err(DiskErrorKind::Io), 0).is_ok());
        assert!(check("n", "append", &Ok(()), 0).is_ok());
    }
}
