//! A simulated disk and a real one, of which the same is asked. Knows what has which name, so that
//! nothing is asked that a caller promised not to ask, and both can be brought back together where a
//! full disk parted them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use kura_env::{DirEntry, DiskErrorKind, DiskPath, FileKind};

use crate::{
    differences::{Difference, Met},
    operation::{Operation, SLOTS, Sizes, wide},
    side::{Answer, Side},
};

/// How often the real disk is asked for the space of a file that was closed, and how long between.
const LOOKS_MAX: usize = 2000;
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// What the real disk is, as far as answers depend on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) sizes: Sizes,
    /// How many bytes of blocks a file may hold more or less than in the simulator; `None` where the
    /// file system is not known.
    pub(crate) blocks_slack_bytes: Option<u64>,
    /// Where nobody else uses the disk and it fills up: what it may need for itself.
    pub(crate) space_slack_bytes: Option<u64>,
    /// Whether reading a gap through a mapping gives it blocks.
    pub(crate) fills_gaps: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    File(u64),
    Directory,
}

pub(crate) struct Pair {
    pub(crate) simulated: Side,
    pub(crate) real: Side,
    pub(crate) place: Place,
    pub(crate) met: Met,
    /// How often a disk was full.
    pub(crate) times_full: u64,
    names: BTreeMap<DiskPath, Named>,
    /// The file behind each handle.
    files: [Option<u64>; SLOTS],
    frozen: BTreeSet<u64>,
    next_file: u64,
    /// What was available when both were empty.
    empty_bytes: [u64; 2],
}

impl Pair {
    pub(crate) async fn new(simulated: Side, real: Side, place: Place) -> Self {
        let empty_bytes = [simulated.available_bytes().await, real.available_bytes().await];
        Self {
            simulated,
            real,
            place,
            met: Met::default(),
            times_full: 0,
            names: BTreeMap::new(),
            files: [None; SLOTS],
            frozen: BTreeSet::new(),
            next_file: 0,
            empty_bytes,
        }
    }

    /// Asks both for it, and says how they differ.
    pub(crate) async fn step(&mut self, operation: &Operation, fill: u64) -> Result<(), String> {
        if !self.is_fair(operation).await {
            return Ok(());
        }
        let slack_bytes = self.place.space_slack_bytes.filter(|_| takes_space(operation));
        let mut before = Vec::new();
        if let Some(slack_bytes) = slack_bytes {
            self.weigh(slack_bytes).await?;
            for side in [&self.simulated, &self.real] {
                before.push(Before::look(side, operation).await);
            }
        }
        let simulated = self.simulated.perform(operation, fill).await;
        let real = self.real.perform(operation, fill).await;
        let answers = format!("\n  simulated: {simulated:?}\n  real: {real:?}");
        if let Some(slack_bytes) = slack_bytes {
            for (side, (before, answer)) in
                [&self.simulated, &self.real].iter().zip(before.iter().zip([&simulated, &real]))
            {
                let judged = before.judge(side, operation, answer, (fill, slack_bytes)).await;
                if let Some(difference) = judged.map_err(|error| format!("{error}{answers}"))? {
                    self.met.note(difference);
                }
            }
            if simulated.is_full() || real.is_full() {
                self.times_full += 1;
                if simulated.is_full() != real.is_full() {
                    self.met.note(Difference::HowMuchFits);
                }
                return self.bring_together(operation, [&simulated, &real]).await;
            }
        }
        self.compare(operation, &simulated, &real).map_err(|error| format!("{error}{answers}"))?;
        if !matches!(simulated, Answer::Failed(_) | Answer::Nothing) {
            self.note(operation);
        }
        if self.simulated.held() != self.real.held() {
            return Err("bytes that were read before have changed".to_owned());
        }
        Ok(())
    }

