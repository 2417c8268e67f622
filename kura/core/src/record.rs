//! The record: how an artifact lies in a segment, so that a scan can tell all of it from its bytes.
//!
//! ```text
//! segment:  segment header, record, record, ...          nothing between, nothing behind
//! record:   fixed part | namespace | key | checksum of each chunk | checksum of the header | body
//! ```
//!
//! The checksum of the header is keyed with the segment's secret nonce and covers the offset, so
//! that nothing a client can put into a body passes for a record, not even a copy of this very
//! segment. The body's chunks have checksums of their own, in the header, so that the body itself
//! is one run of bytes that can be served from a mapping.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher24;

use crate::{
    address::{Address, KEY_BYTES_MAX, NAMESPACE_BYTES_MAX, Space},
    digest::Digest,
};

/// Where a segment lies, and by which rule it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Area {
    /// The ring of bodies, evicted by age.
    Blobs,
    /// The ring of small mutable entries, evicted by age.
    Entries,
    /// The pool of large bodies: segments of one record, evicted by recency.
    Pool,
}

impl Area {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Blobs, Self::Entries, Self::Pool];

    /// Its directory, below the data directory.
    #[must_use]
    pub fn dir(self) -> &'static str {
        match self {
            Self::Blobs => "blobs",
            Self::Entries => "entries",
            Self::Pool => "pool",
        }
    }
}

/// What is appended to a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flow {
    /// What clients write, and what takes the place of something here.
    Live,
    /// What a node catches up with.
    CatchUp,
}

/// Identifies a segment: its area in the upper 8 bits, its number in the others. Numbers grow and
/// never recur in an area of a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub u64);

/// Bits of the number of a segment.
const NUMBER_BITS: u32 = 56;

impl std::fmt::Display for SegmentId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{:016x}", self.area().dir(), self.number())
    }
}

impl SegmentId {
    /// The segment of an area with this number, of which the lower 56 bits count.
    #[must_use]
    pub const fn new(area: Area, number: u64) -> Self {
        let area = match area {
            Area::Blobs => 0,
            Area::Entries => 1,
            Area::Pool => 2,
        };
        Self(area << NUMBER_BITS | number & ((1 << NUMBER_BITS) - 1))
    }

    /// Where it lies.
    #[must_use]
    pub const fn area(self) -> Area {
        match self.0 >> NUMBER_BITS {
            0 => Area::Blobs,
            1 => Area::Entries,
            // Nothing else is ever made, and what is not in the pool is a miss.
            _ => Area::Pool,
        }
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0 & ((1 << NUMBER_BITS) - 1)
    }

    /// The name of its file.
    #[must_use]
    pub fn file_name(self) -> String {
        let extension = if self.area() == Area::Pool { "blob" } else { "seg" };
        format!("{:016x}.{extension}", self.number())
    }

    /// The path of its file, below the data directory.
    #[must_use]
    pub fn path(self) -> String {
        let (dir, name) = (self.area().dir(), self.file_name());
        match self.area() {
            Area::Blobs | Area::Entries => format!("{dir}/{name}"),
            Area::Pool => format!("{dir}/{}/{name}", self.pool_dir()),
        }
    }

    /// The directory of its file below that of the pool: directories stay small.
    #[must_use]
    pub fn pool_dir(self) -> String {
        format!("{:02x}", self.number() & 0xff)
    }

    /// The segment of `area` whose file has this name.
    #[must_use]
    pub fn from_file_name(area: Area, name: &str) -> Option<Self> {
        let digits = name.split_once('.')?.0;
        let id = Self::new(area, u64::from_str_radix(digits, 16).ok()?);
        (id.file_name() == name).then_some(id)
    }
}

/// The format that this version writes and the only one it reads.
pub const FORMAT: u32 = 2;
/// Length of the header of a segment, in bytes.
pub const SEGMENT_HEADER_LEN: usize = 64;
/// The same, as an offset.
pub const SEGMENT_HEADER_BYTES: u64 = SEGMENT_HEADER_LEN as u64;
/// Length of the fixed part of a record's header, in bytes.
pub const FIXED_BYTES: usize = 88;
/// A body is checked in chunks of this many bytes.
pub const CHUNK_BYTES: usize = 64 * 1024;
/// No header is longer: names at their limits and the checksums of 4 GiB.
pub const HEADER_BYTES_MAX: usize = FIXED_BYTES + 2048 + 65_536 * 4 + CHECKSUM_BYTES;
/// Length of a skip record, in bytes: a header without names or chunks.
pub const SKIP_BYTES: u64 = (FIXED_BYTES + CHECKSUM_BYTES) as u64;

