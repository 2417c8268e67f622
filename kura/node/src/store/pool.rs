//! The pool: large objects, one file each, in the form of a segment with one record.
//!
//! The body is written to a staging file behind room for its header, so that it gets its place by a
//! rename and is never copied:
//!
//! 1. room: the objects used longest ago go until it fits
//! 2. write the headers, sync, and give the file its name; sync the directory. A file that was staged
//!    elsewhere may be copied for that
//! 3. index: rows, in one batch, not synced
//! 4. answer
//!
//! An object whose artifact is put again goes once the rows lead to what took its place.
//!
//! For the pool the file is the truth. Eviction unlinks it first and removes the rows then; a file
//! without rows is adopted by `recovery`. One that the device cannot read at a start counts as the eldest of
//! the pool: no reader sees it, and it waits for the next start, or goes before all others.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use kura_core::{
    place::Place,
    promise::{Hold, Rules},
    recency::Recency,
    record::{
        Area, Flow, POOL_BODY_OFFSET, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentId, header_bytes,
    },
};
use kura_env::{DiskError, DiskErrorKind, DiskPath};

use super::{
    append::Written,
    appender::Appender,
    command::{Body, Origin, Publish, refuse},
    eviction::Debt,
    segments::{Segment, segment_dir, segment_path},
    staging::StagedFile,
    versions::Known,
};
use crate::service::Refusal;

/// Objects whose grace goes on as a store starts, and when they were written, in wall milliseconds: by
/// the hybrid logical time of their versions, which outlives the process. One from the future was
/// written before the wall clock was set back, and counts as written now. What a peer sent lately
/// counts as well; what was copied here keeps the time of what it was copied from.
pub(super) fn fresh_at_start(
    pool: &Recency<SegmentId>,
    now_ms: u64,
    rules: Rules,
) -> VecDeque<(SegmentId, u64)> {
    let grace_ms = rules.write_grace_ms;
    let newest_first = pool.eldest_first().rev();
    let written = newest_first.filter_map(|id| Some((id, (pool.used(id)? >> 16).min(now_ms))));
    let mut fresh: VecDeque<(SegmentId, u64)> =
        written.take_while(|(_, at_ms)| at_ms.saturating_add(grace_ms) > now_ms).collect();
    fresh.make_contiguous().reverse();
    fresh
}

impl Appender {
    /// Stores large objects, one after the other.
    pub(super) async fn store_in_pool(&mut self, group: VecDeque<Box<Publish>>) {
        for publish in group {
            if let Err((publish, refusal)) = self.store_object(*publish).await {
                refuse(publish.map(|publish| publish.reply).into_iter(), &refusal);
            }
        }
    }

    async fn store_object(&mut self, publish: Publish) -> Result<(), (Option<Publish>, Refusal)> {
        if let Err(refusal) = self.prepare().await {
            return Err((Some(publish), refusal));
        }
        let record_bytes = publish.record_bytes();
        if let Err(refusal) = self.make_room_in_pool(record_bytes, &publish).await {
            return Err((Some(publish), refusal));
        }
        // The number is the sequence of the first record that could have it. A copy has the sequence of
        // what it was copied from, so that its number is one that no record has.
        let id = SegmentId::new(Area::Pool, self.next_sequence);
        if publish.origin.copied_from().is_some() {
            self.take_sequence();
        }
        let replaced: Vec<Place> = publish.replaces.into_iter().collect();
        if let Err(refusal) = self.carry_promises(&replaced, id).await {
            return Err((Some(publish), refusal));
        }
        let offset = POOL_BODY_OFFSET - header_bytes(&publish.address, publish.body_bytes) as u64;
        let segment = Segment { id, nonce: self.nonce(), file: None };
        let (place, header, publish) = self.place(&segment, offset, publish);
        let Publish { address, body, reply, origin, replaces, .. } = publish;
        let named = match &body {
            Body::Staged(staged) if staged.body_offset() == POOL_BODY_OFFSET => {
                self.name_object(&segment, &place, (header, staged)).await
            }
            Body::Staged(_) | Body::Memory { .. } => Err(misplaced(&id)),
        };
        if let Err(error) = named {
            let refusal =
                if error.kind.is_full() { Refusal::DiskFull(error) } else { Refusal::Disk(error) };
            refuse(std::iter::once(reply), &refusal);
            self.ring.forget_object(id);
            return Ok(());
        }
        self.pool.lock().insert(id, place.record_bytes(), place.version.time);
        self.view.insert(segment.into());
        // What a peer sent is nobody's put, also where this node had given it out itself.
        if !matches!(origin, Origin::Peer(_)) && !origin.is_replica(self.node) {
            self.fresh.push_back((id, self.steady_ms()));
        }
        let (replica, copied_from) = (origin.is_replica(self.node), origin.copied_from());
        let written =
            Written { place, address, replica, copied_from, replaces, reply, _body: Some(body) };
        let end = place.offset + place.record_bytes();
        self.finish((id, end), vec![written], &Known::new()).await;
        Ok(())
    }

