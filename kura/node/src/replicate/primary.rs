//! Which node of the region takes public traffic, as this one sees it: it asks each peer once a second how it is, and decides
//! from that ([`kura_core::primary`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use kura_core::{
    feed::Cursor,
    ledger::Account,
    limits::MYSELF_PAUSE,
    primary::{self, Candidate, HANDS_OVER_FOR, Lag, PULSE_STANDS_FOR, Verdict},
};
use kura_env::{Clock, Env, Instant, timeout};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{
    client::Client,
    error::PeerError,
    wire::{Life, PULSE, Pulse},
};
use crate::{
    config::PrimaryConfig,
    metrics::Metrics,
    service::{Service, State},
    store::Store,
};

/// How this node stands among those of its region.
pub(crate) struct Primacy {
    clock: Arc<dyn Clock>,
    config: PrimaryConfig,
    region: String,
    metrics: Arc<Metrics>,
    /// When this node began to run.
    began: Instant,
    known: Mutex<Known>,
    changed: Notify,
}

struct Known {
    /// Of each peer, by the name it was configured with.
    peers: BTreeMap<String, Heard>,
    /// Peers that have neither answered nor failed to since the start. Before that nobody knows whether somebody is fitter.
    unasked: BTreeSet<String>,
    verdict: Verdict,
    /// Since when somebody fitter is there, while this node is primary.
    refused_since: Option<Instant>,
    /// Since when this node is primary.
    primary_since: Option<Instant>,
    is_leaving: bool,
}

/// What is known of a peer.
#[derive(Default)]
struct Heard {
    /// What it said last, and when.
    said: Option<(Instant, Pulse)>,
    lag: Lag,
    /// Whether it did not answer the last time, or did not say who it is.
    is_missed: bool,
    /// When it answered again after that.
    back_at: Option<Instant>,
}

impl Primacy {
    pub(crate) fn new(
        clock: Arc<dyn Clock>,
        config: PrimaryConfig,
        (region, peers): (String, &[String]),
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let why = "it reads its data back".to_owned();
        let verdict = Verdict { is_primary: false, fitter: None, why };
        let known = Known {
            peers: BTreeMap::new(),
            unasked: peers.iter().cloned().collect(),
            verdict,
            refused_since: None,
            primary_since: None,
            is_leaving: false,
        };
        let (began, known) = (clock.now(), Mutex::new(known));
        Arc::new(Self { clock, config, region, metrics, began, known, changed: Notify::new() })
    }

    /// Whether this node asks others how they are. One that does not knows of nobody else.
    pub(crate) fn asks(&self) -> bool {
        !self.config.pulse_every.is_zero()
    }

    /// What this node says of itself.
    pub(crate) fn pulse(&self, service: &Service, store: Option<&Store>) -> Pulse {
        let now = self.clock.now();
        let known = self.known.lock();
        let me = self.me(&known, now, service, store);
        Pulse::new(&me, &self.region, store.map(Life::of))
    }

    fn me(
        &self,
        known: &Known,
        now: Instant,
        service: &Service,
        store: Option<&Store>,
    ) -> Candidate {
        let readiness = service.readiness();
        let ledger = store.map(Store::ledger);
        let of = |account| ledger.as_ref().map_or(0, |ledger| ledger.get(account));
        let bytes = of(Account::Blobs) + of(Account::Entries) + of(Account::Pool);
        Candidate {
            node: store.map_or(0, Store::node),
            is_serviceable: store.is_some() && service.is_serviceable(),
            is_leaving: known.is_leaving,
            age: now.since(self.began),
            lag: self.lag(known, now, (readiness.state, bytes)),
            bytes,
            primary_for: known.primary_since.map(|since| now.since(since)),
        }
    }

    /// Since when something may be lacking that a peer of the region has that answers; none if this node never had all of
    /// what one of them has, or lacks all of one that stores more than twice as much.
    fn lag(&self, known: &Known, now: Instant, (state, bytes): (State, u64)) -> Option<Duration> {
        // One that reads its data back has nothing yet that could be had.
        let near = || self.near(known, now).filter(|(_, pulse)| pulse.head().is_some());
        let lag = near().filter_map(|(heard, _)| heard.lag.since(age(now))).max();
        let was_in_step = near().any(|(heard, _)| heard.lag.was_in_step());
        let lacks_much =
            near().any(|(heard, pulse)| !heard.lag.was_in_step() && pulse.stores() / 2 > bytes);
        let has_caught_up =
            state == State::Serving && !lacks_much && (lag.is_none() || was_in_step);
        has_caught_up.then(|| lag.unwrap_or_default())
    }

