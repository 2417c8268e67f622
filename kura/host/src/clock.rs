//! Time of this machine.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kura_env::{BoxFuture, Clock, Instant, Wall};

/// The monotonic clock of the system, counted from the moment this value was made, and its wall
/// clock. Sleeping needs a tokio runtime with time around it.
#[derive(Clone, Copy, Debug)]
pub struct HostClock {
    origin: std::time::Instant,
}

impl HostClock {
    /// A clock whose origin is now.
    #[must_use]
    pub fn new() -> Self {
        Self { origin: std::time::Instant::now() }
    }
}

impl Default for HostClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for HostClock {
    fn now(&self) -> Instant {
        Instant::default() + self.origin.elapsed()
    }

    fn wall(&self) -> Wall {
        // A wall clock before 1970 is a machine without a battery that has not met its time server.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Wall(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }

    fn sleep_until(&self, deadline: Instant) -> BoxFuture<'static, ()> {
        let at = self.origin.checked_add(Duration::from_nanos(deadline.0));
        Box::pin(async move {
            match at {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                // Later than the system can count: never.
                None => std::future::pending().await,
            }
        })
    }
}
