//! How long a node with a million artifacts takes to start: until it listens, until it is ready and
//! until the first hit, with its files in the page cache and without; and how long where the catalog
//! is gone and is made again from the segments, beside what the disk reads in order. Run by
//! `cargo xtask bench restart`; `TMPDIR` chooses the disk, which needs 8 GiB. Dropping the page cache
//! takes root; without it those rows say so.
#![allow(clippy::print_stdout, reason = "the tables are what the benchmark is for")]

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use kura_core::address::{Address, Space};
use kura_host::{HostOptions, host_env};
use kura_node::{
    config::{Durability, StoreConfig},
    device::Watched,
    metrics::Metrics,
    store::{Early, KEYSPACES, Store},
};
use kura_tests::{
    client::Client,
    node::{Home, Kura},
};
use tokio::{runtime::Handle, task::JoinSet};

const ARTIFACTS: u64 = 1_000_000;
const BODY_BYTES: u64 = 4096;
/// Puts under way at once.
const WRITERS: usize = 64;
const MIB: u64 = 1024 * 1024;
/// How the node is started; as it is filled below.
const FLAGS: [&str; 2] = ["--cas-capacity=16GiB", "--segment=512MiB"];
/// Each start is measured so often.
const ROUNDS: u64 = 3;
/// Between two questions to a node that does not serve yet.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// No start takes as long.
const START_TIME_MAX: Duration = Duration::from_secs(600);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("the system has threads").block_on(restarts());
}

async fn restarts() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let data = dir.path().join("data");
    println!("{ARTIFACTS} artifacts of {BODY_BYTES} bytes, in {}", dir.path().display());
    let took = fill(&data).await;
    println!("put in {:.0} s", took.as_secs_f64());
    // Compiles the program where nobody has.
    Home::with_data_in(&data).start(&FLAGS).await.stop().await;
    println!(
        "{:<28} {:>10} {:>12} {:>12} {:>8} {:>12}",
        "start", "listens s", "first hit s", "half back s", "ready s", "VmHWM MiB"
    );
    for round in 0..ROUNDS {
        Start::measure(&data, round).await.print("stopped, warm");
        if cold() {
            Start::measure(&data, round).await.print("stopped, cold");
        }
        kill(&data).await;
        Start::measure(&data, round).await.print("killed, warm");
        kill(&data).await;
        if cold() {
            Start::measure(&data, round).await.print("killed, cold");
        }
    }
    for round in 0..ROUNDS {
        rebuild(&data, round, "without catalog, warm", || true).await;
        rebuild(&data, round, "without catalog, cold", cold).await;
    }
}

/// Deletes the catalog and measures a start, between two reads of all segments in order.
async fn rebuild(data: &Path, round: u64, what: &str, prepared: impl Fn() -> bool) {
    fs::remove_dir_all(data.join("catalog")).expect("it has a catalog");
    if !prepared() {
        return;
    }
    let before = read_in_order(data);
    assert!(prepared(), "it was before");
    let start = Start::measure(data, round).await;
    start.print(what);
    assert!(prepared(), "it was before");
    let after = read_in_order(data);
    let seconds = start.ready.as_secs_f64();
    println!(
        "  {:.0} MB in {seconds:.2} s: {:.0} MB/s, {:.0} records/s; read in order {:.0} MB/s before, \
         {:.0} after",
        megabytes(before.0),
        megabytes(before.0) / seconds,
        count(ARTIFACTS) / seconds,
        megabytes(before.0) / before.1.as_secs_f64(),
        megabytes(after.0) / after.1.as_secs_f64(),
    );
}

/// Puts all artifacts, and closes the store in good order.
async fn fill(data: &Path) -> Duration {
    let host = host_env(HostOptions::new(data, &KEYSPACES), Handle::current());
    let host = host.expect("the directory can be made");
    let config = StoreConfig {
        segment_bytes: 512 * MIB,
        capacity_bytes: Some(16 * 1024 * MIB),
        staging_elsewhere: false,
        staging_bytes_max: 1024 * MIB,
        memory_bytes_max: 256 * MIB,
        memory_body_bytes_max: MIB / 4,
        index_bytes_max: 256 * MIB,
        body_bytes_max: 64 * MIB,
        durability: Durability::ProcessCrash,
        promise: Duration::ZERO,
        write_grace: Duration::ZERO,
        scrub_every: Duration::ZERO,
        feed_rows_max: kura_core::feed_rows::FEED_ROWS_MAX,
        scrub_bytes_per_second: 1 << 20,
    };
    let metrics = Arc::new(Metrics::default());
    let (env, early) = (host.env.clone(), Early::new(host.env.clone(), metrics));
    let store = Store::recover(Watched::new(env), config, &early, &|_| ()).await;
    let store = store.expect("an empty directory can be opened");
    let since = Instant::now();
    let mut tasks = JoinSet::new();
    for writer in (0..ARTIFACTS).take(WRITERS) {
        let store = store.clone();
        tasks.spawn(async move {
            for n in (writer..ARTIFACTS).step_by(WRITERS) {
                let address = Address::new("bench", Space::Plain, key(n));
                let address = address.expect("the key is legal");
                let upload = store.begin(address, Some(BODY_BYTES)).await;
                let mut upload = upload.expect("it is taken");
                upload.write(body(n)).await.expect("it fits");
                upload.publish().await.expect("it is stored");
            }
        });
    }
    tasks.join_all().await;
    let took = since.elapsed();
    store.close().await;
    host.env.catalog.close().await;
    took
}

