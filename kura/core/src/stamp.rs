//! The stamp of a catalog: what tells one that lost something it had synced from one that is whole.
//!
//! A catalog may open without an error and yet without the end of what it held, or without anything:
//! a journal that was deleted, cut short or spoilt in the wrong byte is simply not there. Watermarks
//! find what is missing of the records, and nothing finds what is missing of the rest. So the catalog
//! carries its name and a count in every keyspace, and a file beside it, the stamp, says which name and
//! count were once synced.

use crate::place::PLACES;

const MAGIC: [u8; 8] = *b"KURASTMP";
const FORMAT: u32 = 1;
/// Length of the file: magic, format, catalog, count, checksum.
pub const STAMP_BYTES: usize = 8 + 4 + 16 + 8 + 4;
/// Sorts before every address, as watermarks do.
const KEY_IN_PLACES: [u8; 2] = [0, b's'];
/// Sorts behind every other row of the other keyspaces.
const KEY: [u8; 17] = [0xff; 17];

/// A catalog and how far it was synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Which catalog: drawn when it was made.
    pub catalog: u128,
    /// Counts the stamps of this catalog, from one.
    pub count: u64,
}

/// Why a file is no stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidStamp {
    /// It is shorter or longer than a stamp.
    #[error("a length that is not that of a stamp")]
    Length,
    /// Its bytes are not those that were written.
    #[error("a wrong checksum")]
    Checksum,
    /// It was written by another version.
    #[error("format {0}, and this version writes {FORMAT}")]
    Format(u32),
}

/// What a catalog is worth that was just opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// Everything that was synced is there.
    Whole(Stamp),
    /// Nothing is known of it: it is new, or was never stamped, or its stamp is lost.
    Unknown,
    /// It has lost what was synced, or is another one than the stamp's.
    Behind,
}

impl Stamp {
    /// The first one of a catalog.
    #[must_use]
    pub fn first(catalog: u128) -> Self {
        Self { catalog, count: 1 }
    }

    /// The one after this.
    #[must_use]
    pub fn next(self) -> Self {
        Self { count: self.count + 1, ..self }
    }

    /// The bytes of the file.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(STAMP_BYTES);
        out.extend(MAGIC);
        out.extend(FORMAT.to_le_bytes());
        out.extend(self.row());
        let checksum = crc32c::crc32c(&out);
        out.extend(checksum.to_le_bytes());
        out
    }

    /// Reads the file back.
    ///
    /// # Errors
    ///
    /// [`InvalidStamp`] unless every byte is as `encode` wrote it.
    pub fn decode(bytes: &[u8]) -> Result<Self, InvalidStamp> {
        let bytes: &[u8; STAMP_BYTES] = bytes.try_into().map_err(|_| InvalidStamp::Length)?;
        let (body, checksum) = bytes.split_last_chunk::<4>().ok_or(InvalidStamp::Length)?;
        if body[..8] != MAGIC || crc32c::crc32c(body) != u32::from_le_bytes(*checksum) {
            return Err(InvalidStamp::Checksum);
        }
        let format = u32::from_le_bytes(body[8..12].try_into().unwrap_or_default());
        if format != FORMAT {
            return Err(InvalidStamp::Format(format));
        }
        Self::of_row(&body[12..]).ok_or(InvalidStamp::Length)
    }

    /// The value of its row in every keyspace.
    #[must_use]
    pub fn row(self) -> [u8; 24] {
        let mut out = [0; 24];
        out[..16].copy_from_slice(&self.catalog.to_le_bytes());
        out[16..].copy_from_slice(&self.count.to_le_bytes());
        out
    }

    /// Reads the row back; `None` if it is none.
    #[must_use]
    pub fn of_row(row: &[u8]) -> Option<Self> {
        let row: &[u8; 24] = row.try_into().ok()?;
        let (catalog, count) = row.split_at(16);
        Some(Self {
            catalog: u128::from_le_bytes(catalog.try_into().ok()?),
            count: u64::from_le_bytes(count.try_into().ok()?),
        })
    }
}

