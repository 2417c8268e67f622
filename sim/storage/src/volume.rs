//! The file system of the device: names, files and space, without time and without callers.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use bytes::Bytes;
use kura_env::{DirEntry, DiskErrorKind, DiskPath, FileKind, Instant, Space};

use crate::{
    blocks::Blocks,
    config::{Keep, SimDiskConfig},
    content::{Content, SyncTicket, size},
    draw::Draw,
    names::{DirId, Entry, FileId, Names, ROOT, is_a_directory},
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

/// A file that has a name, a handle, or could come back after power loss.
pub(crate) struct FileNode {
    pub(crate) content: Content,
    blocks: Blocks,
    /// The blocks that a sync covered, reserved ones among them.
    synced_blocks: Blocks,
    /// Open handles.
    opens: u32,
    /// Where its name stands, while it has one.
    home: Option<DirId>,
    /// No write may follow.
    frozen: bool,
    /// When the last byte written reaches the device.
    pub(crate) on_device: Instant,
}

impl FileNode {
    /// Without a name and a handle: only power loss could bring it back.
    fn is_ghost(&self) -> bool {
        self.opens == 0 && self.home.is_none()
    }
}

/// What a sync of a file that has begun will cover.
pub(crate) struct FileSync {
    content: SyncTicket,
    blocks: Blocks,
}

/// The file system.
pub(crate) struct Volume {
    block_bytes: u64,
    block_count: u64,
    pub(crate) names: Names,
    files: BTreeMap<FileId, FileNode>,
    usage: BTreeMap<DirId, DirUsage>,
    next_file: u64,
    /// Blocks of files that have a name or a handle.
    used_blocks: u64,
    /// Blocks of files that have a name.
    named_blocks: u64,
    /// Blocks of files that have neither. They count as free, but must not be overwritten while
    /// power loss could bring the file back: who needs them makes the journal commit.
    ghost_blocks: u64,
    /// Blocks that others on the same file system hold.
    foreign_blocks: u64,
}

impl Volume {
    pub(crate) fn new(config: &SimDiskConfig) -> Self {
        assert!(
            config.block_bytes.is_power_of_two() && config.block_bytes >= 512,
            "a block is a power of two of at least 512 bytes"
        );
        Self {
            block_bytes: config.block_bytes,
            block_count: config.capacity_bytes / config.block_bytes,
            names: Names::new(),
            files: BTreeMap::new(),
            usage: BTreeMap::new(),
            next_file: 0,
            used_blocks: 1,
            named_blocks: 0,
            ghost_blocks: 0,
            foreign_blocks: 0,
        }
    }

    // Names.

    pub(crate) fn create(&mut self, at: Instant, path: &DiskPath) -> Result<FileId, DiskErrorKind> {
        let slot = self.names.slot(path)?;
        if self.names.get(&slot).is_some() {
            return Err(DiskErrorKind::AlreadyExists);
        }
        let id = FileId(self.next_file);
        self.next_file += 1;
        let node = FileNode {
            content: Content::default(),
            blocks: Blocks::default(),
            synced_blocks: Blocks::default(),
            opens: 0,
            home: None,
            frozen: false,
            on_device: Instant(0),
        };
        self.files.insert(id, node);
        self.set_home(id, Some(slot.0));
        let gone = self.names.change(at, vec![(slot, Some(Entry::File(id)))]);
        self.bury(gone);
        Ok(id)
    }

    pub(crate) fn mkdir(&mut self, at: Instant, path: &DiskPath) -> Result<(), DiskErrorKind> {
        if path.as_str().is_empty() {
            return Ok(());
        }
        let slot = self.names.slot(path)?;
        match self.names.get(&slot) {
            Some(Entry::Dir(_)) => return Ok(()),
            Some(Entry::File(_)) => return Err(DiskErrorKind::AlreadyExists),
            None => {}
        }
        if self.free_for(1) < 1 {
            return Err(DiskErrorKind::NoSpace);
        }
        self.used_blocks += 1;
        let dir = self.names.new_dir();
        let gone = self.names.change(at, vec![(slot, Some(Entry::Dir(dir)))]);
        self.bury(gone);
        Ok(())
    }

    pub(crate) fn rename(
        &mut self,
        at: Instant,
        from: &DiskPath,
        to: &DiskPath,
    ) -> Result<(), DiskErrorKind> {
        let old = self.names.slot(from)?;
        let new = self.names.slot(to)?;
        let entry = self.names.get(&old).ok_or(DiskErrorKind::NotFound)?;
        let replaced = self.names.get(&new);
        if old == new {
            return Ok(());
        }
        match (entry, replaced) {
            (Entry::File(_), Some(Entry::Dir(_))) => return Err(is_a_directory()),
            (Entry::Dir(_), Some(_)) => return Err(DiskErrorKind::AlreadyExists),
            (Entry::Dir(_), None) if to.as_str().starts_with(&format!("{from}/")) => {
                return Err(DiskErrorKind::Other { errno: 22, text: "into itself".to_owned() });
            }
            (Entry::Dir(_) | Entry::File(_), None) | (Entry::File(_), Some(Entry::File(_))) => {}
        }
        let home = new.0;
        let gone = self.names.change(at, vec![(old, None), (new, Some(entry))]);
        if let Some(Entry::File(victim)) = replaced {
            self.set_home(victim, None);
        }
        if let Entry::File(moved) = entry {
            self.set_home(moved, Some(home));
        }
        self.bury(gone);
        Ok(())
    }

    pub(crate) fn unlink(&mut self, at: Instant, path: &DiskPath) -> Result<(), DiskErrorKind> {
        let id = self.names.file(path)?;
        let slot = self.names.slot(path)?;
        let gone = self.names.change(at, vec![(slot, None)]);
        self.set_home(id, None);
        self.bury(gone);
        Ok(())
    }

    pub(crate) fn list(&self, path: &DiskPath) -> Result<Vec<DirEntry>, DiskErrorKind> {
        let dir = self.names.dir(path)?;
        let entry = |(name, entry): (&str, Entry)| {
            let (kind, len_bytes, allocated_bytes) = match entry {
                Entry::Dir(_) => (FileKind::Directory, 0, self.block_bytes),
                Entry::File(id) => {
                    (FileKind::File, self.files[&id].content.len(), self.allocated_bytes(id))
                }
            };
            DirEntry { name: name.to_owned(), kind, len_bytes, allocated_bytes }
        };
        Ok(self.names.entries(dir).map(entry).collect())
    }

    pub(crate) fn sync_dir(&mut self, dir: DirId, last_change: u64) {
        let gone = self.names.sync(dir, last_change);
        self.bury(gone);
    }

    /// What the journal commits by itself because it is older than `before`.
    pub(crate) fn age(&mut self, before: Instant) {
        let gone = self.names.commit_older(before);
        self.bury(gone);
    }

    // Handles.

    pub(crate) fn open(&mut self, id: FileId) {
        let was_ghost = self.file(id).is_ghost();
        self.file_mut(id).opens += 1;
        self.recount(id, was_ghost);
    }

    pub(crate) fn close(&mut self, id: FileId) {
        let was_ghost = self.file(id).is_ghost();
        self.file_mut(id).opens -= 1;
        self.recount(id, was_ghost);
    }

    pub(crate) fn file(&self, id: FileId) -> &FileNode {
        self.files.get(&id).expect("a file lives as long as a name or a handle refers to it")
    }

    pub(crate) fn file_mut(&mut self, id: FileId) -> &mut FileNode {
        self.files.get_mut(&id).expect("a file lives as long as a name or a handle refers to it")
    }

    // Bytes.

    /// Appends as much of `parts` as there is room for.
    pub(crate) fn append(&mut self, id: FileId, parts: &[Bytes]) -> Result<(), DiskErrorKind> {
        let offset = self.file(id).content.len();
        let wanted: u64 = parts.iter().map(|part| size(part.len())).sum();
        let granted = self.take(id, offset..offset + wanted);
        let mut left = granted;
        let file = self.file_mut(id);
        for part in parts {
            let len = size(part.len()).min(left);
            file.content.append(&part.slice(..crate::content::index(len)));
            left -= len;
        }
        self.account_len(id, granted);
        if granted < wanted { Err(DiskErrorKind::NoSpace) } else { Ok(()) }
    }

    /// Writes as much of `part` as there is room for.
    pub(crate) fn write_at(
        &mut self,
        id: FileId,
        offset: u64,
        part: &Bytes,
    ) -> Result<(), DiskErrorKind> {
        let wanted = size(part.len());
        let granted = self.take(id, offset..offset + wanted);
        let file = self.file_mut(id);
        let before = file.content.len();
        file.content.write_at(offset, &part.slice(..crate::content::index(granted)));
        let grown = file.content.len() - before;
        self.account_len(id, grown);
        if granted < wanted { Err(DiskErrorKind::NoSpace) } else { Ok(()) }
    }

    pub(crate) fn allocate(&mut self, id: FileId, len_bytes: u64) -> Result<(), DiskErrorKind> {
        let range = 0..len_bytes.div_ceil(self.block_bytes);
        let missing = self.file(id).blocks.missing(&range);
        if missing > self.free_for(missing) {
            return Err(DiskErrorKind::NoSpace);
        }
        let added = self.file_mut(id).blocks.insert(&range);
        self.account_blocks(id, i128::from(added));
        Ok(())
    }

    pub(crate) fn freeze(&mut self, id: FileId) {
        let keep = self.file(id).content.len().div_ceil(self.block_bytes);
        let file = self.file_mut(id);
        file.frozen = true;
        let freed = file.blocks.truncate(keep);
        // Somebody else may take these blocks at once, so they do not come back after power loss.
        file.synced_blocks.truncate(keep);
        self.account_blocks(id, -i128::from(freed));
    }

    /// # Panics
    ///
    /// If the file was frozen: the caller broke its promise.
    pub(crate) fn assert_not_frozen(&self, id: FileId, path: &DiskPath) {
        assert!(!self.file(id).frozen, "{path} was promised not to change any more");
    }

    pub(crate) fn begin_sync(&mut self, id: FileId) -> FileSync {
        let file = self.file_mut(id);
        FileSync { content: file.content.begin_sync(), blocks: file.blocks.clone() }
    }

    pub(crate) fn complete_sync(&mut self, id: FileId, sync: FileSync) {
        let file = self.file_mut(id);
        file.content.complete_sync(sync.content);
        file.synced_blocks = sync.blocks;
    }

    pub(crate) fn fail_sync(&mut self, id: FileId, sync: &FileSync) {
        self.file_mut(id).content.fail_sync(sync.content);
    }

    /// Puts the text of a lock's holder into its file, as far as there is room.
    pub(crate) fn replace(&mut self, id: FileId, bytes: &Bytes) {
        let granted = self.take(id, 0..size(bytes.len()));
        let before = self.file(id).content.len();
        self.account_len_down(id, before);
        let granted = bytes.slice(..crate::content::index(granted));
        self.file_mut(id).content.replace(&granted);
        self.account_len(id, size(granted.len()));
    }

    /// Everything of this file, and every name, is durable.
    pub(crate) fn settle(&mut self, id: FileId) {
        let gone = self.names.commit_all();
        self.bury(gone);
        let file = self.file_mut(id);
        file.content.settle();
        file.synced_blocks = file.blocks.clone();
    }

    // Space.

    pub(crate) fn space(&self) -> Space {
        let taken = self.used_blocks + self.foreign_blocks;
        Space {
            total_bytes: self.block_count * self.block_bytes,
            available_bytes: self.block_count.saturating_sub(taken) * self.block_bytes,
            block_bytes: self.block_bytes,
        }
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        self.used_blocks * self.block_bytes
    }

    pub(crate) fn set_foreign_bytes(&mut self, bytes: u64) {
        self.foreign_blocks = bytes.div_ceil(self.block_bytes);
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

    /// Reserves the blocks of a byte range; tells how many bytes from its start are covered.
    fn take(&mut self, id: FileId, bytes: Range<u64>) -> u64 {
        if bytes.is_empty() {
            return 0;
        }
        let range = bytes.start / self.block_bytes..bytes.end.div_ceil(self.block_bytes);
        let missing = self.file(id).blocks.missing(&range);
        let free = self.free_for(missing);
        let file = self.file_mut(id);
        let end =
            if missing <= free { range.end } else { file.blocks.affordable_end(&range, free) };
        let added = file.blocks.insert(&(range.start..end));
        self.account_blocks(id, i128::from(added));
        bytes.end.min(end * self.block_bytes).saturating_sub(bytes.start)
    }

    /// How many blocks may be taken by somebody who wants `wanted`.
    fn free_for(&mut self, wanted: u64) -> u64 {
        let taken = self.used_blocks + self.foreign_blocks;
        if self.block_count.saturating_sub(taken + self.ghost_blocks) < wanted {
            let gone = self.names.commit_all();
            self.bury(gone);
        }
        self.block_count.saturating_sub(taken)
    }

    // Books.

    fn usage_mut(&mut self, id: FileId) -> Option<&mut DirUsage> {
        let home = self.files.get(&id)?.home?;
        Some(self.usage.entry(home).or_default())
    }

    fn account_len(&mut self, id: FileId, grown: u64) {
        if let Some(usage) = self.usage_mut(id) {
            usage.len_bytes += grown;
        }
    }

    fn account_len_down(&mut self, id: FileId, shrunk: u64) {
        if let Some(usage) = self.usage_mut(id) {
            usage.len_bytes -= shrunk;
        }
    }

    fn account_blocks(&mut self, id: FileId, change: i128) {
        let block_bytes = i128::from(self.block_bytes);
        self.used_blocks = shifted(self.used_blocks, change);
        if self.file(id).home.is_some() {
            self.named_blocks = shifted(self.named_blocks, change);
        }
        if let Some(usage) = self.usage_mut(id) {
            usage.allocated_bytes = shifted(usage.allocated_bytes, change * block_bytes);
        }
    }

    fn set_home(&mut self, id: FileId, home: Option<DirId>) {
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
    fn recount(&mut self, id: FileId, was_ghost: bool) {
        let file = self.file(id);
        let (is_ghost, blocks) = (file.is_ghost(), file.blocks.count());
        match (was_ghost, is_ghost) {
            (false, true) => {
                self.used_blocks -= blocks;
                self.ghost_blocks += blocks;
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
    fn bury(&mut self, gone: Vec<FileId>) {
        for id in gone {
            let Some(file) = self.files.get(&id) else { continue };
            if file.is_ghost() && !self.names.is_mentioned(id) {
                self.ghost_blocks -= file.blocks.count();
                self.files.remove(&id);
            }
        }
    }

    // Crashes.

    /// Every handle is gone. What has neither a name nor could come back is gone as well.
    pub(crate) fn close_all(&mut self) {
        let ids: Vec<FileId> = self.files.keys().copied().collect();
        for id in ids {
            let was_ghost = self.file(id).is_ghost();
            let file = self.file_mut(id);
            file.opens = 0;
            file.frozen = false;
            self.recount(id, was_ghost);
        }
    }

    /// Power is lost. Every handle must be closed before.
    pub(crate) fn lose_power(&mut self, keep: Keep, draw: &mut Draw) {
        let homes = self.names.lose_power(keep, draw);
        let block_bytes = self.block_bytes;
        self.files.retain(|id, _| homes.contains_key(id));
        self.usage.clear();
        self.ghost_blocks = 0;
        self.named_blocks = 0;
        for (id, file) in &mut self.files {
            file.content.lose_power(keep, draw);
            file.on_device = Instant(0);
            let blocks_are_new = match keep {
                Keep::Nothing => false,
                Keep::Everything => true,
                Keep::Sampled => draw.coin(),
            };
            if !blocks_are_new {
                // What is reserved may be lost; what holds bytes is not.
                file.blocks.truncate(file.content.len().div_ceil(block_bytes));
                file.blocks.extend(&file.synced_blocks);
            }
            file.synced_blocks = file.blocks.clone();
            file.home = homes.get(id).copied();
            self.named_blocks += file.blocks.count();
            if let Some(home) = file.home {
                let usage = self.usage.entry(home).or_default();
                usage.files += 1;
                usage.len_bytes += file.content.len();
                usage.allocated_bytes += file.blocks.count() * block_bytes;
            }
        }
        self.used_blocks = self.names.dir_count() + self.named_blocks;
    }

    // Inspection.

    /// Every file with its path, in order of the paths.
    pub(crate) fn walk(&self) -> Vec<(DiskPath, FileId)> {
        let mut found = Vec::new();
        let mut open = vec![(DiskPath::root(), ROOT)];
        let mut seen = BTreeSet::new();
        while let Some((path, dir)) = open.pop() {
            if !seen.insert(dir) {
                continue;
            }
            for (name, entry) in self.names.entries(dir) {
                match entry {
                    Entry::File(id) => found.push((path.join(name), id)),
                    Entry::Dir(below) => open.push((path.join(name), below)),
                }
            }
        }
        found.sort();
        found
    }
}

fn shifted(value: u64, change: i128) -> u64 {
    u64::try_from(i128::from(value) + change).expect("what is freed was counted before")
}
