//! One peer, for the life of the node: say hello, compare all that it holds, follow its feed.
//!
//! 1. note where the peer's feed ends, and hear of the deletes that it knows
//! 2. compare what both hold, the newest first, and fetch what is lacking
//! 3. what it could not deliver is tried again, and set aside after several spaced tries
//! 4. the pass is complete: follow the feed from where it ended in step 1
//!
//! A pass that is cut goes on where it stopped. Whatever fails is tried again by itself: every turn
//! of the loop asks what there is to do, and nothing waits for an event that came once.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use kura_core::{
    backoff::Backoff,
    feed::{Cursor, FeedRow, may_be_put_back},
    limits::{FEED_WAIT, MYSELF_PAUSE, PeerLimits},
    nearness::Distance,
    tries::{Fate, Tries},
    vain::Vain,
};
use kura_env::{EntropyStream, Instant, timeout};

use super::{
    Shared,
    aside::Aside,
    client::Client,
    compare::Comparison,
    deletes::Heard,
    error::{PeerError, Trouble},
    fetch::{Failed, Fetched, Source},
    requests::Requests,
    round::{Lacking, Outcome, lacking, put_off, round},
    wire::{FEED, FeedPage, HELLO, Hello, Life},
};
use crate::store::Lost;

/// A page of a feed that took so long was held back, because there was nothing new.
const HELD_BACK: Duration = Duration::from_secs(1);

/// Follows one peer.
pub(crate) struct Follower {
    shared: Arc<Shared>,
    /// As it was configured.
    name: String,
    /// Its number among all.
    number: usize,
    client: Client,
    requests: Requests,
    backoff: Backoff,
    jitter: Box<dyn EntropyStream>,
    /// Whether the peer said hello in this talk.
    was_heard: bool,
    /// The pass that is under way, kept when it is cut.
    pass: Option<Pass>,
    /// The incarnation of the last complete pass since start.
    passed: Option<u64>,
    /// The start of the peer in which it was heard last.
    start: Option<u64>,
    /// How often each artifact failed that is still to be tried, by address. As many as a round
    /// leaves over.
    tries: BTreeMap<Vec<u8>, Tries>,
    aside: Aside,
    heard: Heard,
    /// What this node and the peer both take and tell, by its last hello.
    limits: PeerLimits,
    /// Pages of the feed of which nothing came.
    vain: Vain,
    /// The pages of comparisons since a pass was complete or a body came of one: a peer that has passes begin anew is asked no
    /// faster for that.
    vain_pages: Vain,
    /// What was lost here up to this number is back, or is not to be had from this peer.
    repaired: u64,
}

struct Pass {
    incarnation: u64,
    /// Where to follow from when the pass is complete.
    head: u64,
    began: Instant,
    comparison: Comparison,
    /// To be fetched: what a cut left, or what failed. As many as a round leaves over.
    wanted: VecDeque<FeedRow>,
}

/// How a talk with a peer ended without an error.
enum End {
    /// It is this node.
    Myself,
    /// All that the peer holds is to be compared with again.
    Again,
}

impl Follower {
    pub(crate) fn new(shared: Arc<Shared>, (number, name): (usize, String)) -> Self {
        let client = Client::to(&name, shared.env.clone(), shared.metrics.clone());
        let requests = Requests::to_peer(shared.fetches.clone());
        let limits = shared.mesh.limits();
        let jitter = shared.env.entropy.stream("peer back-off");
        Self {
            shared,
            name,
            number,
            client,
            requests,
            backoff: Backoff::default(),
            jitter,
            was_heard: false,
            pass: None,
            passed: None,
            start: None,
            tries: BTreeMap::new(),
            aside: Aside::new(),
            heard: Heard::default(),
            limits,
            vain: Vain::default(),
            vain_pages: Vain::default(),
            repaired: 0,
        }
    }

