//! Whether a stream that moves moves enough to be waited for. A peer that sends a byte now and then
//! would hold what it was asked for against every healthy one.

use std::time::Duration;

/// Time spent waiting for bytes after which the pace is looked at.
const WINDOW: Duration = Duration::from_secs(60);
/// Bytes that must have come in it: far below any link that is of use, shared by however many.
const WINDOW_BYTES_MIN: u64 = 1024;

/// How a stream moves. Only time in which somebody waits for the stream counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// So many bytes came after such a wait. Whether the stream is too slow to go on with.
    #[must_use]
    pub fn is_too_slow(&mut self, waited: Duration, bytes: u64) -> bool {
        self.waited += waited;
        self.bytes += bytes;
        if self.waited < WINDOW {
            return false;
        }
        let is_too_slow = self.bytes < WINDOW_BYTES_MIN;
        *self = Self::default();
        is_too_slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drip_is_too_slow_and_a_slow_link_is_not() {
        for (millis, bytes, too_slow) in [
            (29_000, 1, true),
            (1_000, 17, true),
            (1_000, 18, false),
            // 2.4 kbit/s, in pieces.
            (5_000, 1_500, false),
            (0, 0, false),
        ] {
            let mut pace = Pace::default();
            let seen = (0..200).any(|_| pace.is_too_slow(Duration::from_millis(millis), bytes));
            assert_eq!(seen, too_slow, "{bytes} bytes every {millis} ms");
        }
    }
}