/// The body of a large object begins here in its file, so that it can be written before its header is
/// known: whole blocks behind the longest header. What lies between is a hole.
pub const POOL_BODY_OFFSET: u64 =
    (SEGMENT_HEADER_BYTES + HEADER_BYTES_MAX as u64).next_multiple_of(4096);

const CHECKSUM_BYTES: usize = 8;
const SEGMENT_MAGIC: [u8; 8] = *b"KURASEG\n";
/// Every record begins with it.
pub const RECORD_MAGIC: [u8; 4] = *b"KREC";
const KIND_ARTIFACT: u8 = 1;
const KIND_SKIP: u8 = 2;
const CHUNK_LOG2: u8 = 16;
const FLAG_REPLICA: u8 = 1;

/// The secret of a segment that keys the checksums of its records' headers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Nonce(pub [u8; 16]);

/// The head of a segment's file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Which segment this is; the file's name says the same.
    pub id: SegmentId,
    /// Keys the checksums of record headers.
    pub nonce: Nonce,
    /// No record of a client's write in here has a lower sequence.
    pub base_sequence: u64,
    /// The hybrid logical time that orders it in its ring.
    pub age: u64,
    /// What is appended to it.
    pub flow: Flow,
    /// Where the first record begins, below [`POOL_BODY_OFFSET`].
    pub first_offset: u32,
}

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Fewer bytes than the header says it has.
    #[error("cut short")]
    Short,
    /// Not the first bytes of what was looked for.
    #[error("no magic")]
    Magic,
    /// Written by another version.
    #[error("format {0}, this version reads 2 only")]
    Format(u32),
    /// The checksum does not fit.
    #[error("wrong checksum")]
    Checksum,
    /// The checksum fits, and still a field has no meaning.
    #[error("a field without a meaning")]
    Field,
}

impl SegmentHeader {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SEGMENT_HEADER_LEN);
        out.extend(SEGMENT_MAGIC);
        out.extend(FORMAT.to_le_bytes());
        let flow = u32::from(self.flow == Flow::CatchUp);
        out.extend((self.first_offset << 1 | flow).to_le_bytes());
        out.extend(self.id.0.to_le_bytes());
        out.extend(self.base_sequence.to_le_bytes());
        out.extend(self.nonce.0);
        out.extend(self.age.to_le_bytes());
        let checksum = keyed(Nonce([0; 16]), 0, &out);
        out.extend(checksum.to_le_bytes());
        out
    }

    /// Reads it back.
    ///
    /// # Errors
    ///
    /// [`Invalid`] unless every byte is as `encode` wrote it.
    pub fn decode(bytes: &[u8]) -> Result<Self, Invalid> {
        let bytes = bytes.get(..SEGMENT_HEADER_LEN).ok_or(Invalid::Short)?;
        if bytes[..8] != SEGMENT_MAGIC {
            return Err(Invalid::Magic);
        }
        if u64_at(bytes, 56) != keyed(Nonce([0; 16]), 0, &bytes[..56]) {
            return Err(Invalid::Checksum);
        }
        let format = u32_at(bytes, 8);
        if format != FORMAT {
            return Err(Invalid::Format(format));
        }
        let mut nonce = [0; 16];
        nonce.copy_from_slice(&bytes[32..48]);
        Ok(Self {
            id: SegmentId(u64_at(bytes, 16)),
            base_sequence: u64_at(bytes, 24),
            nonce: Nonce(nonce),
            age: u64_at(bytes, 48),
            flow: if u32_at(bytes, 12) & 1 == 0 { Flow::Live } else { Flow::CatchUp },
            first_offset: u32_at(bytes, 12) >> 1,
        })
    }
}

/// A version: what decides between two bodies of one key. Ordered by time, then node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Hybrid logical time; see [`crate::hlc`].
    pub time: u64,
    /// The node that took the write.
    pub node: u64,
}

/// What a record says of its artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// Its name.
    pub address: Address,
    /// The length of its body.
    pub body_bytes: u64,
    /// The SHA-256 of its body.
    pub digest: Digest,
    /// Its place in the order of this node's changes.
    pub sequence: u64,
    /// Decides against other bodies of the same name.
    pub version: Version,
    /// Whether the body came from a peer, which has told everybody already.
    pub replica: bool,
    /// CRC-32C of each [`CHUNK_BYTES`] of the body, the last one of the rest.
    pub chunk_sums: Vec<u32>,
}

