//! What was acknowledged, over any number of lives of one node: uploads, overwrites, reads and vouches
//! that go on until the node dies, and what each name must hold after that.
//!
//! A write that was answered 201 must be there, byte for byte. One that was under way, or was refused, may
//! have been stored or not; whatever the next life shows first is what stays. Nothing else may ever
//! be read.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Method;
use kura_tests::{
    client::{Answer, Client},
    node::Kura,
    wait::{until, within},
};
use tokio::task::JoinSet;

use crate::bed::{body, cas_path};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

const WRITERS: u64 = 6;
/// Names that each writer writes again and again.
const NAMES: u64 = 8;
/// Of what was settled in earlier lives, how much is read after each start.
const SAMPLE: usize = 48;
/// How long any one request may take: longer than any freeze.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(60);

/// Draws that follow from a seed.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut state = self.0;
        state = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        state = (state ^ state >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        (state ^ state >> 31) % bound
    }
}

/// Where a body ends up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Blobs,
    Entries,
    Pool,
}

/// One body that was sent. Its bytes follow from number and length.
#[derive(Clone, Copy, Debug)]
struct Sent {
    number: u64,
    len: u64,
    place: Place,
    begun: Instant,
}

impl Sent {
    fn body(self) -> Bytes {
        body(self.number, usize::try_from(self.len).expect("bodies fit into memory"))
    }
}

/// A write that must be there.
#[derive(Clone, Copy, Debug)]
struct Kept {
    sent: Sent,
    answered: Instant,
    /// Nothing where the node died before it could tell.
    sequence: Option<u64>,
    /// What a vouch said.
    promised_until: Option<Instant>,
}

/// What one name may hold.
#[derive(Clone, Debug, Default)]
struct Held {
    kept: Option<Kept>,
    /// Sent after `kept`, and nobody knows what became of it.
    perhaps: Vec<Sent>,
    is_settled: bool,
}

/// What a node may do with what it acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// There is room for everything: nothing may ever be missing.
    ForAll,
    /// The rings turn: what is missing must be older than what is there.
    ForTheLatest,
}

/// Counts of all lives.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Answered 201.
    pub(crate) puts: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) reads: AtomicU64,
    pub(crate) vouched: AtomicU64,
    /// Under way when the node died.
    pub(crate) cut_off: AtomicU64,
    /// Under way or refused, and there afterwards.
    pub(crate) adopted: AtomicU64,
    pub(crate) evicted: AtomicU64,
}

/// What the writers of one life share.
#[derive(Debug, Default)]
struct Life {
    sent_bytes: AtomicU64,
    /// Writers end behind what they are doing.
    is_over: AtomicBool,
    /// From here on requests may fail in any way.
    dies: AtomicBool,
}

/// One client and what it knows. No other one writes its names.
struct Writer {
    id: u64,
    room: Room,
    promise: Duration,
    dice: Dice,
    next: u64,
    held: BTreeMap<String, Held>,
    /// Names in the order in which they were made.
    latest: Vec<String>,
    counts: Arc<Counts>,
}

impl Writer {
    /// Works until the life is over or the node dies.
    async fn work(mut self, addr: SocketAddr, life: Arc<Life>) -> Self {
        let mut client = Client::connect(addr).await;
        while !life.is_over.load(Ordering::Relaxed) {
            let goes_on = match self.dice.below(100) {
                0..62 => self.write(&mut client, &life).await,
                62..86 => self.read(&mut client, &life).await,
                _ => self.vouch(&mut client, &life).await,
            };
            if !goes_on {
                break;
            }
        }
        self
    }

