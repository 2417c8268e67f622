//! The one table that says what each outcome means to a client. `docs/surfaces.md` shows it.
//!
//! Reads answer a miss to whatever went wrong on our side: a cache may forget, and several clients
//! fail the build on a 5xx. Writes say what happened, and when it may pass.

use std::time::Duration;

use http::StatusCode;
use kura_core::{
    address::{AddressError, QueryError},
    framing::Violation,
};

use crate::service::Refusal;

/// Why a request did not do what it asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Its path names no artifact.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Its frame leaves in doubt where it ends.
    #[error(transparent)]
    Frame(#[from] Violation),
    /// A delete that does not say of what.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The method is not offered.
    #[error("the method is not offered here")]
    Method,
    /// A write over HTTP/1 that says neither how long its body is nor how it ends.
    #[error("a body needs a Content-Length, or Transfer-Encoding: chunked")]
    NoLength,
    /// The body stopped arriving.
    #[error("no byte of the body arrived for {idle_timeout:?}")]
    Stalled {
        /// How long was waited.
        idle_timeout: Duration,
    },
    /// The body ended before its end, or is not framed as it should be.
    #[error("the body broke off")]
    BrokenBody(#[source] Option<axum::Error>),
    /// A read did not begin in time.
    #[error("the disk or the catalog did not answer a read within {limit:?}")]
    SlowRead {
        /// How long was waited.
        limit: Duration,
    },
    /// The service refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Every way in which a request can end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Found,
    Miss,
    Stored,
    Deleted,
    BadAddress,
    BadQuery,
    BadFrame,
    HeadTooLarge,
    Method,
    NoLength,
    Stalled,
    BrokenBody,
    Length,
    WrongDigest,
    TooLarge,
    Busy,
    StagingFull,
    DiskFull,
    NoRoom,
    Promised,
    TooOld,
    Ahead,
    DiskFailed,
    DiskStalled,
    Recovering,
    Draining,
    Damaged,
    SlowRead,
    Disk,
    Catalog,
}

/// What an outcome is answered with over HTTP.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    /// Its name in metrics and documents.
    pub(crate) name: &'static str,
    /// What happened, for people.
    pub(crate) meaning: &'static str,
    /// The status of a GET or HEAD; nothing where it cannot happen to one.
    pub(crate) read: Option<StatusCode>,
    /// The status of a PUT; nothing where it cannot happen to one.
    pub(crate) write: Option<StatusCode>,
    /// Whether a PUT may come back, and is told when.
    pub(crate) retry_after: bool,
    /// Whether the connection ends with the answer (HTTP/1).
    pub(crate) closes: bool,
    /// Whether it is a failure of this node, which its operator should see in the log.
    pub(crate) ours: bool,
}

impl Rule {
    /// One for reads and writes alike.
    const fn any(name: &'static str, status: StatusCode, meaning: &'static str) -> Self {
        let status = Some(status);
        Self {
            name,
            meaning,
            read: status,
            write: status,
            retry_after: false,
            closes: false,
            ours: false,
        }
    }

    const fn read(name: &'static str, status: StatusCode, meaning: &'static str) -> Self {
        Self { write: None, ..Self::any(name, status, meaning) }
    }

    const fn write(name: &'static str, status: StatusCode, meaning: &'static str) -> Self {
        Self { read: None, ..Self::any(name, status, meaning) }
    }

    /// A trouble of ours: 503 for writes, a miss for reads.
    const fn or_miss(name: &'static str, meaning: &'static str) -> Self {
        Self { read: Some(StatusCode::NOT_FOUND), ..Self::any(name, BUSY, meaning) }
    }

    /// The status for a request that writes, or does not.
    pub(crate) fn status(self, is_write: bool) -> StatusCode {
        let (first, second) =
            if is_write { (self.write, self.read) } else { (self.read, self.write) };
        first.or(second).expect("every rule is made with at least one status")
    }

    const fn retry(self) -> Self {
        Self { retry_after: true, ..self }
    }

    const fn closes(self) -> Self {
        Self { closes: true, ..self }
    }

    const fn ours(self) -> Self {
        Self { ours: true, ..self }
    }
}

impl Outcome {
    /// What it is answered with.
    pub(crate) const fn rule(self) -> Rule {
        TABLE[self as usize].1
    }
}

