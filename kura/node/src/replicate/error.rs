//! Why something asked of a peer did not come.

use std::time::Duration;

use kura_env::{Elapsed, NetError};

use crate::service::Refusal;

/// What went wrong with a peer, or here while its answer was taken in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    /// The name of the peer has no address, or nobody listens there.
    #[error(transparent)]
    Net(#[from] NetError),
    /// No connection came about in time.
    #[error("no connection within {:?}", .0.limit)]
    Connect(Elapsed),
    /// The stream stood still.
    #[error("no byte for {:?}", .0.limit)]
    Idle(Elapsed),
    /// The stream moved too little to be waited for.
    #[error("hardly a byte comes")]
    Slow,
    /// The stream broke, or was no HTTP.
    #[error("the connection broke: {0}")]
    Broken(#[from] hyper::Error),
    /// It said that it cannot answer now.
    #[error("the peer is busy: {status}")]
    Busy {
        /// What it said.
        status: http::StatusCode,
        /// When to come back, if it said so.
        retry_after: Option<Duration>,
    },
    /// It reads its own data back.
    #[error("the peer reads its own data back")]
    Recovering,
    /// Something is wrong with it.
    #[error("the peer failed: {status}")]
    Failed {
        /// What it said.
        status: http::StatusCode,
    },
    /// It holds the artifact and cannot read it.
    #[error("the peer cannot read the artifact")]
    Unreadable,
    /// The cursor is of no use there any more.
    #[error("the peer's feed does not reach back to the cursor")]
    Gone,
    /// It started again since it said hello.
    #[error("the peer started again")]
    Restarted,
    /// A pass took too long.
    #[error(
        "the pass took longer than {limit:?}, which is sync.pass_timeout: what is left of it goes on after a pause"
    )]
    Late {
        /// How long it may take.
        limit: Duration,
    },
    /// An answer that should not be.
    #[error("an answer without a meaning: {0}")]
    Answer(String),
    /// The body ended before its end.
    #[error("the body ended {missing_bytes} bytes early")]
    Short {
        /// How much was missing.
        missing_bytes: u64,
    },
    /// The body is not what the row said, or this node cannot take it.
    #[error(transparent)]
    Body(Refusal),
    /// This node's own store failed: nothing more can be taken in now.
    #[error("our own store: {0}")]
    Store(Refusal),
}

/// What an error says of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It did not answer at all.
    Silence,
    /// It reads its own data back.
    Recovering,
    /// It is not the peer, it is our own store.
    OurStore,
    /// It answers, and something went wrong behind that.
    Other,
}

impl PeerError {
    /// Sorts what the store said to a body by whose fault it is.
    pub(crate) fn storing(refusal: Refusal) -> Self {
        match refusal {
            Refusal::TooLarge { .. }
            | Refusal::TooOld
            | Refusal::Ahead { .. }
            | Refusal::Length { .. }
            | Refusal::WrongDigest { .. } => Self::Body(refusal),
            Refusal::Busy { .. }
            | Refusal::StagingFull { .. }
            | Refusal::DiskFull(_)
            | Refusal::NoRoom { .. }
            | Refusal::Promised { .. }
            | Refusal::DiskFailed { .. }
            | Refusal::Recovering
            | Refusal::Draining
            | Refusal::Damaged { .. }
            | Refusal::Disk(_)
            | Refusal::DiskStalled { .. }
            | Refusal::Catalog(_) => Self::Store(refusal),
        }
    }

    /// Whether no connection came about, so that nothing was asked at all.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Net(_) | Self::Connect(_))
    }

    /// Whether what came has another SHA-256 than the row says.
    pub(crate) fn is_wrong_digest(&self) -> bool {
        matches!(self, Self::Body(Refusal::WrongDigest { .. }))
    }

    /// What the error says of the peer, for those who wait for it. `was_heard` if the peer answered
    /// anything in the talk that ended so.
    pub(crate) fn trouble(&self, was_heard: bool) -> Trouble {
        match self {
            Self::Recovering => Trouble::Recovering,
            Self::Store(_) => Trouble::OurStore,
            Self::Net(_)
            | Self::Connect(_)
            | Self::Idle(_)
            | Self::Busy { .. }
            | Self::Slow
            | Self::Broken(_)
            | Self::Failed { .. }
            | Self::Unreadable
            | Self::Gone
            | Self::Restarted
            | Self::Late { .. }
            | Self::Answer(_)
            | Self::Short { .. }
            | Self::Body(_) => {
                if was_heard {
                    Trouble::Other
                } else {
                    Trouble::Silence
                }
            }
        }
    }

    /// What the peer asked us to wait.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        if let Self::Busy { retry_after, .. } = self { *retry_after } else { None }
    }

    /// The error with its causes, on one line.
    pub(crate) fn line(&self) -> String {
        let mut line = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            line = format!("{line}: {error}");
            cause = error.source();
        }
        line
    }
}
