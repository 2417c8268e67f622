//! The last steps of the appender: rows of what was written go into the catalog, the index and the sums in
//! memory follow, and who waits is answered.

use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use kura_core::{
    place::{Watermark, place_key},
    record::{Area, SegmentId},
};
use kura_env::{Batch, CatalogError, CommitDurability};

use super::{
    append::Written,
    appender::Appender,
    command::refuse,
    index::Name,
    rows,
    stamp::condemn,
    versions::{Known, add_versions, look_up},
};
use crate::service::{Published, Refusal};

impl Appender {
    /// Steps 3 and 4.
    pub(super) async fn finish(
        &mut self,
        (segment, end): (SegmentId, u64),
        written: Vec<Written>,
        known: &Known,
    ) {
        match self.index(segment, end, &written, known).await {
            Ok(()) => {
                self.drop_pledges(&written);
                for written in written {
                    if written.copied_from.is_some() {
                        self.metrics.store.refreshed.inc();
                        self.metrics.store.refreshed_bytes.inc_by(written.place.body_bytes);
                    } else {
                        self.metrics.store.puts.inc();
                        self.metrics.store.put_bytes.inc_by(written.place.body_bytes);
                        self.orders.earn(segment.area(), written.place.record_bytes());
                    }
                    let published = Published {
                        sequence: written.place.sequence,
                        len_bytes: written.place.body_bytes,
                        digest: written.place.digest,
                    };
                    // Who stopped waiting does not learn that it is stored, and it is.
                    written.reply.send(Ok(published)).ok();
                }
            }
            Err(refusal) => refuse(written.into_iter().map(|written| written.reply), &refusal),
        }
    }

    /// Step 3. Rows that the catalog refuses are kept, and go first the next time.
    async fn index(
        &mut self,
        segment: SegmentId,
        end: u64,
        written: &[Written],
        known: &Known,
    ) -> Result<(), Refusal> {
        for Written { place, address, replica, .. } in written {
            rows::add_record(&mut self.unindexed, address, place, true, *replica);
            if place.segment.area() == Area::Pool || !self.owners.is_empty() {
                let name = Name::of(&place_key(address));
                self.superseded.extend(self.owners.leads_to(name, place.segment));
            }
        }
        let watermark = Watermark { offset: end, hlc: self.hlc.0 };
        rows::add_watermark(&mut self.unindexed, segment, watermark);
        self.index_known(known).await?;
        let mut changes =
            written.iter().filter(|written| !written.replica && written.copied_from.is_none());
        if let Some(newest) = changes.next_back() {
            self.head.grow(newest.place.sequence + 1);
        }
        Ok(())
    }

    pub(super) async fn index_leftovers(&mut self) -> Result<(), Refusal> {
        self.index_known(&Known::new()).await
    }

    async fn index_known(&mut self, known: &Known) -> Result<(), Refusal> {
        if self.unindexed.is_empty() {
            return Ok(());
        }
        self.commit(self.unindexed.clone(), known).await?;
        self.unindexed = Batch::default();
        for object in std::mem::take(&mut self.superseded) {
            if let Err(refusal) = self.remove_object(object).await {
                tracing::warn!(%object, %refusal, "cleared up later");
            }
        }
        Ok(())
    }

    /// Commits to the catalog, opening it again once if it refuses, and tells the index and the sums in
    /// memory. `known` are places that were looked up for it.
    pub(super) async fn commit(&self, batch: Batch, known: &Known) -> Result<(), Refusal> {
        let outcome = self.commit_twice(&batch, known).await;
        match &outcome {
            Ok(()) => self.index.committed(&batch),
            Err(_) => self.index.failed(&batch),
        }
        outcome
    }

    async fn commit_twice(&self, batch: &Batch, known: &Known) -> Result<(), Refusal> {
        let Err(error) = self.commit_once(batch, known).await else { return Ok(()) };
        self.metrics.store.index_failures.inc();
        tracing::warn!(%error, "the catalog refused a batch and is opened again");
        let again = match self.reopen_catalog().await {
            // The batch that was refused may be there: what was known before it counts no more.
            Ok(()) => self.commit_once(batch, &Known::new()).await,
            Err(error) => Err(error),
        };
        again.map_err(Refusal::Catalog)
    }

    async fn commit_once(&self, batch: &Batch, known: &Known) -> Result<(), CatalogError> {
        let (catalog, mut batch) = (&*self.env.catalog, batch.clone());
        let moves = self.sums.moves(add_versions(catalog, &mut batch, known).await?);
        let bounded = self.feed.bound(&mut batch);
        let committed = catalog.commit(batch, CommitDurability::Buffered).await;
        match &committed {
            Ok(()) => {
                self.feed.committed(bounded, &self.metrics);
                self.sums.moved(moves);
            }
            Err(_) => self.sums.doubt(moves),
        }
        committed
    }

    /// Where the artifacts of these records lie before they are indexed; nothing of those that cannot be
    /// looked up now.
    pub(super) async fn look_ahead(&self, written: &[Written]) -> Known {
        let keys = written.iter().map(|written| Bytes::from(place_key(&written.address)));
        let keys: Vec<Bytes> = keys.collect();
        let catalog = &*self.env.catalog;
        match look_up(catalog, Some(&self.index), keys.clone(), &Known::new()).await {
            Ok(places) => keys.into_iter().zip(places).collect(),
            Err(_) => Known::new(),
        }
    }

    /// Opens the catalog again. Where it is damaged the appender ends, and the node with it: its next
    /// start makes the catalog again.
    pub(super) async fn reopen_catalog(&self) -> Result<(), CatalogError> {
        let opened = match self.env.catalog.open().await {
            Ok(()) => self.sums.settle(&*self.env.catalog, &self.index).await,
            failed => failed,
        };
        if let Err(CatalogError::Damaged(cause)) = &opened {
            tracing::error!(
                cause,
                "the catalog is damaged: the node ends, its next start makes it again"
            );
            self.catalog_is_lost.store(true, Relaxed);
        }
        opened
    }

    /// Ends the appender, and the node with it, so that its next start makes the catalog again.
    pub(super) async fn condemn_catalog(&self, cause: &str) {
        match condemn(&self.env, &self.metrics, cause).await {
            Ok(()) => self.catalog_is_lost.store(true, Relaxed),
            Err(error) => tracing::warn!(%error, "STAMP could not be replaced; tried again"),
        }
    }
}