const BAD: StatusCode = StatusCode::BAD_REQUEST;
const BUSY: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
const HEAD_SIZE: StatusCode = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;

/// All outcomes, in the order of their declaration.
const TABLE: [(Outcome, Rule); 30] = [
    (Outcome::Found, Rule::read("found", StatusCode::OK, "the artifact is here")),
    (Outcome::Miss, Rule::read("miss", StatusCode::NOT_FOUND, "the artifact is not here")),
    (
        Outcome::Stored,
        Rule::write("stored", StatusCode::CREATED, "the artifact is stored, as durable as set"),
    ),
    (
        Outcome::Deleted,
        Rule::write("deleted", StatusCode::NO_CONTENT, "the namespace is deleted, for good"),
    ),
    (Outcome::BadAddress, Rule::any("bad-address", BAD, "the path names no artifact")),
    (Outcome::BadQuery, Rule::write("bad-query", BAD, "the query names no namespace")),
    (
        Outcome::BadFrame,
        Rule::any("bad-frame", BAD, "no Host, or in doubt where the request ends").closes(),
    ),
    (
        Outcome::HeadTooLarge,
        Rule::any("head-too-large", HEAD_SIZE, "the head is over its limit").closes(),
    ),
    (
        Outcome::Method,
        Rule::any("method", StatusCode::METHOD_NOT_ALLOWED, "the method is not offered"),
    ),
    (
        Outcome::NoLength,
        Rule::write("no-length", StatusCode::LENGTH_REQUIRED, "neither a length nor chunks"),
    ),
    (
        Outcome::Stalled,
        Rule::write("stalled", StatusCode::REQUEST_TIMEOUT, "the body stopped arriving").closes(),
    ),
    (
        Outcome::BrokenBody,
        Rule::write("broken-body", BAD, "the body broke off or is ill-framed").closes(),
    ),
    (Outcome::Length, Rule::write("length", BAD, "the body is not as long as declared")),
    (Outcome::WrongDigest, Rule::write("wrong-digest", BAD, "the body is not what the path names")),
    (
        Outcome::TooLarge,
        Rule::write("too-large", StatusCode::PAYLOAD_TOO_LARGE, "the body is over the limit"),
    ),
    (Outcome::Busy, Rule::or_miss("busy", "too many writes wait").retry()),
    (Outcome::StagingFull, Rule::or_miss("staging-full", "no budget for the body now").retry()),
    (Outcome::DiskFull, Rule::or_miss("disk-full", "no room on the disk now").retry().ours()),
    (Outcome::NoRoom, Rule::or_miss("no-room", "no room on the volume now").retry()),
    (Outcome::Promised, Rule::or_miss("promised", "what would have to go is promised").retry()),
    (Outcome::TooOld, Rule::or_miss("too-old", "older than all that there is room for")),
    (Outcome::Ahead, Rule::or_miss("ahead", "a peer's version too far ahead of the clock here")),
    (Outcome::DiskFailed, Rule::or_miss("disk-failed", "writes rest after a failure").retry()),
    (
        Outcome::DiskStalled,
        Rule::or_miss("disk-stalled", "the disk does not answer").retry().ours(),
    ),
    (Outcome::Recovering, Rule::or_miss("recovering", "the store is not open yet").retry()),
    (Outcome::Draining, Rule::or_miss("draining", "the node is about to stop").retry().closes()),
    (Outcome::Damaged, Rule::or_miss("damaged", "damage was found on the disk").retry().ours()),
    (
        Outcome::SlowRead,
        Rule::read("slow-read", StatusCode::NOT_FOUND, "a read did not begin in time").ours(),
    ),
    (Outcome::Disk, Rule::or_miss("disk", "the disk failed").retry().ours()),
    (Outcome::Catalog, Rule::or_miss("catalog", "the catalog failed").retry().ours()),
];

