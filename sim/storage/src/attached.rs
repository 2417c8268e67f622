//! One life's view of the device: the names and the space.

use std::sync::Arc;

use bytes::Bytes;
use kura_env::{
    BoxFuture, DirEntry, Disk, DiskEffect, DiskError, DiskErrorKind, DiskPath, EffectKind, File,
    Instant, Lock, LockOutcome, Space,
};

use crate::{
    device::Device,
    effect::LifeId,
    file::SimFile,
    names::FileId,
    shared::{Amount, Done, Shared, State},
    volume::Volume,
};

/// The device, as one life sees it.
pub(crate) struct Attached {
    shared: Arc<Shared>,
    life: LifeId,
}

impl Attached {
    pub(crate) fn new(shared: Arc<Shared>, life: LifeId) -> Self {
        Self { shared, life }
    }

    /// An effect on names only: it happens at once and takes one latency.
    async fn change<T: Default>(
        &self,
        change: DiskEffect,
        apply: impl FnOnce(&mut Volume, Instant) -> Result<T, DiskErrorKind>,
    ) -> Result<T, DiskErrorKind> {
        let config = &self.shared.config;
        let apply = |state: &mut State, now: Instant, amount: Amount, failure| {
            let result = match (failure, amount) {
                (Some(kind), _) => Err(kind),
                (None, Amount::Nothing) => Ok(T::default()),
                (None, Amount::All | Amount::Prefix(_)) => apply(&mut state.volume, now),
            };
            Done { result, at: state.device.call(config, now) }
        };
        self.shared.effect(self.life, change, apply).await
    }

    /// A call that changes nothing.
    async fn question<T>(
        &self,
        ask: impl FnOnce(&mut State) -> Result<T, DiskErrorKind>,
    ) -> Result<T, DiskErrorKind> {
        self.shared.alive(self.life).await;
        let now = self.shared.clock.now();
        let result = {
            let mut state = self.shared.state();
            state.age(&self.shared.config, now);
            ask(&mut state)
        };
        let at = Device::question(&self.shared.config, now);
        self.shared.until(at).await;
        self.shared.alive(self.life).await;
        result
    }

    fn handle(&self, id: FileId, path: &DiskPath) -> Arc<dyn File> {
        Arc::new(SimFile::new(Arc::clone(&self.shared), self.life, id, path.clone()))
    }
}

/// Gives the error its call and its path.
pub(crate) fn named<T>(
    result: Result<T, DiskErrorKind>,
    action: &'static str,
    path: &DiskPath,
) -> Result<T, DiskError> {
    result.map_err(|kind| DiskError { action, path: path.clone(), kind })
}

impl Disk for Attached {
    fn create<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<Arc<dyn File>, DiskError>> {
        Box::pin(async move {
            let change = DiskEffect::named(EffectKind::Create, path);
            // The handle exists from the moment of the effect, so that a call that is dropped
            // while it waits closes what it opened.
            let opened = |volume: &mut Volume, now| {
                let id = volume.create(now, path)?;
                Ok(Some((id, path)))
            };
            let config = &self.shared.config;
            let apply = |state: &mut State, now, amount, failure: Option<DiskErrorKind>| {
                let result = match (failure, amount) {
                    (Some(kind), _) => Err(kind),
                    (None, Amount::Nothing) => Ok(None),
                    (None, Amount::All | Amount::Prefix(_)) => opened(&mut state.volume, now),
                };
                let opened = result.map(|opened| {
                    opened.map(|(id, path)| {
                        state.volume.open(id);
                        self.handle(id, path)
                    })
                });
                Done { result: opened, at: state.device.call(config, now) }
            };
            let handle = self.shared.effect(self.life, change, apply).await;
            let handle = handle.map(|handle| handle.expect("only a crash hides the new file"));
            named(handle, "create", path)
        })
    }

    fn open<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<Arc<dyn File>, DiskError>> {
        Box::pin(async move {
            let ask = |state: &mut State| {
                let id = state.volume.names.file(path)?;
                state.volume.open(id);
                Ok(self.handle(id, path))
            };
            named(self.question(ask).await, "open", path)
        })
    }

    fn mkdir<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<(), DiskError>> {
        Box::pin(async move {
            let change = DiskEffect::named(EffectKind::Mkdir, path);
            let done = self.change(change, |volume, now| volume.mkdir(now, path)).await;
            named(done, "mkdir", path)
        })
    }

