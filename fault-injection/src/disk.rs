//! A disk with faults.

use std::{future::Future, sync::Arc};

use bytes::Bytes;
use kura_env::{
    BoxFuture, DirEntry, Disk, DiskEffect, DiskError, DiskErrorKind, DiskPath, EffectKind, File,
    LockOutcome, Space, path_class,
};

use crate::{
    faults::Faults,
    injector::{Operation, Strike},
    plan::{CrashMoment, Fault, What},
};

/// A disk with the faults of a plan.
pub struct FaultyDisk {
    disk: Arc<dyn Disk>,
    faults: Faults,
}

impl FaultyDisk {
    /// Wraps `disk`.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, faults: Faults) -> Self {
        Self { disk, faults }
    }

    fn wrapped(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(FaultyFile { file, faults: self.faults.clone() })
    }
}

/// What is to be done about an operation that a fault may have struck.
enum Course {
    /// Do it all.
    Whole,
    /// Do a part of it, if it can be done in part, and nothing otherwise.
    Part,
    /// Do nothing of it.
    Nothing,
}

/// How an operation goes, and how it ends.
struct Script {
    strike: Option<Strike>,
    course: Course,
    error: Option<DiskErrorKind>,
}

impl Script {
    fn new(strike: Option<Strike>) -> Self {
        let (course, error) = match strike.as_ref().map(|strike| &strike.fault.what) {
            Some(What::Crash { moment: CrashMoment::Before, .. }) => (Course::Nothing, None),
            Some(What::Crash { moment: CrashMoment::Within, .. }) => (Course::Part, None),
            Some(What::Crash { moment: CrashMoment::After, .. } | What::Stall { .. }) => {
                (Course::Whole, None)
            }
            Some(What::DiskError { kind }) => (Course::Nothing, Some(kind.error())),
            Some(What::ShortAppend { kind }) => (Course::Part, Some(kind.error())),
            Some(
                What::CatalogError { .. }
                | What::NetRefuse
                | What::NetCut { .. }
                | What::NetStall { .. },
            )
            | None => (Course::Whole, None),
        };
        Self { strike, course, error }
    }

    /// The fault by which the life ends once this operation has come so far.
    fn crash(&self) -> Option<&Fault> {
        let fault = self.strike.as_ref().map(|strike| &strike.fault)?;
        matches!(fault.what, What::Crash { .. }).then_some(fault)
    }
}

impl Faults {
    /// Runs a call that cannot be done in part.
    async fn call<T>(
        &self,
        operation: Operation,
        named: Named<'_>,
        call: impl Future<Output = Result<T, DiskError>>,
    ) -> Result<T, DiskError> {
        let script = Script::new(self.ask(operation, || named.class()).await);
        let result = match script.course {
            Course::Whole => Some(call.await),
            Course::Part | Course::Nothing => None,
        };
        if let Some(fault) = script.crash() {
            return self.crash(fault).await;
        }
        self.stalled(script.strike.as_ref()).await;
        match (script.error, result) {
            (None, Some(result)) => result,
            (kind, _) => Err(named.error(kind.unwrap_or(DiskErrorKind::Io))),
        }
    }
}

/// A call, for labels and errors.
struct Named<'a> {
    action: &'static str,
    path: &'a DiskPath,
    effect: Option<DiskEffect>,
}

impl<'a> Named<'a> {
    fn read(action: &'static str, path: &'a DiskPath) -> Self {
        Self { action, path, effect: None }
    }

    fn effect(kind: EffectKind, path: &'a DiskPath) -> Self {
        Self { action: kind.name(), path, effect: Some(DiskEffect::named(kind, path)) }
    }

    fn class(&self) -> String {
        match &self.effect {
            Some(effect) => effect.class(),
            None => format!("{} {}", self.action, path_class(self.path)),
        }
    }

    fn error(&self, kind: DiskErrorKind) -> DiskError {
        DiskError { action: self.action, path: self.path.clone(), kind }
    }
}

impl Disk for FaultyDisk {
    fn create<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<Arc<dyn File>, DiskError>> {
        Box::pin(async move {
            let named = Named::effect(EffectKind::Create, path);
            let operation = Operation::Effect(EffectKind::Create);
            let file = self.faults.call(operation, named, self.disk.create(path)).await?;
            Ok(self.wrapped(file))
        })
    }

    fn open<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<Arc<dyn File>, DiskError>> {
        Box::pin(async move {
            let named = Named::read("open", path);
            let file = self.faults.call(Operation::DiskRead, named, self.disk.open(path)).await?;
            Ok(self.wrapped(file))
        })
    }

    fn mkdir<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<(), DiskError>> {
        let named = Named::effect(EffectKind::Mkdir, path);
        let operation = Operation::Effect(EffectKind::Mkdir);
        Box::pin(self.faults.call(operation, named, self.disk.mkdir(path)))
    }

