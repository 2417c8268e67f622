//! Syncs, and delayed allocation: what was written looks for its blocks when it reaches the device, and may
//! find none.
//!
//! Until then its blocks count as held, as `stat` and `statvfs` of Linux count them. What finds none
//! stays in memory as it was written, is never on the device, and makes the next `sync_data` fail:
//! on ext4 over a device that has run full, `write` succeeds, `fdatasync` tells ENOSPC, and the
//! bytes are gone as soon as the page cache lets go of them.

use std::{collections::VecDeque, ops::Range};

use kura_env::{DiskErrorKind, Instant};

use crate::{blocks::Blocks, config::Keep, content::SyncTicket, names::FileId, volume::Volume};

/// What was written and has no blocks yet.
pub(crate) struct Writeback {
    is_delayed: bool,
    /// In the order in which it reaches the device. As long as the device is behind: what may be
    /// written ahead bounds it.
    queue: VecDeque<Pending>,
    /// Taken by the write that is being made, whose time is not known yet.
    fresh: Vec<Range<u64>>,
    /// How many blocks all files together have yet to find.
    pub(crate) blocks: u64,
}

struct Pending {
    on_device: Instant,
    file: FileId,
    blocks: Range<u64>,
}

impl Writeback {
    pub(crate) fn new(is_delayed: bool) -> Self {
        Self { is_delayed, queue: VecDeque::new(), fresh: Vec::new(), blocks: 0 }
    }
}

/// Writes of one file that found no block. A sync that was running when it happened fails, and if
/// none was, the next one; later ones succeed and cover nothing of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Losses {
    pub(crate) count: u64,
    told: u64,
    kind: Option<DiskErrorKind>,
}

impl Losses {
    fn add(&mut self, kind: DiskErrorKind) {
        self.count += 1;
        self.kind = Some(kind);
    }

    /// What a sync is told that began when there had been `before` losses.
    pub(crate) fn tell(&mut self, before: u64) -> Option<DiskErrorKind> {
        let news = self.count > self.told.min(before);
        self.told = self.count;
        self.kind.clone().filter(|_| news)
    }
}

/// What a sync of a file that has begun will cover.
pub(crate) struct FileSync {
    content: SyncTicket,
    blocks: Blocks,
    /// How many losses there were when it began.
    losses: u64,
}

impl Volume {
    pub(crate) fn begin_sync(&mut self, id: FileId) -> FileSync {
        let file = self.file_mut(id);
        let losses = file.losses.count;
        FileSync { content: file.content.begin_sync(), blocks: file.blocks.clone(), losses }
    }

    /// The sync is done, unless a block was not found for what was written: then it fails, once
    /// for each sync that was running and at least once in all.
    pub(crate) fn complete_sync(
        &mut self,
        id: FileId,
        sync: FileSync,
    ) -> Result<(), DiskErrorKind> {
        let file = self.file_mut(id);
        if let Some(kind) = file.losses.tell(sync.losses) {
            file.content.fail_sync(sync.content);
            return Err(kind);
        }
        file.content.complete_sync(sync.content);
        file.synced_blocks = sync.blocks;
        Ok(())
    }

    pub(crate) fn fail_sync(&mut self, id: FileId, sync: &FileSync) {
        self.file_mut(id).content.fail_sync(sync.content);
    }

    /// As `take`, for bytes that a write puts there.
    pub(crate) fn take_for_write(&mut self, id: FileId, bytes: Range<u64>) -> (u64, DiskErrorKind) {
        if !self.writeback.is_delayed {
            return self.take(id, bytes);
        }
        let range = self.blocks_of(&bytes);
        let file = self.file_mut(id);
        let gaps = file.blocks.gaps(&range);
        for gap in &gaps {
            file.delayed.insert(gap);
        }
        let added = file.blocks.insert(&range);
        self.writeback.blocks += added;
        self.writeback.fresh.extend(gaps);
        self.account_blocks(id, i128::from(added));
        (bytes.end - bytes.start, DiskErrorKind::NoSpace)
    }

    /// The write that was made just now reaches the device then.
    pub(crate) fn on_its_way(&mut self, file: FileId, on_device: Instant) {
        for blocks in std::mem::take(&mut self.writeback.fresh) {
            let last = self.writeback.queue.back_mut();
            let joins = |last: &&mut Pending| {
                last.file == file && last.on_device == on_device && last.blocks.end == blocks.start
            };
            match last.filter(joins) {
                Some(last) => last.blocks.end = blocks.end,
                None => self.writeback.queue.push_back(Pending { on_device, file, blocks }),
            }
        }
    }

    /// When the next of what was written reaches the device.
    pub(crate) fn next_on_device(&self) -> Option<Instant> {
        self.writeback.queue.front().map(|first| first.on_device)
    }

    /// Finds blocks for what has reached the device by `now`.
    pub(crate) fn write_back(&mut self, now: Instant) {
        while self.writeback.queue.front().is_some_and(|first| first.on_device <= now) {
            if let Some(first) = self.writeback.queue.pop_front() {
                self.find(first.file, &first.blocks);
            }
        }
    }

    /// Power is lost: what was on its way arrives as far as there is room, or not at all.
    pub(crate) fn end_writeback(&mut self, keep: Keep) {
        match keep {
            Keep::Everything | Keep::Sampled => self.write_back(Instant(u64::MAX)),
            Keep::Nothing => {
                for pending in std::mem::take(&mut self.writeback.queue) {
                    if self.files.contains_key(&pending.file) {
                        self.drop_delayed(pending.file, &pending.blocks);
                    }
                }
            }
        }
    }

    /// Forgets what of this file has no blocks yet, because nobody can read it any more; tells how
    /// many blocks those were. The caller takes them off the sums.
    pub(crate) fn abandon(&mut self, id: FileId) -> u64 {
        let block_bytes = self.block_bytes;
        let file = self.file_mut(id);
        let delayed = std::mem::take(&mut file.delayed);
        for range in delayed.ranges() {
            file.blocks.remove(&range);
            file.content.lose(range.start * block_bytes..range.end * block_bytes);
        }
        self.writeback.blocks -= delayed.count();
        delayed.count()
    }

    fn find(&mut self, id: FileId, range: &Range<u64>) {
        let Some(file) = self.files.get(&id) else { return };
        let wanted = range.end - range.start - file.delayed.missing(range);
        if wanted == 0 {
            return; // the file was given up meanwhile
        }
        let room = self.room(wanted);
        let found = range.start..range.start + wanted.min(room.blocks);
        self.writeback.blocks -= self.file_mut(id).delayed.remove(&found);
        if found.end < range.end {
            self.file_mut(id).losses.add(room.beyond);
            self.drop_delayed(id, &(found.end..range.end));
        }
    }

    fn drop_delayed(&mut self, id: FileId, range: &Range<u64>) {
        let bytes = range.start * self.block_bytes..range.end * self.block_bytes;
        let file = self.file_mut(id);
        let dropped = file.delayed.remove(range);
        if dropped == 0 {
            return;
        }
        file.blocks.remove(range);
        file.content.lose(bytes);
        self.writeback.blocks -= dropped;
        self.account_blocks(id, -i128::from(dropped));
    }
}
