//! At rest the ring, the files and the rows agree: nothing is left of what was evicted, and nothing
//! is missing of what was not.

use std::collections::BTreeSet;

use kura_core::{
    place::{Place, is_mark_in_places, parse_contents_key},
    record::{Area, SegmentId},
};

use super::{Invariant, Violation};
use crate::image::Image;

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "no_orphan_at_rest",
    demands: "the files in blobs/ and entries/ are those of the rings, every file in pool/ has its \
              row unless its device fails at it, and no row refers to any other segment or object",
    checked: "on the disk and the catalog of every node, at rest",
};

/// Judges the image of a node. An object for which `fails` says yes is one that a start could not read: it
/// waits for one that can.
///
/// # Errors
///
/// At the first file or row without a segment in the ring, or segment without a file.
pub fn check(
    node: &str,
    image: &Image<'_>,
    fails: impl Fn(SegmentId) -> bool,
) -> Result<(), Violation> {
    let violated = |what: String| Err(INVARIANT.violated(format!("{node}: {what}")));
    let Some(ring) = image.ring() else { return violated("RING cannot be read".to_owned()) };
    let in_ring: BTreeSet<SegmentId> = ring.members().map(|member| member.id).collect();
    let mut on_disk = BTreeSet::new();
    for area in [Area::Blobs, Area::Entries] {
        let dir = area.dir();
        for (name, len) in image.below(dir) {
            match SegmentId::from_file_name(area, name) {
                Some(id) if in_ring.contains(&id) => drop(on_disk.insert(id)),
                Some(_) | None => {
                    return violated(format!("{dir}/{name} of {len} bytes is not in the ring"));
                }
            }
        }
    }
    let mut objects = BTreeSet::new();
    for (name, len) in image.below(Area::Pool.dir()) {
        let id =
            name.split_once('/').and_then(|(_, name)| SegmentId::from_file_name(Area::Pool, name));
        match id {
            Some(id) => drop(objects.insert(id)),
            None => return violated(format!("pool/{name} of {len} bytes is no object")),
        }
    }
    let rows: BTreeSet<SegmentId> = image
        .contents
        .iter()
        .filter_map(|(key, _)| parse_contents_key(key))
        .map(|(segment, _)| segment)
        .collect();
    if let Some(unknown) = objects.difference(&rows).find(|object| !fails(**object)) {
        return violated(format!("the object {unknown} has no row in `contents`"));
    }
    let is_here = |segment: &SegmentId| in_ring.contains(segment) || objects.contains(segment);
    if let Some(missing) = in_ring.difference(&on_disk).next() {
        return violated(format!("segment {} is in the ring, but has no file", missing.0));
    }
    let places = image.places.iter().filter(|(key, _)| !is_mark_in_places(key));
    for place in places.filter_map(|(_, row)| Place::decode(row)) {
        if !is_here(&place.segment) {
            let segment = place.segment.0;
            return violated(format!("a row of `places` refers to the evicted segment {segment}"));
        }
    }
    for (segment, offset) in image.contents.iter().filter_map(|(key, _)| parse_contents_key(key)) {
        if !is_here(&segment) {
            return violated(format!(
                "a row of `contents` is left of the evicted segment {} (byte {offset})",
                segment.0
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use kura_core::{place::contents_key, ring::Ring};

    use super::*;
    use crate::image::sample::Sample;

    fn reason(spoil: impl FnOnce(&mut Sample)) -> String {
        let mut sample = Sample::sound();
        spoil(&mut sample);
        check("node-1", &sample.image(), |_| false)
            .expect_err("the spoilt image is reported")
            .reason
    }

    #[test]
    fn a_sound_image_passes() {
        assert_eq!(check("node-1", &Sample::sound().image(), |_| false), Ok(()));
    }

    #[test]
    fn an_object_without_a_row_is_reported_unless_its_device_fails_at_it() {
        let mut sample = Sample::sound();
        let object = SegmentId::new(Area::Pool, 0xb3);
        sample.files.insert(object.path(), vec![0]);
        let judged = check("node-1", &sample.image(), |_| false);
        assert!(judged.is_err_and(|it| it.reason.contains("has no row")));
        assert_eq!(check("node-1", &sample.image(), |id| id == object), Ok(()));
    }

    #[test]
    fn whatever_is_left_over_or_missing_is_reported() {
        let stray = |name: &'static str| {
            move |sample: &mut Sample| drop(sample.files.insert(format!("blobs/{name}"), vec![0]))
        };
        assert!(reason(stray(&SegmentId(9).file_name().leak()[..])).contains("not in the ring"));
        assert!(reason(stray("junk")).contains("not in the ring"));
        let no_blobs = |sample: &mut Sample| sample.files.retain(|path, _| path == "RING");
        assert!(reason(no_blobs).contains("has no file"));
        let evicted = |sample: &mut Sample| {
            sample.files.retain(|path, _| path == "RING");
            sample.files.insert("RING".to_owned(), Ring::default().encode());
        };
        assert!(reason(evicted).contains("a row of `places`"));
        let contents = |sample: &mut Sample| {
            sample.contents.push((contents_key(SegmentId(9), 64).into(), "k".into()));
        };
        assert!(reason(contents).contains("a row of `contents`"));
    }
}
