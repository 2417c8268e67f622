//! Bodies from a peer: asked for together where they are small, checked, and stored.

use std::{collections::VecDeque, time::Duration};

use bytes::{Buf as _, Bytes};
use http::Method;
use kura_core::{
    feed::FeedRow,
    limits::{PeerLimits, ROOM_TIMEOUT, SMALL_BODY_BYTES},
    resume::{GOES_ON_MAX, has_moved_on},
    tries::Blame,
};
use kura_env::timeout;

use super::{
    Shared,
    client::Client,
    deletes::Heard,
    error::PeerError,
    frames::Frames,
    requests::Requests,
    storing::{Stored, Storing, store},
    wire::{BODIES, BODY_FOLLOWS, BODY_MISSING, BODY_REST_FOLLOWS, BODY_UNREADABLE, Row},
};
use crate::{service::Refusal, store::Upload};

/// From where it is fetched, and for whom.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) client: &'a Client,
    /// The number of the peer among those that were configured.
    pub(crate) number: usize,
    /// The peer as it was configured.
    pub(crate) name: &'a str,
    pub(crate) heard: &'a Heard,
    /// How many requests for bodies may be under way at once.
    pub(crate) requests: &'a Requests,
    /// What this node and the peer both take and tell.
    pub(crate) limits: PeerLimits,
}

impl Source<'_> {
    /// Waits before the next page is asked for, where nothing came of many before it.
    pub(crate) async fn wait_in_vain(&self, pause: Duration) {
        if !pause.is_zero() {
            self.shared.metrics.replication.vain_pages.inc();
            self.shared.env.clock.sleep(pause).await;
        }
    }

    /// The version of an artifact is too far ahead of the clock here: it is not taken in now.
    pub(crate) fn is_ahead(&self, row: &FeedRow) {
        self.shared.metrics.replication.too_far_ahead.inc();
        self.shared.mesh.is_ahead(self.name, row);
    }
}

/// A row that failed by itself.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) row: FeedRow,
    pub(crate) blame: Blame,
    /// So much of its body is kept to be gone on with.
    pub(crate) kept_bytes: u64,
}

/// What became of rows that were asked for.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    /// Stored now, or here meanwhile.
    pub(crate) applied: u64,
    /// Bodies that came from this peer.
    pub(crate) delivered: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// The peer does not have them any more.
    pub(crate) missing: u64,
    /// How often a large body broke that had moved on.
    pub(crate) moved: u64,
    /// Each of them failed by itself.
    pub(crate) failed: Vec<Failed>,
    /// To be tried again, and alone: the peer failed over several of which any may be the reason.
    pub(crate) untried: Vec<FeedRow>,
    /// To be asked for again as if nothing had been: another one failed in front of them.
    pub(crate) later: Vec<FeedRow>,
    /// This node cannot take them; trying again at once is of no use.
    pub(crate) declined: Vec<FeedRow>,
    /// The answer broke off, or never came.
    pub(crate) is_cut: bool,
    /// The peer cannot be reached. Nothing more should be asked of it now.
    pub(crate) is_unreachable: bool,
    /// Why the first of them failed.
    pub(crate) cause: Option<PeerError>,
}

impl Fetched {
    /// Adds what became of others.
    pub(crate) fn add(&mut self, other: Self) {
        self.applied += other.applied;
        self.delivered += other.delivered;
        self.bytes += other.bytes;
        self.missing += other.missing;
        self.moved += other.moved;
        self.failed.extend(other.failed);
        self.untried.extend(other.untried);
        self.later.extend(other.later);
        self.declined.extend(other.declined);
        self.is_cut |= other.is_cut;
        self.is_unreachable |= other.is_unreachable;
        self.cause = self.cause.take().or(other.cause);
    }

    /// Whether the peer said something clear about any of them, or a large body moved on.
    pub(crate) fn is_answer(&self) -> bool {
        let unreadable = !self.is_cut && !self.failed.is_empty();
        self.delivered + self.missing + self.moved > 0 || unreadable
    }

