//! How many durable 4 KiB puts a node does, beside what its disk can do: through the store, and over
//! HTTP against a running `kura`. Run by `cargo xtask bench`; `TMPDIR` chooses the disk.
//!
//! A disk syncs so many times a second and no more. Each row says how many puts shared one sync, and
//! sets the rate of puts against two rates of the disk itself, taken before and after the row with
//! writes of the same size: a file that grows, as a log without preallocation would, and one that is
//! overwritten in place, where nothing but the bytes has to reach the disk.
#![allow(clippy::print_stdout, reason = "the table is what the benchmark is for")]

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::Path,
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
use kura_tests::{client::Client, node::Home};
use tokio::{runtime::Handle, task::JoinSet};

/// Bytes of a body, and of each write of the disk's own rate.
const BODY_BYTES: usize = 4096;

/// Writers at once, one row each.
const WRITERS: [u64; 4] = [1, 8, 64, 256];

/// How long each rate is measured.
const PUTS_TIME: Duration = Duration::from_secs(4);
const SYNCS_TIME: Duration = Duration::from_secs(1);

const MIB: u64 = 1024 * 1024;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("the system has threads").block_on(all());
}

async fn all() {
    println!("durable puts of {BODY_BYTES} bytes, in {}", std::env::temp_dir().display());
    println!(
        "{:<6} {:>7} {:>8} {:>7} {:>7} {:>9} {:>9} {:>6} {:>12} {:>6}",
        "path",
        "writers",
        "puts/s",
        "p50 ms",
        "p99 ms",
        "puts/sync",
        "appends/s",
        "ratio",
        "overwrites/s",
        "ratio"
    );
    for writers in WRITERS {
        row("store", writers, async |dir| through_the_store(dir, writers).await).await;
    }
    for writers in WRITERS {
        row("http", writers, async |dir| over_http(dir, writers).await).await;
    }
}

/// What one measurement gave.
struct Puts {
    /// How long each put took, sorted.
    times: Vec<Duration>,
    /// How long all of it took.
    took: Duration,
    /// How often the node synced a segment.
    syncs: u64,
}

impl Puts {
    fn quantile_ms(&self, share: usize) -> f64 {
        let at = (self.times.len() * share / 100).min(self.times.len() - 1);
        self.times[at].as_secs_f64() * 1000.0
    }
}

async fn row(path: &str, writers: u64, measure: impl AsyncFnOnce(&Path) -> Puts) {
    let dir = tempfile::tempdir().expect("there is room for a directory");
    let before = Disk::measure(dir.path());
    let puts = measure(dir.path()).await;
    let after = Disk::measure(dir.path());
    let rate = per_second(puts.times.len(), puts.took);
    let appends = f64::midpoint(before.appends, after.appends);
    let overwrites = f64::midpoint(before.overwrites, after.overwrites);
    println!(
        "{path:<6} {writers:>7} {rate:>8.0} {:>7.2} {:>7.2} {:>9.1} {appends:>9.0} {:>5.1}x \
         {overwrites:>12.0} {:>5.1}x",
        puts.quantile_ms(50),
        puts.quantile_ms(99),
        ratio(puts.times.len(), puts.syncs),
        rate / appends,
        rate / overwrites,
    );
}

/// How many writes of one body the disk does in a second when each is synced.
struct Disk {
    /// To a file that grows.
    appends: f64,
    /// To a file whose blocks are there.
    overwrites: f64,
}

impl Disk {
    fn measure(dir: &Path) -> Self {
        let path = dir.join("disk");
        let file = File::create(&path).expect("the directory takes files");
        let appends = syncs_per_second(&file, |turn| turn * BODY_BYTES as u64);
        let blocks = file.metadata().expect("it is open").len() / BODY_BYTES as u64;
        let overwrites = syncs_per_second(&file, |turn| turn % blocks * BODY_BYTES as u64);
        std::fs::remove_file(path).expect("it was made above");
        Self { appends, overwrites }
    }
}

/// How often the disk syncs a write of one body, each of which goes where `offset` says.
fn syncs_per_second(file: &File, offset: impl Fn(u64) -> u64) -> f64 {
    let body = [7; BODY_BYTES];
    let (since, mut turn) = (Instant::now(), 0);
    while since.elapsed() < SYNCS_TIME {
        file.write_all_at(&body, offset(turn)).expect("the disk has room");
        file.sync_data().expect("the disk syncs");
        turn += 1;
    }
    per_second(usize::try_from(turn).unwrap_or(usize::MAX), since.elapsed())
}

