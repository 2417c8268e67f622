//! Why a chore did not get done.

use std::{error::Error, io, path::PathBuf, time::Duration};

/// Any failure of a chore. Each stands alone: it is printed as the last line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A program could not be started.
    #[error("cannot start `{line}`")]
    Start {
        /// The command line.
        line: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A program ended with an error; its output says why.
    #[error("`{line}` failed ({status})")]
    Command {
        /// The command line.
        line: String,
        /// Its exit status.
        status: String,
    },
    /// A program did not end in time and was killed.
    #[error("`{line}` was still running after {limit:?} and was killed")]
    Stuck {
        /// The command line.
        line: String,
        /// How long it was given.
        limit: Duration,
    },
    /// A file could not be read or written.
    #[error("{}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A data file does not say what it should.
    #[error("{}: {problem}", path.display())]
    Data {
        /// Which one.
        path: PathBuf,
        /// What is wrong, with its place.
        problem: String,
    },
    /// A program printed what cannot be understood.
    #[error("`{line}` printed no {expected}")]
    Output {
        /// The command line.
        line: String,
        /// What it should have printed.
        expected: &'static str,
    },
    /// Programs are missing and may not be installed.
    #[error("missing: {missing}; install them with: {command}")]
    Missing {
        /// Their names, with what they are for.
        missing: String,
        /// What to run.
        command: String,
    },
    /// The workspace lacks something that a chore needs.
    #[error("there is no {what}")]
    Absent {
        /// What it is.
        what: String,
    },
    /// Checks ran and did not hold.
    #[error("{what}")]
    Unmet {
        /// Which, and how they failed.
        what: String,
    },
}

/// The failure and all its causes on one line.
pub(crate) fn chain(failure: &Failure) -> String {
    let mut text = failure.to_string();
    let mut cause = failure.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
