//! Recovery: reads the data directory back, under its lock.
//!
//! 1. delete what is staged: nobody will finish it, and the catalog may need the room
//! 2. open the catalog
//! 3. read IDENTITY and RING
//! 4. scan every segment of the ring from its watermark, check each record and its body, and adopt
//!    it: its rows go into the catalog, so that a recovery that is cut short resumes
//! 5. compare ring and disk: drop what is missing, queue what is left over for eviction
//! 6. make the newest segment fit for appends, and save the ring
//!
//! The segments are the log and the catalog is only an index over them: whatever part of the
//! catalog is lost, its watermarks are lost with it, and the scan finds the rest.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use kura_core::{
    address::Address,
    capacity::{Capacity, capacity},
    place::{Place, Watermark, contents_key, parse_contents_key, place_key},
    record::{
        CHUNK_BYTES, FIXED_BYTES, Header, Invalid, SEGMENT_HEADER_BYTES, SEGMENT_HEADER_LEN,
        SegmentHeader, SegmentId, chunk_sum, encode_skip,
    },
    recovery::{Found, Resume, look, plan, resume},
    ring::{InvalidRing, Member, Ring},
};
use kura_env::{
    Batch, CatalogError, CommitDurability, DiskError, DiskErrorKind, DiskPath, Env, FileKind,
};

use super::{
    CONTENTS_SPACE, PLACES_SPACE,
    appender::Active,
    ring_file::{self, SavedRing},
    rows,
    segments::{SEGMENT_DIR, Segment, View, segment_path},
    staging::STAGING_DIR,
};
use crate::{
    config::StoreConfig,
    identity::{self, Identity, IdentityError},
    metrics::Metrics,
};

/// Records that are adopted in one batch.
const ADOPT_ROWS_MAX: usize = 256;
/// Bodies are checked in reads of this size: whole chunks.
const CHECK_BYTES: usize = 4 * CHUNK_BYTES;

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
    pub(super) logs: BTreeMap<(Area, Flow), Log>,
    /// Objects of the pool, in the order in which they came.
    pub(super) pool: Arc<Mutex<Recency<SegmentId>>>,
    pub(super) pool_dirs: BTreeSet<String>,
    pub(super) pledges: Pledges,
    pub(super) debts: Vec<SegmentId>,
    pub(super) next_sequence: u64,
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

