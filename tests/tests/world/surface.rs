//! The public surface on the simulated network: what ill-behaved clients meet, and by when.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use kura_env::{Instant, Net, Stream};
use kura_node::{
    config::{NodeConfig, SurfaceConfig},
    node::Node,
    service::State,
};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::bed::Bed;

const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);
/// Round trips, and what a node computes.
const SLACK: Duration = Duration::from_millis(100);

/// A node and a host from which clients connect.
struct Site {
    bed: Bed,
    node: Arc<Mutex<Option<Node>>>,
    addr: SocketAddr,
    client: Arc<dyn Net>,
}

impl Site {
    fn new(seed: u64, change: impl FnOnce(&mut NodeConfig)) -> Self {
        let bed = Bed::new(seed);
        let client = bed.world.add_node("client", "10.0.0.2".parse().unwrap());
        let client = bed.world.net(client);
        let (env, _) = bed.env();
        let mut config = NodeConfig {
            listen: "10.0.0.1:4000".parse().unwrap(),
            store: bed.config.clone(),
            surface: SurfaceConfig {
                idle_timeout: IDLE_TIMEOUT,
                header_timeout: HEADER_TIMEOUT,
                connections_max: 100,
                drain_body_bytes_max: 1 << 20,
                retry_after: Duration::from_secs(1),
                date_header: false,
            },
            drain_timeout: DRAIN_TIMEOUT,
        };
        change(&mut config);
        let node = bed.run(async move { Node::start(env, config, "test").await }).unwrap();
        let addr = node.local_addr();
        let site = Self { bed, node: Arc::new(Mutex::new(Some(node))), addr, client };
        let outcome = site.bed.world.run_until(|_| site.is_serving(), site.after(SLACK));
        assert!(site.is_serving(), "{outcome:?}");
        site
    }

    fn is_serving(&self) -> bool {
        let node = self.node.lock();
        node.as_ref().is_some_and(|node| node.service().readiness().state == State::Serving)
    }

    fn after(&self, duration: Duration) -> Instant {
        self.bed.now() + duration
    }

    /// Connects, sends `text`, and reads until the node closes; what came, and how long that took.
    fn send(&self, text: &'static str) -> (String, Duration) {
        let begun = self.bed.now();
        let (net, addr) = (self.client.clone(), self.addr);
        let answer = self.bed.run(async move {
            let mut stream = net.connect(addr).await.unwrap();
            stream.write_all(text.as_bytes()).await.unwrap();
            read_all(&mut *stream).await
        });
        (answer, self.bed.now().since(begun))
    }

    /// One request on a connection of its own.
    fn ask(&self, text: String) -> String {
        let (net, addr) = (self.client.clone(), self.addr);
        self.bed.run(async move { ask(net, addr, text).await })
    }

    fn get(&self, path: &str) -> String {
        self.ask(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
    }

    /// Nothing of `/team/key` was stored, and nothing of it remains.
    fn assert_nothing_remains(&self) {
        assert!(self.get("/team/key").starts_with("HTTP/1.1 404"), "nothing is stored");
        self.bed.world.run_to(self.after(SLACK));
        let status = self.get("/status");
        assert!(status.contains("\"in_use_bytes\":0"), "{status}");
        assert_eq!(self.bed.staged_bytes(), 0);
    }
}

async fn ask(net: Arc<dyn Net>, addr: SocketAddr, text: String) -> String {
    let mut stream = net.connect(addr).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    read_all(&mut *stream).await
}

/// Everything until the end, or until the connection is reset.
async fn read_all(stream: &mut dyn Stream) -> String {
    let mut all = Vec::new();
    let ended = stream.read_to_end(&mut all).await;
    let text = String::from_utf8_lossy(&all).into_owned();
    if let Err(error) = ended { format!("{text}[{:?}]", error.kind()) } else { text }
}

fn put(key: &str, len: usize, body: &str) -> String {
    format!("PUT /team/{key} HTTP/1.1\r\nHost: a\r\nContent-Length: {len}\r\n\r\n{body}")
}

#[test]
fn a_silent_connection_is_closed_within_the_header_timeout() {
    let site = Site::new(1, |_| ());
    let (answer, took) = site.send("");
    assert!(answer.is_empty(), "{answer}");
    assert!((HEADER_TIMEOUT..HEADER_TIMEOUT + SLACK).contains(&took), "{took:?}");
}

#[test]
fn a_half_sent_header_is_closed_within_the_header_timeout() {
    let site = Site::new(2, |_| ());
    let (_, took) = site.send("GET /team/key HTTP/1.1\r\nHos");
    assert!((HEADER_TIMEOUT..HEADER_TIMEOUT + SLACK).contains(&took), "{took:?}");
}

#[test]
fn a_header_that_trickles_is_closed_within_the_header_timeout() {
    let site = Site::new(3, |_| ());
    let (net, addr, clock) = (site.client.clone(), site.addr, site.bed.env().0.clock);
    let begun = site.bed.now();
    let sent = site.bed.run(async move {
        let mut stream = net.connect(addr).await.unwrap();
        let mut sent = 0;
        while stream.write_all(b"x").await.is_ok() && sent < 1000 {
            sent += 1;
            clock.sleep(Duration::from_secs(1)).await;
        }
        sent
    });
    let took = site.bed.now().since(begun);
    assert!(sent < 20 && took < HEADER_TIMEOUT * 2, "{sent} bytes, {took:?}");
}

#[test]
fn a_stalled_body_is_closed_within_the_idle_timeout_and_leaves_nothing() {
    for (seed, len) in [(4, 1000), (5, 30_000)] {
        let site = Site::new(seed, |_| ());
        let begun = site.bed.now();
        let answer = site.ask(put("key", len, "part of it"));
        let took = site.bed.now().since(begun);
        assert!(took >= IDLE_TIMEOUT && took < IDLE_TIMEOUT + Duration::from_secs(2), "{took:?}");
        assert!(!answer.contains(" 201 ") && !answer.contains(" 200 "), "{answer}");
        site.assert_nothing_remains();
    }
}

#[test]
fn a_body_that_ends_early_stores_nothing() {
    let chunked =
        "PUT /team/key HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    for (seed, text) in [(6, put("key", 1000, "part of it")), (7, chunked.to_owned())] {
        let site = Site::new(seed, |_| ());
        let (net, addr) = (site.client.clone(), site.addr);
        site.bed.run(async move {
            let mut stream = net.connect(addr).await.unwrap();
            stream.write_all(text.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            read_all(&mut *stream).await
        });
        site.assert_nothing_remains();
    }
}

#[test]
fn a_slow_body_that_keeps_moving_is_stored_however_long_it_takes() {
    let site = Site::new(8, |_| ());
    let (net, addr, clock) = (site.client.clone(), site.addr, site.bed.env().0.clock);
    let begun = site.bed.now();
    let answer = site.bed.run(async move {
        let mut stream = net.connect(addr).await.unwrap();
        let head =
            "PUT /team/key HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\nConnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..20 {
            clock.sleep(Duration::from_secs(25)).await;
            stream.write_all(b"x").await.unwrap();
        }
        read_all(&mut *stream).await
    });
    assert!(site.bed.now().since(begun) > IDLE_TIMEOUT * 10);
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert!(site.get("/team/key").ends_with(&"x".repeat(20)));
}