    /// The peers of this region that answered lately.
    fn near<'a>(
        &'a self,
        known: &'a Known,
        now: Instant,
    ) -> impl Iterator<Item = (&'a Heard, &'a Pulse)> {
        known.peers.values().filter_map(move |heard| {
            let (said_at, pulse) = heard.said.as_ref()?;
            let counts = now.since(*said_at) < PULSE_STANDS_FOR && pulse.region == self.region;
            counts.then_some((heard, pulse))
        })
    }

    /// Decides anew, from what is known now.
    pub(crate) fn decide(&self, service: &Service, store: Option<&Store>) {
        let now = self.clock.now();
        let mut known = self.known.lock();
        let me = self.me(&known, now, service, store);
        let others: Vec<Candidate> = self.near(&known, now).filter_map(|it| it.1.read()).collect();
        let refused_for = known.refused_since.map_or(Duration::ZERO, |since| now.since(since));
        let mut verdict = primary::decide(&me, &others, self.config.rules, refused_for);
        if let Some(unasked) = known.unasked.first()
            && verdict.is_primary
        {
            verdict.is_primary = false;
            verdict.why = format!("{unasked} has not been heard of yet");
        }
        known.refused_since = match verdict.fitter {
            Some(_) if me.is_primary() => Some(known.refused_since.unwrap_or(now)),
            _ => None,
        };
        let counters = &self.metrics.replication;
        counters.primary.set(i64::from(verdict.is_primary));
        let lag_ms = me.lag.map_or(-1, |lag| i64::try_from(lag.as_millis()).unwrap_or(i64::MAX));
        counters.lag_ms.set(lag_ms);
        if verdict.is_primary != me.is_primary() {
            known.primary_since = verdict.is_primary.then_some(now);
            counters.primary_changes.inc();
            let (is_primary, why) = (verdict.is_primary, &verdict.why);
            tracing::info!(is_primary, why, "the primary of the region changed");
        }
        known.verdict = verdict;
        drop(known);
        self.changed.notify_waiters();
    }

    /// Whether this node is primary, and why.
    pub(crate) fn verdict(&self) -> Verdict {
        if !self.asks() {
            let why = "no peer is asked how it is".to_owned();
            return Verdict { is_primary: true, fitter: None, why };
        }
        self.known.lock().verdict.clone()
    }

    /// Whether a peer answers no more, as far as it is asked.
    pub(crate) fn is_gone(&self, node: u64) -> bool {
        let now = self.clock.now();
        let known = self.known.lock();
        let mut said = known.peers.values().filter_map(|heard| heard.said.as_ref());
        let of_it = said.find(|(_, pulse)| pulse.is_of(node));
        of_it.is_some_and(|(said_at, _)| now.since(*said_at) >= PULSE_STANDS_FOR)
    }

    /// Everything of a peer below `cursor` is here.
    pub(crate) fn reached(&self, name: &str, cursor: Cursor) {
        if self.asks() {
            self.known.lock().peers.entry(name.to_owned()).or_default().lag.reached(cursor);
        }
    }

    /// A peer said how it is when it was asked at `asked`.
    fn heard(&self, name: &str, asked: Instant, pulse: Pulse) {
        let now = self.clock.now();
        let mut known = self.known.lock();
        known.unasked.remove(name);
        let heard = known.peers.entry(name.to_owned()).or_default();
        match pulse.head() {
            Some(head) => {
                heard.lag.told(head, pulse.start(), age(asked));
                if std::mem::take(&mut heard.is_missed) {
                    heard.back_at = Some(now);
                }
            }
            None => heard.is_missed = true,
        }
        // From now, so that one that is slow to say it stands for as long.
        heard.said = Some((now, pulse));
        drop(known);
        self.changed.notify_waiters();
    }

    /// A peer that has been asked since then did not say how it is. When to ask again.
    fn missed(&self, name: &str, since: Instant, error: &PeerError) -> Duration {
        self.metrics.replication.pulses_missed.inc();
        tracing::debug!(peer = name, cause = error.line(), "no pulse");
        let mut known = self.known.lock();
        // A network that is only just there fails once for no reason.
        if self.clock.now().since(since) >= PULSE_STANDS_FOR {
            known.unasked.remove(name);
        }
        known.peers.entry(name.to_owned()).or_default().is_missed = true;
        self.config.pulse_every
    }

    /// Waits until a peer that did not answer has done so again, after `began`.
    pub(crate) async fn is_back(&self, name: &str, began: Instant) {
        loop {
            let mut changed = pin!(self.changed.notified());
            // Before the look, so that nothing is missed between the two.
            changed.as_mut().enable();
            let back_at = self.known.lock().peers.get(name).and_then(|heard| heard.back_at);
            if back_at.is_some_and(|back_at| back_at > began) {
                return;
            }
            changed.await;
        }
    }

    /// Says from now on that this node is about to stop, and waits until somebody else has taken over as primary, if there is
    /// anybody.
    pub(crate) async fn hand_over(&self, service: &Service, store: Option<&Store>) {
        if !self.asks() {
            return;
        }
        self.known.lock().is_leaving = true;
        self.decide(service, store);
        // It keeps the place no longer than for that after somebody fitter was heard of.
        let limit = HANDS_OVER_FOR + PULSE_STANDS_FOR;
        let handed_over = async {
            loop {
                let mut changed = pin!(self.changed.notified());
                changed.as_mut().enable();
                let verdict = self.verdict();
                if !verdict.is_primary || verdict.fitter.is_none() {
                    return;
                }
                changed.await;
            }
        };
        if timeout(&*self.clock, limit, handed_over).await.is_err() {
            tracing::warn!(?limit, "nobody has taken over as primary");
        }
    }

    /// As JSON.
    pub(crate) fn status(&self, service: &Service, store: Option<&Store>) -> serde_json::Value {
        let now = self.clock.now();
        let known = self.known.lock();
        let me = self.me(&known, now, service, store);
        let Verdict { is_primary, fitter, why } = &known.verdict;
        let heard = known.peers.iter().map(|(name, heard)| {
            let said = heard.said.as_ref();
            let it = said.and_then(|(_, pulse)| pulse.read());
            let seconds = |time: Duration| time.as_secs_f64();
            serde_json::json!({
                "peer": name,
                "heard_seconds": said.map(|(said_at, _)| now.since(*said_at).as_secs()),
                "behind_it_seconds": heard.lag.since(age(now)).map(seconds),
                "node": it.map(|it| format!("{:016x}", it.node)),
                "serves": it.map(|it| it.is_serviceable),
                "is_leaving": it.map(|it| it.is_leaving),
                "primary_for_seconds": it.and_then(|it| it.primary_for).map(seconds),
                "age_seconds": it.map(|it| it.age.as_secs()),
                "lag_seconds": it.and_then(|it| it.lag).map(seconds),
                "bytes": it.map(|it| it.bytes),
            })
        });
        serde_json::json!({
            "is_primary": is_primary,
            "why": why,
            "fitter": fitter.map(|node| format!("{node:016x}")),
            "is_leaving": me.is_leaving,
            "age_seconds": me.age.as_secs(),
            "lag_seconds": me.lag.map(|lag| lag.as_secs_f64()),
            "heard": heard.collect::<Vec<_>>(),
        })
    }
}

