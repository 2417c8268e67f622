//! `kura inspect`: looks at single parts of a data directory, and changes nothing.
//!
//! Segments, RING and staging files are read where they lie, also while the node runs. The catalog has no
//! way to be opened without a change, so that a copy of it is opened, and only while no node runs.

mod access;
mod catalog;
mod record;
mod ring;
mod segment;
mod staging;
mod text;

use std::{io, path::PathBuf};

use kura_env::{CatalogError, DiskError};
use kura_node::inspect::CatalogLookError;
use tokio::runtime::Builder;

use self::access::{Access, CopyError};
pub(crate) use self::text::count;
use crate::{complain, exit::Exit, settings::Settings, staging::Unfit, try_print};

/// What somebody wants to see.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// RING, beside the files of the segments.
    Ring,
    /// Every record of one segment or object.
    Segment {
        /// Its name, or a file.
        target: String,
        /// Whether bodies are read as well.
        with_bodies: bool,
    },
    /// One artifact.
    Record {
        /// `NAMESPACE KEY`, or `SEGMENT:OFFSET`.
        words: Vec<String>,
        /// Whether to look for copies in every segment.
        scan: bool,
    },
    /// The catalog.
    Catalog {
        /// Rows of one keyspace, instead of all keyspaces in numbers.
        keyspace: Option<String>,
        /// How many rows.
        limit: usize,
    },
    /// Bodies in flight.
    Staging,
}

/// Why nothing could be looked at.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the system gives no threads or file descriptors: {0}")]
    World(#[source] io::Error),
    #[error("there is no data directory {}; --data-dir names it", .0.display())]
    Missing(PathBuf),
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error(
        "the catalog of {} is in use by {holder}, and changes while it is read; stop that first. RING, \
         segments and staging can be looked at meanwhile",
        path.display()
    )]
    Locked { path: PathBuf, holder: String },
    #[error(
        "{0:?} is neither a segment of the data directory, such as blobs/0000000000000001, nor a file"
    )]
    NoSegment(String),
    #[error(
        "{0:?} is not the place of a record: SEGMENT:OFFSET, such as blobs/0000000000000001:64, or \
         NAMESPACE KEY"
    )]
    NoPlace(String),
    #[error("{name:?} is not the name of an artifact: {cause}")]
    NoName { name: String, cause: kura_core::address::AddressError },
    #[error("there is no keyspace {name:?}; there are {known}")]
    NoKeyspace { name: String, known: String },
    #[error(transparent)]
    Copy(#[from] CopyError),
    #[error(transparent)]
    Staging(#[from] Unfit),
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Standard output is gone.
    #[error("nothing more can be printed")]
    Output(Exit),
}

impl From<CatalogLookError> for Failure {
    fn from(error: CatalogLookError) -> Self {
        match error {
            CatalogLookError::Disk(error) => Self::Disk(error),
            CatalogLookError::Catalog(error) => Self::Catalog(error),
        }
    }
}

impl Failure {
    fn exit(&self) -> Exit {
        match self {
            Self::Locked { .. } => Exit::Locked,
            Self::NoSegment(_)
            | Self::NoPlace(_)
            | Self::NoName { .. }
            | Self::NoKeyspace { .. } => Exit::Usage,
            Self::World(_)
            | Self::Missing(_)
            | Self::Unreadable { .. }
            | Self::Copy(_)
            | Self::Staging(_)
            | Self::Disk(_)
            | Self::Catalog(_) => Exit::Io,
            Self::Output(exit) => *exit,
        }
    }
}

/// Whether what was looked at is as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Sound,
    Unsound,
}

impl Verdict {
    fn of(is_sound: bool) -> Self {
        if is_sound { Self::Sound } else { Self::Unsound }
    }
}

/// Looks, and prints what was found: for people, or as JSON.
pub(crate) fn run(settings: &Settings, subject: &Subject, json: bool) -> Exit {
    match look(settings, subject, json) {
        Ok(Verdict::Sound) => Exit::Clean,
        Ok(Verdict::Unsound) => Exit::Unsound,
        Err(Failure::Output(exit)) => exit,
        Err(failure) => {
            complain(&format!("kura: {failure}\n"));
            failure.exit()
        }
    }
}

fn look(settings: &Settings, subject: &Subject, json: bool) -> Result<Verdict, Failure> {
    let runtime = Builder::new_multi_thread().enable_all().build().map_err(Failure::World)?;
    let access = Access::to(settings)?;
    runtime.block_on(async {
        match subject {
            Subject::Ring => ring::look(&access, settings, json).await,
            Subject::Segment { target, with_bodies } => {
                segment::look(&access, target, *with_bodies, json).await
            }
            Subject::Record { words, scan } => record::look(&access, words, *scan, json).await,
            Subject::Catalog { keyspace: None, .. } => catalog::look(&access, json).await,
            Subject::Catalog { keyspace: Some(name), limit } => {
                catalog::look_at_rows(&access, name, *limit, json).await
            }
            Subject::Staging => staging::look(&access, settings, json).await,
        }
    })
}

fn show(text: &str) -> Result<(), Failure> {
    try_print(text).map_err(Failure::Output)
}

/// A report as JSON that people can read as well.
fn show_json(value: &serde_json::Value) -> Result<(), Failure> {
    show(&format!("{value:#}\n"))
}
