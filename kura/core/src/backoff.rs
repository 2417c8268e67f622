//! How long to leave a peer alone that failed: twice as long each time, up to a bound, with jitter
//! so that nodes that failed together do not come back together.

use std::time::Duration;

/// The first pause.
pub const PAUSE_MIN: Duration = Duration::from_secs(2);
/// No pause is longer, unless the peer asked for it.
pub const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Failures in a row, with one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The pause after one more failure. `random` is any number, uniformly drawn; `asked` is what
    /// the peer said in `Retry-After`, which is obeyed up to [`PAUSE_MAX`].
    ///
    /// The pause lies between half and all of `PAUSE_MIN * 2^(failures - 1)`.
    pub fn fail(&mut self, random: u64, asked: Option<Duration>) -> Duration {
        let doubled = PAUSE_MIN.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        let whole = doubled.min(PAUSE_MAX);
        let half = whole / 2;
        let jitter = half.mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64);
        (half + jitter).max(asked.unwrap_or_default().min(PAUSE_MAX))
    }

    /// The peer answered.
    pub fn succeed(&mut self) {
        self.failures = 0;
    }

    /// Failures in a row.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute_and_start_over_after_an_answer() {
        let mut backoff = Backoff::default();
        let longest: Vec<_> = (0..8).map(|_| backoff.fail(u64::MAX, None).as_secs_f64()).collect();
        for (pause, expected) in longest.iter().zip([2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]) {
            assert!((pause - expected).abs() < 0.001, "{pause} instead of {expected}");
        }
        backoff.succeed();
        assert_eq!(backoff.fail(0, None), PAUSE_MIN / 2);
        for _ in 0..100 {
            assert!(backoff.fail(u64::MAX, None) <= PAUSE_MAX);
        }
    }

    #[test]
    fn what_the_peer_asks_for_is_obeyed_within_the_bound() {
        let ask = |seconds| Backoff::default().fail(0, Some(Duration::from_secs(seconds)));
        assert_eq!(ask(0), PAUSE_MIN / 2);
        assert_eq!(ask(30), Duration::from_secs(30));
        assert_eq!(ask(3600), PAUSE_MAX);
    }
}
