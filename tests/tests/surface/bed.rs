//! One node and a client that sends exactly the bytes it is told to.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use kura_env::{Clock, DiskPath, Env, Instant, Stream, timeout};
use kura_node::{
    config::{Durability, NodeConfig, StoreConfig, SurfaceConfig},
    node::{Ended, Node},
    service::State,
    store::KEYSPACES,
};
use sim_engine::{LinkConfig, NodeId, World, WorldConfig};
use sim_storage::{SimCatalog, SimCatalogConfig, SimDisk, SimDiskConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

pub(crate) const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
pub(crate) const BODY_BYTES_MAX: u64 = 1 << 20;
pub(crate) const DRAIN_BYTES_MAX: u64 = 256 << 10;

/// Longer than any deadline of a connection.
const PATIENCE: Duration = Duration::from_secs(100);

/// A node that serves.
pub(crate) struct Bed {
    pub(crate) world: World,
    pub(crate) disk: SimDisk,
    host: NodeId,
    node: Option<Node>,
    addr: SocketAddr,
}

pub(crate) fn surface_config() -> SurfaceConfig {
    SurfaceConfig {
        idle_timeout: IDLE_TIMEOUT,
        header_timeout: HEADER_TIMEOUT,
        connections_max: 16,
        drain_body_bytes_max: DRAIN_BYTES_MAX,
        retry_after: Duration::from_millis(1500),
        date_header: false,
    }
}

impl Bed {
    pub(crate) fn new(seed: u64) -> Self {
        Self::with(seed, surface_config())
    }

    pub(crate) fn with(seed: u64, surface: SurfaceConfig) -> Self {
        Self::in_world(seed, surface, |env| env)
    }

    /// A node in a world that `change` made of its own.
    pub(crate) fn in_world(
        seed: u64,
        surface: SurfaceConfig,
        change: impl FnOnce(Env) -> Env,
    ) -> Self {
        let world = World::new(WorldConfig::from_seed(seed));
        let host = world.add_node("node-1", "10.0.0.1".parse().unwrap());
        let clock = world.clock(host);
        let disk = SimDisk::new(SimDiskConfig::instant(64 << 20, seed), clock.clone());
        let attached = disk.attach();
        let catalog = Arc::new(SimCatalog::new(
            attached.clone(),
            clock.clone(),
            &KEYSPACES,
            SimCatalogConfig::default(),
        ));
        let env = Env {
            clock,
            net: world.net(host),
            disk: attached,
            catalog,
            entropy: world.entropy(host),
            tasks: world.tasks(host),
        };
        let env = change(env);
        let config = NodeConfig {
            listen: "10.0.0.1:7000".parse().unwrap(),
            store: StoreConfig {
                segment_bytes: 2 << 20,
                capacity_bytes: Some(16 << 20),
                staging_elsewhere: false,
                staging_bytes_max: 4 << 20,
                memory_bytes_max: 1 << 20,
                memory_body_bytes_max: 64 << 10,
                index_bytes_max: 1 << 20,
                body_bytes_max: BODY_BYTES_MAX,
                durability: Durability::PowerLoss,
                promise: Duration::ZERO,
                write_grace: Duration::ZERO,
                scrub_every: Duration::ZERO,
                feed_rows_max: kura_core::feed_rows::FEED_ROWS_MAX,
                scrub_bytes_per_second: 1 << 20,
            },
            surface,
            peers: None,
            drain_timeout: Duration::from_secs(20),
        };
        let addr = config.listen;
        let mut bed = Self { world, disk, host, node: None, addr };
        let node = bed.run(async move { Node::start(env, config, "a test").await.unwrap() });
        let (service, deadline) = (node.service().clone(), bed.world.now() + PATIENCE);
        bed.world.run_until(|_| service.readiness().state == State::Serving, deadline);
        assert!(node.service().readiness().ready);
        bed.node = Some(node);
        bed
    }

    /// Runs `work` to its end; a world that stops before that is a failure.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let deadline = self.world.now() + Duration::from_secs(600);
        self.world.block_on(work, deadline).unwrap_or_else(|outcome| panic!("{outcome:?}"))
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        self.world.clock(NodeId::OPERATOR)
    }

    /// From now on the node sends to its clients over a link of so many bytes a second.
    pub(crate) fn slow_down(&self, bytes_per_second: u64) {
        let config = LinkConfig {
            bandwidth_bytes_per_second: Some(bytes_per_second),
            ..LinkConfig::default()
        };
        let link = self.world.network().add_link("slow", config);
        self.world.network().route(self.host, NodeId::OPERATOR, &[link]);
    }

    /// A new connection of the client.
    pub(crate) fn connect(&self) -> Client {
        let (net, clock, addr) = (self.world.net(NodeId::OPERATOR), self.clock(), self.addr);
        self.run(async move {
            let stream = net.connect(addr).await.unwrap();
            Client { stream, clock, unread: Vec::new() }
        })
    }

    /// Sends `bytes` on a connection of its own and reads until the node closes it.
    pub(crate) fn exchange(&self, bytes: impl Into<Vec<u8>>) -> Answers {
        let (mut client, bytes) = (self.connect(), bytes.into());
        self.run(async move {
            client.send(&bytes).await;
            client.read_to_end().await
        })
    }

    /// What a well-behaved client gets for a path.
    pub(crate) fn get(&self, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        self.exchange(request).text
    }

    /// Whether nothing of an upload is left behind, in memory or on the disk.
    pub(crate) fn assert_nothing_staged(&self) {
        self.world.run_to(self.world.now() + Duration::from_secs(1));
        let status = self.get("/status");
        let json = status.split_once("\r\n\r\n").unwrap().1;
        let json: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(json["staging"]["in_use_bytes"], 0, "{json}");
        let tmp = DiskPath::new("tmp");
        let files = self.disk.walk();
        assert!(files.iter().all(|file| file.path.parent() != tmp), "{files:?}");
    }

    /// The value of a series in `/metrics`, 0 if it is not there.
    pub(crate) fn metric(&self, series: &str) -> u64 {
        let text = self.get("/metrics");
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.map_or(0, |value| value.trim().parse().unwrap())
    }

    pub(crate) fn take_node(&mut self) -> Node {
        self.node.take().expect("it runs")
    }

    /// Starts to drain the node; the flag says when it has ended.
    pub(crate) fn drain(&mut self) -> Arc<Mutex<Option<Instant>>> {
        let node = self.take_node();
        let ended = Arc::new(Mutex::new(None));
        let (done, clock) = (ended.clone(), self.clock());
        self.world.launch(NodeId::OPERATOR, "drain", async move {
            assert!(matches!(node.drain().await, Ended::Drained));
            *done.lock().unwrap() = Some(clock.now());
        });
        ended
    }
}

