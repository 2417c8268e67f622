//! A walk over one segment or object: its header, and then whatever lies behind it, in order. Changes
//! nothing, and takes nothing from the catalog.
//!
//! `verify` walks over all of them, `kura inspect segment` over one. A start scans on its own, because it
//! begins at a watermark and adopts what it finds.

use bytes::Bytes;
use kura_core::{
    record::{
        Artifact, CHUNK_BYTES, FIXED_BYTES, Flow, Header, Invalid, Nonce, SEGMENT_HEADER_LEN,
        SegmentHeader, SegmentId, chunk_sum,
    },
    recovery::{Found, look},
};
use kura_env::{DiskError, DiskErrorKind, File};

use crate::store::Resync;

/// Bodies are read in pieces of this size: whole chunks.
const READ_BYTES: usize = 16 * CHUNK_BYTES;
/// The first read of a record's header. Most are shorter.
const HEADER_READ_BYTES: usize = 4096;

/// What lies in a segment, in the order of its bytes.
#[derive(Debug)]
pub enum Item {
    /// Its header, which comes first.
    Header(SegmentHead),
    /// It has none that can be used, and so nothing in it can be told from anything.
    NoHeader(Unfit),
    /// An artifact.
    Record(Box<Record>),
    /// A record that says to pass over what a crash left.
    Skip {
        /// Where it begins.
        offset: u64,
        /// Where the next record begins.
        end: u64,
    },
    /// What is no record, and a record behind it.
    Gap {
        /// Where it begins.
        offset: u64,
        /// Where the next record begins.
        end: u64,
        /// Why it is none.
        why: Unfit,
        /// Whether all of it was read. If not, records may lie there that nobody could see.
        is_read: bool,
    },
    /// Where the log ends; comes last.
    End {
        /// Behind the last record.
        offset: u64,
        /// The length of the file.
        len_bytes: u64,
        /// What is wrong with what lies behind, if anything does.
        why: Option<Unfit>,
        /// Whether all of that was read. If not, records may lie there that nobody could see.
        is_read: bool,
    },
}

/// What the header of a segment says, but for its nonce: that is secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHead {
    /// Which segment it is.
    pub id: SegmentId,
    /// What is appended to it.
    pub flow: Flow,
    /// The hybrid logical time that orders it.
    pub age: u64,
    /// No client's write in it has a lower sequence.
    pub base_sequence: u64,
    /// Where the first record begins.
    pub first_offset: u64,
}

impl From<&SegmentHeader> for SegmentHead {
    fn from(header: &SegmentHeader) -> Self {
        let SegmentHeader { id, flow, age, base_sequence, first_offset, .. } = *header;
        Self { id, flow, age, base_sequence, first_offset: first_offset.into() }
    }
}

/// An artifact in a segment.
#[derive(Debug)]
pub struct Record {
    /// Where its header begins.
    pub offset: u64,
    /// The length of that.
    pub header_bytes: usize,
    /// What it says.
    pub artifact: Artifact,
    /// What its body is worth.
    pub body: BodyState,
}

impl Record {
    /// Where the body begins.
    #[must_use]
    pub fn body_offset(&self) -> u64 {
        self.offset + self.header_bytes as u64
    }
}

/// What a body is worth.
#[derive(Clone, Debug)]
pub enum BodyState {
    /// Nobody looked.
    Unchecked,
    /// Every chunk is as it was written.
    Whole,
    /// Of these chunks, counted from 0, some byte is another.
    Damaged(Vec<usize>),
    /// The device cannot read it.
    Unreadable(DiskError),
}

/// Why bytes cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unfit {
    /// They are not what they should be.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The segment is another one than its name says.
    #[error("it says that it is {0}")]
    OtherId(SegmentId),
    /// The device cannot read them.
    #[error(transparent)]
    Unreadable(DiskError),
}

/// What stands at one offset.
enum Standing {
    Record { header: Box<Header>, header_bytes: usize, end: u64 },
    Nothing(Unfit),
}

/// Goes over `file`, which should be the segment `id` if one is given, and tells of each item in order.
/// What the device cannot read is an item and no error.
///
/// # Errors
///
/// [`DiskError`] if the disk fails otherwise.
pub async fn walk(
    file: &dyn File,
    id: Option<SegmentId>,
    with_bodies: bool,
    tell: &mut (dyn FnMut(Item) + Send),
) -> Result<(), DiskError> {
    let header = match segment_header(file, id).await? {
        Ok(header) => header,
        Err(unfit) => {
            tell(Item::NoHeader(unfit));
            return Ok(());
        }
    };
    let (nonce, len_bytes) = (header.nonce, file.len().await?);
    let mut offset = u64::from(header.first_offset);
    tell(Item::Header(SegmentHead::from(&header)));
    // The rest of a segment whose blocks were reserved is not part of its length.
    let mut resync = Resync::new(file, nonce, len_bytes);
    let (mut why, mut is_read) = (None, true);
    while offset < len_bytes {
        match standing_at(file, nonce, offset, len_bytes).await? {
            Standing::Record { header, header_bytes, end } => {
                let item = match *header {
                    Header::Skip { .. } => Item::Skip { offset, end },
                    Header::Artifact(artifact) => {
                        let body = BodyState::Unchecked;
                        let mut record = Record { offset, header_bytes, artifact, body };
                        if with_bodies {
                            record.body = check(file, &record).await?;
                        }
                        Item::Record(Box::new(record))
                    }
                };
                tell(item);
                offset = end;
            }
            Standing::Nothing(unfit) => {
                let bad_reads = resync.bad_reads();
                let next = resync.next_record(offset + 1).await?;
                is_read = !matches!(unfit, Unfit::Unreadable(_))
                    && resync.bad_reads() == bad_reads
                    && (next.is_some() || !resync.has_given_up());
                let Some(end) = next else {
                    why = Some(unfit);
                    break;
                };
                tell(Item::Gap { offset, end, why: unfit, is_read });
                offset = end;
            }
        }
    }
    tell(Item::End { offset, len_bytes, is_read: is_read || why.is_none(), why });
    Ok(())
}

