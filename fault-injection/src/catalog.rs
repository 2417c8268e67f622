//! A catalog with faults.

use std::sync::Arc;

use bytes::Bytes;
use kura_env::{
    Batch, BoxFuture, Catalog, CatalogError, CatalogHealth, CommitDurability, Keyspace, Row,
};
use parking_lot::Mutex;

use crate::{
    faults::Faults,
    injector::Operation,
    plan::{CatalogFault, What},
};

/// A catalog with the faults of a plan. A commit that a fault struck is not made, and poisons the
/// catalog until it is opened again.
pub struct FaultyCatalog {
    catalog: Arc<dyn Catalog>,
    faults: Faults,
    /// Why writes fail, while a fault of ours is the reason.
    poison: Mutex<Option<String>>,
}

impl FaultyCatalog {
    /// Wraps `catalog`.
    #[must_use]
    pub fn new(catalog: Arc<dyn Catalog>, faults: Faults) -> Self {
        Self { catalog, faults, poison: Mutex::new(None) }
    }
}

impl Catalog for FaultyCatalog {
    fn open(&self) -> BoxFuture<'_, Result<(), CatalogError>> {
        Box::pin(async move {
            let strike = self.faults.ask(Operation::CatalogRead, || "catalog open".into()).await;
            self.catalog.open().await?;
            *self.poison.lock() = None;
            self.faults.stalled(strike.as_ref()).await;
            Ok(())
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.catalog.close().await;
            *self.poison.lock() = None;
        })
    }

    fn set_aside(&self) -> BoxFuture<'_, Result<(), CatalogError>> {
        Box::pin(async move {
            self.catalog.set_aside().await?;
            *self.poison.lock() = None;
            Ok(())
        })
    }

    fn health(&self) -> CatalogHealth {
        match (self.catalog.health(), self.poison.lock().clone()) {
            (CatalogHealth::Open, Some(reason)) => CatalogHealth::Poisoned(reason),
            (health, _) => health,
        }
    }

    fn get<'a>(
        &'a self,
        space: Keyspace,
        key: &'a [u8],
    ) -> BoxFuture<'a, Result<Option<Bytes>, CatalogError>> {
        Box::pin(async move {
            let strike = self.faults.ask(Operation::CatalogRead, || "catalog get".into()).await;
            let found = self.catalog.get(space, key).await;
            self.faults.stalled(strike.as_ref()).await;
            found
        })
    }

    fn range<'a>(
        &'a self,
        space: Keyspace,
        from: &'a [u8],
        to: &'a [u8],
        rows_max: usize,
    ) -> BoxFuture<'a, Result<Vec<Row>, CatalogError>> {
        Box::pin(async move {
            let strike = self.faults.ask(Operation::CatalogRead, || "catalog range".into()).await;
            let found = self.catalog.range(space, from, to, rows_max).await;
            self.faults.stalled(strike.as_ref()).await;
            found
        })
    }

    fn commit(
        &self,
        batch: Batch,
        durability: CommitDurability,
    ) -> BoxFuture<'_, Result<(), CatalogError>> {
        Box::pin(async move {
            let strike = self.faults.ask(Operation::Commit, || "catalog commit".into()).await;
            if let Some(reason) = self.poison.lock().clone()
                && self.catalog.health() == CatalogHealth::Open
            {
                return Err(CatalogError::Poisoned(reason));
            }
            if let Some(What::CatalogError { kind }) = strike.as_ref().map(|s| &s.fault.what) {
                let reason = "a fault of the plan".to_owned();
                let error = match kind {
                    CatalogFault::NoSpace => CatalogError::NoSpace(reason),
                    CatalogFault::Io => CatalogError::Io(reason),
                };
                *self.poison.lock() = Some(error.to_string());
                return Err(error);
            }
            let result = self.catalog.commit(batch, durability).await;
            self.faults.stalled(strike.as_ref()).await;
            result
        })
    }
}
