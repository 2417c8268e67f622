//! Random numbers, seeded by the operating system.

use kura_env::{Entropy, EntropyStream};
use rand_chacha::{
    ChaCha12Rng,
    rand_core::{RngCore, SeedableRng},
};

/// Streams of ChaCha12, each with a seed of its own from the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostEntropy;

struct HostStream(ChaCha12Rng);

impl Entropy for HostEntropy {
    /// # Panics
    ///
    /// If the operating system has no random numbers: then neither ids nor nonces can be made.
    fn stream(&self, _purpose: &'static str) -> Box<dyn EntropyStream> {
        Box::new(HostStream(ChaCha12Rng::from_os_rng()))
    }
}

impl EntropyStream for HostStream {
    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }
}
