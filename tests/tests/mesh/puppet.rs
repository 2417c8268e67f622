//! A peer that answers as it is told: what real nodes never do.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use kura_core::{address::Space, digest::Digest};
use kura_env::{Clock, Instant, Stream, Tasks};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::bed::Bed;

/// What a peer is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// When.
    pub(crate) at: Instant,
    /// `hello`, `feed`, `compare` or `bodies`.
    pub(crate) what: String,
    /// The rows of a request for bodies, the ranges of a comparison.
    pub(crate) rows: usize,
    /// The keys of those that are rows of artifacts.
    pub(crate) keys: Vec<String>,
    /// From where on the body of the first of these rows is asked for.
    pub(crate) from: u64,
}

/// What it answers.
pub(crate) struct Told {
    status: u16,
    body: Vec<u8>,
    /// How long it rests before each byte of the body, if it drips.
    drip: Option<Duration>,
    /// The connection ends behind so many bytes of the body, if that is not all.
    cut: Option<usize>,
}

impl Told {
    pub(crate) fn json(value: &Value) -> Self {
        Self { status: 200, body: value.to_string().into_bytes(), drip: None, cut: None }
    }

    pub(crate) fn failure() -> Self {
        Self { status: 500, body: b"no\n".to_vec(), drip: None, cut: None }
    }

    /// It has no time now.
    pub(crate) fn busy() -> Self {
        Self { status: 503, ..Self::failure() }
    }

    /// The bodies of an answer, each in its frame.
    pub(crate) fn bodies(bodies: &[Bytes]) -> Self {
        let mut body = Vec::new();
        for one in bodies {
            body.push(1);
            body.extend((one.len() as u64).to_le_bytes());
            body.extend_from_slice(one);
        }
        Self { status: 200, body, drip: None, cut: None }
    }

    /// What lies behind `from` of a body.
    pub(crate) fn rest(from: u64, rest: &[u8]) -> Self {
        let mut body = vec![3];
        body.extend(from.to_le_bytes());
        body.extend((rest.len() as u64).to_le_bytes());
        body.extend_from_slice(rest);
        Self { status: 200, body, drip: None, cut: None }
    }

    pub(crate) fn raw(body: Vec<u8>) -> Self {
        Self { status: 200, body, drip: None, cut: None }
    }

    /// The connection ends behind so many bytes.
    pub(crate) fn cut_after(mut self, bytes: usize) -> Self {
        self.cut = Some(bytes);
        self
    }

    pub(crate) fn dripping(mut self, pause: Duration) -> Self {
        self.drip = Some(pause);
        self
    }
}

/// It holds the artifact, and cannot read it.
pub(crate) fn unreadable() -> Told {
    Told { status: 200, body: vec![2], drip: None, cut: None }
}

pub(crate) fn hello(node: u64) -> Told {
    hello_from(node, "there")
}

pub(crate) fn hello_from(node: u64, region: &str) -> Told {
    let life = json!({ "node": node, "incarnation": 1, "head": 1 });
    Told::json(&json!({ "life": life, "region": region, "state": "serving" }))
}

pub(crate) fn compared(rows: &[Value]) -> Told {
    Told::json(&json!({ "told": [{ "rows": rows }] }))
}

pub(crate) fn feed(rows: &[Value], next: u64) -> Told {
    Told::json(&json!({ "rows": rows, "next": next, "head": next }))
}

/// The row of a plain key with this body.
pub(crate) fn row(key: &str, body: &Bytes) -> Value {
    json!({
        "namespace": "team", "space": Space::Plain.number(), "key": key, "time": 1 << 20,
        "node": 77, "bytes": body.len(), "digest": Digest::of(body).to_string(),
    })
}

/// All that a peer was asked, in order.
pub(crate) type Log = Arc<Mutex<Vec<Asked>>>;

/// Lets host `number` answer peers by `answer`. A feed with nothing new is held back for 20 s.
pub(crate) fn pretend(
    bed: &Bed,
    number: usize,
    answer: impl Fn(&Asked) -> Told + Send + Sync + 'static,
) -> Log {
    let log = Log::default();
    let (net, clock, tasks) = bed.seams(number);
    let addr = SocketAddr::new(format!("10.0.0.{}", number + 1).parse().unwrap(), 7000);
    let puppet = Arc::new(Puppet { clock, log: log.clone(), answer: Box::new(answer) });
    bed.spawn(number, async move {
        let listener = net.listen(addr).await.unwrap();
        let mut talks = Vec::new();
        loop {
            let stream = listener.accept().await.unwrap();
            talks.push(spawn(&*tasks, puppet.clone(), stream));
        }
    });
    log
}

fn spawn(tasks: &dyn Tasks, puppet: Arc<Puppet>, stream: Box<dyn Stream>) -> kura_env::TaskHandle {
    tasks.spawn("puppet", Box::pin(async move { puppet.talk(stream).await }))
}

struct Puppet {
    clock: Arc<dyn Clock>,
    log: Log,
    answer: Box<dyn Fn(&Asked) -> Told + Send + Sync>,
}

impl Puppet {
    async fn talk(&self, mut stream: Box<dyn Stream>) {
        while let Some((what, body)) = request(&mut stream).await {
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            let from = body[0]["from"].as_u64().unwrap_or(0);
            let all = body.as_array().map_or(&[][..], Vec::as_slice);
            let keys = all.iter().filter_map(|row| row["key"].as_str());
            let (rows, keys) = (all.len(), keys.map(str::to_owned).collect());
            let is_waiting = what.contains("wait_ms=20000");
            let what = what.trim_start_matches("/peer/v1/");
            let what = what.split('?').next().unwrap_or_default().to_owned();
            let asked = Asked { at: self.clock.now(), what, rows, from, keys };
            self.log.lock().unwrap().push(asked.clone());
            let told = (self.answer)(&asked);
            if is_waiting {
                self.clock.sleep(Duration::from_secs(20)).await;
            }
            let head = format!(
                "HTTP/1.1 {} x\r\ncontent-length: {}\r\n\r\n",
                told.status,
                told.body.len()
            );
            let mut bytes = head.into_bytes();
            if told.drip.is_none() {
                bytes.extend_from_slice(&told.body[..told.cut.unwrap_or(told.body.len())]);
            }
            // An error is the end of the talk: the node has gone.
            if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
                return;
            }
            if told.cut.is_some() {
                return;
            }
            let Some(pause) = told.drip else { continue };
            for byte in &told.body {
                self.clock.sleep(pause).await;
                if stream.write_all(&[*byte]).await.is_err() || stream.flush().await.is_err() {
                    return;
                }
            }
        }
    }
}

/// The path and the body of the next request; nothing at the end.
async fn request(stream: &mut Box<dyn Stream>) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    while bytes.len() < end + len.unwrap_or(0) {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let path = head.split(' ').nth(1)?.to_owned();
    Some((path, bytes.split_off(end)))
}
