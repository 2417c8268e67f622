//! Vouching: saying that artifacts are here, and keeping them for as long as was promised.
//!
//! A vouch marks the segment of an artifact as promised, in RING. In the old part of a ring, where a
//! mark would keep the whole ring from turning, it marks the artifact alone, in the catalog, and has
//! it copied forward. Either is durable before the answer.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kura_core::{
    address::Address,
    place::{Place, contents_key, parse_contents_key},
    promise::may_vouch,
    record::{Area, SegmentId},
    ring::AfterRead,
};
use kura_env::{Batch, Catalog, CatalogError, CommitDurability, Keyspace};
use tokio::sync::oneshot;

use super::{append::Written, appender::Appender};
use crate::service::Refusal;

/// (segment, offset) -> until when the artifact there is promised.
pub(crate) const PLEDGES_SPACE: Keyspace = Keyspace("pledges");

/// Artifacts that can be promised one by one at a time. Beyond that the answer is "missing".
const PLEDGES_MAX: usize = 1 << 20;

/// Rows that are read back, or removed, at once.
const PAGE_ROWS: usize = 1024;

/// Marks whose time is over that one look removes.
const EXPIRE_MAX: usize = 256;

/// Where an artifact lies: the segment, and the offset in it.
type At = (SegmentId, u64);

/// Artifacts in old segments that are promised one by one.
#[derive(Default)]
pub(super) struct Pledges {
    /// Until when, in wall milliseconds, and how many bytes.
    marks: BTreeMap<At, (u64, u64)>,
    /// The same by their ends.
    by_end: BTreeSet<(u64, At)>,
    /// Of all marks together.
    bytes: u64,
}

impl Pledges {
    /// Whether anything in `segment` is promised, was not copied forward yet, and so holds it.
    pub(super) fn holds(&self, segment: SegmentId, now_ms: u64) -> bool {
        self.marks.range((segment, 0)..=(segment, u64::MAX)).any(|(_, (until, _))| *until > now_ms)
    }

    fn until_ms(&self, place: &Place) -> u64 {
        self.marks.get(&(place.segment, place.offset)).map_or(0, |(until, _)| *until)
    }

    fn insert(&mut self, at: At, until_ms: u64, bytes: u64) {
        self.take(at);
        self.marks.insert(at, (until_ms, bytes));
        self.by_end.insert((until_ms, at));
        self.bytes += bytes;
    }

    fn take(&mut self, at: At) {
        if let Some((until_ms, bytes)) = self.marks.remove(&at) {
            self.by_end.remove(&(until_ms, at));
            self.bytes -= bytes;
        }
    }

    /// The artifact lies elsewhere now.
    pub(super) fn remove(&mut self, place: &Place) {
        self.take((place.segment, place.offset));
    }

    /// The segment has left the ring.
    pub(super) fn forget(&mut self, segment: SegmentId, batch: &mut Batch) {
        let gone: Vec<At> =
            self.marks.range((segment, 0)..=(segment, u64::MAX)).map(|(at, _)| *at).collect();
        for at in gone {
            batch.delete(PLEDGES_SPACE, contents_key(at.0, at.1));
            self.take(at);
        }
    }

    /// Drops some of what is over, and has the rows deleted.
    fn expire(&mut self, now_ms: u64, batch: &mut Batch) {
        for _ in 0..EXPIRE_MAX {
            let Some((_, at)) = self.by_end.first().copied().filter(|(end, _)| *end <= now_ms)
            else {
                return;
            };
            batch.delete(PLEDGES_SPACE, contents_key(at.0, at.1));
            self.take(at);
        }
    }

