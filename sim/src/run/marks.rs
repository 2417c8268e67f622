//! A catalog that tells when a cursor is about to be saved.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use kura_env::{
    Batch, BoxFuture, Catalog, CatalogError, CatalogHealth, Clock, CommitDurability, Keyspace,
    Operation, Row,
};
use kura_node::store::CURSORS_SPACE;

use super::dials::Sight;

/// Long enough for whatever comes at that moment to come first.
const MOMENT: Duration = Duration::from_nanos(1);

/// The catalog of a node whose passes something goes by.
pub(super) struct Marked {
    pub(super) catalog: Arc<dyn Catalog>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) sight: Arc<Sight>,
}

/// The peer whose cursor is set.
fn marked(batch: &Batch) -> Option<u64> {
    batch.0.iter().find_map(|operation| match operation {
        Operation::Put(space, key, _) if *space == CURSORS_SPACE => {
            <[u8; 8]>::try_from(&key[..]).ok().map(u64::from_be_bytes)
        }
        Operation::Put(..) | Operation::Delete(..) => None,
    })
}

impl Catalog for Marked {
    fn open(&self) -> BoxFuture<'_, Result<(), CatalogError>> {
        self.catalog.open()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.catalog.close()
    }

    fn set_aside(&self) -> BoxFuture<'_, Result<(), CatalogError>> {
        self.catalog.set_aside()
    }

    fn health(&self) -> CatalogHealth {
        self.catalog.health()
    }

    fn get<'a>(
        &'a self,
        space: Keyspace,
        key: &'a [u8],
    ) -> BoxFuture<'a, Result<Option<Bytes>, CatalogError>> {
        self.catalog.get(space, key)
    }

    fn range<'a>(
        &'a self,
        space: Keyspace,
        from: &'a [u8],
        to: &'a [u8],
        rows_max: usize,
    ) -> BoxFuture<'a, Result<Vec<Row>, CatalogError>> {
        self.catalog.range(space, from, to, rows_max)
    }

    fn commit(
        &self,
        batch: Batch,
        durability: CommitDurability,
    ) -> BoxFuture<'_, Result<(), CatalogError>> {
        Box::pin(async move {
            if let Some(node) = marked(&batch) {
                self.sight.saves_mark(node);
                self.clock.sleep(MOMENT).await;
            }
            self.catalog.commit(batch, durability).await
        })
    }
}
