//! Uploads of all sizes and kinds, and readers that know what each of them must give.
//!
//! What a client may find missing follows from what the node says: nothing within its write grace or
//! a promise, and nothing of a ring whose sequence is not below the horizon of that ring.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Method;
use kura_tests::{
    client::{Answer, Client},
    raw::Raw,
    wait::within,
};

use crate::bed::{body, cas_path};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// How often an upload comes back after a 503, each time after the second that it is told to wait.
const ATTEMPTS_MAX: u32 = 60;
/// Among as many that were stored last, half of the reads choose.
const LATEST: u64 = 64;
/// How long a reader rests between two reads.
const READER_REST: Duration = Duration::from_millis(2);
/// The node keeps time in whole milliseconds.
const CLOCK_STEP: Duration = Duration::from_millis(2);
/// How long any one request may take.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);

/// Where an upload ends up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Blobs,
    Entries,
    Pool,
}

/// One upload: everything about it follows from its number.
#[derive(Clone, Copy, Debug)]
struct Plan {
    number: u64,
    len: u64,
    place: Place,
}

impl Plan {
    fn of(number: u64) -> Self {
        let dice = mix(number);
        let (place, from, to) = match dice % 1000 {
            0..300 => (Place::Blobs, KIB, 16 * KIB),
            300..550 => (Place::Entries, KIB, 64 * KIB),
            550..800 => (Place::Blobs, 16 * KIB, 256 * KIB),
            // Larger than what is gathered in memory.
            800..970 => (Place::Blobs, 256 * KIB, 480 * KIB),
            // Larger than an eighth of a segment.
            970..998 => (Place::Pool, 600 * KIB, 4 * MIB),
            _ => (Place::Pool, 6 * MIB, 12 * MIB),
        };
        Self { number, len: from + mix(dice) % (to - from), place }
    }

    fn body(self) -> Bytes {
        body(self.number, usize::try_from(self.len).expect("bodies fit into memory"))
    }

    fn path(self, body: &[u8]) -> String {
        match self.place {
            Place::Entries => cas_path(body).replace("/cas/", "/ac/"),
            Place::Blobs | Place::Pool if self.number.is_multiple_of(3) => {
                format!("/plain/{}", self.number)
            }
            Place::Blobs | Place::Pool => cas_path(body),
        }
    }
}

/// What was stored.
#[derive(Clone, Debug)]
struct Stored {
    plan: Plan,
    path: String,
    sequence: u64,
    /// When the attempt began that was answered 201: it was not written before that.
    since: Instant,
}

/// Counts of one run.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) put_bytes: AtomicU64,
    pub(crate) puts: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) hits: AtomicU64,
    pub(crate) misses: AtomicU64,
    pub(crate) vouched: AtomicU64,
    pub(crate) slow_reads: AtomicU64,
}

impl Counts {
    /// What readers did, each by its name.
    pub(crate) fn reads(&self) -> [(&'static str, u64); 4] {
        let Self { hits, misses, vouched, slow_reads, .. } = self;
        [("hits", hits), ("misses", misses), ("vouches", vouched), ("slow reads", slow_reads)]
            .map(|(what, count)| (what, count.load(Ordering::Relaxed)))
    }
}

/// A run of uploads and reads against one node.
pub(crate) struct MixedLoad {
    addr: SocketAddr,
    /// The node's `store.write_grace` and `store.promise`.
    kept_for: Duration,
    /// How many bytes are put in all.
    goal_bytes: u64,
    next: AtomicU64,
    planned_bytes: AtomicU64,
    stored: Mutex<Vec<Stored>>,
    /// The highest that was seen, of bodies and of entries. They never go back.
    horizons: Mutex<[u64; 2]>,
    all_put: AtomicBool,
    pub(crate) counts: Counts,
}

impl MixedLoad {
    pub(crate) fn new(addr: SocketAddr, kept_for: Duration, goal_bytes: u64) -> Self {
        Self {
            addr,
            kept_for,
            goal_bytes,
            next: AtomicU64::new(0),
            planned_bytes: AtomicU64::new(0),
            stored: Mutex::default(),
            horizons: Mutex::default(),
            all_put: AtomicBool::new(false),
            counts: Counts::default(),
        }
    }