/// See the head of this module.
pub(super) async fn recover(
    env: &Env,
    config: &StoreConfig,
    metrics: &Metrics,
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<Recovered, RecoverError> {
    // Before anything is made: on a disk full of stale staging this is what gives room.
    clear_staging(env, metrics).await?;
    for dir in Area::ALL.map(Area::dir).into_iter().chain([STAGING_DIR]) {
        env.disk.mkdir(&DiskPath::new(dir)).await?;
    }
    env.disk.sync_dir(&DiskPath::root()).await?;
    env.catalog.open().await?;
    let identity = identity::load_or_create(env).await?;
    ring_file::remove_leftover(&*env.disk).await?;

    let on_disk = list_segments(env).await?;
    let saved = load_ring(env, &on_disk, config.promise, metrics).await?;
    let plan = plan(&saved, &on_disk);
    for missing in &plan.missing {
        // The usual case is the segment that a rotation was about to create.
        tracing::info!(segment = %missing, "in the ring and not on the disk: dropped");
    }
    let space = env.disk.space().await?;
    let capacity = capacity(config.capacity_bytes, space.total_bytes, config.segment_bytes)?;
    tell(&capacity);
    let mut scan = Scan { env, metrics, hlc_seen: 0, capacity };
    let view = Arc::new(View::default());
    let (mut ring, mut orphans) = (plan.ring.clone(), plan.orphans);
    let mut ends = BTreeMap::new();
    let total = plan.ring.members().count();
    for (done, member) in plan.ring.members().enumerate() {
        progress(format!("recovering: {done} of {total} segments read"));
        match scan.segment(member.id).await? {
            Some((segment, end)) => {
                view.insert(segment.clone());
                ends.insert(member.id, end);
            }
            None => {
                metrics.store.recovered_unreadable.inc();
                ring = ring.retained(|id| id != member.id);
                orphans.push(member.id);
            }
        }
    }
    let (pool, pool_dirs) = scan.pool(&view, progress).await?;
    metrics.store.swept_orphans.inc_by(orphans.len() as u64);
    let is_here = |id: SegmentId| match id.area() {
        Area::Pool => pool.size_of(id).is_some(),
        Area::Blobs | Area::Entries => ring.contains(id),
    };
    let debts = find_debts(env, is_here, orphans).await?;
    // Appends do not go on where a later segment was already begun and is lost.
    ends.retain(|id, _| {
        plan.missing.iter().all(|missing| missing.area() != id.area() || missing < id)
    });
    let logs = scan.make_fit(&ring, &ends, &view).await?;

    let now_ms = env.clock.wall().0;
    let pledges = Pledges::load(&*env.catalog, now_ms).await?;
    let next_sequence = ring.sequence_ceiling();
    let ring = ring.with_ceiling(next_sequence, scan.hlc_seen);
    let logs = if save(env, &ring).await? { logs } else { BTreeMap::new() };
    view.adopt(Arc::new(ring.clone()));
    let pool = Arc::new(Mutex::new(pool));
    let hlc_seen = scan.hlc_seen;
    let Identity { node, incarnation, .. } = identity;
    Ok(Recovered {
        ring,
        view,
        capacity,
        logs,
        pool,
        pool_dirs,
        pledges,
        debts,
        next_sequence,
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

/// The ring as it was saved, or, where that is lost, one made of the segments that lie there.
async fn load_ring(
    env: &Env,
    on_disk: &[SegmentId],
    promise: Duration,
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
    }
    metrics.store.recovered_rings.inc();
    let mut members = Vec::new();
    for id in on_disk {
        if let Some((_, header)) = open_segment(env, *id).await? {
            members.push(Member {
                id: *id,
                base_sequence: header.base_sequence,
                age: header.age,
                flow: header.flow,
                promised_until_ms: 0,
            });
        }
    }
    let promise_ms = u64::try_from(promise.as_millis()).unwrap_or(u64::MAX);
    Ok(Ring::rebuilt(members, env.clock.wall().0.saturating_add(promise_ms)))
}

/// Opens a segment's file and reads its header; `None` if it has none that is valid.
async fn open_segment(
    env: &Env,
    id: SegmentId,
) -> Result<Option<(Segment, SegmentHeader)>, DiskError> {
    let file = env.disk.open(&segment_path(id)).await?;
    let head = file.read_at(0, SEGMENT_HEADER_LEN).await?;
    match SegmentHeader::decode(&head) {
        Ok(header) if header.id == id => {
            Ok(Some((Segment { id, nonce: header.nonce, file: Some(file) }, header)))
        }
        Ok(header) => {
            tracing::warn!(segment = %id, says = %header.id, "a segment under a wrong name");
            Ok(None)
        }
        Err(invalid) => {
            tracing::warn!(segment = %id, %invalid, "a segment without a header");
            Ok(None)
        }
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

struct Scan<'a> {
    env: &'a Env,
    metrics: &'a Metrics,
    hlc_seen: u64,
    capacity: Capacity,
}

/// A record found by a scan.
struct FoundRecord {
    address: Address,
    place: Place,
    replica: bool,
}

/// Rows found by a scan and not yet committed.
#[derive(Default)]
struct Adopted {
    batch: Batch,
    records: usize,
}

impl Scan<'_> {
    /// Reads one segment from its watermark to the end of its log, and says where that is. `None`
    /// if it cannot be used at all.
    async fn segment(
        &mut self,
        id: SegmentId,
    ) -> Result<Option<(Arc<Segment>, u64)>, RecoverError> {
        let Some((segment, _)) = open_segment(self.env, id).await? else { return Ok(None) };
        let len_bytes = segment.file.len().await?;
        let watermark = rows::watermark(&*self.env.catalog, id).await?;
        self.hlc_seen = self.hlc_seen.max(watermark.hlc);
        let mut offset = watermark.offset.max(SEGMENT_HEADER_BYTES);
        let mut adopted = Adopted::default();
        let end = loop {
            match self.record(&segment, offset, len_bytes).await? {
                Ok((record, end)) => {
                    if let Some(record) = record {
                        self.adopt(&mut adopted, record).await?;
                    }
                    offset = end;
                    if adopted.records >= ADOPT_ROWS_MAX {
                        self.commit(&mut adopted, id, offset).await?;
                    }
                }
                Err(invalid) => {
                    if offset < len_bytes {
                        tracing::info!(segment = %id, offset, len_bytes, %invalid, "log ends here");
                        self.metrics.store.recovered_torn_tails.inc();
                    }
                    break offset;
                }
            }
        };
        if adopted.records > 0 {
            self.commit(&mut adopted, id, end).await?;
        }
        Ok(Some((Arc::new(segment), end)))
    }

    /// Reads the record at `offset` and checks it, body and all. The inner error is the end of the
    /// log.
    async fn record(
        &self,
        segment: &Segment,
        offset: u64,
        len_bytes: u64,
    ) -> Result<Result<(Option<FoundRecord>, u64), Invalid>, RecoverError> {
        let mut wanted = FIXED_BYTES.max(4096);
        let (header, header_bytes, end) = loop {
            let bytes = segment.file.read_at(offset, wanted).await?;
            match look(&bytes, segment.nonce, offset, len_bytes) {
                Found::Record { header, header_bytes, end } => break (header, header_bytes, end),
                // A file that got shorter while it was read ends here as well.
                Found::More(more) if more <= wanted => return Ok(Err(Invalid::Short)),
                Found::More(more) => wanted = more,
                Found::End(invalid) => return Ok(Err(invalid)),
            }
        };
        let artifact = match *header {
            Header::Artifact(artifact) => artifact,
            Header::Skip { .. } => return Ok(Ok((None, end))),
        };
        let mut position = offset + header_bytes as u64;
        let mut sums = artifact.chunk_sums.iter();
        while position < end {
            let wanted = usize::try_from(end - position).unwrap_or(usize::MAX).min(CHECK_BYTES);
            let bytes = segment.file.read_at(position, wanted).await?;
            if bytes.len() != wanted {
                return Ok(Err(Invalid::Short));
            }
            if !bytes.chunks(CHUNK_BYTES).all(|chunk| sums.next() == Some(&chunk_sum(chunk))) {
                return Ok(Err(Invalid::Checksum));
            }
            position += wanted as u64;
        }
        let place = Place {
            segment: segment.id,
            offset,
            header_bytes: u32::try_from(header_bytes).unwrap_or(u32::MAX),
            body_bytes: artifact.body_bytes,
            sequence: artifact.sequence,
            version: artifact.version,
            digest: artifact.digest,
        };
        let (address, replica) = (artifact.address, artifact.replica);
        Ok(Ok((Some(FoundRecord { address, place, replica }), end)))
    }

    /// Takes a record into the index, unless a later one of the same name is there already.
    async fn adopt(
        &mut self,
        adopted: &mut Adopted,
        record: FoundRecord,
    ) -> Result<(), RecoverError> {
        let FoundRecord { address, place, replica } = record;
        self.hlc_seen = self.hlc_seen.max(place.version.time);
        let row = self.env.catalog.get(PLACES_SPACE, &place_key(&address)).await?;
        let known = row.as_deref().and_then(Place::decode);
        let is_current = known.is_none_or(|known| known.sequence <= place.sequence);
        rows::add_record(&mut adopted.batch, &address, &place, is_current, replica);
        adopted.records += 1;
        self.metrics.store.recovered_records.inc();
        Ok(())
    }

    async fn commit(
        &self,
        adopted: &mut Adopted,
        id: SegmentId,
        end: u64,
    ) -> Result<(), RecoverError> {
        let mut batch = std::mem::take(adopted).batch;
        rows::add_watermark(&mut batch, id, Watermark { offset: end, hlc: self.hlc_seen });
        Ok(self.env.catalog.commit(batch, CommitDurability::Buffered).await?)
    }

    /// Lets appends go on in the newest segment, beyond every byte that was ever written there.
    /// All others are frozen.
    async fn make_fit(
        &self,
        ring: &Ring,
        newest: Option<(Arc<Segment>, u64)>,
        view: &View,
    ) -> Result<Option<Active>, RecoverError> {
        let newest = newest
            .filter(|(segment, _)| ring.newest().is_some_and(|member| member.id == segment.id));
        for member in ring.members() {
            let is_newest = newest.as_ref().is_some_and(|(segment, _)| segment.id == member.id);
            if !is_newest && let Some(segment) = view.segment(member.id) {
                self.freeze(&segment).await;
            }
        }
        let Some((segment, valid_end)) = newest else { return Ok(None) };
        let len_bytes = segment.file.len().await?;
        match resume(valid_end, len_bytes, self.segment_bytes) {
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
