//! Waiting, never without a bound and never without saying for what.

use std::time::Duration;

/// How long anything may take that should take a moment: far above it, so that a busy machine fails
/// no test, and far below what a person would wait.
pub const A_MOMENT: Duration = Duration::from_secs(20);

/// How long to wait between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Looks until there is something to see, and fails after `limit`.
pub async fn until<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    within(what, limit, looking).await
}

/// Waits for `work`, and fails after `limit`.
pub async fn within<T>(what: &str, limit: Duration, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, work).await {
        Ok(value) => value,
        Err(_) => panic!("waited {limit:?} in vain: {what}"),
    }
}
