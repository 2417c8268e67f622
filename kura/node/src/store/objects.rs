//! The part of a start's scans that is about the pool: every object that the index does not know is checked
//! and adopted, what was replaced or is no object goes.

use std::collections::BTreeSet;

use kura_core::{
    place::{Place, contents_key, parse_contents_row, place_key},
    recency::Recency,
    record::{Area, SegmentId},
};
use kura_env::{Batch, COPY_SUFFIX, DirEntry, DiskPath, FileKind};

use super::{
    CONTENTS_SPACE, PLACES_SPACE,
    index::Name,
    owners::Owners,
    recovery::RecoverError,
    scan::{Headless, Scan, Step, open_segment},
    segments::{Segment, View, segment_path},
    versions::{VERSIONS_SPACE, item_of},
    window::Window,
};

/// What was found in the pool.
#[derive(Default)]
pub(super) struct Objects {
    /// In the order in which they came. What the device cannot read now stays for the next start, unseen by
    /// readers and as the eldest: where room is needed it goes before whatever can be read.
    pub(super) pool: Recency<SegmentId>,
    /// Which of them each name leads to.
    pub(super) owners: Owners,
    /// Directories that are there.
    pub(super) dirs: BTreeSet<String>,
}

/// When an object was used last that nobody can read.
const NEVER_USED: u64 = 0;

/// What a file of the pool turns out to be.
enum Object {
    Here {
        segment: Segment,
        record_bytes: u64,
        age: u64,
        name: Name,
    },
    /// The device fails at it.
    Unreadable,
    /// It is no object.
    None,
    /// Its name leads to something later.
    Superseded,
}

impl Scan<'_> {
    /// The directories of the pool, and the objects in them. What was not finished is removed.
    pub(super) async fn list_pool(
        &self,
    ) -> Result<(BTreeSet<String>, Vec<SegmentId>), RecoverError> {
        let disk = &self.env.disk;
        let root = DiskPath::new(Area::Pool.dir());
        let (mut dirs, mut found) = (BTreeSet::new(), Vec::new());
        for dir in disk.list(&root).await? {
            let is_ours = dir.kind == FileKind::Directory && dir.name.len() == 2;
            if !is_ours || u8::from_str_radix(&dir.name, 16).is_err() {
                tracing::warn!(name = dir.name, "not a directory of the pool: left alone");
                continue;
            }
            let path = root.join(&dir.name);
            for entry in disk.list(&path).await? {
                match SegmentId::from_file_name(Area::Pool, &entry.name) {
                    Some(id) if id.pool_dir() == dir.name => found.push(id),
                    None if is_unfinished_copy(&entry) => {
                        disk.unlink(&path.join(&entry.name)).await?
                    }
                    Some(_) | None => {
                        tracing::warn!(name = entry.name, "not an object of ours: left alone");
                    }
                }
            }
            dirs.insert(path.as_str().to_owned());
        }
        Ok((dirs, found))
    }

    /// Looks at an object of the pool: one that the catalog knows is taken as it is, another is checked
    /// and adopted, and what is no object is removed.
    pub(super) async fn pool_object(
        &mut self,
        id: SegmentId,
        view: &View,
        objects: &mut Objects,
    ) -> Result<(), RecoverError> {
        match self.object(id).await? {
            Object::Here { segment, record_bytes, age, name } => {
                objects.pool.insert(id, record_bytes, age);
                view.insert(segment.into());
                let superseded = objects.owners.leads_to(name, id);
                // What was written later was looked at before, and leads there.
                debug_assert!(superseded.is_none(), "{id} comes after what it replaced");
            }
            Object::Superseded => {
                // What cannot be removed now is found again by the next start.
                if let Err(error) = self.env.disk.unlink(&segment_path(id)).await {
                    tracing::warn!(%error, "a replaced object could not be removed");
                }
            }
            Object::Unreadable => {
                self.metrics.store.recovered_unreadable.inc();
                // By its file: how long its record is, nobody can tell.
                let len_bytes = self.env.disk.open(&segment_path(id)).await?.len().await?;
                objects.pool.insert(id, len_bytes, NEVER_USED);
            }
            Object::None => {
                self.metrics.store.recovered_unreadable.inc();
                self.env.disk.unlink(&segment_path(id)).await?;
            }
        }
        Ok(())
    }

    /// One object of the pool. One that the catalog does not lead to is checked and adopted, whatever
    /// part of the catalog is lost.
    async fn object(&mut self, id: SegmentId) -> Result<Object, RecoverError> {
        let (segment, file, header) = match open_segment(self.env, id, self.metrics).await? {
            Ok(opened) => opened,
            Err(Headless::Unreadable) => return Ok(Object::Unreadable),
            Err(Headless::Invalid) => return Ok(Object::None),
        };
        let (offset, len_bytes) = (u64::from(header.first_offset), file.len().await?);
        if let Some((name, place)) = self.known_place(id, offset).await? {
            self.hlc_seen = self.hlc_seen.max(place.version.time);
            let (record_bytes, age) = (place.record_bytes(), header.age);
            let is_whole = place.offset + record_bytes <= len_bytes;
            return Ok(if is_whole {
                Object::Here { segment, record_bytes, age, name }
            } else {
                Object::None
            });
        }
        let mut window = Window::new(&*file);
        let step = self.step(&segment, &mut window, offset, len_bytes).await?;
        self.count_bad_reads(id, window.bad_reads());
        let record = match step {
            Step::Record { found, .. } => *found,
            Step::Unreadable | Step::Pass { is_unread: true, .. } => {
                return Ok(Object::Unreadable);
            }
            Step::Pass { .. } | Step::End(_) => return Ok(Object::None),
        };
        let record_bytes = record.place.record_bytes();
        let name = Name::of(&place_key(&record.address));
        let mut batch = Batch::default();
        if !self.adopt(&mut batch, vec![record]).await? {
            return Ok(Object::Superseded);
        }
        // Where it cannot be synced it is taken all the same, as records of a segment are. Its writer was answered
        // once it was synced, or never; and what it replaced may lie in a ring and would be taken for the newest.
        self.sync(&segment, &*file).await;
        self.env.disk.sync_dir(&segment_path(id).parent()).await?;
        self.put_in(batch).await?;
        Ok(Object::Here { segment, record_bytes, age: header.age, name })
    }

    /// The place of an object, if the catalog has all of its rows.
    async fn known_place(
        &self,
        id: SegmentId,
        offset: u64,
    ) -> Result<Option<(Name, Place)>, RecoverError> {
        let (from, to) = (contents_key(id, offset), contents_key(id, offset + 1));
        let rows = self.env.catalog.range(CONTENTS_SPACE, &from, &to, 1).await?;
        let Some((_, key)) = rows.first().and_then(|(_, row)| parse_contents_row(row)) else {
            return Ok(None);
        };
        let row = self.env.catalog.get(PLACES_SPACE, key).await?;
        let place = row.as_deref().and_then(Place::decode).filter(|place| place.segment == id);
        let Some(place) = place else { return Ok(None) };
        let version = item_of(key, &place).key();
        let is_told = self.env.catalog.get(VERSIONS_SPACE, &version).await?.is_some();
        Ok(is_told.then(|| (Name::of(key), place)))
    }
}

/// Whether an entry of the pool is an object that a crash kept from being copied to its place.
fn is_unfinished_copy(entry: &DirEntry) -> bool {
    let object = entry.name.strip_suffix(COPY_SUFFIX);
    entry.kind == FileKind::File
        && object.is_some_and(|name| SegmentId::from_file_name(Area::Pool, name).is_some())
}
