//! Deletes of namespaces: what is gone stays gone, and what is put later stays.

use fault_injection::{DiskFault, Fault, FaultId, Plan, What, When};
use kura_core::{
    address::{Address, Space},
    place::{Place, is_mark_in_places},
};
use kura_env::Catalog as _;
use kura_node::{service::Refusal, store::KEYSPACES};

use crate::{
    bed::{Bed, body, plain},
    stories::POWER_LOSS,
};

const LARGE: usize = 60_000;

fn delete(bed: &Bed, namespace: &str) -> Result<(), Refusal> {
    let (store, namespace) = (bed.store(), namespace.to_owned());
    bed.run(async move { store.delete(namespace).await })
}

fn of_others(key: &str) -> Address {
    Address::new("team-2", Space::Plain, key).unwrap()
}

/// How many artifacts the index leads to.
fn indexed(bed: &Bed) -> usize {
    let catalog = bed.shared_catalog();
    let rows = bed.run(async move { catalog.range(KEYSPACES[0], &[], &[], usize::MAX).await });
    let rows = rows.unwrap();
    let is_place = |(key, row): &(bytes::Bytes, bytes::Bytes)| {
        !is_mark_in_places(key) && Place::decode(row).is_some()
    };
    rows.iter().filter(|row| is_place(row)).count()
}

#[test]
fn what_is_deleted_is_a_miss_at_once_and_what_is_put_later_stays() {
    let mut bed = Bed::new(101);
    bed.start().unwrap();
    bed.put(plain("small"), body(1, 3_000)).unwrap();
    bed.put(plain("large"), body(2, LARGE)).unwrap();
    bed.put(plain("again"), body(3, 2_000)).unwrap();
    bed.put(of_others("small"), body(4, 3_000)).unwrap();
    delete(&bed, "team").unwrap();
    let misses = |bed: &Bed| {
        for key in ["small", "large"] {
            assert_eq!(bed.get(&plain(key)).unwrap(), None, "{key}");
        }
        assert_eq!(bed.get(&of_others("small")).unwrap(), Some(body(4, 3_000)));
    };
    misses(&bed);
    bed.put(plain("again"), body(5, 2_000)).unwrap();
    bed.settle();
    assert_eq!(indexed(&bed), 2, "the rest is purged");
    let objects = |bed: &Bed| {
        bed.disk.walk().iter().filter(|file| file.path.as_str().starts_with("pool/")).count()
    };
    assert_eq!(objects(&bed), 0, "a large object gives its room back");
    let counted = &bed.metrics().store;
    assert_eq!((counted.deletes.get(), counted.deleted_artifacts.get()), (1, 3));
    assert_eq!(bed.store().deletes_status()["unpurged"], 0);
    // In good order, by a loss of power, and with a catalog that is made again from the segments.
    for round in 0..3 {
        match round {
            0 => bed.close(),
            1 => bed.crash(POWER_LOSS),
            _ => {
                bed.close();
                bed.forget_index();
            }
        }
        bed.start().unwrap();
        misses(&bed);
        assert_eq!(bed.get(&plain("again")).unwrap(), Some(body(5, 2_000)), "round {round}");
    }
    assert_eq!(bed.metrics().store.recovered_deleted.get(), 2, "of the rings");
}

#[test]
fn a_purge_that_is_cut_goes_on_at_the_next_start() {
    let mut bed = Bed::new(102);
    bed.start().unwrap();
    for n in 0..1_000 {
        bed.put(plain(&format!("key-{n}")), body(n, 100)).unwrap();
    }
    delete(&bed, "team").unwrap();
    bed.crash(POWER_LOSS);
    bed.start().unwrap();
    for n in 0..1_000 {
        assert_eq!(bed.get(&plain(&format!("key-{n}"))).unwrap(), None, "{n}");
    }
    bed.settle();
    assert_eq!((indexed(&bed), bed.store().deletes_status()["unpurged"].as_u64()), (0, Some(0)));
}

#[test]
fn a_body_that_is_under_way_when_its_namespace_is_deleted_is_put_later() {
    let mut bed = Bed::new(103);
    bed.start().unwrap();
    let store = bed.store();
    bed.run(async move {
        let mut upload = store.begin(plain("key"), Some(100)).await.unwrap();
        upload.write(body(1, 50)).await.unwrap();
        store.delete("team".to_owned()).await.unwrap();
        upload.write(body(1, 100).slice(50..)).await.unwrap();
        upload.publish().await.unwrap();
    });
    bed.settle();
    assert_eq!(bed.get(&plain("key")).unwrap(), Some(body(1, 100)));
}

#[test]
fn deletes_that_cannot_be_read_back_are_told_of_and_keep_nothing_from_starting() {
    let mut bed = Bed::new(104);
    bed.start().unwrap();
    bed.put(plain("key"), body(1, 100)).unwrap();
    delete(&bed, "team").unwrap();
    bed.settle();
    bed.close();
    bed.disk.rot("TOMBSTONES", 20, 1).unwrap();
    bed.start().unwrap();
    assert_eq!(bed.metrics().store.tombstones_lost.get(), 1);
    assert_eq!(bed.get(&plain("key")).unwrap(), None, "it was purged");
    delete(&bed, "team-2").unwrap();
    bed.close();
    bed.start().unwrap();
    assert_eq!(bed.metrics().store.tombstones_lost.get(), 0, "the file is whole again");
    assert_eq!(bed.store().deletes_status()["namespaces"], 1);
}

#[test]
fn a_delete_is_answered_only_if_the_disk_keeps_it() {
    for (label, kind) in [
        ("sync_data TOMBSTONES.new", DiskFault::Io),
        ("rename TOMBSTONES.new -> TOMBSTONES", DiskFault::Io),
        ("append TOMBSTONES.new", DiskFault::NoSpace),
    ] {
        let mut bed = Bed::new(105);
        let when = When::EffectMatching { label: label.to_owned(), nth: 1 };
        let (id, node) = (FaultId(0), "node-1".to_owned());
        let fault = Fault { id, node, when, what: What::DiskError { kind }, times: 1 };
        bed.plan = Plan { faults: vec![fault] };
        bed.start().unwrap();
        bed.put(plain("key"), body(1, 100)).unwrap();
        let refused = delete(&bed, "team").expect_err(label);
        assert!(matches!(refused, Refusal::Disk(_) | Refusal::DiskFull(_)), "{label}: {refused}");
        assert_eq!(bed.get(&plain("key")).unwrap(), Some(body(1, 100)), "{label}");
        delete(&bed, "team").unwrap();
        bed.crash(POWER_LOSS);
        bed.start().unwrap();
        assert_eq!(bed.get(&plain("key")).unwrap(), None, "{label}");
    }
}
