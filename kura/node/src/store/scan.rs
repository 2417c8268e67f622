//! The scans of a start: every record of a segment behind its watermark is checked and adopted. Those of
//! the pool are in `objects`.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
};

use futures_util::future::try_join_all;
use kura_core::{
    address::Address,
    place::{Place, Watermark, place_key},
    record::{
        Area, CHUNK_BYTES, FIXED_BYTES, Header, Invalid, SEGMENT_HEADER_LEN, SegmentHeader,
        SegmentId, chunk_sum,
    },
    recovery::{Found, Unread, look, scan_order, scan_start},
    ring::Ring,
};
use kura_env::{Batch, CommitDurability, DiskError, Env, File};

use super::{
    PLACES_SPACE,
    deletes::Deletes,
    early::Early,
    feed::Feed,
    objects::Objects,
    recovery::RecoverError,
    resync::Resync,
    rows,
    segments::{Segment, View, segment_path},
    versions::{Known, add_versions},
    window::{Window, is_sick},
};
use crate::metrics::Metrics;

/// Records that are adopted in one batch.
const ADOPT_RECORDS_MAX: usize = 256;
/// What is read for a header at first: enough for that of a body of 60 MiB.
const HEADER_READ_BYTES: usize = 4096;
/// Bodies are checked in reads of this size: whole chunks.
const CHECK_BYTES: usize = 4 * CHUNK_BYTES;
/// Progress is told this often.
const PROGRESS_OBJECTS: usize = 256;

/// A segment, its file, and what that begins with.
type Opened = (Segment, Arc<dyn File>, SegmentHeader);

/// Why a file cannot be used: without a header nothing else in it can be told from anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Headless {
    /// It has none of this segment.
    Invalid,
    /// The device cannot read it now.
    Unreadable,
}

/// Opens a segment's file and reads its header.
pub(super) async fn open_segment(
    env: &Env,
    id: SegmentId,
    metrics: &Metrics,
) -> Result<Result<Opened, Headless>, DiskError> {
    let file = env.disk.open(&segment_path(id)).await?;
    let head = match file.read_at(0, SEGMENT_HEADER_LEN).await {
        Err(error) if is_sick(&error) => {
            tracing::warn!(%error, "what lies there is left out");
            metrics.store.recovered_read_errors.inc();
            return Ok(Err(Headless::Unreadable));
        }
        read => read?,
    };
    match SegmentHeader::decode(&head) {
        Ok(header) if header.id == id => {
            // Objects of the pool are too many to be held open.
            let held = (id.area() != Area::Pool).then(|| file.clone());
            Ok(Ok((Segment { id, nonce: header.nonce, file: held }, file, header)))
        }
        Ok(header) => {
            tracing::warn!(segment = %id, says = %header.id, "a segment under a wrong name");
            Ok(Err(Headless::Invalid))
        }
        Err(invalid) => {
            tracing::warn!(segment = %id, %invalid, "a segment without a header");
            Ok(Err(Headless::Invalid))
        }
    }
}

/// The scans of one start.
pub(super) struct Scan<'a> {
    pub(super) env: &'a Env,
    pub(super) metrics: &'a Metrics,
    /// What lies there and is deleted is in no index.
    deletes: &'a Deletes,
    feed: Arc<Feed>,
    /// The highest hybrid logical time that was seen.
    pub(super) hlc_seen: u64,
    /// The segments that took appends last.
    pub(super) newest: BTreeSet<SegmentId>,
    /// Where this life goes on counting.
    pub(super) next_sequence: u64,
    /// Records of so many bytes are adopted by commits that a power loss takes back, and no more.
    segment_bytes: u64,
    /// Those of them that were.
    unsynced_bytes: u64,
}

/// What a scan knows of a segment.
pub(super) struct Scanned {
    pub(super) segment: Arc<Segment>,
    pub(super) file: Arc<dyn File>,
    /// Behind the last record that was found, or where the watermark says that one ended.
    pub(super) end: u64,
    /// Whether appends may go on here.
    pub(super) takes_appends: bool,
}

/// What lies at one offset.
pub(super) enum Step {
    /// A record to adopt.
    Record { found: Box<FoundRecord>, end: u64 },
    /// A record that nobody needs, or of which only the header can be used. Where the next one
    /// begins is known all the same: what lies there passes for a record only if it was written as
    /// one.
    Pass {
        end: u64,
        /// The device cannot read its body, which may be sound.
        is_unread: bool,
    },
    /// The device cannot read it, and so nobody knows where the next one would begin.
    Unreadable,
    /// No record.
    End(Invalid),
}

