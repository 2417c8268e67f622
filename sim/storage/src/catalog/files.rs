//! The files of the catalog: one snapshot and one log of the same generation, and how the next
//! generation replaces them.
//!
//! 1. create the next log, write the next snapshot under a name that does not count, sync both
//! 2. sync the directory
//! 3. rename the snapshot to its real name, sync the directory: from here on the generation counts
//! 4. unlink the files of the generation before
//!
//! A stop after any step leaves one whole generation, and at most files that the next open removes.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kura_env::{CatalogError, Disk, DiskError, DiskErrorKind, DiskPath, File, Keyspace};

use super::{
    frame::{self, FrameWriter, Row, Tail},
    rows::Rows,
};
use crate::content::size;

/// How much of a file is read or written in one call.
const CHUNK_BYTES: usize = 1 << 20;
/// The name of a snapshot that does not count yet.
const UNFINISHED: &str = "snapshot.new";
/// Where a damaged catalog goes, beside the directory of the catalog.
const QUARANTINE: &str = "quarantine";

/// The log that commits go to.
#[derive(Clone)]
pub(crate) struct Log {
    pub(crate) file: Arc<dyn File>,
    pub(crate) tail: Tail,
    pub(crate) generation: u64,
    /// How long the snapshot is that the log stands behind.
    pub(crate) snapshot_bytes: u64,
}

/// What an open found.
pub(crate) struct Opened {
    pub(crate) rows: Rows,
    pub(crate) log: Log,
    /// How many rows were read from snapshot and log.
    pub(crate) replayed: u64,
}

/// The directory of the catalog.
pub(crate) struct Files {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: DiskPath,
}

impl Files {
    /// Reads the newest generation and removes what does not belong to it.
    pub(crate) async fn open(&self, spaces: &[Keyspace]) -> Result<Opened, CatalogError> {
        self.disk.mkdir(&self.dir).await.map_err(of_disk)?;
        self.disk.sync_dir(&self.dir.parent()).await.map_err(of_disk)?;
        let names = self.names().await?;
        let generation = names.iter().filter_map(|name| generation_of(name, "snapshot")).max();
        let mut rows = Rows::new(spaces);
        let mut replayed = 0;
        let mut snapshot_bytes = 0;
        if let Some(generation) = generation {
            let snapshot = self.read(&name("snapshot", generation)).await?;
            snapshot_bytes = size(snapshot.len());
            replayed += restore(&snapshot, generation, &mut rows)?;
        }
        let generation = generation.unwrap_or(0);
        let log_name = name("log", generation);
        let path = self.dir.join(&log_name);
        let file = match self.disk.open(&path).await {
            Ok(file) => file,
            Err(DiskError { kind: DiskErrorKind::NotFound, .. }) => {
                self.disk.create(&path).await.map_err(of_disk)?
            }
            Err(error) => return Err(of_disk(error)),
        };
        let bytes = read_all(&*file).await?;
        let mut tail = Tail::start("log", generation);
        while let Some(batch) = frame::read(&bytes, &mut tail) {
            replayed += size(batch.len());
            rows.replay(batch)?;
        }
        if size(bytes.len()) > tail.end_bytes {
            blank(&*file, tail.end_bytes, size(bytes.len())).await?;
        }
        // A rename that a dying process made is visible and perhaps not durable; commits must not
        // build on it before it is.
        self.disk.sync_dir(&self.dir).await.map_err(of_disk)?;
        for stale in names.iter().filter(|n| **n != log_name && **n != name("snapshot", generation))
        {
            self.remove(stale).await?;
        }
        Ok(Opened { rows, log: Log { file, tail, generation, snapshot_bytes }, replayed })
    }

    /// Writes steps 1 and 2 of the next generation. The generation does not count yet.
    pub(crate) async fn prepare(&self, generation: u64, rows: &Rows) -> Result<Log, CatalogError> {
        self.remove(&name("log", generation)).await?;
        self.remove(UNFINISHED).await?;
        let log = self.disk.create(&self.dir.join(&name("log", generation))).await;
        let file = log.map_err(of_disk)?;
        let snapshot = self.disk.create(&self.dir.join(UNFINISHED)).await.map_err(of_disk)?;
        let mut tail = Tail::start("snapshot", generation);
        for (space, rows) in rows.spaces() {
            let mut rows = rows.iter().peekable();
            while rows.peek().is_some() {
                let mut writer = FrameWriter::behind(tail);
                writer.rows(space, &mut rows, CHUNK_BYTES);
                tail = append(&*snapshot, writer).await?;
            }
        }
        let mut writer = FrameWriter::behind(tail);
        writer.end(rows.len());
        let snapshot_bytes = append(&*snapshot, writer).await?.end_bytes;
        snapshot.sync_data().await.map_err(of_disk)?;
        self.disk.sync_dir(&self.dir).await.map_err(of_disk)?;
        Ok(Log { file, tail: Tail::start("log", generation), generation, snapshot_bytes })
    }

    /// Step 3: the prepared generation counts.
    pub(crate) async fn publish(&self, generation: u64) -> Result<(), CatalogError> {
        let from = self.dir.join(UNFINISHED);
        let to = self.dir.join(&name("snapshot", generation));
        self.disk.rename(&from, &to).await.map_err(of_disk)?;
        self.disk.sync_dir(&self.dir).await.map_err(of_disk)
    }

