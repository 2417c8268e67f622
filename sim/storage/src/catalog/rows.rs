//! The rows of the catalog in memory.

use std::{collections::BTreeMap, ops::Bound};

use bytes::Bytes;
use kura_env::{Batch, CatalogError, Keyspace, Operation};

use super::frame;
use crate::content::size;

type Ordered = BTreeMap<Bytes, Bytes>;

/// All rows, by the name of their keyspace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    spaces: BTreeMap<&'static str, Ordered>,
}

impl Rows {
    pub(crate) fn new(spaces: &[Keyspace]) -> Self {
        Self { spaces: spaces.iter().map(|space| (space.0, Ordered::new())).collect() }
    }

    pub(crate) fn spaces(&self) -> impl Iterator<Item = (&'static str, &Ordered)> {
        self.spaces.iter().map(|(name, rows)| (*name, rows))
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> u64 {
        self.spaces.values().map(|rows| size(rows.len())).sum()
    }

    /// The rows of a keyspace.
    ///
    /// # Panics
    ///
    /// If the catalog was made without it: keyspaces are constants of the caller.
    pub(crate) fn space(&self, space: Keyspace) -> &Ordered {
        self.spaces.get(space.0).expect("the catalog was made with every keyspace that is used")
    }

    pub(crate) fn range(
        &self,
        space: Keyspace,
        from: &[u8],
        to: &[u8],
    ) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        let empty = !to.is_empty() && to <= from;
        let upper = if to.is_empty() { Bound::Unbounded } else { Bound::Excluded(to) };
        let range =
            (!empty).then(|| self.space(space).range::<[u8], _>((Bound::Included(from), upper)));
        range.into_iter().flatten()
    }

    /// # Panics
    ///
    /// If the catalog was made without the keyspace of this change.
    pub(crate) fn assert_known(&self, operation: &Operation) {
        match operation {
            Operation::Put(space, ..) | Operation::Delete(space, _) => drop(self.space(*space)),
        }
    }

    /// Applies a batch.
    pub(crate) fn apply(&mut self, batch: &Batch) {
        for operation in &batch.0 {
            match operation {
                Operation::Put(space, key, value) => {
                    if let Some(rows) = self.spaces.get_mut(space.0) {
                        // Copies: a row must not keep mapped what it was taken from.
                        rows.insert(copied(key), copied(value));
                    }
                }
                Operation::Delete(space, key) => {
                    if let Some(rows) = self.spaces.get_mut(space.0) {
                        rows.remove(key);
                    }
                }
            }
        }
    }

    /// Applies what was read from a file.
    pub(crate) fn replay(&mut self, rows: Vec<frame::Row>) -> Result<(), CatalogError> {
        for row in rows {
            match row {
                frame::Row::Put { space, key, value } => {
                    // Copies: the row must not keep the whole file in memory.
                    let (key, value) = (copied(&key), copied(&value));
                    self.named(&space)?.insert(key, value);
                }
                frame::Row::Delete { space, key } => drop(self.named(&space)?.remove(&key)),
                frame::Row::End { .. } => {
                    return Err(CatalogError::Damaged("a snapshot ends within a log".to_owned()));
                }
            }
        }
        Ok(())
    }

    fn named(&mut self, space: &Bytes) -> Result<&mut Ordered, CatalogError> {
        let name = std::str::from_utf8(space).unwrap_or_default();
        let unknown = || CatalogError::Damaged(format!("unknown keyspace {name:?}"));
        self.spaces.get_mut(name).ok_or_else(unknown)
    }
}

fn copied(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}
