//! The bytes of one file: what readers see now, and what would be left of it without power.
//!
//! Large parts are kept as the shared buffers they came in, so that a run may move gigabytes
//! without copying them; small ones are gathered in a tail. Durability is booked by pages of 4096
//! bytes, and only where it costs something: bytes beyond the synced length are dirty by position,
//! so an append books nothing, and only a page that was durable once and then changed keeps its
//! image from before.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use bytes::{Bytes, BytesMut};

use crate::{config::Keep, draw::Draw, fate::Fate};

/// The unit that power loss keeps, drops or tears.
pub(crate) const PAGE_BYTES: u64 = 4096;
/// The unit that a device writes whole.
pub(crate) const SECTOR_BYTES: u64 = 512;
/// Smaller parts are copied into the tail: as buffers of their own they would cost more than that.
const SHARE_BYTES_MIN: usize = 4096;
/// The tail becomes a shared buffer once it is this long.
const TAIL_BYTES_MAX: usize = 64 * 1024;

/// What a sync that has begun will cover once it is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SyncTicket {
    len_bytes: u64,
    epoch: u64,
}

/// A page as it was before a write.
struct Image {
    /// The epoch of the write that replaced it.
    epoch: u64,
    bytes: Bytes,
}

/// The bytes of one file. At all times `synced_len <= covered_len <= len`.
#[derive(Default)]
pub(crate) struct Content {
    /// Disjoint buffers by offset; what lies between them reads as zeros.
    extents: BTreeMap<u64, Bytes>,
    /// The last bytes of the file, behind every extent; empty or ending at `len`.
    tail: Vec<u8>,
    len: u64,
    /// The length that power loss cannot take away.
    synced_len: u64,
    /// The length that the syncs begun so far cover, done or not.
    covered_len: u64,
    /// How many syncs have begun.
    epoch: u64,
    /// For each changed page, oldest first: what it held when a sync that is done, or one that was
    /// running, covered it. The first is what the device holds.
    images: BTreeMap<u64, Vec<Image>>,
    /// Pages that a failed sync left clean in memory and old on the device: what it holds.
    lost: BTreeMap<u64, Bytes>,
}

impl Content {
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Whether power loss could change anything.
    pub(crate) fn is_durable(&self) -> bool {
        self.synced_len == self.len && self.images.is_empty() && self.lost.is_empty()
    }

    pub(crate) fn append(&mut self, part: &Bytes) {
        if part.is_empty() {
            return;
        }
        self.touch(self.len..self.len + size(part.len()));
        if part.len() >= SHARE_BYTES_MIN {
            self.seal_tail();
            self.extents.insert(self.len, part.clone());
        } else {
            self.tail.extend_from_slice(part);
        }
        self.len += size(part.len());
        if self.tail.len() >= TAIL_BYTES_MAX {
            self.seal_tail();
        }
    }

    pub(crate) fn write_at(&mut self, offset: u64, part: &Bytes) {
        if part.is_empty() {
            return;
        }
        if offset == self.len {
            self.append(part);
            return;
        }
        let end = offset + size(part.len());
        // A gap that the write opens within the last page changes that page as well.
        self.touch(offset.min(self.len)..end);
        self.overwrite(offset, part.clone());
    }

    /// Up to `len_bytes` at `offset`, without a copy where one buffer holds them all.
    pub(crate) fn read(&self, offset: u64, len_bytes: u64) -> Bytes {
        let end = offset.saturating_add(len_bytes).min(self.len);
        if offset >= end {
            return Bytes::new();
        }
        let first = self.extents.range(..=offset).next_back();
        if let Some((&at, extent)) = first
            && at + size(extent.len()) >= end
        {
            return extent.slice(index(offset - at)..index(end - at));
        }
        let mut out = BytesMut::zeroed(index(end - offset));
        let mut copy = |at: u64, bytes: &[u8]| {
            let (from, to) = (at.max(offset), (at + size(bytes.len())).min(end));
            if from < to {
                out[index(from - offset)..index(to - offset)]
                    .copy_from_slice(&bytes[index(from - at)..index(to - at)]);
            }
        };
        let from = first.map_or(offset, |(&at, _)| at);
        for (&at, extent) in self.extents.range(from..end) {
            copy(at, extent);
        }
        copy(self.tail_at(), &self.tail);
        out.freeze()
    }

