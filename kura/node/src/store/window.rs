//! Reads of a file from its front to its end: much is read at once and handed out in parts, because one
//! read costs more than the bytes of a small record.

use bytes::Bytes;
use kura_env::{DiskError, DiskErrorKind, File};

/// Bytes that are read at once. Larger ones gain nothing: a disk reads ahead by itself.
const WINDOW_BYTES: usize = 1024 * 1024;

/// What was read ahead of one file.
pub(super) struct Window<'a> {
    file: &'a dyn File,
    /// Where `bytes` begin.
    start: u64,
    bytes: Bytes,
    /// Up to here nothing is read ahead, because the device failed at it.
    narrow_until: u64,
    bad_reads: u64,
}

impl<'a> Window<'a> {
    /// Nothing yet.
    pub(super) fn new(file: &'a dyn File) -> Self {
        Self { file, start: 0, bytes: Bytes::new(), narrow_until: 0, bad_reads: 0 }
    }

    /// Reads that failed so far.
    pub(super) fn bad_reads(&self) -> u64 {
        self.bad_reads
    }

    /// As [`File::read_at`]; what the device cannot read costs only who asks for those very bytes.
    pub(super) async fn read_at(
        &mut self,
        offset: u64,
        len_bytes: usize,
    ) -> Result<Bytes, DiskError> {
        if let Some(part) = self.part(offset, len_bytes) {
            return Ok(part);
        }
        if len_bytes < WINDOW_BYTES && offset >= self.narrow_until {
            match self.file.read_at(offset, WINDOW_BYTES).await {
                Ok(bytes) => {
                    (self.start, self.bytes) = (offset, bytes);
                    return Ok(self.bytes.slice(..len_bytes.min(self.bytes.len())));
                }
                Err(error) if is_sick(&error) => {
                    self.bad_reads += 1;
                    self.narrow_until = offset + WINDOW_BYTES as u64;
                }
                Err(error) => return Err(error),
            }
        }
        let read = self.file.read_at(offset, len_bytes).await;
        self.bad_reads += u64::from(read.as_ref().is_err_and(is_sick));
        read
    }

    /// What was read already, if it is all there.
    fn part(&self, offset: u64, len_bytes: usize) -> Option<Bytes> {
        let from = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        let to = from.checked_add(len_bytes).filter(|to| *to <= self.bytes.len())?;
        Some(self.bytes.slice(from..to))
    }
}

/// Whether the device failed at these very bytes, which is no reason not to read all others.
pub(super) fn is_sick(error: &DiskError) -> bool {
    error.kind == DiskErrorKind::Io
}