    /// Reads back what an earlier life promised.
    pub(super) async fn load(catalog: &dyn Catalog, now_ms: u64) -> Result<Self, CatalogError> {
        let mut pledges = Self::default();
        let mut from = Bytes::new();
        loop {
            let rows = catalog.range(PLEDGES_SPACE, &from, &[], PAGE_ROWS).await?;
            let Some((last, _)) = rows.last() else { return Ok(pledges) };
            from = [last, &[0][..]].concat().into();
            let mut over = Batch::default();
            for (key, row) in rows {
                let promised = decode(&row).filter(|(until, _)| *until > now_ms);
                match parse_contents_key(&key).zip(promised) {
                    Some((place, (until, bytes))) => pledges.insert(place, until, bytes),
                    None => over.delete(PLEDGES_SPACE, key),
                }
            }
            if !over.is_empty() {
                catalog.commit(over, CommitDurability::Buffered).await?;
            }
        }
    }
}

/// Promises that are to be made durable.
#[derive(Default)]
struct Marks {
    until_ms: u64,
    segments: BTreeSet<SegmentId>,
    /// In the old part of a ring.
    places: Vec<Place>,
}

/// What a promise would take.
struct Weighed {
    is_old: bool,
    /// Until when it is promised already, in wall milliseconds.
    marked_ms: u64,
    cost_bytes: u64,
}

impl Appender {
    /// Promises artifacts, and tells of each whether it is. What is gone is not, nor what cannot be
    /// promised.
    pub(super) async fn vouch(
        &mut self,
        artifacts: Vec<(Address, Place)>,
        reply: oneshot::Sender<Vec<bool>>,
    ) {
        let held = match self.promise(&artifacts).await {
            Ok(held) => held,
            Err(refusal) => {
                tracing::warn!(%refusal, "promises could not be made durable");
                vec![false; artifacts.len()]
            }
        };
        let missing = held.iter().filter(|held| !**held).count();
        self.metrics.store.vouched.inc_by((held.len() - missing) as u64);
        self.metrics.store.vouches_declined.inc_by(missing as u64);
        reply.send(held).ok();
    }

    async fn promise(&mut self, artifacts: &[(Address, Place)]) -> Result<Vec<bool>, Refusal> {
        let rules = self.promise_rules();
        let now_ms = self.wall_ms();
        if rules.promise_ms == 0 {
            // Nothing is promised here: what is here now may be said to be.
            return Ok(vec![true; artifacts.len()]);
        }
        let mut over = Batch::default();
        self.pledges.expire(now_ms, &mut over);
        let mut promised_bytes = self.promised_bytes(now_ms);
        let capacity_bytes = self.capacity.bytes;
        let mut held = Vec::with_capacity(artifacts.len());
        let mut marks =
            Marks { until_ms: rules.due_ms(now_ms) + rules.step_ms(), ..Marks::default() };
        for (address, _) in artifacts {
            // It may have been copied forward, or written again, since it was looked up.
            let Some(place) = self.current(address).await? else {
                held.push(false);
                continue;
            };
            let Weighed { is_old, marked_ms, cost_bytes } = self.weigh(&place);
            let is_marked = rules.mark_ms(now_ms, marked_ms).is_none();
            if is_marked || marks.segments.contains(&place.segment) {
                held.push(true);
                continue;
            }
            let is_new = marked_ms <= now_ms;
            let has_room = self.pledges.marks.len() + marks.places.len() < PLEDGES_MAX;
            if is_new && !may_vouch(promised_bytes, cost_bytes, capacity_bytes)
                || is_old && (!has_room || self.is_waited_for(place.segment))
            {
                held.push(false);
                continue;
            }
            promised_bytes += if is_new { cost_bytes } else { 0 };
            held.push(true);
            if is_old {
                marks.places.push(place);
            } else {
                marks.segments.insert(place.segment);
            }
        }
        self.mark(marks, over, now_ms).await?;
        Ok(held)
    }

    /// Whether the ring has its one segment more and turns only when this one may go. No promise holds
    /// it for longer then: whoever asks again and again would keep all writers out, and the copies
    /// that were to free it as well.
    fn is_waited_for(&self, segment: SegmentId) -> bool {
        let area = segment.area();
        let is_eldest = self.ring.eldest(area).is_some_and(|eldest| eldest.id == segment);
        is_eldest && self.ring.len(area) > self.ring_capacity(area).segments_max
    }

