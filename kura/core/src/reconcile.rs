//! When to compare with a peer again, though its feed is followed.
//!
//! A peer's feed holds what its own clients wrote, not what it fetched. So what a third node wrote
//! and this one never got from it can lie on the peer and never appear in its feed. That cannot be
//! while all nodes reach each other; it can when one goes silent, or loses its data. And what nobody thought of is
//! found by looking now and then.

use std::time::Duration;

/// How often all peers are compared with again for as long as one of them is silent.
pub const RECONCILE_PAUSE: Duration = Duration::from_secs(30 * 60);
/// How often every peer is compared with again though nothing happened: between nodes that agree that costs one
/// question. Lower: what nobody noticed is found sooner. Higher: peers whose rings hold unlike things name those
/// less often.
pub const RECONCILE_EVERY: Duration = Duration::from_secs(6 * 60 * 60);

/// What is known of another peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Other {
    /// For how long it has been silent; unset if it answers.
    pub silent: Option<Duration>,
    /// How long ago it came up without the data that it had; unset if it never did.
    pub reborn: Option<Duration>,
}

/// Whether a peer should be compared with again. `age` is how long ago the last complete pass over
/// it began; `forgot` says that artifacts of it were set aside which nobody remembers; `peer_wait`
/// is how long a peer is silent before anything follows from it.
#[must_use]
pub fn is_due(age: Duration, forgot: bool, others: &[Other], peer_wait: Duration) -> bool {
    let is_old = age >= RECONCILE_PAUSE;
    if forgot && is_old || age >= RECONCILE_EVERY {
        return true;
    }
    others.iter().any(|other| {
        let is_newer = |ago: Duration| age > ago;
        // Once when the silence is certain, and then from time to time: the silent one may be
        // silent to us alone.
        let silent = other.silent.and_then(|silent| silent.checked_sub(peer_wait));
        silent.is_some_and(|certain| is_old || is_newer(certain))
            || other.reborn.is_some_and(is_newer)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(60);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_peer_is_compared_with_again_when_another_one_is_lost() {
        let silent = |of| Other { silent: Some(seconds(of)), reborn: None };
        let reborn = |ago| Other { silent: None, reborn: Some(seconds(ago)) };
        for (age, others, due) in [
            (10_000, vec![], false),
            (21_599, vec![Other::default()], false),
            (21_600, vec![Other::default()], true),
            (21_600, vec![], true),
            (10_000, vec![Other::default()], false),
            // Not before the silence is certain, and then once.
            (500, vec![silent(59)], false),
            (500, vec![silent(60)], true),
            (500, vec![silent(559)], true),
            (500, vec![silent(561)], false),
            // Again after half an hour of it.
            (1799, vec![silent(7200)], false),
            (1800, vec![silent(7200)], true),
            (500, vec![Other::default(), reborn(499)], true),
            (500, vec![reborn(501)], false),
        ] {
            assert_eq!(is_due(seconds(age), false, &others, WAIT), due, "{age} {others:?}");
        }
    }

    #[test]
    fn what_nobody_remembers_is_found_again_in_half_an_hour() {
        assert!(!is_due(seconds(1799), true, &[], WAIT));
        assert!(is_due(seconds(1800), true, &[], WAIT));
    }
}