#[test]
fn clients_refused_early_see_the_answer_and_no_reset() {
    let site = Site::new(9, |config| config.store.staging_bytes_max = 20_000);
    let (net, addr) = (site.client.clone(), site.addr);
    // Each is over the budget by itself, and larger than any buffer on the way.
    let answers = site.bed.run(async move {
        let body = "y".repeat(50_000);
        let asked = (0..50).map(|n| {
            let text = put(&format!("key-{n}"), 50_000, &body).replacen(
                "\r\n\r\n",
                "\r\nConnection: close\r\n\r\n",
                1,
            );
            ask(net.clone(), addr, text)
        });
        futures_util::future::join_all(asked).await
    });
    for answer in answers {
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.to_lowercase().contains("retry-after: 1"), "{answer}");
        assert!(!answer.contains("[ConnectionReset]"), "{answer}");
    }
    site.assert_nothing_remains();
}

#[test]
fn a_connection_beyond_the_limit_waits_and_is_served_when_another_ends() {
    let site = Site::new(10, |config| config.surface.connections_max = 2);
    let (net, addr) = (site.client.clone(), site.addr);
    let begun = site.bed.now();
    let answer = site.bed.run(async move {
        let _silent = [net.connect(addr).await.unwrap(), net.connect(addr).await.unwrap()];
        let text = "GET /up HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        ask(net, addr, text.to_owned()).await
    });
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let took = site.bed.now().since(begun);
    assert!((HEADER_TIMEOUT..HEADER_TIMEOUT + SLACK).contains(&took), "{took:?}");
}

#[test]
fn a_drain_lets_uploads_finish_and_does_not_wait_for_stuck_clients() {
    let site = Site::new(11, |_| ());
    let (net, addr, clock) = (site.client.clone(), site.addr, site.bed.env().0.clock);
    let node = site.node.lock().take().unwrap();
    let (answer, drained_after) = site.bed.run(async move {
        let mut upload = net.connect(addr).await.unwrap();
        upload.write_all(put("key", 10, "12345").as_bytes()).await.unwrap();
        let mut stuck = net.connect(addr).await.unwrap();
        stuck.write_all(put("other", 10, "12345").as_bytes()).await.unwrap();
        clock.sleep(SLACK).await;
        let begun = clock.now();
        let finish = async {
            clock.sleep(Duration::from_secs(5)).await;
            upload.write_all(b"67890").await.unwrap();
            read_all(&mut *upload).await
        };
        let drain = async {
            node.drain().await;
            clock.now().since(begun)
        };
        let (answer, took) = futures_util::future::join(finish, drain).await;
        drop(stuck);
        (answer, took)
    });
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    // The stuck upload is idle for long enough before the drain's own deadline.
    assert!(drained_after <= DRAIN_TIMEOUT + SLACK, "{drained_after:?}");
    assert_eq!(site.bed.staged_bytes(), 0);
}