/// The header of the segment in `file`, which should be `id` if one is given; or why it has none.
///
/// # Errors
///
/// [`DiskError`] if the disk fails at more than the bytes.
pub(crate) async fn segment_header(
    file: &dyn File,
    id: Option<SegmentId>,
) -> Result<Result<SegmentHeader, Unfit>, DiskError> {
    let head = match read(file, 0, SEGMENT_HEADER_LEN).await? {
        Ok(head) => head,
        Err(unfit) => return Ok(Err(unfit)),
    };
    Ok(match SegmentHeader::decode(&head) {
        Ok(header) if id.is_some_and(|id| id != header.id) => Err(Unfit::OtherId(header.id)),
        Ok(header) => Ok(header),
        Err(invalid) => Err(invalid.into()),
    })
}

/// The artifact whose record begins at `offset` of the segment of `nonce`, with its body checked; or why
/// there is none.
///
/// # Errors
///
/// [`DiskError`] if the disk fails at more than the bytes.
pub(crate) async fn record_at(
    file: &dyn File,
    nonce: Nonce,
    offset: u64,
) -> Result<Result<Record, Unfit>, DiskError> {
    let len_bytes = file.len().await?;
    match standing_at(file, nonce, offset, len_bytes).await? {
        Standing::Record { header, header_bytes, .. } => match *header {
            Header::Artifact(artifact) => {
                let mut record =
                    Record { offset, header_bytes, artifact, body: BodyState::Unchecked };
                record.body = check(file, &record).await?;
                Ok(Ok(record))
            }
            Header::Skip { .. } => Ok(Err(Invalid::Field.into())),
        },
        Standing::Nothing(unfit) => Ok(Err(unfit)),
    }
}

async fn standing_at(
    file: &dyn File,
    nonce: Nonce,
    offset: u64,
    len_bytes: u64,
) -> Result<Standing, DiskError> {
    let mut wanted = FIXED_BYTES.max(HEADER_READ_BYTES);
    loop {
        let bytes = match read(file, offset, wanted).await? {
            Ok(bytes) => bytes,
            Err(unfit) => return Ok(Standing::Nothing(unfit)),
        };
        match look(&bytes, nonce, offset, len_bytes) {
            Found::Record { header, header_bytes, end } => {
                return Ok(Standing::Record { header, header_bytes, end });
            }
            Found::More(more) if more > wanted => wanted = more,
            // A file that got shorter while it was read ends here as well.
            Found::More(_) => return Ok(Standing::Nothing(Invalid::Short.into())),
            Found::End(invalid) => return Ok(Standing::Nothing(invalid.into())),
        }
    }
}

/// Holds each chunk of a body against its checksum.
async fn check(file: &dyn File, record: &Record) -> Result<BodyState, DiskError> {
    let Record { artifact: Artifact { body_bytes, chunk_sums, .. }, .. } = record;
    let (begin, mut damaged) = (record.body_offset(), Vec::new());
    let mut position = 0;
    while position < *body_bytes {
        let left = usize::try_from(body_bytes - position).unwrap_or(usize::MAX);
        let wanted = left.min(READ_BYTES);
        let bytes = match read(file, begin + position, wanted).await? {
            Ok(bytes) => bytes,
            Err(Unfit::Unreadable(error)) => return Ok(BodyState::Unreadable(error)),
            Err(Unfit::Invalid(_) | Unfit::OtherId(_)) => Bytes::new(),
        };
        let first = usize::try_from(position / CHUNK_BYTES as u64).unwrap_or(usize::MAX);
        for number in first..first + wanted.div_ceil(CHUNK_BYTES) {
            let at = (number - first) * CHUNK_BYTES;
            let chunk = bytes.get(at..wanted.min(at + CHUNK_BYTES));
            if chunk.map(chunk_sum).as_ref() != chunk_sums.get(number) {
                damaged.push(number);
            }
        }
        position += wanted as u64;
    }
    Ok(if damaged.is_empty() { BodyState::Whole } else { BodyState::Damaged(damaged) })
}

/// Reads; that the device cannot is no error.
async fn read(
    file: &dyn File,
    offset: u64,
    len_bytes: usize,
) -> Result<Result<Bytes, Unfit>, DiskError> {
    match file.read_at(offset, len_bytes).await {
        Err(error) if error.kind == DiskErrorKind::Io => Ok(Err(Unfit::Unreadable(error))),
        read => Ok(Ok(read?)),
    }
}
