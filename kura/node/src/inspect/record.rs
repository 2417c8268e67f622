//! One artifact: where the catalog says that it lies, what lies there, and where else it lies.

use std::collections::BTreeMap;

use kura_core::{
    address::Address,
    place::{Place, place_key},
    record::{Area, SegmentId},
    ring::Ring,
};
use kura_env::{Catalog, CatalogError, Disk, DiskError, DiskErrorKind};

use super::walk::{Item, Record, Unfit, record_at, segment_header, walk};
use crate::store::{
    PLACES_SPACE, SavedRing, files_below, load_ring_file, segment_of, segment_path,
};

/// What is found at a place.
#[derive(Debug)]
pub enum Lying {
    /// The segment has no file.
    NoFile,
    /// The file begins with no header of that segment.
    NoHeader(Unfit),
    /// There is no artifact at that offset.
    NoRecord(Unfit),
    /// An artifact, whichever it is.
    Here(Box<Record>),
}

/// Where the catalog says that an artifact lies.
///
/// # Errors
///
/// [`CatalogError`].
pub async fn place_of(
    catalog: &dyn Catalog,
    address: &Address,
) -> Result<Option<Place>, CatalogError> {
    let row = catalog.get(PLACES_SPACE, &place_key(address)).await?;
    Ok(row.as_deref().and_then(Place::decode))
}

/// What lies at `offset` of a segment or an object, its body checked.
///
/// # Errors
///
/// [`DiskError`] if the disk fails at more than the bytes.
pub async fn lying_at(
    disk: &dyn Disk,
    segment: SegmentId,
    offset: u64,
) -> Result<Lying, DiskError> {
    let file = match disk.open(&segment_path(segment)).await {
        Err(error) if error.kind == DiskErrorKind::NotFound => return Ok(Lying::NoFile),
        opened => opened?,
    };
    let header = match segment_header(&*file, Some(segment)).await? {
        Ok(header) => header,
        Err(unfit) => return Ok(Lying::NoHeader(unfit)),
    };
    Ok(match record_at(&*file, header.nonce, offset).await? {
        Ok(record) => Lying::Here(Box::new(record)),
        Err(unfit) => Lying::NoRecord(unfit),
    })
}

/// What a node sees of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// It is in its ring, or an object of the pool: what lies in it can be read.
    Counts,
    /// It is in no ring: whatever lies in it is a miss.
    OutOfRing,
    /// RING cannot be read, so nobody knows before the next start.
    Unknown,
}

/// Whether what lies in `segment` can be read by a client.
///
/// # Errors
///
/// [`DiskError`].
pub async fn sight(disk: &dyn Disk, segment: SegmentId) -> Result<Sight, DiskError> {
    if segment.area() == Area::Pool {
        return Ok(Sight::Counts);
    }
    Ok(match load_ring_file(disk).await? {
        SavedRing::Ring(ring) => seen(&ring, segment),
        SavedRing::Absent | SavedRing::Invalid(_) | SavedRing::Unreadable(_) => Sight::Unknown,
    })
}

fn seen(ring: &Ring, segment: SegmentId) -> Sight {
    if ring.contains(segment) { Sight::Counts } else { Sight::OutOfRing }
}

/// Every record of this name, in whichever file of a segment or an object, with its body checked. Reads the
/// header of every record there is.
///
/// # Errors
///
/// [`DiskError`].
pub async fn copies_of(
    disk: &dyn Disk,
    address: &Address,
) -> Result<BTreeMap<SegmentId, Vec<Record>>, DiskError> {
    let mut copies: BTreeMap<SegmentId, Vec<Record>> = BTreeMap::new();
    let files = files_below(disk, kura_env::DiskPath::root()).await?;
    for id in files.iter().filter_map(|(path, _)| segment_of(path)) {
        let file = match disk.open(&segment_path(id)).await {
            // Evicted since it was listed, if the node runs.
            Err(error) if error.kind == DiskErrorKind::NotFound => continue,
            opened => opened?,
        };
        let mut offsets = Vec::new();
        let mut tell = |item: Item| match item {
            Item::Record(record) if record.artifact.address == *address => {
                offsets.push(record.offset);
            }
            Item::Record(_)
            | Item::Header(_)
            | Item::NoHeader(_)
            | Item::Skip { .. }
            | Item::Gap { .. }
            | Item::End { .. } => {}
        };
        walk(&*file, Some(id), false, &mut tell).await?;
        for offset in offsets {
            if let Lying::Here(record) = lying_at(disk, id, offset).await? {
                copies.entry(id).or_default().push(*record);
            }
        }
    }
    Ok(copies)
}
