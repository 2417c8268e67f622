//! What a pass costs between two nodes that hold nearly the same: time and bytes by how much differs, over real
//! connections on loopback. One node holds all artifacts; the other one all but some that are spread evenly, and
//! starts with the first one for its peer. And how fast an empty node takes in small artifacts and large ones, beside how
//! fast the same disk takes in as many bytes. Run by `cargo xtask bench reconcile`; `TMPDIR` chooses the disk, which
//! needs 8 GiB.
#![allow(clippy::print_stdout, reason = "the tables are what the benchmark is for")]

use std::{
    io::Write as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use kura_core::{
    address::{Address, Space},
    feed::FeedRow,
};
use kura_host::{HostOptions, host_env};
use kura_node::{
    config::{Durability, StoreConfig},
    device::Watched,
    metrics::Metrics,
    store::{Early, KEYSPACES, Store},
};
use kura_tests::node::{Home, Kura};
use tokio::{runtime::Handle, task::JoinSet};

/// How many artifacts, of how many bytes, and how many of a hundred of them the second node lacks.
const ROUNDS: [(u64, u64, &[u64]); 5] = [
    (1_000_000, 64, &[0, 1]),
    (100_000, 64, &[0, 1, 2, 5, 10, 25, 50, 75, 100]),
    (40_000, 4 * 1024, &[100]),
    (8_000, 64 * 1024, &[100]),
    (48, 8 * MIB, &[100]),
];
/// Writes under way at once.
const WRITERS: u64 = 64;
/// Rows that are read together.
const PAGE_ROWS: usize = 1000;
const MIB: u64 = 1024 * 1024;
/// How the nodes are started; as they are filled below.
const FLAGS: [&str; 2] = ["--cas-capacity=2GiB", "--segment=64MiB"];
/// Between two questions to a node that is not ready yet.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// No pass takes as long.
const PASS_TIME_MAX: Duration = Duration::from_secs(600);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("the system has threads").block_on(passes());
}

async fn passes() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    println!("in {}", dir.path().display());
    for (artifacts, body_bytes, lacking) in ROUNDS {
        let whole = dir.path().join(format!("whole-{artifacts}"));
        let body = Bytes::from(vec![7; usize::try_from(body_bytes).expect("it fits into memory")]);
        let rows = Arc::new(fill(&whole, artifacts, &body).await);
        println!(
            "{:>10} {:>9} {:>9} {:>9} {:>9} {:>12} {:>14} {:>12} {:>9} {:>8} {:>10}",
            "artifacts",
            "bytes each",
            "lacking",
            "pass s",
            "ranges",
            "bytes moved",
            "a lacking one",
            "of bodies B",
            "a second",
            "MB/s",
            "recovery s"
        );
        for percent in lacking {
            let part = dir.path().join(format!("part-{artifacts}-{percent}"));
            fill_part(&part, &rows, &body, *percent).await;
            compare(&whole, &part, (artifacts, body_bytes)).await;
            std::fs::remove_dir_all(&part).expect("it can be removed");
        }
        let bytes_a_second = write_plainly(&dir.path().join("plain"), artifacts, &body);
        println!("as many bytes to one file, and synced: {:.0} MB/s", bytes_a_second / 1e6);
    }
}

/// Writes as many bodies to a file, one behind the other, and syncs it: bytes in a second.
fn write_plainly(path: &Path, artifacts: u64, body: &[u8]) -> f64 {
    let begun = Instant::now();
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).expect("it can be made"));
    for _ in 0..artifacts {
        file.write_all(body).expect("there is room");
    }
    file.into_inner().expect("it is written").sync_all().expect("it is synced");
    let took = begun.elapsed();
    std::fs::remove_file(path).expect("it can be removed");
    a_second(artifacts * body.len() as u64, took)
}

