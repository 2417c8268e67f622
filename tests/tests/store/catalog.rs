//! The catalog is an index over the segments: whatever becomes of it, a start makes it again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use fault_injection::{DiskFault, Fault, FaultId, Plan, What, When};
use kura_core::{
    place::{PLACES, place_key},
    stamp::{Stamp, stamp_key},
};
use kura_env::{
    Batch, BoxFuture, Catalog, CatalogError, CatalogHealth, CommitDurability, Env, Keyspace, Row,
};
use kura_node::{
    device::Watched,
    metrics::Metrics,
    store::{Early, Store},
};
use sim_storage::{Crash, Effect, EffectVerdict};

use crate::bed::{Bed, body, plain, put};

const ARTIFACTS: u64 = 20;

/// A store that holds some artifacts and does not run.
fn filled(seed: u64) -> Bed {
    let mut bed = Bed::new(seed);
    bed.start().unwrap();
    for n in 0..ARTIFACTS {
        bed.put(plain(&format!("key-{n}")), body(n, 9_000)).unwrap();
    }
    bed.close();
    bed
}

fn everything_is_there(bed: &Bed) {
    for n in 0..ARTIFACTS {
        assert_eq!(bed.get(&plain(&format!("key-{n}"))).unwrap(), Some(body(n, 9_000)), "{n}");
    }
}

fn files_in(bed: &Bed, dir: &str) -> Vec<String> {
    let paths = bed.disk.walk().into_iter().map(|file| file.path.as_str().to_owned());
    paths.filter(|path| path.starts_with(dir)).collect()
}

fn rot(bed: &Bed, suffix: &str) {
    let path = files_in(bed, "catalog/").into_iter().find(|path| path.ends_with(suffix)).unwrap();
    let len = bed.disk.peek(&path).unwrap().len() as u64;
    bed.disk.rot(&path, len / 3, 1).unwrap();
}

fn stamp(bed: &Bed) -> Stamp {
    Stamp::decode(&bed.disk.peek("STAMP").unwrap()).unwrap()
}

#[test]
fn one_that_lost_its_end_is_noticed_and_made_again() {
    let mut bed = filled(200);
    let before = stamp(&bed);
    rot(&bed, ".log");
    bed.start().unwrap();
    assert_eq!(bed.metrics().store.catalogs_behind.get(), 1);
    assert_eq!(bed.metrics().store.recovered_records.get(), ARTIFACTS);
    everything_is_there(&bed);
    assert_ne!(stamp(&bed).catalog, before.catalog, "it is another one");
    assert!(!files_in(&bed, "quarantine/catalog/").is_empty(), "the old one is kept");
    bed.close();
    bed.start().unwrap();
    assert_eq!(bed.metrics().store.catalogs_behind.get(), 0);
    assert_eq!(bed.metrics().store.recovered_records.get(), 0, "nothing was lost again");
    everything_is_there(&bed);
}

#[test]
fn one_that_opens_empty_is_noticed_and_made_again() {
    let mut bed = filled(201);
    bed.forget_index();
    bed.start().unwrap();
    assert_eq!(bed.metrics().store.catalogs_behind.get(), 1);
    everything_is_there(&bed);
}

#[test]
fn one_that_does_not_open_is_set_aside_and_made_again() {
    let mut bed = filled(202);
    for content in ["first", "second"] {
        let tables = "catalog/99999999.snapshot";
        bed.disk.plant(tables, &Bytes::from_static(content.as_bytes())).unwrap();
        bed.start().unwrap();
        assert_eq!(bed.metrics().store.catalogs_damaged.get(), 1);
        assert_eq!(bed.metrics().store.recovered_records.get(), ARTIFACTS);
        everything_is_there(&bed);
        let kept = bed.disk.peek(&format!("quarantine/{tables}"));
        assert_eq!(kept.as_deref(), Some(content.as_bytes()), "the last one is kept");
        bed.close();
    }
}

