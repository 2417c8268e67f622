//! A look at a data directory whose node does not run: every record, every body, every row and every
//! block. Changes nothing, beside what opening the catalog does to its own files.
//!
//! What a stop at any point may leave, and the next start clears up, is noted. A *problem* is what no
//! stop explains.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use kura_core::{
    address::Address,
    digest::Digest,
    ledger::{Account, Ledger},
    place::{Place, contents_key, is_mark_in_places},
    record::{
        Area, Artifact, CHUNK_BYTES, FIXED_BYTES, Header, Nonce, SEGMENT_HEADER_LEN, SegmentHeader,
        SegmentId, chunk_sum,
    },
    recovery::{Found, look},
    ring::Ring,
};
use kura_env::{CatalogError, DiskError, DiskErrorKind, DiskPath, Env, File, LockOutcome};
use serde::Serialize;

use crate::{
    node::LOCK,
    store::{
        CONTENTS_SPACE, PLACES_SPACE, Resync, SavedRing, files_below, load_ring_file, segment_of,
        segment_path,
    },
};

/// Problems that are told one by one; further ones are counted.
const TOLD_MAX: usize = 100;
/// Rows that are looked at together.
const PAGE_ROWS: usize = 1024;
/// Bodies are read in pieces of this size: whole chunks.
const READ_BYTES: usize = 16 * CHUNK_BYTES;

/// Why a data directory cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Its node runs, or something else has it.
    #[error("the data directory is in use by {holder}; stop it first")]
    Locked {
        /// What the holder says of itself.
        holder: String,
    },
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// What was found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Findings {
    /// Segments of the rings.
    pub segments: u64,
    /// Objects of the pool.
    pub objects: u64,
    /// Records with a valid header.
    pub records: u64,
    /// Bytes of bodies that were read and checked.
    pub body_bytes: u64,
    /// Rows of the index that name a place.
    pub rows: u64,
    /// Allocated bytes by account, of the files that belong to the store.
    pub ledger: BTreeMap<&'static str, u64>,
    /// Of all files together.
    pub walked_bytes: u64,
    /// Of those that are in no ring and no pool: what the ledger lacks of the walk.
    pub beside_bytes: u64,
    /// What the next start clears up, or takes as it is.
    pub notes: Vec<String>,
    /// What should not be there. At most a hundred are told.
    pub problems: Vec<String>,
    /// How many there are in all.
    pub problem_count: u64,
}

impl Findings {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.problem_count == 0
    }

    fn problem(&mut self, what: String) {
        self.problem_count += 1;
        if self.problems.len() < TOLD_MAX {
            self.problems.push(what);
        }
    }
}

/// Looks at the data directory of `env`. `holder` is written into its lock meanwhile.
///
/// # Errors
///
/// [`VerifyError`] when it cannot be looked at as a whole.
pub async fn verify(env: &Env, holder: &str) -> Result<Findings, VerifyError> {
    let _lock = match env.disk.lock(&DiskPath::new(LOCK), holder).await? {
        LockOutcome::Held(lock) => lock,
        LockOutcome::Taken(holder) => return Err(VerifyError::Locked { holder }),
    };
    env.catalog.open().await?;
    let mut check = Check {
        env,
        findings: Findings::default(),
        records: BTreeMap::new(),
        damaged: BTreeMap::new(),
        ends: BTreeMap::new(),
    };
    let checked = check.all().await;
    env.catalog.close().await;
    checked?;
    Ok(check.findings)
}

/// One look.
struct Check<'a> {
    env: &'a Env,
    findings: Findings,
    /// What lies where, as many as there are records.
    records: BTreeMap<(SegmentId, u64), (Digest, u64)>,
    /// Those whose body is not what was written.
    damaged: BTreeMap<(SegmentId, u64), Address>,
    /// Where the log of each segment or object ends.
    ends: BTreeMap<SegmentId, u64>,
}

