//! The catalog is deleted, under a node that serves and under one that does not run: everything is served
//! again, and the loss is counted.

use std::{
    fs,
    time::{Duration, Instant},
};

use kura_tests::{
    endurance::seed,
    node::{Home, Kura},
    wait::{A_MOMENT, until},
};

use crate::{
    acknowledged::{Acknowledged, Room},
    kills::stop_and_verify,
};

const MIB: u64 = 1024 * 1024;
const PROMISE: Duration = Duration::from_secs(900);
const FLAGS: [&str; 2] = ["--cas-capacity=512MiB", "--segment=4MiB"];

/// Starts, reads everything that was acknowledged, and says how long the start took.
async fn start_again(home: &Home, clients: &mut Acknowledged, what: &str) -> Kura {
    let begun = Instant::now();
    let node = home.start(&FLAGS).await;
    eprintln!("{what}: ready after {:?}", begun.elapsed());
    clients.judge(&node, true).await;
    node
}

/// How many catalogs this life found lost, however it found out.
async fn lost(node: &Kura) -> u64 {
    let mut lost = 0;
    for how in ["damaged", "behind"] {
        lost += node.metric(&format!("kura_store_catalogs_{how}_total")).await;
    }
    lost
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catalog_that_is_deleted_is_made_again_and_nothing_is_missing() {
    let home = Home::default();
    let mut clients = Acknowledged::new(seed("catalog"), Room::ForAll, PROMISE);
    let mut node = home.start(&FLAGS).await;
    clients.work_until(node.addr(), 24 * MIB, false, async || ()).await;
    let catalog = home.data_dir().join("catalog");

    // Under load, and the node dies a moment later.
    let addr = node.addr();
    let delete = async || {
        // The node may make a file in it meanwhile.
        until("the catalog is gone", A_MOMENT, async || {
            (fs::remove_dir_all(&catalog).is_ok() || !catalog.exists()).then_some(())
        })
        .await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        node.kill();
    };
    clients.work_until(addr, 4 * MIB, true, delete).await;
    let mut node = start_again(&home, &mut clients, "deleted under load").await;
    assert_eq!(lost(&node).await, 1, "counted");

    // At rest, after a kill and after a stop in good order.
    for is_stopped in [false, true] {
        clients.work_until(node.addr(), 2 * MIB, false, async || ()).await;
        if is_stopped {
            node.stop().await;
        } else {
            node.kill();
        }
        fs::remove_dir_all(&catalog).expect("there is a catalog");
        node = start_again(&home, &mut clients, "deleted at rest").await;
        assert_eq!(lost(&node).await, 1, "counted, after a stop in good order: {is_stopped}");
    }
    stop_and_verify(&home, node).await;
}