/// A record's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Header {
    /// An artifact follows.
    Artifact(Artifact),
    /// Nothing of use for this many bytes behind the header: the remains of a crash.
    Skip {
        /// How many.
        bytes: u64,
    },
}

impl Artifact {
    /// The length of the header that [`Artifact::encode`] makes, in bytes.
    #[must_use]
    pub fn header_bytes(&self) -> usize {
        header_bytes(&self.address, self.body_bytes)
    }

    /// The header, for a record that starts `offset` bytes into the segment of `nonce`.
    ///
    /// # Panics
    ///
    /// If the number of chunk sums does not fit the length of the body.
    #[must_use]
    pub fn encode(&self, nonce: Nonce, offset: u64) -> Vec<u8> {
        assert_eq!(self.chunk_sums.len(), chunk_count(self.body_bytes), "a sum for each chunk");
        let mut out = fixed(KIND_ARTIFACT, self.header_bytes(), self.body_bytes);
        let (namespace, key) = (self.address.namespace(), self.address.key());
        out[5] = self.address.space().number();
        out[7] = if self.replica { FLAG_REPLICA } else { 0 };
        out[12..14].copy_from_slice(&length_u16(namespace).to_le_bytes());
        out[14..16].copy_from_slice(&length_u16(key).to_le_bytes());
        out[24..32].copy_from_slice(&self.sequence.to_le_bytes());
        out[32..40].copy_from_slice(&self.version.time.to_le_bytes());
        out[40..48].copy_from_slice(&self.version.node.to_le_bytes());
        out[48..80].copy_from_slice(&self.digest.0);
        out.extend(namespace.as_bytes());
        out.extend(key.as_bytes());
        out.extend(self.chunk_sums.iter().flat_map(|sum| sum.to_le_bytes()));
        seal(out, nonce, offset)
    }
}

impl Header {
    /// How long the whole header is, from its first [`FIXED_BYTES`]. Not to be trusted before
    /// [`Header::decode`] has seen the rest; never over [`HEADER_BYTES_MAX`].
    ///
    /// # Errors
    ///
    /// [`Invalid::Short`] or [`Invalid::Magic`] when no record starts here.
    pub fn len_hint(fixed: &[u8]) -> Result<usize, Invalid> {
        let fixed = fixed.get(..FIXED_BYTES).ok_or(Invalid::Short)?;
        if fixed[..4] != RECORD_MAGIC {
            return Err(Invalid::Magic);
        }
        let len = u32_at(fixed, 8) as usize;
        if !(FIXED_BYTES + CHECKSUM_BYTES..=HEADER_BYTES_MAX).contains(&len) {
            return Err(Invalid::Field);
        }
        Ok(len)
    }

    /// Reads the header of the record that starts `offset` bytes into the segment of `nonce`.
    /// `bytes` may go on behind the header.
    ///
    /// # Errors
    ///
    /// [`Invalid`] unless it was written for this very place and nothing changed since.
    pub fn decode(bytes: &[u8], nonce: Nonce, offset: u64) -> Result<(Self, usize), Invalid> {
        let len = Self::len_hint(bytes)?;
        let bytes = bytes.get(..len).ok_or(Invalid::Short)?;
        let body = &bytes[..len - CHECKSUM_BYTES];
        if u64_at(bytes, len - CHECKSUM_BYTES) != keyed(nonce, offset, body) {
            return Err(Invalid::Checksum);
        }
        let body_bytes = u64_at(body, 16);
        match body[4] {
            KIND_ARTIFACT => Ok((Self::Artifact(decode_artifact(body, body_bytes)?), len)),
            KIND_SKIP => Ok((Self::Skip { bytes: body_bytes }, len)),
            _ => Err(Invalid::Field),
        }
    }

    /// The bytes that follow the header.
    #[must_use]
    pub fn body_bytes(&self) -> u64 {
        match self {
            Self::Artifact(artifact) => artifact.body_bytes,
            Self::Skip { bytes } => *bytes,
        }
    }
}

/// A record that says "nothing of use up to `end`", to be written at `offset`.
///
/// # Panics
///
/// If there is no room for it: `end` is less than [`SKIP_BYTES`] behind `offset`.
#[must_use]
pub fn encode_skip(nonce: Nonce, offset: u64, end: u64) -> Vec<u8> {
    assert!(end >= offset + SKIP_BYTES, "a skip record has room for its header");
    let len = FIXED_BYTES + CHECKSUM_BYTES;
    seal(fixed(KIND_SKIP, len, end - offset - SKIP_BYTES), nonce, offset)
}

