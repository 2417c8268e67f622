//! A look at a data directory whose node does not run: every record, every body, every row and every
//! block. Changes nothing, beside what opening the catalog does to its own files.
//!
//! What a stop at any point may leave, and the next start clears up, is noted. A *problem* is what no
//! stop explains.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use kura_core::{
    address::Address,
    digest::Digest,
    ledger::{Account, Ledger},
    place::{Place, contents_key, is_mark_in_places},
    record::{Area, SegmentId},
    ring::{InvalidRing, Ring},
    stamp::{Worth, judge},
    summary,
    tombstones::{InvalidTombstones, Tombstones},
};
use kura_env::{CatalogError, DiskError, DiskErrorKind, DiskPath, Env, LockOutcome};
use serde::Serialize;

use crate::{
    config::StoreConfig,
    identity,
    inspect::{BodyState, DecodedRow, Item, Name, Pages, Record, Unfit, saved_stamp, walk},
    node::LOCK,
    store::{
        CONTENTS_SPACE, KEYSPACES, PLACES_SPACE, RepairError, STAGING_DIR, SavedRing,
        SavedTombstones, VERSIONS_SPACE, Wrong, files_below, item_of, load_ring_file,
        load_tombstones, repair, segment_of, segment_path, stamp_rows,
    },
    told::tell,
};

/// Rows that are looked at together.
const PAGE_ROWS: usize = 1024;

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
    /// It could not be made right.
    #[error("the repair was not finished: {0}")]
    Repair(#[from] RepairError),
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
    /// What the next start clears up, or takes as it is. At most a hundred are told.
    pub notes: Vec<String>,
    /// How many there are in all.
    pub note_count: u64,
    /// What should not be there. At most a hundred are told.
    pub problems: Vec<String>,
    /// How many there are in all.
    pub problem_count: u64,
    /// What to do about them.
    #[serde(skip)]
    wrong: Wrong,
}

/// What was found, what was done about it, and what was found then.
#[derive(Clone, Debug, Serialize)]
pub struct Repaired {
    /// At first.
    pub before: Findings,
    /// What was done. At most a hundred are told.
    pub repairs: Vec<String>,
    /// How many there are in all.
    pub repair_count: u64,
    /// By a second look; none if nothing was done.
    pub after: Option<Findings>,
}

impl Repaired {
    /// Whether nothing is wrong any more.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.after.as_ref().unwrap_or(&self.before).is_sound()
    }
}

impl Findings {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.problem_count == 0
    }

    fn problems_of(&mut self, what: Option<String>) {
        what.into_iter().for_each(|what| self.problem(what));
    }

    fn problem(&mut self, what: String) {
        tell(&mut self.problems, &mut self.problem_count, what);
    }

    fn note(&mut self, what: String) {
        tell(&mut self.notes, &mut self.note_count, what);
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
    let found = look(env).await;
    env.catalog.close().await;
    found
}

/// The same, and then makes right what was found: does what a start would do, takes away the rows that lead
/// to damage, and looks again. Where nothing was found, not even something to note, nothing is touched; nor
/// where that would give up what the device cannot read now.
///
/// # Errors
///
/// [`VerifyError`] when it cannot be looked at as a whole, or the repair fails.
pub async fn verify_and_repair(
    env: &Env,
    config: &StoreConfig,
    holder: &str,
) -> Result<Repaired, VerifyError> {
    let _lock = match env.disk.lock(&DiskPath::new(LOCK), holder).await? {
        LockOutcome::Held(lock) => lock,
        LockOutcome::Taken(holder) => return Err(VerifyError::Locked { holder }),
    };
    let repaired = look_and_repair(env, config).await;
    env.catalog.close().await;
    repaired
}

async fn look_and_repair(env: &Env, config: &StoreConfig) -> Result<Repaired, VerifyError> {
    let before = look(env).await?;
    let has_nothing = before.is_sound() && before.notes.is_empty();
    if has_nothing || before.wrong.is_waited_for {
        return Ok(Repaired { before, repairs: Vec::new(), repair_count: 0, after: None });
    }
    let (repairs, repair_count) = repair(env, config, &before.wrong).await?.into_parts();
    let after = Some(look(env).await?);
    Ok(Repaired { before, repairs, repair_count, after })
}

