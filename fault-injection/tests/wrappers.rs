//! The wrappers over a simulated disk and catalog: nothing changes without a fault, and each fault
//! strikes as its plan says.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../sim/storage/tests/support/mod.rs"]
mod support;

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use fault_injection::{
    CatalogFault, CrashKind, CrashMoment, DiskFault, Fault, FaultId, Faults, Injector, Plan, What,
    When,
};
use kura_env::{
    Batch, Catalog, CatalogError, CatalogHealth, Clock, CommitDurability, Disk, DiskErrorKind,
    DiskPath, conformance,
};
use parking_lot::Mutex;
use sim_storage::{SimCatalog, SimCatalogConfig, SimDisk, SimDiskConfig};
use support::{Draws, Handle, JumpingClock};

struct World {
    clock: Arc<JumpingClock>,
    device: SimDisk,
    injector: Arc<Injector>,
    crashes: Arc<Mutex<Vec<FaultId>>>,
    faults: Faults,
}

fn world(plan: Vec<(When, What)>) -> World {
    let clock = JumpingClock::shared();
    let handle = || Arc::new(Handle(Arc::clone(&clock)));
    let device = SimDisk::new(SimDiskConfig::instant(64 << 20, 1), handle());
    let fault = |(id, (when, what))| {
        let node = "node".to_owned();
        Fault { id: FaultId(id), node, when, what, times: 1 }
    };
    let faults = (1..).zip(plan).map(fault).collect();
    let injector = Arc::new(Injector::new(Plan { faults }));
    let crashes: Arc<Mutex<Vec<FaultId>>> = Arc::default();
    let told = Arc::clone(&crashes);
    let on_crash = Arc::new(move |fault: &Fault| told.lock().push(fault.id));
    let faults = Faults::new(Arc::clone(&injector), "node", handle(), on_crash);
    World { clock, device, injector, crashes, faults }
}

impl World {
    fn disk(&self) -> Arc<dyn Disk> {
        self.faults.disk(self.device.attach())
    }

    fn catalog(&self) -> Arc<dyn Catalog> {
        let clock = Arc::new(Handle(Arc::clone(&self.clock)));
        let spaces = &conformance::catalog::SPACES;
        let config = SimCatalogConfig::default();
        self.faults.catalog(Arc::new(SimCatalog::new(self.device.attach(), clock, spaces, config)))
    }

    fn fired(&self) -> BTreeMap<String, u64> {
        self.injector.fired()
    }
}

fn fired(class: &str) -> BTreeMap<String, u64> {
    BTreeMap::from([(class.to_owned(), 1)])
}

fn matching(label: &str, nth: u64) -> When {
    When::EffectMatching { label: label.to_owned(), nth }
}

fn at(path: &str) -> DiskPath {
    DiskPath::new(path)
}

#[test]
fn without_a_plan_the_wrappers_keep_the_contracts() {
    // A plan for somebody else is asked and never answers.
    let elsewhere = Fault {
        id: FaultId(1),
        node: "other".to_owned(),
        when: When::Effect(1),
        what: What::Stall { millis: 1 },
        times: 9,
    };
    for faults in [vec![], vec![elsewhere]] {
        let mut world = world(Vec::new());
        let injector = Arc::new(Injector::new(Plan { faults }));
        let clock = Arc::new(Handle(Arc::clone(&world.clock)));
        world.faults = Faults::new(Arc::clone(&injector), "node", clock, Arc::new(|_| ()));
        world.clock.block_on(conformance::disk::suite(world.disk()));
        let mut draws = Draws(7);
        let random = conformance::disk::random_operations(world.disk(), &mut draws, 300);
        world.clock.block_on(random);
        world.clock.block_on(conformance::catalog::suite(world.catalog()));
        assert_eq!(injector.fired(), BTreeMap::new());
    }
}

#[test]
fn an_error_strikes_the_call_it_names() {
    let table = [
        ("create *", DiskFault::NoSpace),
        ("append blobs/*.seg", DiskFault::Quota),
        ("sync_data blobs/*.seg", DiskFault::Io),
        ("read blobs/*.seg", DiskFault::Io),
        ("rename blobs/*.seg -> blobs/*.old", DiskFault::ReadOnly),
        ("list blobs", DiskFault::Io),
    ];
    for (label, kind) in table {
        let world = world(vec![(matching(label, 1), What::DiskError { kind })]);
        let failed = world.clock.block_on(async {
            let disk = world.disk();
            disk.mkdir(&at("blobs")).await?;
            let file = disk.create(&at("blobs/1.seg")).await?;
            file.append(vec![Bytes::from_static(b"bytes")]).await?;
            file.sync_data().await?;
            file.read_at(0, 9).await?;
            disk.rename(&at("blobs/1.seg"), &at("blobs/1.old")).await?;
            disk.list(&at("blobs")).await
        });
        let error = failed.unwrap_err();
        assert_eq!(error.kind, kind.error(), "{label}");
        let call = label.split(' ').next().unwrap();
        assert_eq!(error.action, call, "{label}");
        assert_eq!(world.fired().len(), 1);
        assert_eq!(world.injector.unfired(), []);
    }
}