/// The length of an artifact's header, in bytes.
#[must_use]
pub fn header_bytes(address: &Address, body_bytes: u64) -> usize {
    let names = address.namespace().len() + address.key().len();
    FIXED_BYTES + names + chunk_count(body_bytes) * 4 + CHECKSUM_BYTES
}

/// The longest body whose record fits a segment of `segment_bytes`, whatever its name.
#[must_use]
pub fn body_bytes_max(segment_bytes: u64) -> u64 {
    let sums = segment_bytes.div_ceil(CHUNK_BYTES as u64) * 4;
    let names = (NAMESPACE_BYTES_MAX + KEY_BYTES_MAX) as u64;
    let header = (FIXED_BYTES + CHECKSUM_BYTES) as u64 + names + sums;
    segment_bytes.saturating_sub(SEGMENT_HEADER_BYTES + header)
}

/// How many chunks a body has.
///
/// # Panics
///
/// If the body is longer than memory can count; bodies are limited to a segment.
#[must_use]
pub fn chunk_count(body_bytes: u64) -> usize {
    usize::try_from(body_bytes.div_ceil(CHUNK_BYTES as u64)).expect("bodies fit a segment")
}

/// The sums of a body's chunks, taken while it arrives.
#[derive(Clone, Default)]
pub struct ChunkSums {
    full: Vec<u32>,
    open: u32,
    open_bytes: usize,
}

impl ChunkSums {
    /// Takes the next bytes of the body.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let take = bytes.len().min(CHUNK_BYTES - self.open_bytes);
            let (head, tail) = bytes.split_at(take);
            self.open = crc32c::crc32c_append(self.open, head);
            self.open_bytes += take;
            if self.open_bytes == CHUNK_BYTES {
                self.close_chunk();
            }
            bytes = tail;
        }
    }

    /// The sums of everything taken.
    #[must_use]
    pub fn finish(mut self) -> Vec<u32> {
        if self.open_bytes > 0 {
            self.close_chunk();
        }
        self.full
    }

    fn close_chunk(&mut self) {
        self.full.push(self.open);
        (self.open, self.open_bytes) = (0, 0);
    }
}

/// The checksum of one chunk of a body.
#[must_use]
pub fn chunk_sum(chunk: &[u8]) -> u32 {
    crc32c::crc32c(chunk)
}

