//! How many bytes in a second go one way over a link: when the next ones may go.
//!
//! Not the bucket of `kura_core::bandwidth`, though both are one: that is the ceiling under which a node moves bytes, with
//! a lane for peers and a least rate, and this is the link that such a node is judged on. A link may be as slow as a byte
//! in a second, and knows nothing of who its bytes are for.

use std::time::Duration;

use kura_env::Instant;

/// How long a bucket takes to fill: so much may go at once after a pause.
const FILLS_IN: Duration = Duration::from_millis(50);
/// Pieces that a second is divided in where the rate is low.
const PIECES_A_SECOND: u64 = 16;

const NANOS: u128 = 1_000_000_000;

/// What may still go. All connections of a link take from the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    /// `None`: as much as anybody likes.
    bytes_per_second: Option<u64>,
    /// When it will have what was taken from it: before now if there is something in it.
    owed_until: Instant,
}

impl Bucket {
    /// One for this rate, of which zero is as little as there is: a byte in a second.
    pub(super) fn new(bytes_per_second: Option<u64>) -> Self {
        let bytes_per_second = bytes_per_second.map(|rate| rate.max(1));
        Self { bytes_per_second, owed_until: Instant::default() }
    }

    /// How much one connection should take at a time, `most` at the most.
    pub(super) fn piece_bytes(&self, most: usize) -> usize {
        let Some(rate) = self.bytes_per_second else { return most };
        usize::try_from(rate / PIECES_A_SECOND).map_or(most, |piece| piece.clamp(1, most))
    }

    /// Takes bytes out of it: when they may go, behind those that were taken before.
    pub(super) fn take(&mut self, bytes: u64, now: Instant) -> Instant {
        let Some(rate) = self.bytes_per_second else { return now };
        let nanos = (u128::from(bytes) * NANOS).div_ceil(u128::from(rate));
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let full = Instant::default() + now.since(Instant::default() + FILLS_IN);
        self.owed_until = self.owed_until.max(full) + cost;
        self.owed_until.max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::default() + Duration::from_millis(millis)
    }

    #[test]
    fn no_rate_is_no_wait() {
        let mut bucket = Bucket::new(None);
        assert_eq!(bucket.take(u64::MAX, at(7)), at(7));
        assert_eq!(bucket.piece_bytes(1000), 1000);
    }

    #[test]
    fn who_takes_more_than_is_in_it_waits_behind_those_before() {
        let mut bucket = Bucket::new(Some(1000));
        assert_eq!(bucket.take(50, at(10_000)), at(10_000), "it was full");
        assert_eq!(bucket.take(1000, at(10_000)), at(11_000));
        assert_eq!(bucket.take(500, at(10_000)), at(11_500));
        assert_eq!(bucket.take(0, at(12_000)), at(12_000));
        assert_eq!(bucket.take(150, at(99_000)), at(99_100), "it holds no more than it holds");
    }

    #[test]
    fn no_more_goes_than_the_rate_however_it_is_asked_for() {
        let mut bucket = Bucket::new(Some(1_000_000));
        let (mut now, mut total) = (at(0), 0);
        for step in 0..1000_u64 {
            let bytes = step * 7919 % 16_384;
            total += bytes;
            now = bucket.take(bytes, now);
        }
        let nanos = total * 1000;
        let took = now.since(at(0));
        assert!(took <= Duration::from_nanos(nanos + 1000), "{took:?} for {total} bytes");
        assert!(took + FILLS_IN >= Duration::from_nanos(nanos), "{took:?} for {total} bytes");
    }

    #[test]
    fn pieces_are_small_where_the_rate_is_low() {
        for (rate, piece) in [(0, 1), (160, 10), (16_000, 1000), (1_000_000, 1000)] {
            assert_eq!(Bucket::new(Some(rate)).piece_bytes(1000), piece, "{rate}");
        }
    }
}
