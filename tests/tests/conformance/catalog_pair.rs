//! A simulated catalog and one on fjall, of which the same is asked, and the rows that both should hold.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use kura_env::{Batch, Catalog, CatalogError, CatalogHealth, CommitDurability};
use kura_host::{HostCatalog, HostClock};
use kura_tests::small_disk::SmallDisk;
use sim_storage::{
    Crash, EffectVerdict, RowCosts, SimCatalog, SimCatalogConfig, SimDisk, SimDiskConfig,
};

use crate::{
    catalog::{self, Operation},
    differences::{Difference, Met},
    killed::{self, Job, UNDER_WAY_MAX},
    rows::{self, Rows, SPACES},
};

/// More than everything that is ever written.
const CAPACITY_BYTES: u64 = 256 << 20;
/// Short, so that the log is replaced now and then.
const LOG_BYTES_MAX: u64 = 256 << 10;
/// Effects of the simulated disk within which it is killed, for each commit that is to come before.
const EFFECTS_PER_COMMIT: u64 = 2;

pub(crate) struct CatalogPair<'a> {
    /// The simulated one and the real one.
    catalogs: [Arc<dyn Catalog>; 2],
    device: SimDisk,
    directory: &'a Path,
    /// What the real one lies on, where it can be filled.
    disk: Option<&'a SmallDisk>,
    is_full: bool,
    /// One of them is poisoned by itself since the disk was full, and nobody has opened it again.
    is_one_poisoned: bool,
    rows: Rows,
    pub(crate) met: Met,
    /// How often a commit failed, or a process was killed.
    pub(crate) blows: u64,
}

fn simulated(device: &SimDisk) -> Arc<dyn Catalog> {
    let config = SimCatalogConfig {
        log_bytes_max: LOG_BYTES_MAX,
        costs: RowCosts::NONE,
        ..SimCatalogConfig::default()
    };
    Arc::new(SimCatalog::new(device.attach(), Arc::new(HostClock::new()), &SPACES, config))
}

impl<'a> CatalogPair<'a> {
    pub(crate) async fn new(directory: &'a Path, disk: Option<&'a SmallDisk>, seed: u64) -> Self {
        let clock = Arc::new(HostClock::new());
        let device = SimDisk::new(SimDiskConfig::instant(CAPACITY_BYTES, seed), clock);
        let real = HostCatalog::new(directory.join("catalog"), &SPACES).expect("there are threads");
        let catalogs: [Arc<dyn Catalog>; 2] = [simulated(&device), Arc::new(real)];
        for catalog in &catalogs {
            catalog.open().await.expect("there is room");
        }
        Self {
            catalogs,
            device,
            directory,
            disk,
            is_full: false,
            is_one_poisoned: false,
            rows: Rows::default(),
            met: Met::default(),
            blows: 0,
        }
    }

    /// Asks both for it, and says how they differ.
    pub(crate) async fn step(&mut self, operation: &Operation) -> Result<(), String> {
        match operation {
            Operation::Commit { batch } => {
                let (batch, durability) = catalog::batch(*batch);
                self.commit(batch, durability).await
            }
            Operation::Get { space, key } => {
                let (space, key) = (SPACES[*space], rows::key(*key));
                let expected = self.rows.get(space, &key);
                for catalog in &self.catalogs {
                    let told = catalog.get(space, &key).await;
                    expect_read(told, &expected, &catalog.health())?;
                }
                self.healths_agree()
            }
            Operation::Range { space, from, to, rows_max } => {
                let (space, from, to) = (SPACES[*space], rows::key(*from), rows::key(*to));
                let mut expected = self.rows.range(space, &from, &to);
                expected.truncate(*rows_max);
                for catalog in &self.catalogs {
                    let told = catalog.range(space, &from, &to, *rows_max).await;
                    expect_read(told, &expected, &catalog.health())?;
                }
                self.healths_agree()
            }
            Operation::Close => {
                for catalog in &self.catalogs {
                    catalog.close().await;
                }
                self.is_one_poisoned = false;
                self.healths_agree()
            }
            Operation::Open => self.open().await,
            Operation::SetAside if self.is_full => Ok(()),
            Operation::SetAside => {
                for catalog in &self.catalogs {
                    catalog.set_aside().await.map_err(|error| format!("set aside: {error}"))?;
                }
                self.is_one_poisoned = false;
                self.rows = Rows::default();
                self.hold_the_rows().await
            }
            Operation::Fill => {
                self.fill();
                Ok(())
            }
            Operation::Relieve => {
                self.relieve();
                Ok(())
            }
            Operation::Kill { batches, count, acknowledged } => {
                self.kill(*batches, *count, *acknowledged).await
            }
        }
    }

    /// Both hold everything when all is over.
    pub(crate) async fn end(&mut self) -> Result<(), String> {
        self.relieve();
        self.open().await?;
        self.hold_the_rows().await
    }

    fn fill(&mut self) {
        if let Some(disk) = self.disk.filter(|_| !self.is_full) {
            disk.fill();
            self.device.set_foreign_bytes(CAPACITY_BYTES);
            self.is_full = true;
        }
    }

