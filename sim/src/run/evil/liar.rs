//! What a liar answers.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use kura_core::{
    address::{Address, Space},
    digest::Digest,
};
use kura_env::{Clock, Stream};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{draw::Draw, invariants::liars_are_contained::LIAR, scenario::EvilHow};

/// Names of artifacts that nodes hold.
pub(in crate::run) type Names = Arc<dyn Fn() -> Vec<Address> + Send + Sync>;

/// How far in the future versions are.
const AHEAD_MILLIS: u64 = 3_600_000;
/// Rows that are told together at the most.
const ROWS_MAX: u64 = 20;
/// How long a feed with a lie in it is held back at the most.
const FEED_WAIT_MILLIS: u64 = 5000;
/// The largest body that is made.
const BODY_BYTES_MAX: u64 = 100 << 10;
/// Bodies that are kept to be asked for.
const BODIES_MAX: usize = 64;
/// What is sent at once of what has no end.
const PIECE_BYTES: usize = 64 << 10;

/// Somebody who answers as a peer and lies.
pub(super) struct Liar {
    how: EvilHow,
    clock: Arc<dyn Clock>,
    names: Names,
    draw: Mutex<Draw>,
    /// How far the cursor moves on with each page of a feed without end.
    step: u64,
    /// Bodies that have the digests which it told.
    bodies: Mutex<BTreeMap<String, Bytes>>,
    rows: AtomicU64,
}

/// What is answered.
enum Reply {
    /// In good HTTP.
    Whole(Vec<u8>),
    /// These bytes, and then the end.
    Raw(Vec<u8>),
    /// In good HTTP, and then more and more of it.
    Endless(Vec<u8>),
}

/// One connection.
pub(super) struct Talk {
    pub(super) liar: Arc<Liar>,
    pub(super) stream: Box<dyn Stream>,
}

impl Talk {
    pub(super) async fn run(mut self) {
        // An error is the end of the talk: the other end has gone.
        while let Some((path, body)) = self.request().await {
            let reply = self.liar.answer(&path, &body).await;
            if self.send(reply).await.is_none() {
                return;
            }
        }
    }

