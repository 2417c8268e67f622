//! How `kura` ends: the codes of `sysexits.h`, where one fits.

/// Why the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done, or drained.
    Clean,
    /// A node that was asked is not ready.
    NotReady,
    /// A data directory that was looked at has problems.
    Unsound,
    /// A command line that cannot be understood.
    Usage,
    /// A fault of our own.
    Internal,
    /// A disk, the data on it, or the network failed.
    Io,
    /// Another process has the data directory.
    Locked,
    /// A bad setting.
    Config,
    /// A second signal, by number, while a drain was going on.
    Impatient(u8),
}

/// Every code and what it means, for `--help` and the docs.
pub(crate) const TABLE: [(&str, &str); 8] = [
    (
        "0",
        "clean end; `kura serve`: drained after SIGTERM, SIGINT or SIGUSR1; `kura status`: all are ready",
    ),
    (
        "1",
        "`kura status`: a node is not ready; `kura verify`, `kura inspect`: there are problems; `kura \
         verify --repair`: some are left; `kura scrub`: the disk lost something",
    ),
    ("64", "the command line cannot be understood"),
    ("70", "a fault of Kura itself"),
    (
        "74",
        "the disk, the data on it, or the network failed: the message says what and why; `kura status`, `kura scrub`: \
         a node cannot be reached",
    ),
    (
        "75",
        "another process has the data directory, or the one for bodies in flight: the message names \
         it; try again when it is gone",
    ),
    (
        "78",
        "bad settings: the message lists all of them, or names a directory on the wrong file system",
    ),
    ("128 + n", "stopped at once by a second signal n (130: SIGINT, 143: SIGTERM) during a drain"),
];

impl Exit {
    /// The code that the process that waits for us sees.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::NotReady | Self::Unsound => 1,
            Self::Usage => 64,
            Self::Internal => 70,
            Self::Io => 74,
            Self::Locked => 75,
            Self::Config => 78,
            Self::Impatient(signal) => 128_u8.saturating_add(signal),
        }
    }
}
