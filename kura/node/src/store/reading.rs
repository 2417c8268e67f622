//! A body on its way out, checked chunk by chunk as it leaves.

use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use kura_core::{
    address::Address,
    place::Place,
    record::{Artifact, CHUNK_BYTES, Header, chunk_sum},
};

use kura_env::{Disk, DiskError, DiskErrorKind, File};

use super::{
    segments::Segment,
    turns::{Turns, Work},
};
use crate::{
    metrics::Metrics,
    service::{Meta, Refusal},
};

/// Bytes that are read at once: whole chunks.
const READ_BYTES: usize = 4 * CHUNK_BYTES;

/// Who is told of what a reader meets.
pub(super) trait Keeper: Send + Sync {
    /// Where segments lie.
    fn disk(&self) -> &dyn Disk;

    /// Where it is counted.
    fn metrics(&self) -> &Metrics;

    /// Who else works at the disk.
    fn turns(&self) -> &Arc<Turns>;

    /// Has a reference removed that leads to nothing. If too much waits already it stays, and the
    /// next reader finds it again.
    fn forget(&self, address: Address, place: Place);

    /// The device could not read what is at this place. It is tried again in a while, and forgotten
    /// if it fails then.
    fn suspect(&self, address: &Address, place: Place);
}

/// A stored body that is being read. What it was read from stays readable while this lives.
pub struct Reading {
    /// Keeps the space of the segment counted for as long as it is taken.
    segment: Arc<Segment>,
    file: Arc<dyn File>,
    artifact: Artifact,
    meta: Meta,
    place: Place,
    /// Bytes of the body that came with the header, not yet handed out.
    ahead: Bytes,
    position: u64,
    /// Bytes in front of what is wanted: read and checked, and not handed out.
    before_bytes: u64,
    keeper: Arc<dyn Keeper>,
    /// For whom it is read.
    work: Work,
    /// Whether it still is to be counted as a hit or a miss.
    counts: bool,
}