#[allow(clippy::cast_precision_loss, reason = "a rate needs no more than the digits of an f64")]
fn per_second(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

#[allow(clippy::cast_precision_loss, reason = "a ratio needs no more than the digits of an f64")]
fn ratio(puts: usize, syncs: u64) -> f64 {
    puts as f64 / syncs as f64
}

/// A body, different for each writer and turn.
fn body(writer: u64, turn: u64) -> Bytes {
    let name = format!("{writer}-{turn}-").into_bytes();
    name.into_iter().cycle().take(BODY_BYTES).collect()
}

/// Runs one task for each writer, which puts one body after the other until time is up.
async fn run<W: Writer>(writers: Vec<W>) -> (Vec<Duration>, Duration) {
    let since = Instant::now();
    let mut tasks = JoinSet::new();
    for (writer, mut put) in (0_u64..).zip(writers) {
        tasks.spawn(async move {
            let (mut times, mut turn) = (Vec::new(), 0);
            while since.elapsed() < PUTS_TIME {
                let begun = Instant::now();
                put.put(writer, turn).await;
                times.push(begun.elapsed());
                turn += 1;
            }
            times
        });
    }
    let mut times = tasks.join_all().await.concat();
    times.sort_unstable();
    (times, since.elapsed())
}

/// Puts one body after the other.
trait Writer: Send + 'static {
    fn put(&mut self, writer: u64, turn: u64) -> impl Future<Output = ()> + Send;
}

impl Writer for Store {
    async fn put(&mut self, writer: u64, turn: u64) {
        let address = Address::new("bench", Space::Plain, format!("{writer}-{turn}"));
        let address = address.expect("the key is legal");
        let body = body(writer, turn);
        let mut upload = self.begin(address, Some(BODY_BYTES as u64)).await.expect("it is taken");
        upload.write(body).await.expect("it fits");
        upload.publish().await.expect("it is stored");
    }
}

impl Writer for Client {
    async fn put(&mut self, writer: u64, turn: u64) {
        let answer =
            Client::put(self, &format!("/bench/{writer}-{turn}"), body(writer, turn)).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
    }
}

async fn through_the_store(dir: &Path, writers: u64) -> Puts {
    let host = host_env(HostOptions::new(dir.join("data"), &KEYSPACES), Handle::current());
    let host = host.expect("the directory can be made");
    let config = StoreConfig {
        segment_bytes: 512 * MIB,
        capacity_bytes: Some(8 * 512 * MIB),
        staging_elsewhere: false,
        staging_bytes_max: 1024 * MIB,
        memory_bytes_max: 256 * MIB,
        memory_body_bytes_max: MIB / 4,
        index_bytes_max: 256 * MIB,
        body_bytes_max: 64 * MIB,
        durability: Durability::PowerLoss,
        promise: Duration::ZERO,
        write_grace: Duration::ZERO,
        scrub_every: Duration::ZERO,
        feed_rows_max: kura_core::feed_rows::FEED_ROWS_MAX,
        scrub_bytes_per_second: 1 << 20,
    };
    let metrics = Arc::new(Metrics::default());
    let (env, early) = (host.env.clone(), Early::new(host.env.clone(), metrics.clone()));
    let store = Store::recover(Watched::new(env), config, &early, &|_| ()).await;
    let store = store.expect("an empty directory can be opened");
    let syncs = metrics.store.segment_syncs.get();
    let (times, took) = run((0..writers).map(|_| store.clone()).collect()).await;
    let syncs = metrics.store.segment_syncs.get() - syncs;
    store.close().await;
    Puts { times, took, syncs }
}

async fn over_http(dir: &Path, writers: u64) -> Puts {
    let home = Home::with_data_in(&dir.join("data"));
    let node = home.start(&["--cas-capacity=4GiB"]).await;
    let mut clients = Vec::new();
    for _ in 0..writers {
        clients.push(Client::connect(node.addr()).await);
    }
    let syncs = node.metric("kura_store_segment_syncs_total").await;
    let (times, took) = run(clients).await;
    let syncs = node.metric("kura_store_segment_syncs_total").await - syncs;
    node.stop().await;
    Puts { times, took, syncs }
}
