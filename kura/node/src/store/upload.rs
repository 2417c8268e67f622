//! A body on its way in: reserve, fill, publish.
//!
//! The reservation is made before the first byte. Small bodies fill in memory, larger ones in a
//! staging file; both are hashed as they come. Dropping an upload at any point gives everything
//! back.

use bytes::Bytes;
use kura_core::{
    address::Address,
    digest::{Digest, Hasher},
    feed::FeedRow,
    record::{ChunkSums, Version},
};
use tokio::sync::oneshot;

use super::{
    Store,
    appender::{Body, Command, Publish},
    budget::{Lane, Reservation},
    staging::StagedFile,
};
use crate::service::{Published, Refusal};

/// Bytes that gather before they are written to a staging file at once.
const WRITE_BYTES: usize = 1024 * 1024;
/// A staging file of unknown length grows its reservation by at least this much.
const GROW_BYTES: u64 = 1024 * 1024;

/// A body that is being received. Publish it, or drop it and nothing remains.
pub struct Upload {
    store: Store,
    address: Address,
    declared_bytes: Option<u64>,
    received_bytes: u64,
    hasher: Hasher,
    sums: ChunkSums,
    filling: Filling,
    /// Given if a peer has decided it already.
    version: Option<Version>,
    /// What the body must have.
    expected: Option<Digest>,
    published: bool,
}

enum Filling {
    Memory { pieces: Vec<Bytes>, reservation: Reservation },
    Staged { staged: StagedFile, written_bytes: u64, pending: Vec<Bytes>, pending_bytes: usize },
}

impl Upload {
    /// Reserves room for the body.
    pub(super) async fn begin(
        store: Store,
        address: Address,
        declared_bytes: Option<u64>,
    ) -> Result<Self, Refusal> {
        let limit_bytes = store.limits().body_bytes_max;
        if declared_bytes.is_some_and(|declared| declared > limit_bytes) {
            return Err(Refusal::TooLarge { limit_bytes, declared_bytes });
        }
        let memory_body_bytes = store.limits().memory_body_bytes_max;
        // A body of unknown length begins in memory, with room for the largest that may stay there.
        let wanted = declared_bytes.unwrap_or(memory_body_bytes);
        let in_memory = (wanted <= memory_body_bytes)
            .then(|| store.memory().reserve(Lane::Clients, wanted).ok())
            .flatten();
        let filling = match in_memory {
            Some(reservation) => Filling::Memory { pieces: Vec::new(), reservation },
            None => Filling::staged(store.staging().create(wanted).await?),
        };
        Ok(Self {
            store,
            expected: address.promised_digest(),
            address,
            declared_bytes,
            received_bytes: 0,
            hasher: Hasher::default(),
            sums: ChunkSums::default(),
            filling,
            version: None,
            published: false,
        })
    }

    /// As [`Upload::begin`] for a body that a peer has: waits for room, and keeps its version.
    pub(super) async fn begin_replica(store: Store, row: &FeedRow) -> Result<Self, Refusal> {
        let FeedRow { ref address, version, body_bytes, digest } = *row;
        let limit_bytes = store.limits().body_bytes_max;
        let declared_bytes = Some(body_bytes);
        if body_bytes > limit_bytes {
            return Err(Refusal::TooLarge { limit_bytes, declared_bytes });
        }
        let in_memory = body_bytes <= store.limits().memory_body_bytes_max;
        let filling = if in_memory && let Some(reservation) = store.memory().wait(body_bytes).await
        {
            Filling::Memory { pieces: Vec::new(), reservation }
        } else {
            Filling::staged(store.staging().create_waiting(body_bytes).await?)
        };
        Ok(Self {
            store,
            address: address.clone(),
            declared_bytes,
            received_bytes: 0,
            hasher: Hasher::default(),
            sums: ChunkSums::default(),
            filling,
            version: Some(version),
            expected: Some(digest),
            published: false,
        })
    }

