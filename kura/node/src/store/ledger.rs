//! What the store holds of its volume, counted as it changes, in allocated bytes.
//!
//! What a file holds is asked of the disk once it has changed (one look at an open file, no walk). A
//! start goes over the directory once. Three accounts are not kept file by file: bodies in flight
//! stand with what was granted to them, the catalog is measured every now and then, and files
//! without a name stay in the books for as long as a reader holds their segment.

use std::collections::BTreeMap;

use kura_core::{
    ledger::{Account, Ledger},
    record::{Area, SegmentId},
};
use kura_env::{Disk, DiskError, DiskErrorKind, DiskPath, FileKind};
use parking_lot::Mutex;

use super::{
    deletes::TOMBSTONES, ring_file::RING, segments::View, staging::STAGING_DIR, stamp::STAMP,
};

/// The directory of the catalog, below the data directory.
const CATALOG_DIR: &str = "catalog";
/// Directories that are gone into. The catalog nests less deep; a loop of links ends here.
const DEPTH_MAX: usize = 8;

/// The books of one store.
#[derive(Default)]
pub(crate) struct Books(Mutex<State>);

#[derive(Default)]
struct State {
    /// Everything but bodies in flight and what has no name.
    ledger: Ledger,
    /// What the file of each segment and object holds: as many as there are files.
    files: BTreeMap<SegmentId, u64>,
    /// What was unlinked while somebody read it. What is no longer read leaves with the next one.
    unlinked: BTreeMap<SegmentId, u64>,
    /// What the small files hold that are replaced as a whole.
    replaced: BTreeMap<&'static str, u64>,
}

impl Books {
    /// Opens the books: goes over everything in the data directory but what is staged.
    pub(super) async fn open(disk: &dyn Disk) -> Result<Self, DiskError> {
        let mut state = State::default();
        for (path, bytes) in files_below(disk, DiskPath::root()).await? {
            state.found(&path, bytes);
        }
        Ok(Self(Mutex::new(state)))
    }

    /// The file of `id` holds so many bytes now.
    pub(super) fn holds(&self, id: SegmentId, bytes: u64) {
        let mut state = self.0.lock();
        let before = state.files.insert(id, bytes).unwrap_or(0);
        state.ledger.sub(account(id), before);
        state.ledger.add(account(id), bytes);
    }

    /// Appends to the file of `id` have reached `end`; it holds at least that, in whole blocks.
    pub(super) fn reaches(&self, id: SegmentId, end: u64, block_bytes: u64) {
        let bytes = end.next_multiple_of(block_bytes.max(1));
        let held = self.0.lock().files.get(&id).copied().unwrap_or(0);
        if bytes > held {
            self.holds(id, bytes);
        }
    }

    /// The file of `id` has lost its name.
    pub(super) fn unlinked(&self, id: SegmentId, view: &View) {
        let lingering = view.lingering();
        let is_held = lingering.contains(&id);
        let mut state = self.0.lock();
        state.unlinked.retain(|id, _| lingering.contains(id));
        let Some(bytes) = state.files.remove(&id) else { return };
        state.ledger.sub(account(id), bytes);
        if is_held {
            state.unlinked.insert(id, bytes);
        }
    }

    /// RING, STAMP or TOMBSTONES was replaced, and holds so many bytes.
    pub(super) fn replaced(&self, name: &'static str, bytes: u64) {
        let mut state = self.0.lock();
        let before = state.replaced.insert(name, bytes).unwrap_or(0);
        state.ledger.sub(Account::State, before);
        state.ledger.add(Account::State, bytes);
    }

    /// Looks how much the catalog holds.
    pub(super) async fn measure_catalog(&self, disk: &dyn Disk) -> Result<(), DiskError> {
        let files = files_below(disk, DiskPath::new(CATALOG_DIR)).await?;
        let bytes = files.iter().map(|(_, bytes)| bytes).sum();
        self.0.lock().ledger.set(Account::Catalog, bytes);
        Ok(())
    }

    /// Bytes of what was taken away and is still being read, with a name or without: their space
    /// comes back by itself.
    pub(super) fn lingering_bytes(&self, view: &View) -> u64 {
        let lingering = view.lingering();
        let state = self.0.lock();
        let held = |id: &SegmentId| state.files.get(id).or(state.unlinked.get(id)).copied();
        lingering.iter().filter_map(held).sum()
    }

    /// All accounts now, with `staging_bytes` granted to bodies in flight.
    pub(super) fn ledger(&self, view: &View, staging_bytes: u64) -> Ledger {
        let lingering = view.lingering();
        let mut state = self.0.lock();
        state.unlinked.retain(|id, _| lingering.contains(id));
        let mut ledger = state.ledger;
        ledger.set(Account::Unlinked, state.unlinked.values().sum());
        ledger.set(Account::Staging, staging_bytes);
        ledger
    }
}

