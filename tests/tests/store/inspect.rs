//! What a look at single parts shows of a directory, and of one that is damaged.

use std::collections::BTreeMap;

use bytes::Bytes;
use kura_core::record::{Area, SegmentId};
use kura_env::DiskPath;
use kura_node::{
    inspect::{
        BodyState, Item, Lying, Sight, catalog, catalog_rows, copies_of, lying_at, place_of, ring,
        sight, walk,
    },
    store::KEYSPACES,
};

use crate::bed::{Bed, body, plain};

const BODY_BYTES: usize = 70_000;
const SMALL_BYTES: usize = 3_000;

/// Three small bodies in a segment, one of them put twice, and a large one; and a clean stop.
fn stopped(seed: u64) -> Bed {
    let mut bed = Bed::new(seed);
    bed.start().unwrap();
    for (n, key) in [(0, "a"), (1, "b"), (2, "c"), (3, "a")] {
        bed.put(plain(key), body(n, SMALL_BYTES)).unwrap();
    }
    bed.put(plain("large"), body(9, BODY_BYTES)).unwrap();
    bed.close();
    bed
}

fn segment(bed: &Bed) -> SegmentId {
    bed.segments()[0]
}

fn object(bed: &Bed) -> SegmentId {
    let files = bed.disk.walk();
    let mut ids =
        files.iter().filter_map(|it| SegmentId::from_file_name(Area::Pool, it.path.name()));
    ids.next().unwrap()
}

/// A walk in words: what lies where, from byte to byte.
fn walked(bed: &Bed, id: SegmentId) -> Vec<String> {
    let (env, _) = bed.env();
    bed.run(async move {
        let file = env.disk.open(&DiskPath::new(&id.path())).await.unwrap();
        let mut items = Vec::new();
        let mut tell = |item: Item| {
            items.push(match item {
                Item::Header(head) => format!("header of {}", head.id.area().dir()),
                Item::NoHeader(why) => format!("no header: {why}"),
                Item::Record(record) => {
                    let key = record.artifact.address.key().to_owned();
                    let is_whole = matches!(record.body, BodyState::Whole);
                    if is_whole { key } else { format!("{key}: {:?}", record.body) }
                }
                Item::Skip { .. } => "skip".to_owned(),
                Item::Gap { offset, why, .. } => format!("gap at {offset}: {why}"),
                Item::End { offset, len_bytes, why: None, .. } if offset == len_bytes => {
                    "end".into()
                }
                Item::End { offset, len_bytes, why, .. } => {
                    format!("{} bytes behind the end: {why:?}", len_bytes - offset)
                }
            });
        };
        walk(&*file, Some(id), true, &mut tell).await.unwrap();
        items
    })
}

#[test]
fn a_walk_tells_of_every_record_and_of_what_lies_between() {
    let bed = stopped(1);
    let (log, large) = (segment(&bed), object(&bed));
    assert_eq!(walked(&bed, log), ["header of blobs", "a", "b", "c", "a", "end"]);
    assert_eq!(walked(&bed, large), ["header of pool", "large", "end"]);
    // In the body of the second record, and in the header of the third.
    bed.disk.rot(&log.path(), 64 + SMALL_BYTES as u64 * 3 / 2, 1).unwrap();
    bed.disk.rot(&log.path(), 64 + 2 * (SMALL_BYTES as u64 + 105) + 40, 1).unwrap();
    let gap = format!("gap at {}: wrong checksum", 64 + 2 * (SMALL_BYTES + 105));
    let items = ["header of blobs", "a", "b: Damaged([0])", &gap, "a", "end"];
    assert_eq!(walked(&bed, log), items);
    // The second chunk of two.
    bed.disk.rot(&large.path(), 266_240 + BODY_BYTES as u64 - 1, 1).unwrap();
    assert_eq!(walked(&bed, large), ["header of pool", "large: Damaged([1])", "end"]);
    let whole = bed.disk.peek(&log.path()).unwrap();
    bed.disk.plant(&log.path(), &whole.slice(..whole.len() - 10)).unwrap();
    // No record stands behind the spoilt header any more: the log ends before it.
    let last =
        format!("{} bytes behind the end: Some(Invalid(Checksum))", 2 * (SMALL_BYTES + 105) - 10);
    assert_eq!(walked(&bed, log), ["header of blobs", "a", "b: Damaged([0])", &last]);
    bed.disk.rot(&log.path(), 20, 1).unwrap();
    assert_eq!(walked(&bed, log), ["no header: wrong checksum"]);
}

#[test]
fn a_segment_under_another_name_is_told() {
    let bed = stopped(2);
    let (log, other) = (segment(&bed), SegmentId::new(Area::Blobs, 0xee));
    bed.disk.plant(&other.path(), &bed.disk.peek(&log.path()).unwrap()).unwrap();
    assert_eq!(walked(&bed, other), [format!("no header: it says that it is {log}")]);
}

