//! Trying whether a volume that took no changes takes them again, where nobody writes.

use bytes::Bytes;
use kura_env::{DiskError, DiskPath};

use super::appender::{Appender, FAILURE_REST};
use crate::device::PROBE;

/// Enough to need a block.
const PROBE_BYTES: usize = 4096;

impl Appender {
    /// Writes a block and removes it, if the volume took no changes when it was last asked. How that
    /// ends is noted where all calls are.
    pub(super) async fn probe(&self) {
        if !self.device.wants_probe(FAILURE_REST) {
            return;
        }
        self.metrics.store.probes.inc();
        let path = DiskPath::new(PROBE);
        if let Err(error) = self.write_probe(&path).await {
            tracing::debug!(%error, "the volume takes no changes yet");
        }
        // What could not be created is not there.
        self.env.disk.unlink(&path).await.ok();
    }

    async fn write_probe(&self, path: &DiskPath) -> Result<(), DiskError> {
        let file = self.env.disk.create(path).await?;
        file.append(vec![Bytes::from_static(&[0; PROBE_BYTES])]).await?;
        file.sync_data().await
    }
}
