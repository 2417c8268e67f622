//! The catalog: what is in each keyspace, whether it has what STAMP says it had synced, and whether its
//! watermarks fit the segments.

use std::collections::BTreeMap;

use kura_core::{
    record::SegmentId,
    stamp::{InvalidStamp, Stamp, Worth, judge},
};
use kura_env::{Catalog, CatalogError, Disk, DiskError, DiskErrorKind, Keyspace, Row};
use serde::Serialize;

use super::rows::{DecodedRow, watermark_of};
use crate::store::{
    CONTENTS_SPACE, FEED_SPACE, KEYSPACES, PLACES_SPACE, STAMP, segment_path, stamp_rows,
    state_file,
};

/// Rows that are read together.
const PAGE_ROWS: usize = 1024;

/// What lies in STAMP.
#[derive(Clone, Debug)]
pub(crate) enum SavedStamp {
    /// There is none.
    Absent,
    /// As it was saved.
    Stamp(Stamp),
    /// Not what was saved.
    Invalid(InvalidStamp),
    /// The device cannot read it.
    Unreadable(DiskError),
}

impl SavedStamp {
    /// The stamp, if it can be read.
    pub(crate) fn stamp(&self) -> Option<Stamp> {
        match self {
            Self::Stamp(stamp) => Some(*stamp),
            Self::Absent | Self::Invalid(_) | Self::Unreadable(_) => None,
        }
    }

    /// What is wrong with it.
    pub(crate) fn problem(&self) -> Option<String> {
        match self {
            Self::Absent | Self::Stamp(_) => None,
            Self::Invalid(invalid) => Some(format!("STAMP has {invalid}")),
            Self::Unreadable(error) => Some(error.to_string()),
        }
    }
}

/// Reads STAMP.
pub(crate) async fn saved_stamp(disk: &dyn Disk) -> Result<SavedStamp, DiskError> {
    let bytes = match state_file::load(disk, STAMP).await {
        Err(error) if error.kind == DiskErrorKind::Io => return Ok(SavedStamp::Unreadable(error)),
        loaded => loaded?,
    };
    Ok(match bytes.map(|bytes| Stamp::decode(&bytes)) {
        None => SavedStamp::Absent,
        Some(Ok(stamp)) => SavedStamp::Stamp(stamp),
        Some(Err(invalid)) => SavedStamp::Invalid(invalid),
    })
}

/// What the catalog holds.
#[derive(Clone, Debug, Serialize)]
pub struct CatalogReport {
    /// What STAMP says; none if there is none that can be read.
    pub saved_stamp: Option<StampReport>,
    /// `whole`, `behind` STAMP, or `unknown`, where nothing says.
    pub worth: &'static str,
    /// In the order of their names in the code.
    pub keyspaces: Vec<KeyspaceReport>,
    /// Of every segment that has one.
    pub watermarks: Vec<WatermarkReport>,
    /// What the next start clears up.
    pub notes: Vec<String>,
    /// What no stop explains.
    pub problems: Vec<String>,
}

/// A stamp.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StampReport {
    /// The name of the catalog, in hexadecimal.
    pub catalog: String,
    /// The count of its synced commits.
    pub count: u64,
}

impl From<Stamp> for StampReport {
    fn from(Stamp { catalog, count }: Stamp) -> Self {
        Self { catalog: format!("{catalog:032x}"), count }
    }
}

/// One keyspace.
#[derive(Clone, Debug, Serialize)]
pub struct KeyspaceReport {
    /// Its name.
    pub name: &'static str,
    /// Its rows, marks included.
    pub rows: u64,
    /// The bytes of their keys and values. What it takes on the disk is another number.
    pub bytes: u64,
    /// Rows that mean nothing.
    pub unreadable_rows: u64,
    /// Its stamp.
    pub stamp: Option<StampReport>,
}

/// How far a segment is indexed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WatermarkReport {
    /// Which segment.
    pub segment: String,
    /// In `places`, `contents` and `feed`; none where it is missing. The smallest counts.
    pub offsets: [Option<u64>; 3],
    /// The length of the file; none if there is no file.
    pub len_bytes: Option<u64>,
}

/// Why a catalog cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum CatalogLookError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

type Offsets = BTreeMap<SegmentId, [Option<u64>; 3]>;

/// Goes over an open catalog, whose segments lie on `disk`.
///
/// # Errors
///
/// [`CatalogLookError`].
pub async fn catalog(
    disk: &dyn Disk,
    catalog: &dyn Catalog,
) -> Result<CatalogReport, CatalogLookError> {
    let (saved, rows) = (saved_stamp(disk).await?, stamp_rows(catalog).await?);
    let (mut notes, mut problems) = (Vec::new(), Vec::new());
    problems.extend(saved.problem());
    let worth = match judge(saved.stamp(), &rows) {
        Worth::Whole(_) => "whole",
        Worth::Unknown => {
            notes.push("no stamp says whether it is whole: a start takes it as it is".to_owned());
            "unknown"
        }
        Worth::Behind => {
            problems.push(
                "it lacks what STAMP says it had synced, or is another catalog: the next start \
                 sets it aside and makes it again, and so does `kura verify --repair`"
                    .to_owned(),
            );
            "behind"
        }
    };
    let (mut keyspaces, mut offsets) = (Vec::new(), Offsets::new());
    for (space, stamp) in KEYSPACES.into_iter().zip(rows) {
        let keyspace = keyspace(catalog, space, &mut offsets).await?;
        if keyspace.unreadable_rows > 0 {
            let (count, name) = (keyspace.unreadable_rows, space.0);
            problems.push(format!("{count} rows of {name} cannot be read"));
        }
        keyspaces.push(KeyspaceReport { stamp: stamp.map(StampReport::from), ..keyspace });
    }
    let mut watermarks = Vec::new();
    for (id, offsets) in offsets {
        let report = watermark(disk, id, offsets).await?;
        notes.extend(of_watermark(&report));
        watermarks.push(report);
    }
    let saved_stamp = saved.stamp().map(StampReport::from);
    Ok(CatalogReport { saved_stamp, worth, keyspaces, watermarks, notes, problems })
}

