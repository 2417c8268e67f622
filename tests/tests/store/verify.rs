//! What is found in the data directory of a node that does not run, and what a store holds to its
//! volume.

use bytes::Bytes;
use kura_core::ledger::Account;
use kura_env::{Batch, CommitDurability};
use kura_node::{
    service::Refusal,
    store::KEYSPACES,
    verify::{Findings, VerifyError, verify},
};

use crate::bed::{Bed, body, plain};

fn look(bed: &Bed) -> Findings {
    let (env, _) = bed.env();
    bed.run(async move { verify(&env, "test").await }).unwrap()
}

/// Some small bodies and a large one, and a clean stop.
fn stopped(seed: u64) -> Bed {
    let mut bed = Bed::new(seed);
    bed.start().unwrap();
    for n in 0..5 {
        bed.put(plain(&format!("key-{n}")), body(n, 3_000)).unwrap();
    }
    bed.put(plain("large"), body(9, 100_000)).unwrap();
    bed.close();
    bed
}

#[test]
fn a_sound_directory_has_no_problem_and_its_bytes_are_those_of_the_disk() {
    let findings = look(&stopped(1));
    assert!(findings.is_sound(), "{findings:?}");
    assert_eq!((findings.segments, findings.objects, findings.records), (1, 1, 6));
    assert_eq!((findings.rows, findings.body_bytes), (6, 115_000));
    assert_eq!(findings.notes, [""; 0]);
    assert_eq!(findings.beside_bytes, 0);
}

#[test]
fn whatever_no_stop_explains_is_a_problem() {
    let blob = |bed: &Bed| format!("blobs/{}", bed.segments()[0].file_name());
    let problem = |spoil: &dyn Fn(&Bed), text: &str| {
        let bed = stopped(2);
        spoil(&bed);
        let findings = look(&bed);
        let is_told = findings.problems.iter().any(|problem| problem.contains(text));
        assert!(is_told && !findings.is_sound(), "{text} is not in {findings:?}");
    };
    problem(&|bed| bed.disk.rot(&blob(bed), 2 * 3_000, 0xff).unwrap(), "is damaged");
    problem(&|bed| bed.disk.rot(&blob(bed), 3, 0xff).unwrap(), "has no header");
    problem(&|bed| bed.disk.rot("RING", 9, 0xff).unwrap(), "RING has");
    let short = Bytes::from_static(b"short");
    problem(&|bed| bed.disk.plant("TOMBSTONES", &short).unwrap(), "TOMBSTONES has");
    // A log that is cut in the middle leaves rows that lead to nothing.
    problem(
        &|bed| {
            let whole = bed.disk.peek(&blob(bed)).unwrap();
            bed.disk.plant(&blob(bed), &whole.slice(..whole.len() / 2)).unwrap();
        },
        "the index says that",
    );
    problem(
        &|bed| {
            let (env, _) = bed.env();
            let mut batch = Batch::default();
            batch.put(KEYSPACES[0], b"name".to_vec(), b"no place".to_vec());
            bed.run(async move {
                env.catalog.open().await.unwrap();
                env.catalog.commit(batch, CommitDurability::Synced).await.unwrap();
                env.catalog.close().await;
            });
        },
        "cannot be read",
    );
}

#[test]
fn what_a_start_clears_up_is_a_note() {
    let bed = stopped(3);
    let junk = Bytes::from(vec![0; 5_000]);
    bed.disk.plant("blobs/00000000000000ff.seg", &junk).unwrap();
    let findings = look(&bed);
    assert!(findings.is_sound(), "{findings:?}");
    assert!(findings.notes.iter().any(|note| note.contains("in no ring")), "{findings:?}");
    assert!(findings.beside_bytes >= 5_000);
}

/// What is said of one damaged body to which nothing leads.
const TORN: &str = "damaged bodies to which nothing leads: 1";

#[test]
fn a_torn_record_that_nothing_leads_to_is_a_note() {
    let mut bed = Bed::new(7);
    bed.start().unwrap();
    bed.put(plain("before"), body(1, 3_000)).unwrap();
    bed.die_at_sync(plain("torn"), body(2, 3_000));
    let blob = format!("blobs/{}", bed.segments()[0].file_name());
    let len = bed.disk.peek(&blob).unwrap().len() as u64;
    bed.disk.rot(&blob, len - 10, 0xff).unwrap();
    let findings = look(&bed);
    assert!(findings.is_sound(), "{findings:?}");
    assert!(findings.notes.iter().any(|note| note == TORN), "{findings:?}");
}

