//! From errno to the causes that callers tell apart.

use std::io;

use kura_env::DiskErrorKind;

pub(super) fn kind_of(cause: &io::Error) -> DiskErrorKind {
    let errno = cause.raw_os_error();
    match errno {
        Some(libc::ENOENT) => DiskErrorKind::NotFound,
        Some(libc::EEXIST) => DiskErrorKind::AlreadyExists,
        Some(libc::ENOSPC) => DiskErrorKind::NoSpace,
        Some(libc::EDQUOT) => DiskErrorKind::Quota,
        Some(libc::EROFS) => DiskErrorKind::ReadOnly,
        Some(libc::EIO) => DiskErrorKind::Io,
        Some(libc::EOPNOTSUPP | libc::ENOSYS) => DiskErrorKind::Unsupported,
        _ => DiskErrorKind::Other { errno: errno.unwrap_or(0), text: cause.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_errno_that_callers_act_on_has_its_own_kind() {
        let kind = |errno| kind_of(&io::Error::from_raw_os_error(errno));
        assert_eq!(kind(libc::ENOENT), DiskErrorKind::NotFound);
        assert_eq!(kind(libc::EEXIST), DiskErrorKind::AlreadyExists);
        assert_eq!(kind(libc::ENOSPC), DiskErrorKind::NoSpace);
        assert_eq!(kind(libc::EDQUOT), DiskErrorKind::Quota);
        assert_eq!(kind(libc::EROFS), DiskErrorKind::ReadOnly);
        assert_eq!(kind(libc::EIO), DiskErrorKind::Io);
        assert_eq!(kind(libc::EOPNOTSUPP), DiskErrorKind::Unsupported);
        assert!(matches!(kind(libc::EMFILE), DiskErrorKind::Other { errno: libc::EMFILE, .. }));
        assert!(matches!(
            kind_of(&io::Error::other("no number")),
            DiskErrorKind::Other { errno: 0, .. }
        ));
    }
}