impl Reading {
    /// Opens the record at `place`. `None` when what lies there is not the record of `address`: the
    /// place is wrong, which is a miss.
    pub(super) async fn open(
        keeper: Arc<dyn Keeper>,
        work: Work,
        segment: Arc<Segment>,
        address: &Address,
        place: Place,
    ) -> Result<Option<Self>, Refusal> {
        let header_bytes = place.header_bytes as usize;
        // A small record comes in one read, its body with its header.
        let whole = usize::try_from(place.record_bytes()).unwrap_or(usize::MAX);
        let wanted = if whole <= READ_BYTES { whole } else { header_bytes };
        let file = match segment.open(keeper.disk()).await {
            Ok(file) => file,
            // An object of the pool was evicted since it was looked up.
            Err(error) if error.kind == DiskErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(&*keeper, address, place, error)),
        };
        let read = file.read_at(place.offset, wanted);
        let read = keeper.turns().at(work, wanted as u64, read).await;
        let mut bytes = read.map_err(|error| unreadable(&*keeper, address, place, error))?;
        let artifact = match Header::decode(&bytes, segment.nonce, place.offset) {
            Ok((Header::Artifact(artifact), len)) if len == header_bytes => artifact,
            Ok((Header::Artifact(_) | Header::Skip { .. }, _)) | Err(_) => return Ok(None),
        };
        // The covered length is checked before anything is promised to a client.
        let end = place.offset + place.record_bytes();
        if artifact.address != *address
            || artifact.body_bytes != place.body_bytes
            || file.len().await.map_err(Refusal::Disk)? < end
        {
            return Ok(None);
        }
        bytes.advance(header_bytes.min(bytes.len()));
        let meta = Meta {
            len_bytes: artifact.body_bytes,
            digest: artifact.digest,
            sequence: artifact.sequence,
        };
        Ok(Some(Self {
            segment,
            file,
            artifact,
            meta,
            place,
            ahead: bytes,
            position: 0,
            before_bytes: 0,
            keeper,
            work,
            counts: false,
        }))
    }

    /// What its record says.
    pub(super) fn artifact(&self) -> &Artifact {
        &self.artifact
    }

    /// Has it counted as a hit or a miss, by what becomes of its first bytes. One that is only looked
    /// at is a hit.
    pub(super) fn counted(mut self) -> Self {
        self.counts = true;
        self
    }

    /// What is known of the body.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Begins within the body, and not at its start. To be said before anything is read.
    ///
    /// Reads begin at whole chunks, so what lies before `offset` in its chunk is read, too, and checked.
    pub(crate) fn begin_at(&mut self, offset: u64) {
        let offset = offset.min(self.artifact.body_bytes);
        if self.ahead.is_empty() {
            self.position = offset - offset % CHUNK_BYTES as u64;
        }
        self.before_bytes = offset - self.position;
    }

    /// The next bytes, checked; `None` at the end, when exactly [`Meta::len_bytes`] were handed out, less what lies
    /// before the place that [`Reading::begin_at`] was told.
    ///
    /// # Errors
    ///
    /// [`Refusal::Damaged`] when the disk does not hold what was written, [`Refusal::Disk`] when it
    /// cannot be read. The body must then be broken off so that the client notices.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        // Taken first: one that is given up meanwhile, because it takes too long, is neither.
        let counts = std::mem::take(&mut self.counts);
        let next = self.read_next().await;
        if counts {
            let store = &self.keeper.metrics().store;
            if next.is_ok() {
                store.hits.inc()
            } else {
                store.misses.inc()
            };
        }
        next
    }

    async fn read_next(&mut self) -> Result<Option<Bytes>, Refusal> {
        let Some(mut bytes) = self.read_chunks().await? else { return Ok(None) };
        let before = usize::try_from(self.before_bytes).unwrap_or(usize::MAX).min(bytes.len());
        bytes.advance(before);
        self.before_bytes -= before as u64;
        Ok(Some(bytes))
    }

    async fn read_chunks(&mut self) -> Result<Option<Bytes>, Refusal> {
        let left = self.artifact.body_bytes - self.position;
        if left == 0 {
            return Ok(None);
        }
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(READ_BYTES);
        let bytes = if self.ahead.is_empty() {
            let at = self.place.offset + u64::from(self.place.header_bytes) + self.position;
            let (keeper, address) = (&*self.keeper, &self.artifact.address);
            let read = self.file.read_at(at, wanted);
            let read = keeper.turns().at(self.work, wanted as u64, read).await;
            read.map_err(|error| unreadable(keeper, address, self.place, error))?
        } else {
            std::mem::take(&mut self.ahead)
        };
        if bytes.len() != wanted {
            return Err(self.damaged("the file ends within the body"));
        }
        // Reads begin at whole chunks, because they are whole chunks long until the last one.
        let first = usize::try_from(self.position / CHUNK_BYTES as u64).unwrap_or(usize::MAX);
        let sums = self.artifact.chunk_sums.iter().skip(first);
        let right =
            bytes.chunks(CHUNK_BYTES).zip(sums).all(|(chunk, sum)| chunk_sum(chunk) == *sum);
        if !right {
            return Err(self.damaged("a chunk does not have its checksum"));
        }
        self.position += wanted as u64;
        Ok(Some(bytes))
    }

    /// Counts the damage and has the reference forgotten, so that the next reader gets a miss.
    fn damaged(&self, what: &'static str) -> Refusal {
        self.keeper.metrics().store.damaged_reads.inc();
        self.keeper.forget(self.artifact.address.clone(), self.place);
        Refusal::Damaged { segment: self.segment.id.0, offset: self.place.offset, what }
    }
}

/// The device could not read what is at `place`. That may pass, so it is looked at again in a while
/// before it is given up.
fn unreadable(keeper: &dyn Keeper, address: &Address, place: Place, error: DiskError) -> Refusal {
    if error.kind == DiskErrorKind::Io {
        keeper.suspect(address, place);
    }
    Refusal::Disk(error)
}

impl Drop for Reading {
    fn drop(&mut self) {
        if self.counts {
            self.keeper.metrics().store.hits.inc();
        }
    }
}
