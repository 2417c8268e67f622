//! Plans: what shall break, as data that can be written down, printed, shortened and replayed.

use std::fmt;

use kura_env::DiskErrorKind;
use serde::{Deserialize, Serialize};

/// A fault's number in its plan, by which journals and minimised plans refer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FaultId(pub u32);

/// What shall break in a run. Where two faults would strike the same operation the earlier in the
/// list does, and the other strikes the next one that fits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The faults.
    #[serde(default)]
    pub faults: Vec<Fault>,
}

impl Plan {
    /// Whether nothing shall break.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    /// The plan without one fault.
    #[must_use]
    pub fn without(&self, id: FaultId) -> Self {
        let faults = self.faults.iter().filter(|fault| fault.id != id);
        Self { faults: faults.cloned().collect() }
    }
}

/// One line for each fault.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.faults.iter().try_for_each(|fault| writeln!(f, "{fault}"))
    }
}

/// One thing that shall break.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Its number.
    pub id: FaultId,
    /// The node it strikes.
    pub node: String,
    /// At which operation.
    pub when: When,
    /// In which way.
    pub what: What,
    /// How many operations in a row that fit.
    #[serde(default = "once")]
    pub times: u32,
}

fn once() -> u32 {
    1
}

/// At which operation a fault strikes: the first one at or after this point that it can strike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum When {
    /// The n-th change of the node's disk, counted from 1 through all its lives.
    Effect(u64),
    /// The n-th operation of the node, counted from 1, whose class matches.
    EffectMatching {
        /// A class, such as `append blobs/*.seg`, `read RING`, `catalog commit` or
        /// `connect 10.0.0.2:*`. A `*` stands for anything.
        label: String,
        /// Which of those that match.
        nth: u64,
    },
    /// When the node's monotonic clock has reached this many milliseconds.
    AtMillis(u64),
}

/// In which way something breaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum What {
    /// The node dies at a change of its disk; `AtMillis`, whatever it is doing.
    Crash {
        /// How.
        kind: CrashKind,
        /// On which side of the change.
        #[serde(default)]
        moment: CrashMoment,
    },
    /// A change or a read of the disk fails and does nothing.
    DiskError {
        /// With which error.
        kind: DiskFault,
    },
    /// An append or a write gets through in part, then fails.
    ShortAppend {
        /// With which error.
        kind: DiskFault,
    },
    /// An operation takes longer.
    Stall {
        /// By how much.
        millis: u64,
    },
    /// A commit fails, and the catalog is poisoned until it is opened again.
    CatalogError {
        /// With which error.
        kind: CatalogFault,
    },
    /// A connection is refused; one that comes in is closed at once.
    NetRefuse,
    /// A connection ends after so many bytes, both directions taken together.
    NetCut {
        /// The bytes that still pass.
        after_bytes: u64,
        /// In which way it ends.
        how: Cut,
    },
    /// A connection pauses after so many bytes, both directions taken together.
    NetStall {
        /// The bytes that pass before.
        after_bytes: u64,
        /// How long it pauses.
        millis: u64,
    },
}

/// How a node dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum CrashKind {
    /// The process is killed; the system lives on.
    Sigkill,
    /// The machine loses power.
    PowerLoss {
        /// What becomes of what was not synced.
        keep: KeepUnsynced,
    },
}

/// What power loss leaves of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeepUnsynced {
    /// Nothing.
    Nothing,
    /// Everything.
    Everything,
    /// Each name and page by itself, drawn from the seed.
    Sampled,
}

/// On which side of a change the node dies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CrashMoment {
    /// The change does not happen.
    Before,
    /// A part of a write happens, and of anything else all or nothing.
    Within,
    /// The change happens, and nobody hears of it.
    #[default]
    After,
}

/// Errors of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskFault {
    /// `ENOSPC`.
    NoSpace,
    /// `EDQUOT`.
    Quota,
    /// `EROFS`.
    ReadOnly,
    /// `EIO`.
    Io,
}

