//! Repair of a data directory whose node does not run, once `verify` has said what is wrong with it.
//!
//! A directory that another version wrote is refused before anything is touched. Then:
//!
//! 1. condemn a catalog that is damaged, so that recovery makes another one
//! 2. move objects of the pool that are damaged into quarantine
//! 3. recover: what a start does
//! 4. take away the rows that lead to damage or to nothing, and those that cannot be read; add rows of versions
//!    that are missing
//! 5. clear up what is in no ring, as eviction does beside a running node
//! 6. remove the eldest objects in quarantine, if those are too many
//! 7. stamp the catalog, synced
//!
//! Nothing that is sound is given up: an artifact loses its rows only if its body is not the one that was
//! written, and never because the device could not read it. Where RING is lost and the header of a segment
//! cannot be read, recovery would not know where that belongs: nothing is repaired then. A stop after any step leaves what a crash of a node could have left, and the next repair or
//! start goes on.

use std::sync::Arc;

use bytes::Bytes;
use kura_core::{
    place::{Place, contents_key, parse_contents_row},
    record::{Area, SegmentId},
    ring::InvalidRing,
    tombstones::InvalidTombstones,
};
use kura_env::{
    Batch, Catalog, CatalogError, CommitDurability, DirEntry, DiskError, DiskErrorKind, DiskPath,
    Env, FileKind, Keyspace,
};

use super::{
    CONTENTS_SPACE, PLACES_SPACE,
    deletes::{self, SavedTombstones},
    early::Early,
    eviction::remove_record,
    recovery::{RecoverError, Recovered, recover},
    ring_file::{self, SavedRing},
    rows,
    segments::{segment_dir, segment_path},
    stamp::condemn,
    versions::{Known, VERSIONS_SPACE, add_versions, item_of},
};
use crate::{config::StoreConfig, identity, metrics::Metrics, told::Told};

/// The directory of what is kept for people to look at.
pub(super) const QUARANTINE: &str = "quarantine";
/// The objects in it may hold this part of what the store may hold. More takes room from what is sound; of
/// less there may not be enough to tell what a device does. The one that was written last stays in any case.
const QUARANTINE_PART: u64 = 20;
/// Rows that one batch takes away.
const BATCH_ROWS_MAX: usize = 256;

/// What is wrong with a data directory, and can be made right.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wrong {
    /// Why the catalog cannot be believed.
    pub(crate) catalog: Option<String>,
    /// Whether STAMP cannot be read.
    pub(crate) stamp: bool,
    /// Objects of the pool that are damaged.
    pub(crate) objects: Vec<SegmentId>,
    /// Records of the rings with damaged bodies to which a name leads.
    pub(crate) bodies: Vec<(SegmentId, u64)>,
    /// The keys of rows that lead to nothing, or cannot be read.
    pub(crate) rows: Vec<(Keyspace, Vec<u8>)>,
    /// The keys of places without their row among the versions.
    pub(crate) unversioned: Vec<Vec<u8>>,
    /// Whether recovery would give up a segment because the device cannot read its header.
    pub(crate) is_waited_for: bool,
}

/// Why a repair did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// A start would fail as well.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// The disk has no room for RING.
    #[error("the disk is too full to save RING; make some room on it, and try again")]
    Full,
}

impl From<DiskError> for RepairError {
    fn from(error: DiskError) -> Self {
        Self::Recover(error.into())
    }
}

impl From<CatalogError> for RepairError {
    fn from(error: CatalogError) -> Self {
        Self::Recover(error.into())
    }
}

/// Makes right what is wrong, and says what was done. The lock must be held. The catalog is open before and
/// after.
pub(crate) async fn repair(
    env: &Env,
    config: &StoreConfig,
    wrong: &Wrong,
) -> Result<Told, RepairError> {
    refuse_other_versions(env).await?;
    let metrics = Arc::new(Metrics::default());
    let mut done = Told::default();
    if let Some(cause) = &wrong.catalog {
        condemn(env, &metrics, cause).await?;
    }
    for object in &wrong.objects {
        let kept = quarantine(env, *object).await?;
        done.push(format!("{object} is in {kept}"));
    }
    let early = Early::new(env.clone(), metrics.clone());
    let mut recovered = recover(env, config, &early, &|_| ()).await?;
    if !recovered.is_saved {
        return Err(RepairError::Full);
    }
    told(&metrics, wrong).into_iter().for_each(|line| done.push(line));
    remove_bodies(env, &wrong.bodies, &mut done).await?;
    let removed = remove_rows(env, &wrong.rows).await?;
    if removed > 0 {
        done.push(format!("{removed} rows of the index led nowhere, and are gone"));
    }
    let added = add_missing(env, &wrong.unversioned).await?;
    if added > 0 {
        done.push(format!("{added} rows of the versions were missing, and are there again"));
    }
    clear_debts(env, &recovered, &mut done).await?;
    trim_quarantine(env, recovered.capacity.bytes / QUARANTINE_PART, &mut done).await?;
    recovered.stamps.close(env, &metrics).await;
    if wrong.stamp {
        done.push("STAMP was written again".to_owned());
    }
    Ok(done)
}

