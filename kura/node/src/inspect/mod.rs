//! Looks at single parts of a data directory, for people who wonder what lies there. Nothing here changes
//! anything: all of it works over a disk that refuses every change, and none of it needs the lock.
//!
//! What a node that runs has under way may be seen half done, but for RING, which is replaced as a whole.

mod catalog;
mod record;
mod ring;
mod rows;
mod staging;
mod walk;

pub use catalog::{
    CatalogLookError, CatalogReport, KeyspaceReport, StampReport, WatermarkReport, catalog,
    catalog_rows,
};
pub(crate) use catalog::{Pages, saved_stamp};
pub use record::{Lying, Sight, copies_of, lying_at, place_of, sight};
pub use ring::{MemberReport, RingPart, RingReport, ring};
pub use rows::{DecodedRow, Name, VersionParts};
pub use staging::{StagedKind, StagedReport, StagingReport, staging};
pub use walk::{BodyState, Item, Record, SegmentHead, Unfit, walk};
