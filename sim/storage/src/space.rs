//! Space: who holds how many blocks, kept in step with every change, so that nobody has to walk the
//! files to know.

use std::ops::Range;

use kura_env::{DiskErrorKind, DiskPath, Space};

use crate::{
    names::{DirId, FileId},
    volume::Volume,
};

/// Files and bytes of one directory, without those below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirUsage {
    /// How many files it names.
    pub files: u64,
    /// The sum of their lengths.
    pub len_bytes: u64,
    /// The sum of the blocks that they hold.
    pub allocated_bytes: u64,
}

/// What may still be taken.
pub(crate) struct Room {
    pub(crate) blocks: u64,
    /// What whoever wants more is told.
    pub(crate) beyond: DiskErrorKind,
}

impl Volume {
    pub(crate) fn space(&self) -> Space {
        let taken = self.used_blocks + self.foreign_blocks;
        let (mut total, mut available) = (self.block_count, self.block_count.saturating_sub(taken));
        if let Some(quota) = self.quota_blocks.filter(|_| self.quota_is_told) {
            total = total.min(quota);
            available = available.min(quota.saturating_sub(self.used_blocks));
        }
        Space {
            total_bytes: total * self.block_bytes,
            available_bytes: available * self.block_bytes,
            block_bytes: self.block_bytes,
        }
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        self.used_blocks * self.block_bytes
    }

    pub(crate) fn set_quota_bytes(&mut self, bytes: Option<u64>) {
        self.quota_blocks = bytes.map(|bytes| bytes / self.block_bytes);
    }

    pub(crate) fn set_foreign_bytes(&mut self, bytes: u64) {
        self.fixed_blocks = bytes.div_ceil(self.block_bytes);
        self.foreign_blocks = self.fixed_blocks;
    }

    /// Co-tenants want so much beside what is fixed, and get it as far as there is room.
    pub(crate) fn set_tenant_bytes(&mut self, bytes: u64) {
        let found = self.used_blocks - self.writeback.blocks;
        let room = self.block_count.saturating_sub(found + self.fixed_blocks);
        let held = bytes.div_ceil(self.block_bytes).min(room);
        self.foreign_blocks = self.fixed_blocks + held;
        if held > 0 && self.ghost_blocks > room - held {
            let gone = self.names.commit_all();
            self.bury(gone);
        }
    }

    /// What others hold.
    pub(crate) fn foreign_bytes(&self) -> u64 {
        self.foreign_blocks * self.block_bytes
    }

    pub(crate) fn named_bytes(&self) -> u64 {
        self.named_blocks * self.block_bytes
    }

    pub(crate) fn open_unlinked_bytes(&self) -> u64 {
        (self.used_blocks - self.names.dir_count() - self.named_blocks) * self.block_bytes
    }

    pub(crate) fn usage(&self, path: &DiskPath) -> Option<DirUsage> {
        let dir = self.names.dir(path).ok()?;
        Some(self.usage.get(&dir).copied().unwrap_or_default())
    }

    pub(crate) fn allocated_bytes(&self, id: FileId) -> u64 {
        self.file(id).blocks.count() * self.block_bytes
    }

    /// Reserves the blocks of a byte range; tells how many bytes from its start are covered, and
    /// what stood in the way of more.
    pub(crate) fn take(&mut self, id: FileId, bytes: Range<u64>) -> (u64, DiskErrorKind) {
        let range = self.blocks_of(&bytes);
        let missing = self.file(id).blocks.missing(&range);
        let room = self.room(missing);
        let free = room.blocks;
        let file = self.file_mut(id);
        let end =
            if missing <= free { range.end } else { file.blocks.affordable_end(&range, free) };
        let added = file.blocks.insert(&(range.start..end));
        self.account_blocks(id, i128::from(added));
        let covered = bytes.end.min(end * self.block_bytes).saturating_sub(bytes.start);
        (covered, room.beyond)
    }

    /// The blocks that a byte range touches.
    pub(crate) fn blocks_of(&self, bytes: &Range<u64>) -> Range<u64> {
        let start = bytes.start / self.block_bytes;
        if bytes.is_empty() {
            return start..start;
        }
        start..bytes.end.div_ceil(self.block_bytes)
    }