    /// A body of any size and kind, under a name of its own or one that is written again and again.
    fn draw(&mut self) -> (String, Sent) {
        self.next += 1;
        let number = self.id << 40 | self.next;
        let kind = self.dice.below(64);
        let (place, from, to) = match kind {
            0..36 if kind.is_multiple_of(3) => (Place::Entries, 1, 16 * KIB),
            0..50 => (Place::Blobs, 1, 16 * KIB),
            // Staged, and still no more than an eighth of a segment of 4 MiB.
            50..59 => (Place::Blobs, 256 * KIB, 480 * KIB),
            _ => (Place::Pool, 600 * KIB, 2 * MIB),
        };
        let len = from + self.dice.below(to - from);
        let sent = Sent { number, len, place, begun: Instant::now() };
        let path = match (place, kind % 4) {
            (Place::Entries, _) => format!("/ac/{number:064x}"),
            (Place::Blobs | Place::Pool, 0 | 1) => cas_path(&sent.body()),
            // What is promised of an older one of the same name would hold an object out of its turn.
            (Place::Pool, 2) if self.room == Room::ForTheLatest => format!("/plain/{number}"),
            (Place::Blobs | Place::Pool, 2) => {
                format!("/plain/{}-again-{}", self.id, self.dice.below(NAMES))
            }
            (Place::Blobs | Place::Pool, _) => format!("/plain/{number}"),
        };
        (path, sent)
    }

    async fn write(&mut self, client: &mut Client, life: &Life) -> bool {
        let (path, sent) = self.draw();
        life.sent_bytes.fetch_add(sent.len, Ordering::Relaxed);
        let held = self.held.entry(path.clone()).or_default();
        held.perhaps.push(sent);
        held.is_settled = false;
        let answer = ask(client, Method::PUT, &path, sent.body()).await;
        match answer {
            Ok(answer) if answer.status == 201 => {
                let sequence = answer.header("x-kura-sequence").parse().ok();
                assert!(sequence.is_some(), "{path}: no sequence");
                let answered = Instant::now();
                let kept = Some(Kept { sent, answered, sequence, promised_until: None });
                *held = Held { kept, perhaps: Vec::new(), is_settled: false };
                self.latest.push(path);
                self.counts.puts.fetch_add(1, Ordering::Relaxed);
                true
            }
            Ok(answer) if answer.status == 503 && !answer.header("retry-after").is_empty() => {
                self.counts.refused.fetch_add(1, Ordering::Relaxed);
                true
            }
            other => self.breaks_off(life, "PUT", &path, other),
        }
    }

    async fn read(&mut self, client: &mut Client, life: &Life) -> bool {
        let Some((path, _)) = self.choose(|_, _| true) else { return true };
        match ask(client, Method::GET, &path, Bytes::new()).await {
            Ok(answer) if answer.status == 200 => {
                let is_right = self.held[&path].holds(&answer.body);
                assert!(is_right, "{path}: other bytes, {:?} is expected", self.held[&path]);
                self.counts.reads.fetch_add(1, Ordering::Relaxed);
                true
            }
            Ok(answer) if answer.status == 404 && self.room == Room::ForTheLatest => true,
            other => self.breaks_off(life, "GET", &path, other),
        }
    }

    async fn vouch(&mut self, client: &mut Client, life: &Life) -> bool {
        let Some((path, _)) = self.choose(|path, _| path.starts_with("/cas/")) else { return true };
        let asked = Instant::now();
        match ask(client, Method::HEAD, &path, Bytes::new()).await {
            Ok(answer) if answer.status == 200 => {
                let held = self.held.get_mut(&path).expect("it was chosen among them");
                let kept = held.kept.as_mut().expect("it was chosen for that");
                kept.promised_until = Some(asked + self.promise);
                self.counts.vouched.fetch_add(1, Ordering::Relaxed);
                true
            }
            // Also if no more can be promised now.
            Ok(answer) if answer.status == 404 => true,
            other => self.breaks_off(life, "HEAD", &path, other),
        }
    }