/// What a body turns out to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Body {
    /// Every chunk is as it was written.
    Whole,
    Damaged,
    /// The device fails at it.
    Unread,
}

/// A record found by a scan.
pub(super) struct FoundRecord {
    pub(super) address: Address,
    pub(super) place: Place,
    replica: bool,
}

/// Records of one segment that were found by a scan and are not in the index yet.
#[derive(Default)]
struct Adopted {
    found: Vec<FoundRecord>,
    /// Whether the segment was synced since the start; unset as long as nobody tried.
    is_synced: Option<bool>,
}

/// What was found in the segments of a ring.
pub(super) struct Scans {
    /// The ring without those that have no header. Those whose header the device cannot read stay in it,
    /// unseen by readers: what lies in them is a miss until a start can read it.
    pub(super) ring: Ring,
    pub(super) ends: BTreeMap<SegmentId, Scanned>,
    pub(super) headless: Vec<SegmentId>,
}

impl<'a> Scan<'a> {
    /// A scan of the segments of `ring`, which are so long.
    pub(super) fn new(
        env: &'a Env,
        (early, feed): (&'a Early, &Arc<Feed>),
        ring: &Ring,
        segment_bytes: u64,
    ) -> Self {
        let newest = ring.members().map(|member| member.id).filter(|id| ring.is_newest(*id));
        let (newest, next_sequence) = (newest.collect(), ring.sequence_ceiling());
        Self {
            env,
            metrics: &early.metrics,
            deletes: &early.deletes,
            feed: feed.clone(),
            hlc_seen: 0,
            newest,
            next_sequence,
            segment_bytes,
            unsynced_bytes: 0,
        }
    }

    /// Reads all segments of `ring` and all objects of the pool, what was written last first, and lets
    /// readers see those that can be used, each as soon as it is known.
    pub(super) async fn all(
        &mut self,
        ring: &Ring,
        early: &Early,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<(Scans, Objects), RecoverError> {
        let (dirs, objects) = self.list_pool().await?;
        let order = scan_order(ring, objects);
        let mut scans = Scans { ring: ring.clone(), ends: BTreeMap::new(), headless: Vec::new() };
        let mut objects = Objects { dirs, ..Objects::default() };
        let total = order.len();
        for (done, Unread { id, below_sequence }) in order.into_iter().enumerate() {
            early.know_from(below_sequence);
            if id.area() != Area::Pool || done % PROGRESS_OBJECTS == 0 {
                progress(format!("recovering: {done} of {total} segments and large objects read"));
            }
            match id.area() {
                Area::Pool => self.pool_object(id, &early.view, &mut objects).await?,
                Area::Blobs | Area::Entries => {
                    self.ring_segment(id, &early.view, &mut scans).await?;
                }
            }
        }
        early.know_from(0);
        scans.ring = scans.ring.retained(|id| !scans.headless.contains(&id));
        Ok((scans, objects))
    }

    async fn ring_segment(
        &mut self,
        id: SegmentId,
        view: &View,
        scans: &mut Scans,
    ) -> Result<(), RecoverError> {
        let headless = match self.segment(id, view).await? {
            Ok(scanned) => {
                scans.ends.insert(id, scanned);
                return Ok(());
            }
            Err(headless) => headless,
        };
        self.metrics.store.recovered_unreadable.inc();
        match headless {
            Headless::Invalid => scans.headless.push(id),
            Headless::Unreadable => {
                tracing::warn!(segment = %id, "left for a start that can read it");
            }
        }
        Ok(())
    }

    /// Reads one segment from its watermark to the end of its log.
    async fn segment(
        &mut self,
        id: SegmentId,
        view: &View,
    ) -> Result<Result<Scanned, Headless>, RecoverError> {
        let (segment, file, _) = match open_segment(self.env, id, self.metrics).await? {
            Ok(opened) => opened,
            Err(headless) => return Ok(Err(headless)),
        };
        let (segment, len_bytes) = (Arc::new(segment), file.len().await?);
        view.insert(segment.clone());
        let watermark = rows::watermark(&*self.env.catalog, id).await?;
        self.hlc_seen = self.hlc_seen.max(watermark.hlc);
        let mut offset = scan_start(watermark.offset, len_bytes);
        let mut adopted = Adopted::default();
        let mut window = Window::new(&*file);
        let mut resync = Resync::new(&*file, segment.nonce, len_bytes);
        // What cannot be read now may be read another time: nothing is written over it, and the next
        // start begins there.
        let mut unreadable_at = None;
        loop {
            let invalid = match self.step(&segment, &mut window, offset, len_bytes).await? {
                Step::Record { found, end } => {
                    adopted.found.push(*found);
                    offset = end;
                    if adopted.found.len() >= ADOPT_RECORDS_MAX {
                        let mark = unreadable_at.unwrap_or(offset);
                        self.commit(&mut adopted, (&segment, &*file), mark).await?;
                    }
                    continue;
                }
                Step::Pass { end, is_unread } => {
                    if is_unread {
                        unreadable_at.get_or_insert(offset);
                    }
                    offset = end;
                    continue;
                }
                Step::Unreadable => {
                    unreadable_at.get_or_insert(offset);
                    None
                }
                Step::End(_) if offset >= len_bytes => break,
                Step::End(invalid) => Some(invalid),
            };
            let bad_reads = resync.bad_reads();
            let next = resync.next_record(offset + 1).await?;
            if resync.bad_reads() > bad_reads {
                // Whatever begins there was passed over.
                unreadable_at.get_or_insert(offset);
            }
            let Some(next) = next else {
                self.log_ends(id, offset, invalid);
                break;
            };
            tracing::warn!(segment = %id, offset, next, "what lies between is no record");
            self.metrics.store.recovered_gaps.inc();
            offset = next;
        }
        self.count_bad_reads(id, window.bad_reads() + resync.bad_reads());
        if !adopted.found.is_empty() {
            self.commit(&mut adopted, (&segment, &*file), unreadable_at.unwrap_or(offset)).await?;
        }
        let takes_appends = unreadable_at.is_none() && adopted.is_synced != Some(false);
        let end = offset.max(watermark.offset);
        Ok(Ok(Scanned { segment, file, end, takes_appends }))
    }

    pub(super) fn count_bad_reads(&self, id: SegmentId, bad_reads: u64) {
        if bad_reads > 0 {
            tracing::warn!(segment = %id, bad_reads, "the device failed at reads");
            self.metrics.store.recovered_read_errors.inc_by(bad_reads);
        }
    }

    /// No record lies at `offset` or behind; unless the device failed, it can be told why.
    fn log_ends(&self, id: SegmentId, offset: u64, invalid: Option<Invalid>) {
        if let Some(invalid) = invalid {
            tracing::info!(segment = %id, offset, %invalid, "log ends here");
            self.metrics.store.recovered_torn_tails.inc();
        }
    }

    /// Reads the record at `offset` and checks it, body and all.
    pub(super) async fn step(
        &self,
        segment: &Segment,
        window: &mut Window<'_>,
        offset: u64,
        len_bytes: u64,
    ) -> Result<Step, DiskError> {
        let (mut wanted, mut is_narrow) = (HEADER_READ_BYTES, false);
        let (header, header_bytes, end) = loop {
            let bytes = match window.read_at(offset, wanted).await {
                // Perhaps only what lies behind the header cannot be read.
                Err(error) if is_sick(&error) && !is_narrow => {
                    (wanted, is_narrow) = (FIXED_BYTES, true);
                    continue;
                }
                Err(error) if is_sick(&error) => return Ok(Step::Unreadable),
                read => read?,
            };
            match look(&bytes, segment.nonce, offset, len_bytes) {
                Found::Record { header, header_bytes, end } => break (header, header_bytes, end),
                // A file that got shorter while it was read ends here as well.
                Found::More(more) if more <= wanted => return Ok(Step::End(Invalid::Short)),
                Found::More(more) => wanted = more,
                Found::End(invalid) => return Ok(Step::End(invalid)),
            }
        };
        let artifact = match *header {
            Header::Artifact(artifact) => artifact,
            Header::Skip { .. } => return Ok(Step::Pass { end, is_unread: false }),
        };
        let body = offset + header_bytes as u64..end;
        match self.check(window, body, &artifact.chunk_sums).await? {
            Body::Whole => {}
            Body::Damaged => {
                tracing::warn!(segment = %segment.id, offset, "a body other than the one written");
                self.metrics.store.recovered_damaged.inc();
                return Ok(Step::Pass { end, is_unread: false });
            }
            Body::Unread => return Ok(Step::Pass { end, is_unread: true }),
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
        Ok(Step::Record { found: Box::new(FoundRecord { address, place, replica }), end })
    }

    /// Reads the body in these bytes of the file.
    async fn check(
        &self,
        window: &mut Window<'_>,
        body: Range<u64>,
        sums: &[u32],
    ) -> Result<Body, DiskError> {
        let mut position = body.start;
        let mut sums = sums.iter();
        while position < body.end {
            let left = usize::try_from(body.end - position).unwrap_or(usize::MAX);
            let wanted = left.min(CHECK_BYTES);
            let bytes = match window.read_at(position, wanted).await {
                Err(error) if is_sick(&error) => return Ok(Body::Unread),
                read => read?,
            };
            let is_right = |chunk| sums.next() == Some(&chunk_sum(chunk));
            if bytes.len() != wanted || !bytes.chunks(CHUNK_BYTES).all(is_right) {
                return Ok(Body::Damaged);
            }
            position += wanted as u64;
        }
        Ok(Body::Whole)
    }

    /// Adds the rows of `found`, all of one segment, to `batch`. A name leads there unless a later
    /// record of it is in the index already, or it was deleted since. What the index says of this very
    /// segment does not count: a later record in here is found by this scan if it is still there. Whether
    /// the name of the last of them leads there now.
    pub(super) async fn adopt(
        &mut self,
        batch: &mut Batch,
        found: Vec<FoundRecord>,
    ) -> Result<bool, RecoverError> {
        let keys: Vec<_> = found.iter().map(|record| place_key(&record.address)).collect();
        let looks = keys.iter().map(|key| self.env.catalog.get(PLACES_SPACE, key));
        let rows = try_join_all(looks).await?;
        let mut known = Known::new();
        // Of a record and its copy, which have one sequence, the copy lies in the later segment.
        let order = |place: &Place| (place.sequence, place.segment.number());
        let mut is_current = false;
        for (FoundRecord { address, place, replica }, row) in found.into_iter().zip(rows) {
            self.hlc_seen = self.hlc_seen.max(place.version.time);
            self.unsynced_bytes += place.record_bytes();
            let before = row.as_deref().and_then(Place::decode);
            let is_last = before.is_none_or(|before| {
                before.segment == place.segment || order(&before) <= order(&place)
            });
            let is_deleted = self.deletes.covers(&address, place.version);
            self.metrics.store.recovered_deleted.inc_by(is_deleted.into());
            is_current = is_last && !is_deleted;
            rows::add_record(batch, &address, &place, is_current, replica);
            known.insert(place_key(&address).into(), before);
            self.metrics.store.recovered_records.inc();
        }
        add_versions(&*self.env.catalog, batch, &known).await?;
        Ok(is_current)
    }

    /// Commits what was adopted, once the segment is synced: what was read may have been in the
    /// page cache alone, left there by a process that died. Where it cannot be synced the rows go
    /// in without a watermark, so that the next start looks again.
    async fn commit(
        &mut self,
        adopted: &mut Adopted,
        (segment, file): (&Segment, &dyn File),
        end: u64,
    ) -> Result<(), RecoverError> {
        let is_synced = match adopted.is_synced {
            Some(is_synced) => is_synced,
            None => self.sync(segment, file).await,
        };
        adopted.is_synced = Some(is_synced);
        let mut batch = Batch::default();
        self.adopt(&mut batch, std::mem::take(&mut adopted.found)).await?;
        if !self.newest.contains(&segment.id) {
            // Sequences above these were given out since, and followers are beyond them: a failed
            // sync refused their writers, and they are here all the same.
            rows::add_feed_floor(&mut batch, self.next_sequence);
        }
        if is_synced {
            let watermark = Watermark { offset: end, hlc: self.hlc_seen };
            rows::add_watermark(&mut batch, segment.id, watermark);
        }
        self.put_in(batch).await
    }

    /// Commits what was adopted, within the bound of the feed.
    pub(super) async fn put_in(&mut self, mut batch: Batch) -> Result<(), RecoverError> {
        let bounded = self.feed.bound(&mut batch);
        let durability = self.durability();
        self.env.catalog.commit(batch, durability).await?;
        self.feed.committed(bounded, self.metrics);
        Ok(())
    }

    /// That of the next commit: a start that power losses cut short again and again has to get on.
    pub(super) fn durability(&mut self) -> CommitDurability {
        if self.unsynced_bytes < self.segment_bytes {
            return CommitDurability::Buffered;
        }
        self.unsynced_bytes = 0;
        CommitDurability::Synced
    }

    pub(super) async fn sync(&self, segment: &Segment, file: &dyn File) -> bool {
        self.metrics.store.segment_syncs.inc();
        let synced = file.sync_data().await;
        if let Err(error) = &synced {
            tracing::warn!(segment = %segment.id, %error, "could not be synced, and takes no more appends");
        }
        synced.is_ok()
    }
}
