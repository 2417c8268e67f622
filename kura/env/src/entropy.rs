//! Random numbers by name, so that removing one use leaves every other as it was.

/// Random numbers.
///
/// Contract: every call of `stream` with another purpose yields an independent stream. In the
/// simulator the n-th stream of a purpose on a node is a function of the seed; on a host it is
/// seeded by the operating system.
pub trait Entropy: Send + Sync {
    /// A stream of its own for `purpose`.
    fn stream(&self, purpose: &'static str) -> Box<dyn EntropyStream>;
}

/// One stream of uniformly distributed random numbers.
pub trait EntropyStream: Send + Sync {
    /// The next 64 bits.
    fn next_u64(&mut self) -> u64;

    /// Fills `bytes`, eight at a time from [`EntropyStream::next_u64`].
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}