    fn rename<'a>(
        &'a self,
        from: &'a DiskPath,
        to: &'a DiskPath,
    ) -> BoxFuture<'a, Result<(), DiskError>> {
        let effect = Some(DiskEffect::rename(from, to));
        let named = Named { action: "rename", path: from, effect };
        let operation = Operation::Effect(EffectKind::Rename);
        Box::pin(self.faults.call(operation, named, self.disk.rename(from, to)))
    }

    fn unlink<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<(), DiskError>> {
        let named = Named::effect(EffectKind::Unlink, path);
        let operation = Operation::Effect(EffectKind::Unlink);
        Box::pin(self.faults.call(operation, named, self.disk.unlink(path)))
    }

    fn list<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<Vec<DirEntry>, DiskError>> {
        let named = Named::read("list", path);
        Box::pin(self.faults.call(Operation::DiskRead, named, self.disk.list(path)))
    }

    fn sync_dir<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<(), DiskError>> {
        let named = Named::effect(EffectKind::SyncDir, path);
        let operation = Operation::Effect(EffectKind::SyncDir);
        Box::pin(self.faults.call(operation, named, self.disk.sync_dir(path)))
    }

    fn lock<'a>(
        &'a self,
        path: &'a DiskPath,
        holder: &'a str,
    ) -> BoxFuture<'a, Result<LockOutcome, DiskError>> {
        let named = Named::effect(EffectKind::Lock, path);
        let operation = Operation::Effect(EffectKind::Lock);
        Box::pin(self.faults.call(operation, named, self.disk.lock(path, holder)))
    }

    fn space(&self) -> BoxFuture<'_, Result<Space, DiskError>> {
        Box::pin(async move {
            let root = DiskPath::root();
            let named = Named::read("space", &root);
            self.faults.call(Operation::DiskRead, named, self.disk.space()).await
        })
    }
}

/// An open file with the faults of its disk.
struct FaultyFile {
    file: Arc<dyn File>,
    faults: Faults,
}

impl FaultyFile {
    /// Runs a call that writes `data`: all of it, its first half, or nothing.
    async fn write(
        &self,
        kind: EffectKind,
        data: Vec<Bytes>,
        write: impl AsyncFnOnce(Vec<Bytes>) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        let named = Named::effect(kind, self.file.path());
        let asked = self.faults.ask(Operation::Effect(kind), || named.class()).await;
        let script = Script::new(asked);
        match script.course {
            Course::Whole => write(data).await?,
            Course::Part => write(first_half(data)).await?,
            Course::Nothing => {}
        }
        if let Some(fault) = script.crash() {
            return self.faults.crash(fault).await;
        }
        self.faults.stalled(script.strike.as_ref()).await;
        script.error.map_or(Ok(()), |kind| Err(named.error(kind)))
    }
}

fn first_half(data: Vec<Bytes>) -> Vec<Bytes> {
    let mut left = data.iter().map(Bytes::len).sum::<usize>() / 2;
    let cut = |mut part: Bytes| {
        part.truncate(left);
        left -= part.len();
        part
    };
    data.into_iter().map(cut).collect()
}

impl File for FaultyFile {
    fn path(&self) -> &DiskPath {
        self.file.path()
    }

    fn len(&self) -> BoxFuture<'_, Result<u64, DiskError>> {
        let named = Named::read("len", self.file.path());
        Box::pin(self.faults.call(Operation::DiskRead, named, self.file.len()))
    }

    fn allocated_bytes(&self) -> BoxFuture<'_, Result<u64, DiskError>> {
        let named = Named::read("allocated_bytes", self.file.path());
        Box::pin(self.faults.call(Operation::DiskRead, named, self.file.allocated_bytes()))
    }

    fn append(&self, data: Vec<Bytes>) -> BoxFuture<'_, Result<(), DiskError>> {
        let write = async |data| self.file.append(data).await;
        Box::pin(self.write(EffectKind::Append, data, write))
    }

    fn write_at(&self, offset: u64, data: Bytes) -> BoxFuture<'_, Result<(), DiskError>> {
        let write = async move |mut data: Vec<Bytes>| {
            let data = data.pop().unwrap_or_default();
            self.file.write_at(offset, data).await
        };
        Box::pin(self.write(EffectKind::WriteAt, vec![data], write))
    }

    fn read_at(&self, offset: u64, len_bytes: usize) -> BoxFuture<'_, Result<Bytes, DiskError>> {
        let named = Named::read("read", self.file.path());
        let read = self.file.read_at(offset, len_bytes);
        Box::pin(self.faults.call(Operation::DiskRead, named, read))
    }

    fn allocate(&self, len_bytes: u64) -> BoxFuture<'_, Result<(), DiskError>> {
        let named = Named::effect(EffectKind::Allocate, self.file.path());
        let operation = Operation::Effect(EffectKind::Allocate);
        Box::pin(self.faults.call(operation, named, self.file.allocate(len_bytes)))
    }

    fn sync_data(&self) -> BoxFuture<'_, Result<(), DiskError>> {
        let named = Named::effect(EffectKind::SyncData, self.file.path());
        let operation = Operation::Effect(EffectKind::SyncData);
        Box::pin(self.faults.call(operation, named, self.file.sync_data()))
    }

    fn freeze(&self) -> BoxFuture<'_, Result<(), DiskError>> {
        let named = Named::effect(EffectKind::Freeze, self.file.path());
        let operation = Operation::Effect(EffectKind::Freeze);
        Box::pin(self.faults.call(operation, named, self.file.freeze()))
    }
}
