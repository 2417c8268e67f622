//! A ceiling on bytes in a second: when the next ones may move.
//!
//! A bucket that fills at the rate of the ceiling and holds an eighth of a second of it. Whoever takes more than is in it
//! waits until that would have come, behind those who took before. So the streams that share it move in turn, and as
//! they take little at a time none of them stands still for long.
//!
//! What moves for clients over the same network goes first: it takes out of the bucket without waiting, up to
//! three quarters of what comes in. The last quarter is left to peers whatever clients do, so that a node that joins
//! a busy mesh gets on.

use std::time::Duration;

/// The lowest ceiling there is. Below it the pieces in which streams move would keep each other waiting for so long that
/// their other ends take them for dead.
pub const RATE_MIN: u64 = 1024 * 1024;
/// How long a bucket takes to fill.
const FILLS_IN: Duration = Duration::from_millis(125);
/// From how much of the time to come what moves for clients may be taken: they come in bursts.
const AHEAD_MAX: Duration = Duration::from_secs(1);
/// Pieces that a second is divided in at low rates. With clients that use all that they may, who takes one at a time keeps
/// two hundred others waiting for eight seconds.
const PIECES_A_SECOND: u64 = 128;
/// The largest piece.
const PIECE_BYTES_MAX: u64 = 64 * 1024;

/// Of so many parts of what comes into a bucket, one is kept for peers. More: clients feel it when a node catches up
/// while they use all of the network. Fewer: so many streams to peers share the lane that each stands still for too long.
pub const LANES: u32 = 4;

const NANOS: u128 = 1_000_000_000;

/// What may still move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    rate: u64,
    /// When it will have what was taken from it: before now if there is something in it.
    owed_until: Duration,
    /// Up to when clients have used what may be given away.
    given_until: Duration,
    used: Used,
}

/// What was taken out of a bucket, as the times in which so much comes into it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// By what waits for it.
    pub by_peers: Duration,
    /// By what moved for clients, as far as it was given away.
    pub by_clients: Duration,
}

impl Used {
    /// What of it came behind `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        let by_peers = self.by_peers.saturating_sub(earlier.by_peers);
        Self { by_peers, by_clients: self.by_clients.saturating_sub(earlier.by_clients) }
    }
}

impl Bucket {
    /// A full one for so many bytes in a second, [`RATE_MIN`] at the least; none for 0, which is no ceiling.
    #[must_use]
    pub fn new(bytes_per_second: u64) -> Option<Self> {
        let rate = bytes_per_second.max(RATE_MIN);
        let (owed_until, given_until) = (Duration::ZERO, Duration::ZERO);
        let used = Used::default();
        (bytes_per_second > 0).then_some(Self { rate, owed_until, given_until, used })
    }

    /// Bytes in a second.
    #[must_use]
    pub fn rate(&self) -> u64 {
        self.rate
    }

