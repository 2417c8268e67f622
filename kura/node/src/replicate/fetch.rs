//! Bodies from a peer: asked for together where they are small, checked, and stored.

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes, BytesMut};
use http::Method;
use kura_core::{
    feed::FeedRow,
    limits::{BATCH_BYTES_MAX, BATCH_ROWS_MAX, SMALL_BODY_BYTES},
};

use super::{
    Shared,
    client::{Answer, Client},
    error::PeerError,
    wire::{BODIES, BODY_FOLLOWS, BODY_MISSING, Row},
};

/// What became of rows that were asked for.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    /// Stored now, or here meanwhile.
    pub(crate) applied: u64,
    /// Bytes of bodies that came.
    pub(crate) bytes: u64,
    /// The peer does not have them any more.
    pub(crate) missing: u64,
    /// To be tried again: each of them failed by itself.
    pub(crate) failed: Vec<FeedRow>,
    /// To be tried again, and alone: another one or the peer failed while they waited.
    pub(crate) untried: Vec<FeedRow>,
    /// Never asked for: the peer cannot be reached. Nothing more should be asked of it now.
    pub(crate) unsent: Vec<FeedRow>,
    /// This node cannot take them; trying again is of no use.
    pub(crate) declined: Vec<FeedRow>,
    /// Why the first of them failed.
    pub(crate) cause: Option<PeerError>,
}

impl Fetched {
    /// Adds what became of others.
    pub(crate) fn add(&mut self, other: Self) {
        self.applied += other.applied;
        self.bytes += other.bytes;
        self.missing += other.missing;
        self.failed.extend(other.failed);
        self.untried.extend(other.untried);
        self.unsent.extend(other.unsent);
        self.declined.extend(other.declined);
        self.cause = self.cause.take().or(other.cause);
    }
}

/// Takes the rows of the next request from the front: one large body, or small ones up to the
/// limits of a batch. Rows that `is_suspect` says yes to go alone, so that one that fails every time
/// holds up no other.
pub(crate) fn take_unit(
    wanted: &mut VecDeque<FeedRow>,
    is_suspect: impl Fn(&FeedRow) -> bool,
) -> Vec<FeedRow> {
    let mut unit: Vec<FeedRow> = Vec::new();
    let mut bytes = 0;
    while let Some(row) = wanted.front() {
        let is_small = row.body_bytes <= SMALL_BODY_BYTES && !is_suspect(row);
        let fits = is_small && bytes + row.body_bytes <= BATCH_BYTES_MAX;
        if !unit.is_empty() && (!fits || unit.len() >= BATCH_ROWS_MAX) {
            break;
        }
        bytes += row.body_bytes;
        unit.extend(wanted.pop_front());
        if !is_small {
            break;
        }
    }
    unit
}

/// Fetches the bodies of `unit` from a peer. Rows that somebody else is fetching already are waited
/// for, and looked at again.
///
/// # Errors
///
/// [`PeerError::Store`] when nothing more can be taken in. Everything else is told in what returns.
pub(crate) async fn fetch(
    shared: &Shared,
    client: &Client,
    unit: Vec<FeedRow>,
) -> Result<Fetched, PeerError> {
    let mut fetched = Fetched::default();
    let mut rest = unit;
    loop {
        let (mut claimed, mut claims, mut busy) = (Vec::new(), Vec::new(), Vec::new());
        for row in rest {
            match shared.claims.try_claim(&row.address) {
                // Looked at under the claim: whoever had it before may have stored it.
                Some(claim) if shared.store.lacks(&row).await.map_err(PeerError::storing)? => {
                    claimed.push(row);
                    claims.push(claim);
                }
                Some(_) => fetched.applied += 1,
                None => busy.push(row),
            }
        }
        if !claimed.is_empty() {
            let _permit = shared.fetches.acquire().await;
            fetched.add(transfer(shared, client, claimed).await?);
        }
        drop(claims);
        let Some(first) = busy.first() else { return Ok(fetched) };
        shared.claims.free(&first.address).await;
        rest = busy;
    }
}

/// One request and its answer. A failure in the middle leaves the rest of the rows as failed.
async fn transfer(
    shared: &Shared,
    client: &Client,
    rows: Vec<FeedRow>,
) -> Result<Fetched, PeerError> {
    let mut fetched = Fetched::default();
    let asked: Vec<Row> = rows.iter().map(Row::from).collect();
    let asked = serde_json::to_vec(&asked).expect("rows have names for keys");
    let mut left = VecDeque::from(rows);
    let answer = match client.send(Method::POST, BODIES, Bytes::from(asked)).await {
        Ok(answer) => answer,
        Err(error) => {
            shared.metrics.replication.fetch_failures.inc();
            if error.is_unreachable() {
                fetched.unsent.extend(left);
            // Of several nobody knows whose fault it is; one alone has failed.
            } else if left.len() > 1 {
                fetched.untried.extend(left);
            } else {
                fetched.failed.extend(left);
            }
            fetched.cause = Some(error);
            return Ok(fetched);
        }
    };
    let mut frames = Frames { answer, data: BytesMut::new() };
    while let Some(row) = left.front() {
        match receive(shared, &mut frames, row).await {
            Ok(Received::Stored) => {
                fetched.applied += 1;
                fetched.bytes += row.body_bytes;
                shared.metrics.replication.fetched.inc();
                shared.metrics.replication.fetched_bytes.inc_by(row.body_bytes);
                left.pop_front();
            }
            Ok(Received::Missing) => {
                fetched.missing += 1;
                shared.metrics.replication.missing.inc();
                left.pop_front();
            }
            Ok(Received::Declined(error)) => {
                shared.metrics.replication.declined.inc();
                tracing::warn!(address = ?row.address, cause = error.line(), "declined");
                fetched.declined.extend(left.pop_front());
                fetched.cause.get_or_insert(error);
            }
            Err(error @ PeerError::Store(_)) => return Err(error),
            Err(error) => {
                shared.metrics.replication.fetch_failures.inc();
                fetched.failed.extend(left.pop_front());
                // What would have come behind in this answer is lost with it.
                fetched.untried.extend(left);
                fetched.cause.get_or_insert(error);
                return Ok(fetched);
            }
        }
    }
    client.keep(frames.answer);
    Ok(fetched)
}