#[allow(clippy::cast_precision_loss, reason = "a rate needs no more than the digits of an f64")]
fn a_second(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// Starts both nodes, and waits until the second one is ready.
async fn compare(whole: &Path, part: &Path, (artifacts, body_bytes): (u64, u64)) {
    let ports = free_ports();
    let flags = |own: u16, peer: u16| {
        let flags = FLAGS.map(str::to_owned).into_iter();
        let peers = [format!("--internal-port={own}"), format!("--peers=127.0.0.1:{peer}")];
        flags.chain(peers).collect::<Vec<String>>()
    };
    let (home, other) = (Home::with_data_in(whole), Home::with_data_in(part));
    // The first one has itself alone for a peer, so that one pass is made, and not two.
    let first = start(&home, &flags(ports[0], ports[0])).await;
    // Asked while it reads its data back it would be asked again after a pause.
    until(&first, &[], "ready").await;
    let before = moved_bytes(&first).await;
    let begun = Instant::now();
    let second = start(&other, &flags(ports[1], ports[0])).await;
    until(&second, &["starting", "recovering"], "has read its data back").await;
    let recovered = Instant::now();
    until(&second, &[], "has compared").await;
    let took = recovered.elapsed();
    let moved = moved_bytes(&first).await - before;
    let lacking = second.metric("kura_replication_fetched_total").await;
    let ranges = second.metric("kura_replication_ranges_compared_total").await;
    println!(
        "{artifacts:>10} {body_bytes:>9} {lacking:>9} {:>9.3} {ranges:>9} {moved:>12} {:>14} {:>12} {:>9.0} {:>8.1} \
         {:>10.2}",
        took.as_secs_f64(),
        moved.checked_div(lacking).map_or_else(|| "-".to_owned(), |bytes| format!("{bytes} B")),
        lacking * body_bytes,
        a_second(lacking, took),
        a_second(lacking * body_bytes, took) / 1e6,
        recovered.duration_since(begun).as_secs_f64(),
    );
    second.stop().await;
    first.stop().await;
}

async fn start(home: &Home, flags: &[String]) -> Kura {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    home.launch(&flags).await
}

/// Waits until `/ready` is 200, or, if there are any `states`, says none of these.
async fn until(node: &Kura, states: &[&str], what: &str) {
    let begun = Instant::now();
    loop {
        let answer = node.get("/ready").await;
        let text = answer.text();
        let is_other = !states.is_empty() && !states.iter().any(|state| text.contains(state));
        if answer.status == 200 || is_other {
            return;
        }
        assert!(begun.elapsed() < PASS_TIME_MAX, "not until now: {what}: {}", answer.text());
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Bytes of the peer plane, both ways.
async fn moved_bytes(node: &Kura) -> u64 {
    let metrics = node.get("/metrics").await.text();
    let series =
        metrics.lines().filter(|line| line.starts_with("kura_peer_connection_bytes_total"));
    series.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

fn free_ports() -> Vec<u16> {
    let bind = |_| std::net::TcpListener::bind(("127.0.0.1", 0)).expect("loopback has free ports");
    let held: Vec<_> = (0..2).map(bind).collect();
    held.iter().map(|listener| listener.local_addr().expect("it is bound").port()).collect()
}

async fn open(data: &Path) -> (kura_env::Env, Store) {
    let host = host_env(HostOptions::new(data, &KEYSPACES), Handle::current());
    let env = host.expect("the directory can be made").env;
    let config = StoreConfig {
        segment_bytes: 64 * MIB,
        capacity_bytes: Some(2048 * MIB),
        staging_elsewhere: false,
        staging_bytes_max: 256 * MIB,
        memory_bytes_max: 64 * MIB,
        memory_body_bytes_max: MIB / 4,
        index_bytes_max: 256 * MIB,
        body_bytes_max: 16 * MIB,
        durability: Durability::ProcessCrash,
        promise: Duration::ZERO,
        write_grace: Duration::ZERO,
        scrub_every: Duration::ZERO,
        feed_rows_max: kura_core::feed_rows::FEED_ROWS_MAX,
        scrub_bytes_per_second: 1 << 20,
    };
    let metrics = Arc::new(Metrics::default());
    let early = Early::new(env.clone(), metrics);
    let store = Store::recover(Watched::new(env.clone()), config, &early, &|_| ()).await;
    (env, store.expect("an empty directory can be opened"))
}

/// Puts all artifacts, and gives their rows.
async fn fill(data: &Path, artifacts: u64, body: &Bytes) -> Vec<FeedRow> {
    let (env, store) = open(data).await;
    let mut tasks = JoinSet::new();
    for writer in 0..WRITERS {
        let (store, body) = (store.clone(), body.clone());
        tasks.spawn(async move {
            for n in (writer..artifacts).step_by(usize::try_from(WRITERS).expect("it is small")) {
                let address = Address::new("bench", Space::Plain, format!("{n:012x}"));
                let address = address.expect("the key is legal");
                let upload = store.begin(address, Some(body.len() as u64)).await;
                let mut upload = upload.expect("it is taken");
                upload.write(body.clone()).await.expect("it fits");
                upload.publish().await.expect("it is stored");
            }
        });
    }
    tasks.join_all().await;
    let (mut rows, mut next) = (Vec::new(), 1);
    while next < store.extent().head {
        let page = store.feed(next, PAGE_ROWS).await.expect("it can be read");
        rows.extend(page.rows);
        next = page.next;
    }
    assert_eq!(rows.len() as u64, artifacts, "each of them is in the feed");
    store.close().await;
    env.catalog.close().await;
    rows
}

/// Takes in all but `percent` of a hundred artifacts, as from a peer.
async fn fill_part(data: &Path, rows: &Arc<Vec<FeedRow>>, body: &Bytes, percent: u64) {
    let (env, store) = open(data).await;
    let mut tasks = JoinSet::new();
    for writer in 0..WRITERS {
        let (store, rows, body) = (store.clone(), rows.clone(), body.clone());
        tasks.spawn(async move {
            let own = (0_u64..).zip(rows.iter()).filter(|(n, _)| n % WRITERS == writer);
            for (_, row) in own.filter(|(n, _)| spread(*n) % 100 >= percent) {
                let mut upload = store.begin_replica(row).await.expect("it is taken");
                upload.write(body.clone()).await.expect("it fits");
                upload.publish().await.expect("it is stored");
            }
        });
    }
    tasks.join_all().await;
    store.close().await;
    env.catalog.close().await;
}

/// The finaliser of `SplitMix64`: numbers that are in no order.
fn spread(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}
