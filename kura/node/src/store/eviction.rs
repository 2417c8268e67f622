//! Eviction: clears up behind the ring. Rows go first, in bounded steps; the file goes last, so
//! that a stop at any point leaves the file to say what is still to be done.

use kura_core::{
    feed::feed_key,
    place::{Place, contents_key, parse_contents_key},
    record::SegmentId,
};
use kura_env::{Batch, DiskErrorKind, DiskPath, Instant};

use super::{
    CONTENTS_SPACE, FEED_SPACE, PLACES_SPACE,
    appender::{Appender, FAILURE_REST},
    rows,
    segments::{SEGMENT_DIR, segment_path},
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
        for (row, key) in &contents {
            let place = catalog.get(PLACES_SPACE, key).await.map_err(Refusal::Catalog)?;
            let place = place.as_deref().and_then(Place::decode);
            let offset = parse_contents_key(row).map(|(_, offset)| offset);
            // Another record may have taken the name over since; that one stays.
            if let Some(place) = place
                && place.segment == segment
                && Some(place.offset) == offset
            {
                batch.delete(PLACES_SPACE, key.clone());
                artifacts += 1;
                bytes += place.body_bytes;
            }
            batch.delete(CONTENTS_SPACE, row.clone());
        }
        let last = contents.len() < STEP_ROWS_MAX && !self.trim_feed(&mut batch).await?;
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
        }
        Ok(())
    }

    /// Removes rows of the feed below the horizon: what they are about has left the ring. Whether
    /// there may be more of them.
    async fn trim_feed(&self, batch: &mut Batch) -> Result<bool, Refusal> {
        let horizon = feed_key(self.ring.horizon_sequence());
        let catalog = &self.env.catalog;
        let rows = catalog.range(FEED_SPACE, &[], &horizon, STEP_ROWS_MAX).await;
        let rows = rows.map_err(Refusal::Catalog)?;
        let is_full = rows.len() == STEP_ROWS_MAX;
        for (key, _) in rows {
            batch.delete(FEED_SPACE, key);
        }
        Ok(is_full)
    }

    async fn unlink_segment(&self, segment: SegmentId) -> Result<(), Refusal> {
        match self.env.disk.unlink(&segment_path(segment)).await {
            Err(error) if error.kind != DiskErrorKind::NotFound => {
                return Err(Refusal::Disk(error));
            }
            Ok(()) | Err(_) => {}
        }
        self.env.disk.sync_dir(&DiskPath::new(SEGMENT_DIR)).await.map_err(Refusal::Disk)
    }
}
