//! Three nodes that are peers: what is compiled at one is found at the others, whoever dies.

use std::{net::TcpListener, time::Duration};

use kura_tests::{
    client::Client,
    node::{Home, Kura, SMALL, run},
    skip::skip,
    wait::{A_MOMENT, until},
};

use crate::{
    ccache::{WRITES_PER_SOURCE, Workshop, has_ccache, storage},
    project,
};

const NODES: usize = 3;

/// How long a node may take to fetch a build from its peer. Several back-offs, and far from it.
const REPLICATION_TIME_MAX: Duration = Duration::from_secs(60);

/// The homes of nodes that know each other.
struct Site {
    homes: Vec<Home>,
    flags: Vec<Vec<String>>,
}

impl Site {
    fn new() -> Self {
        let ports = free_ports(NODES);
        let peers: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let peers = format!("--peers={}", peers.join(","));
        let flags = |port| vec![format!("--internal-port={port}"), peers.clone()];
        Self {
            homes: ports.iter().map(|_| Home::default()).collect(),
            flags: ports.into_iter().map(flags).collect(),
        }
    }

    /// Starts a node and waits until it listens.
    async fn launch(&self, number: usize) -> Kura {
        let flags = self.flags[number].iter().map(String::as_str);
        let flags: Vec<&str> = SMALL.into_iter().chain(flags).collect();
        self.homes[number].launch(&flags).await
    }

    /// Starts all nodes, and waits until all are ready.
    async fn start(&self) -> Vec<Kura> {
        let mut nodes = Vec::new();
        for number in 0..NODES {
            nodes.push(self.launch(number).await);
        }
        for node in &nodes {
            is_ready(node).await;
        }
        nodes
    }
}

/// Ports that nobody listens on. Held until all are chosen, so that no two are the same.
pub(crate) fn free_ports(count: usize) -> Vec<u16> {
    let held: Vec<_> = (0..count).map(|_| TcpListener::bind(("127.0.0.1", 0)).unwrap()).collect();
    held.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

/// A peer that starts at the same time is missed at first, and tried again after a pause.
async fn is_ready(node: &Kura) {
    until("the node is ready", REPLICATION_TIME_MAX, async || {
        (node.get("/ready").await.status == 200).then_some(())
    })
    .await;
}

/// Waits until the node at `addr` has fetched so many artifacts, and is behind none of its peers.
pub(crate) async fn has_fetched(addr: std::net::SocketAddr, artifacts: u64) {
    until("the node has fetched what its peers have", REPLICATION_TIME_MAX, async || {
        let mut client = Client::connect(addr).await;
        let cluster = client.get("/status/cluster").await;
        let cluster: serde_json::Value = serde_json::from_slice(&cluster.body).unwrap();
        let peers = cluster["peers"].as_array().unwrap();
        let mut others = peers.iter().filter(|peer| peer["standing"] != "myself");
        let is_behind = others.any(|peer| peer["lag"].as_u64() != Some(0));
        let metrics = client.get("/metrics").await.text();
        let fetched = metrics
            .lines()
            .find_map(|line| line.strip_prefix("kura_replication_fetched_total "))
            .and_then(|count| count.parse::<u64>().ok());
        (!is_behind && fetched >= Some(artifacts)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_at_one_node_is_found_at_the_others_through_kills_of_one_and_of_all() {
    if !has_ccache() {
        let name = "a_build_at_one_node_is_found_at_the_others_through_kills_of_one_and_of_all";
        return skip(name, "ccache is not installed");
    }
    let site = Site::new();
    let mut nodes = site.start().await;
    let workshop = Workshop::new();
    let build = async |node: &Kura| {
        workshop.build(&storage(node.addr(), "subdirs"), "-O1", project::SOURCES).await
    };
    let artifacts = WRITES_PER_SOURCE * u64::try_from(project::SOURCES).unwrap();
    let first = build(&nodes[0]).await;
    first.assert_all_written();
    for node in &nodes[1..] {
        has_fetched(node.addr(), artifacts).await;
    }
    build(&nodes[1]).await.assert_all_found(&first);

    nodes[1].kill();
    nodes[1] = site.launch(1).await;
    is_ready(&nodes[1]).await;
    build(&nodes[1]).await.assert_all_found(&first);

    nodes.iter_mut().for_each(Kura::kill);
    let nodes = site.start().await;
    for node in &nodes {
        build(node).await.assert_all_found(&first);
        assert_eq!(node.metric("kura_replication_fetched_total").await, 0, "nothing was lost");
    }
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test]
async fn a_node_that_lost_its_disk_gets_everything_back() {
    let mut site = Site::new();
    let mut nodes = site.start().await;
    let bodies: Vec<_> = (0..50).map(|number| crate::bed::body(number, 20_000)).collect();
    for (number, body) in bodies.iter().enumerate() {
        let node = &nodes[number % NODES];
        assert_eq!(node.put(&format!("/team/{number}"), body.clone()).await.status, 201);
    }
    nodes[2].kill();
    site.homes[2] = Home::default();
    nodes[2] = site.launch(2).await;
    is_ready(&nodes[2]).await;
    // Ready means that it holds what its peers held, its own former writes among them if these had
    // been fetched before it died.
    for (number, body) in bodies.iter().enumerate().filter(|(number, _)| number % NODES != 2) {
        assert_eq!(nodes[2].get(&format!("/team/{number}")).await.body, body, "{number}");
    }
}

#[tokio::test]
async fn status_tells_ready_nodes_from_waiting_ones_and_from_none() {
    let home = Home::default();
    let node = home.start_small(&[]).await;
    let url = format!("http://{}", node.addr());
    let alone = run(&["status", &url]).await;
    let said = String::from_utf8(alone.stdout).unwrap();
    assert_eq!(alone.status.code(), Some(0), "{said}");
    assert!(said.contains("serving") && said.contains("none") && said.contains("free"), "{said}");

    // It waits for a peer that does not exist.
    let [nobody, internal] = free_ports(2)[..] else { panic!("two were asked for") };
    let peers = format!("--peers=127.0.0.1:{nobody}");
    let waiting_home = Home::default();
    let flags = [SMALL[0], SMALL[1], &peers, &format!("--internal-port={internal}")];
    let waiting = waiting_home.launch(&flags).await;
    let waiting_url = format!("http://{}", waiting.addr());
    until("the node waits for its peer", A_MOMENT, async || {
        let ready = waiting.json("/ready").await;
        (ready["reasons"][0].as_str()?.contains("silent")).then_some(())
    })
    .await;
    let output = run(&["status", &url, &waiting_url]).await;
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("{waiting_url} is not ready:\n")), "{said}");
    assert!(said.contains(&format!("127.0.0.1:{nobody} has been silent for ")), "{said}");

    let nobody_url = format!("http://127.0.0.1:{nobody}");
    let output = run(&["status", "--json", &url, &waiting_url, &nobody_url]).await;
    assert_eq!(output.status.code(), Some(74));
    let answers: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answers[0]["ready"]["ready"], true);
    assert_eq!(answers[1]["ready"]["state"], "joining");
    assert_eq!(answers[1]["cluster"]["peers"][0]["standing"], "silent");
    assert_eq!(answers[2]["url"], nobody_url);
    assert!(answers[2]["error"].as_str().unwrap().contains("refused"), "{answers}");
}