/// As [`kura_core::primary`] counts time.
fn age(now: Instant) -> Duration {
    now.since(Instant::default())
}

/// Decides again and again, for as long as the node serves.
pub(crate) async fn watch(primacy: Arc<Primacy>, service: Service, store: Store) {
    loop {
        primacy.decide(&service, Some(&store));
        primacy.clock.sleep(primacy.config.pulse_every).await;
    }
}

/// Asks a peer how it is, for as long as the node serves.
pub(crate) async fn listen(
    primacy: Arc<Primacy>,
    env: Env,
    (name, store): (String, Store),
    service: Service,
) {
    let client = Client::to(&name, env, primacy.metrics.clone());
    let clock = primacy.clock.clone();
    let began = clock.now();
    loop {
        let asked = clock.now();
        let asking = client.ask::<Pulse>(PULSE);
        let pause = match timeout(&*clock, PULSE_STANDS_FOR, asking).await {
            Ok(Ok(pulse)) if pulse.is_of(store.node()) => {
                primacy.known.lock().unasked.remove(&name);
                MYSELF_PAUSE
            }
            Ok(Ok(pulse)) => {
                primacy.heard(&name, asked, pulse);
                primacy.decide(&service, Some(&store));
                primacy.config.pulse_every
            }
            Ok(Err(error)) => primacy.missed(&name, began, &error),
            Err(elapsed) => primacy.missed(&name, began, &PeerError::Idle(elapsed)),
        };
        // From when it was asked, so that one that is slow is asked as often.
        clock.sleep_until((asked + pause).max(clock.now())).await;
    }
}
