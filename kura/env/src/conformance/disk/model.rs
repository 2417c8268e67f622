//! Drawn operations against a disk and against a plain model in memory, compared at every step.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use super::{at, base, kind, len, names_in, prepare, read, remove, wide};
use crate::{Disk, DiskErrorKind, EntropyStream, File};

/// Runs `count` drawn operations against `disk` and against a plain model in memory, and compares
/// what both tell.
///
/// # Panics
///
/// Where they differ; the message tells the operation's number.
pub async fn random_operations(disk: Arc<dyn Disk>, draws: &mut dyn EntropyStream, count: usize) {
    let mut model = Model { disk: &*disk, files: BTreeMap::new(), step: 0 };
    prepare(&*disk).await;
    for step in 0..count {
        model.step = step;
        model.operation(draws).await;
    }
    for name in model.files.keys() {
        remove(&*disk, &at(name)).await;
    }
    assert_eq!(names_in(&*disk, &base()).await, [""; 0], "the model left something behind");
}

/// How many names the model draws from, and how long its files may become.
const NAMES: u64 = 6;
const MODEL_BYTES_MAX: u64 = 100_000;

struct Model<'a> {
    disk: &'a dyn Disk,
    /// The bytes of each file, with a handle that stays open as long as the file has its name.
    files: BTreeMap<String, (Vec<u8>, Arc<dyn File>)>,
    step: usize,
}

impl Model<'_> {
    async fn operation(&mut self, draws: &mut dyn EntropyStream) {
        let name = format!("file-{}", below(draws, NAMES));
        match below(draws, 12) {
            0..=2 => self.create(&name).await,
            3..=5 => self.append(&name, draws).await,
            6..=7 => self.write_at(&name, draws).await,
            8 => self.rename(&name, &format!("file-{}", below(draws, NAMES))).await,
            9 => self.unlink(&name).await,
            10 => self.sync(&name).await,
            _ => self.list().await,
        }
        self.compare(&name, draws).await;
    }

    async fn create(&mut self, name: &str) {
        let created = self.disk.create(&at(name)).await;
        if self.files.contains_key(name) {
            assert_eq!(kind(created.map(drop)), DiskErrorKind::AlreadyExists, "step {}", self.step);
        } else {
            let file = created.expect("a free name");
            self.files.insert(name.to_owned(), (Vec::new(), file));
        }
    }

    async fn append(&mut self, name: &str, draws: &mut dyn EntropyStream) {
        let Some((bytes, file)) = self.files.get_mut(name) else { return };
        let parts: Vec<Bytes> = (0..=below(draws, 3)).map(|_| drawn_bytes(draws)).collect();
        if wide(bytes.len()) < MODEL_BYTES_MAX {
            bytes.extend(parts.iter().flatten());
            file.append(parts).await.expect("append");
        }
    }

    async fn write_at(&mut self, name: &str, draws: &mut dyn EntropyStream) {
        let Some((bytes, file)) = self.files.get_mut(name) else { return };
        let offset = below(draws, MODEL_BYTES_MAX);
        let data = drawn_bytes(draws);
        let start = usize::try_from(offset).expect("a small offset");
        if !data.is_empty() {
            bytes.resize(bytes.len().max(start + data.len()), 0);
            bytes[start..start + data.len()].copy_from_slice(&data);
        }
        file.write_at(offset, data).await.expect("write_at");
    }

    async fn rename(&mut self, from: &str, to: &str) {
        let renamed = self.disk.rename(&at(from), &at(to)).await;
        match self.files.remove(from) {
            Some(file) => {
                renamed.expect("rename");
                self.files.insert(to.to_owned(), file);
            }
            None => assert_eq!(kind(renamed), DiskErrorKind::NotFound, "step {}", self.step),
        }
    }

    async fn unlink(&mut self, name: &str) {
        let unlinked = self.disk.unlink(&at(name)).await;
        match self.files.remove(name) {
            Some((bytes, file)) => {
                unlinked.expect("unlink");
                let found = file.read_at(0, bytes.len() + 1).await.expect("read");
                assert!(found == bytes, "step {}: unlinking {name} changed its bytes", self.step);
            }
            None => assert_eq!(kind(unlinked), DiskErrorKind::NotFound, "step {}", self.step),
        }
    }

    async fn sync(&mut self, name: &str) {
        if let Some((_, file)) = self.files.get(name) {
            file.sync_data().await.expect("sync_data");
        }
        self.disk.sync_dir(&base()).await.expect("sync_dir");
    }

    async fn list(&mut self) {
        let entries = self.disk.list(&base()).await.expect("list");
        let told: Vec<_> =
            entries.iter().map(|entry| (entry.name.as_str(), entry.len_bytes)).collect();
        let expected: Vec<_> =
            self.files.iter().map(|(name, file)| (name.as_str(), wide(file.0.len()))).collect();
        assert_eq!(told, expected, "step {}", self.step);
    }

    async fn compare(&self, name: &str, draws: &mut dyn EntropyStream) {
        let Some((bytes, file)) = self.files.get(name) else { return };
        let step = self.step;
        assert_eq!(len(&**file).await, wide(bytes.len()), "step {step}: the length of {name}");
        let offset = below(draws, wide(bytes.len()) + 10);
        let wanted = usize::try_from(below(draws, 20_000)).expect("a small number");
        let from = usize::try_from(offset).expect("a small offset").min(bytes.len());
        let to = (from + wanted).min(bytes.len());
        let found = read(&**file, offset, wanted).await;
        assert!(found == bytes[from..to], "step {step}: {wanted} bytes of {name} at {offset}");
    }
}

fn below(draws: &mut dyn EntropyStream, bound: u64) -> u64 {
    draws.next_u64() % bound
}

fn drawn_bytes(draws: &mut dyn EntropyStream) -> Bytes {
    let bound = [1, 100, 5000, 30_000][usize::from(draws.next_u64().to_le_bytes()[0] % 4)];
    let mut bytes = vec![0; usize::try_from(below(draws, bound)).expect("a small number")];
    draws.fill(&mut bytes);
    Bytes::from(bytes)
}
