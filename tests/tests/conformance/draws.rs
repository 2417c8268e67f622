//! Numbers drawn from a seed: the same in every run and in every process.

use bytes::Bytes;

use crate::operation::Operation;

/// SplitMix64.
pub(crate) struct Draws(pub(crate) u64);

impl Draws {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// An index below `bound`.
    pub(crate) fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    /// One of `choices`.
    pub(crate) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }

    /// Bytes that no compression makes smaller.
    pub(crate) fn bytes(&mut self, len: usize) -> Bytes {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes.into()
    }
}

/// What an operation writes, all parts joined.
pub(crate) fn joined(operation: &Operation, fill: u64) -> Vec<u8> {
    let mut fill = Draws(fill);
    if let Operation::Append { parts, .. } = operation {
        return parts.iter().flat_map(|len| fill.bytes(*len)).collect();
    }
    if let Operation::WriteAt { len, .. } = operation {
        fill.bytes(*len).to_vec()
    } else {
        Vec::new()
    }
}