#[test]
fn an_artifact_is_found_by_its_row_by_its_place_and_by_a_scan() {
    let bed = stopped(3);
    let (env, _) = bed.env();
    let (log, large) = (segment(&bed), object(&bed));
    bed.run(async move {
        env.catalog.open().await.unwrap();
        let place = place_of(&*env.catalog, &plain("a")).await.unwrap().unwrap();
        assert_eq!((place.segment, place.sequence), (log, 4), "the later of the two");
        assert_eq!(place_of(&*env.catalog, &plain("none")).await.unwrap(), None);
        let lying = lying_at(&*env.disk, log, place.offset).await.unwrap();
        let Lying::Here(record) = lying else { panic!("{lying:?}") };
        assert_eq!((record.artifact.digest, record.artifact.sequence), (place.digest, 4));
        let beside = lying_at(&*env.disk, log, place.offset + 1).await.unwrap();
        assert!(matches!(beside, Lying::NoRecord(_)), "{beside:?}");
        let nowhere = SegmentId::new(Area::Blobs, 0xee);
        assert!(matches!(lying_at(&*env.disk, nowhere, 64).await.unwrap(), Lying::NoFile));
        let sights = [log, large, nowhere].map(|id| sight(&*env.disk, id));
        let [here, pool, gone] = sights;
        assert_eq!(here.await.unwrap(), Sight::Counts);
        assert_eq!(pool.await.unwrap(), Sight::Counts);
        assert_eq!(gone.await.unwrap(), Sight::OutOfRing);
        let copies = copies_of(&*env.disk, &plain("a")).await.unwrap();
        let sequences: BTreeMap<SegmentId, Vec<u64>> = copies
            .into_iter()
            .map(|(id, all)| (id, all.iter().map(|it| it.artifact.sequence).collect()))
            .collect();
        assert_eq!(sequences, BTreeMap::from([(log, vec![1, 4])]));
        env.catalog.close().await;
    });
}

#[test]
fn the_catalog_is_counted_and_held_against_stamp_and_segments() {
    let bed = stopped(4);
    let look = || {
        let (env, _) = bed.env();
        bed.run(async move {
            env.catalog.open().await.unwrap();
            let report = catalog(&*env.disk, &*env.catalog).await.unwrap();
            let rows = catalog_rows(&*env.catalog, "contents", 2).await.unwrap();
            let unknown = catalog_rows(&*env.catalog, "nothing", 2).await.unwrap();
            env.catalog.close().await;
            assert!(unknown.is_none());
            (report, rows.unwrap())
        })
    };
    let (report, rows) = look();
    assert_eq!((report.worth, report.notes.len(), report.problems.len()), ("whole", 0, 0));
    // Four names, two watermarks and a stamp.
    assert_eq!((report.keyspaces[0].name, report.keyspaces[0].rows), ("places", 7));
    assert_eq!(report.keyspaces.len(), KEYSPACES.len());
    let first = rows[0].as_ref().unwrap().to_string();
    assert_eq!(
        (rows.len(), first.as_str()),
        (2, "blobs/0000000000000001:64 -> /team/a, sequence 1")
    );
    bed.forget_index();
    let (report, _) = look();
    assert_eq!(report.worth, "behind");
    assert!(report.problems[0].contains("lacks what STAMP says"), "{report:?}");
    bed.disk.rot("STAMP", 20, 1).unwrap();
    let (report, _) = look();
    assert_eq!(report.worth, "unknown");
    assert!(report.problems[0].contains("STAMP has a wrong checksum"), "{report:?}");
}

#[test]
fn a_ring_that_cannot_be_read_is_a_problem_and_one_of_another_version_is_no_damage() {
    let look = |spoil: &dyn Fn(&Bed)| {
        let bed = stopped(5);
        spoil(&bed);
        let (env, _) = bed.env();
        bed.run(async move { ring(&*env.disk, (None, 256 << 10)).await.unwrap() })
    };
    let report = look(&|_| ());
    assert!(report.problems.is_empty() && report.notes.is_empty(), "{report:?}");
    assert_eq!(report.rings.iter().map(|ring| ring.members.len()).collect::<Vec<_>>(), [1, 0]);
    let report = look(&|bed| bed.disk.rot("RING", 20, 1).unwrap());
    assert!(report.problems[0].contains("wrong magic or checksum; the next start"), "{report:?}");
    let report = look(&|bed| bed.disk.plant("RING", &Bytes::from_static(b"short")).unwrap());
    assert!(report.problems[0].contains("wrong length"), "{report:?}");
}