/// One look, under the lock. Leaves the catalog open where it opens.
async fn look(env: &Env) -> Result<Findings, VerifyError> {
    let mut check = Check {
        env,
        findings: Findings::default(),
        records: BTreeMap::new(),
        damaged: BTreeSet::new(),
        unread: BTreeMap::new(),
        ends: BTreeSet::new(),
    };
    check.all().await?;
    Ok(check.findings)
}

/// One look.
struct Check<'a> {
    env: &'a Env,
    findings: Findings,
    /// What lies where, as many as there are records. Those with damaged bodies are among them.
    records: BTreeMap<(SegmentId, u64), (Digest, u64)>,
    /// Where a body is not the one that was written.
    damaged: BTreeSet<(SegmentId, u64)>,
    /// Where something may lie that could not be looked at.
    unread: BTreeMap<SegmentId, Vec<Range<u64>>>,
    /// The segments and objects whose logs were gone through to their ends.
    ends: BTreeSet<SegmentId>,
}

/// Whether a row of places is of what was deleted.
fn is_deleted(key: &[u8], row: &[u8], deletes: &Tombstones) -> bool {
    let named = Place::decode(row).zip(Address::decode(key).ok());
    named.is_some_and(|(place, address)| deletes.covers_address(&address, place.version))
}

/// Rows of the index that are counted, and not told one by one.
#[derive(Default)]
struct OddRows {
    /// They lead to what was evicted.
    left_over: u64,
    /// Their namespace was deleted since.
    deleted: u64,
    /// They mean nothing.
    unreadable: u64,
    /// They lead to what could not be looked at.
    untold: u64,
}

