//! Vouching: saying that artifacts are here, and keeping them for as long as was promised.
//!
//! A vouch marks the segment of an artifact as promised, in RING. In the old part of a ring, where a
//! mark would keep the whole ring from turning, it marks the artifact alone, in the catalog, and has
//! it copied forward. Either is durable before the answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use kura_core::{
    address::Address,
    place::{Place, contents_key, parse_contents_key, parse_contents_row},
    promise::may_vouch,
    record::{Area, Flow, SegmentId},
    refresh::Trigger,
    ring::AfterRead,
};
use kura_env::{Batch, Catalog, CatalogError, CommitDurability, Instant, Keyspace};
use tokio::sync::oneshot;

use super::{CONTENTS_SPACE, append::Written, appender::Appender, command::Publish};
use crate::service::Refusal;

/// (segment, offset) -> until when the artifact there is promised.
pub(crate) const PLEDGES_SPACE: Keyspace = Keyspace("pledges");

/// Artifacts that can be promised one by one at a time. Beyond that the answer is "missing".
const PLEDGES_MAX: usize = 1 << 20;

/// Rows that are read back, or removed, at once.
const PAGE_ROWS: usize = 1024;

/// Marks whose time is over that one look removes.
const EXPIRE_MAX: usize = 1024;

/// How often copies that the ring waits for are asked for again, and how many at once.
const HASTEN_EVERY: Duration = Duration::from_secs(1);
const HASTEN_MAX: usize = 512;

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
    /// Of the marks in each segment that has any.
    segment_bytes: BTreeMap<SegmentId, u64>,
    /// The ring could not turn because of them.
    pub(super) are_waited_for: bool,
    /// When copies that the ring waits for are asked for again.
    hasten_due: Instant,
}

impl Pledges {
    /// Whether anything in `segment` is promised, was not copied forward yet, and so holds it.
    pub(super) fn holds(&self, segment: SegmentId, now_ms: u64) -> bool {
        self.marks.range((segment, 0)..=(segment, u64::MAX)).any(|(_, (until, _))| *until > now_ms)
    }

    /// Some of what is promised in `segment` and was not copied forward yet.
    fn some_of(&self, segment: SegmentId, now_ms: u64) -> Vec<At> {
        let marks = self.marks.range((segment, 0)..=(segment, u64::MAX));
        let held = marks.filter(|(_, (until, _))| *until > now_ms);
        held.map(|(at, _)| *at).take(HASTEN_MAX).collect()
    }

    fn until_ms(&self, place: &Place) -> u64 {
        self.marks.get(&(place.segment, place.offset)).map_or(0, |(until, _)| *until)
    }

    fn insert(&mut self, at: At, until_ms: u64, bytes: u64) {
        self.take(at);
        self.marks.insert(at, (until_ms, bytes));
        self.by_end.insert((until_ms, at));
        self.bytes += bytes;
        *self.segment_bytes.entry(at.0).or_default() += bytes;
    }

