//! Images of disks that are put back later, and what follows where a node goes on from one: it gives versions out again,
//! for other bodies.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use bytes::Bytes;
use kura_core::{digest::Digest, record::Version};
use kura_env::{DiskErrorKind, Instant};
use sim_storage::SimDisk;

use super::Run;
use crate::holdings::Holdings;

/// An image of a disk.
#[derive(Clone)]
pub(super) struct Snapshot {
    files: Vec<(String, Bytes)>,
    held: Holdings,
    at: Instant,
}

impl Snapshot {
    /// All files of a disk, as they are read now. `held` is what its node holds by its catalog.
    pub(super) fn of(disk: &SimDisk, held: Holdings, at: Instant) -> Self {
        let paths = disk.walk().into_iter().map(|file| file.path.as_str().to_owned());
        let files = paths.filter_map(|path| Some((path.clone(), disk.peek(&path)?)));
        Self { files: files.collect(), held, at }
    }

    /// What its node held by its catalog.
    pub(super) fn held(&self) -> &Holdings {
        &self.held
    }

    /// When it was taken.
    pub(super) fn at(&self) -> Instant {
        self.at
    }

    /// Replaces all that is on a disk of which no node is alive.
    pub(super) fn put_back(&self, disk: &SimDisk) -> Result<(), DiskErrorKind> {
        for file in disk.walk() {
            disk.lose(file.path.as_str())?;
        }
        self.files.iter().try_for_each(|(path, bytes)| disk.plant(path, bytes))
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: usize = self.files.iter().map(|(_, bytes)| bytes.len()).sum();
        let (files, held) = (self.files.len(), self.held.len());
        write!(f, "{files} files of {bytes} bytes, which hold {held} artifacts")
    }
}

impl Run {
    /// Counts the names under which nodes hold two bodies of one version now.
    pub(super) fn count_ties(&self) {
        if self.machines.len() < 2 || self.scenario.expect.ties_min == 0 {
            return;
        }
        let holdings: Vec<Holdings> = self.machines.iter().map(|it| it.holdings()).collect();
        let ties = ties(&holdings);
        if ties > 0 {
            self.tell(format!("{ties} names have two bodies of one version"));
        }
        let mut evidence = self.court.evidence();
        evidence.ties = evidence.ties.max(ties);
    }
}

/// Under how many names these nodes hold two bodies of one version.
fn ties(holdings: &[Holdings]) -> u64 {
    let mut bodies: BTreeMap<(&Bytes, Version), BTreeSet<Digest>> = BTreeMap::new();
    for (key, held) in holdings.iter().flatten() {
        bodies.entry((key, held.version)).or_default().insert(held.digest);
    }
    let names: BTreeSet<&Bytes> =
        bodies.iter().filter(|(_, bodies)| bodies.len() > 1).map(|((key, _), _)| *key).collect();
    u64::try_from(names.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use sim_engine::{NodeId, World, WorldConfig};
    use sim_storage::SimDiskConfig;

    use super::*;
    use crate::holdings::sample::{holdings, key};

    #[test]
    fn a_disk_is_again_as_it_was_when_its_image_was_taken() {
        let world = World::new(WorldConfig::from_seed(0));
        let disk = SimDisk::new(SimDiskConfig::default(), world.clock(NodeId::OPERATOR));
        let plant = |path: &str, bytes: &'static [u8]| {
            disk.plant(path, &Bytes::from_static(bytes)).unwrap();
        };
        plant("a/stays", b"one");
        plant("changes", b"before");
        let snapshot = Snapshot::of(&disk, Holdings::new(), Instant(7));
        plant("changes", b"and after");
        plant("b/new", b"more");
        disk.lose("a/stays").unwrap();
        snapshot.put_back(&disk).unwrap();
        let found: Vec<(String, Bytes)> = disk
            .walk()
            .into_iter()
            .map(|file| file.path.as_str().to_owned())
            .map(|path| (path.clone(), disk.peek(&path).unwrap()))
            .collect();
        let bytes = |bytes: &'static [u8]| Bytes::from_static(bytes);
        let then =
            vec![("a/stays".to_owned(), bytes(b"one")), ("changes".to_owned(), bytes(b"before"))];
        assert_eq!(found, then);
    }

    #[test]
    fn only_other_bodies_of_one_version_are_a_tie() {
        let held = |of: &[(&str, u64)]| holdings(of);
        let (here, mut there) = (held(&[("a", 1), ("b", 2)]), held(&[("a", 1), ("b", 3)]));
        assert_eq!(ties(&[here.clone(), there.clone()]), 0);
        there.get_mut(&key("a")).unwrap().digest = Digest::of(b"another one");
        assert_eq!(ties(&[here.clone(), there.clone(), here.clone()]), 1);
        there.get_mut(&key("b")).unwrap().digest = Digest::of(b"another one");
        assert_eq!(ties(&[here, there]), 1, "another version is none");
    }
}
