//! Hybrid logical time (Kulkarni et al., 2014): wall time that never goes back on a node.
//!
//! The upper 48 bits are milliseconds since the Unix epoch, the lower 16 count within one.

/// The last time that a node gave out. Grows with every call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hlc(pub u64);

impl Hlc {
    /// The next time, when the wall clock reads `wall_millis`.
    #[must_use]
    pub fn next(self, wall_millis: u64) -> Self {
        Self((wall_millis << 16).max(self.0 + 1))
    }

    /// A time not before `seen`, so that what is given out next lies above it.
    #[must_use]
    pub fn witness(self, seen: u64) -> Self {
        Self(self.0.max(seen))
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
}