/// What another version wrote is not damaged, whatever its files look like to this one. Recovery refuses it
/// as well, and by then something would have been moved.
async fn refuse_other_versions(env: &Env) -> Result<(), RecoverError> {
    identity::check_format(&*env.disk).await?;
    if let SavedTombstones::Invalid(format @ InvalidTombstones::Format(_)) =
        deletes::load_file(&*env.disk).await?
    {
        return Err(RecoverError::TombstonesFormat(format));
    }
    match ring_file::load(&*env.disk).await? {
        SavedRing::Invalid(format @ InvalidRing::Format(_)) => Err(RecoverError::Format(format)),
        SavedRing::Absent
        | SavedRing::Ring(_)
        | SavedRing::Invalid(_)
        | SavedRing::Unreadable(_) => Ok(()),
    }
}

/// What recovery did, in words.
fn told(metrics: &Metrics, wrong: &Wrong) -> Vec<String> {
    let metrics = &metrics.store;
    let mut done = Vec::new();
    if metrics.catalogs_behind.get() + metrics.catalogs_damaged.get() > 0 {
        let cause = wrong.catalog.as_deref().unwrap_or("it lacked what it had synced");
        done.push(format!("the catalog is in {QUARANTINE}/catalog: {cause}"));
    }
    for (count, what) in [
        (metrics.recovered_identities.get(), "IDENTITY was damaged: the node has another one"),
        (metrics.recovered_rings.get(), "RING was made again from the segments"),
        (
            metrics.tombstones_lost.get(),
            "TOMBSTONES was damaged: deletes of namespaces are forgotten",
        ),
    ] {
        if count > 0 {
            done.push(what.to_owned());
        }
    }
    for (count, what) in [
        (metrics.recovered_records.get(), "records were taken into the index"),
        (metrics.staging_cleared.get(), "staging files of an earlier life are gone"),
    ] {
        if count > 0 {
            done.push(format!("{count} {what}"));
        }
    }
    done
}

/// Moves the file of an object to where nothing reads it.
async fn quarantine(env: &Env, object: SegmentId) -> Result<DiskPath, DiskError> {
    let top = DiskPath::new(QUARANTINE);
    let dir = top.join(Area::Pool.dir());
    env.disk.mkdir(&top).await?;
    env.disk.mkdir(&dir).await?;
    let kept = dir.join(&object.file_name());
    env.disk.rename(&segment_path(object), &kept).await?;
    for dir in [&DiskPath::root(), &top, &dir, &segment_dir(object)] {
        env.disk.sync_dir(dir).await?;
    }
    Ok(kept)
}

/// Removes objects from quarantine, the one that was written first before all others, until they hold no more
/// than `bytes_max`, or one is left.
async fn trim_quarantine(env: &Env, bytes_max: u64, done: &mut Told) -> Result<(), DiskError> {
    let dir = DiskPath::new(QUARANTINE).join(Area::Pool.dir());
    let entries = match env.disk.list(&dir).await {
        Err(error) if error.kind == DiskErrorKind::NotFound => return Ok(()),
        listed => listed?,
    };
    let object = |entry: &DirEntry| SegmentId::from_file_name(Area::Pool, &entry.name);
    let mut kept: Vec<_> = entries.into_iter().filter_map(|it| Some((object(&it)?, it))).collect();
    kept.retain(|(_, entry)| entry.kind == FileKind::File);
    kept.sort_by_key(|(id, _)| *id);
    let mut held_bytes: u64 = kept.iter().map(|(_, entry)| entry.allocated_bytes).sum();
    kept.pop();
    let mut is_changed = false;
    for (_, entry) in kept {
        if held_bytes <= bytes_max {
            break;
        }
        let (path, bytes) = (dir.join(&entry.name), entry.allocated_bytes);
        env.disk.unlink(&path).await?;
        done.push(format!(
            "{path} of {bytes} bytes is removed: objects in quarantine may hold {bytes_max} bytes"
        ));
        held_bytes -= bytes;
        is_changed = true;
    }
    if is_changed {
        env.disk.sync_dir(&dir).await?;
    }
    Ok(())
}

/// Takes away the rows of damaged records, so that their artifacts are misses. Where the catalog was made
/// again they have none: recovery passes over them.
async fn remove_bodies(
    env: &Env,
    bodies: &[(SegmentId, u64)],
    done: &mut Told,
) -> Result<(), CatalogError> {
    let catalog = &*env.catalog;
    for (segment, offset) in bodies {
        let row = Bytes::from(contents_key(*segment, *offset));
        let mut batch = Batch::default();
        if let Some(value) = catalog.get(CONTENTS_SPACE, &row).await?
            && let Some((sequence, key)) = parse_contents_row(&value)
        {
            let place = catalog.get(PLACES_SPACE, key).await?;
            let place = place.as_deref().and_then(Place::decode);
            remove_record(&mut batch, &row, (sequence, key), place);
            commit(catalog, batch).await?;
        }
        done.push(format!("{segment} at byte {offset} is damaged: its artifact is a miss"));
    }
    Ok(())
}

