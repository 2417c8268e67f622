//! The first step of the appender: bodies become records at the end of a segment.

use bytes::Bytes;
use kura_core::{
    address::Address,
    place::Place,
    record::{Artifact, Version, encode_skip},
};
use kura_env::{DiskError, DiskErrorKind};
use tokio::sync::oneshot;

use super::{
    appender::{Active, Appender},
    command::{Body, Origin, Publish, refuse},
    segments::Segment,
    staging::StagedFile,
    total_bytes,
};
use crate::service::{Published, Refusal};

/// A staged body is copied into its segment in pieces of this size.
const COPY_BYTES: usize = 1024 * 1024;

/// One record of a group, written and waiting for its sync.
pub(super) struct Written {
    pub(super) place: Place,
    pub(super) address: Address,
    pub(super) replica: bool,
    /// Where it lay, if it was copied forward.
    pub(super) copied_from: Option<Place>,
    /// Where that lies whose place it takes, as far as it matters.
    pub(super) replaces: Option<Place>,
    pub(super) reply: oneshot::Sender<Result<Published, Refusal>>,
    /// Held until the answer, so that memory in flight is counted to the end.
    pub(super) _body: Option<Body>,
}

/// Why a staged body is not in its segment.
enum CopyError {
    /// It could not be read. This many bytes of it are in the segment.
    Source(DiskError, u64),
    /// The segment took no more.
    Segment(DiskError),
}

impl Appender {
    /// Step 1. What was begun is in `written`, also after an error; an error means that nobody knows
    /// where the segment ends.
    pub(super) async fn append_all(
        &mut self,
        active: &mut Active,
        group: Vec<Publish>,
        written: &mut Vec<Written>,
    ) -> Result<(), DiskError> {
        let mut parts = Vec::with_capacity(group.len() * 2);
        let mut failed = None;
        for publish in group {
            let (place, header, publish) = self.place(&active.segment, active.end, publish);
            active.end += place.record_bytes();
            parts.push(header);
            let Publish { address, body, reply, origin, replaces, .. } = publish;
            let (replica, copied_from) = (origin.is_replica(self.node), origin.copied_from());
            let body = match body {
                Body::Memory { mut pieces, reservation } => {
                    parts.append(&mut pieces);
                    Some(Body::Memory { pieces, reservation })
                }
                Body::Staged(staged) if failed.is_none() => {
                    let gathered = std::mem::take(&mut parts);
                    match copy(active, gathered, &staged, place.body_bytes).await {
                        Ok(()) => {}
                        Err(CopyError::Segment(error)) => failed = Some(error),
                        Err(CopyError::Source(error, copied)) => {
                            failed = self.cover(active, &place, copied, &error).await.err();
                            refuse(std::iter::once(reply), &Refusal::Disk(error));
                            continue;
                        }
                    }
                    None
                }
                Body::Staged(_) => None,
            };
            written.push(Written {
                place,
                address,
                replica,
                copied_from,
                replaces,
                reply,
                _body: body,
            });
        }
        match failed {
            Some(error) => Err(error),
            None if total_bytes(&parts) > 0 => active.file.append(parts).await,
            None => Ok(()),
        }
    }

    /// Puts a skip record over the part of a record whose body could not be read to its end. The
    /// segment is as good as before; nobody else's body is concerned.
    async fn cover(
        &self,
        active: &mut Active,
        place: &Place,
        copied: u64,
        error: &DiskError,
    ) -> Result<(), DiskError> {
        self.metrics.store.sources_failed.inc();
        tracing::warn!(%error, "a body could not be read from staging");
        active.end = place.offset + u64::from(place.header_bytes) + copied;
        let skip = encode_skip(active.segment.nonce, place.offset, active.end);
        active.file.write_at(place.offset, Bytes::from(skip)).await
    }

    /// Gives a body its sequence, version and place, and makes its header.
    pub(super) fn place(
        &mut self,
        segment: &Segment,
        offset: u64,
        publish: Publish,
    ) -> (Place, Bytes, Publish) {
        let mut publish = publish;
        let (version, sequence) = match publish.origin {
            // What is written here from now on is later than what was seen.
            Origin::Peer(version) => {
                self.hlc = self.hlc.hear(version.time, self.wall_ms());
                self.metrics.store.own_returned.inc_by((version.node == self.node).into());
                (version, self.take_sequence())
            }
            Origin::Client => {
                self.hlc = self.hlc.next(self.wall_ms());
                (Version { time: self.hlc.0, node: self.node }, self.take_sequence())
            }
            // It is no change: whoever follows has it, or will find it where it was.
            Origin::Copied { from, .. } => (from.version, from.sequence),
        };
        let artifact = Artifact {
            address: publish.address,
            body_bytes: publish.body_bytes,
            digest: publish.digest,
            sequence,
            version,
            replica: publish.origin.is_replica(self.node),
            chunk_sums: std::mem::take(&mut publish.chunk_sums),
        };
        let header = artifact.encode(segment.nonce, offset);
        let place = Place {
            segment: segment.id,
            offset,
            header_bytes: u32::try_from(header.len()).expect("a header is shorter than 4 GiB"),
            body_bytes: artifact.body_bytes,
            sequence: artifact.sequence,
            version: artifact.version,
            digest: artifact.digest,
        };
        publish.address = artifact.address;
        (place, header.into(), publish)
    }

    pub(super) fn take_sequence(&mut self) -> u64 {
        self.next_sequence += 1;
        self.next_sequence - 1
    }
}

/// Appends what was gathered, then the staged body, piece by piece.
async fn copy(
    active: &Active,
    gathered: Vec<Bytes>,
    staged: &StagedFile,
    body_bytes: u64,
) -> Result<(), CopyError> {
    active.file.append(gathered).await.map_err(CopyError::Segment)?;
    let mut position = 0;
    while position < body_bytes {
        let wanted = usize::try_from(body_bytes - position).unwrap_or(usize::MAX).min(COPY_BYTES);
        let piece = staged.file().read_at(staged.body_offset() + position, wanted).await;
        let piece = piece.map_err(|error| CopyError::Source(error, position))?;
        if piece.is_empty() {
            let path = staged.file().path().clone();
            let text = format!("the staging file ends at byte {position} of {body_bytes}");
            let kind = DiskErrorKind::Other { errno: 0, text };
            let error = DiskError { action: "read_at", path, kind };
            return Err(CopyError::Source(error, position));
        }
        let piece_bytes = piece.len() as u64;
        active.file.append(vec![piece]).await.map_err(CopyError::Segment)?;
        position += piece_bytes;
    }
    Ok(())
}
