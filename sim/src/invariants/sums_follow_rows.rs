//! What a node tells its peers of what it holds is what it holds.

use std::collections::BTreeMap;

use bytes::Bytes;
use kura_core::{
    place::{Place, is_mark_in_places},
    record::SegmentId,
    summary::{Item, Span},
};
use kura_env::Row;

use super::{Invariant, Violation};

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "sums_follow_rows",
    demands: "every artifact in the index of a node has its one row among the versions, nothing else has one, and \
              every sum in memory is that of the rows in its range",
    checked: "at rest",
};

/// Judges the rows of `places` and `versions`, and the sums of the node, of which `wrong` finds one that is
/// not that of these items.
///
/// # Errors
///
/// At the first row that is missing or should not be, or the first wrong sum.
pub fn check(
    node: &str,
    (places, versions): (&[Row], &[Row]),
    wrong: impl Fn(&[(Item, SegmentId)]) -> Option<Span>,
) -> Result<(), Violation> {
    let held = places.iter().filter(|(key, _)| !is_mark_in_places(key)).filter_map(|(key, row)| {
        let place = Place::decode(row)?;
        Some((Item::of(key, place.version, place.digest), (key, place.segment)))
    });
    let held: BTreeMap<Item, (&Bytes, SegmentId)> = held.collect();
    let told = versions.iter().filter_map(|(key, row)| Some((Item::of_key(key)?, row)));
    let told: BTreeMap<Item, &Bytes> = told.collect();
    let violated =
        |what: &str, item: &Item| INVARIANT.violated(format!("{node}: {what}: {item:?}"));
    if let Some((item, _)) = held.iter().find(|(item, (key, _))| told.get(*item) != Some(key)) {
        return Err(violated("held, and not among the versions", item));
    }
    if let Some((item, _)) = told.iter().find(|(item, _)| !held.contains_key(*item)) {
        return Err(violated("among the versions, and not held", item));
    }
    let items: Vec<(Item, SegmentId)> =
        held.into_iter().map(|(item, (_, segment))| (item, segment)).collect();
    match wrong(&items) {
        None => Ok(()),
        Some(span) => Err(INVARIANT.violated(format!("{node}: a wrong sum over {span:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use kura_core::{
        address::{Address, Space},
        digest::Digest,
        place::place_key,
        record::Version,
    };

    use super::*;

    fn rows(time: u64) -> (Row, Row) {
        let key = place_key(&Address::new("team", Space::Plain, time.to_string()).unwrap());
        let (version, digest) = (Version { time, node: 1 }, Digest::of(b"x"));
        let place = Place {
            segment: SegmentId(1),
            offset: 64,
            header_bytes: 100,
            body_bytes: 1,
            sequence: time,
            version,
            digest,
        };
        let item = Item::of(&key, version, digest);
        ((key.clone().into(), place.encode().into()), (item.key().into(), key.into()))
    }

    #[test]
    fn a_row_without_its_other_and_a_wrong_sum_are_reported() {
        let ((place, version), (other_place, other)) = (rows(1), rows(2));
        let mark: Row = (Bytes::from_static(&[0, b'w']), Bytes::new());
        let right = |_: &[(Item, SegmentId)]| None;
        let both = [place.clone(), mark, other_place];
        assert!(check("n", (&both, &[version.clone(), other.clone()]), right).is_ok());
        assert!(check("n", (&both, std::slice::from_ref(&version)), right).is_err());
        assert!(check("n", (&both[..2], &[version.clone(), other]), right).is_err());
        assert!(check("n", (&both[..2], &[(version.0.clone(), Bytes::new())]), right).is_err());
        let wrong = |items: &[(Item, SegmentId)]| (items.len() == 1).then_some(Span::ALL);
        assert!(check("n", (&both[..2], &[version]), wrong).is_err());
    }
}
