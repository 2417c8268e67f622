//! What becomes of an artifact that did not come from a peer: it is tried again, or set aside so that
//! others do not wait for it. What is set aside is tried again much later.

use std::time::Duration;

use crate::resume::has_moved_on;

/// How often an artifact that a peer cannot deliver is tried before it is set aside.
pub const TRIES_MAX: u32 = 5;
/// How often an artifact is tried while the peer delivers nothing at all. More, because nothing is
/// known of the artifact; not for ever, because it may be what the peer breaks on.
pub const PEER_TRIES_MAX: u32 = 12;
/// How long what was set aside rests before it is tried again.
pub const ASIDE_PAUSE: Duration = Duration::from_secs(180);
/// Artifacts of one peer that are remembered as set aside. What does not fit is found again by the
/// next pass over the peer.
pub const ASIDE_MAX: usize = 1000;
/// Failures of a peer in a row, none of them an artifact's own, after which it is asked for nothing
/// more until a pause is over.
pub const PEER_FAILURES_MAX: u32 = 3;

/// What a failure says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The artifact's own: the peer cannot read it, or what came is not what was announced.
    Artifact,
    /// The peer's, or the way's to it: nothing is known of the artifact.
    Peer,
}

/// What becomes of an artifact that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is tried again after a pause.
    Again,
    /// Nobody waits for it any more.
    Aside,
}

/// How often an artifact has failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tries {
    artifact: u32,
    peer: u32,
    /// The furthest that its body came.
    reached_bytes: u64,
}

impl Tries {
    /// Its body broke in the middle, and so much of it is kept. Whether it got on since it did so last, which is no
    /// failure of anybody, and clears those before: what begins anew each time, or stands still, is one.
    pub fn moves_on(&mut self, body_bytes: u64, kept_bytes: u64) -> bool {
        let moves_on = has_moved_on(body_bytes, self.reached_bytes, kept_bytes);
        if moves_on {
            *self = Self { reached_bytes: kept_bytes, ..Self::default() };
        }
        moves_on
    }

    /// Counts one more failure. `others_came` says that the peer delivered other artifacts
    /// meanwhile, so that it is this one after all.
    pub fn fail(&mut self, blame: Blame, others_came: bool) -> Fate {
        match blame {
            Blame::Artifact => self.artifact += 1,
            Blame::Peer if others_came => self.artifact += 1,
            Blame::Peer => self.peer += 1,
        }
        if self.artifact >= TRIES_MAX || self.peer >= PEER_TRIES_MAX {
            Fate::Aside
        } else {
            Fate::Again
        }
    }
}

/// Failures of a peer in a row, within one round of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streak {
    failures: u32,
}

impl Streak {
    /// An answer came: `delivered` if a body did or the peer said clearly that it has none, and
    /// `failed` if it broke off or never came. An answer that broke off behind a body counts as
    /// both.
    pub fn note(&mut self, delivered: bool, failed: bool) {
        if delivered {
            self.failures = 0;
        }
        if failed {
            self.failures += 1;
        }
    }

    /// Whether the peer should be left alone.
    #[must_use]
    pub fn is_over(self) -> bool {
        self.failures >= PEER_FAILURES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backoff::Backoff;

    /// How many failures of one kind until the artifact is set aside.
    fn failures(blame: Blame, others_came: bool) -> u32 {
        let mut tries = Tries::default();
        (1..1000).find(|_| tries.fail(blame, others_came) == Fate::Aside).unwrap()
    }

    #[test]
    fn an_artifact_is_set_aside_for_its_own_failures_and_late_for_its_peers() {
        assert_eq!(failures(Blame::Artifact, false), TRIES_MAX);
        assert_eq!(failures(Blame::Peer, true), TRIES_MAX);
        assert_eq!(failures(Blame::Peer, false), PEER_TRIES_MAX);
    }

    #[test]
    fn a_body_that_comes_further_each_time_has_not_failed() {
        let (body_bytes, step) = (64 << 20, 1 << 20);
        let mut tries = Tries::default();
        for reached in 1..=64 {
            assert!(tries.moves_on(body_bytes, reached * step), "{reached}");
        }
        assert!(!tries.moves_on(body_bytes, 64 * step), "as far as before");
        assert!(!tries.moves_on(body_bytes, 5 * step), "it began anew");
        assert!(!Tries::default().moves_on(body_bytes, 0));
        for _ in 1..TRIES_MAX {
            assert_eq!(tries.fail(Blame::Artifact, false), Fate::Again);
        }
        assert!(tries.moves_on(body_bytes, 65 * step));
        assert_eq!(tries.fail(Blame::Artifact, false), Fate::Again, "a new count");
    }

    #[test]
    fn a_minute_of_trouble_with_a_peer_sets_nothing_aside() {
        let (mut tries, mut backoff, mut passed) =
            (Tries::default(), Backoff::default(), Duration::ZERO);
        while tries.fail(Blame::Peer, false) == Fate::Again {
            // The shortest pauses there are.
            passed += backoff.fail(0, None);
        }
        assert!(passed > Duration::from_secs(180), "{passed:?}");
    }

    #[test]
    fn a_peer_that_delivers_nothing_is_left_alone_soon() {
        for (answers, is_over) in [
            (vec![], false),
            (vec![(false, true); 2], false),
            (vec![(false, true); 3], true),
            (vec![(false, true), (false, true), (true, false), (false, true)], false),
            (vec![(true, true); 20], false),
            (vec![(true, true), (false, true), (false, true)], true),
        ] {
            let mut streak = Streak::default();
            for (delivered, failed) in &answers {
                streak.note(*delivered, *failed);
            }
            assert_eq!(streak.is_over(), is_over, "{answers:?}");
        }
    }
}
