//! One life's open file.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use kura_env::{
    BoxFuture, DiskEffect, DiskError, DiskErrorKind, DiskPath, EffectKind, File, Instant,
};

use crate::{
    attached::named,
    content::{index, size},
    effect::LifeId,
    mapping::mapped,
    names::FileId,
    shared::{Amount, Done, Shared, State},
    volume::Volume,
};

/// An open file. Closed by drop, or by the end of its life.
pub(crate) struct SimFile {
    shared: Arc<Shared>,
    life: LifeId,
    id: FileId,
    path: DiskPath,
    /// Frozen through this handle: what is read is mapped from now on.
    is_mapped: AtomicBool,
}

impl SimFile {
    /// A handle that the volume has counted already.
    pub(crate) fn new(shared: Arc<Shared>, life: LifeId, id: FileId, path: DiskPath) -> Self {
        Self { shared, life, id, path, is_mapped: AtomicBool::new(false) }
    }

    /// An effect that writes bytes: as many of them as the verdict leaves.
    async fn write(
        &self,
        change: DiskEffect,
        parts: &[Bytes],
        apply: impl FnOnce(&mut Volume, &[Bytes]) -> Result<(), DiskErrorKind>,
    ) -> Result<(), DiskErrorKind> {
        let config = &self.shared.config;
        let apply =
            |state: &mut State, now: Instant, amount: Amount, failure: Option<DiskErrorKind>| {
                state.volume.assert_not_frozen(self.id, &self.path);
                let cut = match amount {
                    Amount::All => None,
                    Amount::Prefix(bytes) => Some(prefix(parts, bytes)),
                    Amount::Nothing => Some(Vec::new()),
                };
                let parts: Vec<Bytes> = (cut.as_deref().unwrap_or(parts).iter())
                    .map(|part| self.shared.mappings.unmapped(part))
                    .collect();
                let parts = parts.as_slice();
                let wrote = apply(&mut state.volume, parts);
                let bytes = parts.iter().map(|part| size(part.len())).sum();
                let written = state.device.write(config, now, bytes);
                state.volume.file_mut(self.id).on_device = written.on_device;
                state.volume.on_its_way(self.id, written.on_device);
                Done { result: failure.map_or(wrote, Err), at: written.returned }
            };
        self.shared.effect(self.life, change, apply).await
    }

    /// An effect on space that happens at once.
    async fn adjust(
        &self,
        change: DiskEffect,
        apply: impl FnOnce(&mut Volume) -> Result<(), DiskErrorKind>,
    ) -> Result<(), DiskErrorKind> {
        let config = &self.shared.config;
        let apply = |state: &mut State, now: Instant, amount: Amount, failure| {
            let result = match (failure, amount) {
                (Some(kind), _) => Err(kind),
                (None, Amount::Nothing) => Ok(()),
                (None, Amount::All | Amount::Prefix(_)) => apply(&mut state.volume),
            };
            Done { result, at: state.device.call(config, now) }
        };
        self.shared.effect(self.life, change, apply).await
    }
}

/// The first `bytes` bytes of the parts.
fn prefix(parts: &[Bytes], bytes: u64) -> Vec<Bytes> {
    let mut left = bytes;
    let mut cut = Vec::with_capacity(parts.len());
    for part in parts {
        let len = size(part.len()).min(left);
        cut.push(part.slice(..index(len)));
        left -= len;
    }
    cut
}

impl File for SimFile {
    fn path(&self) -> &DiskPath {
        &self.path
    }