enum Received {
    Stored,
    Missing,
    Declined(PeerError),
}

/// Takes one body in.
async fn receive(
    shared: &Shared,
    frames: &mut Frames,
    row: &FeedRow,
) -> Result<Received, PeerError> {
    match frames.byte().await? {
        BODY_MISSING => return Ok(Received::Missing),
        BODY_FOLLOWS => {}
        other => return Err(PeerError::Answer(format!("a frame of kind {other}"))),
    }
    let len_bytes = frames.word().await?;
    if len_bytes != row.body_bytes {
        let told = format!("{len_bytes} bytes for a row of {}", row.body_bytes);
        return Err(PeerError::Answer(told));
    }
    let mut upload = match shared.store.begin_replica(row).await.map_err(PeerError::storing) {
        Ok(upload) => upload,
        Err(error @ PeerError::Body(_)) => {
            frames.skip(len_bytes).await?;
            return Ok(Received::Declined(error));
        }
        Err(error) => return Err(error),
    };
    let mut left = len_bytes;
    while left > 0 {
        let data = frames.up_to(left).await?;
        left -= data.len() as u64;
        upload.write(data).await.map_err(PeerError::storing)?;
    }
    upload.publish().await.map_err(PeerError::storing)?;
    Ok(Received::Stored)
}

/// The frames of an answer.
struct Frames {
    answer: Answer,
    data: BytesMut,
}

impl Frames {
    async fn byte(&mut self) -> Result<u8, PeerError> {
        self.have(1).await?;
        Ok(self.data.get_u8())
    }

    async fn word(&mut self) -> Result<u64, PeerError> {
        self.have(8).await?;
        Ok(self.data.get_u64_le())
    }

    /// Some bytes, at most `bytes_max`.
    async fn up_to(&mut self, bytes_max: u64) -> Result<Bytes, PeerError> {
        if self.data.is_empty() {
            // Large bodies pass through without being copied.
            let mut data = self.more(bytes_max).await?;
            let taken = usize::try_from(bytes_max).unwrap_or(usize::MAX).min(data.len());
            let rest = data.split_off(taken);
            self.data.extend_from_slice(&rest);
            return Ok(data);
        }
        let taken = usize::try_from(bytes_max).unwrap_or(usize::MAX).min(self.data.len());
        Ok(self.data.split_to(taken).freeze())
    }

    async fn skip(&mut self, mut bytes: u64) -> Result<(), PeerError> {
        while bytes > 0 {
            bytes -= self.up_to(bytes).await?.len() as u64;
        }
        Ok(())
    }

    async fn have(&mut self, bytes: usize) -> Result<(), PeerError> {
        while self.data.len() < bytes {
            let missing = bytes - self.data.len();
            let data = self.more(missing as u64).await?;
            self.data.extend_from_slice(&data);
        }
        Ok(())
    }

    async fn more(&mut self, missing_bytes: u64) -> Result<Bytes, PeerError> {
        loop {
            match self.answer.next().await? {
                Some(data) if data.is_empty() => {}
                Some(data) => return Ok(data),
                None => return Err(PeerError::Short { missing_bytes }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kura_core::{
        address::{Address, Space},
        digest::Digest,
        record::Version,
    };

    use super::*;

    fn row(body_bytes: u64) -> FeedRow {
        FeedRow {
            address: Address::new("team", Space::Plain, "key").unwrap(),
            version: Version::default(),
            body_bytes,
            digest: Digest::of(b""),
        }
    }

    #[test]
    fn small_bodies_go_together_and_large_ones_alone() {
        let units = |sizes: &[u64]| {
            let mut wanted: VecDeque<_> = sizes.iter().map(|size| row(*size)).collect();
            let mut units = Vec::new();
            while !wanted.is_empty() {
                let unit = take_unit(&mut wanted, |row| row.body_bytes == 7);
                assert!(!unit.is_empty());
                units.push(unit.len());
            }
            units
        };
        let small = SMALL_BODY_BYTES;
        assert_eq!(units(&[1, 2, small, small + 1, 3, 4]), [3, 1, 2]);
        assert_eq!(units(&[small + 1, small + 1]), [1, 1]);
        assert_eq!(units(&vec![0; BATCH_ROWS_MAX + 1]), [BATCH_ROWS_MAX, 1]);
        let full = usize::try_from(BATCH_BYTES_MAX / small).unwrap();
        assert_eq!(units(&vec![small; full + 2]), [full, 2]);
        assert_eq!(units(&[u64::MAX]), [1]);
        assert_eq!(units(&[1, 7, 7, 2, 3]), [1, 1, 1, 2], "suspects go alone");
    }
}
