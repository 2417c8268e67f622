//! Values of settings: how each kind is written, read and printed.
//!
//! Every kind has one reader for all sources. Sources differ in two points only: a TOML file has
//! types of its own, which must match, and a variable that holds a time may hold a bare number of
//! milliseconds, because its name ends in `_MS`.

use std::{fmt, net::IpAddr, path::PathBuf, time::Duration};

use super::{
    peer_list::{self, PeerError},
    units::{self, UnitError},
};

/// Where a node's peers reach it, unless it is told otherwise.
pub(crate) const PEER_PORT: u16 = 7443;

/// The longest [`Kind::Name`].
const NAME_BYTES_MAX: usize = 64;

/// One kibibyte, in bytes.
pub(crate) const KIB: u64 = 1 << 10;
/// One mebibyte, in bytes.
pub(crate) const MIB: u64 = 1 << 20;
/// One gibibyte, in bytes.
pub(crate) const GIB: u64 = 1 << 30;
/// One tebibyte, in bytes.
pub(crate) const TIB: u64 = 1 << 40;

/// What a setting holds, and what it may hold. Ranges include both ends.
#[derive(Debug)]
pub(crate) enum Kind {
    /// A number of bytes.
    Bytes { min: u64, max: u64 },
    /// A length of time, to the millisecond.
    Duration { min: Duration, max: Duration },
    /// A whole number.
    Count { min: u64, max: u64 },
    /// An IPv4 or IPv6 address.
    Address,
    /// A path in the file system.
    Path,
    /// True or false.
    Switch,
    /// One word of several.
    Choice(&'static [Choice]),
    /// A short name that fits a log line and a URL.
    Name,
    /// Addresses of peers.
    Peers,
    /// A filter for the log, in the language of `tracing_subscriber`.
    LogFilter,
}

/// One word that a [`Kind::Choice`] may hold.
#[derive(Debug)]
pub(crate) struct Choice {
    /// The word.
    pub(crate) name: &'static str,
    /// What it means, to end a sentence that begins with the word.
    pub(crate) meaning: &'static str,
}

/// What one setting holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// A number of bytes.
    Bytes(u64),
    /// A length of time.
    Duration(Duration),
    /// A whole number.
    Count(u64),
    /// An address.
    Address(IpAddr),
    /// A path.
    Path(PathBuf),
    /// True or false.
    Switch(bool),
    /// The name of a choice.
    Choice(&'static str),
    /// A name.
    Name(std::borrow::Cow<'static, str>),
    /// Peers, each as `host:port`.
    Peers(Vec<String>),
    /// A filter for the log; proven to parse, except where it stands in the table.
    LogFilter(std::borrow::Cow<'static, str>),
}

/// A value as somebody wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// In a flag.
    Flag(String),
    /// In an environment variable.
    Variable(String),
    /// As a TOML string.
    TomlString(String),
    /// As a TOML integer, with its radix.
    TomlInteger { digits: String, radix: u32 },
    /// As a TOML array of strings.
    TomlStrings(Vec<String>),
    /// As a TOML boolean.
    TomlBoolean(bool),
    /// As something else in TOML, which no setting is: its type.
    TomlOther(&'static str),
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(text) | Self::Variable(text) | Self::TomlString(text) => {
                write!(f, "{text:?}")
            }
            Self::TomlInteger { digits, radix: 16 } => write!(f, "0x{digits}"),
            Self::TomlInteger { digits, radix: 8 } => write!(f, "0o{digits}"),
            Self::TomlInteger { digits, radix: 2 } => write!(f, "0b{digits}"),
            Self::TomlInteger { digits, .. } => f.write_str(digits),
            Self::TomlStrings(texts) => write!(f, "{texts:?}"),
            Self::TomlBoolean(_) => f.write_str("a TOML boolean"),
            Self::TomlOther(kind) => write!(f, "a TOML {kind}"),
        }
    }
}

/// Why what was written is not a value of its setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Rejected {
    /// It has another type in TOML.
    #[error("which is not of the right type")]
    Type,
    /// It is not a whole number.
    #[error("which is not a whole number")]
    NotWhole,
    /// Its number and unit cannot be read.
    #[error("{0}")]
    Unit(UnitError),
    /// A bare number where a unit is needed.
    #[error("which has no unit; write \"{0}s\" or \"{0}ms\"")]
    UnitMissing(String),
    /// Less than is allowed.
    #[error("which is too low")]
    TooLow,
    /// More than is allowed.
    #[error("which is too high")]
    TooHigh,
    /// Neither true nor false.
    #[error("which is neither true nor false")]
    NotTrueOrFalse,
    /// Not an address.
    #[error("which is not an IP address")]
    NotAnAddress,
    /// Empty.
    #[error("which is empty")]
    Empty,
    /// No such choice.
    #[error("{}", match nearest { Some(n) => format!("did you mean {n:?}?"), None => "which is none of them".to_owned() })]
    NoSuchChoice { nearest: Option<&'static str> },
    /// Not a name.
    #[error("which is not such a name")]
    NotAName,
    /// Not peers.
    #[error("{0}")]
    Peers(PeerError),
    /// Not a filter.
    #[error("which is not a filter ({0})")]
    Filter(String),
    /// A link that Kubernetes injects for a service called `kura`.
    #[error(
        "which Kubernetes sets for a service of that name; set `enableServiceLinks: false` on the \
         pod, or name the service otherwise"
    )]
    ServiceLink,
}

