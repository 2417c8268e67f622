//! One peer, for the life of the node: say hello, compare all that it holds, follow its feed.
//!
//! 1. note where the peer's feed ends
//! 2. list what it holds, the newest first, and fetch what is lacking
//! 3. what it could not deliver is tried again, and set aside after [`TRIES_MAX`] spaced tries
//! 4. the pass is complete: follow the feed from where it ended in step 1
//!
//! A pass that is cut goes on where it stopped. Whatever fails is tried again by itself: every turn
//! of the loop asks what there is to do, and nothing waits for an event that came once.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use kura_core::{
    backoff::Backoff,
    feed::{Cursor, FeedRow},
    limits::{FEED_WAIT, FETCHES_MAX, PAGE_ROWS_MAX, TRIES_MAX},
};
use kura_env::{BoxFuture, EntropyStream};

use super::{
    Shared,
    client::Client,
    error::PeerError,
    fetch::{Fetched, fetch, take_unit},
    wire::{FEED, FeedPage, HELLO, Hello, LIST, ListPage, Row},
};

/// Follows one peer.
pub(crate) struct Follower {
    shared: Arc<Shared>,
    /// As it was configured.
    name: String,
    client: Client,
    backoff: Backoff,
    jitter: Box<dyn EntropyStream>,
    /// The pass that is under way, kept when it is cut.
    pass: Option<Pass>,
    /// The incarnation of the last complete pass since start.
    passed: Option<u64>,
    /// How often each artifact failed that is still to be tried. As many as a pass lists at most.
    tries: BTreeMap<Vec<u8>, u32>,
}

struct Pass {
    incarnation: u64,
    /// Where to follow from when the pass is complete.
    head: u64,
    next: Next,
    /// To be fetched: what a cut left, or what failed.
    wanted: VecDeque<FeedRow>,
}

#[derive(Clone, Copy)]
enum Next {
    Begin,
    At(u64, u64),
    End,
}

/// How a talk with a peer ended without an error.
struct Myself;

impl Follower {
    pub(crate) fn new(shared: Arc<Shared>, name: String) -> Self {
        let authority = name.strip_prefix("http://").unwrap_or(&name).trim_end_matches('/');
        let client = Client::new(shared.env.clone(), authority.to_owned());
        let jitter = shared.env.entropy.stream("peer back-off");
        Self {
            shared,
            name,
            client,
            backoff: Backoff::default(),
            jitter,
            pass: None,
            passed: None,
            tries: BTreeMap::new(),
        }
    }

    /// Goes on until the peer turns out to be this node.
    pub(crate) async fn run(mut self) {
        loop {
            match self.talk().await {
                Ok(Myself) => {
                    self.shared.mesh.is_myself(&self.name);
                    return;
                }
                Err(error) => {
                    self.shared.metrics.replication.peer_failures.inc();
                    self.shared.mesh.failed(&self.name, &error);
                    let pause = self.backoff.fail(self.jitter.next_u64(), error.retry_after());
                    tracing::info!(peer = self.name, cause = error.line(), ?pause, "peer failed");
                    self.shared.env.clock.sleep(pause).await;
                }
            }
        }
    }