#[test]
fn a_short_append_leaves_its_first_half() {
    let kind = DiskFault::NoSpace;
    let world = world(vec![(matching("append *", 2), What::ShortAppend { kind })]);
    world.clock.block_on(async {
        let file = world.disk().create(&at("a")).await.unwrap();
        file.append(vec![Bytes::from_static(b"0123")]).await.unwrap();
        let parts = vec![Bytes::from_static(b"abc"), Bytes::from_static(b"defgh")];
        let error = file.append(parts).await.unwrap_err();
        assert_eq!(error.kind, DiskErrorKind::NoSpace);
    });
    assert_eq!(world.device.peek("a").unwrap(), "0123abcd");
    assert_eq!(world.fired(), fired("short-append.no-space"));
}

#[test]
fn a_crash_ends_the_life_on_its_side_of_the_change() {
    let table = [
        (CrashMoment::Before, None),
        (CrashMoment::Within, Some("abcd")),
        (CrashMoment::After, Some("abcdefgh")),
    ];
    for (moment, left) in table {
        let what = What::Crash { kind: CrashKind::Sigkill, moment };
        let world = world(vec![(When::Effect(2), what)]);
        let disk = world.disk();
        let end = world.clock.run(async {
            let file = disk.create(&at("a")).await.unwrap();
            file.append(vec![Bytes::from_static(b"abcdefgh")]).await
        });
        assert!(end.is_none(), "{moment:?}: the life goes on");
        assert_eq!(world.device.peek("a").unwrap(), left.unwrap_or_default());
        assert_eq!(*world.crashes.lock(), [FaultId(1)]);
        assert!(world.clock.run(disk.space()).is_none(), "{moment:?}: nothing answers any more");
        assert_eq!(world.fired(), fired("crash.sigkill"));
    }
}

#[test]
fn a_stall_takes_its_time_and_keeps_the_result() {
    let world = world(vec![
        (matching("append *", 1), What::Stall { millis: 300 }),
        (When::AtMillis(200), What::Stall { millis: 100 }),
    ]);
    world.clock.block_on(async {
        let file = world.disk().create(&at("a")).await.unwrap();
        file.append(vec![Bytes::from_static(b"bytes")]).await.unwrap();
        assert_eq!(file.read_at(0, 9).await.unwrap(), "bytes");
    });
    assert_eq!(Handle(Arc::clone(&world.clock)).now().0, 400_000_000);
}

#[test]
fn a_struck_commit_poisons_the_catalog_until_it_is_opened() {
    for (kind, class) in [(CatalogFault::NoSpace, "no-space"), (CatalogFault::Io, "io")] {
        let world = world(vec![(matching("catalog commit", 2), What::CatalogError { kind })]);
        let catalog = world.catalog();
        let space = conformance::catalog::SPACES[0];
        let commit = |key: &'static str| {
            let mut batch = Batch::default();
            batch.put(space, key, "value");
            catalog.commit(batch, CommitDurability::Synced)
        };
        world.clock.block_on(async {
            catalog.open().await.unwrap();
            commit("first").await.unwrap();
            match (kind, commit("second").await.unwrap_err()) {
                (CatalogFault::NoSpace, CatalogError::NoSpace(_))
                | (CatalogFault::Io, CatalogError::Io(_)) => {}
                (_, error) => panic!("{error}"),
            }
            assert!(matches!(catalog.health(), CatalogHealth::Poisoned(_)));
            let next = commit("third").await;
            assert!(matches!(next, Err(CatalogError::Poisoned(_))));
            assert!(catalog.get(space, b"first").await.unwrap().is_some(), "reads go on");
            catalog.open().await.unwrap();
            assert_eq!(catalog.health(), CatalogHealth::Open);
            commit("third").await.unwrap();
            assert_eq!(catalog.get(space, b"second").await.unwrap(), None);
        });
        assert_eq!(world.fired(), fired(&format!("catalog-error.{class}")));
    }
}