#[test]
fn without_its_stamp_it_is_taken_as_it_is() {
    for damage in ["lost", "rotten"] {
        let mut bed = filled(203);
        match damage {
            "lost" => bed.disk.lose("STAMP").unwrap(),
            _ => bed.disk.rot("STAMP", 20, 1).unwrap(),
        }
        bed.start().unwrap();
        assert_eq!(bed.metrics().store.catalogs_behind.get(), 0, "{damage}");
        assert_eq!(bed.metrics().store.recovered_records.get(), 0, "{damage}");
        everything_is_there(&bed);
        assert_eq!(stamp(&bed).count, 2, "{damage}: stamped as it was made, and as it was closed");
    }
}

#[test]
fn making_it_again_goes_on_where_a_crash_ended_it() {
    let mut bed = filled(204);
    bed.forget_index();
    // Behind the stamp, and before what was found is in the index.
    let mut appends = 0;
    bed.disk.set_effect_hook(Box::new(move |effect: &Effect| {
        let is_append = effect.change.class() == "append catalog/*.log";
        appends += u32::from(is_append);
        if appends == 2 { EffectVerdict::CrashBefore(Crash::Sigkill) } else { EffectVerdict::Go }
    }));
    let (env, _) = bed.env();
    let (config, early) = (bed.config.clone(), Early::new(env.clone(), Arc::default()));
    let recovering =
        async move { Store::recover(Watched::new(env), config, &early, &|_| ()).await.map(drop) };
    let deadline = bed.now() + Duration::from_secs(60);
    assert!(bed.world.block_on(recovering, deadline).is_err(), "it dies before");
    bed.disk.set_effect_hook(Box::new(|_: &Effect| EffectVerdict::Go));
    bed.crash(Crash::Sigkill);
    bed.start().unwrap();
    assert_eq!(bed.metrics().store.catalogs_behind.get(), 0, "the new one has its stamp");
    assert_eq!(bed.metrics().store.recovered_records.get(), ARTIFACTS);
    everything_is_there(&bed);
}

#[test]
fn on_a_full_disk_it_is_made_again_all_the_same() {
    let mut bed = filled(205);
    rot(&bed, ".log");
    let full = |label: &str| Fault {
        id: FaultId(0),
        node: "node-1".to_owned(),
        when: When::EffectMatching { label: label.to_owned(), nth: 1 },
        what: What::DiskError { kind: DiskFault::NoSpace },
        times: 1,
    };
    bed.plan = Plan { faults: vec![full("mkdir quarantine")] };
    bed.start().unwrap();
    assert_eq!(bed.metrics().store.catalogs_behind.get(), 1);
    everything_is_there(&bed);
    assert!(files_in(&bed, "quarantine/").is_empty(), "there was no room to keep it");
}

#[test]
fn one_that_is_spoilt_while_it_runs_ends_the_store_and_the_next_start_makes_it_again() {
    let mut bed = filled(206);
    bed.start().unwrap();
    bed.disk.plant("catalog/99999999.snapshot", &Bytes::from_static(b"no tables")).unwrap();
    bed.close_index();
    bed.get(&plain("key-1")).unwrap_err();
    bed.settle();
    bed.put(plain("late"), body(1, 9_000)).unwrap_err();
    bed.crash(Crash::Sigkill);
    bed.start().unwrap();
    assert_eq!(bed.metrics().store.catalogs_damaged.get(), 1);
    everything_is_there(&bed);
}

/// A catalog of which some reads meet what was never written, until it is set aside.
struct Rotten {
    catalog: Arc<dyn Catalog>,
    /// Reads of rows that begin so fail.
    prefix: Bytes,
    was_met: AtomicBool,
    is_gone: AtomicBool,
}

impl Rotten {
    fn check(&self, key: &[u8]) -> Result<(), CatalogError> {
        if self.is_gone.load(Relaxed) || !key.starts_with(&self.prefix) {
            return Ok(());
        }
        self.was_met.store(true, Relaxed);
        Err(CatalogError::Damaged("a block of a table".to_owned()))
    }
}

