//! Recovery: reads the data directory back, under its lock.
//!
//! 1. delete what is staged: nobody will finish it, and the catalog may need the room
//! 2. open the catalog; one that lost what it had synced is set aside, and an empty one takes its place
//! 3. read TOMBSTONES, IDENTITY and RING
//! 4. what was written last first, scan every segment of the ring from its watermark, check each
//!    record and its body, and adopt it: once it is synced its rows go into the catalog, so that a
//!    recovery that is cut short resumes; look at every object of the pool as well, and adopt those
//!    that the catalog does not know. What is adopted is served from then on
//! 5. compare rings and disk: drop what is missing, queue what is left over for eviction
//! 6. make the newest segments fit for appends, and save the ring
//!
//! The segments are the log and the catalog is only an index over them: whatever part of the
//! catalog is lost, its watermarks are lost with it, and the scan finds the rest.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kura_core::{
    capacity::{Capacity, TooSmall, capacity},
    place::{contents_key, parse_contents_key},
    promise::Rules,
    recency::Recency,
    record::{Area, Flow, SegmentId},
    recovery::{Plan, plan},
    ring::{AfterRead, InvalidRing, Member, Ring},
    tombstones::InvalidTombstones,
};
use kura_env::{CatalogError, DiskError, DiskErrorKind, DiskPath, Env, FileKind};
use parking_lot::Mutex;