    /// Uploads until the goal is reached, one body after the other.
    pub(crate) async fn upload(&self) {
        let mut client = Client::connect(self.addr).await;
        loop {
            let plan = Plan::of(self.next.fetch_add(1, Ordering::Relaxed));
            if self.planned_bytes.fetch_add(plan.len, Ordering::Relaxed) >= self.goal_bytes {
                return;
            }
            let body = plan.body();
            let path = plan.path(&body);
            let (since, sequence) = self.put(&mut client, &path, &body).await;
            self.counts.puts.fetch_add(1, Ordering::Relaxed);
            self.counts.put_bytes.fetch_add(plan.len, Ordering::Relaxed);
            self.stored.lock().unwrap().push(Stored { plan, path, sequence, since });
        }
    }

    /// Stores one body, coming back for as long as the node asks for that. When the attempt that
    /// succeeded began, and the sequence that it was given.
    async fn put(&self, client: &mut Client, path: &str, body: &Bytes) -> (Instant, u64) {
        for _ in 0..ATTEMPTS_MAX {
            let since = Instant::now();
            let answer = send(client, Method::PUT, path, body.clone()).await;
            match answer.status {
                201 => {
                    let sequence = answer.header("x-kura-sequence").parse();
                    return (since, sequence.expect("a new body has a sequence"));
                }
                503 => {
                    assert_eq!(answer.header("retry-after"), "1", "{path}: {}", answer.text());
                    self.counts.refused.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                status => panic!("PUT {path}: {status}: {}", answer.text()),
            }
        }
        panic!("PUT {path}: refused {ATTEMPTS_MAX} times");
    }

    /// No more uploads: readers end.
    pub(crate) fn end(&self) {
        self.all_put.store(true, Ordering::Relaxed);
    }

    /// Reads until all is put: what was stored last as often as anything else, and some of it after
    /// asking whether it is there.
    pub(crate) async fn read(&self, seed: u64) {
        let mut client = Client::connect(self.addr).await;
        for step in 0.. {
            if self.all_put.load(Ordering::Relaxed) {
                return;
            }
            let dice = mix(seed << 32 | step);
            let Some(stored) = self.choose(dice, |_| true) else {
                tokio::time::sleep(READER_REST).await;
                continue;
            };
            let mut kept_until = stored.since + self.kept_for;
            if dice.is_multiple_of(5) && stored.path.starts_with("/cas/") {
                let asked = Instant::now();
                let answer = send(&mut client, Method::HEAD, &stored.path, Bytes::new()).await;
                match answer.status {
                    200 => {
                        kept_until = kept_until.max(asked + self.kept_for);
                        self.counts.vouched.fetch_add(1, Ordering::Relaxed);
                    }
                    // Also if no more can be promised now.
                    404 => {}
                    status => panic!("HEAD {}: {status}", stored.path),
                }
            }
            let answer = send(&mut client, Method::GET, &stored.path, Bytes::new()).await;
            self.judge(&mut client, &stored, kept_until, answer).await;
            tokio::time::sleep(READER_REST).await;
        }
    }

    /// Reads large objects until all is put, and lets each answer wait for longer than the node has to
    /// keep the object: what has begun ends, though it is evicted meanwhile.
    pub(crate) async fn read_slowly(&self, seed: u64) {
        for step in 0.. {
            if self.all_put.load(Ordering::Relaxed) {
                return;
            }
            let is_large = |it: &Stored| it.plan.place == Place::Pool;
            if let Some(stored) = self.choose(mix(seed << 32 | step) & !1, is_large) {
                let mut raw = Raw::connect(self.addr).await;
                raw.send(format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", stored.path)).await;
                tokio::time::sleep(self.kept_for * 2).await;
                let answer = raw.answer().await;
                match answer.status {
                    200 => assert!(answer.body == stored.plan.body(), "{stored:?}: another body"),
                    404 => {}
                    status => panic!("GET {}: {status}", stored.path),
                }
                self.counts
                    .slow_reads
                    .fetch_add(u64::from(answer.status == 200), Ordering::Relaxed);
            } else {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    /// One of what was stored: of the latest for even dice, else of all.
    fn choose(&self, dice: u64, wanted: impl Fn(&Stored) -> bool) -> Option<Stored> {
        let stored = self.stored.lock().unwrap();
        let count = stored.len() as u64;
        let among = if dice.is_multiple_of(2) { count.min(LATEST) } else { count };
        let back = (dice >> 8).checked_rem(among)? + 1;
        let at = usize::try_from(count - back).expect("it is a place in a vector");
        stored[..=at].iter().rev().take(1000).find(|it| wanted(it)).cloned()
    }

    /// Whether an answer to a GET is right: the whole body, or a miss of what may be gone.
    async fn judge(
        &self,
        client: &mut Client,
        stored: &Stored,
        kept_until: Instant,
        answer: Answer,
    ) -> bool {
        let heard = Instant::now();
        match answer.status {
            200 => {
                assert!(answer.body == stored.plan.body(), "{stored:?}: another body");
                self.counts.hits.fetch_add(1, Ordering::Relaxed);
                true
            }
            404 => {
                let early = kept_until.saturating_duration_since(heard + CLOCK_STEP);
                assert!(early.is_zero(), "{stored:?} is missing {early:?} too early");
                if stored.plan.place != Place::Pool {
                    self.is_below_horizon(client, stored).await;
                }
                self.counts.misses.fetch_add(1, Ordering::Relaxed);
                false
            }
            status => panic!("GET {}: {status}: {}", stored.path, answer.text()),
        }
    }

    async fn is_below_horizon(&self, client: &mut Client, stored: &Stored) {
        let at = usize::from(stored.plan.place == Place::Entries);
        if stored.sequence < self.horizons.lock().unwrap()[at] {
            return;
        }
        let answer = send(client, Method::GET, "/status", Bytes::new()).await;
        let status: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        let ring = &status["ring"];
        let told = [&ring["horizon_sequence"], &ring["entries"]["horizon_sequence"]];
        let told = told.map(|it| it.as_u64().expect("/status tells of horizons"));
        let mut horizons = self.horizons.lock().unwrap();
        *horizons = [horizons[0].max(told[0]), horizons[1].max(told[1])];
        assert!(stored.sequence < horizons[at], "{stored:?} is missing, the horizon is {told:?}");
    }

    /// Reads everything that was ever stored, once. How much of each place is missing.
    pub(crate) async fn read_all(&self) -> BTreeMap<Place, u64> {
        let mut client = Client::connect(self.addr).await;
        let all = self.stored.lock().unwrap().clone();
        let mut missing = BTreeMap::new();
        for stored in &all {
            let kept_until = stored.since + self.kept_for;
            let answer = send(&mut client, Method::GET, &stored.path, Bytes::new()).await;
            let is_here = self.judge(&mut client, stored, kept_until, answer).await;
            *missing.entry(stored.plan.place).or_default() += u64::from(!is_here);
        }
        missing
    }
}

async fn send(client: &mut Client, method: Method, path: &str, body: Bytes) -> Answer {
    let what = format!("{method} {path}");
    within(&what, REQUEST_TIME_MAX, client.send(method, path, body)).await
}

/// Spreads a number over all others.
fn mix(number: u64) -> u64 {
    let mut state = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    state = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    state = (state ^ state >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    state ^ state >> 31
}
