//! The frames of an answer with bodies, read in whatever pieces they come.

use bytes::{Buf as _, Bytes, BytesMut};

use super::{client::Answer, error::PeerError};

/// The frames of an answer.
pub(crate) struct Frames {
    answer: Answer,
    data: BytesMut,
}

impl Frames {
    pub(crate) fn new(answer: Answer) -> Self {
        Self { answer, data: BytesMut::new() }
    }

    /// The answer behind all its frames; nothing if bytes of it are left over.
    pub(crate) fn into_answer(self) -> Option<Answer> {
        self.data.is_empty().then_some(self.answer)
    }

    /// The kind of the next frame.
    pub(crate) async fn byte(&mut self) -> Result<u8, PeerError> {
        self.have(1).await?;
        Ok(self.data.get_u8())
    }

    /// The length of a body.
    pub(crate) async fn word(&mut self) -> Result<u64, PeerError> {
        self.have(8).await?;
        Ok(self.data.get_u64_le())
    }

    /// Some bytes, at most `bytes_max`.
    pub(crate) async fn up_to(&mut self, bytes_max: u64) -> Result<Bytes, PeerError> {
        if self.data.is_empty() {
            // Large bodies pass through without being copied.
            let mut data = self.more(bytes_max).await?;
            let taken = usize::try_from(bytes_max).unwrap_or(usize::MAX).min(data.len());
            let rest = data.split_off(taken);
            self.data.extend_from_slice(&rest);
            return Ok(data);
        }
        let taken = usize::try_from(bytes_max).unwrap_or(usize::MAX).min(self.data.len());
        Ok(self.data.split_to(taken).freeze())
    }

    /// Reads so many bytes and throws them away.
    pub(crate) async fn skip(&mut self, mut bytes: u64) -> Result<(), PeerError> {
        while bytes > 0 {
            bytes -= self.up_to(bytes).await?.len() as u64;
        }
        Ok(())
    }

    async fn have(&mut self, bytes: usize) -> Result<(), PeerError> {
        while self.data.len() < bytes {
            let missing = bytes - self.data.len();
            let data = self.more(missing as u64).await?;
            self.data.extend_from_slice(&data);
        }
        Ok(())
    }

    async fn more(&mut self, missing_bytes: u64) -> Result<Bytes, PeerError> {
        loop {
            match self.answer.next().await? {
                Some(data) if data.is_empty() => {}
                Some(data) => return Ok(data),
                None => return Err(PeerError::Short { missing_bytes }),
            }
        }
    }
}