impl Kind {
    /// Reads what was written.
    ///
    /// # Errors
    ///
    /// Why it is not a value of this kind.
    pub(crate) fn read(&self, written: &Written) -> Result<Value, Rejected> {
        match self {
            Self::Bytes { min, max } => {
                let bytes = match written {
                    Written::TomlInteger { digits, radix } => whole(digits, *radix)?,
                    Written::Flag(_)
                    | Written::Variable(_)
                    | Written::TomlString(_)
                    | Written::TomlStrings(_)
                    | Written::TomlBoolean(_)
                    | Written::TomlOther(_) => {
                        units::read_bytes(text(written)?).map_err(Rejected::Unit)?
                    }
                };
                within(bytes, *min, *max).map(Value::Bytes)
            }
            Self::Duration { min, max } => {
                within(read_duration(written)?, *min, *max).map(Value::Duration)
            }
            Self::Count { min, max } => within(read_count(written)?, *min, *max).map(Value::Count),
            Self::Address => {
                text(written)?.parse().map(Value::Address).map_err(|_| Rejected::NotAnAddress)
            }
            Self::Path => match text(written)? {
                "" => Err(Rejected::Empty),
                path => Ok(Value::Path(PathBuf::from(path))),
            },
            Self::Switch => read_switch(written).map(Value::Switch),
            Self::Choice(choices) => read_choice(choices, text(written)?).map(Value::Choice),
            Self::Name => read_name(text(written)?),
            Self::Peers => read_peers(written).map(Value::Peers),
            Self::LogFilter => read_filter(text(written)?),
        }
    }

    /// What stands for a value in the help of a flag.
    pub(crate) fn placeholder(&self) -> &'static str {
        match self {
            Self::Bytes { .. } => "SIZE",
            Self::Duration { .. } => "TIME",
            Self::Count { .. } => "NUMBER",
            Self::Address => "ADDRESS",
            Self::Path => "PATH",
            Self::Switch => "BOOLEAN",
            Self::Choice(_) => "WORD",
            Self::Name => "NAME",
            Self::Peers => "ADDRESSES",
            Self::LogFilter => "FILTER",
        }
    }

    /// What may be written, for people: it ends the sentence "allowed: ...".
    pub(crate) fn allowed(&self) -> String {
        match self {
            Self::Bytes { min, max } => format!(
                "a size from {} to {}, such as \"10GiB\", or a number of bytes",
                units::show_bytes(*min),
                units::show_bytes(*max)
            ),
            Self::Duration { min, max } => format!(
                "a time from {} to {}, such as \"30s\" or \"1500ms\"",
                units::show_duration(*min),
                units::show_duration(*max)
            ),
            Self::Count { min, max } => format!("a whole number from {min} to {max}"),
            Self::Address => "an IPv4 or IPv6 address, such as \"127.0.0.1\" or \"::\"".to_owned(),
            Self::Path => "a path, in UTF-8".to_owned(),
            Self::Switch => "true or false".to_owned(),
            Self::Choice(choices) => {
                let names: Vec<_> = choices.iter().map(|c| format!("\"{}\"", c.name)).collect();
                names.join(" or ")
            }
            Self::Name => format!(
                "a name of up to {NAME_BYTES_MAX} letters, digits, '-', '_' and '.', in ASCII"
            ),
            Self::Peers => format!(
                "host:port or http://host:port, separated by commas, such as \
                 \"kura-0:{PEER_PORT},kura-1:{PEER_PORT}\"; in TOML also a list of strings"
            ),
            Self::LogFilter => {
                "a level (error, warn, info, debug, trace, off), or levels for parts, such as \
                 \"info,kura_node=debug\""
                    .to_owned()
            }
        }
    }
}

/// As it would be written in TOML.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "\"{}\"", units::show_bytes(*bytes)),
            Self::Duration(duration) => write!(f, "\"{}\"", units::show_duration(*duration)),
            Self::Count(count) => write!(f, "{count}"),
            Self::Address(address) => write!(f, "\"{address}\""),
            Self::Path(path) => f.write_str(&toml_string(&path.to_string_lossy())),
            Self::Switch(is_on) => write!(f, "{is_on}"),
            Self::Choice(name) => write!(f, "\"{name}\""),
            Self::Name(name) => write!(f, "\"{name}\""),
            Self::Peers(peers) => write!(f, "\"{}\"", peers.join(",")),
            Self::LogFilter(filter) => f.write_str(&toml_string(filter)),
        }
    }
}

