//! Random choices of the device, keyed by what they are for, so that one choice more or less leaves
//! every other as it was.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};

/// One stream of choices.
pub(crate) struct Draw(ChaCha8Rng);

impl Draw {
    /// The stream for the `ordinal`-th thing of a purpose.
    ///
    /// # Panics
    ///
    /// If the purpose is longer than 16 bytes.
    pub(crate) fn keyed(seed: u64, purpose: &'static str, ordinal: u64) -> Self {
        let mut key = [0u8; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&ordinal.to_le_bytes());
        key[16..16 + purpose.len()].copy_from_slice(purpose.as_bytes());
        Self(ChaCha8Rng::from_seed(key))
    }

    /// A number below `bound`; 0 for a bound of 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.0.next_u64()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// One of two.
    pub(crate) fn coin(&mut self) -> bool {
        self.0.next_u64() >> 63 == 1
    }
}
