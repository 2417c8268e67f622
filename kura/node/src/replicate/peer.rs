//! One peer as this node knows it.

use std::time::Duration;

use kura_core::{
    feed::FeedRow,
    hlc::{DRIFT_MAX, too_far_ahead},
    readiness::Standing,
    reconcile::Other,
};
use kura_env::{Instant, Wall};

use super::{compare::Learned, error::Trouble, fetch::Fetched, wire::Hello};
use crate::service::State;

/// How often a pass that moves says so in the log.
const LOG_INTERVAL: Duration = Duration::from_secs(30);

/// What is known of one peer.
#[derive(Default)]
pub(crate) struct Peer {
    pub(crate) is_myself: bool,
    pub(super) is_recovering: bool,
    /// Our own store did not take in what came, and nothing was taken in since.
    is_unstorable: bool,
    /// It is silent: when the first attempt that failed began, and when the last one ended.
    silence: Option<(Instant, Instant)>,
    hello: Option<Hello>,
    /// When it came up without the data that it had.
    reborn: Option<Instant>,
    error: Option<String>,
    /// Passes that were completed.
    pub(crate) passes: u64,
    /// When the last complete pass began.
    pub(crate) passed_at: Option<Instant>,
    pass: Option<Progress>,
    /// What came from it since the start of this node: artifacts, and bytes of bodies.
    came: (u64, u64),
    /// Where its feed is read next, and where that feed ends. Unknown while it fails.
    position: Option<(u64, u64)>,
    pub(crate) set_aside: Vec<String>,
    pub(crate) set_aside_total: usize,
    /// The latest hybrid logical time of it.
    pub(crate) set_aside_latest: u64,
    /// When the log was told last that its clock, or ours, is wrong.
    ahead_told: Option<Instant>,
}

/// How far a pass has come.
#[derive(Clone, Copy)]
struct Progress {
    began: Instant,
    told: Instant,
    listed: u64,
    wanted: u64,
    done: u64,
    bytes: u64,
}

impl Peer {
    /// This node itself.
    pub(crate) fn myself() -> Self {
        Self { is_myself: true, ..Self::default() }
    }

    /// It said how it is.
    pub(crate) fn meet(&mut self, hello: Hello, now: Instant) {
        self.is_myself = false;
        self.silence = None;
        self.error = None;
        self.is_recovering = matches!(hello.state, Some(State::Starting | State::Recovering));
        let Some(life) = hello.life else {
            // Who it was is known until it says who it is now.
            let life = self.hello.as_ref().and_then(|hello| hello.life);
            self.hello = Some(Hello { life, ..hello });
            return;
        };
        let before = self.hello.as_ref().and_then(|hello| hello.life);
        if before.is_some_and(|before| before.incarnation != life.incarnation) {
            self.reborn = Some(now);
        }
        self.hello = Some(hello);
    }

    /// A talk from `began` to `now` went wrong.
    pub(crate) fn fail(
        &mut self,
        error: String,
        trouble: Trouble,
        (began, now): (Instant, Instant),
    ) {
        self.error = Some(error);
        self.position = None;
        match trouble {
            Trouble::Silence => {
                let (since, _) = self.silence.unwrap_or((began, now));
                self.silence = Some((since, now));
                self.is_recovering = false;
            }
            Trouble::Recovering => self.is_recovering = true,
            Trouble::OurStore => self.is_unstorable = true,
            Trouble::Other => {}
        }
    }

    pub(crate) fn begin_pass(&mut self, name: &str, now: Instant) {
        if self.pass.is_none() {
            tracing::info!(peer = name, "a pass begins");
        }
        let began = Progress { began: now, told: now, listed: 0, wanted: 0, done: 0, bytes: 0 };
        self.pass.get_or_insert(began);
    }

    pub(crate) fn learned(&mut self, name: &str, learned: &Learned, now: Instant) {
        if let Some(pass) = &mut self.pass {
            pass.listed += learned.rows;
            pass.wanted += learned.lacking;
            pass.tell(name, now);
        }
    }

    pub(crate) fn resolved(&mut self, name: &str, fetched: &Fetched, now: Instant) {
        let done = fetched.applied + fetched.missing;
        if done > 0 {
            self.is_unstorable = false;
        }
        self.came = (self.came.0 + fetched.applied, self.came.1 + fetched.bytes);
        if let Some(pass) = &mut self.pass {
            pass.done += done;
            pass.bytes += fetched.bytes;
            pass.tell(name, now);
        }
    }