    /// Goes on for ever. A name that leads to this node may lead to another one later.
    pub(crate) async fn run(mut self) {
        let clock = self.shared.env.clock.clone();
        loop {
            let began = clock.now();
            self.was_heard = false;
            match self.talk().await {
                Ok(End::Myself) => {
                    self.backoff.succeed();
                    self.shared.mesh.is_myself(&self.name);
                    self.shared.sources.is_myself(self.number);
                    clock.sleep(MYSELF_PAUSE).await;
                }
                Ok(End::Again) => self.passed = None,
                Err(error) => {
                    self.shared.metrics.replication.peer_failures.inc();
                    let trouble = error.trouble(self.was_heard);
                    let ask_within = self.shared.mesh.failed(&self.name, &error, trouble, began);
                    let pause = self.backoff.fail(self.jitter.next_u64(), error.retry_after());
                    let pause = ask_within.map_or(pause, |limit| pause.min(limit));
                    tracing::info!(peer = self.name, cause = error.line(), ?pause, "peer failed");
                    let is_away = matches!(trouble, Trouble::Silence | Trouble::Recovering);
                    self.rest(pause, is_away.then_some(began)).await;
                }
            }
        }
    }

    /// Waits until the pause is over, or a peer that was away since then answers again: until it is asked nobody knows what is
    /// lacking here.
    async fn rest(&self, pause: Duration, away_since: Option<Instant>) {
        let clock = &self.shared.env.clock;
        let Some(began) = away_since else { return clock.sleep(pause).await };
        let is_back = self.shared.mesh.primacy.is_back(&self.name, began);
        timeout(&**clock, pause, is_back).await.ok();
    }

    async fn talk(&mut self) -> Result<End, PeerError> {
        let asked = self.now();
        let hello: Hello = self.client.ask(HELLO).await?;
        let took = self.now().since(asked);
        self.was_heard = true;
        if hello.life.is_some_and(|life| life.node == self.shared.store.node()) {
            return Ok(End::Myself);
        }
        self.shared.mesh.met(&self.name, hello.clone());
        let is_elsewhere = !self.shared.mesh.is_near(&self.name);
        self.shared.sources.met(self.number, Distance { is_elsewhere, took });
        let life = hello.life.ok_or(PeerError::Recovering)?;
        let (limits, raised) = self.shared.mesh.limits().towards(hello.limits.into());
        self.shared.metrics.replication.limits_raised.inc_by(raised);
        self.limits = limits;
        // Before anything is compared: nothing that is deleted need be fetched.
        self.source().hear_deletes(hello.deletes).await?;
        if self.pass.as_ref().is_some_and(|pass| pass.incarnation != life.incarnation) {
            self.pass = None;
        }
        self.hear_start(life.start);
        let stored = self.shared.store.cursor(life.node).await.map_err(PeerError::Store)?;
        let usable = stored.filter(|cursor| cursor.incarnation == life.incarnation);
        let has_passed = self.passed == Some(life.incarnation);
        let (mut cursor, mut is_fresh) = match usable.filter(|_| has_passed) {
            Some(cursor) => (cursor, false),
            None => (self.compare(life).await?, true),
        };
        loop {
            // The first answer comes at once, and says how far behind this node is.
            let wait_ms = if is_fresh { 0 } else { FEED_WAIT.as_millis() };
            is_fresh = false;
            match self.follow(life, cursor, wait_ms).await {
                Ok(next) => cursor = next,
                Err(PeerError::Gone) => {
                    self.shared.metrics.replication.feeds_gone.inc();
                    self.passed = None;
                    return Err(PeerError::Gone);
                }
                Err(error) => return Err(error),
            }
            self.retry_aside().await?;
            if self.repair().await? {
                return Ok(End::Again);
            }
            if self.shared.mesh.is_pass_due(&self.name, self.aside.forgot()) {
                return Ok(End::Again);
            }
        }
    }

    /// Has a peer be compared with again that started again: what its feed says from here on, and what was left of a
    /// pass, may be about other data than it has.
    fn hear_start(&mut self, now: Option<u64>) {
        let heard = std::mem::replace(&mut self.start, now);
        if may_be_put_back(heard, now) {
            self.shared.metrics.replication.peers_restarted.inc();
            (self.pass, self.passed) = (None, None);
        }
    }

