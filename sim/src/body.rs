//! Bodies that need not be kept to be checked: every byte follows from the body's id.
//!
//! A body is a short unique head followed by slices of one fixed pool of random bytes, so that
//! making and checking it costs a comparison of memory. Some bodies hold what looks like the header
//! of a record, for a store that would trust what it finds between records.

use std::sync::LazyLock;

use bytes::Bytes;
use kura_core::{
    address::{Address, Space},
    digest::{Digest, Hasher},
    record::{Artifact, CHUNK_BYTES, Nonce, Version, chunk_sum},
};

use crate::draw::Draw;

const POOL_BYTES: usize = 1 << 20;
/// How much one part of a body holds at most.
const PART_BYTES: u64 = 64 * 1024;
const HEAD_BYTES: u64 = 16;

/// The pool, and once more its beginning, so that no slice has to wrap.
static POOL: LazyLock<Bytes> = LazyLock::new(|| {
    let mut draw = Draw::named(0, "pool of bodies");
    let words = POOL_BYTES / 8;
    let mut pool: Vec<u8> = (0..words).flat_map(|_| draw.next_u64().to_le_bytes()).collect();
    pool.extend_from_within(..usize::try_from(PART_BYTES).unwrap_or(POOL_BYTES));
    Bytes::from(pool)
});

/// The id of a body: unique in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BodyId(pub u64);

/// A body, by what it is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body {
    /// Which.
    pub id: BodyId,
    /// Its length.
    pub len_bytes: u64,
    /// Whether it holds what looks like the header of a record.
    pub forged: bool,
}

impl Body {
    /// The bytes from `offset` on, as many as one part holds; empty at the end.
    #[must_use]
    pub fn part(&self, offset: u64) -> Bytes {
        let left = self.len_bytes.saturating_sub(offset);
        if left == 0 {
            return Bytes::new();
        }
        if offset < HEAD_BYTES {
            return self.head().slice(index(offset)..index(HEAD_BYTES.min(self.len_bytes)));
        }
        let part = (offset - HEAD_BYTES) / PART_BYTES;
        let start = HEAD_BYTES + part * PART_BYTES;
        let within = offset - start;
        let len = (PART_BYTES - within).min(left);
        if self.forged && part.is_multiple_of(2) {
            let forged = self.forged_part(start);
            return forged.slice(index(within)..index(within + len));
        }
        let from = self.pool_offset(part) + index(within);
        POOL.slice(from..from + index(len))
    }

    /// Whether this body has exactly these bytes at `offset`.
    #[must_use]
    pub fn matches(&self, mut offset: u64, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let part = self.part(offset);
            let len = part.len().min(bytes.len());
            if len == 0 || part[..len] != bytes[..len] {
                return false;
            }
            offset += size(len);
            bytes = &bytes[len..];
        }
        true
    }

    /// The SHA-256 of the whole.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::default();
        let mut offset = 0;
        while offset < self.len_bytes {
            let part = self.part(offset);
            hasher.update(&part);
            offset += size(part.len());
        }
        hasher.finish()
    }

    fn head(&self) -> Bytes {
        let mut head = Vec::with_capacity(16);
        head.extend(self.id.0.to_le_bytes());
        head.extend(self.len_bytes.to_le_bytes());
        Bytes::from(head)
    }

    fn pool_offset(&self, part: u64) -> usize {
        // An odd multiplier spreads the ids over the pool; the part moves on by an odd stride.
        let mixed = self.id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(part * 40_961);
        index(mixed % size(POOL_BYTES))
    }

    /// A part that begins with a header as the store would write it, were its nonce zero, once for
    /// the place it has in the body and once for the start of a segment.
    fn forged_part(&self, start: u64) -> Bytes {
        let from = self.pool_offset(start);
        let mut part = POOL[from..from + index(PART_BYTES)].to_vec();
        let stolen = Bytes::from_static(b"bytes that were never put under this name");
        let (Ok(address), sums) =
            (Address::new("builds", Space::Plain, "forged"), vec![chunk_sum(&stolen)])
        else {
            return Bytes::from(part);
        };
        let artifact = Artifact {
            address,
            body_bytes: size(stolen.len()),
            digest: Digest::of(&stolen),
            sequence: u64::MAX / 2,
            version: Version { time: u64::MAX / 2, node: 0 },
            replica: false,
            chunk_sums: sums,
        };
        let mut at = 0;
        for place in [start, kura_core::record::SEGMENT_HEADER_BYTES] {
            let record = [artifact.encode(Nonce([0; 16]), place), stolen.to_vec()].concat();
            part[at..at + record.len()].copy_from_slice(&record);
            at = (at + record.len()).next_multiple_of(4096);
        }
        Bytes::from(part)
    }
}