impl Check<'_> {
    async fn all(&mut self) -> Result<(), VerifyError> {
        // What opening does to its files is done before they are counted.
        let opened = self.env.catalog.open().await;
        let files = files_below(&*self.env.disk, DiskPath::root()).await?;
        self.findings.problems_of(identity::problem(&*self.env.disk).await?);
        let deletes = self.deletes().await?;
        let on_disk: BTreeSet<SegmentId> =
            files.iter().filter_map(|(path, _)| segment_of(path)).collect();
        let ring = self.ring(&on_disk).await?;
        let members: Vec<SegmentId> = match &ring {
            Some(ring) => ring.members().map(|member| member.id).collect(),
            // What a start would make RING from.
            None => on_disk.iter().copied().filter(|id| id.area() != Area::Pool).collect(),
        };
        for id in &members {
            if on_disk.contains(id) {
                self.findings.segments += 1;
                self.segment(*id).await?;
            } else {
                self.note(format!("segment {id} of RING has no file"));
            }
        }
        if ring.is_none() {
            self.wait_for_headers();
        }
        for id in on_disk.iter().filter(|id| id.area() == Area::Pool) {
            self.findings.objects += 1;
            self.segment(*id).await?;
        }
        match self.catalog(opened, &deletes).await {
            Err(VerifyError::Catalog(CatalogError::Damaged(cause))) => {
                self.condemn(format!("the catalog is damaged: {cause}"));
            }
            looked => looked?,
        }
        self.staged().await?;
        self.ledger(&members.into_iter().collect(), &files);
        Ok(())
    }

    fn note(&mut self, what: String) {
        self.findings.note(what);
    }

    /// Deletes of namespaces, as far as they can be read.
    async fn deletes(&mut self) -> Result<Tombstones, VerifyError> {
        let problem = match load_tombstones(&*self.env.disk).await? {
            SavedTombstones::Here(tombstones) => return Ok(tombstones),
            SavedTombstones::Invalid(invalid @ InvalidTombstones::Format(_)) => {
                let what = "start the version that wrote it, or an empty directory";
                format!("TOMBSTONES has {invalid}; {what}")
            }
            SavedTombstones::Invalid(invalid) => {
                format!("TOMBSTONES has {invalid}: deletes of namespaces are lost here")
            }
            SavedTombstones::Unreadable(error) => error.to_string(),
        };
        self.findings.problem(problem);
        Ok(Tombstones::default())
    }

    /// The catalog cannot be believed.
    fn condemn(&mut self, cause: String) {
        self.findings.wrong.catalog = Some(cause.clone());
        self.findings.problem(cause);
    }

    /// RING; `None` if there is none that can be read.
    async fn ring(&mut self, on_disk: &BTreeSet<SegmentId>) -> Result<Option<Ring>, VerifyError> {
        match load_ring_file(&*self.env.disk).await? {
            SavedRing::Ring(ring) => return Ok(Some(ring)),
            SavedRing::Absent if on_disk.is_empty() => {
                self.note("nothing was ever stored here".to_owned());
            }
            SavedRing::Absent => self.findings.problem("RING is missing".to_owned()),
            SavedRing::Invalid(invalid @ InvalidRing::Format(_)) => {
                let what = "start the version that wrote it, or an empty directory";
                self.findings.problem(format!("RING has {invalid}; {what}"));
            }
            SavedRing::Invalid(invalid) => self.findings.problem(format!("RING has {invalid}")),
            SavedRing::Unreadable(error) => self.findings.problem(error.to_string()),
        }
        Ok(None)
    }

    /// Without RING, what recovery makes of a segment whose header cannot be read is nothing at all.
    fn wait_for_headers(&mut self) {
        let is_headless = |(id, _): &(&SegmentId, _)| !self.ends.contains(id);
        let waited_for: Vec<_> = self.unread.iter().filter(is_headless).map(|it| *it.0).collect();
        for id in waited_for {
            self.findings.wrong.is_waited_for = true;
            self.findings.problem(format!(
                "RING is lost, and the device cannot read the header of segment {id}: a start would give \
                 up all of it, and nothing is repaired. Copy the data directory to a device that can read \
                 it, or remove the file {} to give it up, and try again",
                id.path()
            ));
        }
    }

    /// A segment or an object: its header, and every record behind it.
    async fn segment(&mut self, id: SegmentId) -> Result<(), VerifyError> {
        let file = self.env.disk.open(&segment_path(id)).await?;
        let mut records = 0;
        let mut tell = |item: Item| {
            records += u64::from(matches!(item, Item::Record(_)));
            self.item(id, item);
        };
        walk(&*file, Some(id), true, &mut tell).await?;
        let is_told = self.findings.wrong.objects.last() == Some(&id)
            // A record may be there that could not be looked at.
            || self.unread.contains_key(&id);
        if id.area() == Area::Pool && records == 0 && !is_told {
            self.findings.wrong.objects.push(id);
            self.findings.problem(format!("the object {id} holds no record"));
        }
        Ok(())
    }

    fn item(&mut self, id: SegmentId, item: Item) {
        match item {
            Item::Header(_) | Item::Skip { .. } => {}
            Item::NoHeader(unfit) => {
                if matches!(unfit, Unfit::Unreadable(_)) {
                    self.unread.entry(id).or_default().push(0..u64::MAX);
                } else if id.area() == Area::Pool {
                    self.findings.wrong.objects.push(id);
                }
                self.findings.problem(match unfit {
                    Unfit::OtherId(_) => format!("segment {id}: {unfit}"),
                    Unfit::Invalid(_) => format!("segment {id} has no header: {unfit}"),
                    Unfit::Unreadable(_) => format!("segment {id} at byte 0: {unfit}"),
                });
            }
            Item::Record(record) => self.record(id, *record),
            Item::Gap { offset, end, is_read: true, .. } => {
                let bytes = end - offset;
                self.note(format!("segment {id}: {bytes} bytes at {offset} are no record"));
            }
            Item::Gap { offset, end, why, .. } => self.unread(id, offset..end, &why),
            Item::End { offset, len_bytes, why, is_read } => {
                self.ends.insert(id);
                match why {
                    Some(why) if !is_read => self.unread(id, offset..len_bytes, &why),
                    Some(_) => self.note(format!(
                        "segment {id}: the log ends at byte {offset} of {len_bytes}"
                    )),
                    None => {}
                }
            }
        }
    }

    /// What lies in these bytes of a segment cannot be told.
    fn unread(&mut self, id: SegmentId, bytes: Range<u64>, why: &Unfit) {
        let Range { start, end } = bytes;
        self.findings.problem(match why {
            Unfit::Unreadable(error) => format!("segment {id} at byte {start}: {error}"),
            Unfit::Invalid(_) | Unfit::OtherId(_) => format!(
                "segment {id}: {} bytes at {start} are no record, and not all of them could be read",
                end - start
            ),
        });
        self.unread.entry(id).or_default().push(bytes);
    }

    fn record(&mut self, id: SegmentId, record: Record) {
        let Record { offset, artifact, body, .. } = record;
        self.findings.records += 1;
        self.records.insert((id, offset), (artifact.digest, artifact.body_bytes));
        let name = Name::from(&artifact.address);
        match body {
            BodyState::Whole | BodyState::Unchecked => {
                self.findings.body_bytes += artifact.body_bytes;
            }
            BodyState::Unreadable(error) => {
                self.findings.problem(format!("segment {id} at byte {offset}: {error}"));
            }
            BodyState::Damaged(_) if id.area() == Area::Pool => {
                self.findings.wrong.objects.push(id);
                self.findings.problem(format!("the object {id}: {name} is damaged"));
            }
            // Whether anything leads there, the index says.
            BodyState::Damaged(_) => drop(self.damaged.insert((id, offset))),
        }
    }

    /// Looks at every row of the catalog, if it opened.
    async fn catalog(
        &mut self,
        opened: Result<(), CatalogError>,
        deletes: &Tombstones,
    ) -> Result<(), VerifyError> {
        opened?;
        let catalog = &*self.env.catalog;
        let saved = saved_stamp(&*self.env.disk).await?;
        self.findings.wrong.stamp = saved.problem().is_some();
        self.findings.problems_of(saved.problem());
        if judge(saved.stamp(), &stamp_rows(catalog).await?) == Worth::Behind {
            self.condemn("the catalog lacks what STAMP says it had synced".to_owned());
        }
        let mut odd = OddRows::default();
        for space in KEYSPACES {
            let mut pages = Pages::of(space);
            while let Some(page) = pages.next(catalog, PAGE_ROWS).await? {
                for (key, row) in &page {
                    if DecodedRow::of(space, key, row).is_none() {
                        odd.unreadable += 1;
                        self.findings.wrong.rows.push((space, key.to_vec()));
                    } else if space == PLACES_SPACE {
                        self.place(key, row, &mut odd);
                        odd.deleted += u64::from(is_deleted(key, row, deletes));
                        self.version_of(key, row).await?;
                    } else if space == VERSIONS_SPACE {
                        self.place_of(key, row).await?;
                    }
                }
            }
        }
        self.contents().await?;
        if odd.left_over > 0 {
            self.note(format!("{} rows lead to what was evicted", odd.left_over));
        }
        if odd.deleted > 0 {
            self.note(format!(
                "{} rows are of deleted namespaces, and not purged yet",
                odd.deleted
            ));
        }
        if odd.unreadable > 0 {
            let count = odd.unreadable;
            self.findings.problem(format!("{count} rows of the index cannot be read"));
        }
        if odd.untold > 0 {
            let count = odd.untold;
            self.findings.problem(format!(
                "{count} rows of the index lead to what the device cannot read: whether they are right \
                 cannot be told, and they stay"
            ));
        }
        if !self.damaged.is_empty() {
            let count = self.damaged.len();
            self.note(format!("damaged bodies to which nothing leads: {count}"));
        }
        Ok(())
    }

    /// A row that names a place must lead to the record of that name and digest.
    fn place(&mut self, key: &[u8], row: &[u8], odd: &mut OddRows) {
        let Some(place) = Place::decode(row).filter(|_| !is_mark_in_places(key)) else { return };
        let Place { segment, offset, digest, body_bytes, .. } = place;
        self.findings.rows += 1;
        let mut unread = self.unread.get(&segment).into_iter().flatten();
        if unread.any(|bytes| bytes.contains(&offset)) {
            odd.untold += 1;
            return;
        }
        if !self.ends.contains(&segment) {
            odd.left_over += 1;
            return;
        }
        let name = Address::decode(key).map(|it| Name::from(&it).to_string()).unwrap_or_default();
        if self.damaged.remove(&(segment, offset)) {
            self.findings.wrong.bodies.push((segment, offset));
            self.findings.problem(format!("segment {segment} at byte {offset}: {name} is damaged"));
        } else if self.records.get(&(segment, offset)) != Some(&(digest, body_bytes)) {
            self.findings.wrong.bodies.push((segment, offset));
            self.findings.wrong.rows.push((PLACES_SPACE, key.to_vec()));
            self.findings.problem(format!(
                "the index says that {name} lies in segment {segment} at byte {offset}, and it does \
                 not"
            ));
        }
    }

    /// Each place has its row among the versions, or peers do not find what lies there.
    async fn version_of(&mut self, key: &[u8], row: &[u8]) -> Result<(), VerifyError> {
        let Some(place) = Place::decode(row).filter(|_| !is_mark_in_places(key)) else {
            return Ok(());
        };
        let version = item_of(key, &place).key();
        if self.env.catalog.get(VERSIONS_SPACE, &version).await?.as_deref() != Some(key) {
            let name = Address::decode(key).map(|it| Name::from(&it).to_string());
            let name = name.unwrap_or_default();
            self.findings.wrong.unversioned.push(key.to_vec());
            self.findings.problem(format!("{name} is not among the versions: peers miss it"));
        }
        Ok(())
    }

    /// Each row of the versions is that of a place.
    async fn place_of(&mut self, version: &[u8], key: &[u8]) -> Result<(), VerifyError> {
        let Some(item) = summary::Item::of_key(version) else { return Ok(()) };
        let row = self.env.catalog.get(PLACES_SPACE, key).await?;
        let place = row.as_deref().and_then(Place::decode);
        if place.map(|place| item_of(key, &place)) != Some(item) {
            let name = Address::decode(key).map(|it| Name::from(&it).to_string());
            let name = name.unwrap_or_default();
            self.findings.wrong.rows.push((VERSIONS_SPACE, version.to_vec()));
            self.findings.problem(format!("a version of {name} is told to peers and is not here"));
        }
        Ok(())
    }

    /// Records that the index does not know are adopted by the next start, if they are whole.
    async fn contents(&mut self) -> Result<(), VerifyError> {
        let mut unknown = 0_u64;
        for (segment, offset) in self.records.keys() {
            let key = contents_key(*segment, *offset);
            let is_known = self.env.catalog.get(CONTENTS_SPACE, &key).await?.is_some();
            unknown += u64::from(!is_known && !self.damaged.contains(&(*segment, *offset)));
        }
        if unknown > 0 {
            self.note(format!("{unknown} records are not in the index yet"));
        }
        Ok(())
    }

    /// Staging files are dead while no node runs.
    async fn staged(&mut self) -> Result<(), VerifyError> {
        let entries = match self.env.disk.list(&DiskPath::new(STAGING_DIR)).await {
            Err(error) if error.kind == DiskErrorKind::NotFound => return Ok(()),
            listed => listed?,
        };
        let parts = entries.iter().filter(|entry| entry.name.ends_with(".part"));
        let (count, bytes) =
            parts.fold((0_u64, 0), |(count, bytes), it| (count + 1, bytes + it.allocated_bytes));
        if count > 0 {
            self.note(format!(
                "{count} staging files of {bytes} bytes are left of an earlier life"
            ));
        }
        Ok(())
    }

    /// Holds what belongs to the store against what lies there.
    fn ledger(&mut self, members: &BTreeSet<SegmentId>, files: &[(String, u64)]) {
        let (mut ledger, mut beside) = (Ledger::default(), 0_u64);
        for (path, bytes) in files {
            self.findings.walked_bytes += bytes;
            let account = Account::of_path(path);
            let is_ours = match account {
                Account::Blobs | Account::Entries => {
                    segment_of(path).is_some_and(|id| members.contains(&id))
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