    fn source(&self) -> Source<'_> {
        let Self { shared, client, name, number, heard, limits, requests, .. } = self;
        Source { shared, client, number: *number, name, heard, requests, limits: *limits }
    }

    fn now(&self) -> Instant {
        self.shared.env.clock.now()
    }

    /// One pass over all that the peer holds, or the rest of one that was cut. The cursor to follow
    /// from.
    async fn compare(&mut self, life: Life) -> Result<Cursor, PeerError> {
        let mut pass = match self.pass.take() {
            Some(pass) => pass,
            None => self.begin_pass(life),
        };
        self.shared.mesh.pass_begins(&self.name);
        let outcome = self.carry_on(&mut pass).await;
        if let Err(error) = outcome {
            self.vain_pages = pass.comparison.vain();
            // What is left of it goes on after a pause.
            self.pass = Some(pass).filter(|pass| !pass.comparison.is_endless());
            return Err(error);
        }
        let cursor = Cursor { incarnation: pass.incarnation, sequence: pass.head };
        self.shared.store.set_cursor(life.node, cursor).await.map_err(PeerError::Store)?;
        self.passed = Some(pass.incarnation);
        self.vain_pages = Vain::default();
        self.tries.clear();
        self.backoff.succeed();
        self.shared.metrics.replication.passes_completed.inc();
        self.shared.mesh.pass_ends(&self.name, pass.began);
        Ok(cursor)
    }

    fn begin_pass(&mut self, life: Life) -> Pass {
        self.shared.metrics.replication.passes_begun.inc();
        // What is wanted of it is told again.
        self.tries.clear();
        self.aside.clear();
        self.tell_aside();
        let Life { incarnation, head, .. } = life;
        let comparison = Comparison::new(self.shared.store.capacity_bytes(), self.vain_pages);
        Pass { incarnation, head, began: self.now(), comparison, wanted: VecDeque::new() }
    }

    /// Compares, and fetches what can be had now. An error if something has to be tried again.
    async fn carry_on(&mut self, pass: &mut Pass) -> Result<(), PeerError> {
        let wanted = std::mem::take(&mut pass.wanted);
        pass.comparison.begin_round();
        let limit = self.shared.mesh.pass_timeout();
        let (source, until) = (self.source(), Some(self.now() + limit));
        let (comparison, tries) = (&mut pass.comparison, &self.tries);
        let outcome = round(source, wanted, comparison, &is_suspect(tries), until).await;
        let Outcome { mut fetched, left, mut broken, is_cut_short } = outcome;
        // What else ended the round says when to come again.
        let has_cause = broken.is_some() || fetched.cause.is_some() || fetched.is_unreachable;
        if is_cut_short && !has_cause {
            self.shared.metrics.replication.passes_cut.inc();
            broken = Some(PeerError::Late { limit });
        }
        let cause = fetched.cause.take();
        if fetched.got_on() {
            // Whatever failed, the pass gets on.
            self.backoff.succeed();
        }
        let again = self.judge(fetched, &left);
        pass.wanted = self.shared.partials.first(left.into_iter().chain(again));
        if pass.wanted.is_empty() && pass.comparison.is_over() && broken.is_none() {
            return Ok(());
        }
        Err(broken.or(cause).unwrap_or_else(left_over))
    }

    /// Decides what of the failed rows is tried again; the others are set aside, and named. What is `left` was not tried.
    fn judge(&mut self, fetched: Fetched, left: &VecDeque<FeedRow>) -> Vec<FeedRow> {
        let now = self.now();
        let others_came = fetched.delivered > 0;
        let before = std::mem::take(&mut self.tries);
        let tries = |row: &FeedRow| before.get(&row.address.encode()).copied().unwrap_or_default();
        let mut again = Vec::new();
        for row in left {
            let key = row.address.encode();
            if let Some(tries) = before.get(&key) {
                self.tries.insert(key, *tries);
            }
        }
        for Failed { row, blame, kept_bytes } in fetched.failed {
            let mut tries = tries(&row);
            let fate = if tries.moves_on(row.body_bytes, kept_bytes) {
                Fate::Again
            } else {
                tries.fail(blame, others_came)
            };
            match fate {
                Fate::Again => {
                    self.tries.insert(row.address.encode(), tries);
                    again.push(row);
                }
                Fate::Aside => {
                    self.shared.metrics.replication.set_aside.inc();
                    self.aside.put(row, now);
                }
            }
        }
        for row in fetched.untried {
            self.tries.insert(row.address.encode(), tries(&row));
            again.push(row);
        }
        for row in fetched.declined {
            self.aside.put(row, now);
        }
        self.tell_aside();
        again
    }

    fn tell_aside(&self) {
        self.shared.mesh.set_aside(&self.name, &self.aside);
    }

    /// Tries again what was set aside, if it is time. What fails is set aside again.
    async fn retry_aside(&mut self) -> Result<(), PeerError> {
        match self.aside.take_due(self.now()) {
            Some(rows) => self.try_once(rows).await,
            None => Ok(()),
        }
    }

    /// Asks for what the device lost since this peer was asked the last time. Whether there was more
    /// than is remembered, so that everything has to be compared.
    async fn repair(&mut self) -> Result<bool, PeerError> {
        let mut was_cut = false;
        loop {
            let Lost { rows, next, is_cut } = self.shared.store.lost_since(self.repaired);
            was_cut |= is_cut;
            if rows.is_empty() {
                self.repaired = next;
                return Ok(was_cut);
            }
            let mut wanted = VecDeque::new();
            for row in rows {
                // Another peer may have delivered it, or a client put it again.
                if self.shared.store.lacks(&row).await.map_err(PeerError::Store)? {
                    wanted.push_back(row);
                }
            }
            if !wanted.is_empty() {
                self.shared.metrics.replication.repairs_asked_for.inc_by(wanted.len() as u64);
                self.try_once(wanted).await?;
            }
            self.repaired = next;
        }
    }

    /// Fetches `rows`, each alone. What fails is set aside.
    async fn try_once(&mut self, rows: VecDeque<FeedRow>) -> Result<(), PeerError> {
        let outcome = round(self.source(), rows, &mut Comparison::nothing(), &|_| true, None).await;
        let Outcome { fetched, left, broken, .. } = outcome;
        let now = self.now();
        let failed = fetched.failed.into_iter().map(|it| it.row);
        // What was not asked for comes first the next time.
        for row in left.into_iter().chain(fetched.untried).chain(failed).chain(fetched.declined) {
            self.aside.put(row, now);
        }
        self.tell_aside();
        match broken {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// One page of the feed: asked for, resolved, and the cursor moved behind it.
    async fn follow(
        &mut self,
        life: Life,
        cursor: Cursor,
        wait_ms: u128,
    ) -> Result<Cursor, PeerError> {
        let Cursor { incarnation, sequence } = cursor;
        let rows = self.limits.page_rows;
        let path = format!(
            "{FEED}?incarnation={incarnation}&from={sequence}&rows={rows}\
             &wait_ms={wait_ms}&deletes={}&node={}&region={}",
            self.heard.print(),
            self.shared.store.node(),
            self.shared.mesh.region(),
        );
        let asked = self.now();
        let page: FeedPage = self.client.ask(&path).await?;
        let was_held_back = self.now().since(asked) >= HELD_BACK;
        // A connection that was kept may have been made anew, to another start of the peer, or to somebody else.
        if self.start.is_some() && page.start != self.start {
            return Err(PeerError::Restarted);
        }
        self.source().hear_deletes(page.deletes).await?;
        self.shared.mesh.follows(&self.name, cursor, page.head);
        let Lacking { now: wanted, ahead } = lacking(&self.shared, &page.rows).await?;
        // What is tried again later keeps nothing waiting here, however often it is told.
        let wanted = self.aside.others(wanted);
        let mut nothing = Comparison::nothing();
        let Outcome { mut fetched, left, broken, .. } =
            round(self.source(), wanted, &mut nothing, &is_suspect(&self.tries), None).await;
        put_off(self.source(), &mut fetched, ahead);
        let cause = fetched.cause.take();
        let came = was_held_back || fetched.delivered > 0;
        if fetched.moved > 0 {
            // A large body gets on, though the page does not.
            self.backoff.succeed();
        }
        let again = self.judge(fetched, &left);
        if let Some(error) = broken {
            return Err(error);
        }
        if !again.is_empty() || !left.is_empty() {
            // The page is asked for again from the same cursor; what was applied is not lacking.
            return Err(cause.unwrap_or_else(left_over));
        }
        self.backoff.succeed();
        let next = Cursor { incarnation, sequence: page.next };
        if next != cursor {
            self.shared.store.set_cursor(life.node, next).await.map_err(PeerError::Store)?;
        }
        self.shared.mesh.follows(&self.name, next, page.head);
        let pause = self.vain.told(came);
        self.source().wait_in_vain(pause).await;
        Ok(next)
    }
}

fn left_over() -> PeerError {
    PeerError::Answer("artifacts are left over without a reason".to_owned())
}

/// Whether a row was part of something that failed.
fn is_suspect(tries: &BTreeMap<Vec<u8>, Tries>) -> impl Fn(&FeedRow) -> bool + Send + Sync {
    |row| !tries.is_empty() && tries.contains_key(&row.address.encode())
}