/// A string as TOML writes it, escapes included.
fn toml_string(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// The text of what was written, unless TOML gave it another type.
fn text(written: &Written) -> Result<&str, Rejected> {
    match written {
        Written::Flag(text) | Written::Variable(text) | Written::TomlString(text) => Ok(text),
        Written::TomlInteger { .. }
        | Written::TomlStrings(_)
        | Written::TomlBoolean(_)
        | Written::TomlOther(_) => Err(Rejected::Type),
    }
}

fn read_switch(written: &Written) -> Result<bool, Rejected> {
    match written {
        Written::Flag(text) | Written::Variable(text) => {
            text.trim().parse().map_err(|_| Rejected::NotTrueOrFalse)
        }
        Written::TomlBoolean(is_on) => Ok(*is_on),
        Written::TomlString(_)
        | Written::TomlInteger { .. }
        | Written::TomlStrings(_)
        | Written::TomlOther(_) => Err(Rejected::Type),
    }
}

fn read_count(written: &Written) -> Result<u64, Rejected> {
    match written {
        Written::Variable(text) if text.starts_with("tcp://") => Err(Rejected::ServiceLink),
        Written::Flag(text) | Written::Variable(text) => whole(text.trim(), 10),
        Written::TomlInteger { digits, radix } => whole(digits, *radix),
        Written::TomlString(_)
        | Written::TomlStrings(_)
        | Written::TomlBoolean(_)
        | Written::TomlOther(_) => Err(Rejected::Type),
    }
}

fn read_duration(written: &Written) -> Result<Duration, Rejected> {
    let (number, milliseconds) = match written {
        Written::TomlInteger { digits, .. } => (digits.as_str(), false),
        Written::Variable(text) => (text.trim(), true),
        Written::Flag(text) | Written::TomlString(text) => (text.trim(), false),
        Written::TomlStrings(_) | Written::TomlBoolean(_) | Written::TomlOther(_) => {
            return Err(Rejected::Type);
        }
    };
    let bare = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    match (bare, milliseconds) {
        (true, true) => whole(number, 10).map(Duration::from_millis),
        (true, false) => Err(Rejected::UnitMissing(number.to_owned())),
        (false, _) => units::read_duration(number).map_err(Rejected::Unit),
    }
}

fn read_choice(choices: &'static [Choice], written: &str) -> Result<&'static str, Rejected> {
    let names = || choices.iter().map(|choice| choice.name);
    names()
        .find(|name| *name == written)
        .ok_or_else(|| Rejected::NoSuchChoice { nearest: super::nearest::among(written, names()) })
}

fn read_name(written: &str) -> Result<Value, Rejected> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    match written {
        "" => Err(Rejected::Empty),
        name if name.len() <= NAME_BYTES_MAX && name.bytes().all(legal) => {
            Ok(Value::Name(name.to_owned().into()))
        }
        _ => Err(Rejected::NotAName),
    }
}

fn read_peers(written: &Written) -> Result<Vec<String>, Rejected> {
    let peers = match written {
        // An entry with a comma would be two, and is none that anybody wrote.
        Written::TomlStrings(texts) => peer_list::read(&texts.join(","), PEER_PORT),
        Written::Flag(_)
        | Written::Variable(_)
        | Written::TomlString(_)
        | Written::TomlInteger { .. }
        | Written::TomlBoolean(_)
        | Written::TomlOther(_) => peer_list::read(text(written)?, PEER_PORT),
    };
    peers.map_err(Rejected::Peers)
}

fn read_filter(written: &str) -> Result<Value, Rejected> {
    if written.trim().is_empty() {
        return Err(Rejected::Empty);
    }
    match tracing_subscriber::EnvFilter::builder().parse(written) {
        Ok(_) => Ok(Value::LogFilter(written.to_owned().into())),
        Err(error) => Err(Rejected::Filter(error.to_string())),
    }
}

/// Reads a whole number; more than 64 bits hold is too high, less than zero too low.
fn whole(digits: &str, radix: u32) -> Result<u64, Rejected> {
    let (negative, magnitude) = match digits.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, digits),
    };
    if magnitude.is_empty() || !magnitude.chars().all(|c| c.is_digit(radix)) {
        return Err(Rejected::NotWhole);
    }
    if negative {
        return Err(Rejected::TooLow);
    }
    u64::from_str_radix(magnitude, radix).map_err(|_| Rejected::TooHigh)
}

fn within<T: PartialOrd>(value: T, min: T, max: T) -> Result<T, Rejected> {
    if value < min {
        Err(Rejected::TooLow)
    } else if value > max {
        Err(Rejected::TooHigh)
    } else {
        Ok(value)
    }
}
