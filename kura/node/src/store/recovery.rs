//! Recovery: reads the data directory back, under its lock.
//!
//! 1. delete what is staged: nobody will finish it, and the catalog may need the room
//! 2. open the catalog
//! 3. read IDENTITY and RING
//! 4. scan every segment of the ring from its watermark, check each record and its body, and adopt
//!    it: once it is synced its rows go into the catalog, so that a recovery that is cut short
//!    resumes
//! 5. compare ring and disk: drop what is missing, queue what is left over for eviction
//! 6. make the newest segment fit for appends, and save the ring
//!
//! The segments are the log and the catalog is only an index over them: whatever part of the
//! catalog is lost, its watermarks are lost with it, and the scan finds the rest.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use kura_core::{
    capacity::{Capacity, capacity},
    place::{contents_key, parse_contents_key},
    record::{SegmentId, encode_skip},
    recovery::{Resume, plan, resume},
    ring::{InvalidRing, Member, Ring},
};
use kura_env::{CatalogError, DiskError, DiskErrorKind, DiskPath, Env, FileKind};

use super::{
    CONTENTS_SPACE,
    appender::Active,
    ring_file::{self, SavedRing},
    rows,
    scan::{Scan, Scanned, open_segment},
    segments::{SEGMENT_DIR, Segment, View},
    staging::STAGING_DIR,
};
use crate::{
    config::StoreConfig,
    identity::{self, Identity, IdentityError},
    metrics::Metrics,
};

/// Why a data directory cannot be used as it is.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The directory was made by another version.
    #[error(
        "RING has {0}; start the version that wrote this data directory, or an empty directory"
    )]
    Format(InvalidRing),
    /// Who this node is cannot be told.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// What recovery hands to the appender.
pub(super) struct Recovered {
    pub(super) ring: Ring,
    pub(super) view: Arc<View>,
    pub(super) capacity: Capacity,
    pub(super) active: Option<Active>,
    pub(super) debts: Vec<SegmentId>,
    pub(super) next_sequence: u64,
    pub(super) feed_floor: u64,
    pub(super) hlc_seen: u64,
    pub(super) node: u64,
    pub(super) incarnation: u64,
}

/// The largest body whose record fits a segment of its own.
pub(super) fn body_bytes_max(config: &StoreConfig) -> u64 {
    kura_core::record::body_bytes_max(config.segment_bytes)
}

