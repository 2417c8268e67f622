//! Randomness by key: one ChaCha stream per (entity, purpose), so that removing one use of chance
//! leaves every other choice as it was.

use std::sync::Arc;

use kura_env::{Entropy, EntropyStream};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};
use siphasher::sip128::SipHasher24;

use crate::{host::Life, shared::Shared};

/// A stream of random numbers that is a function of a seed and a key.
pub struct KeyedStream(ChaCha8Rng);

impl KeyedStream {
    /// The stream of `parts` under `seed`. Other parts, or other borders between them, give an
    /// independent stream.
    #[must_use]
    pub fn new(seed: u64, parts: &[&[u8]]) -> Self {
        let mut message = Vec::new();
        for part in parts {
            message.extend_from_slice(&part.len().to_le_bytes());
            message.extend_from_slice(part);
        }
        let mut key = [0; 32];
        for (lane, half) in (0..).zip(key.chunks_exact_mut(16)) {
            half.copy_from_slice(
                &SipHasher24::new_with_keys(seed, lane).hash(&message).as_bytes()[..],
            );
        }
        Self::from_key(key)
    }

    /// The stream with this very key.
    #[must_use]
    pub fn from_key(key: [u8; 32]) -> Self {
        Self(ChaCha8Rng::from_seed(key))
    }

    /// A number in `0..bound`, 0 if `bound` is 0. The bias is below `bound / 2^64`.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.0.next_u64()) * u128::from(bound);
        u64::try_from(wide >> 64).expect("the upper half of a product of two 64-bit numbers")
    }

    /// A number in `low..=high`; `low` if the range is empty.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        match high.checked_sub(low) {
            None | Some(0) => low,
            Some(u64::MAX) => self.0.next_u64(),
            Some(width) => low + self.below(width + 1),
        }
    }

    /// True with a probability of `per_million` in a million.
    pub fn chance(&mut self, per_million: u32) -> bool {
        self.below(1_000_000) < u64::from(per_million)
    }

    /// A position in a slice of `len` elements; `len` must not be 0.
    pub(crate) fn position(&mut self, len: usize) -> usize {
        let bound = u64::try_from(len).expect("a length fits into 64 bits");
        usize::try_from(self.below(bound)).expect("a number below a length is a position")
    }
}

impl EntropyStream for KeyedStream {
    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }
}

/// The entropy of one life of a node. The n-th stream of a purpose is a function of the seed, the
/// node's name, which life it is, the purpose and n.
pub(crate) struct SimEntropy {
    pub(crate) shared: Arc<Shared>,
    pub(crate) life: Life,
}

impl Entropy for SimEntropy {
    fn stream(&self, purpose: &'static str) -> Box<dyn EntropyStream> {
        let (name, nth) = self.shared.hosts.lock().next_stream(self.life.node, purpose);
        Box::new(KeyedStream::new(
            self.shared.config.seed,
            &[
                b"node",
                name.as_bytes(),
                &self.life.number.to_le_bytes(),
                purpose.as_bytes(),
                &nth.to_le_bytes(),
            ],
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_other_keys_differ_and_of_the_same_key_do_not() {
        let draw = |seed, parts: &[&[u8]]| KeyedStream::new(seed, parts).next_u64();
        let first = draw(1, &[b"ab", b"c"]);
        assert_eq!(first, draw(1, &[b"ab", b"c"]));
        assert_ne!(first, draw(1, &[b"a", b"bc"]));
        assert_ne!(first, draw(2, &[b"ab", b"c"]));
    }

    #[test]
    fn numbers_stay_within_their_bounds() {
        let mut stream = KeyedStream::new(7, &[b"bounds"]);
        let mut seen = [false; 5];
        for _ in 0..500 {
            seen[stream.position(5)] = true;
            assert!((3..=9).contains(&stream.between(3, 9)));
        }
        assert_eq!(seen, [true; 5]);
        assert_eq!((stream.below(0), stream.between(4, 4), stream.between(4, 1)), (0, 4, 4));
        assert!(!stream.chance(0));
        assert!(stream.chance(1_000_000));
    }
}