fn decode_artifact(header: &[u8], body_bytes: u64) -> Result<Artifact, Invalid> {
    let space = Space::from_number(header[5]).ok_or(Invalid::Field)?;
    if header[6] != CHUNK_LOG2 || header[7] & !FLAG_REPLICA != 0 {
        return Err(Invalid::Field);
    }
    let namespace_end = FIXED_BYTES + usize::from(u16_at(header, 12));
    let key_end = namespace_end + usize::from(u16_at(header, 14));
    let text = |range: std::ops::Range<usize>| {
        let bytes = header.get(range).ok_or(Invalid::Field)?;
        std::str::from_utf8(bytes).map_err(|_| Invalid::Field)
    };
    let address =
        Address::new(text(FIXED_BYTES..namespace_end)?, space, text(namespace_end..key_end)?)
            .map_err(|_| Invalid::Field)?;
    let sums = header.get(key_end..).ok_or(Invalid::Field)?;
    let chunk_sums: Vec<u32> = sums.chunks_exact(4).map(|sum| u32_at(sum, 0)).collect();
    if sums.len() % 4 != 0 || body_bytes.div_ceil(CHUNK_BYTES as u64) != chunk_sums.len() as u64 {
        return Err(Invalid::Field);
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(&header[48..80]);
    Ok(Artifact {
        address,
        body_bytes,
        digest: Digest(digest),
        sequence: u64_at(header, 24),
        version: Version { time: u64_at(header, 32), node: u64_at(header, 40) },
        replica: header[7] & FLAG_REPLICA != 0,
        chunk_sums,
    })
}

fn fixed(kind: u8, header_bytes: usize, body_bytes: u64) -> Vec<u8> {
    let len = u32::try_from(header_bytes).expect("a header is shorter than 4 GiB");
    let mut out = Vec::with_capacity(header_bytes);
    out.extend(RECORD_MAGIC);
    out.extend([kind, 0, CHUNK_LOG2, 0]);
    out.extend(len.to_le_bytes());
    out.extend([0; 4]);
    out.extend(body_bytes.to_le_bytes());
    out.resize(FIXED_BYTES, 0);
    out
}

fn seal(mut header: Vec<u8>, nonce: Nonce, offset: u64) -> Vec<u8> {
    let checksum = keyed(nonce, offset, &header);
    header.extend(checksum.to_le_bytes());
    header
}

/// SipHash-2-4 (Aumasson and Bernstein, 2012) over the offset and the bytes.
fn keyed(nonce: Nonce, offset: u64, bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher24::new_with_key(&nonce.0);
    hasher.write(&offset.to_le_bytes());
    hasher.write(bytes);
    hasher.finish()
}

fn length_u16(name: &str) -> u16 {
    u16::try_from(name.len()).expect("an address limits its names")
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NONCE: Nonce = Nonce([7; 16]);

    fn artifact(body: &[u8]) -> Artifact {
        let mut sums = ChunkSums::default();
        sums.update(body);
        Artifact {
            address: Address::new("team", Space::Plain, "ab/cd").unwrap(),
            body_bytes: body.len() as u64,
            digest: Digest::of(body),
            sequence: 9,
            version: Version { time: 11, node: 13 },
            replica: true,
            chunk_sums: sums.finish(),
        }
    }

    #[test]
    fn a_header_reads_back_at_its_own_place_only() {
        let artifact = artifact(&[1; 100_000]);
        let bytes = artifact.encode(NONCE, 4096);
        assert_eq!(bytes.len(), artifact.header_bytes());
        assert_eq!(artifact.chunk_sums.len(), 2);
        let len = bytes.len();
        assert_eq!(Header::decode(&bytes, NONCE, 4096), Ok((Header::Artifact(artifact), len)));
        assert_eq!(Header::decode(&bytes, NONCE, 8192), Err(Invalid::Checksum));
        assert_eq!(Header::decode(&bytes, Nonce([8; 16]), 4096), Err(Invalid::Checksum));
        assert_eq!(Header::decode(&bytes[..len - 1], NONCE, 4096), Err(Invalid::Short));
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_noticed() {
        let bytes = artifact(b"body").encode(NONCE, 64);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&damaged, NONCE, 64).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_segment_header_reads_back_and_every_flipped_bit_is_noticed() {
        let header = SegmentHeader {
            id: SegmentId::new(Area::Entries, 5),
            nonce: NONCE,
            base_sequence: 77,
            age: 7_777,
            flow: Flow::CatchUp,
            first_offset: 64,
        };
        let bytes = header.encode();
        assert_eq!(bytes.len() as u64, SEGMENT_HEADER_BYTES);
        assert!(SegmentHeader::decode(&bytes) == Ok(header));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_skip_covers_exactly_what_it_was_asked_to() {
        let bytes = encode_skip(NONCE, 1000, 5000);
        let (header, len) = Header::decode(&bytes, NONCE, 1000).unwrap();
        assert_eq!(1000 + len as u64 + header.body_bytes(), 5000);
        assert_eq!(len as u64, SKIP_BYTES);
    }

    #[test]
    fn file_names_read_back_and_foreign_ones_do_not() {
        for area in Area::ALL {
            let id = SegmentId::new(area, 0x12_002a);
            assert_eq!((id.area(), id.number()), (area, 0x12_002a));
            assert_eq!(SegmentId::from_file_name(area, &id.file_name()), Some(id));
        }
        assert_eq!(SegmentId::new(Area::Pool, 42).path(), "pool/2a/000000000000002a.blob");
        assert_eq!(SegmentId::new(Area::Entries, 42).path(), "entries/000000000000002a.seg");
        for foreign in ["2a.seg", "000000000000002A.seg", "x.seg", "000000000000002a.tmp", ""] {
            assert_eq!(SegmentId::from_file_name(Area::Blobs, foreign), None, "{foreign}");
        }
    }

    proptest! {
        #[test]
        fn sums_do_not_depend_on_how_the_body_arrives(
            body in proptest::collection::vec(any::<u8>(), 0..200_000),
            cut in 0usize..200_000,
        ) {
            let cut = cut.min(body.len());
            let (mut whole, mut parts) = (ChunkSums::default(), ChunkSums::default());
            whole.update(&body);
            parts.update(&body[..cut]);
            parts.update(&body[cut..]);
            let expected: Vec<u32> = body.chunks(CHUNK_BYTES).map(chunk_sum).collect();
            prop_assert_eq!(whole.finish(), expected.clone());
            prop_assert_eq!(parts.finish(), expected);
        }

        #[test]
        fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Header::decode(&bytes, NONCE, 0);
            let _ = SegmentHeader::decode(&bytes);
            let mut with_magic = bytes.clone();
            with_magic.splice(0..0, *b"KREC");
            let _ = Header::decode(&with_magic, NONCE, 0);
        }
    }
}
