//! One of two disks, with the handles that are open there.

use std::{collections::VecDeque, fmt, sync::Arc};

use bytes::Bytes;
use kura_env::{DirEntry, Disk, DiskError, DiskErrorKind, DiskPath, File};

use crate::{
    draws::Draws,
    operation::{Operation, SLOTS},
};

/// Reads whose bytes are kept for a while.
const HELD_MAX: usize = 4;

/// What a disk answered.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Done,
    Number(u64),
    Bytes(Bytes),
    Entries(Vec<DirEntry>),
    Failed(DiskErrorKind),
    /// There is no such handle.
    Nothing,
}

impl Answer {
    fn of<T>(result: Result<T, DiskError>, told: impl FnOnce(T) -> Self) -> Self {
        result.map_or_else(|error| Self::Failed(error.kind), told)
    }

    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Failed(kind) if kind.is_full())
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Bytes(bytes) => {
                let mark = bytes
                    .iter()
                    .fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte)));
                write!(f, "{} bytes ({mark:08x})", bytes.len())
            }
            Self::Entries(entries) => {
                let told = |entry: &DirEntry| {
                    let DirEntry { name, kind, len_bytes, allocated_bytes } = entry;
                    format!("{name} ({kind:?}, {len_bytes} bytes, {allocated_bytes} held)")
                };
                f.write_str(&entries.iter().map(told).collect::<Vec<_>>().join(", "))
            }
            Self::Failed(kind) => write!(f, "{kind}"),
            Self::Nothing => f.write_str("no handle"),
        }
    }
}

pub(crate) struct Side {
    pub(crate) disk: Arc<dyn Disk>,
    slots: [Option<Arc<dyn File>>; SLOTS],
    held: VecDeque<Bytes>,
}

impl Side {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, slots: Default::default(), held: VecDeque::new() }
    }

    pub(crate) fn file(&self, slot: usize) -> Option<&Arc<dyn File>> {
        self.slots[slot].as_ref()
    }

    pub(crate) fn close(&mut self, slot: usize) {
        self.slots[slot] = None;
    }

    /// Lets go of everything that holds a file.
    pub(crate) fn let_go(&mut self) {
        self.slots = Default::default();
        self.held.clear();
    }

    /// What was kept.
    pub(crate) fn held(&self) -> &VecDeque<Bytes> {
        &self.held
    }

    /// Does it. What is written is drawn from `fill`.
    pub(crate) async fn perform(&mut self, operation: &Operation, fill: u64) -> Answer {
        let disk = Arc::clone(&self.disk);
        match operation {
            Operation::Create { path, slot } => self.opened(*slot, disk.create(path).await),
            Operation::Open { path, slot } => self.opened(*slot, disk.open(path).await),
            Operation::Close { slot } => {
                self.close(*slot);
                Answer::Done
            }
            Operation::Mkdir { path } => done(disk.mkdir(path).await),
            Operation::Rename { from, to } => done(disk.rename(from, to).await),
            Operation::Unlink { path } => done(disk.unlink(path).await),
            Operation::SyncDir { path } => done(disk.sync_dir(path).await),
            Operation::List { path } => Answer::of(disk.list(path).await, Answer::Entries),
            Operation::Append { slot, .. }
            | Operation::WriteAt { slot, .. }
            | Operation::ReadAt { slot, .. }
            | Operation::Hold { slot, .. }
            | Operation::Allocate { slot, .. }
            | Operation::SyncData { slot }
            | Operation::Freeze { slot }
            | Operation::Len { slot } => match self.slots[*slot].clone() {
                Some(file) => self.ask(&*file, operation, fill).await,
                None => Answer::Nothing,
            },
        }
    }

    fn opened(&mut self, slot: usize, opened: Result<Arc<dyn File>, DiskError>) -> Answer {
        Answer::of(opened, |file| {
            self.slots[slot] = Some(file);
            Answer::Done
        })
    }

    /// What is asked of an open file.
    async fn ask(&mut self, file: &dyn File, operation: &Operation, fill: u64) -> Answer {
        let mut fill = Draws(fill);
        match operation {
            Operation::Append { parts, .. } => {
                done(file.append(parts.iter().map(|len| fill.bytes(*len)).collect()).await)
            }
            Operation::WriteAt { offset, len, .. } => {
                done(file.write_at(*offset, fill.bytes(*len)).await)
            }
            Operation::ReadAt { offset, len, .. } => {
                Answer::of(file.read_at(*offset, *len).await, Answer::Bytes)
            }
            Operation::Hold { offset, len, .. } => {
                let read = file.read_at(*offset, *len).await;
                if let Ok(bytes) = &read {
                    self.held.push_back(bytes.clone());
                    if self.held.len() > HELD_MAX {
                        self.held.pop_front();
                    }
                }
                Answer::of(read, Answer::Bytes)
            }
            Operation::Allocate { len, .. } => done(file.allocate(*len).await),
            Operation::SyncData { .. } => done(file.sync_data().await),
            Operation::Freeze { .. } => done(file.freeze().await),
            Operation::Len { .. } => Answer::of(file.len().await, Answer::Number),
            Operation::Create { .. }
            | Operation::Open { .. }
            | Operation::Close { .. }
            | Operation::Mkdir { .. }
            | Operation::Rename { .. }
            | Operation::Unlink { .. }
            | Operation::List { .. }
            | Operation::SyncDir { .. } => Answer::Nothing,
        }
    }

    pub(crate) async fn available_bytes(&self) -> u64 {
        self.disk.space().await.expect("the disk tells its space").available_bytes
    }

    /// All bytes of a file.
    pub(crate) async fn content(&self, path: &DiskPath) -> Bytes {
        let file = self.disk.open(path).await.expect("it has a name");
        file.read_at(0, usize::MAX).await.expect("it can be read")
    }
}

fn done(result: Result<(), DiskError>) -> Answer {
    Answer::of(result, |()| Answer::Done)
}
