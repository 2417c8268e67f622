//! An artifact that several peers offer is appended once, not once for each of them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kura_core::{
    address::Address,
    digest::Digest,
    place::{parse_contents_key, parse_contents_row},
    record::{FIXED_BYTES, Header, Version},
};

use super::{Invariant, Violation};
use crate::image::Image;

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "appended_once",
    demands: "the records on a node's disk, without those that were copied forward, take at most \
              1.05 times the bytes of the different versions among them",
    checked: "on the disk and the catalog of every node of a mesh, at rest",
};

/// How much may lie there twice, as by a crash between an append and its row: one in so many.
const TWICE_SHARE: u64 = 20;

/// Judges the image of a node. What was `spoilt` there had to be fetched again.
///
/// # Errors
///
/// If too much lies there more than once.
pub fn check(node: &str, image: &Image<'_>, spoilt: &BTreeSet<Bytes>) -> Result<(), Violation> {
    let mut seen: BTreeMap<(Address, Version, Digest), u64> = BTreeMap::new();
    let mut arrivals = BTreeSet::new();
    let (mut all_bytes, mut unique_bytes) = (0, 0);
    let mut nonces = BTreeMap::new();
    for (key, row) in &image.contents {
        if parse_contents_row(row).is_none_or(|(_, address)| spoilt.contains(address)) {
            continue;
        }
        let Some((segment, offset)) = parse_contents_key(key) else { continue };
        let nonce = *nonces.entry(segment).or_insert_with(|| image.nonce(segment));
        let Some(nonce) = nonce else { continue };
        let path = Image::segment_path(segment);
        let fixed = (image.read)(&path, offset, FIXED_BYTES);
        let Ok(len) = Header::len_hint(&fixed) else { continue };
        let header = (image.read)(&path, offset, len);
        // What is no record is for `reference_in_ring_or_miss` to say.
        let Ok((Header::Artifact(artifact), len)) = Header::decode(&header, nonce, offset) else {
            continue;
        };
        // A copy forward keeps its sequence; what arrives once more gets another.
        if !arrivals.insert((artifact.address.clone(), artifact.sequence)) {
            continue;
        }
        let bytes = artifact.body_bytes + u64::try_from(len).unwrap_or(0);
        let count = seen.entry((artifact.address, artifact.version, artifact.digest)).or_default();
        *count += 1;
        all_bytes += bytes;
        unique_bytes += if *count == 1 { bytes } else { 0 };
    }
    if all_bytes <= unique_bytes + unique_bytes / TWICE_SHARE {
        return Ok(());
    }
    let (name, count) = seen
        .iter()
        .max_by_key(|(_, count)| **count)
        .map(|((address, ..), count)| {
            (format!("{}/{}", address.namespace(), address.key()), *count)
        })
        .unwrap_or_default();
    Err(INVARIANT.violated(format!(
        "{node}: {all_bytes} bytes of records hold {unique_bytes} bytes of versions; {name} lies \
         there {count} times"
    )))
}

#[cfg(test)]
mod tests {
    use kura_core::{
        place::{contents_key, contents_row},
        record::{Area, Artifact, Flow, SEGMENT_HEADER_BYTES, chunk_sum},
    };

    use super::*;
    use crate::image::sample::Sample;

    #[test]
    fn a_record_that_lies_there_twice_is_reported() {
        let sample = Sample::sound();
        assert_eq!(check("node-1", &sample.image(), &BTreeSet::new()), Ok(()));
        let (id, nonce) = {
            let image = sample.image();
            let id = image.ring().unwrap().newest(Area::Blobs, Flow::Live).unwrap().id;
            (id, image.nonce(id).unwrap())
        };
        let segment = sample.files[&Image::segment_path(id)].clone();
        let (first, offset) = (SEGMENT_HEADER_BYTES, segment.len() as u64);
        let bytes = &segment[usize::try_from(first).unwrap()..];
        let (header, _) = Header::decode(bytes, nonce, first).unwrap();
        let Header::Artifact(artifact) = header else { panic!("an artifact") };
        let key = kura_core::place::place_key(&artifact.address);
        let again = |sequence| {
            let chunk_sums = vec![chunk_sum(b"a body")];
            let again = Artifact { chunk_sums, sequence, ..artifact.clone() };
            let mut sample = sample.clone();
            let segment = sample.files.get_mut(&Image::segment_path(id)).unwrap();
            segment.extend([again.encode(nonce, offset), b"a body".to_vec()].concat());
            let row = contents_row(1, &key);
            sample.contents.push((contents_key(id, offset).into(), row.into()));
            sample
        };
        let copied = again(artifact.sequence);
        assert_eq!(check("node-1", &copied.image(), &BTreeSet::new()), Ok(()), "copied forward");
        let sample = again(artifact.sequence + 1);
        let violation = check("node-1", &sample.image(), &BTreeSet::new()).unwrap_err();
        assert!(violation.reason.contains("2 times"), "{violation}");
        let spoilt = BTreeSet::from([key.into()]);
        assert_eq!(
            check("node-1", &sample.image(), &spoilt),
            Ok(()),
            "it was lost, and came again"
        );
    }
}