    /// Takes the next bytes of the body.
    ///
    /// # Errors
    ///
    /// [`Refusal::Length`] or [`Refusal::TooLarge`] as soon as there are too many,
    /// [`Refusal::StagingFull`] when a body of unknown length outgrows what is left of the budget,
    /// [`Refusal::DiskFull`] or [`Refusal::Disk`] when staging fails. The upload is of no use then.
    pub async fn write(&mut self, data: Bytes) -> Result<(), Refusal> {
        let received_bytes = self.received_bytes + data.len() as u64;
        if let Some(declared_bytes) = self.declared_bytes.filter(|it| received_bytes > *it) {
            return Err(Refusal::Length { declared_bytes, received_bytes });
        }
        let limit_bytes = self.store.limits().body_bytes_max;
        if received_bytes > limit_bytes {
            return Err(Refusal::TooLarge { limit_bytes, declared_bytes: None });
        }
        self.received_bytes = received_bytes;
        self.hasher.update(&data);
        self.sums.update(&data);
        self.make_room(received_bytes).await?;
        match &mut self.filling {
            Filling::Memory { pieces, .. } => pieces.push(data),
            Filling::Staged { pending, pending_bytes, .. } => {
                *pending_bytes += data.len();
                pending.push(data);
                if *pending_bytes >= WRITE_BYTES {
                    self.flush().await?;
                }
            }
        }
        Ok(())
    }

    /// Stores the body under its address, and returns once it is as durable as was configured.
    ///
    /// Dropping the returned future does not say whether the body was stored.
    ///
    /// # Errors
    ///
    /// [`Refusal::Length`] or [`Refusal::WrongDigest`] when the body is not what was announced, any
    /// other when the store could not take it.
    pub async fn publish(mut self) -> Result<Published, Refusal> {
        let received_bytes = self.received_bytes;
        if let Some(declared_bytes) = self.declared_bytes.filter(|it| *it != received_bytes) {
            return Err(Refusal::Length { declared_bytes, received_bytes });
        }
        let actual = std::mem::take(&mut self.hasher).finish();
        if let Some(expected) = self.expected.filter(|expected| *expected != actual) {
            return Err(Refusal::WrongDigest { expected, actual });
        }
        self.flush().await?;
        let body = match std::mem::replace(&mut self.filling, Filling::nothing(&self.store)) {
            Filling::Memory { pieces, reservation } => Body::Memory { pieces, reservation },
            Filling::Staged { staged, .. } => Body::Staged(staged),
        };
        let (reply, answer) = oneshot::channel();
        let publish = Publish {
            address: self.address.clone(),
            body_bytes: received_bytes,
            digest: actual,
            chunk_sums: std::mem::take(&mut self.sums).finish(),
            version: self.version,
            body,
            reply,
        };
        self.published = true;
        self.store.send(Command::Publish(Box::new(publish))).await?;
        answer.await.map_err(|_| Refusal::Draining)?
    }

    /// Makes sure that `total_bytes` of body are reserved, moving to a staging file if need be.
    async fn make_room(&mut self, total_bytes: u64) -> Result<(), Refusal> {
        match &mut self.filling {
            Filling::Memory { pieces, reservation } => {
                if total_bytes <= reservation.bytes() {
                    return Ok(());
                }
                let staged = self.store.staging().create(total_bytes.max(GROW_BYTES)).await?;
                let pieces = std::mem::take(pieces);
                let mut filling = Filling::staged(staged);
                if let Filling::Staged { pending, pending_bytes, .. } = &mut filling {
                    *pending_bytes = pieces.iter().map(Bytes::len).sum();
                    *pending = pieces;
                }
                self.filling = filling;
            }
            Filling::Staged { staged, .. } => {
                let missing = total_bytes.saturating_sub(staged.reserved_bytes());
                if missing > 0 {
                    self.store.staging().grow(staged, missing.max(GROW_BYTES))?;
                }
            }
        }
        Ok(())
    }

    /// Writes what has gathered to the staging file.
    async fn flush(&mut self) -> Result<(), Refusal> {
        let Filling::Staged { staged, written_bytes, pending, pending_bytes } = &mut self.filling
        else {
            return Ok(());
        };
        if *pending_bytes > 0 {
            let data = std::mem::take(pending);
            staged.file().append(data).await.map_err(|error| {
                if error.kind.is_full() { Refusal::DiskFull(error) } else { Refusal::Disk(error) }
            })?;
            *written_bytes += *pending_bytes as u64;
            *pending_bytes = 0;
        }
        Ok(())
    }
}

impl Filling {
    fn staged(staged: StagedFile) -> Self {
        Self::Staged { staged, written_bytes: 0, pending: Vec::new(), pending_bytes: 0 }
    }

    fn nothing(store: &Store) -> Self {
        Self::Memory { pieces: Vec::new(), reservation: store.memory().nothing(Lane::Clients) }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.published {
            self.store.metrics().store.uploads_abandoned.inc();
        }
    }
}