    async fn talk(&mut self) -> Result<Myself, PeerError> {
        let hello: Hello = self.client.ask(HELLO).await?;
        if hello.node == self.shared.store.node() {
            return Ok(Myself);
        }
        self.shared.mesh.met(&self.name, hello.clone());
        if self.pass.as_ref().is_some_and(|pass| pass.incarnation != hello.incarnation) {
            self.pass = None;
        }
        let stored = self.shared.store.cursor(hello.node).await.map_err(PeerError::Store)?;
        let usable = stored.filter(|cursor| cursor.incarnation == hello.incarnation);
        let has_passed = self.passed == Some(hello.incarnation);
        let mut cursor = match usable.filter(|_| has_passed) {
            Some(cursor) => cursor,
            None => self.compare(&hello).await?,
        };
        loop {
            match self.follow(&hello, cursor).await {
                Ok(next) => cursor = next,
                Err(PeerError::Gone) => {
                    self.shared.metrics.replication.feeds_gone.inc();
                    self.passed = None;
                    return Err(PeerError::Gone);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// One pass over all that the peer holds, or the rest of one that was cut. The cursor to follow
    /// from.
    async fn compare(&mut self, hello: &Hello) -> Result<Cursor, PeerError> {
        let Hello { incarnation, head, .. } = *hello;
        let mut pass = self.pass.take().unwrap_or_else(|| {
            self.shared.metrics.replication.passes_begun.inc();
            Pass { incarnation, head, next: Next::Begin, wanted: VecDeque::new() }
        });
        self.shared.mesh.pass_begins(&self.name);
        let outcome = self.carry_on(&mut pass).await;
        let cursor = Cursor { incarnation: pass.incarnation, sequence: pass.head };
        match outcome {
            Ok(None) => {}
            Ok(Some(cause)) => {
                // The pass is kept with what is left of it, and goes on after a pause.
                self.pass = Some(pass);
                return Err(cause);
            }
            Err(error) => {
                self.pass = Some(pass);
                return Err(error);
            }
        }
        self.shared.store.set_cursor(hello.node, cursor).await.map_err(PeerError::Store)?;
        self.passed = Some(incarnation);
        self.tries.clear();
        self.backoff.succeed();
        self.shared.metrics.replication.passes_completed.inc();
        self.shared.mesh.pass_ends(&self.name);
        self.shared.mesh.follows(&self.name, cursor.sequence, cursor.sequence);
        Ok(cursor)
    }

    /// Lists and fetches until nothing is left to be done now. Gives the reason if something has to
    /// be tried again.
    async fn carry_on(&mut self, pass: &mut Pass) -> Result<Option<PeerError>, PeerError> {
        let mut wanted = std::mem::take(&mut pass.wanted);
        let mut fetched = Fetched::default();
        let shared = self.shared.clone();
        let mut under_way: FuturesUnordered<Work<'_>> = FuturesUnordered::new();
        let mut listing: Option<Listing<'_>> = None;
        let mut broken = None;
        loop {
            // A peer that cannot be reached is not asked once for each row.
            let goes_on = broken.is_none() && fetched.unsent.is_empty();
            while goes_on && under_way.len() < FETCHES_MAX && !wanted.is_empty() {
                let unit = take_unit(&mut wanted, |row| is_suspect(&self.tries, row));
                under_way.push(work(&shared, &self.client, unit));
            }
            let is_hungry = goes_on && wanted.len() < PAGE_ROWS_MAX;
            if is_hungry && listing.is_none() && !matches!(pass.next, Next::End) {
                listing = Some(list(&shared, &self.client, pass.next));
            }
            if listing.is_none() && under_way.is_empty() {
                break;
            }
            tokio::select! {
                biased;
                Some((rows, done)) = under_way.next() => match done {
                    Ok(done) => {
                        shared.mesh.resolved(&self.name, done.applied + done.missing, done.bytes);
                        fetched.add(done);
                    }
                    // Our own store failed: what is under way ends, and nothing new begins.
                    Err(error) => {
                        wanted.extend(rows);
                        broken.get_or_insert(error);
                    }
                },
                page = next_page(&mut listing) => match page {
                    Ok((page, lacking)) => {
                        let (rows, lacks) = (page.rows.len() as u64, lacking.len() as u64);
                        shared.mesh.listed(&self.name, rows, lacks);
                        wanted.extend(lacking);
                        pass.next = page.next.map_or(Next::End, |(seg, at)| Next::At(seg, at));
                    }
                    Err(error) => broken = Some(error),
                },
            }
        }
        drop((under_way, listing));
        pass.wanted = wanted;
        let cause = fetched.cause.take();
        pass.wanted.extend(self.judge(fetched));
        match (broken, pass.wanted.is_empty()) {
            (Some(error), _) => Err(error),
            (None, true) => Ok(None),
            (None, false) => Ok(Some(cause.unwrap_or_else(|| {
                PeerError::Answer("artifacts are left over without a reason".to_owned())
            }))),
        }
    }

    /// Decides what of the failed rows is tried again; the others are set aside, and named.
    fn judge(&mut self, fetched: Fetched) -> Vec<FeedRow> {
        let mut again = Vec::new();
        for row in fetched.failed {
            let tries = self.tries.entry(row.address.encode()).or_default();
            *tries += 1;
            if *tries < TRIES_MAX {
                again.push(row);
            } else {
                self.put_aside(&row);
            }
        }
        for row in fetched.declined {
            self.put_aside(&row);
        }
        for row in fetched.untried {
            self.tries.entry(row.address.encode()).or_default();
            again.push(row);
        }
        again.extend(fetched.unsent);
        again
    }

    fn put_aside(&mut self, row: &FeedRow) {
        self.tries.remove(&row.address.encode());
        self.shared.metrics.replication.set_aside.inc();
        self.shared.mesh.set_aside(&self.name, row);
    }

    /// One page of the feed: asked for, resolved, and the cursor moved behind it.
    async fn follow(&mut self, hello: &Hello, cursor: Cursor) -> Result<Cursor, PeerError> {
        let Cursor { incarnation, sequence } = cursor;
        let wait_ms = FEED_WAIT.as_millis();
        let path = format!(
            "{FEED}?incarnation={incarnation}&from={sequence}&rows={PAGE_ROWS_MAX}&wait_ms={wait_ms}"
        );
        let page: FeedPage = self.client.ask(&path).await?;
        self.backoff.succeed();
        self.shared.mesh.follows(&self.name, sequence, page.head);
        let mut wanted = VecDeque::from(lacking(&self.shared, &page.rows).await?);
        let mut fetched = Fetched::default();
        let shared = self.shared.clone();
        let mut under_way: FuturesUnordered<Work<'_>> = FuturesUnordered::new();
        while (!wanted.is_empty() && fetched.unsent.is_empty()) || !under_way.is_empty() {
            let goes_on = fetched.unsent.is_empty();
            while goes_on && under_way.len() < FETCHES_MAX && !wanted.is_empty() {
                let unit = take_unit(&mut wanted, |row| is_suspect(&self.tries, row));
                under_way.push(work(&shared, &self.client, unit));
            }
            if let Some((_, done)) = under_way.next().await {
                fetched.add(done?);
            }
        }
        drop(under_way);
        let cause = fetched.cause.take();
        if !self.judge(fetched).is_empty() {
            // The page is asked for again from the same cursor; what was applied is not lacking.
            let left = || PeerError::Answer("artifacts are left over".to_owned());
            return Err(cause.unwrap_or_else(left));
        }
        self.tries.clear();
        let next = Cursor { incarnation, sequence: page.next };
        if next != cursor {
            self.shared.store.set_cursor(hello.node, next).await.map_err(PeerError::Store)?;
        }
        self.shared.mesh.follows(&self.name, page.next, page.head);
        Ok(next)
    }
}

/// A fetch that is under way, and the rows it is about.
type Work<'a> = BoxFuture<'a, (Vec<FeedRow>, Result<Fetched, PeerError>)>;

fn work<'a>(shared: &'a Shared, client: &'a Client, unit: Vec<FeedRow>) -> Work<'a> {
    Box::pin(async move {
        let rows = unit.clone();
        (rows, fetch(shared, client, unit).await)
    })
}

/// Whether the row was part of something that failed.
fn is_suspect(tries: &BTreeMap<Vec<u8>, u32>, row: &FeedRow) -> bool {
    !tries.is_empty() && tries.contains_key(&row.address.encode())
}

/// A page of the listing that is under way, and what of it is lacking here.
type Listing<'a> = BoxFuture<'a, Result<(ListPage, Vec<FeedRow>), PeerError>>;

fn list<'a>(shared: &'a Shared, client: &'a Client, next: Next) -> Listing<'a> {
    Box::pin(async move {
        let place = match next {
            Next::Begin | Next::End => String::new(),
            Next::At(segment, offset) => format!("&segment={segment}&offset={offset}"),
        };
        let page: ListPage = client.ask(&format!("{LIST}?rows={PAGE_ROWS_MAX}{place}")).await?;
        let lacking = lacking(shared, &page.rows).await?;
        Ok((page, lacking))
    })
}

/// Waits for the page that is under way, for ever if there is none. What is dropped half-way stays
/// under way.
async fn next_page(
    listing: &mut Option<Listing<'_>>,
) -> Result<(ListPage, Vec<FeedRow>), PeerError> {
    match listing {
        Some(under_way) => {
            let page = under_way.await;
            *listing = None;
            page
        }
        None => std::future::pending().await,
    }
}

/// The rows that would take the place of what is here. Those without a meaning here are counted.
async fn lacking(shared: &Shared, rows: &[Row]) -> Result<Vec<FeedRow>, PeerError> {
    let mut lacking = Vec::new();
    for row in rows {
        match row.read() {
            Some(row) => {
                if shared.store.lacks(&row).await.map_err(PeerError::Store)? {
                    lacking.push(row);
                }
            }
            None => {
                shared.metrics.replication.rows_unknown.inc();
            }
        }
    }
    Ok(lacking)
}
