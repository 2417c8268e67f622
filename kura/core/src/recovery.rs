//! What a start finds in the data directory, and what is to be done about it.

use std::{cmp::Reverse, collections::BTreeMap};

use crate::{
    address::Space,
    record::{
        Area, FIXED_BYTES, Flow, Header, Invalid, Nonce, SEGMENT_HEADER_BYTES, SKIP_BYTES,
        SegmentId,
    },
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

/// A segment or an object of the pool that a start reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unread {
    /// Which.
    pub id: SegmentId,
    /// All sequences that were given out for what lies in it are lower.
    pub below_sequence: u64,
}

/// The order in which a start reads the segments of `ring` and `objects` of the pool: what was written
/// last comes first, because it is asked for most, and because whatever has the sequence
/// [`Unread::below_sequence`] of the next one or a higher is known for good then: of its name nothing
/// newer lies in what is still to be read.
#[must_use]
pub fn scan_order(ring: &Ring, objects: impl IntoIterator<Item = SegmentId>) -> Vec<Unread> {
    let mut order: Vec<Unread> = Vec::new();
    // One of each area and flow takes appends at a time, so it ended before the next one began.
    let mut later: BTreeMap<(Area, bool), u64> = BTreeMap::new();
    let mut members: Vec<_> = ring.members().collect();
    members.sort_by_key(|member| Reverse(member.id.number()));
    for member in members {
        let log = (member.id.area(), member.flow == Flow::Live);
        let below_sequence = later.insert(log, member.base_sequence).unwrap_or(u64::MAX);
        order.push(Unread { id: member.id, below_sequence });
    }
    // An object is called after the sequence of its record.
    let below = |id: SegmentId| id.number().saturating_add(1);
    order.extend(objects.into_iter().map(|id| Unread { id, below_sequence: below(id) }));
    order.sort_by_key(|unread| Reverse((unread.below_sequence, unread.id)));
    order
}

/// Whether what the index leads to is served while a start still reads: what has the sequence `known_from`
/// or a higher one is the newest of its name.
///
/// A name that is the digest of its body has no other. What an action came to is not served before all is
/// read: the bodies that it names may be back last.
#[must_use]
pub fn is_served_early(space: Space, sequence: u64, known_from: u64) -> bool {
    match space {
        Space::Cas => true,
        Space::Plain => sequence >= known_from,
        Space::Ac => known_from == 0,
    }
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
    use crate::{
        record::{Area, Flow, encode_skip},
        ring::Turn,
    };

    #[test]
    fn the_difference_between_ring_and_disk_is_dropped_or_swept() {
        let area = Area::Blobs;
        let ring = (0..4).fold(Ring::default(), |ring, age| {
            let turn = Turn { area, flow: Flow::Live, next_sequence: age, age };
            ring.rotated(turn, 9, |_| false).unwrap().0
        });
        let [one, two, three, four, nine] =
            [1, 2, 3, 4, 9].map(|number| SegmentId::new(area, number));
        let plan = plan(&ring, &[two, three, nine]);
        assert_eq!(plan.missing, [one, four]);
        assert_eq!(plan.orphans, [nine]);
        assert_eq!(plan.ring.members().map(|m| m.id).collect::<Vec<_>>(), [two, three]);
    }

    #[test]
    fn what_was_written_last_is_read_first_and_then_known_for_good() {
        let turns = [
            (Area::Blobs, Flow::Live, 1, 10),
            (Area::Blobs, Flow::CatchUp, 20, 20),
            (Area::Entries, Flow::Live, 30, 30),
            (Area::Blobs, Flow::Live, 40, 40),
            (Area::Blobs, Flow::CatchUp, 50, 50),
            (Area::Blobs, Flow::Live, 60, 60),
        ];
        let ring = turns.iter().fold(Ring::default(), |ring, (area, flow, next_sequence, age)| {
            let turn = Turn { area: *area, flow: *flow, next_sequence: *next_sequence, age: *age };
            ring.rotated(turn, 9, |_| false).unwrap().0
        });
        let object = |number| SegmentId::new(Area::Pool, number);
        let order = scan_order(&ring, [object(45), object(70)]);
        let read: Vec<_> = order.iter().map(|it| (it.id.number(), it.below_sequence)).collect();
        let open = u64::MAX;
        assert_eq!(
            read,
            [(3, open), (6, open), (5, open), (70, 71), (4, 60), (2, 50), (45, 46), (1, 40)]
        );
        assert_eq!(order[3].id, object(70));
    }

    #[test]
    fn only_what_cannot_be_outdone_is_served_early() {
        for (space, sequence, known_from, served) in [
            (Space::Cas, 1, u64::MAX, true),
            (Space::Plain, 7, u64::MAX, false),
            (Space::Plain, 7, 8, false),
            (Space::Plain, 7, 7, true),
            (Space::Ac, 7, 7, false),
            (Space::Ac, 7, 1, false),
            (Space::Ac, 7, 0, true),
        ] {
            let told = is_served_early(space, sequence, known_from);
            assert_eq!(told, served, "{space:?} {sequence} from {known_from}");
        }
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
