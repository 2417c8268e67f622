//! Time as turmoil tells it: one virtual time for all hosts, true to within a tick.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kura_env::{BoxFuture, Clock, Instant, Wall};

/// The wall clock at the start of every run: some day in 2026.
pub(crate) const EPOCH: Duration = Duration::from_secs(1_790_000_000);

/// The clock of one host, through all its lives. Between two steps of the engine, when no host
/// runs, it stands still.
#[derive(Clone, Default)]
pub(crate) struct TurmoilClock {
    latest_nanos: Arc<AtomicU64>,
}

impl Clock for TurmoilClock {
    fn now(&self) -> Instant {
        // Without a runtime around it, as when a crash drops tasks, tokio would tell real time.
        let inside = tokio::runtime::Handle::try_current().is_ok();
        let elapsed = inside.then(turmoil::sim_elapsed).flatten().unwrap_or_default();
        let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        // Hosts run through a tick one after the other: who asks for another host may be ahead.
        Instant(self.latest_nanos.fetch_max(nanos, Ordering::Relaxed).max(nanos))
    }

    fn wall(&self) -> Wall {
        let now = EPOCH + Duration::from_nanos(self.now().0);
        Wall(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
    }

    fn sleep_until(&self, deadline: Instant) -> BoxFuture<'static, ()> {
        let clock = self.clone();
        Box::pin(async move {
            loop {
                let left = deadline.since(clock.now());
                tokio::time::sleep(left).await;
                if clock.now() >= deadline {
                    return;
                }
            }
        })
    }
}
