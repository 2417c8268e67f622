//! Frames: how batches lie in the files of the catalog.
//!
//! ```text
//! length u32 | checksum u32 | rows ...          all little endian, length of the rows
//! row:  1 | space u8+n | key u32+n | value u32+n      put
//!       2 | space u8+n | key u32+n                    delete
//!       3 | rows u64                                  end of a snapshot
//! ```
//!
//! The checksum of a frame runs on from the checksum of the one before it, so that a frame counts
//! only behind the very frames that it was written behind: what a torn write left further on never
//! comes back to life.

use bytes::{Buf, Bytes};
use kura_env::{Batch, Operation};

const HEADER_BYTES: usize = 8;
const PUT: u8 = 1;
const DELETE: u8 = 2;
const END: u8 = 3;

/// A row as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Row {
    Put { space: Bytes, key: Bytes, value: Bytes },
    Delete { space: Bytes, key: Bytes },
    End { rows: u64 },
}

/// Where a file has got to: its next frame goes to `end` and continues `checksum`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    pub(crate) end_bytes: u64,
    checksum: u32,
}

impl Tail {
    /// The start of a file. Files of another kind or generation continue differently.
    pub(crate) fn start(kind: &str, generation: u64) -> Self {
        let checksum =
            crc32c::crc32c_append(crc32c::crc32c(kind.as_bytes()), &generation.to_le_bytes());
        Self { end_bytes: 0, checksum }
    }
}

/// Frames in the making, to be written at one go behind a tail.
pub(crate) struct FrameWriter {
    bytes: Vec<u8>,
    tail: Tail,
}

impl FrameWriter {
    pub(crate) fn behind(tail: Tail) -> Self {
        Self { bytes: Vec::new(), tail }
    }

    /// How many bytes there are so far.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a frame with these changes; none for an empty batch, because a frame without rows
    /// would read as the end.
    pub(crate) fn batch(&mut self, batch: &Batch) {
        if batch.is_empty() {
            return;
        }
        self.frame(|bytes| {
            for operation in &batch.0 {
                match operation {
                    Operation::Put(space, key, value) => put(bytes, space.0, key, value),
                    Operation::Delete(space, key) => {
                        bytes.push(DELETE);
                        push_space(bytes, space.0);
                        push_bytes(bytes, key);
                    }
                }
            }
        });
    }

    /// Adds a frame that sets the next rows, at least one and up to about `bytes_max`.
    pub(crate) fn rows<'a>(
        &mut self,
        space: &str,
        rows: &mut impl Iterator<Item = (&'a Bytes, &'a Bytes)>,
        bytes_max: usize,
    ) {
        self.frame(|bytes| {
            let start = bytes.len();
            for (key, value) in rows {
                put(bytes, space, key, value);
                if bytes.len() - start >= bytes_max {
                    break;
                }
            }
        });
    }

    /// Adds the frame that ends a snapshot.
    pub(crate) fn end(&mut self, rows: u64) {
        self.frame(|bytes| {
            bytes.push(END);
            bytes.extend_from_slice(&rows.to_le_bytes());
        });
    }

    /// The bytes to write, and the tail once they are written.
    pub(crate) fn finish(self) -> (Bytes, Tail) {
        (Bytes::from(self.bytes), self.tail)
    }

    fn frame(&mut self, fill: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; HEADER_BYTES]);
        fill(&mut self.bytes);
        let rows = &self.bytes[start + HEADER_BYTES..];
        let len = u32_len(rows).to_le_bytes();
        let checksum = crc32c::crc32c_append(crc32c::crc32c_append(self.tail.checksum, &len), rows);
        self.bytes[start..start + 4].copy_from_slice(&len);
        self.bytes[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
        self.tail.checksum = checksum;
        self.tail.end_bytes += crate::content::size(self.bytes.len() - start);
    }
}

