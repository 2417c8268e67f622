//! Every kind of damage is found, made right, and costs no more than what it hit.

use std::{ops::Range, time::Duration};

use bytes::Bytes;
use kura_core::{
    record::{Area, SegmentId, chunk_sum},
    summary::Item,
};
use kura_env::{Batch, CommitDurability, DiskPath, Keyspace, Row};
use kura_node::{
    store::KEYSPACES,
    verify::{Repaired, verify_and_repair},
};
use sim_storage::{Crash, Effect, EffectVerdict};

use crate::bed::{Bed, body, plain};

const VERSIONS: Keyspace = KEYSPACES[5];
const SMALL_BODIES: u64 = 5;
const SMALL_BYTES: usize = 3_000;
const LARGE_BYTES: usize = 100_000;

fn artifacts() -> Vec<(String, Bytes)> {
    let small = (0..SMALL_BODIES).map(|n| (format!("key-{n}"), body(n, SMALL_BYTES)));
    small.chain([("large".to_owned(), body(9, LARGE_BYTES))]).collect()
}

/// Some small bodies and a large one, and a clean stop.
fn stopped(seed: u64) -> Bed {
    let mut bed = Bed::new(seed);
    bed.start().unwrap();
    for (key, body) in artifacts() {
        bed.put(plain(&key), body).unwrap();
    }
    bed.close();
    bed
}

fn repaired(bed: &Bed) -> Repaired {
    let (env, _) = bed.env();
    let config = bed.config.clone();
    let found = bed.run(async move { verify_and_repair(&env, &config, "test").await }).unwrap();
    // Its process ends, and with it whatever it held open.
    bed.disk.crash(Crash::Sigkill);
    found
}

/// What is served after a start.
fn served(bed: &mut Bed) -> Vec<String> {
    bed.start().unwrap();
    let here = artifacts().into_iter().filter(|(key, body)| {
        let got = bed.get(&plain(key)).unwrap();
        assert!(got.as_ref().is_none_or(|got| got == body), "other bytes at {key}");
        got.is_some()
    });
    let here = here.map(|(key, _)| key).collect();
    bed.close();
    here
}

fn all_but(lost: &[&str]) -> Vec<String> {
    let keys = artifacts().into_iter().map(|(key, _)| key);
    keys.filter(|key| !lost.contains(&key.as_str())).collect()
}

fn path_in(bed: &Bed, area: Area) -> String {
    let files = bed.disk.walk();
    let mut paths = files.iter().map(|file| file.path.as_str().to_owned());
    paths.find(|path| path.starts_with(area.dir())).unwrap()
}

/// Damages, looks and repairs, and says what was repaired and that all but `lost` is still served.
fn costs(lost: &[&str], damage: impl Fn(&Bed), told: &str) -> Bed {
    let mut bed = stopped(1);
    damage(&bed);
    let found = repaired(&bed);
    assert!(!found.before.is_sound(), "{told}: {found:?}");
    assert!(found.is_sound(), "{told}: {found:?}");
    assert!(found.repairs.iter().any(|it| it.contains(told)), "{told} is not in {found:?}");
    assert_eq!(served(&mut bed), all_but(lost), "{told}: {found:?}");
    assert!(repaired(&bed).before.is_sound(), "{told}: damage came back");
    bed
}

#[test]
fn a_sound_directory_is_left_as_it_is() {
    let bed = stopped(2);
    let sound = |bed: &Bed| {
        let found = repaired(bed);
        assert!(found.is_sound() && found.after.is_none() && found.repairs.is_empty(), "{found:?}");
    };
    sound(&bed);
    let before = files(&bed);
    sound(&bed);
    assert!(files(&bed) == before, "something was changed");
}

#[test]
fn a_damaged_body_costs_its_artifact_and_no_other() {
    let damage = |bed: &Bed| bed.disk.rot(&path_in(bed, Area::Blobs), 5_000, 1).unwrap();
    costs(&["key-1"], damage, "its artifact is a miss");
}