impl Check<'_> {
    async fn all(&mut self) -> Result<(), VerifyError> {
        let files = files_below(&*self.env.disk, DiskPath::root()).await?;
        let Some(ring) = self.ring(&files).await? else { return Ok(()) };
        for member in ring.members() {
            let path = segment_path(member.id);
            if files.iter().any(|(found, _)| found == path.as_str()) {
                self.findings.segments += 1;
                self.segment(member.id).await?;
            } else {
                self.note(format!("segment {} of RING has no file", member.id));
            }
        }
        let objects = files.iter().filter_map(|(path, _)| segment_of(path));
        for id in objects.filter(|id| id.area() == Area::Pool) {
            self.findings.objects += 1;
            self.segment(id).await?;
        }
        self.places().await?;
        self.contents().await?;
        self.ledger(&ring, &files);
        Ok(())
    }

    fn note(&mut self, what: String) {
        self.findings.notes.push(what);
    }

    /// RING; `None` if there is nothing to look at, or nothing that could be told from anything.
    async fn ring(&mut self, files: &[(String, u64)]) -> Result<Option<Ring>, VerifyError> {
        let is_empty = !files.iter().any(|(path, _)| segment_of(path).is_some());
        match load_ring_file(&*self.env.disk).await? {
            SavedRing::Ring(ring) => return Ok(Some(ring)),
            SavedRing::Absent if is_empty => self.note("nothing was ever stored here".to_owned()),
            SavedRing::Absent => self.findings.problem("RING is missing".to_owned()),
            SavedRing::Invalid(invalid) => self.findings.problem(format!("RING has {invalid}")),
            SavedRing::Unreadable(error) => self.findings.problem(error.to_string()),
        }
        Ok(None)
    }

    /// A segment or an object: its header, and every record behind it.
    async fn segment(&mut self, id: SegmentId) -> Result<(), VerifyError> {
        let file = self.env.disk.open(&segment_path(id)).await?;
        let Some(head) = self.read(id, &file, 0, SEGMENT_HEADER_LEN).await? else { return Ok(()) };
        let header = match SegmentHeader::decode(&head) {
            Ok(header) if header.id == id => header,
            Ok(header) => {
                self.findings.problem(format!("segment {id} says that it is {}", header.id));
                return Ok(());
            }
            Err(invalid) => {
                self.findings.problem(format!("segment {id} has no header: {invalid}"));
                return Ok(());
            }
        };
        let len_bytes = file.len().await?;
        let mut offset = u64::from(header.first_offset);
        // The rest of a segment whose blocks were reserved is not part of its length.
        let mut resync = Resync::new(&*file, header.nonce, len_bytes);
        while offset < len_bytes {
            if let Some(end) = self.record((id, header.nonce), &file, offset, len_bytes).await? {
                offset = end;
                continue;
            }
            let Some(next) = resync.next_record(offset + 1).await? else { break };
            let gap_bytes = next - offset;
            self.note(format!("segment {id}: {gap_bytes} bytes at {offset} are no record"));
            offset = next;
        }
        if offset < len_bytes {
            self.note(format!("segment {id}: the log ends at byte {offset} of {len_bytes}"));
        }
        self.ends.insert(id, offset);
        Ok(())
    }

    /// The record at `offset`, and where it ends; `None` if there is none.
    async fn record(
        &mut self,
        (id, nonce): (SegmentId, Nonce),
        file: &Arc<dyn File>,
        offset: u64,
        len_bytes: u64,
    ) -> Result<Option<u64>, VerifyError> {
        let mut wanted = FIXED_BYTES.max(4096);
        let (header, header_bytes, end) = loop {
            let Some(bytes) = self.read(id, file, offset, wanted).await? else { return Ok(None) };
            match look(&bytes, nonce, offset, len_bytes) {
                Found::Record { header, header_bytes, end } => break (header, header_bytes, end),
                Found::More(more) if more > wanted => wanted = more,
                Found::More(_) | Found::End(_) => return Ok(None),
            }
        };
        let Header::Artifact(artifact) = *header else { return Ok(Some(end)) };
        self.findings.records += 1;
        self.records.insert((id, offset), (artifact.digest, artifact.body_bytes));
        let begin = offset + header_bytes as u64;
        if !self.body(id, file, begin, &artifact).await? {
            self.damaged.insert((id, offset), artifact.address);
        }
        Ok(Some(end))
    }

    /// Whether every chunk of a body is as it was written.
    async fn body(
        &mut self,
        id: SegmentId,
        file: &Arc<dyn File>,
        begin: u64,
        artifact: &Artifact,
    ) -> Result<bool, VerifyError> {
        let mut sums = artifact.chunk_sums.iter();
        let mut position = 0;
        while position < artifact.body_bytes {
            let left = usize::try_from(artifact.body_bytes - position).unwrap_or(usize::MAX);
            let wanted = left.min(READ_BYTES);
            let Some(bytes) = self.read(id, file, begin + position, wanted).await? else {
                return Ok(false);
            };
            let is_right = |chunk| sums.next() == Some(&chunk_sum(chunk));
            if bytes.len() != wanted || !bytes.chunks(CHUNK_BYTES).all(is_right) {
                return Ok(false);
            }
            position += wanted as u64;
        }
        self.findings.body_bytes += artifact.body_bytes;
        Ok(true)
    }

    /// Reads; what the device cannot read is a problem and no reason to stop.
    async fn read(
        &mut self,
        id: SegmentId,
        file: &Arc<dyn File>,
        offset: u64,
        len_bytes: usize,
    ) -> Result<Option<Bytes>, VerifyError> {
        match file.read_at(offset, len_bytes).await {
            Err(error) if error.kind == DiskErrorKind::Io => {
                self.findings.problem(format!("segment {id} at byte {offset}: {error}"));
                Ok(None)
            }
            read => Ok(Some(read?)),
        }
    }

    /// Every row that names a place must lead to the record of that name and digest.
    async fn places(&mut self) -> Result<(), VerifyError> {
        let mut from = Vec::new();
        let (mut left_over, mut foreign) = (0_u64, 0_u64);
        loop {
            let page = self.env.catalog.range(PLACES_SPACE, &from, &[], PAGE_ROWS).await?;
            for (key, row) in &page {
                if is_mark_in_places(key) {
                    continue;
                }
                let Some(place) = Place::decode(row) else {
                    foreign += 1;
                    continue;
                };
                self.findings.rows += 1;
                if !self.ends.contains_key(&place.segment) {
                    left_over += 1;
                    continue;
                }
                self.place(key, &place);
            }
            let Some((last, _)) = page.last().filter(|_| page.len() == PAGE_ROWS) else { break };
            from = [last.as_ref(), &[0]].concat();
        }
        if left_over > 0 {
            self.note(format!("{left_over} rows lead to what was evicted"));
        }
        if foreign > 0 {
            self.findings.problem(format!("{foreign} rows of the index cannot be read"));
        }
        Ok(())
    }

    fn place(&mut self, key: &[u8], place: &Place) {
        let Place { segment, offset, digest, body_bytes, .. } = *place;
        if self.records.get(&(segment, offset)) != Some(&(digest, body_bytes)) {
            let name = Address::decode(key).map(|it| format!("{it:?}")).unwrap_or_default();
            self.findings.problem(format!(
                "the index says that {name} lies in segment {segment} at byte {offset}, and it does \
                 not"
            ));
        }
    }

    /// Records that the index does not know are adopted by the next start. One that is damaged is not: a
    /// loss of power may leave the header of a record whose writer was never answered, and any part of
    /// its body.
    async fn contents(&mut self) -> Result<(), VerifyError> {
        let (mut unknown, mut torn) = (0_u64, 0_u64);
        for (segment, offset) in self.records.keys() {
            let key = contents_key(*segment, *offset);
            let is_known = self.env.catalog.get(CONTENTS_SPACE, &key).await?.is_some();
            match self.damaged.get(&(*segment, *offset)) {
                Some(address) if is_known => self
                    .findings
                    .problem(format!("segment {segment} at byte {offset}: {address:?} is damaged")),
                Some(_) => torn += 1,
                None => unknown += u64::from(!is_known),
            }
        }
        if unknown > 0 {
            self.note(format!("{unknown} records are not in the index yet"));
        }
        if torn > 0 {
            self.note(format!("{torn} records that the index does not know are torn or damaged"));
        }
        Ok(())
    }

    /// Holds what belongs to the store against what lies there.
    fn ledger(&mut self, ring: &Ring, files: &[(String, u64)]) {
        let (mut ledger, mut beside) = (Ledger::default(), 0_u64);
        for (path, bytes) in files {
            self.findings.walked_bytes += bytes;
            let account = Account::of_path(path);
            let is_ours = match account {
                Account::Blobs | Account::Entries => {
                    segment_of(path).is_some_and(|id| ring.contains(id))
                }
                Account::Pool => segment_of(path).is_some(),
                Account::Catalog
                | Account::Quarantine
                | Account::Staging
                | Account::Reserve
                | Account::Unlinked
                | Account::State => true,
            };
            if is_ours {
                ledger.add(account, *bytes);
            } else {
                beside += bytes;
                self.note(format!("{path} of {bytes} bytes is in no ring and no pool"));
            }
        }
        self.findings.beside_bytes = beside;
        self.findings.ledger =
            ledger.iter().map(|(account, bytes)| (account.name(), bytes)).collect();
    }
}