/// Reads the next frame of a file, of which `file` holds everything. `None` at the first frame
/// that is not whole, which is also what the end looks like.
pub(crate) fn read(file: &Bytes, tail: &mut Tail) -> Option<Vec<Row>> {
    let at = usize::try_from(tail.end_bytes).ok()?;
    let mut rest = file.slice(at.min(file.len())..);
    if rest.len() < HEADER_BYTES {
        return None;
    }
    let len = rest.get_u32_le();
    let checksum = rest.get_u32_le();
    let len_bytes = usize::try_from(len).ok()?;
    if len == 0 || rest.len() < len_bytes {
        return None;
    }
    let mut rows = rest.split_to(len_bytes);
    let expected =
        crc32c::crc32c_append(crc32c::crc32c_append(tail.checksum, &len.to_le_bytes()), &rows);
    if checksum != expected {
        return None;
    }
    let mut found = Vec::new();
    while !rows.is_empty() {
        found.push(read_row(&mut rows)?);
    }
    tail.checksum = checksum;
    tail.end_bytes += crate::content::size(HEADER_BYTES + len_bytes);
    Some(found)
}

fn read_row(rows: &mut Bytes) -> Option<Row> {
    match rows.try_get_u8().ok()? {
        PUT => {
            let space = take(rows, 1)?;
            let key = take(rows, 4)?;
            let value = take(rows, 4)?;
            Some(Row::Put { space, key, value })
        }
        DELETE => Some(Row::Delete { space: take(rows, 1)?, key: take(rows, 4)? }),
        END => Some(Row::End { rows: rows.try_get_u64_le().ok()? }),
        _ => None,
    }
}

/// Bytes behind a length of `width` bytes.
fn take(rows: &mut Bytes, width: usize) -> Option<Bytes> {
    let len = rows.try_get_uint_le(width).ok()?;
    let len = usize::try_from(len).ok()?;
    (len <= rows.len()).then(|| rows.split_to(len))
}

fn put(bytes: &mut Vec<u8>, space: &str, key: &[u8], value: &[u8]) {
    bytes.push(PUT);
    push_space(bytes, space);
    push_bytes(bytes, key);
    push_bytes(bytes, value);
}

fn push_space(bytes: &mut Vec<u8>, space: &str) {
    let len = u8::try_from(space.len()).expect("the name of a keyspace is a short constant");
    bytes.push(len);
    bytes.extend_from_slice(space.as_bytes());
}

fn push_bytes(bytes: &mut Vec<u8>, data: &[u8]) {
    bytes.extend_from_slice(&u32_len(data).to_le_bytes());
    bytes.extend_from_slice(data);
}

fn u32_len(data: &[u8]) -> u32 {
    u32::try_from(data.len()).expect("keys, values and batches of the catalog stay below 4 GiB")
}

#[cfg(test)]
mod tests {
    use kura_env::Keyspace;

    use super::*;

    const SPACE: Keyspace = Keyspace("places");

    fn put_of(key: &'static str) -> Operation {
        Operation::Put(SPACE, Bytes::from(key), Bytes::from_static(b"value"))
    }

    fn keys(file: &Bytes) -> Vec<Bytes> {
        let mut tail = Tail::start("log", 1);
        let mut found = Vec::new();
        while let Some(rows) = read(file, &mut tail) {
            for row in rows {
                match row {
                    Row::Put { key, .. } | Row::Delete { key, .. } => found.push(key),
                    Row::End { .. } => found.push(Bytes::from_static(b"end")),
                }
            }
        }
        found
    }

    fn log(keys: &[&'static str]) -> Bytes {
        let mut writer = FrameWriter::behind(Tail::start("log", 1));
        for key in keys {
            writer.batch(&Batch(vec![put_of(key)]));
        }
        writer.finish().0
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(keys(&log(&["a", "b", "c"])), ["a", "b", "c"]);
    }

    #[test]
    fn reading_stops_at_every_flipped_byte() {
        let whole = log(&["a", "b", "c"]);
        let frame = whole.len() / 3;
        for at in 0..whole.len() {
            let mut bytes = whole.to_vec();
            bytes[at] ^= 0x40;
            assert_eq!(keys(&Bytes::from(bytes)).len(), at / frame, "flipped at {at}");
        }
    }

    #[test]
    fn a_frame_counts_only_behind_those_it_was_written_behind() {
        let (old, new) = (log(&["a", "b", "c"]), log(&["a", "x"]));
        let mut mixed = new.to_vec();
        mixed.extend_from_slice(&old[new.len()..]);
        assert_eq!(keys(&Bytes::from(mixed)), ["a", "x"]);
    }

    #[test]
    fn a_log_of_another_generation_is_empty() {
        let bytes = log(&["a"]);
        assert_eq!(read(&bytes, &mut Tail::start("log", 2)), None);
        assert_eq!(read(&bytes, &mut Tail::start("snapshot", 1)), None);
    }
}