/// The key of the stamp's row in the keyspace of this name.
#[must_use]
pub fn stamp_key(keyspace: &str) -> &'static [u8] {
    if keyspace == PLACES { &KEY_IN_PLACES } else { &KEY }
}

/// Judges a catalog: `saved` is the stamp beside it, `None` if there is none that can be read, and
/// `rows` are those of its keyspaces.
#[must_use]
pub fn judge(saved: Option<Stamp>, rows: &[Option<Stamp>]) -> Worth {
    let same = match rows.split_first() {
        Some((Some(first), others)) if others.iter().all(|row| *row == Some(*first)) => {
            Some(*first)
        }
        Some(_) | None => None,
    };
    match (saved, same) {
        // More than the stamp says: the process died between the two.
        (Some(saved), Some(row)) if row.catalog == saved.catalog && row.count >= saved.count => {
            Worth::Whole(row)
        }
        (Some(_), _) => Worth::Behind,
        (None, Some(row)) => Worth::Whole(row),
        (None, None) => Worth::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_back_and_no_other_bytes_are_one() {
        let stamp = Stamp { catalog: u128::MAX / 7, count: 9 };
        assert_eq!(Stamp::decode(&stamp.encode()), Ok(stamp));
        assert_eq!(Stamp::of_row(&stamp.row()), Some(stamp));
        assert_eq!(stamp.next(), Stamp { count: 10, ..stamp });
        for at in 0..STAMP_BYTES {
            let mut bytes = stamp.encode();
            bytes[at] ^= 1;
            assert_eq!(Stamp::decode(&bytes), Err(InvalidStamp::Checksum), "byte {at}");
        }
        assert_eq!(Stamp::decode(&stamp.encode()[1..]), Err(InvalidStamp::Length));
        assert_eq!(Stamp::of_row(b"short"), None);
        let mut later = stamp.encode();
        later[8] = 2;
        let checksum = crc32c::crc32c(&later[..STAMP_BYTES - 4]).to_le_bytes();
        later[STAMP_BYTES - 4..].copy_from_slice(&checksum);
        assert_eq!(Stamp::decode(&later), Err(InvalidStamp::Format(2)));
    }

    #[test]
    fn a_catalog_is_whole_only_if_every_keyspace_reaches_the_stamp() {
        let stamp = |catalog, count| Some(Stamp { catalog, count });
        let whole = |catalog, count| Worth::Whole(Stamp { catalog, count });
        let table = [
            (None, [None, None], Worth::Unknown),
            (None, [stamp(1, 5), stamp(1, 5)], whole(1, 5)),
            (None, [stamp(1, 5), None], Worth::Unknown),
            (stamp(1, 5), [stamp(1, 5), stamp(1, 5)], whole(1, 5)),
            (stamp(1, 5), [stamp(1, 6), stamp(1, 6)], whole(1, 6)),
            (stamp(1, 5), [stamp(1, 4), stamp(1, 4)], Worth::Behind),
            (stamp(1, 5), [stamp(1, 5), stamp(1, 4)], Worth::Behind),
            (stamp(1, 5), [stamp(1, 5), None], Worth::Behind),
            (stamp(1, 5), [None, None], Worth::Behind),
            (stamp(1, 5), [stamp(2, 9), stamp(2, 9)], Worth::Behind),
        ];
        for (saved, rows, worth) in table {
            assert_eq!(judge(saved, &rows), worth, "{saved:?} beside {rows:?}");
        }
    }

    #[test]
    fn its_rows_stand_apart_from_all_others() {
        assert!(crate::place::is_mark_in_places(stamp_key(PLACES)));
        assert_eq!(crate::place::parse_contents_key(stamp_key(crate::place::CONTENTS)), None);
        assert!(*stamp_key("feed") > crate::feed::floor_key()[..]);
    }
}
