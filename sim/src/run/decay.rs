//! What becomes of a catalog while its node is down: somebody deletes it, or the device loses a part.

use bytes::Bytes;
use kura_env::DiskErrorKind;
use sim_storage::SimDisk;

use crate::scenario::CatalogFate;

const DIR: &str = "catalog/";
const TABLES: &str = ".snapshot";
const JOURNAL: &str = ".log";

/// Lets the catalog of a node that is down meet its fate, and says what was done to it.
pub(super) fn catalog(disk: &SimDisk, fate: CatalogFate) -> String {
    let done = match fate {
        CatalogFate::Kept => Ok(Vec::new()),
        CatalogFate::Lost => lose(disk, ""),
        CatalogFate::JournalLost => lose(disk, JOURNAL),
        CatalogFate::Shortened => shorten(disk),
        CatalogFate::Spoilt => spoil(disk),
        CatalogFate::Broken => replace(disk),
    };
    match done {
        Ok(files) if files.is_empty() => "nothing was there".to_owned(),
        Ok(files) => files.join(", "),
        Err(error) => format!("{error:?}"),
    }
}

/// Its files whose names end so, and their lengths, the newest last.
fn files(disk: &SimDisk, suffix: &str) -> Vec<(String, u64)> {
    let files = disk.walk().into_iter().map(|file| (file.path.as_str().to_owned(), file.len_bytes));
    let mut files: Vec<(String, u64)> =
        files.filter(|(path, _)| path.starts_with(DIR) && path.ends_with(suffix)).collect();
    files.sort();
    files
}

fn lose(disk: &SimDisk, suffix: &str) -> Result<Vec<String>, DiskErrorKind> {
    let lost = files(disk, suffix).into_iter().map(|(path, _)| disk.lose(&path).map(|()| path));
    lost.collect()
}

/// Of the newest journal the first half stays.
fn shorten(disk: &SimDisk) -> Result<Vec<String>, DiskErrorKind> {
    let Some((path, len_bytes)) = files(disk, JOURNAL).pop() else { return Ok(Vec::new()) };
    let half = disk.peek_at(&path, 0, len_bytes / 2).ok_or(DiskErrorKind::NotFound)?;
    disk.plant(&path, &half)?;
    Ok(vec![format!("{path}, {} of {len_bytes} bytes are left", half.len())])
}

/// The newest tables are not what was written.
fn replace(disk: &SimDisk) -> Result<Vec<String>, DiskErrorKind> {
    let newest = files(disk, TABLES).pop().map(|(path, _)| path);
    let path = newest.unwrap_or_else(|| format!("{DIR}00000001{TABLES}"));
    disk.plant(&path, &Bytes::from_static(b"nothing that was ever written"))?;
    Ok(vec![path])
}

/// A byte in the middle of the newest tables changes; where there are none, of the newest journal.
fn spoil(disk: &SimDisk) -> Result<Vec<String>, DiskErrorKind> {
    let newest = files(disk, TABLES).pop().or_else(|| files(disk, JOURNAL).pop());
    let Some((path, len_bytes)) = newest.filter(|(_, len_bytes)| *len_bytes > 0) else {
        return Ok(Vec::new());
    };
    disk.rot(&path, len_bytes / 2, 1)?;
    Ok(vec![format!("{path}, byte {}", len_bytes / 2)])
}
