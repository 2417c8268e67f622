//! Every reference of the catalog leads to the record that it names, or outside of the ring, where
//! it is a miss by definition.

use std::collections::BTreeMap;

use kura_core::{
    address::Address,
    place::{Place, is_mark_in_places},
    record::{Area, CHUNK_BYTES, Header, Nonce, SegmentId, chunk_sum},
};

use super::{Invariant, Violation};
use crate::image::Image;

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "reference_in_ring_or_miss",
    demands: "every row of `places` leads to a valid record of its key, or outside of the ring, or into a file \
              of which the disk refused a sync before power was lost",
    checked: "on the disk and the catalog of every node, at rest",
};

/// Judges the image of a node. What lies in segments of which `is_lost` says yes was read back by a start out of a
/// cache that never reached the disk, as a system does with what it failed to sync: whoever asks for it finds out.
///
/// # Errors
///
/// At the first reference into the ring that does not lead to its record.
pub fn check(
    node: &str,
    image: &Image<'_>,
    is_lost: impl Fn(SegmentId) -> bool,
) -> Result<(), Violation> {
    let Some(ring) = image.ring() else {
        return Err(INVARIANT.violated(format!("{node}: RING cannot be read")));
    };
    let mut nonces: BTreeMap<SegmentId, Option<Nonce>> =
        ring.members().map(|member| (member.id, image.nonce(member.id))).collect();
    for (name, _) in image.below(Area::Pool.dir()) {
        let id =
            name.split_once('/').and_then(|(_, name)| SegmentId::from_file_name(Area::Pool, name));
        nonces.extend(id.map(|id| (id, image.nonce(id))));
    }
    for (key, row) in &image.places {
        if is_mark_in_places(key) {
            continue;
        }
        let wrong = |what: &str| {
            let name = Address::decode(key)
                .map_or_else(|_| format!("{key:?}"), |a| format!("{}/{}", a.namespace(), a.key()));
            Err(INVARIANT.violated(format!("{node}: the reference of {name} {what}")))
        };
        let Some(place) = Place::decode(row) else { return wrong("is no place") };
        let nonce = nonces.get(&place.segment).filter(|_| !is_lost(place.segment));
        let Some(nonce) = nonce else { continue };
        let Some(nonce) = nonce else { return wrong("leads into a segment without a header") };
        if let Err(what) = record_is_whole(image, &place, *nonce, key) {
            let at = format!("at byte {} of segment {}", place.offset, place.segment.0);
            return wrong(&format!("leads {at} {what}"));
        }
    }
    Ok(())
}

fn record_is_whole(
    image: &Image<'_>,
    place: &Place,
    nonce: Nonce,
    key: &[u8],
) -> Result<(), &'static str> {
    let path = Image::segment_path(place.segment);
    let header_bytes = usize::try_from(place.header_bytes).unwrap_or(0);
    let header = (image.read)(&path, place.offset, header_bytes);
    let artifact = match Header::decode(&header, nonce, place.offset) {
        Ok((Header::Artifact(artifact), _)) => artifact,
        Ok((Header::Skip { .. }, _)) => return Err("to a skip record"),
        Err(_) => return Err("to no valid record"),
    };
    if artifact.address.encode() != *key {
        return Err("to the record of another key");
    }
    if artifact.body_bytes != place.body_bytes || artifact.digest != place.digest {
        return Err("to a record of another body");
    }
    let mut offset = place.offset + u64::from(place.header_bytes);
    let mut left = artifact.body_bytes;
    for sum in &artifact.chunk_sums {
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        let chunk = (image.read)(&path, offset, len);
        if chunk.len() != len || chunk_sum(&chunk) != *sum {
            return Err("to a record whose body is not whole");
        }
        let len = u64::try_from(len).unwrap_or(u64::MAX);
        (offset, left) = (offset + len, left - len);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::sample::Sample;

    /// What is reported once `spoil` was done to a sound image.
    fn reason(spoil: impl FnOnce(&mut Sample)) -> String {
        let mut sample = Sample::sound();
        spoil(&mut sample);
        let result = check("node-1", &sample.image(), |_| false);
        result.expect_err("the spoilt image is reported").reason
    }

    fn segment(sample: &mut Sample) -> &mut Vec<u8> {
        let (_, bytes) =
            sample.files.iter_mut().find(|(path, _)| path.starts_with("blobs")).unwrap();
        bytes
    }

    #[test]
    fn a_sound_image_and_references_out_of_the_ring_pass() {
        let mut sample = Sample::sound();
        assert_eq!(check("node-1", &sample.image(), |_| false), Ok(()));
        let ring = kura_core::ring::Ring::default();
        sample.files.insert("RING".to_owned(), ring.encode());
        assert_eq!(check("node-1", &sample.image(), |_| false), Ok(()));
    }

    #[test]
    fn every_way_for_a_reference_to_be_wrong_is_reported() {
        assert!(reason(|sample| sample.files.clear()).contains("RING"));
        assert!(reason(|sample| sample.places[0].1 = "x".into()).contains("no place"));
        assert!(reason(|sample| segment(sample).clear()).contains("without a header"));
        assert!(reason(|sample| segment(sample).truncate(70)).contains("no valid record"));
        let cut = |sample: &mut Sample| {
            let bytes = segment(sample);
            bytes.truncate(bytes.len() - 1);
        };
        assert!(reason(cut).contains("not whole"));
        assert!(reason(|sample| *segment(sample).last_mut().unwrap() ^= 1).contains("not whole"));
        let other = Address::new("ns", kura_core::address::Space::Plain, "other").unwrap();
        assert!(
            reason(|sample| sample.places[0].0 = other.encode().into()).contains("another key")
        );
    }
}