    /// Step 4: the files of an earlier generation go.
    pub(crate) async fn retire(&self, generation: u64) -> Result<(), CatalogError> {
        self.remove(&name("snapshot", generation)).await?;
        self.remove(&name("log", generation)).await
    }

    /// Moves every file to the quarantine, where it takes the place of what was there. Without room for
    /// that, they are removed.
    pub(crate) async fn set_aside(&self) -> Result<(), CatalogError> {
        let root = self.dir.parent();
        let place = root.join(QUARANTINE).join(self.dir.name());
        match self.move_to(&place).await {
            Err(CatalogError::NoSpace(_)) => {
                for name in self.names().await? {
                    self.remove(&name).await?;
                }
            }
            moved => moved?,
        }
        self.disk.sync_dir(&self.dir).await.map_err(of_disk)
    }

    async fn move_to(&self, place: &DiskPath) -> Result<(), CatalogError> {
        for dir in [&place.parent(), place, &self.dir] {
            self.disk.mkdir(dir).await.map_err(of_disk)?;
        }
        for entry in self.disk.list(place).await.map_err(of_disk)? {
            self.disk.unlink(&place.join(&entry.name)).await.map_err(of_disk)?;
        }
        for name in self.names().await? {
            let (from, to) = (self.dir.join(&name), place.join(&name));
            self.disk.rename(&from, &to).await.map_err(of_disk)?;
        }
        self.disk.sync_dir(place).await.map_err(of_disk)
    }

    async fn names(&self) -> Result<Vec<String>, CatalogError> {
        let entries = self.disk.list(&self.dir).await.map_err(of_disk)?;
        Ok(entries.into_iter().map(|entry| entry.name).collect())
    }

    async fn read(&self, name: &str) -> Result<Bytes, CatalogError> {
        let file = self.disk.open(&self.dir.join(name)).await.map_err(of_disk)?;
        read_all(&*file).await
    }

    async fn remove(&self, name: &str) -> Result<(), CatalogError> {
        match self.disk.unlink(&self.dir.join(name)).await {
            Ok(()) | Err(DiskError { kind: DiskErrorKind::NotFound, .. }) => Ok(()),
            Err(error) => Err(of_disk(error)),
        }
    }
}

/// Reads a snapshot, which must be whole: it counted only once it was synced.
fn restore(snapshot: &Bytes, generation: u64, rows: &mut Rows) -> Result<u64, CatalogError> {
    let mut tail = Tail::start("snapshot", generation);
    while let Some(batch) = frame::read(snapshot, &mut tail) {
        if let [Row::End { rows: expected }] = batch[..] {
            if rows.len() == expected {
                return Ok(expected);
            }
            break;
        }
        rows.replay(batch)?;
    }
    let end = tail.end_bytes;
    Err(CatalogError::Damaged(format!("snapshot {generation} is bad from byte {end} on")))
}

/// Overwrites what a torn write left behind the last whole frame, so that nothing of it can be
/// taken for a frame once others stand before it.
async fn blank(file: &dyn File, from: u64, to: u64) -> Result<(), CatalogError> {
    let mut at = from;
    while at < to {
        let len = (to - at).min(size(CHUNK_BYTES));
        let zeros = Bytes::from(vec![0; crate::content::index(len)]);
        file.write_at(at, zeros).await.map_err(of_disk)?;
        at += len;
    }
    file.sync_data().await.map_err(of_disk)
}

/// Writes frames behind the tail of a log, over whatever an interrupted write left there.
pub(crate) async fn write(log: &Log, writer: FrameWriter) -> Result<Tail, CatalogError> {
    if writer.len() == 0 {
        return Ok(log.tail);
    }
    let len_bytes = log.file.len().await.map_err(of_disk)?;
    if len_bytes == log.tail.end_bytes {
        return append(&*log.file, writer).await;
    }
    let (bytes, tail) = writer.finish();
    log.file.write_at(log.tail.end_bytes, bytes).await.map_err(of_disk)?;
    Ok(tail)
}

async fn append(file: &dyn File, writer: FrameWriter) -> Result<Tail, CatalogError> {
    let (bytes, tail) = writer.finish();
    file.append(vec![bytes]).await.map_err(of_disk)?;
    Ok(tail)
}

async fn read_all(file: &dyn File) -> Result<Bytes, CatalogError> {
    let mut all = BytesMut::new();
    loop {
        let chunk = file.read_at(size(all.len()), CHUNK_BYTES).await.map_err(of_disk)?;
        if chunk.is_empty() {
            return Ok(all.freeze());
        }
        all.extend_from_slice(&chunk);
    }
}

fn name(kind: &str, generation: u64) -> String {
    format!("{generation:08}.{kind}")
}

fn generation_of(name: &str, kind: &str) -> Option<u64> {
    name.strip_suffix(kind)?.strip_suffix('.')?.parse().ok()
}

/// What a failure means where the catalog was to be opened: a file that the device cannot read is
/// damage.
pub(crate) fn at_open(error: CatalogError) -> CatalogError {
    if let CatalogError::Io(reason) = error { CatalogError::Damaged(reason) } else { error }
}

/// What a failure of the disk means to who uses the catalog.
pub(crate) fn of_disk(error: DiskError) -> CatalogError {
    if error.kind.is_full() {
        CatalogError::NoSpace(error.to_string())
    } else {
        CatalogError::Io(error.to_string())
    }
}
