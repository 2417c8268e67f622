//! The rows that a catalog should hold.

use std::collections::BTreeMap;

use bytes::Bytes;
use kura_env::{Batch, Catalog, CatalogError, Keyspace, Operation, Row};

pub(crate) const SPACES: [Keyspace; 2] = [Keyspace("one"), Keyspace("two")];

/// Keys are drawn below this.
pub(crate) const KEYS: u64 = 100;

pub(crate) fn key(number: u64) -> Bytes {
    format!("{number:03}").into()
}

/// All rows of both keyspaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rows(BTreeMap<(Keyspace, Bytes), Bytes>);

impl Rows {
    pub(crate) async fn of(catalog: &dyn Catalog) -> Result<Self, CatalogError> {
        let mut rows = BTreeMap::new();
        for space in SPACES {
            for (key, value) in catalog.range(space, b"", b"", usize::MAX).await? {
                rows.insert((space, key), value);
            }
        }
        Ok(Self(rows))
    }

    pub(crate) fn apply(&mut self, batch: &Batch) {
        for operation in &batch.0 {
            match operation {
                Operation::Put(space, key, value) => {
                    self.0.insert((*space, key.clone()), value.clone());
                }
                Operation::Delete(space, key) => drop(self.0.remove(&(*space, key.clone()))),
            }
        }
    }

    pub(crate) fn with(&self, batch: &Batch) -> Self {
        let mut rows = self.clone();
        rows.apply(batch);
        rows
    }

    pub(crate) fn get(&self, space: Keyspace, key: &Bytes) -> Option<Bytes> {
        self.0.get(&(space, key.clone())).cloned()
    }

    pub(crate) fn range(&self, space: Keyspace, from: &Bytes, to: &Bytes) -> Vec<Row> {
        let within = |of: &Keyspace, key: &Bytes| *of == space && key >= from && key < to;
        let rows = self.0.iter().filter(|((of, key), _)| within(of, key));
        rows.map(|((_, key), value)| (key.clone(), value.clone())).collect()
    }
}