    fn rename<'a>(
        &'a self,
        from: &'a DiskPath,
        to: &'a DiskPath,
    ) -> BoxFuture<'a, Result<(), DiskError>> {
        Box::pin(async move {
            let change = DiskEffect::rename(from, to);
            let done = self.change(change, |volume, now| volume.rename(now, from, to)).await;
            named(done, "rename", from)
        })
    }

    fn unlink<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<(), DiskError>> {
        Box::pin(async move {
            let change = DiskEffect::named(EffectKind::Unlink, path);
            let done = self.change(change, |volume, now| volume.unlink(now, path)).await;
            named(done, "unlink", path)
        })
    }

    fn list<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<Vec<DirEntry>, DiskError>> {
        Box::pin(async move {
            named(self.question(|state| state.volume.list(path)).await, "list", path)
        })
    }

    fn sync_dir<'a>(&'a self, path: &'a DiskPath) -> BoxFuture<'a, Result<(), DiskError>> {
        Box::pin(async move {
            self.shared.alive(self.life).await;
            let begun = {
                let now = self.shared.clock.now();
                let mut state = self.shared.state();
                let dir = state.volume.names.dir(path);
                dir.map(|dir| {
                    let last = state.volume.names.last_change();
                    (dir, last, state.device.sync(&self.shared.config, now, now))
                })
            };
            let (dir, last, at) = named(begun, "sync_dir", path)?;
            self.shared.until(at).await;
            let apply = |state: &mut State, now: Instant, amount: Amount, failure| {
                let result = match (failure, amount) {
                    (Some(kind), _) => Err(kind),
                    (None, Amount::Nothing | Amount::Prefix(_)) => Ok(()),
                    (None, Amount::All) if state.device.lies(&self.shared.config) => Ok(()),
                    (None, Amount::All) => {
                        state.volume.sync_dir(dir, last);
                        Ok(())
                    }
                };
                Done { result, at: now }
            };
            let change = DiskEffect::named(EffectKind::SyncDir, path);
            named(self.shared.effect(self.life, change, apply).await, "sync_dir", path)
        })
    }

    fn lock<'a>(
        &'a self,
        path: &'a DiskPath,
        holder: &'a str,
    ) -> BoxFuture<'a, Result<LockOutcome, DiskError>> {
        Box::pin(async move {
            let change = DiskEffect::named(EffectKind::Lock, path);
            let holder = Bytes::copy_from_slice(holder.as_bytes());
            let config = &self.shared.config;
            let apply = |state: &mut State, now: Instant, amount: Amount, failure| {
                let result = match (failure, amount) {
                    (Some(kind), _) => Err(kind),
                    (None, Amount::Nothing) => Ok(LockOutcome::Taken(String::new())),
                    (None, Amount::All | Amount::Prefix(_)) => {
                        self.take_lock(state, now, path, &holder)
                    }
                };
                Done { result, at: state.device.call(config, now) }
            };
            named(self.shared.effect(self.life, change, apply).await, "lock", path)
        })
    }

    fn space(&self) -> BoxFuture<'_, Result<Space, DiskError>> {
        Box::pin(async move {
            let space = self.question(|state| Ok(state.volume.space())).await;
            named(space, "space", &DiskPath::root())
        })
    }
}

impl Attached {
    fn take_lock(
        &self,
        state: &mut State,
        now: Instant,
        path: &DiskPath,
        holder: &Bytes,
    ) -> Result<LockOutcome, DiskErrorKind> {
        let id = match state.volume.names.file(path) {
            Ok(id) => id,
            Err(DiskErrorKind::NotFound) => state.volume.create(now, path)?,
            Err(kind) => return Err(kind),
        };
        if !state.take_lock(id) {
            let content = &state.volume.file(id).content;
            let holder = content.read(0, content.len());
            return Ok(LockOutcome::Taken(String::from_utf8_lossy(&holder).into_owned()));
        }
        state.volume.open(id);
        state.volume.replace(id, holder);
        let shared = Arc::clone(&self.shared);
        Ok(LockOutcome::Held(Box::new(SimLock { shared, life: self.life, id })))
    }
}

/// A held lock: released by drop, or by the end of its life.
struct SimLock {
    shared: Arc<Shared>,
    life: LifeId,
    id: FileId,
}

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        if state.is_alive(self.life) {
            state.release_lock(self.id);
            state.volume.close(self.id);
        }
    }
}