/// See the head of this module.
pub(super) async fn recover(
    env: &Env,
    config: &StoreConfig,
    metrics: &Metrics,
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<Recovered, RecoverError> {
    // Before anything is made: on a disk full of stale staging this is what gives room.
    clear_staging(env, metrics).await?;
    make_directories(env).await?;
    env.catalog.open().await?;
    let identity = identity::load_or_create(env).await?;
    ring_file::remove_leftover(&*env.disk).await?;

    let on_disk = list_segments(env).await?;
    let saved = load_ring(env, &on_disk, metrics).await?;
    let plan = plan(&saved, &on_disk);
    for missing in &plan.missing {
        // The usual case is the segment that a rotation was about to create.
        tracing::info!(segment = %missing, "in the ring and not on the disk: dropped");
    }
    let newest = plan.ring.newest().map(|newest| newest.id);
    let next_sequence = plan.ring.sequence_ceiling();
    let mut scan = Scan { env, metrics, hlc_seen: 0, newest, next_sequence };
    let view = Arc::new(View::default());
    let (mut ring, mut orphans) = (plan.ring.clone(), plan.orphans);
    let mut newest = None;
    let total = plan.ring.len();
    for (done, member) in plan.ring.members().enumerate() {
        progress(format!("recovering: {done} of {total} segments read"));
        match scan.segment(member.id).await? {
            Some(scanned) => {
                view.insert(scanned.segment.clone());
                newest = Some(scanned);
            }
            None => {
                metrics.store.recovered_unreadable.inc();
                ring = ring.retained(|id| id != member.id);
                orphans.push(member.id);
            }
        }
    }
    metrics.store.swept_orphans.inc_by(orphans.len() as u64);
    let debts = find_debts(env, &ring, orphans).await?;
    let newest =
        newest.filter(|it| plan.missing.last().is_none_or(|missing| *missing < it.segment.id));
    let fitter = Fitter { metrics, segment_bytes: config.segment_bytes };
    let active = fitter.make_fit(&ring, newest, &view).await?;

    let space = env.disk.space().await?;
    let capacity = capacity(config.capacity_bytes, space.total_bytes, config.segment_bytes);
    let ring = ring.with_ceiling(next_sequence, scan.hlc_seen);
    let active = if save(env, &ring).await? { active } else { None };
    view.retain(ring.horizon_sequence(), |id| ring.contains(id));
    let hlc_seen = scan.hlc_seen;
    let feed_floor = rows::feed_floor(&*env.catalog).await?;
    let Identity { node, incarnation, .. } = identity;
    Ok(Recovered {
        ring,
        view,
        capacity,
        active,
        debts,
        next_sequence,
        feed_floor,
        hlc_seen,
        node,
        incarnation,
    })
}

/// Saves the ring to go on with. On a full disk that cannot be done, and must not keep the node from
/// serving what it has: then nothing may be written before the next rotation saves the ring, so that
/// the saved ceiling is never passed.
async fn save(env: &Env, ring: &Ring) -> Result<bool, RecoverError> {
    match ring_file::save(&*env.disk, ring).await {
        Ok(()) => Ok(true),
        Err(error) if error.kind.is_full() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn make_directories(env: &Env) -> Result<(), DiskError> {
    for dir in [SEGMENT_DIR, STAGING_DIR] {
        env.disk.mkdir(&DiskPath::new(dir)).await?;
    }
    env.disk.sync_dir(&DiskPath::root()).await
}

/// Removes the files below `tmp/`, if there is such a directory yet.
async fn clear_staging(env: &Env, metrics: &Metrics) -> Result<(), RecoverError> {
    let dir = DiskPath::new(STAGING_DIR);
    let entries = match env.disk.list(&dir).await {
        Err(error) if error.kind == DiskErrorKind::NotFound => return Ok(()),
        listed => listed?,
    };
    for entry in entries {
        if entry.kind == FileKind::File && entry.name.ends_with(".part") {
            env.disk.unlink(&dir.join(&entry.name)).await?;
            metrics.store.staging_cleared.inc();
        } else {
            tracing::warn!(name = entry.name, "not a staging file of ours: left alone");
        }
    }
    Ok(())
}

async fn list_segments(env: &Env) -> Result<Vec<SegmentId>, RecoverError> {
    let mut found = Vec::new();
    for entry in env.disk.list(&DiskPath::new(SEGMENT_DIR)).await? {
        match SegmentId::from_file_name(&entry.name) {
            Some(id) if entry.kind == FileKind::File => found.push(id),
            Some(_) | None => {
                tracing::warn!(name = entry.name, "not a segment of ours: left alone");
            }
        }
    }
    Ok(found)
}

/// The ring as it was saved, or, where that is lost, one made of the segments that lie there.
async fn load_ring(
    env: &Env,
    on_disk: &[SegmentId],
    metrics: &Metrics,
) -> Result<Ring, RecoverError> {
    match ring_file::load(&*env.disk).await? {
        SavedRing::Ring(ring) => return Ok(ring),
        SavedRing::Invalid(format @ InvalidRing::Format(_)) => {
            return Err(RecoverError::Format(format));
        }
        SavedRing::Absent if on_disk.is_empty() => return Ok(Ring::default()),
        SavedRing::Absent => tracing::warn!("RING is missing: made again from the segments"),
        SavedRing::Invalid(invalid) => {
            tracing::warn!(%invalid, "RING is damaged: made again from the segments");
        }
        SavedRing::Unreadable(error) => {
            metrics.store.recovered_read_errors.inc();
            tracing::warn!(%error, "RING cannot be read: made again from the segments");
        }
    }
    metrics.store.recovered_rings.inc();
    let mut members = Vec::new();
    for id in on_disk {
        if let Some((_, header)) = open_segment(env, *id, metrics).await? {
            members.push(Member { id: *id, base_sequence: header.base_sequence });
        }
    }
    Ok(Ring::rebuilt(members))
}

/// Segments to clear up: orphans on the disk, and those of which only rows are left.
async fn find_debts(
    env: &Env,
    ring: &Ring,
    orphans: Vec<SegmentId>,
) -> Result<Vec<SegmentId>, RecoverError> {
    let mut debts: BTreeSet<SegmentId> = orphans.into_iter().collect();
    let mut from = contents_key(SegmentId(0), 0);
    loop {
        let rows = env.catalog.range(CONTENTS_SPACE, &from, &[], 1).await?;
        let Some((segment, _)) = rows.first().and_then(|(key, _)| parse_contents_key(key)) else {
            return Ok(debts.into_iter().collect());
        };
        if !ring.contains(segment) {
            debts.insert(segment);
        }
        from = contents_key(SegmentId(segment.0 + 1), 0);
    }
}

/// Makes segments fit for what they are now.
struct Fitter<'a> {
    metrics: &'a Metrics,
    segment_bytes: u64,
}

impl Fitter<'_> {
    /// Lets appends go on in the newest segment, beyond every byte that was ever written there.
    /// All others are frozen.
    async fn make_fit(
        &self,
        ring: &Ring,
        newest: Option<Scanned>,
        view: &View,
    ) -> Result<Option<Active>, RecoverError> {
        let newest = newest
            .filter(|it| ring.newest().is_some_and(|member| member.id == it.segment.id))
            .filter(|it| it.takes_appends);
        for member in ring.members() {
            let is_newest = newest.as_ref().is_some_and(|it| it.segment.id == member.id);
            if !is_newest && let Some(segment) = view.segment(member.id) {
                self.freeze(&segment).await;
            }
        }
        let Some(Scanned { segment, end, .. }) = newest else { return Ok(None) };
        let len_bytes = segment.file.len().await?;
        match resume(end, len_bytes, self.segment_bytes) {
            Resume::Append { at } => {
                self.reserve(&segment).await;
                Ok(Some(Active { segment, end: at }))
            }
            Resume::Skip { at, end } => {
                let skip = encode_skip(segment.nonce, at, end);
                let written = match segment.file.write_at(at, Bytes::from(skip)).await {
                    Ok(()) => segment.file.sync_data().await,
                    Err(error) => Err(error),
                };
                match written {
                    Ok(()) => {
                        self.reserve(&segment).await;
                        Ok(Some(Active { segment, end }))
                    }
                    Err(error) => {
                        tracing::warn!(segment = %segment.id, %error, "takes no more appends");
                        Ok(None)
                    }
                }
            }
            Resume::Seal => {
                self.freeze(&segment).await;
                Ok(None)
            }
        }
    }

    /// Reserves the rest of the newest segment again. Where that cannot be done an append may meet
    /// a full disk, and is refused then.
    async fn reserve(&self, segment: &Segment) {
        match segment.file.allocate(self.segment_bytes).await {
            Err(error) if error.kind != DiskErrorKind::Unsupported => {
                tracing::warn!(segment = %segment.id, %error, "no space could be reserved");
            }
            Ok(()) | Err(_) => {}
        }
    }

    async fn freeze(&self, segment: &Segment) {
        if let Err(error) = segment.file.freeze().await {
            self.metrics.store.freezes_failed.inc();
            tracing::warn!(segment = %segment.id, %error, "read without a mapping");
        }
    }
}
