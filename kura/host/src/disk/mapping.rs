//! A file that does not change any more, read from memory without a copy.

use std::{fs::File, ops::Range, sync::Arc};

use bytes::Bytes;
use memmap2::{Advice, Mmap, MmapOptions};

use super::{DiskThreads, sigbus::Registration};

/// Pages that one question to the kernel covers, on the stack of the caller.
const RESIDENT_PAGES_MAX: usize = 1024;

/// A read-only mapping of a whole file.
pub(super) struct Mapping {
    /// Declared before the memory, so that it is dropped, and the table forgets the address,
    /// before the address can belong to somebody else.
    registration: Registration,
    memory: Mmap,
}

/// What `Bytes` own: the mapping lives until the last of them is gone, wherever that is. It is let
/// go on a thread of the disk: of a file that was unlinked it may be all that keeps the blocks.
struct Owner {
    /// Taken only by `drop`.
    mapping: Option<Arc<Mapping>>,
    threads: Arc<DiskThreads>,
}

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        self.mapping.as_ref().map_or(&[], |mapping| &mapping.memory)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.threads.drop_there(self.mapping.take());
    }
}

/// A mapping together with its whole content.
pub(super) struct Frozen {
    mapping: Arc<Mapping>,
    content: Bytes,
}

impl Frozen {
    /// Maps `len_bytes` of `file`. Nothing if it is empty or cannot be mapped safely.
    pub(super) fn map(file: &File, len_bytes: u64, threads: &Arc<DiskThreads>) -> Option<Self> {
        let len_bytes = usize::try_from(len_bytes).ok().filter(|&len| len > 0)?;
        // SAFETY: the caller promised that the file will not change any more. Should somebody else
        // cut it, the registration below turns the fault into zeros; should somebody else write to
        // it, the bytes are those of a damaged file, which the checksums above find.
        let memory = unsafe { MmapOptions::new().len(len_bytes).map(file) }
            .inspect_err(|error| tracing::debug!(%error, "a sealed file cannot be mapped"))
            .ok()?;
        let registration = Registration::new(memory.as_ptr() as usize, len_bytes)?;
        let mapping = Arc::new(Mapping { registration, memory });
        let content =
            Bytes::from_owner(Owner { mapping: Some(mapping.clone()), threads: threads.clone() });
        Some(Self { mapping, content })
    }

    /// The part of `offset..offset + len_bytes` that lies in the file, unless the mapping is
    /// damaged.
    pub(super) fn window(&self, offset: u64, len_bytes: usize) -> Option<Range<usize>> {
        if self.mapping.registration.is_damaged() {
            return None;
        }
        let end = self.content.len();
        let from = usize::try_from(offset).map_or(end, |offset| offset.min(end));
        Some(from..from.saturating_add(len_bytes).min(end))
    }

    /// The bytes of a window. Only for a window that is resident or was populated.
    pub(super) fn bytes(&self, window: Range<usize>) -> Bytes {
        self.content.slice(window)
    }

    /// Whether reading the window takes no disk. Says no to windows that are too large to ask for.
    pub(super) fn is_resident(&self, window: &Range<usize>) -> bool {
        if window.is_empty() {
            return true;
        }
        let page_bytes = rustix::param::page_size();
        let from = window.start / page_bytes * page_bytes;
        let pages = (window.end - from).div_ceil(page_bytes);
        let mut resident = [0_u8; RESIDENT_PAGES_MAX];
        let Some(resident) = resident.get_mut(..pages) else {
            return false;
        };
        let memory = &self.mapping.memory;
        // SAFETY: the range lies within the mapping and begins on a page; the vector has a byte for
        // each of its pages. mincore only writes to the vector.
        let asked = unsafe {
            libc::mincore(
                memory.as_ptr().add(from).cast_mut().cast(),
                window.end - from,
                resident.as_mut_ptr(),
            )
        };
        asked == 0 && resident.iter().all(|page| page & 1 == 1)
    }

    /// Brings the window into memory. Blocks on the disk. Whether all of it could be read.
    pub(super) fn populate(&self, window: &Range<usize>) -> bool {
        let advice = Advice::PopulateRead;
        self.mapping.memory.advise_range(advice, window.start, window.len()).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::{super::sigbus, *};

    fn file_of(len_bytes: usize) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7_u8; len_bytes]).unwrap();
        file
    }

    fn map(file: &File, len_bytes: u64) -> Option<Frozen> {
        Frozen::map(file, len_bytes, &DiskThreads::start(1).unwrap())
    }

    #[test]
    fn a_file_cut_under_a_reader_reads_as_zeros_and_the_process_lives() {
        let file = file_of(100_000);
        let frozen = map(&file, 100_000).unwrap();
        let held = frozen.bytes(0..100_000);
        assert!(held.iter().all(|&byte| byte == 7));

        let faults_before = sigbus::faults();
        file.set_len(0).unwrap();
        assert!(held.iter().all(|&byte| byte == 0));
        assert!(sigbus::faults() > faults_before);
        assert_eq!(frozen.window(0, 1), None, "a damaged mapping serves nothing more");

        let other = map(&file_of(10), 10).unwrap();
        assert_eq!(other.window(0, 100), Some(0..10), "the damage is that mapping's alone");
    }

    #[test]
    fn populating_what_was_cut_fails_instead_of_faulting() {
        let file = file_of(100_000);
        let frozen = map(&file, 100_000).unwrap();
        assert!(frozen.populate(&(0..100_000)));
        assert!(frozen.is_resident(&(50_000..100_000)));
        file.set_len(4096).unwrap();
        assert!(!frozen.is_resident(&(50_000..100_000)));
        assert!(!frozen.populate(&(50_000..100_000)));
        assert!(frozen.window(0, 10).is_some(), "nothing faulted, so nothing is damaged");
    }

    #[test]
    fn windows_end_where_the_file_ends() {
        let frozen = map(&file_of(10), 10).unwrap();
        assert_eq!(frozen.window(4, 3), Some(4..7));
        assert_eq!(frozen.window(8, usize::MAX), Some(8..10));
        assert_eq!(frozen.window(u64::MAX, 5), Some(10..10));
        assert!(map(&file_of(0), 0).is_none(), "there is nothing to map");
    }
}