impl Failure {
    /// Its row in the table.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Address(_) => Outcome::BadAddress,
            Self::Query(_) => Outcome::BadQuery,
            Self::Frame(Violation::HeadTooLarge) => Outcome::HeadTooLarge,
            Self::Frame(
                Violation::MissingHost
                | Violation::RepeatedHost
                | Violation::RepeatedLength
                | Violation::InvalidLength
                | Violation::LengthWithEncoding
                | Violation::UnknownEncoding
                | Violation::Unreadable,
            ) => Outcome::BadFrame,
            Self::Method => Outcome::Method,
            Self::NoLength => Outcome::NoLength,
            Self::Stalled { .. } => Outcome::Stalled,
            Self::BrokenBody(_) => Outcome::BrokenBody,
            Self::SlowRead { .. } => Outcome::SlowRead,
            Self::Refused(refusal) => refused(refusal),
        }
    }
}

fn refused(refusal: &Refusal) -> Outcome {
    match refusal {
        Refusal::Busy { .. } => Outcome::Busy,
        Refusal::StagingFull { .. } => Outcome::StagingFull,
        Refusal::TooLarge { .. } => Outcome::TooLarge,
        Refusal::Length { .. } => Outcome::Length,
        Refusal::WrongDigest { .. } => Outcome::WrongDigest,
        Refusal::DiskFull(_) => Outcome::DiskFull,
        Refusal::NoRoom { .. } => Outcome::NoRoom,
        Refusal::Promised { .. } => Outcome::Promised,
        Refusal::TooOld => Outcome::TooOld,
        Refusal::Ahead { .. } => Outcome::Ahead,
        Refusal::DiskFailed { .. } => Outcome::DiskFailed,
        Refusal::DiskStalled { .. } => Outcome::DiskStalled,
        Refusal::Recovering => Outcome::Recovering,
        Refusal::Draining => Outcome::Draining,
        Refusal::Damaged { .. } => Outcome::Damaged,
        Refusal::Disk(_) => Outcome::Disk,
        Refusal::Catalog(_) => Outcome::Catalog,
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    const BEGIN: &str = "<!-- outcomes: made by the test of surface/outcome.rs -->\n";
    const END: &str = "<!-- outcomes: end -->\n";
    const PAGE: &str = include_str!("../../../../docs/surfaces.md");

    fn table() -> String {
        let mut table = "| outcome | GET, HEAD | PUT, DELETE | Retry-After | closes | meaning |\n\
                         |---|---|---|---|---|---|\n"
            .to_owned();
        for (_, rule) in TABLE {
            let status = |status: Option<StatusCode>| {
                status.map_or("-".to_owned(), |status| status.as_u16().to_string())
            };
            let tick = |it: bool| if it { "yes" } else { "" };
            let (read, write) = (status(rule.read), status(rule.write));
            let (retry, closes) = (tick(rule.retry_after), tick(rule.closes));
            writeln!(
                table,
                "| {} | {read} | {write} | {retry} | {closes} | {} |",
                rule.name, rule.meaning
            )
            .unwrap();
        }
        table
    }

    #[test]
    fn every_outcome_is_in_the_table_under_a_name_of_its_own() {
        for (index, (outcome, rule)) in TABLE.into_iter().enumerate() {
            assert_eq!(outcome as usize, index, "{outcome:?} is out of order");
            assert!(rule.read.is_some() || rule.write.is_some(), "{outcome:?} has no status");
        }
        assert_eq!(TABLE.len(), Outcome::Catalog as usize + 1, "Catalog is the last one");
        let mut names: Vec<&str> = TABLE.iter().map(|(_, rule)| rule.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TABLE.len());
    }

    #[test]
    fn no_read_is_answered_with_a_failure_of_ours() {
        for (outcome, rule) in TABLE {
            let status = rule.status(false);
            assert!(!status.is_server_error(), "{outcome:?} is answered {status}");
        }
    }

    /// To accept a change of the table: `KURA_BLESS=1 cargo test -p kura-node outcome`.
    #[test]
    #[allow(clippy::disallowed_methods, reason = "the test writes its own page when asked to")]
    fn the_page_shows_the_table() {
        let (before, rest) = PAGE.split_once(BEGIN).unwrap();
        let (_, after) = rest.split_once(END).unwrap();
        let wanted = format!("{before}{BEGIN}{}{END}{after}", table());
        if std::env::var("KURA_BLESS").is_ok() {
            let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/surfaces.md");
            std::fs::write(page, wanted).unwrap();
        } else {
            assert!(PAGE == wanted, "docs/surfaces.md is out of date; the table is\n{}", table());
        }
    }
}
