//! What follows the scan of a start: segments are made fit for what they are now, the newest ones for
//! appends, all others for reads.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use kura_core::{
    capacity::Capacity,
    record::{Area, Flow, SegmentId, encode_skip},
    recovery::{Resume, resume},
    ring::Ring,
};
use kura_env::{DiskErrorKind, File};

use super::{
    appender::{Active, Log},
    recovery::RecoverError,
    scan::Scanned,
    segments::{Segment, View},
};
use crate::metrics::Metrics;

/// Makes segments fit.
pub(super) struct Fitter<'a> {
    pub(super) metrics: &'a Metrics,
    pub(super) capacity: Capacity,
}

impl Fitter<'_> {
    /// Lets appends go on in the newest segment of each flow, if it is among `scanned`, beyond every
    /// byte that was ever written there. All others are frozen.
    pub(super) async fn make_fit(
        &self,
        ring: &Ring,
        mut scanned: BTreeMap<SegmentId, Scanned>,
        view: &View,
    ) -> Result<BTreeMap<(Area, Flow), Log>, RecoverError> {
        let mut logs = BTreeMap::new();
        for member in ring.members() {
            let (area, flow) = (member.id.area(), member.flow);
            let is_newest = ring.newest(area, flow).is_some_and(|newest| newest.id == member.id);
            if is_newest && let Some(scanned) = scanned.remove(&member.id) {
                if let Some(active) = self.open_for_appends(scanned).await? {
                    logs.insert((area, flow), Log { active: Some(active), unopened: None });
                }
            } else if let Some(segment) = view.segment(member.id)
                && let Some(file) = &segment.file
            {
                self.freeze(&segment, file).await;
            }
        }
        Ok(logs)
    }

    async fn open_for_appends(&self, scanned: Scanned) -> Result<Option<Active>, RecoverError> {
        let Scanned { segment, file, end, .. } = scanned;
        let segment_bytes = self.capacity.ring(segment.id.area()).segment_bytes;
        let len_bytes = file.len().await?;
        match resume(end, len_bytes, segment_bytes) {
            Resume::Append { at } => {
                self.reserve(&segment, &file, segment_bytes).await;
                Ok(Some(Active { segment, file, end: at }))
            }
            Resume::Skip { at, end } => {
                let skip = encode_skip(segment.nonce, at, end);
                let written = match file.write_at(at, Bytes::from(skip)).await {
                    Ok(()) => file.sync_data().await,
                    Err(error) => Err(error),
                };
                match written {
                    Ok(()) => {
                        self.reserve(&segment, &file, segment_bytes).await;
                        Ok(Some(Active { segment, file, end }))
                    }
                    Err(error) => {
                        tracing::warn!(segment = %segment.id, %error, "takes no more appends");
                        Ok(None)
                    }
                }
            }
            Resume::Seal => {
                self.freeze(&segment, &file).await;
                Ok(None)
            }
        }
    }

    /// Reserves the rest of the newest segment again. Where that cannot be done an append may meet
    /// a full disk, and is refused then.
    async fn reserve(&self, segment: &Segment, file: &Arc<dyn File>, segment_bytes: u64) {
        match file.allocate(segment_bytes).await {
            Err(error) if error.kind != DiskErrorKind::Unsupported => {
                tracing::warn!(segment = %segment.id, %error, "no space could be reserved");
            }
            Ok(()) | Err(_) => {}
        }
    }

    async fn freeze(&self, segment: &Segment, file: &Arc<dyn File>) {
        if let Err(error) = file.freeze().await {
            self.metrics.store.freezes_failed.inc();
            tracing::warn!(segment = %segment.id, %error, "read without a mapping");
        }
    }
}