impl DiskFault {
    /// The error that a caller sees.
    #[must_use]
    pub fn error(self) -> DiskErrorKind {
        match self {
            Self::NoSpace => DiskErrorKind::NoSpace,
            Self::Quota => DiskErrorKind::Quota,
            Self::ReadOnly => DiskErrorKind::ReadOnly,
            Self::Io => DiskErrorKind::Io,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::NoSpace => "no-space",
            Self::Quota => "quota",
            Self::ReadOnly => "read-only",
            Self::Io => "io",
        }
    }
}

/// Errors of a catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CatalogFault {
    /// Its disk is full.
    NoSpace,
    /// Its device failed.
    Io,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cut {
    /// With an error on both sides.
    Reset,
    /// With an orderly end, wherever the sender was.
    Eof,
    /// With silence: nothing arrives, nothing is accepted, and nobody is told.
    Silence,
}

impl What {
    /// The class by which faults that fired are counted.
    #[must_use]
    pub fn class(&self) -> String {
        match self {
            Self::Crash { kind: CrashKind::Sigkill, .. } => "crash.sigkill".to_owned(),
            Self::Crash { kind: CrashKind::PowerLoss { .. }, .. } => "crash.power-loss".to_owned(),
            Self::DiskError { kind } => format!("disk-error.{}", kind.name()),
            Self::ShortAppend { kind } => format!("short-append.{}", kind.name()),
            Self::Stall { .. } => "stall".to_owned(),
            Self::CatalogError { kind: CatalogFault::NoSpace } => {
                "catalog-error.no-space".to_owned()
            }
            Self::CatalogError { kind: CatalogFault::Io } => "catalog-error.io".to_owned(),
            Self::NetRefuse => "net-refuse".to_owned(),
            Self::NetCut { how: Cut::Reset, .. } => "net-cut.reset".to_owned(),
            Self::NetCut { how: Cut::Eof, .. } => "net-cut.eof".to_owned(),
            Self::NetCut { how: Cut::Silence, .. } => "net-cut.silence".to_owned(),
            Self::NetStall { .. } => "net-stall".to_owned(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} {} {}: {}", self.id.0, self.node, self.when, self.what)?;
        if self.times == 1 { Ok(()) } else { write!(f, ", {} times", self.times) }
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Effect(number) => write!(f, "at effect {number}"),
            Self::EffectMatching { label, nth } => write!(f, "at \"{label}\" number {nth}"),
            Self::AtMillis(millis) => write!(f, "from {millis} ms"),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crash { kind, moment } => {
                let moment = match moment {
                    CrashMoment::Before => "before",
                    CrashMoment::Within => "within",
                    CrashMoment::After => "after",
                };
                let kind = match kind {
                    CrashKind::Sigkill => "SIGKILL",
                    CrashKind::PowerLoss { keep: KeepUnsynced::Nothing } => {
                        "power loss, nothing unsynced is kept"
                    }
                    CrashKind::PowerLoss { keep: KeepUnsynced::Everything } => {
                        "power loss, everything is kept"
                    }
                    CrashKind::PowerLoss { keep: KeepUnsynced::Sampled } => {
                        "power loss, what is kept is drawn"
                    }
                };
                write!(f, "crash {moment} it ({kind})")
            }
            Self::DiskError { kind } => write!(f, "fails ({})", kind.error()),
            Self::ShortAppend { kind } => write!(f, "writes a part, then fails ({})", kind.error()),
            Self::Stall { millis } => write!(f, "takes {millis} ms longer"),
            Self::CatalogError { kind: CatalogFault::NoSpace } => {
                f.write_str("the catalog is full")
            }
            Self::CatalogError { kind: CatalogFault::Io } => f.write_str("the catalog fails"),
            Self::NetRefuse => f.write_str("connection refused"),
            Self::NetCut { after_bytes, how } => {
                let how = match how {
                    Cut::Reset => "reset",
                    Cut::Eof => "end of stream",
                    Cut::Silence => "silence",
                };
                write!(f, "{how} after {after_bytes} bytes")
            }
            Self::NetStall { after_bytes, millis } => {
                write!(f, "pauses {millis} ms after {after_bytes} bytes")
            }
        }
    }
}
