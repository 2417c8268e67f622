//! Time as a node sees it: a monotonic clock to wait by and a wall clock to write down.

use std::{
    future::Future,
    ops::{Add, Sub},
    pin::pin,
    time::Duration,
};

use futures_util::future::{Either, select};

use crate::BoxFuture;

/// A reading of the monotonic clock: nanoseconds since an origin that is fixed for the life of the
/// process. Readings of different processes cannot be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

impl Instant {
    /// The time from `earlier` to `self`, zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;
    /// Saturates at the end of time (584 years), which reads as "never".
    fn add(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

impl Sub for Instant {
    type Output = Duration;
    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

/// A reading of the wall clock: milliseconds since the Unix epoch. It may jump, drift and differ
/// between nodes; no order of events may rest on it alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(pub u64);

/// Time.
///
/// Contract: `now` never goes back. A sleep ends at or after its deadline, never before, and a
/// deadline in the past ends at the next turn of the executor. Dropping a sleep cancels it.
pub trait Clock: Send + Sync {
    /// The monotonic clock.
    fn now(&self) -> Instant;

    /// The wall clock.
    fn wall(&self) -> Wall;

    /// Waits until the monotonic clock has reached `deadline`.
    fn sleep_until(&self, deadline: Instant) -> BoxFuture<'static, ()>;

    /// Waits for `duration` from now.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.sleep_until(self.now() + duration)
    }
}

/// The deadline passed before the work was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not done within {limit:?}")]
pub struct Elapsed {
    /// How long was waited.
    pub limit: Duration,
}

/// Waits for `work`, but no longer than `limit`. The work is dropped when time is up; work that is
/// ready at the same moment wins.
///
/// # Errors
///
/// [`Elapsed`] when the limit passed first.
pub async fn timeout<T>(
    clock: &dyn Clock,
    limit: Duration,
    work: impl Future<Output = T>,
) -> Result<T, Elapsed> {
    let work = pin!(work);
    match select(work, clock.sleep(limit)).await {
        Either::Left((value, _)) => Ok(value),
        Either::Right(((), _)) => Err(Elapsed { limit }),
    }
}
