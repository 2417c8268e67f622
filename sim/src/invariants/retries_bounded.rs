//! Who cannot reach a peer leaves it alone for longer and longer.

use std::time::Duration;

use kura_core::{
    backoff::{PAUSE_MAX, PAUSE_MIN},
    limits::FETCHES_MAX,
};

use super::{Invariant, Violation};

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "retries_bounded",
    demands: "connections to a peer that fail in a row are no more than one talk under way plus \
              the back-off allow (2 s doubling to 60 s, at least half of each)",
    checked: "whenever a connection from a node to a peer fails",
};

/// How many connections in a row may have failed, `elapsed` after the first of them did.
///
/// What was under way when the peer was lost fails at once: a request for each fetch, and the talk.
#[must_use]
pub fn allowed(elapsed: Duration) -> u64 {
    let mut talks = FETCHES_MAX as u64 + 1;
    let (mut pause, mut spent) = (PAUSE_MIN, Duration::ZERO);
    loop {
        spent += pause / 2;
        if spent > elapsed {
            return talks;
        }
        talks += 1;
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

#[cfg(test)]
mod tests {
    use super::*;

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