    fn relieve(&mut self) {
        if let Some(disk) = self.disk.filter(|_| self.is_full) {
            disk.relieve();
            self.device.set_foreign_bytes(0);
            self.is_full = false;
        }
    }

    /// On a full disk either may be poisoned by what it does behind a commit that it acknowledged: fjall by
    /// its own threads, the simulated one as it replaces its log. It stays so until it is opened again.
    fn healths_agree(&mut self) -> Result<(), String> {
        let [simulated, real] = [0, 1].map(|at| self.catalogs[at].health());
        match (&simulated, &real) {
            _ if std::mem::discriminant(&simulated) == std::mem::discriminant(&real) => Ok(()),
            (CatalogHealth::Open, CatalogHealth::Poisoned(_))
            | (CatalogHealth::Poisoned(_), CatalogHealth::Open)
                if self.is_full || self.is_one_poisoned =>
            {
                self.is_one_poisoned = true;
                self.met.note(Difference::PoisonedByItself);
                Ok(())
            }
            _ => Err(format!("one is {simulated:?}, the other {real:?}")),
        }
    }

    async fn open(&mut self) -> Result<(), String> {
        for catalog in &self.catalogs {
            catalog.open().await.map_err(|error| format!("open: {error}"))?;
        }
        self.is_one_poisoned = false;
        self.healths_agree()
    }

    /// Both hold exactly the rows that they should.
    async fn hold_the_rows(&self) -> Result<(), String> {
        for (name, catalog) in ["simulated", "real"].iter().zip(&self.catalogs) {
            let rows = Rows::of(&**catalog).await.map_err(|error| format!("{name}: {error}"))?;
            if rows != self.rows {
                return Err(format!("the {name} one holds other rows"));
            }
        }
        Ok(())
    }

    async fn commit(&mut self, batch: Batch, durability: CommitDurability) -> Result<(), String> {
        let is_odd = self.is_full || self.is_one_poisoned;
        let mut outcomes = Vec::new();
        for catalog in &self.catalogs {
            let before = catalog.health();
            outcomes.push((before, catalog.commit(batch.clone(), durability).await));
        }
        let [(_, simulated), (_, real)] = &outcomes[..] else { return Ok(()) };
        match (simulated, real) {
            (Ok(()), Ok(())) => {
                self.rows.apply(&batch);
                Ok(())
            }
            (Err(CatalogError::Closed), Err(CatalogError::Closed)) => Ok(()),
            _ if is_odd => {
                self.blows += 1;
                if simulated.is_ok() != real.is_ok() {
                    let is_poison = |it| matches!(it, &Err(CatalogError::Poisoned(_)));
                    let by_itself = is_poison(simulated) || is_poison(real);
                    self.met.note(match by_itself {
                        true => Difference::PoisonedByItself,
                        false => Difference::HowMuchFits,
                    });
                }
                self.heal(&batch, &outcomes).await
            }
            _ => Err(format!("a commit: {simulated:?}, and {real:?}")),
        }
    }

    /// At least one commit failed on a full disk: reads go on, writes do not, before and after there is
    /// room; once it was opened again everything is there that was acknowledged, and the failed batch as
    /// a whole or not at all.
    async fn heal(
        &mut self,
        batch: &Batch,
        outcomes: &[(CatalogHealth, Result<(), CatalogError>)],
    ) -> Result<(), String> {
        let with = self.rows.with(batch);
        for relieved in [false, true] {
            if relieved {
                self.relieve();
            }
            for (catalog, (_, outcome)) in self.catalogs.iter().zip(outcomes) {
                let expected = if outcome.is_ok() { &with } else { &self.rows };
                expect_poison(&**catalog, outcome, expected).await?;
            }
        }
        let mut held = Vec::new();
        for (catalog, (before, outcome)) in self.catalogs.iter().zip(outcomes) {
            catalog.open().await.map_err(|error| format!("open: {error}"))?;
            let rows = Rows::of(&**catalog).await.map_err(|error| error.to_string())?;
            let may_be_without = outcome.is_err() && rows == self.rows;
            let may_be_with = matches!(before, CatalogHealth::Open) && rows == with;
            if !may_be_without && !may_be_with {
                return Err(format!("other rows after {outcome:?} and another open"));
            }
            held.push(rows);
        }
        self.is_one_poisoned = false;
        if held[0] != held[1] {
            self.met.note(Difference::FailedCommit);
        }
        for catalog in &self.catalogs {
            let again = catalog.commit(batch.clone(), CommitDurability::Synced).await;
            again.map_err(|error| format!("a commit after it was healed: {error}"))?;
        }
        self.rows = with;
        self.hold_the_rows().await
    }