    /// Step 2. After an error nothing of it is there under its name, or `recovery` finds it whole.
    async fn name_object(
        &mut self,
        segment: &Segment,
        place: &Place,
        (header, staged): (Bytes, &StagedFile),
    ) -> Result<(), DiskError> {
        let first_offset = u32::try_from(place.offset).expect("headers are shorter than 4 GiB");
        let head = SegmentHeader {
            id: segment.id,
            nonce: segment.nonce,
            base_sequence: place.sequence,
            age: place.version.time,
            flow: Flow::Live,
            first_offset,
        };
        let dir = segment_dir(segment.id);
        if self.pool_dirs.insert(dir.as_str().to_owned()) {
            let made = self.env.disk.mkdir(&dir).await;
            let synced = match made {
                Ok(()) => self.env.disk.sync_dir(&DiskPath::new(Area::Pool.dir())).await,
                Err(error) => Err(error),
            };
            if let Err(error) = synced {
                self.pool_dirs.remove(dir.as_str());
                return Err(error);
            }
        }
        let file = staged.file();
        file.write_at(0, Bytes::from(head.encode())).await?;
        file.write_at(place.offset, header).await?;
        file.sync_data().await?;
        let path = segment_path(segment.id);
        self.env.disk.rename(staged.path(), &path).await?;
        let named = self.env.disk.sync_dir(&dir).await;
        let opened = match named {
            // It may have been copied.
            Ok(()) if self.config.staging_elsewhere => self.env.disk.open(&path).await,
            Ok(()) => Ok(file.clone()),
            Err(error) => Err(error),
        };
        let file = match opened {
            Ok(file) => file,
            Err(error) => {
                // Whether the name survives is unknown; so that nobody is told both, it goes.
                if let Err(error) = self.env.disk.unlink(&path).await {
                    tracing::warn!(object = %segment.id, %error, "it is removed a little later");
                    self.measure(segment, &**file).await;
                    self.debts.push_back(Debt::of(segment.id));
                }
                return Err(error);
            }
        };
        if let Err(error) = file.freeze().await {
            self.metrics.store.freezes_failed.inc();
            tracing::warn!(object = %segment.id, %error, "a large object is read without a mapping");
        }
        self.measure(segment, &*file).await;
        Ok(())
    }

    /// Step 1.
    async fn make_room_in_pool(
        &mut self,
        record_bytes: u64,
        publish: &Publish,
    ) -> Result<(), Refusal> {
        let limit_bytes = self.capacity.pool_bytes;
        let grace_ms = self.promise_rules().write_grace_ms;
        let now_ms = self.steady_ms();
        while self.fresh.front().is_some_and(|(_, at_ms)| at_ms.saturating_add(grace_ms) <= now_ms)
        {
            self.fresh.pop_front();
        }
        let victims = self.pool_victims(record_bytes, limit_bytes);
        let Some(victims) = victims else {
            self.metrics.store.turns_held.inc();
            return Err(Refusal::Promised { for_seconds: self.config.promise.as_secs().max(1) });
        };
        // What replaces an older version is never too old: left out, the older one would stay.
        if let (Origin::Peer(version), None) = (publish.origin, publish.replaces) {
            let pool = self.pool.lock();
            let is_younger = |id: &SegmentId| pool.used(*id).is_some_and(|it| it >= version.time);
            if victims.iter().any(is_younger) {
                self.metrics.store.replicas_too_old.inc();
                return Err(Refusal::TooOld);
            }
        }
        for victim in victims {
            self.evict_object(victim).await?;
        }
        self.find_space(Area::Blobs, record_bytes).await
    }

    fn pool_victims(&self, incoming_bytes: u64, limit_bytes: u64) -> Option<Vec<SegmentId>> {
        let (rules, now_ms) = (self.promise_rules(), self.steady_ms());
        let fresh: BTreeMap<SegmentId, u64> = self.fresh.iter().copied().collect();
        let is_held = |id: SegmentId| {
            let written_ms = fresh.get(&id).copied().unwrap_or(0);
            rules.hold(now_ms, self.ring.promised_until_ms(id), written_ms) != Hold::Free
        };
        self.pool.lock().victims(incoming_bytes, limit_bytes, is_held)
    }

    /// Gives up the object used longest ago, for space. Whether there was one that may go.
    pub(super) async fn give_up_object(&mut self) -> Result<bool, Refusal> {
        let Some(victim) = self.next_victim() else { return Ok(false) };
        self.evict_object(victim).await?;
        self.metrics.store.evicted_for_space.inc();
        Ok(true)
    }

    /// Whether the object that goes next is one that the device could not read at the start.
    pub(super) fn next_is_unread(&self) -> bool {
        self.next_victim().is_some_and(|victim| self.view.segment(victim).is_none())
    }

    fn next_victim(&self) -> Option<SegmentId> {
        let bytes = self.pool.lock().bytes();
        self.pool_victims(0, bytes.saturating_sub(1))?.first().copied()
    }

    async fn evict_object(&mut self, id: SegmentId) -> Result<(), Refusal> {
        self.metrics.store.evicted_objects.inc();
        self.remove_object(id).await
    }

    /// Takes an object out of the pool: readers first, then the file; the rows follow in bounded
    /// steps.
    pub(super) async fn remove_object(&mut self, id: SegmentId) -> Result<(), Refusal> {
        if self.pool.lock().remove(id).is_none() {
            return Ok(()); // it was evicted meanwhile
        }
        self.owners.remove(id);
        self.ring.forget_object(id);
        self.fresh.retain(|(fresh, _)| *fresh != id);
        self.view.remove(id);
        self.debts.push_back(Debt::unlinked(id));
        match self.env.disk.unlink(&segment_path(id)).await {
            Err(error) if error.kind != DiskErrorKind::NotFound => Err(Refusal::Disk(error)),
            Ok(()) | Err(_) => {
                self.books.unlinked(id, &self.view);
                Ok(())
            }
        }
    }
}

/// A body that is as large as this was staged with room for its header, or else by a mistake of ours.
fn misplaced(id: &SegmentId) -> DiskError {
    let text =
        format!("the body has no room for a header of {SEGMENT_HEADER_BYTES} bytes before it");
    let kind = DiskErrorKind::Other { errno: 0, text };
    DiskError { action: "rename", path: segment_path(*id), kind }
}
