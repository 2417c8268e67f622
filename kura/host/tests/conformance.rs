//! The real world keeps the contracts of its seams.

use std::{future::Future, path::Path, process::Command, sync::Arc, time::Duration};

use kura_env::{
    Catalog, Clock, Disk, DiskErrorKind, DiskPath, Entropy, EntropyStream, Net, Tasks, conformance,
};
use kura_host::{HostCatalog, HostClock, HostDisk, HostEntropy, HostNet, HostTasks};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};
use tokio::runtime::Handle;

/// A suite that hangs is broken too.
const SUITE_TIMEOUT: Duration = Duration::from_secs(60);

/// Seeds of the random operations; a failure names the one it came from.
const SEEDS: std::ops::Range<u64> = 0..4;

/// Operations drawn from each seed.
const OPERATIONS: usize = 500;

struct Seeded(ChaCha8Rng);

impl EntropyStream for Seeded {
    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }
}

/// Where the disk is tried: on what the machine builds on, and in memory.
const PLACES: [&str; 2] = [env!("CARGO_TARGET_TMPDIR"), "/dev/shm"];

async fn within_limit(suite: impl Future<Output = ()>) {
    tokio::time::timeout(SUITE_TIMEOUT, suite).await.expect("the suite hangs");
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(HostClock::new())
}

fn tasks() -> Arc<dyn Tasks> {
    Arc::new(HostTasks::new(Handle::current(), 2).expect("the system has threads"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clock_keeps_its_contract() {
    within_limit(conformance::clock::suite(clock())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entropy_keeps_its_contract() {
    let entropy: Arc<dyn Entropy> = Arc::new(HostEntropy);
    within_limit(conformance::entropy::suite(entropy)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_keep_their_contract() {
    within_limit(conformance::tasks::suite(tasks(), clock())).await;
    within_limit(conformance::tasks::panics(tasks())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn net_keeps_its_contract_over_both_families() {
    let net: Arc<dyn Net> = Arc::new(HostNet);
    for bind in ["127.0.0.1:0", "[::1]:0"] {
        let world = conformance::net::World {
            server: net.clone(),
            client: net.clone(),
            bind: bind.parse().unwrap(),
            clock: clock(),
        };
        within_limit(conformance::net::suite(world)).await;
    }
    let local = net.resolve("localhost", 80).await.unwrap();
    assert!(local.contains(&"127.0.0.1:80".parse().unwrap()), "{local:?}");
    assert!(local.is_sorted());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disk_keeps_its_contract_on_a_device_and_in_memory() {
    for place in PLACES {
        let root = tempfile::tempdir_in(place).unwrap();
        let disk: Arc<dyn Disk> = Arc::new(HostDisk::new(root.path(), 4).unwrap());
        within_limit(conformance::disk::suite(disk.clone())).await;
        for seed in SEEDS {
            eprintln!("{place}, seed {seed}");
            let draws = &mut Seeded(ChaCha8Rng::seed_from_u64(seed));
            let operations = conformance::disk::random_operations(disk.clone(), draws, OPERATIONS);
            within_limit(operations).await;
        }
    }
}

/// A file system of its own; unmounted on drop.
struct Mount(tempfile::TempDir);

impl Mount {
    /// Mounts what `source` names, or says why that cannot be.
    fn new(options: &[&str], source: &Path) -> Result<Self, String> {
        let at = tempfile::tempdir().expect("there is room for a directory");
        command(Command::new("mount").args(options).arg(source).arg(at.path()))?;
        Ok(Self(at))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: files are closed on threads of their own.
        Command::new("umount").arg("--lazy").arg(self.0.path()).status().ok();
    }
}

fn command(command: &mut Command) -> Result<(), String> {
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(format!("{}: {error}", command.get_program().to_string_lossy())),
    }
}

/// An ext4 of 64 MiB in a file.
fn small_ext4(image: &Path) -> Result<Mount, String> {
    std::fs::File::create(image).and_then(|file| file.set_len(64 << 20)).expect("an empty image");
    command(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(image))?;
    Mount::new(&["-o", "loop"], image)
}

#[allow(clippy::print_stdout, reason = "the words are read from the standard output of the suite")]
async fn tells_the_truth_about_its_space(name: &str, mount: Result<Mount, String>) {
    match mount {
        Ok(mount) => {
            let disk: Arc<dyn Disk> =
                Arc::new(HostDisk::new(mount.0.path(), 2).expect("it was mounted"));
            within_limit(conformance::disk::alone(disk)).await;
        }
        Err(reason) => println!("SKIPPED {name}: {reason}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_in_memory_tells_the_truth_about_its_space() {
    let mount = Mount::new(&["-t", "tmpfs", "-o", "size=64m"], Path::new("kura-test"));
    let name = "a_disk_in_memory_tells_the_truth_about_its_space";
    tells_the_truth_about_its_space(name, mount).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ext4_tells_the_truth_about_its_space() {
    let dir = tempfile::tempdir_in(PLACES[0]).unwrap();
    let mount = small_ext4(&dir.path().join("image"));
    tells_the_truth_about_its_space("an_ext4_tells_the_truth_about_its_space", mount).await;
}

#[allow(clippy::print_stdout, reason = "the words are read from the standard output of the suite")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_became_read_only_is_still_read() {
    let mount = match Mount::new(&["-t", "tmpfs", "-o", "size=1m"], Path::new("kura-test")) {
        Ok(mount) => mount,
        Err(reason) => {
            return println!("SKIPPED a_disk_that_became_read_only_is_still_read: {reason}");
        }
    };
    std::fs::write(mount.0.path().join("file"), "kept").unwrap();
    let disk = HostDisk::new(mount.0.path(), 2).expect("it was mounted");
    command(Command::new("mount").args(["-o", "remount,ro"]).arg(mount.0.path())).unwrap();
    let file = disk.open(&DiskPath::new("file")).await.unwrap();
    assert_eq!(file.read_at(0, 4).await.unwrap(), "kept");
    assert!(file.append(vec!["more".into()]).await.is_err());
    let made = disk.create(&DiskPath::new("new")).await;
    assert_eq!(made.err().map(|error| error.kind), Some(DiskErrorKind::ReadOnly));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn catalog_keeps_its_contract() {
    let root = tempfile::tempdir_in(PLACES[0]).unwrap();
    let spaces = &conformance::catalog::SPACES;
    let catalog: Arc<dyn Catalog> =
        Arc::new(HostCatalog::new(root.path().join("catalog"), spaces).unwrap());
    within_limit(conformance::catalog::suite(catalog.clone())).await;
    for seed in SEEDS {
        eprintln!("seed {seed}");
        let catalog: Arc<dyn Catalog> =
            Arc::new(HostCatalog::new(root.path().join(seed.to_string()), spaces).unwrap());
        catalog.open().await.unwrap();
        let draws = &mut Seeded(ChaCha8Rng::seed_from_u64(seed));
        within_limit(conformance::catalog::random_operations(catalog, draws, OPERATIONS)).await;
    }
}
