//! Eviction: clears up behind the ring. Rows go first, in bounded steps, and the file goes last;
//! where the disk is full the file goes first. A stop at any point leaves a file or rows outside of
//! the ring to say what is still to be done.

use bytes::Bytes;
use kura_core::{
    feed::feed_key,
    place::{Place, contents_key, parse_contents_key, parse_contents_row},
    record::SegmentId,
};
use kura_env::{Batch, DiskErrorKind, Instant};

use super::{
    CONTENTS_SPACE, FEED_SPACE, PLACES_SPACE,
    appender::{Appender, FAILURE_REST},
    rows,
    segments::{segment_dir, segment_path},
    versions::Known,
};
use crate::service::Refusal;

/// A segment outside of the ring of which something is left.
pub(super) struct Debt {
    pub(super) segment: SegmentId,
    /// Its file went ahead of its rows, because the disk had no room.
    is_unlinked: bool,
    /// Its rows below this offset are gone. A look from the start would go over what an LSM keeps of
    /// each of them.
    next_offset: u64,
}

impl Debt {
    pub(super) fn of(segment: SegmentId) -> Self {
        Self { segment, is_unlinked: false, next_offset: 0 }
    }

    /// An object of the pool, whose file goes first.
    pub(super) fn unlinked(segment: SegmentId) -> Self {
        Self { segment, is_unlinked: true, next_offset: 0 }
    }
}

/// Rows that one step looks at. Higher holds up the writers that wait for longer.
const STEP_ROWS_MAX: usize = 256;

/// Records of a group for which one more step is taken behind it: two rows go for each that comes.
const STEP_RECORDS: u64 = STEP_ROWS_MAX as u64 / 2;
/// Bytes of a group for which one more step is taken, so that a segment of small artifacts is gone
/// by the time that one of large artifacts is full.
const STEP_BYTES: u64 = 1024 * 1024;

/// How many steps behind a group of so many records and bytes keep up with it, so that the next turn
/// of the ring need not wait.
pub(super) fn eviction_steps(records: usize, bytes: u64) -> u64 {
    1 + records as u64 / STEP_RECORDS + bytes / STEP_BYTES
}

/// Takes away the rows of the record at `row` of the contents, which has this sequence in the feed, and
/// this key; `place` is where that leads. Gives the place if it is that of the record.
pub(super) fn remove_record(
    batch: &mut Batch,
    row: &Bytes,
    (sequence, key): (u64, &[u8]),
    place: Option<Place>,
) -> Option<Place> {
    let at = parse_contents_key(row);
    let is_here = |place: &Place| Some((place.segment, place.offset)) == at;
    // Another record may have taken the name over since; that one stays.
    let led_here = place.filter(is_here);
    if led_here.is_some() {
        batch.delete(PLACES_SPACE, key.to_vec());
    }
    // What was copied forward keeps its place in the order of changes.
    let is_copied = |place: Place| !is_here(&place) && place.sequence == sequence;
    if sequence > 0 && !place.is_some_and(is_copied) {
        batch.delete(FEED_SPACE, feed_key(sequence).to_vec());
    }
    batch.delete(CONTENTS_SPACE, row.clone());
    led_here
}

impl Appender {
    /// Whether there is something to clear up.
    pub(super) fn has_debts(&self) -> bool {
        !self.debts.is_empty()
    }

    /// When the next step may be taken; `None` if there is nothing to clear up.
    pub(super) fn eviction_due(&self) -> Option<Instant> {
        self.has_debts().then_some(self.eviction_rests_until)
    }

    /// So many steps beside other work. After an error it rests, and is tried again after that, or
    /// by the next rotation.
    pub(super) async fn evict_some(&mut self, steps: u64) {
        for _ in 0..steps {
            let now = self.env.clock.now();
            if self.eviction_due().is_none_or(|due| now < due) {
                return;
            }
            if let Err(refusal) = self.evict_step().await {
                self.leave_for_later(&refusal);
                self.eviction_rests_until = now + FAILURE_REST;
            }
        }
    }

    /// Puts the debt that was worked on behind the others: a file that cannot be removed keeps no
    /// other one.
    pub(super) fn leave_for_later(&mut self, refusal: &Refusal) {
        self.metrics.store.eviction_errors.inc();
        let segment = self.debts.front().map(|debt| debt.segment.to_string());
        tracing::warn!(segment, %refusal, "what was evicted could not be cleared up");
        if let Some(debt) = self.debts.pop_front() {
            self.debts.push_back(debt);
        }
    }

    /// Unlinks the file of a debt ahead of its rows: where the disk is full, their deletion may find
    /// no room. Rows of a segment outside of the ring are misses, and stay due. Whether there was
    /// one.
    pub(super) async fn unlink_ahead(&mut self) -> Result<bool, Refusal> {
        let Some(at) = self.debts.iter().position(|debt| !debt.is_unlinked) else {
            return Ok(false);
        };
        self.unlink_segment(self.debts[at].segment).await?;
        self.debts[at].is_unlinked = true;
        Ok(true)
    }

    /// Removes a bounded number of rows of the first segment that is due, and its file after the
    /// last of them.
    pub(super) async fn evict_step(&mut self) -> Result<(), Refusal> {
        let front = self.debts.front().map(|debt| (debt.segment, debt.next_offset));
        let Some((segment, next_offset)) = front else { return Ok(()) };
        // Rows of its last records may not have come in yet.
        self.index_leftovers().await?;
        let catalog = self.env.catalog.clone();
        let from = contents_key(segment, next_offset);
        let to = contents_key(SegmentId(segment.0 + 1), 0);
        let contents = catalog
            .range(CONTENTS_SPACE, &from, &to, STEP_ROWS_MAX)
            .await
            .map_err(Refusal::Catalog)?;
        let (mut batch, mut known) = (Batch::default(), Known::new());
        let (mut artifacts, mut bytes) = (0, 0);
        for (row, value) in &contents {
            let Some((sequence, key)) = parse_contents_row(value) else { continue };
            let place = self.place_of(key).await?;
            known.insert(value.slice_ref(key), place);
            if let Some(place) = remove_record(&mut batch, row, (sequence, key), place) {
                artifacts += 1;
                bytes += place.body_bytes;
            }
        }
        let last = contents.len() < STEP_ROWS_MAX;
        let done = contents.last().and_then(|(row, _)| parse_contents_key(row));
        if last {
            rows::remove_watermark(&mut batch, segment);
        }
        self.commit(batch, &known).await?;
        if let Some((debt, (_, offset))) = self.debts.front_mut().zip(done) {
            debt.next_offset = offset + 1;
        }
        self.metrics.store.evicted_artifacts.inc_by(artifacts);
        self.metrics.store.evicted_bytes.inc_by(bytes);
        if last {
            self.unlink_segment(segment).await?;
            self.debts.pop_front();
            self.sums.is_gone(segment);
            self.metrics.store.evicted_segments.inc();
            if self.volume.is_short() {
                self.look_soon();
            }
        }
        Ok(())
    }

    /// Removes the file of a segment, if there is one.
    pub(super) async fn unlink_segment(&self, segment: SegmentId) -> Result<(), Refusal> {
        match self.env.disk.unlink(&segment_path(segment)).await {
            Err(error) if error.kind != DiskErrorKind::NotFound => {
                return Err(Refusal::Disk(error));
            }
            Ok(()) | Err(_) => self.books.unlinked(segment, &self.view),
        }
        self.env.disk.sync_dir(&segment_dir(segment)).await.map_err(Refusal::Disk)
    }
}