/// What one start took, from the moment at which the process was started.
struct Start {
    listens: Duration,
    /// Until something that was put last was served.
    first_hit: Duration,
    /// Until something was served after which half of all was put.
    half_back: Duration,
    ready: Duration,
    peak_bytes: u64,
}

impl Start {
    /// Starts a node, waits for the first hit and until it is ready, reads some more, and stops it.
    async fn measure(data: &Path, round: u64) -> Self {
        let home = Home::with_data_in(data);
        let begun = Instant::now();
        let node = home.launch(&FLAGS).await;
        let listens = begun.elapsed();
        let mut client = Client::connect(node.addr()).await;
        // Not the same each time, because its pages would be in memory.
        let shift = round * 7919 % (ARTIFACTS / 2);
        let first_hit = answered(&mut client, &path(ARTIFACTS - 1 - shift), begun).await;
        let half_back = answered(&mut client, &path(ARTIFACTS / 2 - shift), begun).await;
        let ready = answered(&mut client, "/ready", begun).await;
        for n in (0..ARTIFACTS).step_by(1009) {
            let answer = client.get(&path(n)).await;
            assert!(answer.status == 200 && answer.body == body(n), "artifact {n} is missing");
        }
        let peak_bytes = peak_bytes(&node);
        drop(client);
        node.stop().await;
        Self { listens, first_hit, half_back, ready, peak_bytes }
    }

    fn print(&self, what: &str) {
        println!(
            "{what:<28} {:>10.3} {:>12.2} {:>12.2} {:>8.2} {:>12}",
            self.listens.as_secs_f64(),
            self.first_hit.as_secs_f64(),
            self.half_back.as_secs_f64(),
            self.ready.as_secs_f64(),
            self.peak_bytes / MIB
        );
    }
}

/// Asks until the answer is 200.
async fn answered(client: &mut Client, path: &str, begun: Instant) -> Duration {
    loop {
        let status = client.get(path).await.status;
        if status == 200 {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < START_TIME_MAX, "{path} is still answered {status}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Starts a node, puts something, and kills it.
async fn kill(data: &Path) {
    let home = Home::with_data_in(data);
    let mut node = home.start(&FLAGS).await;
    assert_eq!(node.put("/bench/last", "words").await.status, 201);
    node.kill();
}

/// The most memory that the process has had, the pages of mapped segments included.
fn peak_bytes(node: &Kura) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", node.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.expect("Linux says so") * 1024
}

/// Empties the page cache; says so where that is not allowed.
fn cold() -> bool {
    Command::new("sync").status().expect("there is such a program");
    let dropped = fs::write("/proc/sys/vm/drop_caches", "3");
    if let Err(error) = &dropped {
        println!("the page cache cannot be dropped: {error}");
    }
    dropped.is_ok()
}

/// Reads every segment from its beginning to its end, and says how many bytes that were.
fn read_in_order(data: &Path) -> (u64, Duration) {
    let mut buffer = vec![0; 1 << 20];
    let (since, mut bytes) = (Instant::now(), 0);
    for path in segments(data) {
        let mut file = File::open(path).expect("it was listed");
        loop {
            let read = file.read(&mut buffer).expect("it can be read");
            if read == 0 {
                break;
            }
            bytes += read as u64;
        }
    }
    (bytes, since.elapsed())
}

fn segments(data: &Path) -> Vec<PathBuf> {
    let list = |ring: &str| -> io::Result<Vec<PathBuf>> {
        fs::read_dir(data.join(ring))?.map(|entry| Ok(entry?.path())).collect()
    };
    let rings = ["blobs", "entries"].map(|ring| list(ring).expect("a ring has a directory"));
    let mut files = rings.concat();
    files.sort();
    files
}

fn key(n: u64) -> String {
    // The finaliser of SplitMix64: keys that are in no order.
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    format!("{:016x}", n ^ (n >> 31))
}

fn path(n: u64) -> String {
    format!("/bench/{}", key(n))
}

fn body(n: u64) -> Bytes {
    n.to_le_bytes().into_iter().cycle().take(4096).collect()
}

#[allow(clippy::cast_precision_loss, reason = "a rate needs no more than the digits of an f64")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[allow(clippy::cast_precision_loss, reason = "a rate needs no more than the digits of an f64")]
fn count(number: u64) -> f64 {
    number as f64
}