    /// One of the latest that must be there. Where rings turn, nothing of the pool: it goes by use.
    fn choose(&mut self, wanted: impl Fn(&str, &Kept) -> bool) -> Option<(String, Kept)> {
        let back = self.dice.below(64);
        let at = (self.latest.len() as u64).checked_sub(1 + back)?;
        let path = &self.latest[usize::try_from(at).expect("it is a place in a vector")];
        let kept = self.held.get(path)?.kept?;
        let may = self.room == Room::ForAll || kept.sent.place != Place::Pool;
        (may && wanted(path, &kept)).then(|| (path.clone(), kept))
    }

    /// Notes that the node is gone; fails if it should be there.
    fn breaks_off(
        &self,
        life: &Life,
        what: &str,
        path: &str,
        answer: Result<Answer, hyper::Error>,
    ) -> bool {
        let answer = answer.map(|answer| (answer.status, answer.text()));
        assert!(life.dies.load(Ordering::Relaxed), "{what} {path}: {answer:?}");
        self.counts.cut_off.fetch_add(1, Ordering::Relaxed);
        false
    }
}

impl Held {
    fn holds(&self, body: &Bytes) -> bool {
        let kept = self.kept.iter().map(|kept| &kept.sent);
        kept.chain(&self.perhaps).any(|sent| sent.len == body.len() as u64 && sent.body() == *body)
    }

    /// The first read of a life shows what there is, and from then on that must stay.
    fn settle(&mut self, body: &Bytes) -> bool {
        let adopted = self.perhaps.iter().copied().find(|sent| sent.body() == *body);
        if let Some(sent) = adopted {
            let answered = Instant::now();
            self.kept = Some(Kept { sent, answered, sequence: None, promised_until: None });
        }
        self.perhaps.clear();
        self.is_settled = true;
        adopted.is_some()
    }
}

/// All clients of one node, and what all of them know.
pub(crate) struct Acknowledged {
    writers: Vec<Writer>,
    room: Room,
    dice: Dice,
    pub(crate) counts: Arc<Counts>,
}

/// What a start showed.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    /// Bytes that are there.
    pub(crate) bytes: BTreeMap<Place, u64>,
    missing: Vec<(String, Kept)>,
    there: Vec<Kept>,
}

impl Acknowledged {
    /// Clients of a node with this `store.promise`.
    pub(crate) fn new(seed: u64, room: Room, promise: Duration) -> Self {
        let counts = Arc::<Counts>::default();
        let writer = |id: u64| Writer {
            id,
            room,
            promise,
            dice: Dice::new(seed ^ (id + 1) << 48),
            next: 0,
            held: BTreeMap::new(),
            latest: Vec::new(),
            counts: counts.clone(),
        };
        Self {
            writers: (0..WRITERS).map(writer).collect(),
            room,
            dice: Dice::new(seed),
            counts: counts.clone(),
        }
    }

    /// Works until so many bytes were sent, and then calls `end`. Where `dies`, what happens from then on
    /// is the end of the node.
    pub(crate) async fn work_until(
        &mut self,
        addr: SocketAddr,
        bytes: u64,
        dies: bool,
        end: impl AsyncFnOnce(),
    ) {
        let life = Arc::<Life>::default();
        let mut working = JoinSet::new();
        for writer in self.writers.drain(..) {
            working.spawn(writer.work(addr, life.clone()));
        }
        until("enough is sent", REQUEST_TIME_MAX, async || {
            let failed = working.try_join_next();
            assert!(failed.is_none(), "a client ended: {:?}", failed.map(|it| it.map(|_| ())));
            (life.sent_bytes.load(Ordering::Relaxed) >= bytes).then_some(())
        })
        .await;
        life.dies.store(dies, Ordering::Relaxed);
        end().await;
        life.is_over.store(true, Ordering::Relaxed);
        while let Some(ended) = working.join_next().await {
            self.writers.push(ended.expect("a client failed"));
        }
        self.writers.sort_by_key(|writer| writer.id);
    }

