//! What an artifact costs among ten thousand and among a million: memory, a put and a get of 4 KiB,
//! beside what the catalog and the file system take for the same alone; then reads from three
//! segments and from three hundred, and the longest step while a segment of tiny artifacts is
//! evicted. Run by `cargo xtask bench`; `TMPDIR` chooses the disk, which needs 8 GiB. A part alone:
//! `cargo bench -p kura-tests --bench scale -- eviction` (or `segments`, `growth`).
#![allow(clippy::print_stdout, reason = "the tables are what the benchmark is for")]

use std::{
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use kura_core::{
    address::{Address, Space},
    place::place_key,
};
use kura_env::{
    Batch, BoxFuture, Catalog, CatalogError, CatalogHealth, CommitDurability, Env, Keyspace, Row,
};
use kura_host::{HostOptions, host_env};
use kura_node::{
    config::{Durability, StoreConfig},
    metrics::Metrics,
    store::{Early, KEYSPACES, Store},
};

use tokio::{runtime::Handle, task::JoinSet};

/// Artifacts at which everything is measured.
const SIZES: [u64; 3] = [10_000, 100_000, 1_000_000];
const BODY_BYTES: usize = 4096;
/// Puts under way at once.
const WRITERS: u64 = 64;
/// Looks of each kind.
const LOOKS: u64 = 20_000;
/// The artifacts that are asked for again and again.
const HOT: u64 = 1000;
const MIB: u64 = 1024 * 1024;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("the system has threads").block_on(async {
        let named: Vec<String> =
            std::env::args().skip(1).filter(|it| !it.starts_with('-')).collect();
        let is_wanted = |part: &str| named.is_empty() || named.iter().any(|name| name == part);
        if is_wanted("eviction") {
            eviction().await;
        }
        if is_wanted("segments") {
            segments().await;
        }
        if is_wanted("growth") {
            growth().await;
        }
    });
}

/// An open store in a directory of its own.
struct Bed {
    store: Store,
    env: Env,
    metrics: Arc<Metrics>,
    watched: Arc<Watched>,
    dir: tempfile::TempDir,
}

impl Bed {
    async fn new(segment_bytes: u64, capacity_bytes: u64) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let host =
            host_env(HostOptions::new(dir.path().join("data"), &KEYSPACES), Handle::current());
        let mut env = host.expect("the directory can be made").env.clone();
        let watched = Arc::new(Watched::new(env.catalog.clone()));
        env.catalog = watched.clone();
        let config = StoreConfig {
            segment_bytes,
            capacity_bytes: Some(capacity_bytes),
            staging_bytes_max: 1024 * MIB,
            memory_bytes_max: 256 * MIB,
            memory_body_bytes_max: MIB / 4,
            index_bytes_max: 256 * MIB,
            staging_elsewhere: false,
            body_bytes_max: 64 * MIB,
            durability: Durability::ProcessCrash,
            promise: Duration::ZERO,
            write_grace: Duration::ZERO,
            scrub_every: Duration::ZERO,
            feed_rows_max: kura_core::feed_rows::FEED_ROWS_MAX,
            scrub_bytes_per_second: 1 << 20,
        };
        let metrics = Arc::new(Metrics::default());
        let early = Early::new(env.clone(), metrics.clone());
        let watched_env = kura_node::device::Watched::new(env.clone());
        let store = Store::recover(watched_env, config, &early, &|_| ()).await;
        let store = store.expect("an empty directory can be opened");
        Self { store, env, metrics, watched, dir }
    }

    /// Puts the artifacts `from..to`, by several writers. Gives what one put took, all in all.
    async fn fill(&self, from: u64, to: u64, body_bytes: usize) -> Duration {
        let since = Instant::now();
        let mut tasks = JoinSet::new();
        for writer in 0..WRITERS {
            let store = self.store.clone();
            tasks.spawn(async move {
                let first = from + (WRITERS + writer - from % WRITERS) % WRITERS;
                let mut n = first;
                while n < to {
                    let length = Some(body_bytes as u64);
                    let mut upload = store.begin(address(n), length).await.expect("it is taken");
                    upload.write(body(n, body_bytes)).await.expect("it fits");
                    upload.publish().await.expect("it is stored");
                    n += WRITERS;
                }
            });
        }
        tasks.join_all().await;
        since.elapsed() / u32::try_from(to - from).unwrap_or(u32::MAX)
    }

    /// Reads artifacts drawn from the first `among`, one after the other. Gives the median.
    async fn gets(&self, among: u64) -> Duration {
        let mut times = Vec::new();
        for look in 0..LOOKS {
            let n = draw(look) % among;
            let since = Instant::now();
            let opened = self.store.open(&address(n)).await.expect("the store is open");
            let mut reading = opened.expect("it is here");
            let mut bytes = 0;
            while let Some(data) = reading.next().await.expect("it can be read") {
                bytes += data.len();
            }
            times.push(since.elapsed());
            assert_eq!(bytes, BODY_BYTES);
        }
        median(times)
    }

    /// Looks the same artifacts up in the catalog alone.
    async fn catalog_gets(&self, among: u64) -> Duration {
        let mut times = Vec::new();
        for look in 0..LOOKS {
            let key = place_key(&address(draw(look) % among));
            let since = Instant::now();
            let row = self.env.catalog.get(Keyspace(kura_core::place::PLACES), &key).await;
            times.push(since.elapsed());
            assert!(row.expect("the catalog is open").is_some());
        }
        median(times)
    }
}