    fn take(&mut self, at: At) {
        if let Some((until_ms, bytes)) = self.marks.remove(&at) {
            self.by_end.remove(&(until_ms, at));
            self.bytes -= bytes;
            if let Some(of_segment) = self.segment_bytes.get_mut(&at.0) {
                *of_segment -= bytes;
            }
            if self.marks.range((at.0, 0)..=(at.0, u64::MAX)).next().is_none() {
                self.segment_bytes.remove(&at.0);
            }
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

    /// Reads back what an earlier life promised; nothing longer than until `furthest_ms`.
    pub(super) async fn load(
        catalog: &dyn Catalog,
        now_ms: u64,
        furthest_ms: u64,
    ) -> Result<Self, CatalogError> {
        let mut pledges = Self::default();
        let mut from = Bytes::new();
        loop {
            let rows = catalog.range(PLEDGES_SPACE, &from, &[], PAGE_ROWS).await?;
            let Some((last, _)) = rows.last() else { return Ok(pledges) };
            from = [last, &[0][..]].concat().into();
            let mut over = Batch::default();
            for (key, row) in rows {
                // The stamp, which stands behind all of them, is none.
                let Some(at) = parse_contents_key(&key) else { continue };
                match decode(&row).filter(|(until, _)| *until > now_ms) {
                    Some((until, bytes)) => pledges.insert(at, until.min(furthest_ms), bytes),
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
        let now_ms = self.steady_ms();
        if rules.promise_ms == 0 {
            // Nothing is promised here: what is here now may be said to be.
            return Ok(vec![true; artifacts.len()]);
        }
        let mut over = Batch::default();
        self.pledges.expire(now_ms, &mut over);
        let mut promised_bytes = Area::ALL.map(|area| (area, self.promised_bytes(area, now_ms)));
        let mut held = Vec::with_capacity(artifacts.len());
        let mut marks = Marks { until_ms: rules.furthest_ms(now_ms), ..Marks::default() };
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
            let area = place.segment.area();
            let promised = promised_bytes.iter_mut().find(|(it, _)| *it == area);
            let (_, promised) = promised.expect("every area has its sum");
            if is_new && !may_vouch(*promised, cost_bytes, self.promisable_bytes(area))
                || is_old && (!has_room || self.is_waited_for(place.segment))
            {
                held.push(false);
                continue;
            }
            *promised += if is_new { cost_bytes } else { 0 };
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
            let wall_ms = until_ms.saturating_add_signed(self.wall_ahead_ms());
            batch.put(PLEDGES_SPACE, key, encode(wall_ms, place.record_bytes()));
        }
        let committed = self.stamps.commit(&self.env, batch).await;
        committed.map_err(Refusal::Catalog)?;
        for place in places {
            self.pledges.insert((place.segment, place.offset), until_ms, place.record_bytes());
        }
        Ok(())
    }

    /// Whether a record is a copy of what is promised in the segment that the ring waits for.
    pub(super) fn is_urgent(&self, publish: &Publish) -> bool {
        let from = publish.origin.copied_from().filter(|from| self.is_waited_for(from.segment));
        from.is_some_and(|from| self.pledges.until_ms(&from) > 0)
    }

    /// Room in the open segment of a log that is kept for copies out of the segment that the ring
    /// waits for, in bytes: without them it would never turn.
    pub(super) fn kept_for_copies(&self, (area, flow): (Area, Flow)) -> u64 {
        let eldest = self.ring.eldest(area).filter(|eldest| self.is_waited_for(eldest.id));
        let Some(eldest) = eldest.filter(|_| flow == Flow::Live) else { return 0 };
        self.pledges.segment_bytes.get(&eldest.id).copied().unwrap_or(0)
    }

    /// Asks again for copies of what is promised in the eldest segment of a ring that cannot turn
    /// because of them: they were not paid for, or shed, or they failed, and writers wait for them.
    pub(super) async fn hasten_copies(&mut self) {
        let now = self.env.clock.now();
        if now < self.pledges.hasten_due {
            return;
        }
        self.pledges.hasten_due = now + HASTEN_EVERY;
        let now_ms = self.steady_ms();
        self.pledges.expire(now_ms, &mut self.unindexed);
        let are_waited_for = std::mem::take(&mut self.pledges.are_waited_for);
        for area in [Area::Blobs, Area::Entries] {
            let Some(eldest) = self.ring.eldest(area) else { continue };
            if !are_waited_for && !self.is_waited_for(eldest.id) {
                continue;
            }
            for at in self.pledges.some_of(eldest.id, now_ms) {
                match self.copyable(at).await {
                    Ok(Some((address, place))) => {
                        self.orders.order((&address, &place), Trigger::Turn)
                    }
                    // Forgotten, or another record has taken over its name and its promise.
                    Ok(None) => {
                        self.pledges.take(at);
                        self.unindexed.delete(PLEDGES_SPACE, contents_key(at.0, at.1));
                    }
                    Err(refusal) => {
                        tracing::warn!(%refusal, "what the ring waits for could not be looked up");
                        return;
                    }
                }
            }
        }
    }

    /// The artifact at a place, if it still lies there.
    async fn copyable(&self, at: At) -> Result<Option<(Address, Place)>, Refusal> {
        let row = self.env.catalog.get(CONTENTS_SPACE, &contents_key(at.0, at.1)).await;
        let row = row.map_err(Refusal::Catalog)?;
        let key = row.as_deref().and_then(parse_contents_row).map(|(_, key)| key);
        let Some(address) = key.and_then(|key| Address::decode(key).ok()) else { return Ok(None) };
        let place = self.current(&address).await?;
        Ok(place.filter(|it| (it.segment, it.offset) == at).map(|place| (address, place)))
    }

    /// Records are about to take the place of others: what was promised of those is promised of the
    /// segment or object that takes them in. Durable before they are written.
    pub(super) async fn carry_promises(
        &mut self,
        replaced: &[Place],
        to: SegmentId,
    ) -> Result<(), Refusal> {
        let now_ms = self.steady_ms();
        let until_ms = replaced.iter().map(|from| self.promised_until_ms(from)).max().unwrap_or(0);
        if until_ms <= now_ms || self.ring.promised_until_ms(to) >= until_ms {
            return Ok(());
        }
        self.adopt(self.ring.clone().promised(&[to], until_ms, now_ms)).await
    }

    /// Records have taken the place of others, which hold nothing any more.
    pub(super) fn drop_pledges(&mut self, written: &[Written]) {
        for from in written.iter().filter_map(|written| written.replaces) {
            if self.pledges.until_ms(&from) > 0 {
                self.pledges.remove(&from);
                self.unindexed.delete(PLEDGES_SPACE, contents_key(from.segment, from.offset));
            }
        }
    }

    /// What lies at a place is promised no longer, once the batch is in the catalog.
    pub(super) fn unpledge(&self, place: &Place, batch: &mut Batch) {
        if self.pledges.until_ms(place) > 0 {
            batch.delete(PLEDGES_SPACE, contents_key(place.segment, place.offset));
        }
    }

    /// Whether anything may be promised now.
    pub(super) fn has_promises(&self) -> bool {
        self.ring.furthest_promise_ms() > self.steady_ms() || !self.pledges.marks.is_empty()
    }

    /// Until when what lies at a place is promised, in milliseconds; 0 if it is not.
    fn promised_until_ms(&self, place: &Place) -> u64 {
        self.ring.promised_until_ms(place.segment).max(self.pledges.until_ms(place))
    }

    /// Bytes of a ring, or of the pool, that may not be evicted because of promises.
    fn promised_bytes(&self, area: Area, now_ms: u64) -> u64 {
        if area == Area::Pool {
            let pool = self.pool.lock();
            let objects = pool.eldest_first();
            let promised = objects.filter(|id| self.ring.promised_until_ms(*id) > now_ms);
            return promised.filter_map(|id| pool.size_of(id)).sum();
        }
        let marked =
            self.ring.members_of(area).filter(|member| member.promised_until_ms > now_ms).count();
        let pledged = if area == Area::Blobs { self.pledges.bytes } else { 0 };
        marked as u64 * self.ring_capacity(area).segment_bytes + pledged
    }

    /// What promises in an area are held against, in bytes.
    fn promisable_bytes(&self, area: Area) -> u64 {
        match area {
            Area::Blobs | Area::Entries => self.ring_capacity(area).bytes(),
            Area::Pool => self.capacity.pool_bytes,
        }
    }
}

fn encode(until_ms: u64, bytes: u64) -> Bytes {
    [until_ms.to_le_bytes(), bytes.to_le_bytes()].concat().into()
}

/// Until when, in wall milliseconds, and how many bytes; `None` if the row is none of a pledge.
pub(crate) fn decode(row: &[u8]) -> Option<(u64, u64)> {
    let (until, bytes) = row.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*until), u64::from_le_bytes(bytes.try_into().ok()?)))
}