#[test]
fn a_damaged_header_costs_its_artifact_and_no_other() {
    // The first record begins behind the header of the segment.
    let damage = |bed: &Bed| bed.disk.rot(&path_in(bed, Area::Blobs), 64 + 30, 1).unwrap();
    costs(&["key-0"], damage, "its artifact is a miss");
}

#[test]
fn a_damaged_object_goes_to_quarantine_and_is_there_to_be_looked_at() {
    let damage = |bed: &Bed| bed.disk.rot(&path_in(bed, Area::Pool), 300_000, 1).unwrap();
    let bed = costs(&["large"], damage, "is in quarantine/pool/");
    let files = bed.disk.walk();
    let kept: Vec<_> =
        files.iter().filter(|file| file.path.as_str().starts_with("quarantine/pool/")).collect();
    assert!(matches!(&kept[..], [file] if file.len_bytes > 100_000), "{kept:?}");
}

#[test]
fn the_small_files_and_the_catalog_are_made_again() {
    costs(&[], |bed| bed.disk.rot("RING", 9, 1).unwrap(), "RING was made again");
    costs(&[], |bed| bed.disk.rot("IDENTITY", 20, 1).unwrap(), "IDENTITY was damaged");
    costs(&[], |bed| bed.disk.rot("STAMP", 20, 1).unwrap(), "STAMP was written again");
    let damage = |bed: &Bed| bed.disk.plant("TOMBSTONES", &Bytes::from_static(b"short")).unwrap();
    costs(&[], damage, "TOMBSTONES was damaged");
    // A catalog that lost all of its rows is behind its stamp.
    costs(&[], Bed::forget_index, "records were taken into the index");
}

#[test]
fn rows_that_mean_nothing_and_rows_that_lead_nowhere_are_taken_away() {
    let damage = |bed: &Bed| {
        let (env, _) = bed.env();
        let mut batch = Batch::default();
        for space in KEYSPACES {
            batch.put(space, b"name".to_vec(), b"no row".to_vec());
        }
        bed.run(async move {
            env.catalog.open().await.unwrap();
            env.catalog.commit(batch, CommitDurability::Synced).await.unwrap();
            env.catalog.close().await;
        });
    };
    costs(&[], damage, "6 rows of the index led nowhere");
}

#[test]
fn rows_of_versions_that_are_missing_or_too_many_are_made_right() {
    let change = |bed: &Bed, change: fn(&mut Batch, &[Row])| {
        let (env, _) = bed.env();
        bed.run(async move {
            env.catalog.open().await.unwrap();
            let rows = env.catalog.range(VERSIONS, &[], &[], 1000).await.unwrap();
            let is_item = |(key, _): &Row| Item::of_key(key).is_some();
            let rows: Vec<Row> = rows.into_iter().filter(is_item).collect();
            assert_eq!(rows.len(), artifacts().len(), "one for each artifact");
            let mut batch = Batch::default();
            change(&mut batch, &rows);
            env.catalog.commit(batch, CommitDurability::Synced).await.unwrap();
            env.catalog.close().await;
        });
    };
    let missing = |bed: &Bed| {
        change(bed, |batch, rows| {
            rows[..2].iter().for_each(|(key, _)| batch.delete(VERSIONS, key.clone()))
        });
    };
    costs(&[], missing, "2 rows of the versions were missing, and are there again");
    let stray = |bed: &Bed| {
        change(bed, |batch, rows| {
            let key = Item { time: 1, print: 2 }.key();
            batch.put(VERSIONS, key, rows[0].1.clone());
        });
    };
    costs(&[], stray, "1 rows of the index led nowhere");
}

#[test]
fn a_start_writes_versions_that_are_lost_without_a_stamp_to_tell() {
    let mut bed = stopped(5);
    let (env, _) = bed.env();
    bed.run(async move {
        env.catalog.open().await.unwrap();
        let rows = env.catalog.range(VERSIONS, &[], &[], 1000).await.unwrap();
        let mut batch = Batch::default();
        rows.iter().for_each(|(key, _)| batch.delete(VERSIONS, key.clone()));
        env.catalog.commit(batch, CommitDurability::Synced).await.unwrap();
        env.catalog.close().await;
    });
    bed.disk.rot("STAMP", 20, 1).unwrap();
    assert_eq!(served(&mut bed), all_but(&[]));
    let found = repaired(&bed);
    assert!(found.before.is_sound(), "{:?}", found.before.problems);
}

