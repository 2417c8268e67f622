//! What is known about one setting. The rows themselves stand in [`super::table`].

use super::{
    table::SETTINGS,
    value::{Kind, Value},
};

/// The prefix of every environment variable that is ours.
pub(crate) const VARIABLE_PREFIX: &str = "KURA_";

/// The settings, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    DataDir,
    DrainTimeout,
    Bind,
    Port,
    MaxConnections,
    IdleTimeout,
    HeaderTimeout,
    DrainBodyMax,
    RetryAfter,
    Peers,
    PeerPort,
    Region,
    PeerWait,
    PassTimeout,
    ReadThrough,
    BandwidthLimit,
    PrimaryMinAge,
    PrimaryLagMax,
    Capacity,
    Segment,
    MaxBody,
    IndexMax,
    Durability,
    Promise,
    WriteGrace,
    ScrubEvery,
    ScrubRate,
    StagingDir,
    OtherFileSystem,
    StagingMax,
    MemoryMax,
    MemoryBody,
    LogFilter,
    LogFormat,
}

impl Key {
    /// Its row of the table.
    pub(crate) fn setting(self) -> &'static Setting {
        &SETTINGS[self as usize]
    }
}

/// A row of the table.
#[derive(Debug)]
pub(crate) struct Setting {
    /// Which one it is.
    pub(crate) key: Key,
    /// Its place in a TOML file: section and name, joined by a dot.
    pub(crate) toml: &'static str,
    /// Its environment variable.
    pub(crate) variable: &'static str,
    /// Its flag, without the dashes.
    pub(crate) flag: &'static str,
    /// What it holds.
    pub(crate) kind: Kind,
    /// What it is when nobody says.
    pub(crate) default: DefaultValue,
    /// What it is for: one or more sentences.
    pub(crate) meaning: &'static str,
    /// What goes wrong with a bad choice.
    pub(crate) stakes: Stakes,
}

impl Setting {
    /// The section of a TOML file that holds it.
    pub(crate) fn section(&self) -> &'static str {
        self.toml.split_once('.').map_or("", |(section, _)| section)
    }

    /// Its name within the section.
    pub(crate) fn name(&self) -> &'static str {
        self.toml.split_once('.').map_or(self.toml, |(_, name)| name)
    }

    /// The setting at this place of a TOML file.
    pub(crate) fn by_toml(path: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.toml == path)
    }

    /// The setting of this environment variable.
    pub(crate) fn by_variable(name: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.variable == name)
    }
}

/// What a setting is when nobody says. The examples are TOML.
#[derive(Debug)]
pub(crate) enum DefaultValue {
    /// Nothing: it must be set.
    Required { example: &'static str },
    /// Always the same.
    Fixed(Value),
    /// It follows from something else; a sentence without its full stop.
    Derived { rule: &'static str, example: &'static str },
}

/// What goes wrong with a bad choice.
#[derive(Debug)]
pub(crate) enum Stakes {
    /// Of a quantity, at both ends.
    Ends { too_low: &'static str, too_high: &'static str },
    /// Of anything else.
    Choice(&'static str),
}

/// A section of a TOML file.
pub(crate) struct Section {
    /// Its name.
    pub(crate) name: &'static str,
    /// What its settings are about.
    pub(crate) about: &'static str,
}