    fn len(&self) -> BoxFuture<'_, Result<u64, DiskError>> {
        Box::pin(async move {
            self.shared.alive(self.life).await;
            Ok(self.shared.state().volume.file(self.id).content.len())
        })
    }

    fn allocated_bytes(&self) -> BoxFuture<'_, Result<u64, DiskError>> {
        Box::pin(async move {
            self.shared.alive(self.life).await;
            Ok(self.shared.state().volume.allocated_bytes(self.id))
        })
    }

    fn append(&self, data: Vec<Bytes>) -> BoxFuture<'_, Result<(), DiskError>> {
        Box::pin(async move {
            self.shared.alive(self.life).await;
            let offset = self.shared.state().volume.file(self.id).content.len();
            let bytes = data.iter().map(|part| size(part.len())).sum();
            let change = DiskEffect::ranged(EffectKind::Append, &self.path, offset, bytes);
            let apply = |volume: &mut Volume, parts: &[Bytes]| volume.append(self.id, parts);
            named(self.write(change, &data, apply).await, "append", &self.path)
        })
    }

    fn write_at(&self, offset: u64, data: Bytes) -> BoxFuture<'_, Result<(), DiskError>> {
        Box::pin(async move {
            let bytes = size(data.len());
            let change = DiskEffect::ranged(EffectKind::WriteAt, &self.path, offset, bytes);
            let apply = |volume: &mut Volume, parts: &[Bytes]| match parts.first() {
                Some(part) => volume.write_at(self.id, offset, part),
                None => Ok(()),
            };
            named(self.write(change, &[data], apply).await, "write_at", &self.path)
        })
    }

    fn read_at(&self, offset: u64, len_bytes: usize) -> BoxFuture<'_, Result<Bytes, DiskError>> {
        Box::pin(async move {
            self.shared.alive(self.life).await;
            let now = self.shared.clock.now();
            let (bytes, at) = {
                let mut state = self.shared.state();
                let bytes = state.volume.file(self.id).content.read(offset, size(len_bytes));
                let at = state.device.read(&self.shared.config, now, size(bytes.len()));
                let is_mapped = self.is_mapped.load(Ordering::Relaxed) && !bytes.is_empty();
                if is_mapped {
                    state.volume.open(self.id);
                }
                drop(state);
                let map = |bytes| mapped(&self.shared, self.life, self.id, bytes);
                (if is_mapped { map(bytes) } else { bytes }, at)
            };
            self.shared.until(at).await;
            self.shared.alive(self.life).await;
            Ok(bytes)
        })
    }

    fn allocate(&self, len_bytes: u64) -> BoxFuture<'_, Result<(), DiskError>> {
        Box::pin(async move {
            let change = DiskEffect::ranged(EffectKind::Allocate, &self.path, 0, len_bytes);
            let can = self.shared.config.preallocation;
            let allocate = |volume: &mut Volume| match can {
                true => volume.allocate(self.id, len_bytes),
                false => Err(DiskErrorKind::Unsupported),
            };
            let done = self.adjust(change, allocate).await;
            named(done, "allocate", &self.path)
        })
    }

    fn sync_data(&self) -> BoxFuture<'_, Result<(), DiskError>> {
        Box::pin(async move {
            self.shared.alive(self.life).await;
            let (sync, at) = {
                let now = self.shared.clock.now();
                let mut state = self.shared.state();
                let sync = state.volume.begin_sync(self.id);
                let on_device = state.volume.file(self.id).on_device;
                (sync, state.device.sync(&self.shared.config, now, on_device))
            };
            self.shared.until(at).await;
            let apply = |state: &mut State, now: Instant, amount: Amount, failure| {
                let result = match (failure, amount) {
                    (Some(kind), _) => {
                        state.volume.fail_sync(self.id, &sync);
                        Err(kind)
                    }
                    (None, Amount::Nothing) => Ok(()),
                    (None, _) if state.device.lies(&self.shared.config) => Ok(()),
                    (None, Amount::All | Amount::Prefix(_)) => {
                        state.volume.complete_sync(self.id, sync)
                    }
                };
                Done { result, at: now }
            };
            let change = DiskEffect::named(EffectKind::SyncData, &self.path);
            named(self.shared.effect(self.life, change, apply).await, "sync_data", &self.path)
        })
    }

    fn freeze(&self) -> BoxFuture<'_, Result<(), DiskError>> {
        Box::pin(async move {
            let change = DiskEffect::named(EffectKind::Freeze, &self.path);
            let freeze = |volume: &mut Volume| {
                volume.freeze(self.id);
                Ok(())
            };
            let done = self.adjust(change, freeze).await;
            if done.is_ok() {
                self.is_mapped.store(true, Ordering::Relaxed);
            }
            named(done, "freeze", &self.path)
        })
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        if state.is_alive(self.life) {
            state.volume.close(self.id);
        }
    }
}