/// Takes rows away, if they are still there: how many were.
async fn remove_rows(env: &Env, found: &[(Keyspace, Vec<u8>)]) -> Result<u64, CatalogError> {
    let mut removed = 0;
    for some in found.chunks(BATCH_ROWS_MAX) {
        let mut batch = Batch::default();
        for (space, key) in some {
            let Some(row) = env.catalog.get(*space, key).await? else { continue };
            // Recovery may have put back what it is about.
            if *space == VERSIONS_SPACE && is_versioned(&*env.catalog, key, &row).await? {
                continue;
            }
            batch.delete(*space, key.clone());
            removed += 1;
        }
        commit(&*env.catalog, batch).await?;
    }
    Ok(removed)
}

/// Whether a row of `versions` is that of a place.
async fn is_versioned(
    catalog: &dyn Catalog,
    version: &[u8],
    key: &[u8],
) -> Result<bool, CatalogError> {
    let row = catalog.get(PLACES_SPACE, key).await?;
    let place = row.as_deref().and_then(Place::decode);
    Ok(place.is_some_and(|place| item_of(key, &place).key() == version))
}

/// Writes the rows of `versions` for the places of these keys: how many are still there.
async fn add_missing(env: &Env, found: &[Vec<u8>]) -> Result<u64, CatalogError> {
    let mut added = 0;
    for some in found.chunks(BATCH_ROWS_MAX) {
        let mut batch = Batch::default();
        for key in some {
            let row = env.catalog.get(PLACES_SPACE, key).await?;
            if let Some(place) = row.as_deref().and_then(Place::decode) {
                batch.put(VERSIONS_SPACE, item_of(key, &place).key(), key.clone());
                added += 1;
            }
        }
        env.catalog.commit(batch, CommitDurability::Buffered).await?;
    }
    Ok(added)
}

/// Commits a batch with the rows of `versions` that follow from it.
async fn commit(catalog: &dyn Catalog, mut batch: Batch) -> Result<(), CatalogError> {
    add_versions(catalog, &mut batch, &Known::new()).await?;
    catalog.commit(batch, CommitDurability::Buffered).await
}

/// Evicts what is in no ring and no pool: rows first, and files last.
async fn clear_debts(env: &Env, recovered: &Recovered, done: &mut Told) -> Result<(), RepairError> {
    for segment in &recovered.debts {
        let rows = clear_rows(env, *segment).await?;
        let freed_bytes = unlink(env, *segment).await?;
        done.push(match freed_bytes {
            Some(bytes) => {
                format!("{segment} counted no more: it is gone, with {rows} rows and {bytes} bytes")
            }
            None => format!("{segment} had no file: {rows} rows of it are gone"),
        });
    }
    Ok(())
}

/// Takes away all rows of a segment, and says how many records they were.
async fn clear_rows(env: &Env, segment: SegmentId) -> Result<u64, CatalogError> {
    let catalog = &*env.catalog;
    let (from, to) = (contents_key(segment, 0), contents_key(SegmentId(segment.0 + 1), 0));
    let mut cleared = 0;
    loop {
        let contents = catalog.range(CONTENTS_SPACE, &from, &to, BATCH_ROWS_MAX).await?;
        let mut batch = Batch::default();
        for (row, value) in &contents {
            let Some((sequence, key)) = parse_contents_row(value) else {
                batch.delete(CONTENTS_SPACE, row.clone());
                continue;
            };
            let place = catalog.get(PLACES_SPACE, key).await?;
            let place = place.as_deref().and_then(Place::decode);
            remove_record(&mut batch, row, (sequence, key), place);
        }
        cleared += contents.len() as u64;
        let is_last = contents.len() < BATCH_ROWS_MAX;
        if is_last {
            rows::remove_watermark(&mut batch, segment);
        }
        commit(catalog, batch).await?;
        if is_last {
            return Ok(cleared);
        }
    }
}

/// Removes the file of a segment: the bytes that it held, if there was one.
async fn unlink(env: &Env, segment: SegmentId) -> Result<Option<u64>, DiskError> {
    let path = segment_path(segment);
    let file = match env.disk.open(&path).await {
        Err(error) if error.kind == DiskErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let held_bytes = file.allocated_bytes().await?;
    drop(file);
    env.disk.unlink(&path).await?;
    env.disk.sync_dir(&segment_dir(segment)).await?;
    Ok(Some(held_bytes))
}