use super::{
    CONTENTS_SPACE,
    appender::Log,
    early::Early,
    feed::Feed,
    fit::Fitter,
    grace::SteadyWall,
    ledger::Books,
    objects::Objects,
    owners::Owners,
    pledges::Pledges,
    ring_file::{self, SavedRing},
    rotation::promise_rules,
    scan::{Scan, Scans, open_segment},
    segments::View,
    space::Volume,
    staging::{STAGING_DIR, STAGING_ELSEWHERE, STAGING_LOCK},
    stamp::{self, Opened, Stamps, open_catalog},
    versions::Sums,
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
    /// The same of its deletes.
    #[error(
        "TOMBSTONES has {0}; start the version that wrote this data directory, or an empty directory"
    )]
    TombstonesFormat(InvalidTombstones),
    /// The disk has no room for what a store needs at least.
    #[error(transparent)]
    TooSmall(#[from] TooSmall),
    /// Who this node is cannot be told.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// What recovery hands to the appender.
pub(super) struct Recovered {
    pub(super) ring: Ring,
    /// Whether RING says so too. Until it does, no sequence may be given out: writers save it first.
    pub(super) is_saved: bool,
    pub(super) view: Arc<View>,
    pub(super) capacity: Capacity,
    pub(super) logs: BTreeMap<(Area, Flow), Log>,
    /// Objects of the pool, in the order in which they came; first those that the device cannot read.
    pub(super) pool: Arc<Mutex<Recency<SegmentId>>>,
    /// Which of them each name leads to.
    pub(super) owners: Owners,
    pub(super) pool_dirs: BTreeSet<String>,
    pub(super) wall: SteadyWall,
    pub(super) pledges: Pledges,
    pub(super) stamps: Stamps,
    pub(super) books: Arc<Books>,
    pub(super) volume: Arc<Volume>,
    /// Over what the catalog has.
    pub(super) sums: Arc<Sums>,
    pub(super) debts: Vec<SegmentId>,
    pub(super) next_sequence: u64,
    pub(super) feed: Arc<Feed>,
    pub(super) hlc_seen: u64,
    pub(super) node: u64,
    pub(super) incarnation: u64,
}

impl Recovered {
    /// The largest body that has a place: in the pool, or where there is none in a ring.
    pub(super) fn body_bytes_max(&self) -> u64 {
        let record_bytes_max = self.capacity.pool_bytes.max(self.capacity.blobs.record_bytes_max());
        kura_core::record::body_bytes_max(record_bytes_max)
    }
}

/// See the head of this module. Where a read of the catalog meets damage, it begins again with an empty
/// one.
pub(super) async fn recover(
    env: &Env,
    config: &StoreConfig,
    early: &Early,
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<Recovered, RecoverError> {
    match recover_with_catalog(env, config, early, progress).await {
        Err(RecoverError::Catalog(CatalogError::Damaged(cause))) => {
            early.begin_anew();
            stamp::condemn(env, &early.metrics, &cause).await?;
            recover_with_catalog(env, config, early, progress).await
        }
        recovered => recovered,
    }
}

async fn recover_with_catalog(
    env: &Env,
    config: &StoreConfig,
    early: &Early,
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<Recovered, RecoverError> {
    let metrics = &*early.metrics;
    prepare(env, config, early).await?;
    let Loaded { identity, on_disk, saved, lost, stamps } = load(env, config, metrics).await?;
    let plan = plan(&saved, &on_disk);
    tell_missing(&plan);
    let space = env.disk.space().await?;
    let capacity = capacity(config.capacity_bytes, space.total_bytes, config.segment_bytes)?;
    tell(&capacity);
    let feed = Feed::load(env, config).await?;
    let mut scan = Scan::new(env, (early, &feed), &plan.ring, capacity.blobs.segment_bytes);
    let (scans, objects) = scan.all(&plan.ring, early, progress).await?;
    let Scans { ring, mut ends, headless } = scans;
    let Objects { pool, owners, dirs: pool_dirs } = objects;
    let orphans: Vec<SegmentId> = plan.orphans.into_iter().chain(headless).collect();
    metrics.store.swept_orphans.inc_by(orphans.len() as u64);
    let is_here = |id: SegmentId| match id.area() {
        Area::Pool => pool.size_of(id).is_some(),
        Area::Blobs | Area::Entries => ring.contains(id),
    };
    let debts = find_debts(env, is_here, orphans).await?;
    // Where RING was lost, segments begun from now on tell by what they begin with how far sequences got,
    // should it be lost again.
    ends.retain(|id, scanned| {
        scanned.takes_appends && is_last(*id, &plan.missing) && !lost.is_lost()
    });
    let logs = Fitter { metrics, capacity }.make_fit(&ring, ends, &early.view).await?;

    let (wall, pledges) = load_pledges(env, config).await?;
    let known = pool.eldest_first().chain(debts.iter().copied());
    let next_sequence = next_sequence(&plan.ring, known);
    let ring = lost.promise_objects(ring, &early.view).with_ceiling(next_sequence, scan.hlc_seen);
    let ring = ring.with_numbers_above(&debts);
    let is_saved = save(env, &ring).await?;
    let view = early.view.clone();
    view.adopt(Arc::new(ring.clone()));
    let books = Arc::new(Books::open(&*env.disk).await?);
    let volume = Volume::new(env.disk.space().await?);
    let sums = load_sums(env, &view, &pool, &debts).await?;
    Ok(Recovered {
        ring,
        is_saved,
        view,
        capacity,
        logs,
        pool: Arc::new(Mutex::new(pool)),
        owners,
        pool_dirs,
        wall,
        pledges,
        stamps,
        books,
        volume,
        sums,
        debts,
        next_sequence,
        feed,
        hlc_seen: scan.hlc_seen,
        node: identity.node,
        incarnation: identity.incarnation,
    })
}

/// What comes before the catalog is opened.
async fn prepare(env: &Env, config: &StoreConfig, early: &Early) -> Result<(), RecoverError> {
    // Before anything is made: on a disk full of stale staging this is what gives room.
    clear_staging(env, config, &early.metrics).await?;
    make_directories(env).await?;
    // Before anything can be read back that is deleted.
    early.deletes.load(&*env.disk, &early.metrics).await
}

/// The sums over what can be read.
async fn load_sums(
    env: &Env,
    view: &View,
    pool: &Recency<SegmentId>,
    debts: &[SegmentId],
) -> Result<Arc<Sums>, CatalogError> {
    let ring = view.ring();
    let members = ring.members().map(|member| member.id);
    let ids = members.chain(pool.eldest_first()).chain(debts.iter().copied());
    let unseen = ids.filter(|id| view.segment(*id).is_none()).collect();
    Ok(Arc::new(Sums::load(&*env.catalog, unseen).await?))
}

/// Says which segments are gone.
fn tell_missing(plan: &Plan) {
    for missing in &plan.missing {
        // The usual case is the segment that a rotation was about to create.
        tracing::info!(segment = %missing, "in the ring and not on the disk: dropped");
    }
}

/// What the small files say, and what goes with it.
struct Loaded {
    identity: Identity,
    /// Segments whose files are there.
    on_disk: Vec<SegmentId>,
    saved: Ring,
    lost: Lost,
    stamps: Stamps,
}

/// Opens the catalog, and reads IDENTITY, RING and STAMP.
async fn load(env: &Env, config: &StoreConfig, metrics: &Metrics) -> Result<Loaded, RecoverError> {
    let Opened { mut stamps, has_gaps } = open_catalog(env, metrics).await?;
    let identity = identity::load_or_create(env, metrics).await?;
    ring_file::remove_leftover(&*env.disk).await?;
    stamp::remove_leftover(&*env.disk).await?;
    let on_disk = list_segments(env).await?;
    let rules = promise_rules(config);
    let (mut saved, lost) = load_ring(env, &on_disk, rules, metrics).await?;
    if has_gaps {
        saved = promise_old(env, saved, rules, &mut stamps).await?;
    }
    if !stamps.waits_for_ring {
        stamps.tend(env, metrics).await;
    }
    Ok(Loaded { identity, on_disk, saved, lost, stamps })
}

/// What was promised one by one is lost with the catalog: everything is promised that could have been.
/// Durable before the catalog is stamped, after which nobody asks again.
async fn promise_old(
    env: &Env,
    ring: Ring,
    rules: Rules,
    stamps: &mut Stamps,
) -> Result<Ring, RecoverError> {
    let now_ms = env.clock.wall().0;
    let members = ring.members().map(|member| member.id);
    let old: Vec<SegmentId> =
        members.filter(|id| ring.after_read(*id) == AfterRead::Refresh).collect();
    let ring = ring.promised(&old, rules.due_ms(now_ms), now_ms);
    stamps.waits_for_ring = !old.is_empty() && !save(env, &ring).await?;
    Ok(ring)
}

/// The first sequence that may be given out. Objects have sequences for their numbers: where RING was
/// lost with all segments, they alone tell which were, and those of which only rows are left as well.
fn next_sequence(ring: &Ring, segments: impl Iterator<Item = SegmentId>) -> u64 {
    let objects = segments.filter(|id| id.area() == Area::Pool).map(SegmentId::number);
    ring.sequence_ceiling().max(objects.max().map_or(0, |last| last + 1))
}

/// Whether appends may go on in a segment: not where a later one of its ring was already begun and is
/// lost.
fn is_last(id: SegmentId, missing: &[SegmentId]) -> bool {
    missing.iter().all(|missing| missing.area() != id.area() || *missing < id)
}

/// Saves the ring to go on with. On a full disk that cannot be done, and must not keep the node from
/// serving what it has: then nothing may be written before it can be saved, so that the saved ceiling
/// is never passed.
async fn save(env: &Env, ring: &Ring) -> Result<bool, RecoverError> {
    match ring_file::save(&*env.disk, ring).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind.is_full() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn make_directories(env: &Env) -> Result<(), DiskError> {
    for dir in Area::ALL.map(Area::dir).into_iter().chain([STAGING_DIR]) {
        env.disk.mkdir(&DiskPath::new(dir)).await?;
    }
    env.disk.sync_dir(&DiskPath::root()).await
}

/// Removes the files below `tmp/`, wherever staging is now, and below where it is now.
async fn clear_staging(
    env: &Env,
    config: &StoreConfig,
    metrics: &Metrics,
) -> Result<(), RecoverError> {
    clear_parts(env, DiskPath::new(STAGING_DIR), metrics).await?;
    if config.staging_elsewhere {
        clear_parts(env, DiskPath::new(STAGING_ELSEWHERE), metrics).await?;
    }
    Ok(())
}

/// Removes the staging files in `dir`, if there is such a directory yet.
async fn clear_parts(env: &Env, dir: DiskPath, metrics: &Metrics) -> Result<(), RecoverError> {
    let entries = match env.disk.list(&dir).await {
        Err(error) if error.kind == DiskErrorKind::NotFound => return Ok(()),
        listed => listed?,
    };
    for entry in entries {
        if entry.kind == FileKind::File && entry.name.ends_with(".part") {
            env.disk.unlink(&dir.join(&entry.name)).await?;
            metrics.store.staging_cleared.inc();
        } else if entry.name != STAGING_LOCK {
            tracing::warn!(name = entry.name, "not a staging file of ours: left alone");
        }
    }
    Ok(())
}

async fn list_segments(env: &Env) -> Result<Vec<SegmentId>, RecoverError> {
    let mut found = Vec::new();
    for area in [Area::Blobs, Area::Entries] {
        for entry in env.disk.list(&DiskPath::new(area.dir())).await? {
            match SegmentId::from_file_name(area, &entry.name) {
                Some(id) if entry.kind == FileKind::File => found.push(id),
                Some(_) | None => {
                    tracing::warn!(name = entry.name, "not a segment of ours: left alone");
                }
            }
        }
    }
    Ok(found)
}

/// The clock of promises, and what an earlier life promised one by one.
async fn load_pledges(
    env: &Env,
    config: &StoreConfig,
) -> Result<(SteadyWall, Pledges), RecoverError> {
    let wall = SteadyWall::starting(&*env.clock);
    let now_ms = wall.now_ms(env.clock.now());
    let furthest_ms = promise_rules(config).furthest_ms(now_ms);
    Ok((wall, Pledges::load(&*env.catalog, now_ms, furthest_ms).await?))
}

/// The ring as it was saved, or, where that is lost, one made of the segments that lie there.
async fn load_ring(
    env: &Env,
    on_disk: &[SegmentId],
    rules: Rules,
    metrics: &Metrics,
) -> Result<(Ring, Lost), RecoverError> {
    let now_ms = env.clock.wall().0;
    let until_ms = rules.due_ms(now_ms);
    let lost = Lost { now_ms, until_ms };
    match ring_file::load(&*env.disk).await? {
        SavedRing::Ring(ring) => {
            let ring = ring.promised_at_most(rules.furthest_ms(now_ms));
            return Ok((ring, Lost { until_ms: 0, ..lost }));
        }
        SavedRing::Invalid(format @ InvalidRing::Format(_)) => {
            return Err(RecoverError::Format(format));
        }
        SavedRing::Absent if on_disk.is_empty() => return Ok((Ring::default(), lost)),
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
        if let Ok((_, _, header)) = open_segment(env, *id, metrics).await? {
            members.push(Member {
                id: *id,
                base_sequence: header.base_sequence,
                age: header.age,
                flow: header.flow,
                promised_until_ms: 0,
            });
        }
    }
    Ok((Ring::rebuilt(members, until_ms), lost))
}

/// Until when everything is promised, because what was is lost with RING. In wall milliseconds; 0 if
/// RING is there.
#[derive(Clone, Copy)]
struct Lost {
    now_ms: u64,
    until_ms: u64,
}

impl Lost {
    fn is_lost(self) -> bool {
        self.until_ms > 0
    }

    /// Only those that readers see: no promise is kept by what cannot be read.
    fn promise_objects(self, ring: Ring, view: &View) -> Ring {
        if !self.is_lost() {
            return ring;
        }
        let objects: Vec<SegmentId> =
            view.ids().into_iter().filter(|id| id.area() == Area::Pool).collect();
        ring.promised(&objects, self.until_ms, self.now_ms)
    }
}

/// Segments to clear up: orphans on the disk, and those of which only rows are left.
async fn find_debts(
    env: &Env,
    is_here: impl Fn(SegmentId) -> bool,
    orphans: Vec<SegmentId>,
) -> Result<Vec<SegmentId>, RecoverError> {
    let mut debts: BTreeSet<SegmentId> = orphans.into_iter().collect();
    let mut from = contents_key(SegmentId(0), 0);
    loop {
        let rows = env.catalog.range(CONTENTS_SPACE, &from, &[], 1).await?;
        let Some((segment, _)) = rows.first().and_then(|(key, _)| parse_contents_key(key)) else {
            return Ok(debts.into_iter().collect());
        };
        if !is_here(segment) {
            debts.insert(segment);
        }
        from = contents_key(SegmentId(segment.0 + 1), 0);
    }
}

/// Says what the store may hold, and warns where that is less than was asked for.
fn tell(capacity: &Capacity) {
    if capacity.is_clamped() {
        tracing::warn!(%capacity, "the capacity does not fit the disk");
    } else {
        tracing::info!(%capacity, "capacity");
    }
}
