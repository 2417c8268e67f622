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
    place::Place,
    record::ChunkSums,
    shares::Class,
};
use tokio::sync::oneshot;

use super::{
    Store,
    budget::{Lane, Reservation},
    command::{Body, Command, Origin, Publish},
    pieces::Pieces,
    staging::{BodyAt, StagedFile},
    turns::Work,
};
use crate::service::{Published, Refusal};

/// Bytes that gather before they are written to a staging file at once, where there is memory for
/// them.
const WRITE_BYTES: u64 = 1024 * 1024;
/// As many may gather without a reservation. So an upload holds that much memory beyond the budget,
/// and the piece that came last.
const WRITE_BYTES_UNRESERVED: u64 = 64 * 1024;
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
    /// Written to staging since that was synced last.
    unsynced_bytes: u64,
    origin: Origin,
    /// What the body must have.
    expected: Option<Digest>,
    published: bool,
}

enum Filling {
    Memory {
        pieces: Pieces,
        reservation: Reservation,
    },
    Staged {
        staged: StagedFile,
        pending: Pieces,
        /// The memory that `pending` may take; without room there is less of it.
        memory: Reservation,
    },
}

impl Upload {
    /// Reserves room for the body. What has to be staged may wait for that, so nothing of the body
    /// may have been taken in before.
    pub(super) async fn begin(
        store: Store,
        address: Address,
        declared_bytes: Option<u64>,
    ) -> Result<Self, Refusal> {
        let limit_bytes = store.limits().body_bytes_max;
        if declared_bytes.is_some_and(|declared| declared > limit_bytes) {
            return Err(Refusal::TooLarge { limit_bytes, declared_bytes });
        }
        store.keep_moving()?;
        store.keep_out()?;
        let memory_body_bytes = store.memory_body_bytes_max(&address);
        // A body of unknown length begins in memory, with room for the largest that may stay there.
        let wanted = declared_bytes.unwrap_or(memory_body_bytes);
        let in_memory = (wanted <= memory_body_bytes)
            .then(|| store.memory().reserve(Lane::Clients, wanted).ok())
            .flatten();
        let filling = match in_memory {
            Some(reservation) => Filling::Memory { pieces: Pieces::default(), reservation },
            None => {
                let at = store.body_at(&address, declared_bytes);
                let room = store.staging().reserve(wanted).await?;
                let staged = stage(&store, room, at).await?;
                let memory = write_memory(&store, Lane::Clients, declared_bytes);
                Filling::staged(staged, memory)
            }
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
            unsynced_bytes: 0,
            origin: Origin::Client,
            published: false,
        })
    }

    /// As [`Upload::begin`] for a body that a peer has: waits for room, and keeps its version.
    pub(super) async fn begin_replica(store: Store, row: &FeedRow) -> Result<Self, Refusal> {
        let origin = Origin::Peer(row.version);
        Self::begin_waiting(store, row, origin).await
    }

    /// As [`Upload::begin`] for a body that lies in an old segment: waits for room, and keeps all
    /// that its record says.
    pub(super) async fn begin_copy(
        store: Store,
        address: &Address,
        (from, replica): (Place, bool),
    ) -> Result<Self, Refusal> {
        let row = FeedRow {
            address: address.clone(),
            version: from.version,
            body_bytes: from.body_bytes,
            digest: from.digest,
        };
        Self::begin_waiting(store, &row, Origin::Copied { from, replica }).await
    }

    async fn begin_waiting(store: Store, row: &FeedRow, origin: Origin) -> Result<Self, Refusal> {
        let FeedRow { ref address, body_bytes, digest, .. } = *row;
        let limit_bytes = store.limits().body_bytes_max;
        let declared_bytes = Some(body_bytes);
        if body_bytes > limit_bytes {
            return Err(Refusal::TooLarge { limit_bytes, declared_bytes });
        }
        store.keep_moving()?;
        store.keep_out()?;
        let in_memory = body_bytes <= store.memory_body_bytes_max(address);
        let filling = if in_memory
            && let Ok(reservation) = store.memory().wait(Lane::Replicas, body_bytes).await
        {
            Filling::Memory { pieces: Pieces::default(), reservation }
        } else {
            let at = store.body_at(address, declared_bytes);
            let room = store.staging().wait(body_bytes).await?;
            let staged = stage(&store, room, at).await?;
            let memory = write_memory(&store, Lane::Replicas, declared_bytes);
            Filling::staged(staged, memory)
        };
        Ok(Self {
            store,
            address: address.clone(),
            declared_bytes,
            received_bytes: 0,
            hasher: Hasher::default(),
            sums: ChunkSums::default(),
            filling,
            unsynced_bytes: 0,
            origin,
            expected: Some(digest),
            published: false,
        })
    }

    /// How much of the body has come.
    pub(crate) fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// Takes the next bytes of the body.
    ///
    /// # Errors
    ///
    /// [`Refusal::Length`] or [`Refusal::TooLarge`] as soon as there are too many,
    /// [`Refusal::StagingFull`] when a body of unknown length outgrows what is left of the budget,
    /// [`Refusal::NoRoom`] when it outgrows what is left of the volume,
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
            Filling::Staged { pending, memory, .. } => {
                pending.push(data);
                if pending.len_bytes() as u64 >= memory.bytes().max(WRITE_BYTES_UNRESERVED) {
                    let store = self.store.clone();
                    store.unless_stalled(self.flush()).await?;
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
        let store = self.store.clone();
        store.unless_stalled(self.hand_over(actual)).await
    }

    /// The part of [`Upload::publish`] that waits for the volume.
    async fn hand_over(&mut self, actual: Digest) -> Result<Published, Refusal> {
        let received_bytes = self.received_bytes;
        self.flush().await?;
        let is_large = self.store.is_large(&self.address, received_bytes);
        if let Filling::Staged { staged, .. } = &self.filling
            && is_large
        {
            // Synced here and not by the appender, who keeps all others waiting meanwhile.
            let sync = staged.file().sync_data();
            let turns = &self.store.0.turns;
            let synced =
                turns.at(self.work(), synced_bytes(self.work(), self.unsynced_bytes), sync).await;
            synced.map_err(Refusal::Disk)?;
        }
        let body = match std::mem::replace(&mut self.filling, Filling::nothing(&self.store)) {
            Filling::Memory { mut pieces, reservation } => {
                Body::Memory { pieces: pieces.take(), reservation }
            }
            Filling::Staged { staged, .. } => Body::Staged(staged),
        };
        let (reply, answer) = oneshot::channel();
        let publish = Publish {
            replaces: None,
            address: self.address.clone(),
            body_bytes: received_bytes,
            digest: actual,
            chunk_sums: std::mem::take(&mut self.sums).finish(),
            origin: self.origin,
            body,
            reply,
        };
        let stored = async {
            self.store.send(Command::Publish(Box::new(publish))).await?;
            answer.await.map_err(|_| Refusal::Draining)?
        };
        // A large one is on the disk.
        let bytes = if is_large { 0 } else { received_bytes };
        let published = self.store.0.turns.at(self.work(), bytes, stored).await;
        self.published = published.is_ok();
        published
    }

    /// Makes sure that `total_bytes` of body are reserved, moving to a staging file if need be.
    async fn make_room(&mut self, total_bytes: u64) -> Result<(), Refusal> {
        // More than is needed now, so that a body of unknown length asks seldom.
        let wanted = total_bytes.saturating_add(GROW_BYTES).min(self.store.limits().body_bytes_max);
        match &mut self.filling {
            Filling::Memory { pieces, reservation } => {
                if total_bytes <= reservation.bytes() {
                    return Ok(());
                }
                let at = BodyAt::BehindHeader;
                let room = self.store.staging().reserve_now(wanted)?;
                let staged = stage(&self.store, room, at).await?;
                // What is in memory already is written together with what comes.
                let memory =
                    std::mem::replace(reservation, self.store.memory().nothing(Lane::Clients));
                let pending = std::mem::take(pieces);
                self.filling = Filling::Staged { staged, pending, memory };
            }
            Filling::Staged { staged, .. } => {
                if total_bytes > staged.reserved_bytes() {
                    let missing = wanted - staged.reserved_bytes();
                    self.store.find_room(missing).await?;
                    self.store.staging().grow(staged, missing)?;
                }
            }
        }
        Ok(())
    }

    /// For whom the disk works.
    fn work(&self) -> Work {
        match self.origin {
            Origin::Client => Work::Clients,
            Origin::Peer(_) => Work::Background(Class::Replicas),
            // The ring may wait for it.
            Origin::Copied { .. } => Work::Own,
        }
    }

    /// Writes what has gathered to the staging file.
    ///
    /// What no client waits for is synced at once while clients have work for the disk. In the page cache it would
    /// be ahead of what they write, however much it is, and nobody would know when its turn is over.
    async fn flush(&mut self) -> Result<(), Refusal> {
        let (work, turns) = (self.work(), self.store.0.turns.clone());
        let Filling::Staged { staged, pending, .. } = &mut self.filling else { return Ok(()) };
        let bytes = pending.len_bytes() as u64;
        let turn = match work {
            Work::Background(class) if bytes > 0 => Some(turns.turn(class, bytes).await),
            Work::Background(_) | Work::Clients | Work::Own => None,
        };
        // A turn is not waited for in another one.
        let work = if turn.is_some() { Work::Own } else { work };
        if bytes > 0 {
            let appended = turns.at(work, bytes, staged.file().append(pending.take())).await;
            appended.map_err(|error| {
                if error.kind.is_full() { Refusal::DiskFull(error) } else { Refusal::Disk(error) }
            })?;
            staged.wrote(bytes);
            self.store.staging_wrote(bytes);
            self.unsynced_bytes += bytes;
        }
        let is_beside_clients = turn.as_ref().is_some_and(|turn| !turn.is_alone());
        if is_beside_clients || self.unsynced_bytes >= self.store.unsynced_bytes_max() {
            let sync = staged.file().sync_data();
            let bytes = synced_bytes(work, self.unsynced_bytes);
            turns.at(work, bytes, sync).await.map_err(Refusal::Disk)?;
            self.unsynced_bytes = 0;
        }
        Ok(())
    }
}