    /// How much one stream should take at a time.
    #[must_use]
    pub fn piece_bytes(&self) -> usize {
        let bytes = (self.rate / PIECES_A_SECOND).min(PIECE_BYTES_MAX);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// Takes bytes out of it at `now`, counted from any moment: how long they have to wait.
    #[must_use]
    pub fn take(&mut self, bytes: u64, now: Duration) -> Duration {
        let cost = self.cost(bytes);
        // It holds no more than it holds, however long nothing was taken.
        let full = now.saturating_sub(FILLS_IN);
        self.owed_until = self.owed_until.max(full).saturating_add(cost);
        self.used.by_peers = self.used.by_peers.saturating_add(cost);
        self.owed_until.saturating_sub(now)
    }

    /// Takes out of it what moved for clients at `now`, as far as it may be given away: in any time no more than
    /// comes in then and in the second behind it, less one part of [`LANES`]. Nobody waits for it, and what is beyond
    /// is not made up for later.
    pub fn give_way(&mut self, bytes: u64, now: Duration) {
        let full = now.saturating_sub(FILLS_IN);
        let since = self.given_until.max(full);
        let may_be_given = (now + AHEAD_MAX).saturating_sub(since) * (LANES - 1) / LANES;
        let given = self.cost(bytes).min(may_be_given);
        self.given_until = since + given * LANES / (LANES - 1);
        self.owed_until = self.owed_until.max(full).saturating_add(given);
        self.used.by_clients = self.used.by_clients.saturating_add(given);
    }

    /// What was taken out of it so far.
    #[must_use]
    pub fn used(&self) -> Used {
        self.used
    }

    /// The time in which so many bytes come into it.
    fn cost(&self, bytes: u64) -> Duration {
        let nanos = (u128::from(bytes) * NANOS).div_ceil(u128::from(self.rate));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_ceiling_is_no_bucket_and_a_low_one_is_the_lowest() {
        for (asked, rate, piece_bytes) in [
            (1, RATE_MIN, 8 * 1024),
            (RATE_MIN, RATE_MIN, 8 * 1024),
            (2 * RATE_MIN, 2 * RATE_MIN, 16 * 1024),
            (512 * RATE_MIN, 512 * RATE_MIN, 64 * 1024),
        ] {
            let bucket = Bucket::new(asked).unwrap();
            assert_eq!((bucket.rate(), bucket.piece_bytes()), (rate, piece_bytes), "{asked}");
        }
        assert_eq!(Bucket::new(0), None);
    }

    #[test]
    fn what_is_in_it_moves_at_once_and_the_rest_in_turn() {
        let mut bucket = Bucket::new(8 * RATE_MIN).unwrap();
        let at = Duration::from_secs;
        assert_eq!(bucket.take(RATE_MIN, at(10)), Duration::ZERO, "an eighth of a second");
        assert_eq!(bucket.take(8 * RATE_MIN, at(10)), at(1));
        assert_eq!(bucket.take(8 * RATE_MIN, at(10)), at(2), "behind the one before");
        assert_eq!(bucket.take(0, at(12)), Duration::ZERO);
        assert_eq!(
            bucket.take(2 * RATE_MIN, at(1000)),
            Duration::from_millis(125),
            "no more than full"
        );
        let used = Used { by_peers: Duration::from_millis(2375), by_clients: Duration::ZERO };
        assert_eq!(bucket.used(), used);
        bucket.give_way(8 * RATE_MIN, at(2000));
        let given = bucket.used().since(used);
        assert!(
            given.by_peers.is_zero() && given.by_clients < at(1),
            "what may be given: {given:?}"
        );
        assert!(given.by_clients > Duration::from_millis(800), "{given:?}");
    }

    #[test]
    fn clients_go_first_and_leave_a_quarter() {
        let at = Duration::from_millis;
        // What peers get of a bucket in ten seconds.
        let rate = 8 * RATE_MIN;
        let moved = |of_clients: u64| {
            let mut bucket = Bucket::new(rate).unwrap();
            let (mut now, mut moved) = (at(1000), 0);
            while now < at(11_000) {
                // Clients come in bursts, four in a second.
                if now.as_millis() % 250 == 0 {
                    bucket.give_way(of_clients / 4, now);
                }
                let mut probe = bucket;
                while probe.take(8 * 1024, now).is_zero() {
                    bucket = probe;
                    moved += 8 * 1024;
                }
                now += at(1);
            }
            moved as f64 / 10.0 / rate as f64
        };
        // What clients move of the rate, and what is left to peers.
        for (of_clients, of_peers) in
            [(0, 1.0), (25, 0.75), (50, 0.5), (75, 0.25), (100, 0.25), (900, 0.25)]
        {
            let got = moved(of_clients * rate / 100);
            // The bucket was full, and clients may take a tenth of these ten seconds ahead.
            assert!(
                (of_peers - 0.1..of_peers + 0.03).contains(&got),
                "{of_clients} %: {got}, not {of_peers}"
            );
        }
    }

    #[test]
    fn no_stream_stands_still_for_so_long_that_it_is_given_up() {
        let mut bucket = Bucket::new(RATE_MIN).unwrap();
        let (mut now, mut longest) = (Duration::from_secs(1), Duration::ZERO);
        for _ in 0..100 {
            // Each of so many takes its turn while clients use all that they may.
            for _ in 0..256 {
                bucket.give_way(RATE_MIN, now);
                longest = longest.max(bucket.take(bucket.piece_bytes() as u64, now));
            }
            now += longest;
        }
        assert!(longest < crate::limits::IDLE_TIMEOUT / 2, "{longest:?}");
    }

    #[test]
    fn the_lane_holds_against_the_smallest_moves() {
        for rate in [RATE_MIN, 1 << 29, 1 << 40] {
            let mut bucket = Bucket::new(rate).unwrap();
            for _ in 0..2_000_000 {
                bucket.give_way(1460, Duration::from_secs(1));
            }
            let wait = bucket.take(0, Duration::from_secs(1));
            assert!(wait <= (FILLS_IN + AHEAD_MAX) * (LANES - 1) / LANES, "{rate}: {wait:?}");
        }
    }

    #[test]
    fn what_clients_move_while_no_peer_does_is_forgotten() {
        let mut bucket = Bucket::new(8 * RATE_MIN).unwrap();
        let at = Duration::from_secs;
        for second in 1..1000 {
            bucket.give_way(800 * RATE_MIN, at(second));
        }
        assert!(bucket.take(0, at(999)) < AHEAD_MAX, "at most what they may take ahead");
        assert_eq!(bucket.take(RATE_MIN, at(1000)), Duration::ZERO);
    }

    proptest! {
        /// Whatever clients do, peers have a quarter of the rate: who takes waits no longer than all that
        /// peers took would at that.
        #[test]
        fn peers_keep_their_lane(
            rate in RATE_MIN..1 << 32,
            moves in proptest::collection::vec((0_u64..1 << 20, 0_u64..1 << 34, 0_u64..200_000_000), 1..100),
        ) {
            let mut bucket = Bucket::new(rate).unwrap();
            let (mut now, mut total) = (Duration::from_secs(1), 0);
            for (of_peers, of_clients, pause) in moves {
                now += Duration::from_nanos(pause);
                bucket.give_way(of_clients, now);
                let wait = bucket.take(of_peers, now);
                total += of_peers;
                let longest = total as f64 / (rate as f64 / f64::from(LANES))
                    + (FILLS_IN + AHEAD_MAX).as_secs_f64();
                prop_assert!(wait.as_secs_f64() <= longest + 1e-6, "{wait:?}, at most {longest} s");
            }
        }

        /// In any span of time no more moves than the rate gives, what the bucket holds, and one piece more; and
        /// who waits does not wait for longer than that takes.
        #[test]
        fn no_more_moves_than_the_ceiling(
            rate in RATE_MIN..1 << 32,
            takes in proptest::collection::vec((0_u64..1 << 20, 0_u64..200_000_000), 1..100),
        ) {
            let mut bucket = Bucket::new(rate).unwrap();
            let (mut now, mut moved, mut total) = (Duration::ZERO, Vec::new(), 0);
            for (bytes, pause) in takes {
                now += Duration::from_nanos(pause);
                let wait = bucket.take(bytes, now);
                total += bytes;
                prop_assert!(wait.as_secs_f64() <= total as f64 / rate as f64 + 1e-6);
                moved.push((now + wait, bytes));
            }
            for (first, (from, _)) in moved.iter().enumerate() {
                let mut sum = 0;
                for (at, bytes) in &moved[first..] {
                    sum += bytes;
                    let span = at.saturating_sub(*from).as_secs_f64() + FILLS_IN.as_secs_f64();
                    let most = span * rate as f64 + moved[first].1 as f64;
                    prop_assert!(sum as f64 <= most + 100.0, "{sum} bytes, at most {most}");
                }
            }
        }
    }
}
