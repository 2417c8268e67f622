//! Directories: the names as they are, the names that are durable, and the changes between them.
//!
//! A change of names is kept or lost as one transaction: a rename that is lost leaves the old name
//! with its file and what the new name held before. Changes of different names are independent of
//! one another, as the contract of `Disk` allows; a journal would lose only a suffix of them, and
//! half of the sampled crashes do just that. A change of a name is never kept where an earlier
//! change of the same name is lost.

use std::collections::{BTreeMap, BTreeSet};

use kura_env::{DiskErrorKind, DiskPath, Instant};

use crate::{config::Keep, draw::Draw};

/// A file, for as long as the device lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileId(pub(crate) u64);

/// A directory. The root is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DirId(pub(crate) u64);

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    File(FileId),
    Dir(DirId),
}

/// One name in one directory.
pub(crate) type Slot = (DirId, String);

/// The root of the data directory.
pub(crate) const ROOT: DirId = DirId(0);

/// How many changes of names the journal holds before it commits by itself.
const PENDING_MAX: usize = 4096;

#[derive(Default)]
struct Directory {
    now: BTreeMap<String, Entry>,
    durable: BTreeMap<String, Entry>,
}

/// A transaction: every slot it changes, with what stands there afterwards.
struct Change {
    number: u64,
    at: Instant,
    slots: Vec<(Slot, Option<Entry>)>,
    /// The files it mentions, before or after.
    files: Vec<FileId>,
}

/// All names of the device.
pub(crate) struct Names {
    dirs: BTreeMap<DirId, Directory>,
    next_dir: u64,
    pending: Vec<Change>,
    next_change: u64,
    /// How many durable names and pending changes mention a file; without any, a file that has
    /// no name and no handle is gone for good.
    mentions: BTreeMap<FileId, u32>,
}

impl Names {
    pub(crate) fn new() -> Self {
        Self {
            dirs: BTreeMap::from([(ROOT, Directory::default())]),
            next_dir: 1,
            pending: Vec::new(),
            next_change: 0,
            mentions: BTreeMap::new(),
        }
    }

    /// The directory of this path.
    pub(crate) fn dir(&self, path: &DiskPath) -> Result<DirId, DiskErrorKind> {
        let mut at = ROOT;
        for part in path.as_str().split('/').filter(|part| !part.is_empty()) {
            at = match self.dirs[&at].now.get(part) {
                Some(Entry::Dir(id)) => *id,
                Some(Entry::File(_)) => return Err(not_a_directory()),
                None => return Err(DiskErrorKind::NotFound),
            };
        }
        Ok(at)
    }

    /// The directory and the last component of this path.
    pub(crate) fn slot(&self, path: &DiskPath) -> Result<Slot, DiskErrorKind> {
        if path.as_str().is_empty() {
            return Err(is_a_directory());
        }
        Ok((self.dir(&path.parent())?, path.name().to_owned()))
    }

    pub(crate) fn get(&self, slot: &Slot) -> Option<Entry> {
        self.dirs.get(&slot.0)?.now.get(&slot.1).copied()
    }

    /// The file of this path.
    pub(crate) fn file(&self, path: &DiskPath) -> Result<FileId, DiskErrorKind> {
        match self.get(&self.slot(path)?) {
            Some(Entry::File(id)) => Ok(id),
            Some(Entry::Dir(_)) => Err(is_a_directory()),
            None => Err(DiskErrorKind::NotFound),
        }
    }

    pub(crate) fn entries(&self, dir: DirId) -> impl Iterator<Item = (&str, Entry)> {
        let now = self.dirs.get(&dir).map(|dir| dir.now.iter());
        now.into_iter().flatten().map(|(name, entry)| (name.as_str(), *entry))
    }

    pub(crate) fn dir_count(&self) -> u64 {
        crate::content::size(self.dirs.len())
    }

    pub(crate) fn is_mentioned(&self, file: FileId) -> bool {
        self.mentions.contains_key(&file)
    }

    pub(crate) fn new_dir(&mut self) -> DirId {
        let id = DirId(self.next_dir);
        self.next_dir += 1;
        self.dirs.insert(id, Directory::default());
        id
    }

    /// Changes names, all in one transaction. Gives back the files that nothing mentions any more
    /// because the journal had to commit to make room.
    pub(crate) fn change(&mut self, at: Instant, slots: Vec<(Slot, Option<Entry>)>) -> Vec<FileId> {
        let mut files = Vec::new();
        for (slot, after) in &slots {
            for entry in [self.get(slot), *after].into_iter().flatten() {
                if let Entry::File(file) = entry {
                    files.push(file);
                    *self.mentions.entry(file).or_insert(0) += 1;
                }
            }
            let Some(dir) = self.dirs.get_mut(&slot.0) else { continue };
            set(&mut dir.now, &slot.1, *after);
        }
        self.next_change += 1;
        self.pending.push(Change { number: self.next_change, at, slots, files });
        if self.pending.len() > PENDING_MAX { self.commit_all() } else { Vec::new() }
    }

    /// The number of the last change so far, for a sync that begins now.
    pub(crate) fn last_change(&self) -> u64 {
        self.next_change
    }

