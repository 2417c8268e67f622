//! Virtual time as a node sees it: the monotonic clock is the world's, the wall clock has the
//! node's own skew and drift.

use std::sync::Arc;

use kura_env::{BoxFuture, Clock, Instant, Wall};

use crate::{host::NodeId, shared::Shared, timer::Sleep};

pub(crate) struct SimClock {
    pub(crate) shared: Arc<Shared>,
    pub(crate) node: NodeId,
}

impl Clock for SimClock {
    fn now(&self) -> Instant {
        Instant(self.shared.now_nanos())
    }

    fn wall(&self) -> Wall {
        let now_nanos = self.shared.now_nanos();
        let skew_ms = self.shared.hosts.lock().wall_skew_ms(self.node, now_nanos);
        let passed_ms = now_nanos / 1_000_000;
        let straight_ms = self.shared.config.wall_at_start.0.saturating_add(passed_ms);
        Wall(straight_ms.saturating_add_signed(skew_ms))
    }

    fn sleep_until(&self, deadline: Instant) -> BoxFuture<'static, ()> {
        Box::pin(Sleep::new(Arc::clone(&self.shared), deadline))
    }
}