/// As how many bytes the sync of bytes that were written counts. Those of a client were counted when they were written.
fn synced_bytes(work: Work, unsynced_bytes: u64) -> u64 {
    match work {
        Work::Clients => 0,
        Work::Background(_) | Work::Own => unsynced_bytes,
    }
}

/// A staging file with `room`. Waits for the disk unless that is stalled.
async fn stage(store: &Store, room: Reservation, at: BodyAt) -> Result<StagedFile, Refusal> {
    let work = async {
        // Only now: the volume may have changed while the room was waited for. What is reserved counts.
        store.find_room(0).await?;
        store.staging().create(room, at).await
    };
    store.unless_stalled(work).await
}

/// Memory for what gathers before it is written to a staging file; nothing if there is no room.
fn write_memory(store: &Store, lane: Lane, declared_bytes: Option<u64>) -> Reservation {
    let wanted = declared_bytes.unwrap_or(WRITE_BYTES).min(WRITE_BYTES);
    store.memory().reserve(lane, wanted).unwrap_or_else(|_| store.memory().nothing(lane))
}

impl Filling {
    fn staged(staged: StagedFile, memory: Reservation) -> Self {
        Self::Staged { staged, pending: Pieces::default(), memory }
    }

    fn nothing(store: &Store) -> Self {
        let reservation = store.memory().nothing(Lane::Clients);
        Self::Memory { pieces: Pieces::default(), reservation }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.published {
            self.store.metrics().store.uploads_abandoned.inc();
        }
    }
}
