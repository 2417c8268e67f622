//! SIGKILL at moments that nobody chose, under load and in recovery: what was acknowledged is there, and
//! nobody has to do anything about it.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use kura_tests::{
    endurance::{rounds, seed},
    node::{self, Home, Kura},
};

use crate::acknowledged::{Acknowledged, Dice, Place, Room};

const MIB: u64 = 1024 * 1024;
/// What is sent between two ends of the node, at the most.
pub(crate) const LIFE_BYTES_MAX: u64 = 8 * MIB;
/// How long a kill may come after that, and after a start that is to fail.
const KILL_DELAY_MS_MAX: u64 = 60;
const PROMISE: Duration = Duration::from_secs(900);
/// What nothing that befalls the process alone may make the node count.
const NEVER: [&str; 6] = [
    "store_damaged_reads",
    "store_catalogs_damaged",
    "store_catalogs_behind",
    "store_catalogs_condemned",
    "store_sources_failed",
    "http_broken_bodies",
];

/// Nothing was damaged in this life.
pub(crate) async fn judge_counters(node: &Kura) {
    for name in NEVER {
        assert_eq!(node.metric(&format!("kura_{name}_total")).await, 0, "{name}");
    }
}

/// Stops the node, and looks at all that it left behind.
pub(crate) async fn stop_and_verify(home: &Home, node: Kura) {
    node.stop().await;
    let data_dir = home.data_dir().to_str().expect("the path is UTF-8");
    let output = node::run(&["verify", "--data-dir", data_dir]).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
}

/// Starts, judges, works and kills, so often. Gives the clients and the node of the last start.
async fn kill_again_and_again(
    home: &Home,
    flags: &[&str],
    kills: u64,
    mut dice: Dice,
    clients: &mut Acknowledged,
) -> Kura {
    let mut slowest_start = Duration::ZERO;
    let mut kills_left = kills;
    loop {
        let begun = Instant::now();
        let mut node = home.start(flags).await;
        slowest_start = slowest_start.max(begun.elapsed());
        clients.judge(&node, kills_left == 0).await;
        judge_counters(&node).await;
        if kills_left == 0 {
            eprintln!("{kills} kills, slowest start {slowest_start:?}: {:?}", clients.counts);
            return node;
        }
        let moment = Duration::from_millis(dice.below(KILL_DELAY_MS_MAX));
        let addr = node.addr();
        let kill = async || {
            tokio::time::sleep(moment).await;
            node.kill();
        };
        clients.work_until(addr, dice.below(LIFE_BYTES_MAX), true, kill).await;
        kills_left -= 1;
        if kills_left > 0 && dice.below(4) == 0 {
            // Before it is ready: in the middle of a recovery.
            let mut node = home.spawn(flags);
            tokio::time::sleep(Duration::from_millis(dice.below(KILL_DELAY_MS_MAX))).await;
            node.kill();
            kills_left -= 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_killed_again_and_again_loses_nothing_that_it_acknowledged() {
    let kills = rounds(12, 300);
    let seed = seed("kills with room for all");
    let home = Home::default();
    // Twice what is sent: no ring turns, and so nothing may be missing.
    let capacity = format!("--cas-capacity={}MiB", 512 + 2 * kills * LIFE_BYTES_MAX / MIB);
    let flags = [&*capacity, "--segment=4MiB"];
    let mut clients = Acknowledged::new(seed, Room::ForAll, PROMISE);
    let dice = Dice::new(!seed);
    let node = kill_again_and_again(&home, &flags, kills, dice, &mut clients).await;
    for (what, count) in [
        ("puts", &clients.counts.puts),
        ("reads", &clients.counts.reads),
        ("vouches", &clients.counts.vouched),
        ("requests cut off", &clients.counts.cut_off),
    ] {
        assert!(count.load(Ordering::Relaxed) > 0, "there were no {what}");
    }
    stop_and_verify(&home, node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_ring_under_kills_misses_only_what_is_older_than_what_it_holds() {
    let kills = rounds(12, 100);
    let seed = seed("kills with room for the latest");
    let home = Home::default();
    let flags = ["--cas-capacity=48MiB", "--segment=4MiB", "--promise=1s", "--write-grace=0s"];
    let promise = Duration::from_secs(1);
    let mut clients = Acknowledged::new(seed, Room::ForTheLatest, promise);
    let dice = Dice::new(!seed);
    let mut node = kill_again_and_again(&home, &flags, kills, dice, &mut clients).await;
    clients.work_until(node.addr(), 64 * MIB, false, async || ()).await;
    let shown = clients.judge(&node, true).await;
    assert!(clients.counts.evicted.load(Ordering::Relaxed) > 0, "the rings turn");
    // And no more is missing than has to be.
    let mib = |place: Place| shown.bytes.get(&place).map_or(0, |bytes| bytes / MIB);
    eprintln!("there: {:?}", shown.bytes);
    assert!(mib(Place::Blobs) >= 16 && mib(Place::Pool) >= 6, "{:?}", shown.bytes);
    node.assert_alive();
    stop_and_verify(&home, node).await;
}