    pub(crate) fn end_pass(&mut self, name: &str, began: Instant, now: Instant) {
        self.passes += 1;
        self.passed_at = Some(began);
        self.is_unstorable = false;
        if let Some(pass) = self.pass.take() {
            let took = now.since(pass.began);
            let Progress { listed, wanted, done, bytes, .. } = pass;
            let set_aside = self.set_aside_total;
            tracing::info!(
                peer = name,
                listed,
                wanted,
                done,
                set_aside,
                bytes,
                ?took,
                "a pass is complete"
            );
        }
    }

    /// A version of it is too far ahead of the clock here. The log hears of that from time to time.
    pub(crate) fn is_ahead(&mut self, (name, row): (&str, &FeedRow), now: Instant, wall: Wall) {
        let Some(ahead) = too_far_ahead(row.version.time, wall.0) else { return };
        if self.ahead_told.is_some_and(|told| now.since(told) < LOG_INTERVAL) {
            return;
        }
        self.ahead_told = Some(now);
        tracing::warn!(
            peer = name,
            node = format!("{:016x}", row.version.node),
            ?ahead,
            limit = ?DRIFT_MAX,
            "a version of a peer is too far ahead of the clock here and is left for later: set right the clock \
             of the node that wrote it, or of this one"
        );
    }

    pub(crate) fn follow(&mut self, next: u64, head: u64) {
        self.is_unstorable = false;
        self.position = Some((next, head));
    }

    /// Rows of its feed that were not read yet.
    pub(crate) fn lag(&self) -> Option<u64> {
        self.position.map(|(next, head)| head.saturating_sub(next))
    }

    /// Artifacts that the pass needs to do nothing more about.
    fn done(&self, pass: Progress) -> u64 {
        pass.done + self.set_aside_total as u64
    }

    /// Whether it said that it is in this region.
    pub(crate) fn is_in(&self, region: &str) -> bool {
        self.hello.as_ref().is_some_and(|hello| hello.region == region)
    }

    pub(crate) fn is_passing(&self) -> bool {
        self.pass.is_some()
    }

    /// For how long attempts to reach it have failed.
    pub(crate) fn silent_for(&self) -> Option<Duration> {
        self.silence.map(|(since, last)| last.since(since))
    }

    /// What follows from it for the other peers.
    pub(crate) fn as_other(&self, now: Instant) -> Other {
        Other {
            silent: self.silence.map(|(since, _)| now.since(since)),
            reborn: self.reborn.map(|reborn| now.since(reborn)),
        }
    }

    /// How far this node has come with it. `still` is for how long no pass has moved.
    pub(crate) fn standing(&self, still: Duration) -> Standing {
        match (self.pass, self.silent_for()) {
            _ if self.is_myself => Standing::Myself,
            _ if self.passes > 0 => Standing::Passed,
            (_, Some(lasting)) => Standing::Silent { lasting },
            _ if self.is_unstorable => Standing::Unstorable,
            _ if self.is_recovering => Standing::Recovering,
            (Some(pass), None) => {
                Standing::Passing { done: self.done(pass), wanted: pass.wanted, still }
            }
            // It answers, and something goes wrong before a pass can begin.
            (None, None) if self.hello.is_some() || self.error.is_some() => {
                Standing::Passing { done: 0, wanted: 0, still }
            }
            (None, None) => Standing::Asked,
        }
    }

    pub(crate) fn status(
        &self,
        name: &str,
        (now, wall): (Instant, Wall),
        still: Duration,
    ) -> serde_json::Value {
        let standing = match self.standing(still) {
            Standing::Myself => "myself",
            Standing::Asked => "asked",
            Standing::Silent { .. } => "silent",
            Standing::Recovering => "recovering",
            Standing::Passing { .. } => "passing",
            Standing::Unstorable => "unstorable",
            Standing::Passed => "passed",
        };
        let hello = self.hello.as_ref();
        let life = hello.and_then(|hello| hello.life);
        let pass = self.pass.map(|pass| {
            let seconds = now.since(pass.began).as_secs_f64().max(0.001);
            serde_json::json!({
                "listed": pass.listed,
                "wanted": pass.wanted,
                "done": self.done(pass),
                "bytes": pass.bytes,
                "bytes_per_second": (pass.bytes as f64 / seconds).round(),
            })
        });
        serde_json::json!({
            "peer": name,
            "standing": standing,
            "node": life.map(|life| format!("{:016x}", life.node)),
            "region": hello.map(|hello| hello.region.clone()),
            "state": hello.and_then(|hello| hello.state),
            "silent_seconds": self.silence.map(|(since, _)| now.since(since).as_secs()),
            "has_answered": hello.is_some(),
            "passes": self.passes,
            "pass": pass,
            "lag": self.lag(),
            "fetched": self.came.0,
            "fetched_bytes": self.came.1,
            "error": self.error,
            "set_aside": self.set_aside,
            "set_aside_total": self.set_aside_total,
            "ahead_seconds": too_far_ahead(self.set_aside_latest, wall.0).map(|it| it.as_secs()),
        })
    }
}