    /// What a promise of the artifact at `place` would take.
    fn weigh(&self, place: &Place) -> Weighed {
        let segment = place.segment;
        let is_old = self.ring.after_read(segment) == AfterRead::Refresh;
        let segment_ms = self.ring.promised_until_ms(segment);
        let cost_bytes = match (segment.area(), is_old) {
            (Area::Pool, _) | (_, true) => place.record_bytes(),
            (area, false) => self.ring_capacity(area).segment_bytes,
        };
        let pledged_ms = if is_old { self.pledges.until_ms(place) } else { 0 };
        Weighed { is_old, marked_ms: segment_ms.max(pledged_ms), cost_bytes }
    }

    /// Makes promises durable. What is `over` goes before them: it may be promised again.
    async fn mark(&mut self, marks: Marks, over: Batch, now_ms: u64) -> Result<(), Refusal> {
        let Marks { until_ms, segments, places } = marks;
        if !segments.is_empty() {
            let segments: Vec<SegmentId> = segments.into_iter().collect();
            self.adopt(self.ring.clone().promised(&segments, until_ms, now_ms)).await?;
        }
        if places.is_empty() {
            self.unindexed.0.extend(over.0);
            return Ok(());
        }
        // Leftovers may delete the very rows that are made here.
        self.index_leftovers().await?;
        let mut batch = over;
        for place in &places {
            let key = contents_key(place.segment, place.offset);
            batch.put(PLEDGES_SPACE, key, encode(until_ms, place.record_bytes()));
        }
        let committed = self.env.catalog.commit(batch, CommitDurability::Synced).await;
        committed.map_err(Refusal::Catalog)?;
        for place in places {
            self.pledges.insert((place.segment, place.offset), until_ms, place.record_bytes());
        }
        Ok(())
    }

    /// Artifacts were copied forward: what was promised of them is promised of where they lie now,
    /// and then no longer of where they lay.
    pub(super) async fn move_pledges(&mut self, written: &[Written]) {
        let now_ms = self.wall_ms();
        let copies = written.iter().filter_map(|it| Some((it.copied_from?, it.place.segment)));
        let moved: Vec<(Place, SegmentId)> =
            copies.filter(|(from, _)| self.pledges.until_ms(from) > now_ms).collect();
        let until_ms = moved.iter().map(|(from, _)| self.pledges.until_ms(from)).max();
        let Some(until_ms) = until_ms else { return };
        let segments: Vec<SegmentId> = moved.iter().map(|(_, segment)| *segment).collect();
        if segments.iter().any(|segment| self.ring.promised_until_ms(*segment) < until_ms) {
            let ring = self.ring.clone().promised(&segments, until_ms, now_ms);
            if let Err(refusal) = self.adopt(ring).await {
                // Both copies stay for as long as was promised: the old one is held by its pledge.
                tracing::warn!(%refusal, "a promise could not be moved");
                return;
            }
        }
        for (from, _) in moved {
            self.pledges.remove(&from);
            self.unindexed.delete(PLEDGES_SPACE, contents_key(from.segment, from.offset));
        }
    }

    /// Bytes that may not be evicted because of promises.
    fn promised_bytes(&self, now_ms: u64) -> u64 {
        let marked = self.ring.members().filter(|member| member.promised_until_ms > now_ms);
        let segments = marked.map(|member| self.ring_capacity(member.id.area()).segment_bytes);
        let pool = self.pool.lock();
        let objects = pool
            .eldest_first()
            .filter(|id| self.ring.promised_until_ms(*id) > now_ms)
            .filter_map(|id| pool.size_of(id));
        segments.sum::<u64>() + objects.sum::<u64>() + self.pledges.bytes
    }
}

fn encode(until_ms: u64, bytes: u64) -> Bytes {
    [until_ms.to_le_bytes(), bytes.to_le_bytes()].concat().into()
}

fn decode(row: &[u8]) -> Option<(u64, u64)> {
    let (until, bytes) = row.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*until), u64::from_le_bytes(bytes.try_into().ok()?)))
}
