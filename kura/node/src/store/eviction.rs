//! Eviction: clears up behind the ring. Rows go first, in bounded steps; the file goes last, so
//! that a stop at any point leaves the file to say what is still to be done.

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
};
use crate::service::Refusal;

/// Rows that one step looks at. Higher holds up the writers that wait for longer.
const STEP_ROWS_MAX: usize = 256;

impl Appender {
    /// Whether there is something to clear up.
    pub(super) fn has_debts(&self) -> bool {
        !self.debts.is_empty()
    }

    /// When the next step may be taken; `None` if there is nothing to clear up.
    pub(super) fn eviction_due(&self) -> Option<Instant> {
        self.has_debts().then_some(self.eviction_rests_until)
    }

    /// One step beside other work. After an error it rests, and is tried again after that, or by
    /// the next rotation.
    pub(super) async fn evict_some(&mut self) {
        let now = self.env.clock.now();
        if self.eviction_due().is_none_or(|due| now < due) {
            return;
        }
        if let Err(refusal) = self.evict_step().await {
            self.metrics.store.eviction_errors.inc();
            tracing::warn!(%refusal, "an evicted segment could not be cleared up");
            self.eviction_rests_until = now + FAILURE_REST;
        }
    }

    /// Removes a bounded number of rows of the first segment that is due, and its file after the
    /// last of them.
    pub(super) async fn evict_step(&mut self) -> Result<(), Refusal> {
        let Some(segment) = self.debts.front().copied() else { return Ok(()) };
        let catalog = self.env.catalog.clone();
        let (from, to) = (contents_key(segment, 0), contents_key(SegmentId(segment.0 + 1), 0));
        let contents = catalog
            .range(CONTENTS_SPACE, &from, &to, STEP_ROWS_MAX)
            .await
            .map_err(Refusal::Catalog)?;
        let mut batch = Batch::default();
        let (mut artifacts, mut bytes) = (0, 0);
        for (row, value) in &contents {
            let Some((sequence, key)) = parse_contents_row(value) else { continue };
            let place = catalog.get(PLACES_SPACE, key).await.map_err(Refusal::Catalog)?;
            let place = place.as_deref().and_then(Place::decode);
            let offset = parse_contents_key(row).map(|(_, offset)| offset);
            let is_here = |place: &Place| place.segment == segment && Some(place.offset) == offset;
            // Another record may have taken the name over since; that one stays.
            if let Some(place) = place.filter(is_here) {
                batch.delete(PLACES_SPACE, key.to_vec());
                artifacts += 1;
                bytes += place.body_bytes;
            }
            // What was copied forward keeps its place in the order of changes.
            let is_copied = |place: Place| !is_here(&place) && place.sequence == sequence;
            if sequence > 0 && !place.is_some_and(is_copied) {
                batch.delete(FEED_SPACE, feed_key(sequence).to_vec());
            }
            batch.delete(CONTENTS_SPACE, row.clone());
        }
        let last = contents.len() < STEP_ROWS_MAX;
        if last {
            rows::remove_watermark(&mut batch, segment);
        }
        self.commit(batch).await?;
        self.metrics.store.evicted_artifacts.inc_by(artifacts);
        self.metrics.store.evicted_bytes.inc_by(bytes);
        if last {
            self.unlink_segment(segment).await?;
            self.debts.pop_front();
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