/// What came until the node closed a connection.
#[derive(Debug)]
pub(crate) struct Answers {
    pub(crate) text: String,
    /// How long it took until the end, from when reading began.
    pub(crate) after: Duration,
    /// Whether the end was a reset.
    pub(crate) was_reset: bool,
}

impl Answers {
    /// The status lines, in order.
    pub(crate) fn statuses(&self) -> Vec<u16> {
        let parts = self.text.split("HTTP/1.1 ").skip(1);
        parts.map(|part| part[..3].parse().unwrap()).collect()
    }
}

/// One connection.
pub(crate) struct Client {
    pub(crate) stream: Box<dyn Stream>,
    clock: Arc<dyn Clock>,
    unread: Vec<u8>,
}

impl Client {
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Reads one answer with a Content-Length, or one that can have no body.
    pub(crate) async fn read_answer(&mut self) -> String {
        loop {
            if let Some(len) = answer_len(&self.unread) {
                let rest = self.unread.split_off(len);
                let answer = std::mem::replace(&mut self.unread, rest);
                return String::from_utf8_lossy(&answer).into_owned();
            }
            let mut some = [0; 4096];
            let read = timeout(&*self.clock, PATIENCE, self.stream.read(&mut some)).await;
            let count = read.expect("an answer in time").unwrap();
            assert!(count > 0, "closed after {:?}", String::from_utf8_lossy(&self.unread));
            self.unread.extend_from_slice(&some[..count]);
        }
    }

    /// Reads until the node closes the connection.
    pub(crate) async fn read_to_end(&mut self) -> Answers {
        let began = self.clock.now();
        let mut bytes = std::mem::take(&mut self.unread);
        let read = timeout(&*self.clock, PATIENCE, self.stream.read_to_end(&mut bytes)).await;
        let was_reset = read.expect("the connection is closed in time").is_err();
        let after = self.clock.now() - began;
        Answers { text: String::from_utf8_lossy(&bytes).into_owned(), after, was_reset }
    }
}

fn answer_len(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
    if text.starts_with("http/1.1 204 ") {
        return Some(head);
    }
    let len = text.lines().find_map(|line| line.strip_prefix("content-length: "))?;
    let whole = head + len.parse::<usize>().unwrap();
    (bytes.len() >= whole).then_some(whole)
}

/// A PUT of `body`, with a length.
pub(crate) fn put(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("PUT {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}