#[test]
fn a_log_that_was_cut_costs_what_was_behind_the_cut() {
    let damage = |bed: &Bed| {
        let path = path_in(bed, Area::Blobs);
        let whole = bed.disk.peek(&path).unwrap();
        // In the middle of the third of five.
        bed.disk.plant(&path, &whole.slice(..2 * SMALL_BYTES + 1_000)).unwrap();
    };
    costs(&["key-2", "key-3", "key-4"], damage, "its artifact is a miss");
}

#[test]
fn a_segment_without_a_header_goes_with_its_rows() {
    let damage = |bed: &Bed| bed.disk.rot(&path_in(bed, Area::Blobs), 3, 1).unwrap();
    let lost = ["key-0", "key-1", "key-2", "key-3", "key-4"];
    let bed = costs(&lost, damage, "counted no more: it is gone, with 5 rows");
    assert_eq!(bed.segments(), [], "nothing is left of it");
}

#[test]
fn what_a_start_would_clear_up_is_cleared_up_and_foreign_files_stay() {
    let mut bed = stopped(3);
    let (orphan, foreign) = (SegmentId::new(Area::Blobs, 0xff).path(), "blobs/notes.txt");
    for path in [orphan.as_str(), foreign, "tmp/3.part"] {
        bed.disk.plant(path, &Bytes::from(vec![0; 5_000])).unwrap();
    }
    let found = repaired(&bed);
    assert!(found.before.is_sound() && found.is_sound(), "{found:?}");
    assert!(bed.disk.peek(&orphan).is_none() && bed.disk.peek("tmp/3.part").is_none());
    assert!(bed.disk.peek(foreign).is_some());
    assert_eq!(served(&mut bed), all_but(&[]));
}

/// The paths and contents of all files but the lock, which holds the name of whoever looked last.
fn files(bed: &Bed) -> Vec<(DiskPath, Option<Bytes>)> {
    let files = bed.disk.walk().into_iter().map(|file| file.path);
    let files = files.filter(|path| path.as_str() != "LOCK");
    files.map(|path| (path.clone(), bed.disk.peek(path.as_str()))).collect()
}

/// RING as it lies there, in a format that nobody knows.
fn ring_of_another_version(bed: &Bed) -> Bytes {
    let mut ring = bed.disk.peek("RING").unwrap().to_vec();
    ring[8] = 9;
    let end = ring.len() - 4;
    let checksum = chunk_sum(&ring[..end]).to_le_bytes();
    ring[end..].copy_from_slice(&checksum);
    ring.into()
}