    /// How many blocks may be taken by somebody who wants `wanted`. The quota is asked first, as
    /// on Linux, so whoever meets both limits is told of the quota.
    pub(crate) fn room(&mut self, wanted: u64) -> Room {
        let found = self.used_blocks - self.writeback.blocks;
        let taken = found + self.foreign_blocks;
        if self.block_count.saturating_sub(taken + self.ghost_blocks) < wanted {
            let gone = self.names.commit_all();
            self.bury(gone);
        }
        let free = self.block_count.saturating_sub(taken);
        let allowed = self.quota_blocks.map_or(u64::MAX, |quota| quota.saturating_sub(found));
        let beyond = if allowed < wanted { DiskErrorKind::Quota } else { DiskErrorKind::NoSpace };
        Room { blocks: free.min(allowed), beyond }
    }

    pub(crate) fn usage_mut(&mut self, id: FileId) -> Option<&mut DirUsage> {
        let home = self.files.get(&id)?.home?;
        Some(self.usage.entry(home).or_default())
    }

    pub(crate) fn account_len(&mut self, id: FileId, grown: u64) {
        if let Some(usage) = self.usage_mut(id) {
            usage.len_bytes += grown;
        }
    }

    pub(crate) fn account_len_down(&mut self, id: FileId, shrunk: u64) {
        if let Some(usage) = self.usage_mut(id) {
            usage.len_bytes -= shrunk;
        }
    }

    pub(crate) fn account_blocks(&mut self, id: FileId, change: i128) {
        let block_bytes = i128::from(self.block_bytes);
        self.used_blocks = shifted(self.used_blocks, change);
        if self.file(id).home.is_some() {
            self.named_blocks = shifted(self.named_blocks, change);
        }
        if let Some(usage) = self.usage_mut(id) {
            usage.allocated_bytes = shifted(usage.allocated_bytes, change * block_bytes);
        }
    }

    pub(crate) fn set_home(&mut self, id: FileId, home: Option<DirId>) {
        let file = self.file(id);
        let was_ghost = file.is_ghost();
        let (len, blocks) = (file.content.len(), file.blocks.count());
        let allocated = blocks * self.block_bytes;
        self.named_blocks -= if file.home.is_some() { blocks } else { 0 };
        self.named_blocks += if home.is_some() { blocks } else { 0 };
        if let Some(usage) = self.usage_mut(id) {
            usage.files -= 1;
            usage.len_bytes -= len;
            usage.allocated_bytes -= allocated;
        }
        self.file_mut(id).home = home;
        if let Some(usage) = self.usage_mut(id) {
            usage.files += 1;
            usage.len_bytes += len;
            usage.allocated_bytes += allocated;
        }
        self.recount(id, was_ghost);
    }

    /// Moves the blocks of a file between those in use and those of ghosts, and lets go of a file
    /// that nothing can bring back.
    pub(crate) fn recount(&mut self, id: FileId, was_ghost: bool) {
        let file = self.file(id);
        let (is_ghost, blocks) = (file.is_ghost(), file.blocks.count());
        match (was_ghost, is_ghost) {
            (false, true) => {
                self.used_blocks -= blocks;
                let never_found = self.abandon(id);
                self.ghost_blocks += blocks - never_found;
            }
            (true, false) => {
                self.ghost_blocks -= blocks;
                self.used_blocks += blocks;
            }
            (true, true) | (false, false) => {}
        }
        if is_ghost && was_ghost != is_ghost && !self.names.is_mentioned(id) {
            self.bury(vec![id]);
        }
    }

    /// Lets go of those among `gone` that are ghosts: no durable name and no pending change
    /// mentions them any more.
    pub(crate) fn bury(&mut self, gone: Vec<FileId>) {
        for id in gone {
            let Some(file) = self.files.get(&id) else { continue };
            if file.is_ghost() && !self.names.is_mentioned(id) {
                self.ghost_blocks -= file.blocks.count();
                self.files.remove(&id);
            }
        }
    }
}

fn shifted(value: u64, change: i128) -> u64 {
    u64::try_from(i128::from(value) + change).expect("what is freed was counted before")
}