impl Catalog for Rotten {
    fn open(&self) -> BoxFuture<'_, Result<(), CatalogError>> {
        self.catalog.open()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.catalog.close()
    }

    fn set_aside(&self) -> BoxFuture<'_, Result<(), CatalogError>> {
        self.is_gone.store(true, Relaxed);
        self.was_met.store(false, Relaxed);
        self.catalog.set_aside()
    }

    fn health(&self) -> CatalogHealth {
        match self.was_met.load(Relaxed) {
            true => CatalogHealth::Damaged("a block of a table".to_owned()),
            false => self.catalog.health(),
        }
    }

    fn get<'a>(
        &'a self,
        space: Keyspace,
        key: &'a [u8],
    ) -> BoxFuture<'a, Result<Option<Bytes>, CatalogError>> {
        Box::pin(async move {
            self.check(key)?;
            self.catalog.get(space, key).await
        })
    }

    fn range<'a>(
        &'a self,
        space: Keyspace,
        from: &'a [u8],
        to: &'a [u8],
        rows_max: usize,
    ) -> BoxFuture<'a, Result<Vec<Row>, CatalogError>> {
        self.catalog.range(space, from, to, rows_max)
    }

    fn commit(
        &self,
        batch: Batch,
        durability: CommitDurability,
    ) -> BoxFuture<'_, Result<(), CatalogError>> {
        self.catalog.commit(batch, durability)
    }
}

/// Opens the store over a catalog of which the reads of such rows meet damage.
fn over_rotten(bed: &Bed, prefix: &[u8]) -> (Store, Arc<Metrics>) {
    let (env, catalog) = bed.env();
    let prefix = Bytes::copy_from_slice(prefix);
    let (was_met, is_gone) = (AtomicBool::new(false), AtomicBool::new(false));
    let env = Env { catalog: Arc::new(Rotten { catalog, prefix, was_met, is_gone }), ..env };
    let metrics = Arc::new(Metrics::default());
    let (config, early) = (bed.config.clone(), Early::new(env.clone(), metrics.clone()));
    let store =
        bed.run(async move { Store::recover(Watched::new(env), config, &early, &|_| ()).await });
    (store.unwrap(), metrics)
}

#[test]
fn damage_that_a_start_meets_has_it_begin_again_without_the_catalog() {
    let bed = filled(207);
    // The watermarks of segments.
    let (store, metrics) = over_rotten(&bed, &[0, b'w']);
    assert_eq!(metrics.store.catalogs_condemned.get(), 1);
    assert_eq!(metrics.store.catalogs_behind.get(), 1);
    assert_eq!(metrics.store.recovered_records.get(), ARTIFACTS);
    let here = bed.run(async move { store.holds(&plain("key-3")).await });
    assert!(here.unwrap());
}

#[test]
fn damage_where_the_stamp_lies_is_damage_of_the_catalog() {
    let bed = filled(209);
    let (store, metrics) = over_rotten(&bed, stamp_key(PLACES));
    assert_eq!(metrics.store.catalogs_damaged.get(), 1);
    assert_eq!(metrics.store.recovered_records.get(), ARTIFACTS);
    let here = bed.run(async move { store.holds(&plain("key-3")).await });
    assert!(here.unwrap());
}

#[test]
fn damage_that_a_read_meets_ends_the_store_and_the_next_start_makes_the_catalog_again() {
    let mut bed = filled(208);
    let address = plain("key-3");
    let (store, metrics) = over_rotten(&bed, &place_key(&address));
    assert_eq!(metrics.store.catalogs_condemned.get(), 0, "nobody has read there yet");
    let (reader, asked) = (store.clone(), address.clone());
    assert!(bed.run(async move { reader.holds(&asked).await }).is_err());
    bed.settle();
    assert_eq!(metrics.store.catalogs_condemned.get(), 1);
    let put = bed.run(async move { put(store, plain("late"), body(1, 9_000)).await });
    assert!(put.is_err(), "its appender has ended");
    bed.crash(Crash::Sigkill);
    bed.start().unwrap();
    assert_eq!(bed.metrics().store.catalogs_behind.get(), 1);
    everything_is_there(&bed);
}