fn address(n: u64) -> Address {
    Address::new("bench", Space::Plain, format!("{:016x}", draw(n))).expect("the key is legal")
}

fn body(n: u64, body_bytes: usize) -> Bytes {
    n.to_le_bytes().into_iter().cycle().take(body_bytes).collect()
}

/// The finaliser of SplitMix64: the same numbers in every run.
fn draw(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Memory of this process that no file backs, in bytes.
fn anonymous_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the system is Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.expect("Linux says so since 4.5") * 1024
}

/// A put and a get among more and more artifacts.
async fn growth() {
    println!(
        "among so many artifacts of {BODY_BYTES} bytes, in {}",
        std::env::temp_dir().display()
    );
    println!("hot: {HOT} of them again and again; any: each equally often; the median of {LOOKS}");
    println!(
        "{:>10} {:>8} {:>11} {:>11} {:>15} {:>13} {:>13} {:>14}",
        "artifacts",
        "put us",
        "get hot us",
        "get any us",
        "catalog get us",
        "pread 4K us",
        "memory MiB",
        "bytes/artifact"
    );
    let bed = Bed::new(512 * MIB, 16 * 1024 * MIB).await;
    let before_bytes = anonymous_bytes();
    let mut from = 0;
    for size in SIZES {
        let put = bed.fill(from, size, BODY_BYTES).await;
        let (hot, any) = (bed.gets(HOT).await, bed.gets(size).await);
        let catalog = bed.catalog_gets(size).await;
        let pread = preads(bed.dir.path(), size);
        let grown_bytes = anonymous_bytes().saturating_sub(before_bytes);
        println!(
            "{size:>10} {:>8.1} {:>11.1} {:>11.1} {:>15.1} {:>13.1} {:>13} {:>14}",
            micros(put),
            micros(hot),
            micros(any),
            micros(catalog),
            micros(pread),
            grown_bytes / MIB,
            grown_bytes / size
        );
        from = size;
    }
    let store = &bed.metrics.store;
    println!("index: {} hits, {} misses", store.index_hits.get(), store.index_misses.get());
    bed.store.close().await;
}

/// What the system alone takes to read as much, from the largest file below `dir`.
fn preads(dir: &Path, among: u64) -> Duration {
    let segments = dir.join("data/blobs");
    let files = std::fs::read_dir(segments).expect("the ring has a directory");
    let largest = files.flatten().max_by_key(|file| file.metadata().map_or(0, |it| it.len()));
    let file = std::fs::File::open(largest.expect("it has a segment").path()).expect("it is there");
    let blocks = file.metadata().map_or(1, |it| it.len() / BODY_BYTES as u64).min(among).max(1);
    let mut buffer = [0; BODY_BYTES];
    let mut times = Vec::new();
    for look in 0..LOOKS {
        let at = draw(look) % blocks * BODY_BYTES as u64;
        let since = Instant::now();
        file.read_exact_at(&mut buffer, at).expect("it is as long");
        times.push(since.elapsed());
    }
    median(times)
}

/// The same artifacts in few segments and in many.
async fn segments() {
    const ARTIFACTS: u64 = 200_000;
    println!("{ARTIFACTS} artifacts in so many segments");
    println!("{:>10} {:>11} {:>11}", "segments", "get hot us", "get any us");
    for segment_bytes in [300 * MIB, 3 * MIB] {
        let bed = Bed::new(segment_bytes, 6 * 1024 * MIB).await;
        bed.fill(0, ARTIFACTS, BODY_BYTES).await;
        // Once before, so that the pages of every segment are mapped, as they are in a node that runs.
        bed.gets(ARTIFACTS).await;
        let (hot, any) = (bed.gets(HOT).await, bed.gets(ARTIFACTS).await);
        let segments = &bed.store.ring_status()["segments"];
        println!("{:>10} {:>11.1} {:>11.1}", segments.to_string(), micros(hot), micros(any));
        bed.store.close().await;
    }
    println!();
}