    /// A sync begins: it will cover what is here now, and nothing later.
    pub(crate) fn begin_sync(&mut self) -> SyncTicket {
        let ticket = SyncTicket { len_bytes: self.len, epoch: self.epoch };
        self.epoch += 1;
        self.covered_len = self.len;
        ticket
    }

    pub(crate) fn complete_sync(&mut self, ticket: SyncTicket) {
        self.synced_len = self.synced_len.max(ticket.len_bytes);
        self.images.retain(|_, images| {
            images.retain(|image| image.epoch > ticket.epoch);
            !images.is_empty()
        });
    }

    /// A sync fails as it does on Linux: its pages count as clean from now on, though the device
    /// never got them, so that no later sync writes them unless they are written again.
    pub(crate) fn fail_sync(&mut self, ticket: SyncTicket) {
        let fresh = self.synced_len / PAGE_BYTES..ticket.len_bytes.div_ceil(PAGE_BYTES);
        let fresh = if self.synced_len < ticket.len_bytes { fresh } else { 0..0 };
        let changed = self.images.keys().copied();
        let pages: BTreeSet<u64> = changed.chain(fresh).collect();
        for page in pages {
            let durable = self.durable_page(page);
            match self.images.get_mut(&page) {
                // Written again since this sync began: still dirty, and over the same old image.
                Some(images) if images.iter().any(|image| image.epoch > ticket.epoch) => {
                    images.retain(|image| image.epoch > ticket.epoch);
                    images[0].bytes = durable;
                }
                Some(_) | None => {
                    self.images.remove(&page);
                    self.lost.insert(page, durable);
                }
            }
        }
    }

    /// The pages of `range` never reach the device, as where it had no block for them: from now on
    /// they count as clean, as after a failed sync.
    pub(crate) fn lose(&mut self, range: Range<u64>) {
        for page in range.start / PAGE_BYTES..range.end.min(self.len).div_ceil(PAGE_BYTES) {
            let durable = self.durable_page(page);
            self.images.remove(&page);
            self.lost.insert(page, durable);
        }
    }

    /// Replaces everything, as a file opened with truncation.
    pub(crate) fn replace(&mut self, bytes: &Bytes) {
        *self = Self::default();
        self.append(bytes);
    }

    /// Changes one byte, in memory and on the device alike.
    pub(crate) fn rot(&mut self, offset: u64, byte: u8) {
        self.overwrite(offset, Bytes::copy_from_slice(&[byte]));
    }

    /// Everything here is on the device.
    pub(crate) fn settle(&mut self) {
        (self.synced_len, self.covered_len) = (self.len, self.len);
        self.images.clear();
        self.lost.clear();
    }

    /// Power is lost: what is left afterwards is what the device held. Draws nothing for a file
    /// that was durable.
    pub(crate) fn lose_power(&mut self, keep: Keep, draw: &mut Draw) {
        if self.is_durable() {
            return;
        }
        self.seal_tail();
        let new_len = match keep {
            Keep::Nothing => self.synced_len,
            Keep::Everything => self.len,
            Keep::Sampled => self.sampled_len(draw),
        };
        let bias = draw.below(5);
        let first_fresh = self.synced_len / PAGE_BYTES;
        let fresh = if keep == Keep::Sampled && new_len > self.synced_len {
            first_fresh..new_len.div_ceil(PAGE_BYTES)
        } else {
            0..0
        };
        let pages: BTreeSet<u64> =
            self.images.keys().chain(self.lost.keys()).copied().chain(fresh).collect();
        for page in pages {
            let fate = match keep {
                Keep::Nothing => Fate::Dropped,
                Keep::Everything => Fate::Kept,
                Keep::Sampled => Fate::sampled(bias, draw),
            };
            let fate = if self.lost.contains_key(&page) { Fate::Dropped } else { fate };
            self.apply_fate(page, fate);
        }
        self.truncate(new_len);
        self.settle();
    }

    fn sampled_len(&self, draw: &mut Draw) -> u64 {
        let grown = self.len - self.synced_len;
        match draw.below(4) {
            0 => self.synced_len,
            1 => self.len,
            2 => self.synced_len + draw.below(grown + 1),
            // Where a page ends, as write-back by pages leaves it.
            _ => {
                let at = self.synced_len + draw.below(grown + 1);
                (at - at % PAGE_BYTES).max(self.synced_len)
            }
        }
    }