impl State {
    /// Enters a file that a start found.
    fn found(&mut self, path: &str, bytes: u64) {
        // What is left of a replacement that failed goes with the next one, which asks for its own bytes alone.
        if [RING, STAMP, TOMBSTONES].iter().any(|name| path.strip_suffix(".new") == Some(*name)) {
            return;
        }
        self.ledger.add(Account::of_path(path), bytes);
        if let Some(name) = [RING, STAMP, TOMBSTONES].into_iter().find(|name| *name == path) {
            self.replaced.insert(name, bytes);
        }
        if let Some(id) = segment_of(path) {
            self.files.insert(id, bytes);
        }
    }
}

/// Every file below a directory but those that are staged: its path, and the bytes that it holds.
pub(crate) async fn files_below(
    disk: &dyn Disk,
    root: DiskPath,
) -> Result<Vec<(String, u64)>, DiskError> {
    let mut files = Vec::new();
    let mut dirs = vec![(root, 0)];
    while let Some((dir, depth)) = dirs.pop() {
        let entries = match disk.list(&dir).await {
            // The catalog may let go of a directory at any time.
            Err(error) if error.kind == DiskErrorKind::NotFound => continue,
            listed => listed?,
        };
        for entry in entries {
            let is_below = dir != DiskPath::root();
            match entry.kind {
                FileKind::File if is_below => {
                    files.push((format!("{dir}/{}", entry.name), entry.allocated_bytes));
                }
                FileKind::File => files.push((entry.name, entry.allocated_bytes)),
                // A name that is not ours may be anything, and is not gone into.
                FileKind::Directory if depth < DEPTH_MAX && is_legal(&entry.name) => {
                    if is_below || entry.name != STAGING_DIR {
                        dirs.push((dir.join(&entry.name), depth + 1));
                    }
                }
                FileKind::Directory | FileKind::Other => {}
            }
        }
    }
    Ok(files)
}

/// The segment or object whose file has this path.
pub(crate) fn segment_of(path: &str) -> Option<SegmentId> {
    let (_, name) = path.rsplit_once('/')?;
    let ids = Area::ALL.map(|area| SegmentId::from_file_name(area, name));
    ids.into_iter().flatten().find(|id| id.path() == path)
}

fn account(id: SegmentId) -> Account {
    match id.area() {
        Area::Blobs => Account::Blobs,
        Area::Entries => Account::Entries,
        Area::Pool => Account::Pool,
    }
}

/// Whether a name can be part of a [`DiskPath`].
fn is_legal(name: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    !name.is_empty() && name != "." && name != ".." && name.bytes().all(legal)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kura_core::record::Nonce;

    use super::{super::segments::Segment, *};

    fn blob(number: u64) -> SegmentId {
        SegmentId::new(Area::Blobs, number)
    }

    #[test]
    fn what_is_unlinked_and_read_stays_in_the_books_until_it_is_let_go() {
        let (books, view) = (Books::default(), View::default());
        let segment = Arc::new(Segment { id: blob(1), nonce: Nonce([0; 16]), file: None });
        view.insert(segment.clone());
        books.holds(blob(1), 8192);
        books.holds(blob(1), 4096);
        books.reaches(blob(1), 5000, 4096);
        assert_eq!(books.ledger(&view, 7).get(Account::Blobs), 8192);
        view.remove(blob(1));
        assert_eq!(books.lingering_bytes(&view), 8192);
        books.unlinked(blob(1), &view);
        let ledger = books.ledger(&view, 7);
        assert_eq!((ledger.get(Account::Blobs), ledger.get(Account::Unlinked)), (0, 8192));
        assert_eq!((ledger.get(Account::Staging), ledger.total_bytes()), (7, 8199));
        drop(segment);
        assert_eq!(books.lingering_bytes(&view), 0);
        assert_eq!(books.ledger(&view, 0).total_bytes(), 0);
        books.unlinked(blob(1), &view);
        assert_eq!(books.ledger(&view, 0).total_bytes(), 0, "counted off once");
    }

    #[test]
    fn files_found_at_a_start_are_entered_by_what_they_are() {
        let mut state = State::default();
        let object = SegmentId::new(Area::Pool, 0x1234);
        for path in [blob(3).path(), object.path(), "RING".to_owned(), "blobs/junk".to_owned()] {
            state.found(&path, 10);
        }
        assert_eq!(state.files.keys().copied().collect::<Vec<_>>(), [blob(3), object]);
        let books = Books(Mutex::new(state));
        books.replaced(RING, 30);
        books.holds(object, 5);
        let ledger = books.ledger(&View::default(), 0);
        let of = |account| ledger.get(account);
        assert_eq!((of(Account::Blobs), of(Account::Pool), of(Account::State)), (20, 5, 30));
        assert!(is_legal("0000.seg") && !is_legal("a b") && !is_legal("..") && !is_legal(""));
    }
}