/// A ring of segments that each hold more than 100,000 artifacts of 16 bytes: while it fills, and
/// while it turns, so that what eviction adds can be told from what the system does anyway.
async fn eviction() {
    const SEGMENT_BYTES: u64 = 20 * MIB;
    const FILLING: u64 = 500_000;
    const TURNING: u64 = 700_000;
    let bed = Bed::new(SEGMENT_BYTES, 8 * SEGMENT_BYTES).await;
    let store = &bed.metrics.store;
    println!(
        "artifacts of 16 bytes, {WRITERS} writers; calls of the catalog and a timer of 1 ms, in ms"
    );
    println!(
        "{:>8} {:>9} {:>8} {:>10} | {:>8} {:>8} {:>6} {:>6} | {:>8} {:>6} {:>6} | {:>6} {:>6}",
        "ring",
        "puts/s",
        "evicted",
        "artifacts",
        "commit",
        "rows max",
        "p99.9",
        "max",
        "range",
        "p99.9",
        "max",
        "late",
        "max"
    );
    for (ring, from, to) in [("fills", 0, FILLING), ("turns", FILLING, FILLING + TURNING)] {
        bed.watched.begin();
        let late = Arc::new(Calls::default());
        let ticker = tokio::spawn(watch_lateness(late.clone()));
        let put = bed.fill(from, to, 16).await;
        ticker.abort();
        let (commits, ranges) = (bed.watched.commit.read(), bed.watched.range.read());
        let late = late.read();
        println!(
            "{ring:>8} {:>9.0} {:>8} {:>10} | {:>8} {:>8} {:>6.1} {:>6.1} | {:>8} {:>6.1} {:>6.1} | \
             {:>6.1} {:>6.1}",
            1e6 / micros(put),
            store.evicted_segments.get(),
            store.evicted_artifacts.get(),
            commits.count,
            bed.watched.rows.load(Relaxed),
            commits.high_ms,
            commits.longest_ms,
            ranges.count,
            ranges.high_ms,
            ranges.longest_ms,
            late.high_ms,
            late.longest_ms
        );
    }
    println!();
    bed.store.close().await;
}

/// Notes how late a timer is: what the threads of the runtime were held for.
async fn watch_lateness(late: Arc<Calls>) {
    let pause = Duration::from_millis(1);
    loop {
        let since = Instant::now();
        tokio::time::sleep(pause).await;
        late.note(since.elapsed().saturating_sub(pause));
    }
}

/// How long calls of one kind took, in microseconds.
#[derive(Default)]
struct Calls(Mutex<Vec<u64>>);

/// Of some calls.
#[derive(Default)]
struct Spread {
    count: usize,
    /// That of a thousand calls which one exceeds.
    high_ms: f64,
    longest_ms: f64,
}

impl Calls {
    fn times(&self) -> MutexGuard<'_, Vec<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, took: Duration) {
        self.times().push(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    fn read(&self) -> Spread {
        let mut times = self.times().clone();
        times.sort_unstable();
        let millis = |at: usize| times.get(at).map_or(0.0, |micros| *micros as f64 / 1e3);
        let count = times.len();
        let (high, longest) = (count - count / 1000, count);
        Spread {
            count,
            high_ms: millis(high.saturating_sub(1)),
            longest_ms: millis(longest.saturating_sub(1)),
        }
    }
}

/// A catalog of which the calls are timed.
struct Watched {
    inner: Arc<dyn Catalog>,
    commit: Calls,
    range: Calls,
    /// In the largest batch.
    rows: AtomicU64,
}

impl Watched {
    fn new(inner: Arc<dyn Catalog>) -> Self {
        Self { inner, commit: Calls::default(), range: Calls::default(), rows: AtomicU64::new(0) }
    }

    /// Forgets what was noted.
    fn begin(&self) {
        self.commit.times().clear();
        self.range.times().clear();
        self.rows.store(0, Relaxed);
    }
}

async fn timed<T>(calls: &Calls, call: BoxFuture<'_, T>) -> T {
    let since = Instant::now();
    let outcome = call.await;
    calls.note(since.elapsed());
    outcome
}

impl Catalog for Watched {
    fn open(&self) -> BoxFuture<'_, Result<(), CatalogError>> {
        self.inner.open()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.inner.close()
    }

    fn set_aside(&self) -> BoxFuture<'_, Result<(), CatalogError>> {
        self.inner.set_aside()
    }

    fn health(&self) -> CatalogHealth {
        self.inner.health()
    }

    fn get<'a>(
        &'a self,
        space: Keyspace,
        key: &'a [u8],
    ) -> BoxFuture<'a, Result<Option<Bytes>, CatalogError>> {
        self.inner.get(space, key)
    }

    fn range<'a>(
        &'a self,
        space: Keyspace,
        from: &'a [u8],
        to: &'a [u8],
        rows_max: usize,
    ) -> BoxFuture<'a, Result<Vec<Row>, CatalogError>> {
        Box::pin(timed(&self.range, self.inner.range(space, from, to, rows_max)))
    }

    fn commit(
        &self,
        batch: Batch,
        durability: CommitDurability,
    ) -> BoxFuture<'_, Result<(), CatalogError>> {
        self.rows.fetch_max(batch.len() as u64, Relaxed);
        Box::pin(timed(&self.commit, self.inner.commit(batch, durability)))
    }
}
