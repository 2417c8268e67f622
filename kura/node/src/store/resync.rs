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

/// Headers that are read and checked in one segment, in bytes: more than any honest segment holds. A
/// body made of nothing but beginnings of headers ends the search, and not the start.
const HEADERS_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Reads that may fail in one segment. Each costs the records that begin in it; a disk that fails at
/// all of them may take seconds for each.
const BAD_READS_MAX: u64 = 16;

/// The search for records in one segment.
pub(crate) struct Resync<'a> {
    file: &'a dyn File,
    nonce: Nonce,
    /// How long the file is.
    len_bytes: u64,
    headers_bytes_left: u64,
    bad_reads: u64,
}

impl<'a> Resync<'a> {
    /// Looks for records in the segment of `nonce`, whose file is so long.
    pub(crate) fn new(file: &'a dyn File, nonce: Nonce, len_bytes: u64) -> Self {
        Self { file, nonce, len_bytes, headers_bytes_left: HEADERS_BYTES_MAX, bad_reads: 0 }
    }

    /// Reads that failed so far.
    pub(crate) fn bad_reads(&self) -> u64 {
        self.bad_reads
    }

    /// Whether it looks no further, whatever lies there.
    pub(crate) fn has_given_up(&self) -> bool {
        self.headers_bytes_left == 0 || self.bad_reads == BAD_READS_MAX
    }

    /// Where the first record begins that begins at `from` or behind; `None` if there is none, or the
    /// search took too much.
    pub(crate) async fn next_record(&mut self, from: u64) -> Result<Option<u64>, DiskError> {
        let mut at = from;
        while at < self.len_bytes {
            if self.has_given_up() {
                return Ok(None);
            }
            let Some(bytes) = self.read(at, READ_BYTES).await? else {
                at += READ_BYTES as u64;
                continue;
            };
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
