//! From fjall's errors to the causes that callers tell apart.

use std::{
    error::Error as _,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
};

use kura_env::CatalogError;

/// The cause of a failed call.
pub(super) fn of(error: &fjall::Error) -> CatalogError {
    let text = error.to_string();
    if matches!(error, fjall::Error::Poisoned) {
        return CatalogError::Poisoned(text);
    }
    if matches!(error, fjall::Error::Locked) {
        return CatalogError::Io(text);
    }
    match errno_of(error) {
        Some(libc::ENOSPC | libc::EDQUOT) => CatalogError::NoSpace(text),
        // A file that ought to be there, or bytes that make no sense.
        Some(libc::ENOENT) | None => CatalogError::Damaged(text),
        Some(_) => CatalogError::Io(text),
    }
}

/// The cause of a failed call of the system.
pub(super) fn of_io(error: io::Error) -> CatalogError {
    of(&fjall::Error::Io(error))
}

/// Why it does not open: damage, unless it is what another start may find otherwise, with the same
/// files. A file that is missing shows as one that exists already, and in other ways.
pub(super) fn of_open(error: &fjall::Error) -> CatalogError {
    match errno_of(error) {
        Some(
            libc::ENOSPC
            | libc::EDQUOT
            | libc::EROFS
            | libc::EACCES
            | libc::EPERM
            | libc::EMFILE
            | libc::ENFILE
            | libc::ENOMEM,
        )
        | None => of(error),
        Some(_) => CatalogError::Damaged(error.to_string()),
    }
}

fn errno_of(error: &fjall::Error) -> Option<i32> {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(cause) = cause.downcast_ref::<io::Error>() {
            return cause.raw_os_error();
        }
        source = cause.source();
    }
    None
}

/// Runs a call into fjall, where damaged files may end in a panic.
pub(super) fn no_panic<T>(
    call: impl FnOnce() -> Result<T, CatalogError>,
) -> Result<T, CatalogError> {
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|_| Err(CatalogError::Damaged("the database panicked".to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_from_a_broken_one_and_from_broken_files() {
        let io = |errno| io::Error::from_raw_os_error(errno);
        let direct = |errno| of(&fjall::Error::Io(io(errno)));
        let nested = |errno| of(&fjall::Error::Storage(fjall::LsmError::Io(io(errno))));
        for full in [libc::ENOSPC, libc::EDQUOT] {
            assert!(matches!(direct(full), CatalogError::NoSpace(_)));
            assert!(matches!(nested(full), CatalogError::NoSpace(_)));
        }
        assert!(matches!(nested(libc::EIO), CatalogError::Io(_)));
        let opening = |errno| of_open(&fjall::Error::Storage(fjall::LsmError::Io(io(errno))));
        for damage in [libc::EIO, libc::EEXIST, libc::ENOTDIR] {
            assert!(matches!(opening(damage), CatalogError::Damaged(_)));
        }
        assert!(matches!(opening(libc::EMFILE), CatalogError::Io(_)));
        assert!(matches!(of_io(io(libc::EDQUOT)), CatalogError::NoSpace(_)));
        assert!(matches!(direct(libc::ENOENT), CatalogError::Damaged(_)));
        assert!(matches!(of(&fjall::Error::Unrecoverable), CatalogError::Damaged(_)));
        assert!(matches!(of(&fjall::Error::Poisoned), CatalogError::Poisoned(_)));
        assert!(matches!(no_panic::<()>(|| panic!("on purpose")), Err(CatalogError::Damaged(_))));
    }
}
