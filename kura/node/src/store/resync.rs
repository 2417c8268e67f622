//! Where a record was spoilt, its length cannot be told, and with it where the next one begins. It is
//! found by its magic: what lies there passes for a record only if it was written as one at that very
//! place, because the checksum of its header is keyed and covers the offset.

use bytes::Bytes;
use kura_core::{
    record::{FIXED_BYTES, Header, Nonce, RECORD_MAGIC},
    recovery::{Found, look},
};
use kura_env::{DiskError, DiskErrorKind, File};
use memchr::memmem;

/// What is looked at in one read.
const READ_BYTES: usize = 64 * 1024;
/// What is looked at in one read where the device fails: a page, which is what a system reads as one.
const NARROW_BYTES: usize = 4096;

/// Headers that are read and checked in one segment, in bytes: more than any honest segment holds. A
/// body made of nothing but beginnings of headers ends the search, and not the start.
const HEADERS_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Reads of pages in a row that may fail. The rest of what was to be looked at in one read is passed over
/// then, with the records that begin in it: a disk may take seconds for each.
const BAD_PAGES_MAX: usize = 4;

/// Reads that may fail in one segment, those of pages not counted.
const BAD_READS_MAX: u64 = 16;

/// The search for records in one segment.
pub(crate) struct Resync<'a> {
    file: &'a dyn File,
    nonce: Nonce,
    /// How long the file is.
    len_bytes: u64,
    headers_bytes_left: u64,
    bad_reads: u64,
    /// Of those, the ones that were more than a page.
    wide_bad_reads: u64,
}

impl<'a> Resync<'a> {
    /// Looks for records in the segment of `nonce`, whose file is so long.
    pub(crate) fn new(file: &'a dyn File, nonce: Nonce, len_bytes: u64) -> Self {
        Self {
            file,
            nonce,
            len_bytes,
            headers_bytes_left: HEADERS_BYTES_MAX,
            bad_reads: 0,
            wide_bad_reads: 0,
        }
    }

    /// Reads that failed so far.
    pub(crate) fn bad_reads(&self) -> u64 {
        self.bad_reads
    }

    /// Whether it looks no further, whatever lies there.
    pub(crate) fn has_given_up(&self) -> bool {
        self.headers_bytes_left == 0 || self.wide_bad_reads == BAD_READS_MAX
    }

    /// Where the first record begins that begins at `from` or behind; `None` if there is none, or the
    /// search took too much. What begins in a page that cannot be read is passed over.
    pub(crate) async fn next_record(&mut self, from: u64) -> Result<Option<u64>, DiskError> {
        let mut at = from;
        // Up to where it looks page by page, and how many of the last pages could not be read.
        let (mut narrow_until, mut bad_pages) = (from, 0);
        while at < self.len_bytes {
            if self.has_given_up() {
                return Ok(None);
            }
            let is_narrow = at < narrow_until;
            let wanted = if is_narrow { to_end_of_page(at) } else { READ_BYTES };
            let Some(bytes) = self.read(at, wanted).await? else {
                if is_narrow {
                    bad_pages += 1;
                    let gives_up = bad_pages == BAD_PAGES_MAX;
                    at = if gives_up { narrow_until } else { at + wanted as u64 };
                } else {
                    self.wide_bad_reads += 1;
                    (narrow_until, bad_pages) = (at + READ_BYTES as u64, 0);
                }
                continue;
            };
            bad_pages = 0;
            for position in memmem::find_iter(&bytes, &RECORD_MAGIC) {
                if self.has_given_up() {
                    return Ok(None);
                }
                let candidate = at + position as u64;
                if self.is_record(candidate, bytes.slice(position..)).await? {
                    return Ok(Some(candidate));
                }
            }
            // A magic may lie across the end.
            let passed = bytes.len().saturating_sub(RECORD_MAGIC.len() - 1);
            if passed == 0 {
                return Ok(None);
            }
            at += passed as u64;
        }
        Ok(None)
    }

    /// Whether a record begins at `offset`, of which `bytes` are the first.
    async fn is_record(&mut self, offset: u64, bytes: Bytes) -> Result<bool, DiskError> {
        let mut bytes = bytes;
        loop {
            let wanted = match look(&bytes, self.nonce, offset, self.len_bytes) {
                Found::More(wanted) => wanted,
                found @ (Found::Record { .. } | Found::End(_)) => {
                    let header_bytes = Header::len_hint(&bytes).unwrap_or(FIXED_BYTES) as u64;
                    self.headers_bytes_left = self.headers_bytes_left.saturating_sub(header_bytes);
                    return Ok(matches!(found, Found::Record { .. }));
                }
            };
            match self.read(offset, wanted).await? {
                Some(more) if more.len() >= wanted => bytes = more,
                Some(_) | None => return Ok(false),
            }
        }
    }

    /// Reads; `None` where the device fails.
    async fn read(&mut self, at: u64, len_bytes: usize) -> Result<Option<Bytes>, DiskError> {
        match self.file.read_at(at, len_bytes).await {
            Err(error) if error.kind == DiskErrorKind::Io => {
                self.bad_reads += 1;
                Ok(None)
            }
            read => read.map(Some),
        }
    }
}

/// How many bytes to read from `at` to the end of its page; to that of the next one where a magic may lie
/// across the two.
fn to_end_of_page(at: u64) -> usize {
    let within = usize::try_from(at % NARROW_BYTES as u64).unwrap_or(0);
    let left = NARROW_BYTES - within;
    if left < RECORD_MAGIC.len() { left + NARROW_BYTES } else { left }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_read_ends_with_a_page_and_a_magic_fits_in_it() {
        for (at, bytes) in
            [(0, 4096), (4096, 4096), (1, 4095), (4092, 4), (4093, 4099), (8191, 4097)]
        {
            assert_eq!(to_end_of_page(at), bytes, "from {at}");
        }
    }
}
