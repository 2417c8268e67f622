//! The rows of the index that a record needs, the same whether it was just written or found by a
//! scan.

use bytes::Bytes;
use kura_core::{
    address::Address,
    feed::{FeedRow, feed_key, floor_key},
    place::{
        Place, Watermark, contents_key, contents_row, place_key, watermark_in_contents,
        watermark_in_places,
    },
    record::SegmentId,
};
use kura_env::{Batch, Catalog, CatalogError};

use super::{CONTENTS_SPACE, FEED_SPACE, PLACES_SPACE, VERSIONS_SPACE};

/// Adds the rows of a record. `is_current` says that no later one of its name is known; `replica`
/// that its peers have it from somebody else.
pub(crate) fn add_record(
    batch: &mut Batch,
    address: &Address,
    place: &Place,
    is_current: bool,
    replica: bool,
) {
    let key = Bytes::from(place_key(address));
    if is_current {
        batch.put(PLACES_SPACE, key.clone(), place.encode());
    }
    let feed_sequence = if replica { 0 } else { place.sequence };
    let contents = contents_row(feed_sequence, &key);
    batch.put(CONTENTS_SPACE, contents_key(place.segment, place.offset), contents);
    if !replica && is_current {
        let row = FeedRow {
            address: address.clone(),
            version: place.version,
            body_bytes: place.body_bytes,
            digest: place.digest,
        };
        batch.put(FEED_SPACE, feed_key(place.sequence).to_vec(), row.encode());
    }
}

/// Says that followers who read the feed below `sequence` may have missed rows that came in late.
pub(crate) fn add_feed_floor(batch: &mut Batch, sequence: u64) {
    batch.put(FEED_SPACE, floor_key().to_vec(), sequence.to_be_bytes().to_vec());
}

/// What [`add_feed_floor`] said last; 0 if nothing.
pub(crate) async fn feed_floor(catalog: &dyn Catalog) -> Result<u64, CatalogError> {
    let row = catalog.get(FEED_SPACE, &floor_key()).await?;
    Ok(read_feed_floor(row.as_ref()))
}

/// What [`add_feed_floor`] said in this row.
pub(crate) fn read_feed_floor(row: Option<&Bytes>) -> u64 {
    let floor = row.and_then(|row| row[..].try_into().ok()).map(u64::from_be_bytes);
    floor.unwrap_or_default()
}

/// Takes rows of the feed away.
pub(crate) fn drop_feed_rows<'a>(batch: &mut Batch, sequences: impl IntoIterator<Item = &'a u64>) {
    for sequence in sequences {
        batch.delete(FEED_SPACE, feed_key(*sequence).to_vec());
    }
}

/// Says in every keyspace how far `segment` is indexed.
pub(crate) fn add_watermark(batch: &mut Batch, segment: SegmentId, watermark: Watermark) {
    let value = Bytes::copy_from_slice(&watermark.encode());
    batch.put(PLACES_SPACE, watermark_in_places(segment), value.clone());
    batch.put(CONTENTS_SPACE, watermark_in_contents(segment), value.clone());
    batch.put(FEED_SPACE, watermark_in_contents(segment), value.clone());
    batch.put(VERSIONS_SPACE, watermark_in_contents(segment), value);
}

/// Takes the watermarks of `segment` away.
pub(crate) fn remove_watermark(batch: &mut Batch, segment: SegmentId) {
    batch.delete(PLACES_SPACE, watermark_in_places(segment));
    batch.delete(CONTENTS_SPACE, watermark_in_contents(segment));
    batch.delete(FEED_SPACE, watermark_in_contents(segment));
    batch.delete(VERSIONS_SPACE, watermark_in_contents(segment));
}

/// How far `segment` is indexed in all keyspaces; what one of them has lost is scanned again.
pub(crate) async fn watermark(
    catalog: &dyn Catalog,
    segment: SegmentId,
) -> Result<Watermark, CatalogError> {
    let places = catalog.get(PLACES_SPACE, &watermark_in_places(segment)).await?;
    let contents = catalog.get(CONTENTS_SPACE, &watermark_in_contents(segment)).await?;
    let feed = catalog.get(FEED_SPACE, &watermark_in_contents(segment)).await?;
    let versions = catalog.get(VERSIONS_SPACE, &watermark_in_contents(segment)).await?;
    let [places, contents, feed, versions] =
        [places, contents, feed, versions].map(|row| Watermark::decode(row.as_deref()));
    Ok(places.agreed(contents).agreed(feed).agreed(versions))
}
