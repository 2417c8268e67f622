//! Who cannot reach a peer, or gets nothing of use from it, leaves it alone for longer and longer.

use std::time::Duration;

use kura_core::{
    backoff::{PAUSE_MAX, PAUSE_MIN},
    limits::FETCHES_MAX,
};

use super::{Invariant, Violation};

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "retries_bounded",
    demands: "connections to a peer that fail in a row are no more than one talk under way plus the \
              back-off allow (2 s doubling to 60 s, at least half of each); requests for bodies that \
              fail in a row at a peer that can be reached are no more than twice what is under way \
              at once, for each talk that the back-off allows; one that breaks behind 64 KiB has not \
              failed, because a large body is gone on with from there",
    checked: "whenever a connection from a node to a peer fails, or a request for bodies does",
};

/// Requests for bodies that may fail in one talk: those under way, and as many that were begun
/// before the first failures were known.
const FETCHES_PER_TALK: u64 = 2 * FETCHES_MAX as u64;

/// How many connections in a row may have failed, `elapsed` after the first of them did.
///
/// What was under way when the peer was lost fails at once: a request for each fetch, and the talk.
#[must_use]
pub fn allowed(elapsed: Duration) -> u64 {
    FETCHES_MAX as u64 + 1 + pauses(elapsed)
}

/// How many requests for bodies in a row may have failed, `elapsed` after the first of them did.
#[must_use]
pub fn allowed_fetches(elapsed: Duration) -> u64 {
    FETCHES_PER_TALK * (1 + pauses(elapsed))
}

/// How many pauses may be over after this time, if each is as short as it may be.
fn pauses(elapsed: Duration) -> u64 {
    let (mut pause, mut spent, mut count) = (PAUSE_MIN, Duration::ZERO, 0);
    loop {
        spent += pause / 2;
        if spent > elapsed {
            return count;
        }
        count += 1;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Judges connections from `node` to `peer` that failed in a row.
///
/// # Errors
///
/// If there are more than the back-off allows.
pub fn check(node: &str, peer: &str, failures: u64, elapsed: Duration) -> Result<(), Violation> {
    let allowed = allowed(elapsed);
    if failures <= allowed {
        return Ok(());
    }
    Err(INVARIANT.violated(format!(
        "{node}: {failures} connections to {peer} failed in a row within {elapsed:?}, {allowed} are \
         allowed"
    )))
}

/// Judges requests for bodies from `node` to `peer` that failed in a row: the peer took them, and
/// no whole answer came.
///
/// # Errors
///
/// If there are more than the back-off allows.
pub fn check_fetches(
    node: &str,
    peer: &str,
    failures: u64,
    elapsed: Duration,
) -> Result<(), Violation> {
    let allowed = allowed_fetches(elapsed);
    if failures <= allowed {
        return Ok(());
    }
    Err(INVARIANT.violated(format!(
        "{node}: {failures} requests for bodies to {peer} failed in a row within {elapsed:?}, \
         {allowed} are allowed"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_answers_badly_is_not_asked_for_everything() {
        let check = |failures, millis| {
            check_fetches("n", "p", failures, Duration::from_millis(millis)).is_ok()
        };
        assert!(check(32, 0) && !check(33, 0));
        assert!(!check(33, 999) && check(64, 1000) && !check(65, 1000));
        assert!(check(96, 3000) && !check(97, 3000));
    }

    #[test]
    fn more_failures_than_the_back_off_allows_are_reported() {
        let check = |failures, seconds| check("n", "p", failures, Duration::from_secs(seconds));
        assert!(check(17, 0).is_ok());
        assert!(check(18, 0).is_err(), "nothing is tried again at once");
        // 1, 2, 4, 8, 16 and then 30 s apart at the closest.
        assert!(check(18, 1).is_ok() && check(22, 31).is_ok());
        assert!(check(23, 31).is_err());
        assert!(check(22 + 20, 31 + 20 * 30).is_ok());
        assert!(check(22 + 21, 31 + 20 * 30).is_err());
    }
}
