//! The real world keeps the contracts of its seams.

use std::{future::Future, sync::Arc, time::Duration};

use kura_env::{Clock, Entropy, Net, Tasks, conformance};
use kura_host::{HostClock, HostEntropy, HostNet, HostTasks};
use tokio::runtime::Handle;

/// A suite that hangs is broken too.
const SUITE_TIMEOUT: Duration = Duration::from_secs(60);

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
