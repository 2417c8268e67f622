//! Hybrid logical time (Kulkarni et al., 2014): wall time that never goes back on a node.
//!
//! The upper 48 bits are milliseconds since the Unix epoch, the lower 16 count within one.
//!
//! A node's time is later than all that it has seen, so one clock that is far ahead would drag those of all others
//! with it. What a peer says is believed up to [`DRIFT_MAX`] ahead of the node's own wall clock and no further.

use std::time::Duration;

/// How far ahead of a node's wall clock a version of a peer may lie. Lower: nodes whose clocks are a little apart
/// refuse what the others have. Higher: a clock that is wrong takes others further with it.
pub const DRIFT_MAX: Duration = Duration::from_secs(5 * 60);

/// How far a time that a peer tells lies ahead of the wall clock, if that is too far. It passes by itself.
#[must_use]
pub fn too_far_ahead(time: u64, wall_millis: u64) -> Option<Duration> {
    let ahead = Duration::from_millis((time >> 16).saturating_sub(wall_millis));
    (ahead > DRIFT_MAX).then_some(ahead)
}

/// The last time that a node gave out. Grows with every call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hlc(pub u64);

impl Hlc {
    /// The next time, when the wall clock reads `wall_millis`.
    #[must_use]
    pub fn next(self, wall_millis: u64) -> Self {
        Self((wall_millis << 16).max(self.0 + 1))
    }

    /// A time not before `seen`, which this node has stored, so that what is given out next lies above it.
    #[must_use]
    pub fn witness(self, seen: u64) -> Self {
        Self(self.0.max(seen))
    }

    /// The same for what a peer says, which does not count where it is too far ahead.
    #[must_use]
    pub fn hear(self, told: u64, wall_millis: u64) -> Self {
        if too_far_ahead(told, wall_millis).is_some() { self } else { self.witness(told) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_grows_even_when_the_wall_clock_goes_back() {
        let first = Hlc::default().next(1000);
        assert_eq!(first, Hlc(1000 << 16));
        assert_eq!(first.next(1000), Hlc((1000 << 16) + 1));
        assert_eq!(first.next(400), Hlc((1000 << 16) + 1));
        assert_eq!(first.witness(2000 << 16).next(1500), Hlc((2000 << 16) + 1));
    }

    #[test]
    fn what_a_peer_says_counts_up_to_five_minutes_ahead() {
        const WALL: u64 = 1_000_000_000;
        const BOUND: u64 = 300_000;
        for (name, told, ahead) in [
            ("the beginning of time", 0, None),
            ("now", WALL << 16, None),
            ("at the bound", (WALL + BOUND) << 16, None),
            ("at the bound, late in its millisecond", (WALL + BOUND) << 16 | 0xffff, None),
            ("behind it", (WALL + BOUND + 1) << 16, Some(BOUND + 1)),
            ("the end of time", u64::MAX, Some((u64::MAX >> 16) - WALL)),
        ] {
            let found = too_far_ahead(told, WALL);
            assert_eq!(found, ahead.map(Duration::from_millis), "{name}");
            let own = Hlc(5 << 16);
            let expected = if ahead.is_some() { own } else { own.witness(told) };
            assert_eq!(own.hear(told, WALL), expected, "{name}");
        }
        // A clock that was set back goes on from what it has given out.
        let late = Hlc((WALL + BOUND + 9) << 16);
        assert_eq!(late.hear((WALL + BOUND + 5) << 16, WALL), late);
        assert!(too_far_ahead(late.next(WALL).0, WALL).is_some());
    }
}
