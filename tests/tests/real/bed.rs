//! A node that clients are about to treat badly, and what must be true of it afterwards.

use bytes::Bytes;
use kura_core::digest::Digest;
use kura_tests::{
    node::{Home, Kura},
    wait::{A_MOMENT, until},
};

/// A node and its home.
pub(crate) struct Bed {
    pub(crate) node: Kura,
    pub(crate) home: Home,
}

impl Bed {
    /// A small, empty node with these flags.
    pub(crate) async fn start(flags: &[&str]) -> Self {
        let home = Home::default();
        let node = home.start_small(flags).await;
        Self { node, home }
    }

    /// What went wrong left no trace: nothing is stored, staging is empty on the books and on disk,
    /// nothing is there under `path`, and the process answers.
    pub(crate) async fn unharmed(&mut self, path: &str) {
        self.unharmed_but(path, 404, 0).await;
    }

    /// The same, where asking for `path` is answered `status`, and `stored` bodies were stored.
    pub(crate) async fn unharmed_but(&mut self, path: &str, status: u16, stored: u64) {
        until("staging is given back", A_MOMENT, async || {
            (self.node.staging_bytes().await == 0).then_some(())
        })
        .await;
        assert_eq!(self.home.staging_files(), 0, "a staging file is left");
        assert_eq!(self.node.get(path).await.status, status, "GET {path}");
        assert_eq!(self.node.metric("kura_store_puts_total").await, stored, "bodies stored");
        assert_eq!(self.node.metric("kura_store_staging_bytes").await, 0, "the gauge of staging");
        assert_eq!(self.node.get("/up").await.status, 200);
        self.node.assert_alive();
    }

    /// Waits until an upload holds some staging.
    pub(crate) async fn staging_in_use(&self) {
        until("an upload holds staging", A_MOMENT, async || {
            (self.node.staging_bytes().await > 0).then_some(())
        })
        .await;
    }
}

/// A body of `len` bytes that differs for each seed.
pub(crate) fn body(seed: u64, len: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(len + size_of::<u64>());
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}

/// The path under which content-addressed `body` lies.
pub(crate) fn cas_path(body: &[u8]) -> String {
    format!("/cas/{}", Digest::of(body))
}

/// Stores a body of each of these sizes, under a name and under its content address.
pub(crate) async fn stores_all(node: &Kura, lens: &[usize]) -> Vec<(String, Bytes)> {
    let mut artifacts = Vec::new();
    for (at, len) in lens.iter().enumerate() {
        let body = body(at as u64, *len);
        artifacts.push((format!("/stored/{len}"), body.clone()));
        artifacts.push((cas_path(&body), body));
    }
    for (path, body) in &artifacts {
        assert_eq!(node.put(path, body.clone()).await.status, 201, "{path}");
    }
    artifacts
}

/// Each of them is there as it was stored.
pub(crate) async fn reads_all(node: &Kura, artifacts: &[(String, Bytes)]) {
    for (path, body) in artifacts {
        let answer = node.get(path).await;
        assert_eq!((answer.status, answer.body == *body), (200, true), "{path}");
    }
}

/// The head of a PUT; `headers` are whole lines.
pub(crate) fn put_head(path: &str, headers: &[&str]) -> String {
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    format!("PUT {path} HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
}