    /// Both are killed while batches are committed; what was acknowledged is there, and of the rest a
    /// prefix.
    async fn kill(&mut self, first: u64, count: usize, after: usize) -> Result<(), String> {
        self.blows += 1;
        for catalog in &self.catalogs {
            catalog.close().await;
        }
        let batches = killed::batches(first, count);
        let directory = self.directory.join("catalog");
        let real = Job { directory, first, count }.kill_after(after);
        let simulated = self.kill_simulated(&batches, after).await;
        self.catalogs[0] = self::simulated(&self.device);
        let mut found = Vec::new();
        for (catalog, acknowledged) in self.catalogs.iter().zip([simulated, real]) {
            catalog.open().await.map_err(|error| format!("open after the kill: {error}"))?;
            let rows = Rows::of(&**catalog).await.map_err(|error| error.to_string())?;
            let there = self.batches_in(&rows, &batches).ok_or("rows of no prefix of commits")?;
            if !there.contains(&acknowledged)
                && there.iter().all(|n| *n < acknowledged || *n > acknowledged + UNDER_WAY_MAX)
            {
                return Err(format!("{there:?} batches are there, {acknowledged} acknowledged"));
            }
            found.extend(there);
        }
        // Batches that are made again in their order leave what they left before.
        let from = found.into_iter().min().unwrap_or(0);
        for number in &batches[from..] {
            let (batch, durability) = catalog::batch(*number);
            for catalog in &self.catalogs {
                let done = catalog.commit(batch.clone(), durability).await;
                done.map_err(|error| format!("a commit after the kill: {error}"))?;
            }
        }
        for number in &batches {
            self.rows.apply(&catalog::batch(*number).0);
        }
        self.hold_the_rows().await
    }

    /// After how many of the batches there could be these rows.
    fn batches_in(&self, rows: &Rows, batches: &[u64]) -> Option<Vec<usize>> {
        let mut expected = self.rows.clone();
        let mut found = Vec::new();
        for count in 0..=batches.len() {
            if expected == *rows {
                found.push(count);
            }
            if let Some(number) = batches.get(count) {
                expected.apply(&catalog::batch(*number).0);
            }
        }
        (!found.is_empty()).then_some(found)
    }

    /// Commits on the simulated disk until a life ends in the middle of an effect. Gives how many were
    /// acknowledged.
    async fn kill_simulated(&self, batches: &[u64], after: usize) -> usize {
        let catalog = simulated(&self.device);
        catalog.open().await.expect("it was closed in good order");
        let effects = u64::try_from(after).unwrap() * EFFECTS_PER_COMMIT;
        let last = self.device.effect_count() + 1 + effects;
        self.device.set_effect_hook(Box::new(move |effect: &sim_storage::Effect| {
            match effect.number.cmp(&last) {
                std::cmp::Ordering::Equal => EffectVerdict::CrashWithin(Crash::Sigkill),
                std::cmp::Ordering::Less | std::cmp::Ordering::Greater => EffectVerdict::Go,
            }
        }));
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        self.device.set_on_crash(Box::new(move |_| sender.send(()).unwrap_or_default()));
        let acknowledged = AtomicU64::new(0);
        let told = |count: usize| acknowledged.store(u64::try_from(count).unwrap(), Relaxed);
        tokio::select! {
            biased;
            () = killed::commit_all(&*catalog, batches, told) => self.device.crash(Crash::Sigkill),
            _ = receiver.recv() => {}
        }
        self.device.set_effect_hook(Box::new(|_: &sim_storage::Effect| EffectVerdict::Go));
        usize::try_from(acknowledged.load(Relaxed)).unwrap()
    }
}

/// A read gives what should be there, unless the catalog is closed.
fn expect_read<T: PartialEq>(
    told: Result<T, CatalogError>,
    expected: &T,
    health: &CatalogHealth,
) -> Result<(), String> {
    match told {
        Ok(found) if found == *expected => Ok(()),
        Ok(_) => Err("a read gave something else".to_owned()),
        Err(CatalogError::Closed) if *health == CatalogHealth::Closed => Ok(()),
        Err(error) => Err(format!("a read failed: {error}")),
    }
}

/// Where a commit failed, every other one does, and reads go on.
async fn expect_poison(
    catalog: &dyn Catalog,
    outcome: &Result<(), CatalogError>,
    expected: &Rows,
) -> Result<(), String> {
    let rows = Rows::of(catalog).await.map_err(|error| format!("a read: {error}"))?;
    if rows != *expected {
        return Err(format!("other rows after {outcome:?}"));
    }
    match outcome {
        Ok(()) => return Ok(()),
        Err(CatalogError::NoSpace(_) | CatalogError::Poisoned(_)) => {}
        Err(error) => return Err(format!("a full disk is told as {error}")),
    }
    let mut batch = Batch::default();
    batch.put(SPACES[0], Bytes::from_static(b"refused"), Bytes::new());
    let refused = catalog.commit(batch, CommitDurability::Buffered).await;
    match (catalog.health(), refused) {
        (CatalogHealth::Poisoned(_), Err(CatalogError::Poisoned(_))) => Ok(()),
        (health, refused) => Err(format!("{health:?} and {refused:?} after {outcome:?}")),
    }
}
