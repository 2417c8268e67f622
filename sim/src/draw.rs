//! Keyed random numbers: one ChaCha stream per (seed, name), so that adding or removing a use
//! changes no other draw.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};
use sha2::{Digest, Sha256};

/// A stream of random numbers of its own.
pub struct Draw(ChaCha8Rng);

impl Draw {
    /// The stream that `name` has under `seed`.
    #[must_use]
    pub fn named(seed: u64, name: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"kura-sim draw");
        hash.update(seed.to_le_bytes());
        hash.update(name.as_bytes());
        Self(ChaCha8Rng::from_seed(hash.finalize().into()))
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number in `0..bound`, evenly; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // Taking the high half of the product is even to within 2^-64 * bound, far below what any
        // scenario could tell.
        let product = u128::from(self.next_u64()) * u128::from(bound);
        u64::try_from(product >> 64).expect("the high half of a 128-bit product fits 64 bits")
    }

    /// A number in `from..=to`, evenly.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        match to.saturating_sub(from).checked_add(1) {
            Some(width) => from + self.below(width),
            None => self.next_u64(),
        }
    }

    /// A number in `from..=to` whose order of magnitude is even, as sizes of bodies are: half as
    /// many between 64 and 128 as there would be between 32 and 128.
    pub fn octaves(&mut self, from: u64, to: u64) -> u64 {
        let from = from.max(1);
        if to <= from {
            return from;
        }
        let doublings = u64::from((to / from).ilog2()) + 1;
        // The last octave may stick out over `to`: draw again a bounded number of times.
        for _ in 0..16 {
            let low = from << self.below(doublings);
            let drawn = self.between(low, low.saturating_mul(2) - 1);
            if drawn <= to {
                return drawn;
            }
        }
        to
    }

    /// True for `millionths` of a million draws.
    pub fn chance(&mut self, millionths: u64) -> bool {
        self.below(1_000_000) < millionths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_depend_on_seed_and_name_alone() {
        let first = |seed, name| Draw::named(seed, name).next_u64();
        assert_eq!(first(1, "a"), first(1, "a"));
        assert_ne!(first(1, "a"), first(1, "b"));
        assert_ne!(first(1, "a"), first(2, "a"));
    }

    #[test]
    fn draws_stay_within_their_bounds_and_reach_them() {
        let mut draw = Draw::named(7, "bounds");
        let drawn: Vec<u64> = (0..500).map(|_| draw.between(3, 6)).collect();
        assert_eq!((drawn.iter().min(), drawn.iter().max()), (Some(&3), Some(&6)));
        let drawn: Vec<u64> = (0..5000).map(|_| draw.octaves(10, 1000)).collect();
        assert!(drawn.iter().all(|n| (10..=1000).contains(n)));
        let small = drawn.iter().filter(|n| **n < 100).count();
        assert!((1500..3500).contains(&small), "{small} of 5000 lie in the lower half of octaves");
        assert_eq!(draw.octaves(5, 5), 5);
        assert!((0..100).all(|_| !draw.chance(0) && draw.chance(1_000_000)));
    }
}