#[test]
fn a_directory_of_another_version_is_refused_and_left_alone() {
    for file in ["IDENTITY", "RING"] {
        let bed = stopped(6);
        let other = match file {
            "RING" => ring_of_another_version(&bed),
            _ => Bytes::from_static(br#"{"format":9,"node":5,"incarnation":6}"#),
        };
        bed.disk.plant(file, &other).unwrap();
        bed.disk.rot(&path_in(&bed, Area::Pool), 300_000, 1).unwrap();
        let before = files(&bed);
        let (env, _) = bed.env();
        let config = bed.config.clone();
        let tried = bed.run(async move { verify_and_repair(&env, &config, "test").await });
        let said = tried.unwrap_err().to_string();
        assert!(said.contains("format 9"), "{file}: {said}");
        assert!(files(&bed) == before, "{file}: something was changed");
    }
}

/// Damage of every kind that a repair acts on, and the names that it costs.
fn spoiled() -> (Bed, [&'static str; 2]) {
    let bed = stopped(6);
    bed.disk.rot(&path_in(&bed, Area::Blobs), 5_000, 1).unwrap();
    bed.disk.rot(&path_in(&bed, Area::Pool), 300_000, 1).unwrap();
    bed.disk.rot("RING", 20, 1).unwrap();
    let orphan = SegmentId::new(Area::Entries, 0xff).path();
    bed.disk.plant(&orphan, &Bytes::from(vec![0; 5_000])).unwrap();
    (bed, ["key-1", "large"])
}

#[test]
fn a_repair_that_is_killed_before_any_change_of_the_disk_costs_nothing_that_is_sound() {
    let mut deaths = 0;
    for nth in 0_u32.. {
        let (mut bed, damaged) = spoiled();
        let mut left = nth;
        bed.disk.set_effect_hook(Box::new(move |_: &Effect| {
            let is_last = left == 0;
            left = left.checked_sub(1).unwrap_or(u32::MAX);
            if is_last { EffectVerdict::CrashBefore(Crash::Sigkill) } else { EffectVerdict::Go }
        }));
        let (env, _) = bed.env();
        let config = bed.config.clone();
        let repair = async move { verify_and_repair(&env, &config, "test").await };
        let deadline = bed.now() + Duration::from_secs(60);
        let outcome = bed.world.block_on(repair, deadline);
        bed.disk.set_effect_hook(Box::new(|_: &Effect| EffectVerdict::Go));
        bed.crash(Crash::Sigkill);
        bed.start().unwrap_or_else(|error| panic!("killed before change {nth}: {error}"));
        for (key, body) in artifacts().into_iter().filter(|(key, _)| !damaged.contains(&&**key)) {
            let got = bed.get(&plain(&key)).unwrap();
            assert_eq!(got, Some(body), "{key}, killed before change {nth}");
        }
        bed.close();
        assert!(repaired(&bed).is_sound(), "the next repair goes on, killed before change {nth}");
        if outcome.is_ok() {
            break;
        }
        deaths += 1;
    }
    assert!(deaths > 20, "{deaths} changes are less than a repair makes");
}

/// What a sick device costs: looks and repairs while it cannot read `bytes` of the file, says what came of
/// that, and then that the same repair finds everything sound and every artifact is served.
fn costs_nothing(bed: &mut Bed, all: &[String], path: &str, bytes: Range<u64>) -> Repaired {
    bed.sickness.strike(path, bytes);
    let found = repaired(bed);
    assert!(!found.before.is_sound() && !found.is_sound(), "{path}: {found:?}");
    let gave_up = |it: &String| it.contains("is a miss") || it.contains("led nowhere");
    assert!(!found.repairs.iter().any(gave_up), "{path}: {found:?}");
    bed.sickness.pass();
    let later = repaired(bed);
    assert!(later.before.is_sound() && later.repairs.is_empty(), "{path}: {later:?}");
    bed.start().unwrap();
    let missing: Vec<_> =
        all.iter().filter(|key| bed.get(&plain(key)).unwrap().is_none()).collect();
    assert!(missing.is_empty(), "{path}: {missing:?} of {} are gone", all.len());
    bed.close();
    found
}

#[test]
fn what_the_device_cannot_read_keeps_its_rows() {
    // The header of the first record, of one in the middle, of the last; a body; all but the head.
    for (area, bytes) in [
        (Area::Blobs, 70..71),
        (Area::Blobs, 6_500..6_501),
        (Area::Blobs, 12_800..12_801),
        (Area::Blobs, 64..20_000),
        (Area::Pool, 0..1),
        (Area::Pool, 266_240 - 100..266_240 - 99),
        (Area::Pool, 270_000..270_001),
    ] {
        let mut bed = stopped(7);
        let path = path_in(&bed, area);
        costs_nothing(&mut bed, &all_but(&[]), &path, bytes);
    }
}

#[test]
fn a_device_that_fails_at_most_of_a_segment_costs_no_row_of_it() {
    let mut bed = Bed::new(8);
    bed.config.segment_bytes = 4 << 20;
    bed.config.capacity_bytes = Some(40 << 20);
    bed.start().unwrap();
    let keys: Vec<String> = (0..60).map(|n| format!("key-{n}")).collect();
    for (n, key) in (0..).zip(&keys) {
        bed.put(plain(key), body(n, 60_000)).unwrap();
    }
    bed.close();
    let path = path_in(&bed, Area::Blobs);
    // More blocks than are tried; sound records lie behind them.
    let found = costs_nothing(&mut bed, &keys, &path, 100_000..2_500_000);
    let told = |it: &String| it.contains("cannot be told");
    assert!(found.before.problems.iter().any(told), "{found:?}");
}

#[test]
fn a_segment_whose_header_the_device_cannot_read_stays_with_all_that_is_in_it() {
    let mut bed = stopped(9);
    let path = path_in(&bed, Area::Blobs);
    costs_nothing(&mut bed, &all_but(&[]), &path, 0..1);
}

#[test]
fn rot_beside_what_cannot_be_read_is_no_reason_to_give_up_what_may_lie_there() {
    let mut bed = stopped(10);
    let path = path_in(&bed, Area::Blobs);
    bed.disk.rot(&path, 64 + 30, 1).unwrap();
    bed.sickness.strike(&path, 6_500..6_501);
    repaired(&bed);
    bed.sickness.pass();
    assert!(repaired(&bed).is_sound());
    assert_eq!(served(&mut bed), all_but(&["key-0"]));
}

#[test]
fn without_ring_nothing_is_repaired_while_a_header_of_a_segment_cannot_be_read() {
    let mut bed = stopped(11);
    let path = path_in(&bed, Area::Blobs);
    bed.disk.rot("RING", 9, 1).unwrap();
    bed.sickness.strike(&path, 0..1);
    let before = files(&bed);
    let found = repaired(&bed);
    assert!(!found.is_sound() && found.after.is_none() && found.repairs.is_empty(), "{found:?}");
    let told = |it: &String| it.contains("nothing is repaired");
    assert!(found.before.problems.iter().any(told), "{found:?}");
    assert!(files(&bed) == before, "something was changed");
    bed.sickness.pass();
    assert!(repaired(&bed).is_sound());
    assert_eq!(served(&mut bed), all_but(&[]));
}

/// The files in quarantine, and the bytes of the disk that they hold.
fn kept(bed: &Bed) -> Vec<(String, u64)> {
    let files = bed.disk.walk().into_iter();
    let files = files.map(|file| (file.path.as_str().to_owned(), file.allocated_bytes));
    files.filter(|(path, _)| path.starts_with("quarantine/pool/")).collect()
}

#[test]
fn quarantine_keeps_the_objects_that_were_written_last_as_far_as_it_has_room() {
    // The bed may hold 3 MiB, a twentieth of which is 149,796 bytes. How many stay of these.
    for (sizes, stay) in [
        (&[40_000, 40_000, 40_000][..], 3),
        (&[100_000, 36_000, 80_000], 2),
        (&[100_000, 100_000, 100_000, 100_000], 1),
        (&[40_000, 40_000, 300_000], 1),
    ] {
        let mut bed = Bed::new(12);
        bed.start().unwrap();
        for (n, size) in (0..).zip(sizes) {
            bed.put(plain(&format!("large-{n}")), body(n, *size)).unwrap();
        }
        bed.close();
        let foreign = "quarantine/pool/notes.txt";
        bed.disk.plant(foreign, &Bytes::from_static(b"kept")).unwrap();
        let mut objects: Vec<_> = bed.disk.walk().into_iter().map(|file| file.path).collect();
        objects.retain(|path| path.as_str().starts_with("pool/"));
        objects.sort_by_key(|path| path.name().to_owned());
        for path in &objects {
            bed.disk.rot(path.as_str(), 270_000, 1).unwrap();
        }
        let found = repaired(&bed);
        assert!(found.is_sound(), "{sizes:?}: {found:?}");
        let last = objects.iter().skip(sizes.len() - stay).map(|path| path.name().to_owned());
        let names = kept(&bed).into_iter().map(|(path, _)| path);
        let names = names.filter(|path| path != foreign);
        let names: Vec<_> = names.map(|path| DiskPath::new(&path).name().to_owned()).collect();
        assert_eq!(names, last.collect::<Vec<_>>(), "{sizes:?}: {found:?}");
        assert!(bed.disk.peek(foreign).is_some(), "what is no object is left alone");
        let removed =
            found.repairs.iter().filter(|it| it.contains("is removed: objects in")).count();
        assert_eq!(removed, sizes.len() - stay, "{sizes:?}: {found:?}");
    }
}
