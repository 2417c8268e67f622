//! What a follower hears of the deletes that its peer knows: in hello, and then in every answer, so that neither a
//! long pass nor a page of large bodies keeps a node from hearing of one.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use kura_core::{hlc::DRIFT_MAX, tries::ASIDE_PAUSE};
use kura_env::{Instant, timeout};
use tokio::sync::Mutex;

use super::{
    client::Client,
    error::PeerError,
    fetch::Source,
    wire::{DELETES, DeleteKnown, DeletesKnown},
};
use crate::store::Taken;

/// How long other work waits for them: whoever serves it waits as well, and gives up after half a minute.
const BESIDE_MAX: Duration = Duration::from_secs(10);

/// How far the deletes of a peer are known here.
#[derive(Default)]
pub(crate) struct Heard {
    /// The fingerprint of those that were taken in last.
    print: AtomicU64,
    /// When to ask for them again: some were too far ahead of the clock here.
    due: parking_lot::Mutex<Option<Instant>>,
    /// Held by whoever asks for them.
    turn: Mutex<()>,
}

impl Heard {
    /// The fingerprint of those that were taken in last; 0 if none were.
    pub(crate) fn print(&self) -> u64 {
        self.print.load(Ordering::Acquire)
    }
}

impl Source<'_> {
    /// The peer knows deletes of this fingerprint: takes them in, unless they are those of which it told before, or
    /// all known here, or somebody does so already.
    ///
    /// # Errors
    ///
    /// If the peer does not tell, or this node's store cannot take them in.
    pub(crate) async fn hear_deletes(&self, print: u64) -> Result<(), PeerError> {
        let Self { shared, client, name, heard, .. } = *self;
        let now = shared.env.clock.now();
        let is_due = heard.due.lock().is_some_and(|due| due <= now);
        if print == heard.print() && !is_due {
            return Ok(());
        }
        if print == 0 || print == shared.store.deletes_print() {
            heard.print.store(print, Ordering::Release);
            return Ok(());
        }
        let Ok(_turn) = heard.turn.try_lock() else { return Ok(()) };
        let (print, deletes) = ask(client).await?;
        let told = deletes.len();
        let deletes: Vec<_> = deletes.into_iter().filter_map(DeleteKnown::read).collect();
        let unknown = told - deletes.len();
        shared.metrics.replication.deletes_unknown.inc_by(unknown as u64);
        let taken = shared.store.merge_deletes(deletes).await.map_err(PeerError::Store)?;
        let Taken { new, ahead } = taken;
        heard.print.store(print, Ordering::Release);
        *heard.due.lock() = (ahead > 0).then(|| now + ASIDE_PAUSE);
        if ahead > 0 {
            shared.metrics.replication.too_far_ahead.inc_by(ahead);
            tracing::warn!(
                peer = name,
                ahead,
                limit = ?DRIFT_MAX,
                "deletes of a peer are too far ahead of the clock here and are left for later: set right the clock \
                 of the node that made them, or of this one"
            );
        }
        if new > 0 {
            tracing::info!(peer = name, new, "a peer told of deleted namespaces");
        }
        Ok(())
    }

    /// The same beside other work, which a peer that does not tell keeps from nothing: its next answer says so again.
    ///
    /// # Errors
    ///
    /// If this node's store cannot take them in.
    pub(crate) async fn hear_deletes_beside(&self, print: u64) -> Result<(), PeerError> {
        let hearing = self.hear_deletes(print);
        match timeout(&*self.shared.env.clock, BESIDE_MAX, hearing).await {
            Ok(Err(error @ PeerError::Store(_))) => Err(error),
            Ok(Ok(()) | Err(_)) | Err(_) => Ok(()),
        }
    }
}

async fn ask(client: &Client) -> Result<(u64, Vec<DeleteKnown>), PeerError> {
    let DeletesKnown { print, deletes } = client.ask(DELETES).await?;
    Ok((print, deletes))
}