    /// Whether a caller that keeps its promises may ask for it, and the simulator knows it.
    async fn is_fair(&mut self, operation: &Operation) -> bool {
        if let Operation::Rename { from, to } = operation
            && from != to
            && self.names.get(from) == Some(&Named::Directory)
            && self.names.get(to) == Some(&Named::Directory)
        {
            self.met.note(Difference::RenameOntoADirectory);
            return false;
        }
        if let Operation::Freeze { slot } = operation
            && self.place.fills_gaps
            && let Some(file) = self.simulated.file(*slot)
        {
            let len_bytes = file.len().await.expect("it is open");
            if file.allocated_bytes().await.expect("it is open") < len_bytes {
                self.met.note(Difference::GapInAFrozenFile);
                return false;
            }
        }
        let file = operation.slot().and_then(|slot| self.files[slot]);
        !(operation.changes_a_file() && file.is_some_and(|file| self.frozen.contains(&file)))
    }

    /// Notes what an operation that went well did to the names.
    fn note(&mut self, operation: &Operation) {
        match operation {
            Operation::Create { path, slot } => {
                self.next_file += 1;
                self.names.insert(path.clone(), Named::File(self.next_file));
                self.files[*slot] = Some(self.next_file);
            }
            Operation::Open { path, slot } => {
                if let Some(Named::File(file)) = self.names.get(path) {
                    self.files[*slot] = Some(*file);
                }
            }
            Operation::Close { slot } => self.files[*slot] = None,
            Operation::Mkdir { path } => {
                self.names.insert(path.clone(), Named::Directory);
            }
            Operation::Freeze { slot } => self.frozen.extend(self.files[*slot]),
            Operation::Rename { from, to } => self.rename(from, to),
            Operation::Unlink { path } => drop(self.names.remove(path)),
            Operation::Append { .. }
            | Operation::WriteAt { .. }
            | Operation::ReadAt { .. }
            | Operation::Hold { .. }
            | Operation::Allocate { .. }
            | Operation::SyncData { .. }
            | Operation::Len { .. }
            | Operation::List { .. }
            | Operation::SyncDir { .. } => {}
        }
    }

    fn rename(&mut self, from: &DiskPath, to: &DiskPath) {
        let below = format!("{from}/");
        let moved = |path: &DiskPath| {
            if path == from {
                return Some(to.clone());
            }
            path.as_str().strip_prefix(&below).map(|rest| to.join(rest))
        };
        let names = std::mem::take(&mut self.names);
        let (old, kept): (Vec<_>, Vec<_>) =
            names.into_iter().partition(|(path, _)| moved(path).is_some());
        self.names.extend(kept);
        self.names.extend(old.into_iter().filter_map(|(path, named)| Some((moved(&path)?, named))));
    }

    /// Two answers, neither of which is that the disk is full.
    fn compare(
        &mut self,
        operation: &Operation,
        simulated: &Answer,
        real: &Answer,
    ) -> Result<(), String> {
        if simulated == real {
            return Ok(());
        }
        let explained = match (operation, simulated, real) {
            (Operation::List { .. }, Answer::Entries(simulated), Answer::Entries(real)) => {
                return self.compare_entries(simulated, real);
            }
            // What the system says in words is its own.
            (_, Answer::Failed(simulated), Answer::Failed(real))
                if errno(simulated).is_some() && errno(simulated) == errno(real) =>
            {
                return Ok(());
            }
            (Operation::SyncDir { path }, Answer::Failed(kind), Answer::Done)
                if errno(kind) == Some(20)
                    && matches!(self.names.get(path), Some(Named::File(_))) =>
            {
                Some(Difference::SyncDirOfAFile)
            }
            (Operation::Rename { from, to }, Answer::Failed(_), Answer::Failed(_))
                if [from, to].iter().any(|path| self.is_directory(path)) =>
            {
                Some(Difference::RenameOntoADirectory)
            }
            _ => None,
        };
        self.met.note(explained.ok_or("they differ")?);
        Ok(())
    }

    fn is_directory(&self, path: &DiskPath) -> bool {
        self.names.get(path) == Some(&Named::Directory)
    }