    /// The path and the body of the next request; nothing at the end.
    async fn request(&mut self) -> Option<(String, Vec<u8>)> {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if self.stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        };
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        while bytes.len() < end + len.unwrap_or(0) {
            if self.stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        }
        Some((head.split(' ').nth(1)?.to_owned(), bytes.split_off(end)))
    }

    async fn send(&mut self, reply: Reply) -> Option<()> {
        let head = |len: u64| format!("HTTP/1.1 200 OK\r\ncontent-length: {len}\r\n\r\n");
        match reply {
            Reply::Whole(body) => {
                let head = head(body.len() as u64);
                self.write(&[head.into_bytes(), body].concat()).await
            }
            Reply::Raw(bytes) => self.write(&bytes).await.and(None),
            Reply::Endless(body) => {
                self.write(&[head(1 << 50).into_bytes(), body].concat()).await?;
                let piece = vec![b' '; PIECE_BYTES];
                loop {
                    self.write(&piece).await?;
                }
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Option<()> {
        self.stream.write_all(bytes).await.ok()?;
        self.stream.flush().await.ok()
    }
}

impl Liar {
    pub(super) fn new(how: EvilHow, clock: Arc<dyn Clock>, names: Names, mut draw: Draw) -> Self {
        let step = [0, 1, 1000][usize::try_from(draw.below(3)).unwrap_or(0)];
        let (bodies, rows, draw) = (Mutex::default(), AtomicU64::new(0), Mutex::new(draw));
        Self { how, clock, names, draw, step, bodies, rows }
    }

    fn below(&self, bound: u64) -> u64 {
        self.draw.lock().below(bound)
    }

    fn noise(&self, len: u64) -> Vec<u8> {
        let mut draw = self.draw.lock();
        let words = (0..len.div_ceil(8)).flat_map(|_| draw.next_u64().to_le_bytes());
        words.take(usize::try_from(len).unwrap_or(0)).collect()
    }

    async fn answer(&self, path: &str, body: &[u8]) -> Reply {
        let what = path.trim_start_matches("/peer/v1/").split('?').next().unwrap_or_default();
        // Who never says hello in a way that can be understood is asked for nothing else.
        let is_spoilt = what != "hello" || self.below(3) == 0;
        if self.how == EvilHow::Garbage && is_spoilt {
            return self.garbage();
        }
        if self.how == EvilHow::Oversized && is_spoilt && what != "bodies" && self.below(2) == 0 {
            return Reply::Endless(b"{\"told\":".to_vec());
        }
        let asked: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let asked = asked.as_array().map_or(&[][..], Vec::as_slice);
        match what {
            "feed" => self.feed(path).await,
            "compare" => json_of(&json!({ "told": self.compared(asked) })),
            "bodies" => self.bodies(asked),
            "deletes" => json_of(&json!({ "print": 0, "deletes": [] })),
            _ => {
                let start = self.start();
                let life = json!({ "node": LIAR, "incarnation": 1, "head": 1, "start": start });
                json_of(&json!({ "life": life, "region": "", "state": "serving" }))
            }
        }
    }

    /// What no peer says.
    fn garbage(&self) -> Reply {
        let noise = self.noise(1 + self.below(4096));
        match self.below(6) {
            0 => Reply::Raw(noise),
            1 => Reply::Whole(noise),
            2 => Reply::Whole(b"{\"told\":7,\"life\":[],\"rows\":{}}".to_vec()),
            3 => Reply::Whole(vec![b'['; 100_000]),
            4 => Reply::Raw(
                [b"HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\n".to_vec(), noise].concat(),
            ),
            _ => Reply::Raw(b"HTTP/1.1 799 ?\r\ncontent-length: -3\r\n\r\n".to_vec()),
        }
    }

    async fn feed(&self, path: &str) -> Reply {
        let number = |name: &str| {
            let query =
                path.split(['?', '&']).find_map(|pair| pair.strip_prefix(name)?.parse().ok());
            query.unwrap_or(0_u64)
        };
        let from = number("from=");
        if self.how == EvilHow::Endless {
            let (next, head) = (from.saturating_add(self.step), from.saturating_add(1 << 20));
            let start = self.start();
            return json_of(&json!({ "rows": [], "next": next, "head": head, "start": start }));
        }
        let wait = self.below(FEED_WAIT_MILLIS).min(number("wait_ms="));
        self.clock.sleep(Duration::from_millis(wait)).await;
        let rows = self.rows(0, u64::MAX);
        let next = from + rows.len() as u64;
        let start = self.start();
        json_of(&json!({ "rows": rows, "next": next, "head": next, "start": start }))
    }

    /// Which start it says it is in: another one every now and then.
    fn start(&self) -> u64 {
        self.below(8).min(1)
    }

    /// What is told of each range.
    fn compared(&self, asked: &[Value]) -> Vec<Value> {
        let range = |ask: &Value| {
            let ends = ask["range"].as_array().map_or(&[][..], Vec::as_slice);
            let ends: Vec<u64> = ends.iter().filter_map(Value::as_u64).collect();
            <[u64; 4]>::try_from(ends).unwrap_or([0; 4])
        };
        let told = asked.iter().map(|ask| match (self.how, range(ask)) {
            (EvilHow::Endless, range) => self.parts(range),
            (_, [from, _, to, _]) => json!({ "rows": self.rows(from, to) }),
        });
        told.collect()
    }

    /// Parts of a range, all of which differ from whatever is there.
    fn parts(&self, [from, from_print, to, to_print]: [u64; 4]) -> Value {
        let count = 16;
        let mut ends: Vec<[u64; 2]> = if to - from > count {
            (0..count).map(|at| [from + (to - from) / count * at, 0]).collect()
        } else {
            let to_print = if to > from { u64::MAX } else { to_print };
            let width = to_print.saturating_sub(from_print) / count;
            (0..count).map(|at| [from, from_print + width * at]).collect()
        };
        ends.push([to, to_print]);
        ends[0] = [from, from_print];
        ends.dedup();
        let part = |ends: &[[u64; 2]]| {
            let ([a, a_print], [b, b_print]) = (ends[0], ends[1]);
            let count = 1 + self.below(1000);
            let print = self.noise(16);
            let word =
                |at: usize| u64::from_le_bytes(print[at..at + 8].try_into().unwrap_or_default());
            let sum = [count, word(0), word(8)];
            json!([[a, a_print, b, b_print], sum])
        };
        let parts: Vec<Value> = ends.windows(2).map(part).collect();
        if parts.len() < 2 { json!({}) } else { json!({ "parts": parts }) }
    }

    /// Rows about artifacts that are not what they say, of times from one to another, the newest first.
    fn rows(&self, from: u64, to: u64) -> Vec<Value> {
        let ahead = if self.how == EvilHow::Future { AHEAD_MILLIS } else { 0 };
        let now = (self.clock.wall().0 + ahead) << 16;
        let names = (self.names)();
        let row = |age: u64| {
            let time = now - age;
            if !(from..to).contains(&time) {
                return None;
            }
            let known = usize::try_from(self.below(names.len() as u64)).unwrap_or(0);
            let number = self.rows.fetch_add(1, Ordering::Relaxed);
            let new = Address::new("lies", Space::Plain, format!("lie/{number}"));
            // A digest is no name for what it lies about: a body that has it is no lie.
            let known = names.get(known).filter(|it| it.space() != Space::Cas && self.below(5) > 0);
            let address = known.cloned().or(new.ok())?;
            let body = Bytes::from(self.noise(1 + self.below(BODY_BYTES_MAX)));
            let digest = Digest::of(&body).to_string();
            let bytes = match (self.how, self.below(4)) {
                (EvilHow::WrongSizes, 0) => u64::MAX,
                (EvilHow::WrongSizes, 1) => 1 << 40,
                (_, _) => body.len() as u64,
            };
            let mut bodies = self.bodies.lock();
            if bodies.len() >= BODIES_MAX {
                bodies.pop_first();
            }
            bodies.insert(digest.clone(), body);
            Some(json!({
                "namespace": address.namespace(), "space": address.space().number(),
                "key": address.key(), "time": time, "node": LIAR, "bytes": bytes,
                "digest": digest,
            }))
        };
        (0..1 + self.below(ROWS_MAX)).filter_map(row).collect()
    }

    fn bodies(&self, asked: &[Value]) -> Reply {
        let mut out = Vec::new();
        for row in asked {
            let bytes = row["bytes"].as_u64().unwrap_or(0).min(BODY_BYTES_MAX);
            let true_body =
                self.bodies.lock().get(row["digest"].as_str().unwrap_or_default()).cloned();
            let (len, body) = match (self.how, true_body) {
                // What is not to be believed because of its version, and nothing else.
                (EvilHow::Future, Some(body)) => (body.len() as u64, body.to_vec()),
                (EvilHow::WrongSizes, Some(body)) => {
                    let len = body.len() as u64;
                    let told = [len + 1, len - 1, u64::MAX, 0]
                        [usize::try_from(self.below(4)).unwrap_or(0)];
                    (told, body.to_vec())
                }
                (_, _) => (bytes, self.noise(bytes)),
            };
            out.push(1);
            out.extend(len.to_le_bytes());
            out.extend(body);
        }
        if self.how == EvilHow::Oversized { Reply::Endless(out) } else { Reply::Whole(out) }
    }
}

fn json_of(value: &Value) -> Reply {
    Reply::Whole(value.to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use sim_engine::{NodeId, World, WorldConfig};

    use super::*;

    fn liar(how: EvilHow) -> Liar {
        let world = World::new(WorldConfig::from_seed(0));
        let names: Names = Arc::new(|| vec![Address::new("ns", Space::Plain, "held").unwrap()]);
        Liar::new(how, world.clock(NodeId::OPERATOR), names, Draw::named(7, "liar"))
    }

    #[test]
    fn rows_are_of_the_times_that_were_asked_for_and_the_newest_first() {
        let liar = liar(EvilHow::WrongBodies);
        let rows = (0..50).flat_map(|_| liar.rows(0, u64::MAX)).count();
        assert!(rows > 50 && liar.rows(5, 5).is_empty());
        let rows = liar.rows(0, u64::MAX);
        let times: Vec<u64> = rows.iter().filter_map(|row| row["time"].as_u64()).collect();
        assert!(times.is_sorted_by(|newer, older| newer > older), "{times:?}");
    }

    #[test]
    fn parts_without_end_lie_behind_each_other_and_get_smaller() {
        let liar = liar(EvilHow::Endless);
        let mut range = [0, 0, u64::MAX, u64::MAX];
        for depth in 0.. {
            let told = liar.parts(range);
            let Some(parts) = told["parts"].as_array() else { break };
            let ends: Vec<[u64; 4]> =
                parts.iter().map(|part| serde_json::from_value(part[0].clone()).unwrap()).collect();
            assert!(ends.iter().all(|[a, b, c, d]| (a, b) < (c, d)), "{ends:?}");
            assert!(ends.windows(2).all(|two| two[0][2..] == two[1][..2]), "{ends:?}");
            range = ends[ends.len() / 2];
            assert!(depth < 100, "it never ends");
        }
    }

    #[test]
    fn a_wrong_body_is_as_long_as_it_should_be_and_another_one() {
        for (how, is_true) in [(EvilHow::WrongBodies, false), (EvilHow::Future, true)] {
            let liar = liar(how);
            let rows = liar.rows(0, u64::MAX);
            let Reply::Whole(frame) = liar.bodies(&rows[..1]) else { panic!("a whole answer") };
            assert_eq!(frame.len() as u64, 9 + rows[0]["bytes"].as_u64().unwrap());
            let digest = Digest::of(&frame[9..]).to_string();
            assert_eq!(rows[0]["digest"] == digest.as_str(), is_true, "{how:?}");
        }
    }
}