    fn apply_fate(&mut self, page: u64, fate: Fate) {
        let at = page * PAGE_BYTES;
        let kept_sectors = match fate {
            Fate::Kept => return,
            Fate::Dropped => 0,
            Fate::Torn { sectors } => sectors,
        };
        let durable = self.durable_page(page);
        if kept_sectors == 0 && durable.is_empty() {
            self.punch(at..at + PAGE_BYTES);
            return;
        }
        let mut merged = BytesMut::zeroed(index(PAGE_BYTES));
        merged[..durable.len()].copy_from_slice(&durable);
        let new = self.read(at, PAGE_BYTES);
        for sector in 0..PAGE_BYTES / SECTOR_BYTES {
            let from = index(sector * SECTOR_BYTES);
            let to = index((sector + 1) * SECTOR_BYTES).min(new.len());
            if (kept_sectors >> sector) & 1 == 1 && from < to {
                merged[from..to].copy_from_slice(&new[from..to]);
            }
        }
        let end = (at + PAGE_BYTES).min(self.len);
        self.overwrite(at, merged.freeze().slice(..index(end - at)));
    }

    /// What the device holds of a page; shorter than a page where its synced length ends.
    fn durable_page(&self, page: u64) -> Bytes {
        if let Some(bytes) = self.lost.get(&page) {
            return bytes.clone();
        }
        if let Some(image) = self.images.get(&page).and_then(|images| images.first()) {
            return image.bytes.clone();
        }
        let at = page * PAGE_BYTES;
        self.read(at, self.synced_len.saturating_sub(at).min(PAGE_BYTES))
    }

    /// Books that `range` is about to change.
    fn touch(&mut self, range: Range<u64>) {
        let pages = range.start / PAGE_BYTES..range.end.div_ceil(PAGE_BYTES);
        if !self.lost.is_empty() {
            let again: Vec<u64> = self.lost.range(pages.clone()).map(|(&page, _)| page).collect();
            for page in again {
                if let Some(bytes) = self.lost.remove(&page) {
                    let image = Image { epoch: self.epoch, bytes };
                    self.images.insert(page, vec![image]);
                }
            }
        }
        // An append leaves the bytes before it alone, and so the covered ones.
        if range.start >= self.covered_len {
            return;
        }
        for page in pages.start..pages.end.min(self.covered_len.div_ceil(PAGE_BYTES)) {
            let newest = self.images.get(&page).and_then(|images| images.last());
            if newest.is_none_or(|image| image.epoch < self.epoch) {
                let at = page * PAGE_BYTES;
                // What a sync covered, done or running, and no more: the rest is new.
                let bytes = self.read(at, (self.covered_len - at).min(PAGE_BYTES));
                self.images.entry(page).or_default().push(Image { epoch: self.epoch, bytes });
            }
        }
    }

    fn overwrite(&mut self, offset: u64, bytes: Bytes) {
        let end = offset + size(bytes.len());
        self.seal_tail();
        self.punch(offset..end);
        self.extents.insert(offset, bytes);
        self.len = self.len.max(end);
    }

    /// Makes a hole: `range` reads as zeros.
    fn punch(&mut self, range: Range<u64>) {
        let first = self.extents.range(..range.start).next_back().map(|(&at, _)| at);
        let from = first.unwrap_or(range.start);
        let hit: Vec<u64> = self.extents.range(from..range.end).map(|(&at, _)| at).collect();
        for at in hit {
            let Some(extent) = self.extents.remove(&at) else { continue };
            let end = at + size(extent.len());
            if at < range.start {
                let head = extent.slice(..index(range.start.min(end) - at));
                self.extents.insert(at, head);
            }
            if end > range.end {
                self.extents.insert(range.end, extent.slice(index(range.end - at)..));
            }
        }
    }

    fn truncate(&mut self, len: u64) {
        if len < self.len {
            self.seal_tail();
            self.punch(len..self.len);
            self.len = len;
        }
    }

    fn tail_at(&self) -> u64 {
        self.len - size(self.tail.len())
    }

    fn seal_tail(&mut self) {
        if !self.tail.is_empty() {
            let at = self.tail_at();
            self.extents.insert(at, Bytes::from(std::mem::take(&mut self.tail).into_boxed_slice()));
        }
    }
}

/// A length in memory as one on disk.
pub(crate) fn size(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// An offset into a buffer in memory.
///
/// # Panics
///
/// Where memory is smaller than the offset, which a buffer that exists rules out.
pub(crate) fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("an offset into a buffer in memory fits a usize")
}