    fn compare_entries(&mut self, simulated: &[DirEntry], real: &[DirEntry]) -> Result<(), String> {
        let told = |entry: &DirEntry| (entry.name.clone(), entry.kind, entry.len_bytes);
        if !simulated.iter().map(told).eq(real.iter().map(told)) {
            return Err("the listings differ".to_owned());
        }
        for (simulated, real) in simulated.iter().zip(real) {
            let apart = simulated.allocated_bytes.abs_diff(real.allocated_bytes);
            if apart == 0 {
                continue;
            }
            let Some(slack_bytes) = self.place.blocks_slack_bytes else { continue };
            if simulated.kind == FileKind::Directory {
                self.met.note(Difference::BlocksOfDirectories);
            } else if apart <= slack_bytes {
                self.met.note(Difference::BlocksOfFiles);
            } else {
                return Err(format!("the blocks of {} differ by {apart} bytes", simulated.name));
            }
        }
        Ok(())
    }

    /// Both disks have the same room. The real one closes files on a thread that the last append may hold
    /// for a moment longer than its caller waits.
    async fn weigh(&mut self, slack_bytes: u64) -> Result<(), String> {
        let mut available = [0; 2];
        for look in 0..LOOKS_MAX {
            available = [self.simulated.available_bytes().await, self.real.available_bytes().await];
            if available[0].abs_diff(available[1]) <= slack_bytes {
                return Ok(());
            }
            if look == 0 {
                self.met.note(Difference::GivenBackLater);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Err(format!("{} bytes are available, and {}", available[0], available[1]))
    }

    /// At least one disk was full: takes away what only one of them may have, and sees that the rest is
    /// read as before.
    async fn bring_together(
        &mut self,
        operation: &Operation,
        answers: [&Answer; 2],
    ) -> Result<(), String> {
        if let Some(file) = operation.slot().and_then(|slot| self.files[slot]) {
            self.forget(file).await?;
        }
        let done = |side: usize| *answers[side] == Answer::Done;
        if let Operation::Create { path, slot } = operation {
            for (at, side) in [&mut self.simulated, &mut self.real].into_iter().enumerate() {
                side.close(*slot);
                if done(at) {
                    side.disk.unlink(path).await.map_err(|error| error.to_string())?;
                }
            }
            self.files[*slot] = None;
        }
        if let Operation::Mkdir { path } = operation
            && (done(0) || done(1))
        {
            self.relieve().await?;
            for side in [&self.simulated, &self.real] {
                side.disk.mkdir(path).await.map_err(|error| error.to_string())?;
            }
            self.note(operation);
        }
        self.compare_all(2).await
    }

    /// Takes a file away from both.
    async fn forget(&mut self, file: u64) -> Result<(), String> {
        for slot in 0..SLOTS {
            if self.files[slot] == Some(file) {
                self.simulated.close(slot);
                self.real.close(slot);
                self.files[slot] = None;
            }
        }
        let names = self.names.iter().filter(|(_, named)| **named == Named::File(file));
        for path in names.map(|(path, _)| path.clone()).collect::<Vec<_>>() {
            for side in [&self.simulated, &self.real] {
                side.disk.unlink(&path).await.map_err(|error| error.to_string())?;
            }
            self.names.remove(&path);
        }
        Ok(())
    }

    /// Takes everything away but directories, and sees that its space is back.
    pub(crate) async fn relieve(&mut self) -> Result<(), String> {
        self.simulated.let_go();
        self.real.let_go();
        self.files = [None; SLOTS];
        for file in 0..=self.next_file {
            self.forget(file).await?;
        }
        let Some(slack_bytes) = self.place.space_slack_bytes else { return Ok(()) };
        self.weigh(slack_bytes).await?;
        for (side, empty_bytes) in [&self.simulated, &self.real].iter().zip(self.empty_bytes) {
            let available_bytes = side.available_bytes().await;
            if available_bytes + slack_bytes < empty_bytes {
                return Err(format!(
                    "{available_bytes} bytes of {empty_bytes} are available after everything was \
                     unlinked"
                ));
            }
        }
        Ok(())
    }

    /// Compares every listing, and every byte of so many files.
    pub(crate) async fn compare_all(&mut self, files_max: usize) -> Result<(), String> {
        let is_directory = |named: &Named| *named == Named::Directory;
        let directories = self.names.iter().filter(|(_, named)| is_directory(named));
        let mut directories: Vec<_> = directories.map(|(path, _)| path.clone()).collect();
        directories.push(DiskPath::root());
        for path in directories {
            let operation = Operation::List { path };
            let simulated = self.simulated.perform(&operation, 0).await;
            let real = self.real.perform(&operation, 0).await;
            self.compare(&operation, &simulated, &real).map_err(|error| {
                format!("{error}: {operation:?}\n  simulated: {simulated:?}\n  real: {real:?}")
            })?;
        }
        let files = self.names.iter().filter(|(_, named)| !is_directory(named));
        for (path, _) in files.take(files_max) {
            if self.simulated.content(path).await != self.real.content(path).await {
                return Err(format!("the bytes of {path} differ"));
            }
        }
        Ok(())
    }
}

fn errno(kind: &DiskErrorKind) -> Option<i32> {
    if let DiskErrorKind::Other { errno, .. } = kind { Some(*errno) } else { None }
}

fn takes_space(operation: &Operation) -> bool {
    operation.changes_a_file()
        || matches!(operation, Operation::Create { .. } | Operation::Mkdir { .. })
}

/// What there was before something was asked that takes space.
struct Before {
    available_bytes: u64,
    len_bytes: u64,
    allocated_bytes: u64,
    /// What lay where it writes.
    old: Vec<u8>,
}

/// The unit in which both disks count.
const BLOCK_BYTES: u64 = 4096;

impl Before {
    async fn look(side: &Side, operation: &Operation) -> Self {
        let available_bytes = side.available_bytes().await;
        let mut before =
            Self { available_bytes, len_bytes: 0, allocated_bytes: 0, old: Vec::new() };
        if let Some(file) = operation.slot().and_then(|slot| side.file(slot)) {
            before.len_bytes = file.len().await.expect("it is open");
            before.allocated_bytes = file.allocated_bytes().await.expect("it is open");
            if let Operation::WriteAt { offset, len, .. } = operation {
                let old = file.read_at(*offset, *len).await.expect("a full disk is read");
                before.old = old.to_vec();
            }
        }
        before
    }

    /// Whether one disk, by itself, did what a disk may.
    async fn judge(
        &self,
        side: &Side,
        operation: &Operation,
        answer: &Answer,
        (fill, slack_bytes): (u64, u64),
    ) -> Result<Option<Difference>, String> {
        let room_bytes = self.available_bytes + slack_bytes;
        let Some(file) = operation.slot().and_then(|slot| side.file(slot)) else {
            let is_wrong = answer.is_full() && self.available_bytes > slack_bytes;
            return if is_wrong { Err(self.complaint("full", 0)) } else { Ok(None) };
        };
        let len_bytes = file.len().await.expect("it is open");
        let allocated_bytes = file.allocated_bytes().await.expect("it is open");
        let taken_bytes = allocated_bytes.saturating_sub(self.allocated_bytes);
        if taken_bytes > room_bytes {
            return Err(self.complaint("more than there was", taken_bytes));
        }
        let Some((start, wanted_bytes)) = operation.extent(self.len_bytes) else { return Ok(None) };
        if !answer.is_full() {
            return Ok(None);
        }
        if self.available_bytes >= wanted_bytes + 2 * BLOCK_BYTES + slack_bytes {
            return Err(self.complaint("full", wanted_bytes));
        }
        if let Operation::Allocate { .. } = operation {
            if len_bytes != self.len_bytes {
                return Err("a reservation that failed changed the length".to_owned());
            }
            return Ok((taken_bytes > 0).then_some(Difference::FailedReservation));
        }
        let wanted = usize::try_from(wanted_bytes).unwrap();
        let now = file.read_at(start, wanted).await.expect("a full disk is read");
        let new = crate::draws::joined(operation, fill);
        let written = now.iter().zip(&new).take_while(|(now, new)| now == new).count();
        let mut left = self.old.clone();
        left.resize(left.len().max(now.len()), 0);
        if now[written..] != left[written..now.len()] || now.len() < self.old.len() {
            return Err(format!("behind the {written} bytes that were written lie others"));
        }
        if len_bytes > self.len_bytes.max(start + wide(written)) {
            return Err(format!("{len_bytes} bytes long, of which {written} were written"));
        }
        Ok(None)
    }

    fn complaint(&self, what: &str, bytes: u64) -> String {
        format!("{what}: {bytes} bytes, where {} were available", self.available_bytes)
    }
}
