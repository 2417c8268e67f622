//! What is wrong with a scenario file, where, and what would be right.

use std::fmt;

/// A scenario that cannot be read. Prints as `FILE:LINE: KEY: ...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScenarioError {
    /// The file as it was named.
    pub file: String,
    /// The line, from 1; 0 where none is to blame.
    pub line: usize,
    /// The key with its tables, `disk.capacity`; empty where none is to blame.
    pub key: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// The kinds of mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Not TOML: what the parser said.
    Syntax(String),
    /// No such key or table here.
    Unknown {
        /// The keys there are.
        allowed: Vec<&'static str>,
        /// The one that was probably meant.
        nearest: Option<&'static str>,
    },
    /// A value of the wrong form or out of bounds.
    Illegal {
        /// What stands there.
        found: String,
        /// What may stand there.
        allowed: String,
    },
    /// A field without default is not written.
    Missing {
        /// What may stand there.
        allowed: String,
    },
    /// A name that refers to nothing.
    Dangling {
        /// What stands there.
        found: String,
        /// What there is to refer to.
        allowed: String,
    },
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        match &self.problem {
            Problem::Syntax(cause) => write!(f, ": is not TOML: {cause}"),
            Problem::Unknown { allowed, nearest } => {
                f.write_str(": no such key here")?;
                if let Some(nearest) = nearest {
                    write!(f, "; did you mean `{nearest}`?")?;
                }
                write!(f, " (allowed: {})", allowed.join(", "))
            }
            Problem::Illegal { found, allowed } => write!(f, ": found {found}; allowed: {allowed}"),
            Problem::Missing { allowed } => write!(f, ": is missing; allowed: {allowed}"),
            Problem::Dangling { found, allowed } => {
                write!(f, ": found {found}, which is not there; there is: {allowed}")
            }
        }
    }
}

impl std::error::Error for ScenarioError {}