    /// Whether bodies came, or more of a large one.
    pub(crate) fn got_on(&self) -> bool {
        self.delivered + self.moved > 0
    }

    fn fail(&mut self, row: FeedRow, blame: Blame, kept_bytes: u64) {
        self.failed.push(Failed { row, blame, kept_bytes });
    }
}

/// Takes the rows of the next request from the front: one large body, or small ones up to the
/// limits of a batch. Rows that `is_suspect` says yes to go alone, so that one that fails every time
/// holds up no other.
pub(crate) fn take_unit(
    wanted: &mut VecDeque<FeedRow>,
    is_suspect: impl Fn(&FeedRow) -> bool,
    limits: PeerLimits,
) -> Vec<FeedRow> {
    let PeerLimits { batch_rows, batch_bytes, message_bytes, .. } = limits;
    let mut unit: Vec<FeedRow> = Vec::new();
    let (mut bytes, mut asked_bytes) = (0, 0);
    while let Some(row) = wanted.front() {
        let is_small = row.body_bytes <= SMALL_BODY_BYTES && !is_suspect(row);
        asked_bytes += row_bytes_max(row);
        let fits = is_small
            && bytes + row.body_bytes <= batch_bytes
            && asked_bytes <= message_bytes
            && unit.len() < batch_rows;
        if !unit.is_empty() && !fits {
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

/// What a row takes in a request at the most: six bytes for a character that JSON escapes, and its numbers.
fn row_bytes_max(row: &FeedRow) -> usize {
    const NUMBERS_BYTES: usize = 320;
    NUMBERS_BYTES + 6 * (row.address.namespace().len() + row.address.key().len())
}

/// Fetches the bodies of `unit` from a peer, but for those rows that somebody else is fetching already: they are given back.
///
/// # Errors
///
/// [`PeerError::Store`] when nothing more can be taken in. Everything else is told in what returns.
pub(crate) async fn fetch(
    source: Source<'_>,
    unit: Vec<FeedRow>,
) -> Result<(Fetched, Vec<FeedRow>), PeerError> {
    let shared = source.shared;
    let mut fetched = Fetched::default();
    let (mut claimed, mut claims, mut busy) = (VecDeque::new(), Vec::new(), Vec::new());
    for row in unit {
        match shared.claims.try_claim(&row.address) {
            // Looked at under the claim: whoever had it before may have stored it.
            Some(claim) if shared.store.lacks(&row).await.map_err(PeerError::storing)? => {
                claimed.push_back(row);
                claims.push(claim);
            }
            Some(_) => {
                shared.partials.forget(&row.address);
                fetched.applied += 1;
            }
            None => busy.push(row),
        }
    }
    if !claimed.is_empty() {
        fetched.add(transfer(source, claimed).await?);
    }
    Ok((fetched, busy))
}

/// Asks for `rows` until there is nothing more to ask this peer for now. A large body that moved on before its answer
/// broke is gone on with at once.
///
/// Room for the first body is had before anything is asked: whoever waits for room must not keep a
/// peer waiting, which would close the connection. Room is held meanwhile only by bodies that have come: those are stored
/// without waiting for any room, so two that wait never wait for each other.
async fn transfer(source: Source<'_>, rows: VecDeque<FeedRow>) -> Result<Fetched, PeerError> {
    let (mut fetched, mut left, mut is_anew) = (Fetched::default(), rows, false);
    'anew: loop {
        let Some(mut upload) = first_room(source, &mut left, &mut fetched).await? else {
            return Ok(fetched);
        };
        let _request = source.requests.begin().await;
        let mut went_on = 0;
        loop {
            let first = First { upload, may_go_on: went_on < GOES_ON_MAX };
            match exchange(source, &mut fetched, &mut left, first).await? {
                Next::Done => return Ok(fetched),
                Next::On(more) => {
                    upload = *more;
                    went_on += 1;
                }
                // The permit goes first: room is waited for.
                Next::Anew(_) if !is_anew => {
                    is_anew = true;
                    continue 'anew;
                }
                Next::Anew(error) => {
                    failed(source, &mut fetched, left.pop_front(), error);
                    return Ok(fetched);
                }
            }
        }
    }
}

/// What is fetched first with a request.
struct First {
    /// Room for it, and what there is of it already.
    upload: Upload,
    /// Whether it is gone on with at once if it breaks.
    may_go_on: bool,
}

/// What follows an answer.
enum Next {
    /// Nothing at once.
    Done,
    /// A large body moved on before it broke.
    On(Box<Upload>),
    /// A body that had broken before came to its end, and is not what the row says. It may be that its parts
    /// did not belong together.
    Anew(PeerError),
}

/// One request and its answer.
async fn exchange(
    source: Source<'_>,
    fetched: &mut Fetched,
    left: &mut VecDeque<FeedRow>,
    First { upload: first, may_go_on }: First,
) -> Result<Next, PeerError> {
    let Source { shared, client, .. } = source;
    let from = first.received_bytes();
    let answer = match client.send(Method::POST, BODIES, question(left, from)).await {
        Ok(answer) => answer,
        Err(error) => {
            let kept_bytes = left.front().map_or(0, |row| shared.partials.keep(row, first));
            cut(source, fetched, left, kept_bytes, error);
            return Ok(Next::Done);
        }
    };
    source.hear_deletes_beside(answer.deletes()).await?;
    let mut storing = Storing::default();
    let first = First { upload: first, may_go_on };
    let next = take_bodies(source, fetched, left, (first, Frames::new(answer)), &mut storing).await;
    // Also where the answer broke, or our own store: whatever came is stored, and counted.
    let stored = note_stored(source, fetched, storing.finish().await);
    next.and_then(|next| stored.map(|()| next))
}

/// Takes the bodies of an answer in, one behind the other, and hands those that are whole over to be stored.
async fn take_bodies(
    source: Source<'_>,
    fetched: &mut Fetched,
    left: &mut VecDeque<FeedRow>,
    (First { upload: first, may_go_on }, mut frames): (First, Frames),
    storing: &mut Storing,
) -> Result<Next, PeerError> {
    let from = first.received_bytes();
    let mut room = Some(first);
    while let Some(row) = left.front() {
        let received = storing.beside(receive(source, &mut frames, row, &mut room)).await?;
        note_stored(source, fetched, storing.take_done())?;
        match received {
            Received::Whole(upload) if from > 0 => {
                if let Some(wrong) = store_whole(source, fetched, left, *upload).await? {
                    return Ok(Next::Anew(wrong));
                }
            }
            Received::Whole(upload) => {
                let Some(row) = left.pop_front() else { break };
                storing.begin(row, *upload).await;
            }
            Received::Missing => {
                // Another peer may have the rest of it.
                if let Some(upload) = room.take() {
                    source.shared.partials.keep(row, upload);
                }
                fetched.missing += 1;
                source.shared.metrics.replication.missing.inc();
                left.pop_front();
            }
            Received::Declined(error) => decline(source, fetched, left.pop_front(), error),
            Received::Unreadable => {
                if let Some(upload) = room.take() {
                    source.shared.partials.keep(row, upload);
                }
                failed(source, fetched, left.pop_front(), PeerError::Unreadable);
            }
            Received::NoRoom => {
                fetched.later.extend(left.drain(..));
                return Ok(Next::Done);
            }
            Received::Cut { in_body, error } => {
                let upload = room.map(|upload| First { upload, may_go_on });
                return Ok(broke(source, fetched, left, upload, (from, in_body, error)));
            }
        }
        // What it was for has been dealt with.
        room = None;
    }
    if let Some(answer) = frames.into_answer() {
        source.client.keep(answer).await;
    }
    Ok(Next::Done)
}

/// Stores a body that was gone on with, of the first row that is left. Parts that do not belong together are told, and
/// the row is left.
async fn store_whole(
    source: Source<'_>,
    fetched: &mut Fetched,
    left: &mut VecDeque<FeedRow>,
    upload: Upload,
) -> Result<Option<PeerError>, PeerError> {
    match store(upload).await {
        Err(error) if error.is_wrong_digest() => {
            source.shared.partials.was_wrong();
            Ok(Some(error))
        }
        outcome => {
            let stored = left.pop_front().map(|row| (row, outcome));
            note_stored(source, fetched, stored).map(|()| None)
        }
    }
}

/// Counts what has been stored, and what came and is not what its row says. An error is the first one of our own store.
fn note_stored(
    source: Source<'_>,
    fetched: &mut Fetched,
    stored: impl IntoIterator<Item = Stored>,
) -> Result<(), PeerError> {
    let metrics = &source.shared.metrics.replication;
    let mut broken = None;
    for (row, outcome) in stored {
        match outcome {
            Ok(()) => {
                fetched.applied += 1;
                fetched.delivered += 1;
                fetched.bytes += row.body_bytes;
                metrics.fetched.inc();
                metrics.fetched_bytes.inc_by(row.body_bytes);
            }
            Err(error @ PeerError::Body(_)) => failed(source, fetched, Some(row), error),
            Err(error) => {
                broken.get_or_insert(error);
            }
        }
    }
    broken.map_or(Ok(()), Err)
}

/// The answer broke: inside of the body of the first row that is left, or before it. `from` is how much there was of the
/// first body of the request.
fn broke(
    source: Source<'_>,
    fetched: &mut Fetched,
    left: &mut VecDeque<FeedRow>,
    first: Option<First>,
    (from, in_body, error): (u64, bool, PeerError),
) -> Next {
    let Some(row) = left.front() else { return Next::Done };
    let mut kept_bytes = 0;
    if let Some(First { upload, may_go_on }) = first {
        // Only a large body moves on that far before it breaks, and that was asked for alone.
        if has_moved_on(row.body_bytes, from, upload.received_bytes()) {
            fetched.moved += 1;
            if may_go_on {
                // No cause of anything, unless the rest does not come.
                source.shared.metrics.replication.fetch_failures.inc();
                fetched.is_cut = true;
                tracing::debug!(cause = error.line(), "a body broke and is gone on with");
                return Next::On(Box::new(upload));
            }
        }
        kept_bytes = source.shared.partials.keep(row, upload);
    }
    if in_body && let Some(row) = left.pop_front() {
        // The peer broke on this one, and what would have come behind it is lost.
        fetched.fail(row, Blame::Artifact, kept_bytes);
        fetched.later.extend(left.drain(..));
        kept_bytes = 0;
    }
    cut(source, fetched, left, kept_bytes, error);
    Next::Done
}

/// What a peer is asked for bodies with; of the first one it need not send what lies before `from`.
fn question(rows: &VecDeque<FeedRow>, from: u64) -> Bytes {
    let mut rows: Vec<Row> = rows.iter().map(Row::from).collect();
    if let Some(first) = rows.first_mut() {
        first.from = from;
    }
    Bytes::from(serde_json::to_vec(&rows).expect("rows have names for keys"))
}

/// Waits for room for the first of `rows` that this node can take at all, unless a part of it is kept.
async fn first_room(
    source: Source<'_>,
    rows: &mut VecDeque<FeedRow>,
    fetched: &mut Fetched,
) -> Result<Option<Upload>, PeerError> {
    while let Some(row) = rows.front() {
        if let Some(upload) = source.shared.partials.take(row) {
            return Ok(Some(upload));
        }
        match room(source, row).await {
            Ok(upload) => return Ok(Some(upload)),
            Err(error @ PeerError::Body(_)) => decline(source, fetched, rows.pop_front(), error),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Waits for room for a body.
async fn room(source: Source<'_>, row: &FeedRow) -> Result<Upload, PeerError> {
    let Source { shared, .. } = source;
    let began = shared.env.clock.now();
    let upload = shared.store.begin_replica(row).await.map_err(PeerError::storing);
    if shared.env.clock.now() > began {
        shared.metrics.replication.room_waits.inc();
    }
    upload
}

/// This node cannot take the body.
fn decline(source: Source<'_>, fetched: &mut Fetched, row: Option<FeedRow>, error: PeerError) {
    let Some(row) = row else { return };
    if matches!(error, PeerError::Body(Refusal::Ahead { .. })) {
        source.is_ahead(&row);
    } else {
        source.shared.metrics.replication.declined.inc();
        tracing::warn!(address = ?row.address, cause = error.line(), "declined");
    }
    fetched.declined.push(row);
    fetched.cause.get_or_insert(error);
}

/// The peer cannot read the artifact, or what came is not what the row says.
fn failed(source: Source<'_>, fetched: &mut Fetched, row: Option<FeedRow>, error: PeerError) {
    source.shared.metrics.replication.unreadable.inc();
    if let Some(row) = row {
        fetched.fail(row, Blame::Artifact, 0);
    }
    fetched.cause.get_or_insert(error);
}

/// The peer failed over `rows`, before it said anything about the first of them, of which so much is kept.
fn cut(
    source: Source<'_>,
    fetched: &mut Fetched,
    rows: &mut VecDeque<FeedRow>,
    kept_bytes: u64,
    error: PeerError,
) {
    let rows = std::mem::take(rows);
    source.shared.metrics.replication.fetch_failures.inc();
    fetched.is_cut = true;
    if error.is_unreachable() {
        fetched.is_unreachable = true;
        fetched.later.extend(rows);
    // Of several nobody knows whose fault it is; one alone has failed.
    } else if rows.len() > 1 {
        fetched.untried.extend(rows);
    } else {
        rows.into_iter().for_each(|row| fetched.fail(row, Blame::Peer, kept_bytes));
    }
    fetched.cause.get_or_insert(error);
}

/// What came of a row. Everything but `Cut` and `NoRoom` leaves the answer at the next frame.
enum Received {
    /// All of it came; whether it is what the row says shows when it is stored.
    Whole(Box<Upload>),
    Missing,
    /// This node cannot take it.
    Declined(PeerError),
    /// The peer cannot read it.
    Unreadable,
    /// There was no room for it in time.
    NoRoom,
    /// The answer is of no use any more.
    Cut {
        in_body: bool,
        error: PeerError,
    },
}

/// Takes one body in; an error is one of our own store. `room` is for this body, with what there is of it already, and
/// has what there is of it when the answer broke.
async fn receive(
    source: Source<'_>,
    frames: &mut Frames,
    row: &FeedRow,
    room: &mut Option<Upload>,
) -> Result<Received, PeerError> {
    let from = room.as_ref().map_or(0, Upload::received_bytes);
    let (mut left, mut before) = match announced(frames).await {
        Ok(Announced::Body { len_bytes }) if len_bytes == row.body_bytes => (len_bytes, from),
        Ok(Announced::Rest { offset, len_bytes })
            if offset == from && from > 0 && len_bytes == row.body_bytes - from =>
        {
            source.shared.metrics.replication.resumed.inc();
            source.shared.metrics.replication.resumed_bytes.inc_by(from);
            (len_bytes, 0)
        }
        Ok(Announced::Missing) => return Ok(Received::Missing),
        Ok(Announced::Unreadable) => return Ok(Received::Unreadable),
        Ok(Announced::Body { .. } | Announced::Rest { .. }) => {
            let told = format!("another length than that of a row of {}", row.body_bytes);
            return Ok(Received::Cut { in_body: true, error: PeerError::Answer(told) });
        }
        Err(error) => return Ok(Received::Cut { in_body: false, error }),
    };
    if room.is_none() {
        *room = match later_room(source, row).await {
            Ok(Some(upload)) => Some(upload),
            Ok(None) => return Ok(Received::NoRoom),
            Err(error @ PeerError::Body(_)) => {
                return Ok(match frames.skip(left).await {
                    Ok(()) => Received::Declined(error),
                    Err(error) => Received::Cut { in_body: true, error },
                });
            }
            Err(error) => return Err(error),
        };
    }
    let Some(upload) = room.as_mut() else { return Ok(Received::NoRoom) };
    while left > 0 {
        let mut data = match frames.up_to(left).await {
            Ok(data) => data,
            Err(error) => return Ok(Received::Cut { in_body: true, error }),
        };
        source.shared.mesh.moved(source.name);
        source.shared.mesh.ceilings.fetching.pass(data.len()).await;
        left -= data.len() as u64;
        // A peer that does not know of offsets sends what is here once more.
        let is_here = usize::try_from(before).unwrap_or(usize::MAX).min(data.len());
        before -= is_here as u64;
        data.advance(is_here);
        upload.write(data).await.map_err(PeerError::storing)?;
    }
    Ok(room.take().map_or(Received::NoRoom, |upload| Received::Whole(Box::new(upload))))
}

/// Room for a body behind the first one, while the peer waits to send it; nothing if that takes
/// too long.
async fn later_room(source: Source<'_>, row: &FeedRow) -> Result<Option<Upload>, PeerError> {
    match timeout(&*source.shared.env.clock, ROOM_TIMEOUT, room(source, row)).await {
        Ok(room) => room.map(Some),
        Err(_) => Ok(None),
    }
}

/// What a peer says of a row.
enum Announced {
    Body {
        len_bytes: u64,
    },
    /// What lies behind an offset.
    Rest {
        offset: u64,
        len_bytes: u64,
    },
    Missing,
    Unreadable,
}

async fn announced(frames: &mut Frames) -> Result<Announced, PeerError> {
    match frames.byte().await? {
        BODY_MISSING => Ok(Announced::Missing),
        BODY_UNREADABLE => Ok(Announced::Unreadable),
        BODY_FOLLOWS => Ok(Announced::Body { len_bytes: frames.word().await? }),
        BODY_REST_FOLLOWS => {
            let offset = frames.word().await?;
            Ok(Announced::Rest { offset, len_bytes: frames.word().await? })
        }
        other => Err(PeerError::Answer(format!("a frame of kind {other}"))),
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
        let units_within = |limits: PeerLimits, sizes: &[u64]| {
            let mut wanted: VecDeque<_> = sizes.iter().map(|size| row(*size)).collect();
            let mut units = Vec::new();
            while !wanted.is_empty() {
                let unit = take_unit(&mut wanted, |row| row.body_bytes == 7, limits);
                assert!(!unit.is_empty());
                units.push(unit.len());
            }
            units
        };
        let first = PeerLimits::FIRST;
        let units = |sizes: &[u64]| units_within(first, sizes);
        let small = SMALL_BODY_BYTES;
        let (rows_max, bytes_max) = (first.batch_rows, first.batch_bytes);
        assert_eq!(units(&[1, 2, small, small + 1, 3, 4]), [3, 1, 2]);
        assert_eq!(units(&[small + 1, small + 1]), [1, 1]);
        assert_eq!(units(&vec![0; rows_max + 1]), [rows_max, 1]);
        let full = usize::try_from(bytes_max / small).unwrap();
        assert_eq!(units(&vec![small; full + 2]), [full, 2]);
        assert_eq!(units(&[u64::MAX]), [1]);
        assert_eq!(units(&[1, 7, 7, 2, 3]), [1, 1, 1, 2], "suspects go alone");
        let few = PeerLimits { batch_rows: 2, ..first };
        assert_eq!(units_within(few, &[1, 2, 3]), [2, 1]);
        let light = PeerLimits { batch_bytes: 5, ..first };
        assert_eq!(units_within(light, &[3, 2, 1, 9, 1]), [2, 1, 1, 1]);
        let short = PeerLimits { message_bytes: 2 * row_bytes_max(&row(1)), ..first };
        assert_eq!(units_within(short, &[1; 5]), [2, 2, 1]);
    }
}