/// Up to `limit` rows of the keyspace of this name, decoded, in their order; a row that means nothing as the
/// hexadecimal digits of its key. `None` if there is no such keyspace.
///
/// # Errors
///
/// [`CatalogError`].
pub async fn catalog_rows(
    catalog: &dyn Catalog,
    keyspace: &str,
    limit: usize,
) -> Result<Option<Vec<Result<DecodedRow, String>>>, CatalogError> {
    let Some(space) = KEYSPACES.into_iter().find(|space| space.0 == keyspace) else {
        return Ok(None);
    };
    let mut decoded = Vec::new();
    let mut pages = Pages::of(space);
    while decoded.len() < limit
        && let Some(page) = pages.next(catalog, PAGE_ROWS.min(limit - decoded.len())).await?
    {
        decoded.extend(page.iter().map(|(key, value)| {
            let hex = || key.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            DecodedRow::of(space, key, value).ok_or_else(hex)
        }));
    }
    Ok(Some(decoded))
}

/// The rows of a keyspace in their order, so many at a time.
pub(crate) struct Pages {
    space: Keyspace,
    from: Vec<u8>,
    is_over: bool,
}

impl Pages {
    /// From the first one on.
    pub(crate) fn of(space: Keyspace) -> Self {
        Self { space, from: Vec::new(), is_over: false }
    }

    /// The next `rows_max` rows; `None` behind the last.
    pub(crate) async fn next(
        &mut self,
        catalog: &dyn Catalog,
        rows_max: usize,
    ) -> Result<Option<Vec<Row>>, CatalogError> {
        if self.is_over {
            return Ok(None);
        }
        let page = catalog.range(self.space, &self.from, &[], rows_max).await?;
        self.is_over = page.len() < rows_max;
        if let Some((last, _)) = page.last() {
            self.from = [last.as_ref(), &[0]].concat();
        }
        Ok(Some(page))
    }
}

async fn keyspace(
    catalog: &dyn Catalog,
    space: Keyspace,
    offsets: &mut Offsets,
) -> Result<KeyspaceReport, CatalogError> {
    let name = space.0;
    let mut report = KeyspaceReport { name, rows: 0, bytes: 0, unreadable_rows: 0, stamp: None };
    let at = [PLACES_SPACE, CONTENTS_SPACE, FEED_SPACE].iter().position(|it| *it == space);
    let mut pages = Pages::of(space);
    while let Some(page) = pages.next(catalog, PAGE_ROWS).await? {
        for (key, value) in &page {
            report.rows += 1;
            report.bytes += (key.len() + value.len()) as u64;
            let row = DecodedRow::of(space, key, value);
            report.unreadable_rows += u64::from(row.is_none());
            if let (Some(DecodedRow::Watermark { offset, .. }), Some(at), Some(id)) =
                (row, at, watermark_of(space, key))
            {
                offsets.entry(id).or_default()[at] = Some(offset);
            }
        }
    }
    Ok(report)
}

async fn watermark(
    disk: &dyn Disk,
    id: SegmentId,
    offsets: [Option<u64>; 3],
) -> Result<WatermarkReport, DiskError> {
    let len_bytes = match disk.open(&segment_path(id)).await {
        Ok(file) => Some(file.len().await?),
        Err(error) if error.kind == DiskErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    Ok(WatermarkReport { segment: id.to_string(), offsets, len_bytes })
}

/// What a watermark says that does not fit the file.
fn of_watermark(report: &WatermarkReport) -> Option<String> {
    let WatermarkReport { segment, offsets, len_bytes } = report;
    let Some(len_bytes) = len_bytes else {
        return Some(format!("{segment} has rows and no file: the next start evicts them"));
    };
    let [Some(places), Some(contents), Some(feed)] = offsets else {
        return Some(format!(
            "{segment} lacks a watermark in some keyspace: the next start reads all of it"
        ));
    };
    let indexed = places.min(contents).min(feed);
    if indexed > len_bytes {
        Some(format!(
            "{segment} is {len_bytes} bytes long and was indexed up to {indexed}: it lost its end, \
             and the next start reads all of it"
        ))
    } else if indexed < len_bytes {
        let left = len_bytes - indexed;
        Some(format!(
            "{segment} is not indexed in its last {left} bytes: the next start reads them"
        ))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watermark_that_does_not_fit_the_file_is_noted() {
        let say = |offsets: [Option<u64>; 3], len_bytes| {
            of_watermark(&WatermarkReport { segment: "blobs/1".to_owned(), offsets, len_bytes })
        };
        let all = |offset| [Some(offset); 3];
        assert_eq!(say(all(500), Some(500)), None);
        for (offsets, len_bytes, part) in [
            (all(500), None, "no file"),
            ([Some(500), None, Some(500)], Some(500), "lacks a watermark"),
            (all(500), Some(400), "lost its end"),
            (all(500), Some(600), "in its last 100 bytes"),
            ([Some(500), Some(450), Some(500)], Some(500), "in its last 50 bytes"),
        ] {
            let said = say(offsets, len_bytes).unwrap_or_default();
            assert!(said.contains(part), "{part:?} is not in {said:?}");
        }
    }
}
