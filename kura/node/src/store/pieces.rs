//! The pieces of a body in memory, of which none is much larger than the bytes it holds.

use bytes::{Bytes, BytesMut};

/// Pieces below this are copied together. A piece of a network buffer keeps all of that buffer
/// alive, so a client that sends few bytes at a time would hold many times what it sent.
const COPIED_BELOW_BYTES: usize = 4 * 1024;
/// Bytes that are copied together at the most.
const TOGETHER_BYTES_MAX: usize = 64 * 1024;

/// Pieces in the order in which they came.
#[derive(Default)]
pub(super) struct Pieces {
    whole: Vec<Bytes>,
    /// Copies of the small pieces behind the last whole one.
    together: BytesMut,
    len_bytes: usize,
}

impl Pieces {
    pub(super) fn push(&mut self, data: Bytes) {
        self.len_bytes += data.len();
        if data.len() >= COPIED_BELOW_BYTES {
            self.close();
            self.whole.push(data);
        } else {
            self.together.extend_from_slice(&data);
            if self.together.len() >= TOGETHER_BYTES_MAX {
                self.close();
            }
        }
    }

    /// Bytes in all pieces together.
    pub(super) fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// Takes all pieces away.
    pub(super) fn take(&mut self) -> Vec<Bytes> {
        self.close();
        self.len_bytes = 0;
        std::mem::take(&mut self.whole)
    }

    fn close(&mut self) {
        if !self.together.is_empty() {
            self.whole.push(std::mem::take(&mut self.together).freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// A network buffer that says whether it is still held.
    struct Buffer(Vec<u8>, #[allow(dead_code, reason = "counted, not read")] Arc<()>);

    impl AsRef<[u8]> for Buffer {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    #[test]
    fn small_pieces_hold_no_network_buffer_and_large_ones_are_not_copied() {
        let held = Arc::new(());
        let bytes: Vec<u8> = (0..200_000_u32).map(|at| at.to_le_bytes()[0]).collect();
        let buffer = Bytes::from_owner(Buffer(bytes.clone(), held.clone()));
        let mut pieces = Pieces::default();
        for at in 0..100_000 {
            pieces.push(buffer.slice(at..=at));
        }
        pieces.push(Bytes::new());
        drop(buffer);
        assert_eq!((Arc::strong_count(&held), pieces.len_bytes()), (1, 100_000));

        let large = Bytes::copy_from_slice(&bytes[100_000..]);
        pieces.push(large.clone());
        pieces.push(Bytes::from_static(b"end"));
        let taken = pieces.take();
        assert_eq!(taken.concat(), [&bytes[..], b"end"].concat());
        assert!(taken.iter().any(|piece| piece.as_ptr() == large.as_ptr()));
        assert_eq!((taken.len(), pieces.len_bytes(), pieces.take().len()), (4, 0, 0));
    }
}