    /// Reads what the last life wrote and a sample of the rest, or everything, and judges it.
    pub(crate) async fn judge(&mut self, node: &Kura, everything: bool) -> Shown {
        let mut client = Client::connect(node.addr()).await;
        let mut shown = Shown::default();
        for (at, path) in self.names_to_read(everything) {
            let answer = ask(&mut client, Method::GET, &path, Bytes::new()).await;
            let answer = answer.unwrap_or_else(|error| panic!("GET {path}: {error}"));
            let held = self.writers[at].held.get_mut(&path).expect("it was listed");
            match answer.status {
                200 => {
                    assert!(held.holds(&answer.body), "{path}: other bytes, not of {held:?}");
                    let is_adopted = held.settle(&answer.body);
                    self.counts.adopted.fetch_add(u64::from(is_adopted), Ordering::Relaxed);
                    let kept = held.kept.expect("it is settled");
                    *shown.bytes.entry(kept.sent.place).or_default() += kept.sent.len;
                    shown.there.push(kept);
                }
                404 => {
                    if let Some(kept) = held.kept {
                        assert!(self.room == Room::ForTheLatest, "{path} is lost: {held:?}");
                        shown.missing.push((path.clone(), kept));
                    }
                    self.writers[at].held.remove(&path);
                }
                status => panic!("GET {path}: {status}: {}", answer.text()),
            }
        }
        self.judge_missing(node, &shown).await;
        shown
    }

    /// Names to read, those first that were written first: where rings turn that is all of them, so that the
    /// pool's order of use stays that of the writes.
    fn names_to_read(&mut self, everything: bool) -> Vec<(usize, String)> {
        let everything = everything || self.room == Room::ForTheLatest;
        let mut found = Vec::new();
        let mut settled = Vec::new();
        for (at, writer) in self.writers.iter().enumerate() {
            for (path, held) in &writer.held {
                let kept = held.kept.iter().map(|kept| kept.answered);
                let perhaps = held.perhaps.iter().map(|sent| sent.begun);
                let to = if held.is_settled && !everything { &mut settled } else { &mut found };
                to.push((kept.chain(perhaps).max(), at, path.clone()));
            }
        }
        for _ in 0..SAMPLE.min(settled.len()) {
            let at = self.dice.below(settled.len() as u64);
            found.push(settled.swap_remove(usize::try_from(at).expect("it is a place")));
        }
        found.sort();
        found.into_iter().map(|(_, at, path)| (at, path)).collect()
    }

    /// What is missing is older than what is there: below the horizon of its ring, or put before everything
    /// that the pool holds; and no promise held it.
    async fn judge_missing(&self, node: &Kura, shown: &Shown) {
        let ring = &node.json("/status").await["ring"];
        let horizon = |ring: &serde_json::Value| ring["horizon_sequence"].as_u64();
        let [blobs, entries] = [horizon(ring), horizon(&ring["entries"])]
            .map(|horizon| horizon.expect("/status tells of horizons"));
        for (path, kept) in &shown.missing {
            let is_promised = kept.promised_until.is_some_and(|until| Instant::now() < until);
            assert!(!is_promised, "{path} was promised: {kept:?}");
            let below = |horizon| kept.sequence.is_none_or(|sequence| sequence < horizon);
            let is_old = match kept.sent.place {
                Place::Blobs => below(blobs),
                Place::Entries => below(entries),
                Place::Pool => !shown.there.iter().any(|other| {
                    other.sent.place == Place::Pool && other.answered < kept.sent.begun
                }),
            };
            assert!(is_old, "{path} is lost: {kept:?}; horizons {blobs}, {entries}");
        }
        self.counts.evicted.fetch_add(shown.missing.len() as u64, Ordering::Relaxed);
    }
}

async fn ask(
    client: &mut Client,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<Answer, hyper::Error> {
    let what = format!("{method} {path}");
    within(&what, REQUEST_TIME_MAX, client.try_send(method, path, body)).await
}
