//! What a start finds in the data directory, and what is to be done about it.

use crate::{
    record::{FIXED_BYTES, Header, Invalid, Nonce, SEGMENT_HEADER_BYTES, SKIP_BYTES, SegmentId},
    ring::Ring,
};

/// What to do with the segments that were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The ring to go on with: what was saved, less what is not on the disk.
    pub ring: Ring,
    /// In the ring and not on the disk: dropped. Their data is gone, references into them are
    /// misses.
    pub missing: Vec<SegmentId>,
    /// On the disk and not in the ring: to be evicted as usual, and unlinked.
    pub orphans: Vec<SegmentId>,
}

/// Compares the saved ring with the files that lie there.
#[must_use]
pub fn plan(saved: &Ring, on_disk: &[SegmentId]) -> Plan {
    let missing = saved.members().map(|m| m.id).filter(|id| !on_disk.contains(id)).collect();
    let orphans = on_disk.iter().copied().filter(|id| !saved.contains(*id)).collect();
    Plan { ring: saved.retained(|id| on_disk.contains(&id)), missing, orphans }
}

/// Where appends go on in the newest segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// At the end of the file; nothing lies behind the last valid record.
    Append {
        /// The length of the file.
        at: u64,
    },
    /// Behind a skip record over what a crash left.
    Skip {
        /// Where to write the skip record: behind the last valid record.
        at: u64,
        /// Where it ends, and the file with it.
        end: u64,
    },
    /// There is no room left: appends need a new segment.
    Seal,
}

/// Where the scan of a segment begins whose records below `watermark` are said to be in the index.
///
/// A file that is shorter than that has lost bytes that the index knows: all of it is looked at
/// again.
#[must_use]
pub fn scan_start(watermark: u64, len_bytes: u64) -> u64 {
    if watermark > len_bytes { SEGMENT_HEADER_BYTES } else { watermark.max(SEGMENT_HEADER_BYTES) }
}

/// Decides how to go on in a segment whose last valid record ends at `valid_end`, in a file of
/// `len_bytes`. Appends never go to where bytes were written before, so that a record that a crash
/// tore can never be completed by chance; nor to a file that is shorter than it was known to be,
/// because an append goes to its end, wherever the index thinks that is.
#[must_use]
pub fn resume(valid_end: u64, len_bytes: u64, segment_bytes: u64) -> Resume {
    let end = len_bytes.max(valid_end + SKIP_BYTES);
    if len_bytes < valid_end {
        Resume::Seal
    } else if len_bytes == valid_end && valid_end < segment_bytes {
        Resume::Append { at: valid_end }
    } else if end < segment_bytes {
        Resume::Skip { at: valid_end, end }
    } else {
        Resume::Seal
    }
}

/// What a scan finds at one offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A record whose header is right and whose body lies within the file. The next one starts at
    /// `end`.
    Record {
        /// Its header.
        header: Box<Header>,
        /// The length of the header.
        header_bytes: usize,
        /// Where the record ends.
        end: u64,
    },
    /// This many bytes from the offset on are needed to tell.
    More(usize),
    /// No record: the log ends here.
    End(Invalid),
}

/// Looks at `bytes`, read at `offset` of a segment's file of `len_bytes`.
#[must_use]
pub fn look(bytes: &[u8], nonce: Nonce, offset: u64, len_bytes: u64) -> Found {
    let left = len_bytes.saturating_sub(offset);
    if left < FIXED_BYTES as u64 {
        return Found::End(Invalid::Short);
    }
    if bytes.len() < FIXED_BYTES {
        return Found::More(FIXED_BYTES);
    }
    let wanted = match Header::len_hint(bytes) {
        Ok(wanted) => wanted,
        Err(invalid) => return Found::End(invalid),
    };
    if wanted as u64 > left {
        return Found::End(Invalid::Short);
    }
    if bytes.len() < wanted {
        return Found::More(wanted);
    }
    match Header::decode(bytes, nonce, offset) {
        Ok((header, header_bytes)) => {
            let end = (offset + header_bytes as u64).checked_add(header.body_bytes());
            match end.filter(|end| *end <= len_bytes) {
                Some(end) => Found::Record { header: Box::new(header), header_bytes, end },
                None => Found::End(Invalid::Short),
            }
        }
        Err(invalid) => Found::End(invalid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::encode_skip;

    #[test]
    fn the_difference_between_ring_and_disk_is_dropped_or_swept() {
        let ring = (0..4).fold(Ring::default(), |ring, turn| ring.rotated(9, turn).0);
        let plan = plan(&ring, &[SegmentId(2), SegmentId(3), SegmentId(9)]);
        assert_eq!(plan.missing, [SegmentId(1), SegmentId(4)]);
        assert_eq!(plan.orphans, [SegmentId(9)]);
        assert_eq!(plan.ring.members().map(|m| m.id.0).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn appends_go_on_beyond_every_byte_ever_written() {
        assert_eq!(resume(100, 100, 1000), Resume::Append { at: 100 });
        assert_eq!(resume(100, 700, 1000), Resume::Skip { at: 100, end: 700 });
        assert_eq!(resume(100, 101, 1000), Resume::Skip { at: 100, end: 100 + SKIP_BYTES });
        assert_eq!(resume(100, 1000, 1000), Resume::Seal);
        assert_eq!(resume(1000, 1000, 1000), Resume::Seal);
        assert_eq!(resume(990, 991, 1000), Resume::Seal);
        assert_eq!(resume(100, 90, 1000), Resume::Seal, "the index knows more than the file");
    }

    #[test]
    fn a_scan_begins_at_a_watermark_that_can_be_true() {
        for (watermark, len_bytes, start) in [
            (0, 0, SEGMENT_HEADER_BYTES),
            (0, 900, SEGMENT_HEADER_BYTES),
            (500, 900, 500),
            (900, 900, 900),
            (901, 900, SEGMENT_HEADER_BYTES),
        ] {
            assert_eq!(scan_start(watermark, len_bytes), start, "{watermark} of {len_bytes}");
        }
    }

    #[test]
    fn a_scan_asks_for_what_it_needs_and_stops_at_what_is_no_record() {
        let nonce = Nonce([1; 16]);
        let bytes = encode_skip(nonce, 64, 500);
        assert_eq!(look(&bytes[..10], nonce, 64, 500), Found::More(FIXED_BYTES));
        assert_eq!(look(&bytes[..FIXED_BYTES], nonce, 64, 500), Found::More(bytes.len()));
        let found = look(&bytes, nonce, 64, 500);
        assert!(matches!(found, Found::Record { end: 500, .. }), "{found:?}");
        assert_eq!(look(&bytes, nonce, 64, 499), Found::End(Invalid::Short));
        assert_eq!(look(&bytes, nonce, 72, 900), Found::End(Invalid::Checksum));
        assert_eq!(look(&[0; 200], nonce, 64, 500), Found::End(Invalid::Magic));
        assert_eq!(look(&[], nonce, 490, 500), Found::End(Invalid::Short));
    }
}
