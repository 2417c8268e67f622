//! The scrub: reading all that is stored, slowly, so that what the device lost is noticed while a peer
//! still has it. Latent sector errors are mostly found that way and not by readers (Schwarz et al.,
//! "Disk scrubbing in large archival storage systems", MASCOTS 2004).

use std::time::Duration;

/// How long the scrub rests after it read `bytes`, so that it reads `bytes_per_second` at the most.
/// At least 1 B/s is taken for granted.
#[must_use]
pub fn rest_after(bytes: u64, bytes_per_second: u64) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(bytes_per_second.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// `all` in the order of a pass: from a place that `chance` draws on, and round. A node that restarts
/// before a pass ends gets to everything all the same, in the course of several lives.
#[must_use]
pub fn pass_order<T>(all: Vec<T>, chance: u64) -> Vec<T> {
    let mut all = all;
    if let Some(start) = chance.checked_rem(all.len() as u64) {
        all.rotate_left(usize::try_from(start).unwrap_or(0));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_whatever_is_read() {
        for (bytes, rate, millis) in [
            (0, 1, 0),
            (1, 1, 1_000),
            (4 << 20, 4 << 20, 1_000),
            (256 << 10, 4 << 20, 62),
            (5, 0, 5_000),
        ] {
            assert_eq!(rest_after(bytes, rate).as_millis(), millis, "{bytes} B at {rate} B/s");
        }
        assert_eq!(rest_after(u64::MAX, 1), Duration::from_nanos(u64::MAX));
    }

    #[test]
    fn a_pass_gets_to_everything_once_wherever_it_begins() {
        assert_eq!(pass_order(Vec::<u8>::new(), 7), []);
        for chance in 0..10 {
            let order = pass_order(vec![0, 1, 2], chance);
            assert_eq!(order[0], chance % 3);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2]);
        }
    }
}