#[test]
fn without_its_index_a_damaged_body_is_a_note_and_the_lost_index_the_problem() {
    let bed = stopped(7);
    let blob = format!("blobs/{}", bed.segments()[0].file_name());
    bed.disk.rot(&blob, 2 * 3_000, 0xff).unwrap();
    bed.forget_index();
    let findings = look(&bed);
    assert_eq!(findings.problems, ["the catalog lacks what STAMP says it had synced"]);
    assert!(findings.notes.iter().any(|note| note == TORN), "{findings:?}");
}

#[test]
fn a_directory_in_use_is_left_alone() {
    let bed = stopped(4);
    let (env, _) = bed.env();
    let tried = bed.run(async move {
        let lock = env.disk.lock(&kura_env::DiskPath::new("LOCK"), "node").await.unwrap();
        let tried = verify(&env, "test").await;
        drop(lock);
        tried
    });
    assert!(matches!(tried, Err(VerifyError::Locked { holder }) if holder == "node"));
}

#[test]
fn the_books_are_those_of_the_disk_before_and_after_a_start() {
    let mut bed = Bed::new(5);
    bed.start().unwrap();
    for n in 0..400 {
        bed.put(plain(&format!("key-{n}")), body(n, 9_000)).unwrap();
        if n % 50 == 0 {
            bed.put(plain(&format!("large-{n}")), body(n, 100_000)).unwrap();
        }
    }
    for life in 0..2 {
        bed.settle();
        let ledger = bed.store().ledger();
        for (account, dir) in [(Account::Blobs, "blobs"), (Account::Entries, "entries")] {
            let held = bed.disk.dir_bytes(dir).unwrap().allocated_bytes;
            assert_eq!(ledger.get(account), held, "{dir} in life {life}");
        }
        let files = bed.disk.walk();
        let pool = files.iter().filter(|file| file.path.as_str().starts_with("pool/"));
        let held: u64 = pool.map(|file| file.allocated_bytes).sum();
        assert_eq!(ledger.get(Account::Pool), held, "in life {life}");
        assert_eq!(ledger.get(Account::Staging), 0);
        bed.close();
        bed.start().unwrap();
    }
}

#[test]
fn below_the_floor_nothing_is_taken_in_and_the_eldest_goes_until_there_is_room() {
    let mut bed = Bed::new(6);
    bed.start().unwrap();
    for n in 0..150 {
        bed.put(plain(&format!("key-{n}")), body(n, 9_000)).unwrap();
    }
    let before = bed.segments().len();
    let (store, metrics) = (bed.store(), bed.metrics().store.evicted_for_space.clone());
    let space = bed.disk.space();
    let floor = kura_core::ledger::floor_bytes(space.total_bytes);
    // Others leave one byte less than a segment and a half below the floor.
    let others = space.available_bytes - floor + (256 << 10) + (128 << 10);
    bed.disk.set_foreign_bytes(others);
    let clock = bed.env().0.clock;
    bed.run(async move { clock.sleep(std::time::Duration::from_secs(3)).await });
    assert!(bed.disk.space().available_bytes >= floor, "it got out of the way by itself");
    assert!(metrics.get() >= 2 && bed.segments().len() < before);
    // What cannot be had by giving way is refused, and taken in once it is there again.
    bed.disk.set_foreign_bytes(64 << 20);
    let clock = bed.env().0.clock;
    bed.run(async move { clock.sleep(std::time::Duration::from_secs(5)).await });
    let refused = bed.put(plain("late"), body(1, 9_000));
    assert!(matches!(refused, Err(Refusal::NoRoom { .. })), "{refused:?}");
    bed.disk.set_foreign_bytes(0);
    let clock = bed.env().0.clock;
    bed.run(async move { clock.sleep(std::time::Duration::from_secs(2)).await });
    bed.put(plain("late"), body(1, 9_000)).unwrap();
    drop(store);
}

#[test]
fn notes_are_counted_and_a_hundred_are_told() {
    let bed = stopped(8);
    for n in 0..250 {
        bed.disk.plant(&format!("blobs/notes-{n}.txt"), &Bytes::from_static(b"x")).unwrap();
    }
    let findings = look(&bed);
    assert!(findings.is_sound(), "{findings:?}");
    assert_eq!((findings.notes.len(), findings.note_count), (100, 250));
}