/// What the bytes that arrived so far can still be.
#[derive(Clone, Debug)]
pub struct Matcher {
    candidates: Vec<Body>,
    received_bytes: u64,
    /// The candidates that still fitted before the last bytes came, to tell short from wrong.
    wrong_at: Option<u64>,
}

/// What a body that arrived is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// All of this body.
    Whole(BodyId),
    /// A true beginning of this one, but not all of it.
    Short(BodyId),
    /// Nothing that was ever put here: from this byte on.
    Wrong(u64),
}

impl Matcher {
    /// Anything of `candidates` may come.
    #[must_use]
    pub fn new(mut candidates: Vec<Body>) -> Self {
        // What was put twice needs to be compared once.
        candidates.sort_unstable_by_key(|body| body.id);
        candidates.dedup();
        Self { candidates, received_bytes: 0, wrong_at: None }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        let at = self.received_bytes;
        self.candidates.retain(|body| body.matches(at, bytes));
        if self.candidates.is_empty() && self.wrong_at.is_none() {
            self.wrong_at = Some(at);
        }
        self.received_bytes += size(bytes.len());
    }

    /// How much came.
    #[must_use]
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// What it was, now that the end was declared.
    #[must_use]
    pub fn finish(&self) -> Match {
        let whole = self.candidates.iter().find(|body| body.len_bytes == self.received_bytes);
        match (whole, self.candidates.first()) {
            (Some(body), _) => Match::Whole(body.id),
            (None, Some(body)) => Match::Short(body.id),
            (None, None) => Match::Wrong(self.wrong_at.unwrap_or(0)),
        }
    }
}

/// A length in memory as a length on disk.
fn size(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// An offset that was checked against a length in memory.
fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

// A part may hold two forged records, each in a page of its own.
const _: () = assert!(PART_BYTES >= 2 * 4096 && CHUNK_BYTES >= 4096);

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(body: Body) -> Vec<u8> {
        let mut bytes = Vec::new();
        while size(bytes.len()) < body.len_bytes {
            bytes.extend_from_slice(&body.part(size(bytes.len())));
        }
        bytes
    }

    #[test]
    fn a_body_is_the_same_however_it_is_cut() {
        for forged in [false, true] {
            for len_bytes in [0, 1, 15, 16, 17, 65_535, 65_536 + 16, 300_000] {
                let body = Body { id: BodyId(77), len_bytes, forged };
                let whole = bytes_of(body);
                assert_eq!(size(whole.len()), len_bytes);
                assert_eq!(body.digest(), Digest::of(&whole));
                let mut matcher = Matcher::new(vec![body]);
                whole.chunks(7919).for_each(|chunk| matcher.update(chunk));
                assert_eq!(matcher.finish(), Match::Whole(BodyId(77)));
            }
        }
    }

    #[test]
    fn a_changed_byte_and_a_missing_one_are_told_apart() {
        let body = |id| Body { id: BodyId(id), len_bytes: 100_000, forged: id == 2 };
        let candidates = vec![body(1), body(2)];
        let run = |bytes: &[u8]| {
            let mut matcher = Matcher::new(candidates.clone());
            bytes.chunks(10_000).for_each(|chunk| matcher.update(chunk));
            matcher.finish()
        };
        for (id, at) in [(1, 0_usize), (2, 50_000), (2, 99_999)] {
            let mut bytes = bytes_of(body(id));
            assert_eq!(run(&bytes), Match::Whole(BodyId(id)));
            assert_eq!(run(&bytes[..bytes.len() - 1]), Match::Short(BodyId(id)));
            bytes[at] ^= 1;
            assert_eq!(run(&bytes), Match::Wrong(size(at) / 10_000 * 10_000));
            bytes[at] ^= 1;
            bytes.push(0);
            assert!(matches!(run(&bytes), Match::Wrong(_)), "longer than it was put");
        }
        assert!(matches!(Matcher::new(Vec::new()).finish(), Match::Wrong(0)));
    }

    #[test]
    fn a_forged_body_holds_a_header_that_an_unkeyed_store_would_take() {
        let body = Body { id: BodyId(5), len_bytes: 100_000, forged: true };
        let bytes = bytes_of(body);
        let header = kura_core::record::Header::decode(&bytes[16..], Nonce([0; 16]), 16);
        assert!(header.is_ok(), "{header:?}");
    }
}
