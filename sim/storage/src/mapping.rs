//! What was read from a frozen file is a mapping on a real host: whoever holds the bytes holds the
//! file's blocks, also without a name and a handle.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::{effect::LifeId, names::FileId, shared::Shared};

/// The mappings of all lives.
///
/// Has a lock of its own, so that bytes may be dropped while the state is locked: the blocks are
/// given back when the state is next looked at.
#[derive(Default)]
pub(crate) struct Mappings {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    next: u64,
    live: BTreeMap<u64, Mapped>,
    /// Bounded by the mappings that there were since the state was last looked at.
    ended: Vec<(LifeId, FileId)>,
}

struct Mapped {
    life: LifeId,
    file: FileId,
    bytes: Bytes,
}

impl Mappings {
    /// Gives back the mappings that ended since it was last asked.
    pub(crate) fn ended(&self) -> Vec<(LifeId, FileId)> {
        std::mem::take(&mut self.inner.lock().ended)
    }

    /// The same bytes without a mapping: a write copies them, and what was written does not hold
    /// what it was read from. Without copying them here.
    pub(crate) fn unmapped(&self, part: &Bytes) -> Bytes {
        let inner = self.inner.lock();
        let from = part.as_ptr() as usize;
        let within = |bytes: &&Bytes| {
            let start = bytes.as_ptr() as usize;
            start <= from && from + part.len() <= start + bytes.len()
        };
        let mapped = inner.live.values().map(|mapped| &mapped.bytes).find(within);
        mapped.filter(|_| !part.is_empty()).map_or_else(|| part.clone(), |b| b.slice_ref(part))
    }
}

/// Bytes of a mapping. The file was opened for it.
struct Owner {
    shared: Arc<Shared>,
    number: u64,
    bytes: Bytes,
}

/// These bytes of a file that was opened once more for them, as a mapping of it.
pub(crate) fn mapped(shared: &Arc<Shared>, life: LifeId, file: FileId, bytes: Bytes) -> Bytes {
    let number = {
        let mut inner = shared.mappings.inner.lock();
        let number = inner.next;
        inner.next += 1;
        inner.live.insert(number, Mapped { life, file, bytes: bytes.clone() });
        number
    };
    Bytes::from_owner(Owner { shared: Arc::clone(shared), number, bytes })
}

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let mut inner = self.shared.mappings.inner.lock();
        if let Some(mapped) = inner.live.remove(&self.number) {
            inner.ended.push((mapped.life, mapped.file));
        }
    }
}
