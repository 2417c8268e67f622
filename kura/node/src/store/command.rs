//! What the appender is told to do.

use bytes::Bytes;
use kura_core::{
    address::Address,
    digest::Digest,
    place::Place,
    record::{Version, header_bytes},
};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{
    budget::Reservation,
    deletes::{Delete, Taken},
    staging::StagedFile,
};
use crate::service::{Published, Refusal};

/// A change of the store.
pub(super) enum Command {
    /// Stores a body.
    Publish(Box<Publish>),
    /// Forgets a reference that led to nothing, if it still stands.
    Forget(Address, Place),
    /// Makes promises durable, and says which of them are made.
    Vouch(Vec<(Address, Place)>, oneshot::Sender<Vec<bool>>),
    /// Makes deletes of namespaces durable, and says what became of them.
    Delete(Vec<Delete>, Option<OwnedSemaphorePermit>, oneshot::Sender<Result<Taken, Refusal>>),
    /// Makes room on the volume for so many bytes of a body in flight.
    FindRoom(u64, oneshot::Sender<Result<(), Refusal>>),
    /// Ends the appender.
    Close(oneshot::Sender<()>),
}

/// A body that is complete and checked.
pub(super) struct Publish {
    pub(super) address: Address,
    pub(super) body_bytes: u64,
    pub(super) digest: Digest,
    pub(super) chunk_sums: Vec<u32>,
    pub(super) origin: Origin,
    /// What lies under this name already, as far as it matters.
    pub(super) replaces: Option<Place>,
    pub(super) body: Body,
    pub(super) reply: oneshot::Sender<Result<Published, Refusal>>,
}

/// Where a body comes from, and so what its record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// From a client: the latest of its name.
    Client,
    /// From a peer, which has told its version.
    Peer(Version),
    /// Copied forward from this place, if it still stands there.
    Copied {
        /// Where it lay.
        from: Place,
        /// Whether it came from a peer then.
        replica: bool,
    },
}

/// Where the bytes of a body are. They are held until the body is stored.
pub(super) enum Body {
    Memory { pieces: Vec<Bytes>, reservation: Reservation },
    Staged(StagedFile),
}

impl Publish {
    pub(super) fn record_bytes(&self) -> u64 {
        header_bytes(&self.address, self.body_bytes) as u64 + self.body_bytes
    }

    /// Answers with a record that is here already.
    pub(super) fn answer_known(self, sequence: u64) {
        let published = Published { sequence, len_bytes: self.body_bytes, digest: self.digest };
        // Who stopped waiting needs no answer.
        self.reply.send(Ok(published)).ok();
    }
}

impl Origin {
    /// Where the body lay, if it is copied forward.
    pub(super) fn copied_from(self) -> Option<Place> {
        match self {
            Self::Client | Self::Peer(_) => None,
            Self::Copied { from, .. } => Some(from),
        }
    }

    /// Whether the body came from a peer at first, which its own followers hear it from. What the node with this id gave
    /// out itself and does not hold any more, its disk having been put back, it gets from a peer that read it in time: others
    /// may not have, so that it is a change once more.
    pub(super) fn is_replica(self, node: u64) -> bool {
        match self {
            Self::Client => false,
            Self::Peer(version) => version.node != node,
            Self::Copied { replica, .. } => replica,
        }
    }
}

pub(super) fn refuse(
    replies: impl Iterator<Item = oneshot::Sender<Result<Published, Refusal>>>,
    refusal: &Refusal,
) {
    for reply in replies {
        // Who stopped waiting needs no answer.
        reply.send(Err(refusal.clone())).ok();
    }
}
