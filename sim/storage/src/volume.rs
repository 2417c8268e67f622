//! The file system of the device: names, files and space, without time and without callers.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kura_env::{DirEntry, DiskErrorKind, DiskPath, FileKind, Instant};

use crate::{
    blocks::Blocks,
    config::{Keep, SimDiskConfig},
    content::{Content, size},
    draw::Draw,
    names::{DirId, Entry, FileId, Names, ROOT, is_a_directory},
    space::DirUsage,
    writeback::{Losses, Writeback},
};

/// A file that has a name, a handle, or could come back after power loss.
pub(crate) struct FileNode {
    pub(crate) content: Content,
    pub(crate) blocks: Blocks,
    /// The blocks that a sync covered, reserved ones among them.
    pub(crate) synced_blocks: Blocks,
    /// Of `blocks`, those that the file system has yet to find.
    pub(crate) delayed: Blocks,
    /// How often a block was not found, why the last time, and how much of that a sync told.
    pub(crate) losses: Losses,
    /// Open handles.
    pub(crate) opens: u32,
    /// Where its name stands, while it has one.
    pub(crate) home: Option<DirId>,
    /// No write may follow.
    pub(crate) frozen: bool,
    /// When the last byte written reaches the device.
    pub(crate) on_device: Instant,
}

impl FileNode {
    /// Without a name and a handle: only power loss could bring it back.
    pub(crate) fn is_ghost(&self) -> bool {
        self.opens == 0 && self.home.is_none()
    }
}

/// The file system.
pub(crate) struct Volume {
    pub(crate) block_bytes: u64,
    pub(crate) block_count: u64,
    pub(crate) names: Names,
    pub(crate) files: BTreeMap<FileId, FileNode>,
    pub(crate) usage: BTreeMap<DirId, DirUsage>,
    pub(crate) next_file: u64,
    /// Blocks of files that have a name or a handle.
    pub(crate) used_blocks: u64,
    /// Blocks of files that have a name.
    pub(crate) named_blocks: u64,
    /// Blocks of files that have neither. They count as free, but must not be overwritten while
    /// power loss could bring the file back: who needs them makes the journal commit.
    pub(crate) ghost_blocks: u64,
    /// Blocks that others on the same file system hold.
    pub(crate) foreign_blocks: u64,
    /// Of those, what does not follow from who they are.
    pub(crate) fixed_blocks: u64,
    /// What the node may hold.
    pub(crate) quota_blocks: Option<u64>,
    pub(crate) quota_is_told: bool,
    pub(crate) writeback: Writeback,
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
            fixed_blocks: 0,
            quota_blocks: config.quota_bytes.map(|bytes| bytes / config.block_bytes),
            quota_is_told: config.quota_is_told,
            writeback: Writeback::new(config.delayed_allocation),
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
            delayed: Blocks::default(),
            losses: Losses::default(),
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
        let room = self.room(1);
        if room.blocks < 1 {
            return Err(room.beyond);
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
        let (granted, beyond) = self.take_for_write(id, offset..offset + wanted);
        let mut left = granted;
        let file = self.file_mut(id);
        for part in parts {
            let len = size(part.len()).min(left);
            file.content.append(&part.slice(..crate::content::index(len)));
            left -= len;
        }
        self.account_len(id, granted);
        if granted < wanted { Err(beyond) } else { Ok(()) }
    }

    /// Writes as much of `part` as there is room for.
    pub(crate) fn write_at(
        &mut self,
        id: FileId,
        offset: u64,
        part: &Bytes,
    ) -> Result<(), DiskErrorKind> {
        let wanted = size(part.len());
        let (granted, beyond) = self.take_for_write(id, offset..offset + wanted);
        let file = self.file_mut(id);
        let before = file.content.len();
        file.content.write_at(offset, &part.slice(..crate::content::index(granted)));
        let grown = file.content.len() - before;
        self.account_len(id, grown);
        if granted < wanted { Err(beyond) } else { Ok(()) }
    }

    pub(crate) fn allocate(&mut self, id: FileId, len_bytes: u64) -> Result<(), DiskErrorKind> {
        let range = 0..len_bytes.div_ceil(self.block_bytes);
        let missing = self.file(id).blocks.missing(&range);
        let room = self.room(missing);
        if missing > room.blocks {
            return Err(room.beyond);
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

    /// Puts the text of a lock's holder into its file, as far as there is room.
    pub(crate) fn replace(&mut self, id: FileId, bytes: &Bytes) {
        let (granted, _) = self.take(id, 0..size(bytes.len()));
        let before = self.file(id).content.len();
        self.account_len_down(id, before);
        let granted = bytes.slice(..crate::content::index(granted));
        self.file_mut(id).content.replace(&granted);
        self.account_len(id, size(granted.len()));
    }

    /// Every name is durable.
    pub(crate) fn commit_names(&mut self) {
        let gone = self.names.commit_all();
        self.bury(gone);
    }

    /// Everything of this file, and every name, is durable.
    pub(crate) fn settle(&mut self, id: FileId) {
        self.commit_names();
        let file = self.file_mut(id);
        file.content.settle();
        file.synced_blocks = file.blocks.clone();
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
        self.end_writeback(keep);
        let homes = self.names.lose_power(keep, draw);
        let block_bytes = self.block_bytes;
        self.files.retain(|id, _| homes.contains_key(id));
        self.usage.clear();
        self.ghost_blocks = 0;
        self.named_blocks = 0;
        for (id, file) in &mut self.files {
            file.content.lose_power(keep, draw);
            file.on_device = Instant(0);
            file.losses = Losses::default();
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
