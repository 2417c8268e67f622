//! The file STAMP: says how far the catalog was once synced, so that one that has lost something is
//! noticed when it opens. See `kura_core::stamp`.

use kura_core::stamp::{Stamp, Worth, judge, stamp_key};
use kura_env::{
    Batch, Catalog, CatalogError, CommitDurability, Disk, DiskError, DiskErrorKind, DiskPath, Env,
};

use super::{KEYSPACES, recovery::RecoverError, state_file};
use crate::metrics::Metrics;

pub(crate) const STAMP: &str = "STAMP";
const STAMP_NEW: &str = "STAMP.new";

/// The stamp of the open catalog.
pub(super) struct Stamps {
    /// As it stands in the catalog, synced; `None` while it has none.
    synced: Option<Stamp>,
    /// As it stands in the file.
    saved: Option<Stamp>,
    /// Nothing may be stamped before RING was saved: it tells what the catalog has lost.
    pub(super) waits_for_ring: bool,
    file_bytes: Option<u64>,
}

/// An open catalog.
pub(super) struct Opened {
    pub(super) stamps: Stamps,
    /// Whether rows may be missing that nothing but the catalog knows of.
    pub(super) has_gaps: bool,
}

/// Opens the catalog. One that does not open, or whose stamp cannot be read, or that has lost what was synced, is set aside, and an empty one
/// takes its place: recovery fills it.
pub(super) async fn open_catalog(env: &Env, metrics: &Metrics) -> Result<Opened, RecoverError> {
    let saved = load(&*env.disk).await?;
    let found = match env.catalog.open().await {
        Ok(()) => rows(&*env.catalog).await,
        Err(error) => Err(error),
    };
    let worth = match found {
        Ok(rows) => judge(saved, &rows),
        Err(CatalogError::Damaged(cause)) => {
            tracing::warn!(cause, "the catalog is damaged: set aside, and made again");
            metrics.store.catalogs_damaged.inc();
            env.catalog.set_aside().await?;
            Worth::Unknown
        }
        Err(error) => return Err(error.into()),
    };
    if worth == Worth::Behind {
        tracing::warn!("the catalog has lost what was synced: set aside, and made again");
        metrics.store.catalogs_behind.inc();
        env.catalog.set_aside().await?;
    }
    let synced = match worth {
        Worth::Whole(stamp) => Some(stamp),
        Worth::Unknown | Worth::Behind => None,
    };
    Ok(Opened {
        stamps: Stamps { synced, saved, waits_for_ring: false, file_bytes: None },
        has_gaps: synced.is_none(),
    })
}

/// The stamp in each keyspace, in the order of [`KEYSPACES`].
pub(crate) async fn rows(catalog: &dyn Catalog) -> Result<Vec<Option<Stamp>>, CatalogError> {
    let mut rows = Vec::with_capacity(KEYSPACES.len());
    for space in KEYSPACES {
        let row = catalog.get(space, stamp_key(space.0)).await?;
        rows.push(row.as_deref().and_then(Stamp::of_row));
    }
    Ok(rows)
}

/// What lies in STAMP; `None` if there is none, or it cannot be read: then the catalog is taken as it is.
async fn load(disk: &dyn Disk) -> Result<Option<Stamp>, DiskError> {
    let bytes = match state_file::load(disk, STAMP).await {
        Err(error) if error.kind == DiskErrorKind::Io => {
            tracing::warn!(%error, "STAMP cannot be read: the catalog is taken as it is");
            return Ok(None);
        }
        loaded => loaded?,
    };
    let Some(bytes) = bytes else { return Ok(None) };
    let stamp = Stamp::decode(&bytes);
    if let Err(invalid) = &stamp {
        tracing::warn!(%invalid, "STAMP is damaged: the catalog is taken as it is");
    }
    Ok(stamp.ok())
}

/// Has the next start set the catalog aside, whatever that says of itself: STAMP names another one.
pub(super) async fn condemn(env: &Env, metrics: &Metrics, cause: &str) -> Result<(), DiskError> {
    tracing::error!(cause, "the catalog is damaged: it is to be made again");
    metrics.store.catalogs_condemned.inc();
    let nobody = Stamp::first(drawn(env));
    state_file::replace(&*env.disk, (STAMP, STAMP_NEW), nobody.encode()).await.map(drop)
}

/// A name for a catalog.
fn drawn(env: &Env) -> u128 {
    let mut stream = env.entropy.stream("catalog");
    u128::from(stream.next_u64()) << 64 | u128::from(stream.next_u64())
}

impl Stamps {
    /// Stamps a catalog that has no stamp yet, and has the file say what the catalog says. That it cannot
    /// be done, on a full disk, keeps no node from serving: it is tried again.
    pub(super) async fn tend(&mut self, env: &Env, metrics: &Metrics) {
        let settled = self.settle(env).await;
        tell(settled, metrics);
    }

    /// What the file holds of the disk, if it was saved in this life.
    pub(super) fn file_bytes(&self) -> Option<u64> {
        self.file_bytes
    }

    /// The same for the last time, with everything that was committed.
    pub(super) async fn close(&mut self, env: &Env, metrics: &Metrics) {
        if self.waits_for_ring {
            return;
        }
        let closed = self.stamp_all(env).await;
        tell(closed, metrics);
    }

    async fn stamp_all(&mut self, env: &Env) -> Result<(), StampError> {
        self.commit(env, Batch::default()).await?;
        self.save(env).await
    }

    async fn settle(&mut self, env: &Env) -> Result<(), StampError> {
        if self.synced.is_none() {
            self.sync(env, Stamp::first(drawn(env)), Batch::default()).await?;
        }
        self.save(env).await
    }

    /// Commits a batch together with the next stamp, synced.
    pub(super) async fn commit(&mut self, env: &Env, batch: Batch) -> Result<(), CatalogError> {
        match self.synced {
            Some(stamp) => self.sync(env, stamp.next(), batch).await,
            None => env.catalog.commit(batch, CommitDurability::Synced).await,
        }
    }

    async fn sync(&mut self, env: &Env, stamp: Stamp, batch: Batch) -> Result<(), CatalogError> {
        let mut batch = batch;
        for space in KEYSPACES {
            batch.put(space, stamp_key(space.0), stamp.row().to_vec());
        }
        env.catalog.commit(batch, CommitDurability::Synced).await?;
        self.synced = Some(stamp);
        Ok(())
    }

    /// Has the file say what the catalog says.
    async fn save(&mut self, env: &Env) -> Result<(), StampError> {
        let Some(stamp) = self.synced.filter(|_| self.synced != self.saved) else { return Ok(()) };
        let bytes = state_file::replace(&*env.disk, (STAMP, STAMP_NEW), stamp.encode()).await?;
        self.file_bytes = Some(bytes);
        self.saved = Some(stamp);
        Ok(())
    }
}

fn tell(done: Result<(), StampError>, metrics: &Metrics) {
    if let Err(error) = done {
        metrics.store.stamps_failed.inc();
        tracing::warn!(%error, "the catalog was not stamped");
    }
}

/// Why a catalog was not stamped.
#[derive(Debug, thiserror::Error)]
enum StampError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// Removes what a crash in the middle of a save left.
pub(super) async fn remove_leftover(disk: &dyn Disk) -> Result<(), DiskError> {
    state_file::remove(disk, &DiskPath::new(STAMP_NEW)).await
}
