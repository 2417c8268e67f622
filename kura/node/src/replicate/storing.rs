//! Bodies of one answer that are stored while the next ones come in.
//!
//! To store a small body is to wait for the batch that it goes into. One after the other, the bodies of an answer would
//! each wait for a batch of their own.

use std::pin::pin;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use kura_core::feed::FeedRow;
use kura_env::BoxFuture;

use super::error::PeerError;
use crate::store::Upload;

/// Bodies of one answer that are stored at once. Higher: they share batches. Lower: less memory is held by them.
const STORES_AT_ONCE: usize = 8;

/// A row, and what became of its body.
pub(super) type Stored = (FeedRow, Result<(), PeerError>);

#[derive(Default)]
pub(super) struct Storing {
    under_way: FuturesUnordered<BoxFuture<'static, Stored>>,
    done: Vec<Stored>,
}

impl Storing {
    /// Stores what came of `row`; before that, waits until not too many are stored at once.
    pub(super) async fn begin(&mut self, row: FeedRow, upload: Upload) {
        while self.under_way.len() >= STORES_AT_ONCE {
            self.done.extend(self.under_way.next().await);
        }
        self.under_way.push(Box::pin(async move { (row, store(upload).await) }));
    }

    /// Does `work`, and goes on with storing meanwhile.
    pub(super) async fn beside<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                Some(stored) = self.under_way.next() => self.done.push(stored),
                out = &mut work => return out,
            }
        }
    }

    /// What has been stored since this was asked the last time, or failed to be.
    pub(super) fn take_done(&mut self) -> Vec<Stored> {
        std::mem::take(&mut self.done)
    }

    /// Waits until nothing is under way.
    pub(super) async fn finish(&mut self) -> Vec<Stored> {
        while let Some(stored) = self.under_way.next().await {
            self.done.push(stored);
        }
        self.take_done()
    }
}

/// Stores a body that is whole.
pub(super) async fn store(upload: Upload) -> Result<(), PeerError> {
    upload.publish().await.map(drop).map_err(PeerError::storing)
}
