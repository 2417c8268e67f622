//! What can be wrong with settings, each with the place where somebody wrote it.

use std::{fmt, io, path::PathBuf, sync::Arc};

use super::{
    setting::{Setting, VARIABLE_PREFIX},
    value::{Rejected, Written},
};

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nobody said.
    Default,
    /// A line of a file, counted from 1.
    File { path: Arc<PathBuf>, line: usize },
    /// An environment variable.
    Variable(&'static str),
    /// A flag, without its dashes.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Flag(name) => write!(f, "flag --{name}"),
        }
    }
}

/// Something that keeps a node from starting.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    /// The file cannot be read.
    #[error("{}: cannot be read: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: io::Error },
    /// The file is too long to be one of ours.
    #[error("{}: longer than {bytes_max} bytes; is it a Kura configuration?", path.display())]
    FileTooLong { path: PathBuf, bytes_max: u64 },
    /// The file is not text.
    #[error("{origin}: not UTF-8; a configuration is TOML, in UTF-8")]
    FileNotText { origin: Origin },
    /// The file is not TOML.
    #[error("{origin}: not TOML: {message}")]
    Syntax { origin: Origin, message: String },
    /// No such setting.
    #[error("{origin}: unknown key {key}{}", suggestion(*nearest))]
    UnknownKey { origin: Origin, key: String, nearest: Option<&'static str> },
    /// No such section.
    #[error("{origin}: unknown section [{section}]{}", section_suggestion(*nearest))]
    UnknownSection { origin: Origin, section: String, nearest: Option<&'static str> },
    /// The name of a section is used for a value.
    #[error("{origin}: {section} is a section; write [{section}] and its keys below")]
    NotASection { origin: Origin, section: &'static str },
    /// A value that its setting does not allow.
    #[error("{origin}: {}: found {found}, {why}; allowed: {}", setting.toml, setting.kind.allowed())]
    BadValue { origin: Origin, setting: &'static Setting, found: Written, why: Rejected },
    /// A variable that is not text.
    #[error("{origin}: not UTF-8")]
    VariableNotText { origin: Origin },
    /// A setting that must be set is not.
    #[error(
        "{} is not set; set the variable {}, or --{} on the command line, or `{} = {example}` under \
         [{}] in the file given with --config",
        setting.toml, setting.variable, setting.flag, setting.name(), setting.section()
    )]
    Missing { setting: &'static Setting, example: &'static str },
    /// Two settings that must differ.
    #[error("{one} and {other} are the same port; give each a port of its own")]
    SamePort { one: Box<Party>, other: Box<Party> },
    /// Two settings that do not go together.
    #[error("{0}")]
    Conflict(Box<Conflict>),
}

impl Problem {
    /// The line of the file that it is about; 0 if it is about none.
    pub(crate) fn line(&self) -> usize {
        match self {
            Self::FileNotText { origin }
            | Self::Syntax { origin, .. }
            | Self::UnknownKey { origin, .. }
            | Self::UnknownSection { origin, .. }
            | Self::NotASection { origin, .. }
            | Self::BadValue { origin, .. }
            | Self::VariableNotText { origin } => match origin {
                Origin::File { line, .. } => *line,
                Origin::Default | Origin::Variable(_) | Origin::Flag(_) => 0,
            },
            Self::Unreadable { .. }
            | Self::FileTooLong { .. }
            | Self::Missing { .. }
            | Self::SamePort { .. }
            | Self::Conflict(_) => 0,
        }
    }
}

/// One setting must not be less than another, or than what follows from the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// The one that is too low.
    pub(crate) low: Party,
    /// The one that is too high for it.
    pub(crate) high: Party,
    /// Why they do not go together; a sentence without its full stop.
    pub(crate) reason: String,
}

/// One side of a conflict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Party {
    /// Its key in TOML.
    pub(crate) toml: &'static str,
    /// Its value as TOML writes it.
    pub(crate) value: String,
    /// Where the value comes from.
    pub(crate) origin: Origin,
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} ({})", self.toml, self.value, self.origin)
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} and {} do not go together: {}; raise {} or lower {}",
            self.low, self.high, self.reason, self.low.toml, self.high.toml
        )
    }
}

/// Something that is probably a mistake, but keeps nobody from starting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Warning {
    /// A variable of ours that means nothing.
    #[error(
        "variable {name} is not a setting and is ignored{}; all of {VARIABLE_PREFIX}* are reserved",
        suggestion(*nearest)
    )]
    UnknownVariable { name: String, nearest: Option<&'static str> },
}

fn section_suggestion(nearest: Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean [{name}]?"))
}

fn suggestion(nearest: Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean {name}?"))
}