    /// Makes the changes of `dir` up to number `last` durable, and with them whatever they rest
    /// on. Gives back the files that nothing mentions any more.
    pub(crate) fn sync(&mut self, dir: DirId, last: u64) -> Vec<FileId> {
        let mut wanted: BTreeSet<Slot> = BTreeSet::new();
        let mut due = vec![false; self.pending.len()];
        for (index, change) in self.pending.iter().enumerate().rev() {
            let asked = change.number <= last && change.slots.iter().any(|((at, _), _)| *at == dir);
            if asked || change.slots.iter().any(|(slot, _)| wanted.contains(slot)) {
                due[index] = true;
                wanted.extend(change.slots.iter().map(|(slot, _)| slot.clone()));
            }
        }
        self.commit(|index, _| due[index])
    }

    /// The journal commits by itself what is older than `before`.
    pub(crate) fn commit_older(&mut self, before: Instant) -> Vec<FileId> {
        if self.pending.first().is_none_or(|change| change.at >= before) {
            return Vec::new();
        }
        self.commit(|_, change| change.at < before)
    }

    /// The journal commits everything.
    pub(crate) fn commit_all(&mut self) -> Vec<FileId> {
        self.commit(|_, _| true)
    }

    fn commit(&mut self, due: impl Fn(usize, &Change) -> bool) -> Vec<FileId> {
        let mut dropped = Vec::new();
        let pending = std::mem::take(&mut self.pending);
        for (index, change) in pending.into_iter().enumerate() {
            if due(index, &change) {
                self.make_durable(&change, &mut dropped);
            } else {
                self.pending.push(change);
            }
        }
        dropped
    }

    fn make_durable(&mut self, change: &Change, dropped: &mut Vec<FileId>) {
        for (slot, after) in &change.slots {
            let Some(dir) = self.dirs.get_mut(&slot.0) else { continue };
            let before = set(&mut dir.durable, &slot.1, *after);
            if let Some(Entry::File(file)) = after {
                *self.mentions.entry(*file).or_insert(0) += 1;
            }
            if let Some(Entry::File(file)) = before {
                self.forget(file, dropped);
            }
        }
        for file in &change.files {
            self.forget(*file, dropped);
        }
    }

    fn forget(&mut self, file: FileId, dropped: &mut Vec<FileId>) {
        if let Some(count) = self.mentions.get_mut(&file) {
            *count -= 1;
            if *count == 0 {
                self.mentions.remove(&file);
                dropped.push(file);
            }
        }
    }

    /// Power is lost: the names are what is durable, and what of the pending changes is kept.
    /// Gives back every file that still has a name, with the directory it stands in.
    pub(crate) fn lose_power(&mut self, keep: Keep, draw: &mut Draw) -> BTreeMap<FileId, DirId> {
        let pending = std::mem::take(&mut self.pending);
        let as_a_journal = draw.coin();
        let journal_end = draw.below(crate::content::size(pending.len()) + 1);
        let mut lost: BTreeSet<Slot> = BTreeSet::new();
        for (index, change) in (0u64..).zip(&pending) {
            let kept = match keep {
                Keep::Nothing => false,
                Keep::Everything => true,
                Keep::Sampled if as_a_journal => index < journal_end,
                Keep::Sampled => draw.coin(),
            };
            if kept && !change.slots.iter().any(|(slot, _)| lost.contains(slot)) {
                self.make_durable(change, &mut Vec::new());
            } else {
                lost.extend(change.slots.iter().map(|(slot, _)| slot.clone()));
            }
        }
        self.reset_to_durable()
    }

    /// Only what can be reached from the root through durable names exists: a directory that was
    /// made and whose own name was lost takes everything below it along. (ext4 and XFS would keep
    /// it where something below was synced; the contract does not promise that.)
    fn reset_to_durable(&mut self) -> BTreeMap<FileId, DirId> {
        let mut files = BTreeMap::new();
        let mut reached: BTreeMap<DirId, Directory> = BTreeMap::new();
        let mut open = vec![ROOT];
        while let Some(id) = open.pop() {
            let Some(mut dir) = self.dirs.remove(&id) else { continue };
            for entry in dir.durable.values() {
                match entry {
                    Entry::File(file) => drop(files.insert(*file, id)),
                    Entry::Dir(below) => open.push(*below),
                }
            }
            dir.now = dir.durable.clone();
            reached.insert(id, dir);
        }
        self.dirs = reached;
        self.mentions = files.keys().map(|file| (*file, 1)).collect();
        files
    }
}

fn set(entries: &mut BTreeMap<String, Entry>, name: &str, after: Option<Entry>) -> Option<Entry> {
    match after {
        Some(entry) => entries.insert(name.to_owned(), entry),
        None => entries.remove(name),
    }
}

/// `EISDIR`.
pub(crate) fn is_a_directory() -> DiskErrorKind {
    DiskErrorKind::Other { errno: 21, text: "is a directory".to_owned() }
}

/// `ENOTDIR`.
pub(crate) fn not_a_directory() -> DiskErrorKind {
    DiskErrorKind::Other { errno: 20, text: "not a directory".to_owned() }
}