impl Progress {
    /// Says in the log how far it has come, from time to time.
    fn tell(&mut self, name: &str, now: Instant) {
        if now.since(self.told) < LOG_INTERVAL {
            return;
        }
        self.told = now;
        let Self { began, listed, wanted, done, bytes, .. } = *self;
        let took = now.since(began);
        tracing::info!(peer = name, listed, wanted, done, bytes, ?took, "a pass goes on");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replicate::wire::{Life, Limits};

    fn at(seconds: u64) -> Instant {
        Instant::default() + Duration::from_secs(seconds)
    }

    fn hello(state: State, incarnation: Option<u64>) -> Hello {
        let life =
            incarnation.map(|incarnation| Life { node: 1, incarnation, head: 1, start: None });
        Hello {
            life,
            region: String::new(),
            state: Some(state),
            deletes: 0,
            limits: Limits::default(),
        }
    }

    fn silent(lasting: u64) -> Standing {
        Standing::Silent { lasting: Duration::from_secs(lasting) }
    }

    #[test]
    fn silence_is_what_attempts_have_shown_and_nothing_else() {
        let passing = Standing::Passing { done: 0, wanted: 0, still: Duration::ZERO };
        let standing = |peer: &Peer| peer.standing(Duration::ZERO);
        let mut peer = Peer::default();
        let fail = |peer: &mut Peer, trouble, began, ended| {
            peer.fail(String::new(), trouble, (at(began), at(ended)));
        };
        assert_eq!(standing(&peer), Standing::Asked, "whatever time has passed");
        fail(&mut peer, Trouble::Silence, 100, 105);
        assert_eq!(standing(&peer), silent(5));
        fail(&mut peer, Trouble::Silence, 130, 135);
        assert_eq!(standing(&peer), silent(35));
        peer.meet(hello(State::Serving, Some(1)), at(140));
        assert_eq!(standing(&peer), passing);
        fail(&mut peer, Trouble::Other, 140, 170);
        assert_eq!(standing(&peer), passing, "it answered");
        // Our own store is no fault of the peer, also while it is asked again.
        fail(&mut peer, Trouble::OurStore, 200, 300);
        peer.meet(hello(State::Serving, Some(1)), at(310));
        assert_eq!(standing(&peer), Standing::Unstorable);
        peer.resolved("peer", &Fetched { applied: 1, ..Fetched::default() }, at(320));
        assert_eq!(standing(&peer), passing);
        peer.meet(hello(State::Recovering, None), at(400));
        assert_eq!(standing(&peer), Standing::Recovering);
        fail(&mut peer, Trouble::Silence, 500, 501);
        assert_eq!(standing(&peer), silent(1), "it died");
    }

    #[test]
    fn a_peer_is_reborn_when_it_comes_up_without_its_data() {
        let mut peer = Peer::default();
        peer.meet(hello(State::Serving, Some(1)), at(1));
        peer.meet(hello(State::Recovering, None), at(2));
        peer.meet(hello(State::Serving, Some(1)), at(3));
        assert_eq!(peer.as_other(at(9)), Other::default());
        peer.meet(hello(State::Recovering, None), at(4));
        peer.meet(hello(State::Serving, Some(2)), at(5));
        assert_eq!(peer.as_other(at(9)).reborn, Some(Duration::from_secs(4)));
    }

    #[test]
    fn lag_is_unknown_while_a_peer_fails() {
        let mut peer = Peer::default();
        peer.follow(7, 9);
        assert_eq!(peer.lag(), Some(2));
        peer.fail(String::new(), Trouble::Silence, (at(1), at(2)));
        assert_eq!(peer.lag(), None);
    }
}
