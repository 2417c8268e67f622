//! What was acknowledged is there until the ring turned over it, whatever crashed meanwhile.

use std::time::Duration;

use super::{Invariant, Violation};
use crate::{
    body::{BodyId, Match},
    history::{Owed, Put, PutOutcome},
};

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "acked_or_evicted",
    demands: "an acknowledged put is read back, or a newer one, unless it lies below the horizon \
              of eviction; also after SIGKILL and power loss",
    checked: "at every hit; at every miss of an acknowledged key, asked twice; for every key \
              after healing",
};

/// Versions count milliseconds: two puts that are closer together may be ordered either way.
pub const CLOCK_GRAIN: Duration = Duration::from_millis(5);

/// Judges a hit, given what the key owed when the read began and everything put there.
///
/// # Errors
///
/// If the body is older than what was owed. Whoever finds that has to ask the node how far it has
/// evicted, and [`excuses`] decides.
pub fn check_hit(
    path: &str,
    owed: Option<Owed>,
    puts: &[Put],
    body: Match,
) -> Result<(), Violation> {
    let (Some(owed), Match::Whole(found)) = (owed, body) else { return Ok(()) };
    // A put whose client was told nothing may have been applied at any time.
    let newest = puts.iter().filter(|put| put.body.id == found).map(|put| match put.outcome {
        PutOutcome::Acked(sequence) => sequence,
        // What was over at another node before this one began has the lower version.
        PutOutcome::AckedElsewhere if put.end.is_some_and(|end| end + CLOCK_GRAIN < owed.start) => {
            0
        }
        PutOutcome::AckedElsewhere => u64::MAX,
        PutOutcome::Unknown | PutOutcome::Refused => u64::MAX,
    });
    match newest.max() {
        Some(sequence) if sequence < owed.sequence => Err(INVARIANT.violated(format!(
            "GET {path}: body {} with sequence {sequence}, though body {} had been acknowledged \
             with sequence {} before",
            found.0, owed.body.0, owed.sequence
        ))),
        Some(_) | None => Ok(()),
    }
}

/// What a node says that it has evicted, and what was seen of it.
#[derive(Clone, Debug, Default)]
pub struct Horizon {
    /// No client's write to the ring of bodies of this or a higher sequence.
    pub blobs: u64,
    /// No client's write to the ring of entries of this or a higher sequence.
    pub entries: u64,
    /// The highest sequence of the large objects that were evicted of the key in question. One may be
    /// later than everything that was acknowledged: whoever put it was not told.
    pub object: Option<u64>,
}

impl Horizon {
    /// Whether what was written to `path` with this sequence may be gone.
    fn covers(&self, path: &str, sequence: u64) -> bool {
        let is_entry = path.rsplit('/').nth(1) == Some("ac");
        sequence < if is_entry { self.entries } else { self.blobs }
            || self.object.is_some_and(|object| sequence <= object)
    }
}

/// Whether a hit of a node that was without power once may be older than what was owed: that was evicted. Once it is gone, and power loss has
/// taken the index too, what it had replaced may be found again, in a ring behind an object of the
/// pool, or in a segment that a promise kept for longer.
#[must_use]
pub fn excuses(path: &str, owed: Owed, horizon: &Horizon) -> bool {
    horizon.covers(path, owed.sequence)
}

/// Judges a miss of a serving node that had evicted as much as `horizon` says *after* it.
///
/// # Errors
///
/// If what was owed cannot have been evicted by then.
pub fn check_miss(path: &str, owed: Owed, horizon: &Horizon) -> Result<(), Violation> {
    if horizon.covers(path, owed.sequence) {
        return Ok(());
    }
    let BodyId(body) = owed.body;
    Err(INVARIANT.violated(format!(
        "GET {path}: a miss, though body {body} was acknowledged with sequence {} and nothing of \
         bodies from {} on was evicted, nor of entries from {} on, nor that object or a later one of the key",
        owed.sequence, horizon.blobs, horizon.entries
    )))
}

#[cfg(test)]
mod tests {
    use kura_env::Instant;

    use super::*;
    use crate::body::Body;

    fn put(id: u64, outcome: PutOutcome) -> Put {
        let body = Body { id: BodyId(id), len_bytes: 10, forged: false };
        Put { body, start: Instant(0), end: Some(Instant(1)), outcome, fraud: None }
    }

    #[test]
    fn a_miss_is_legal_only_below_the_horizon() {
        let owed = Owed { sequence: 7, body: BodyId(1), start: Instant(0) };
        let blobs = |blobs| Horizon { blobs, entries: 1, object: None };
        assert!(check_miss("/k", owed, &blobs(8)).is_ok());
        assert!(check_miss("/k", owed, &blobs(7)).is_err());
        assert!(check_miss("/k", owed, &blobs(1)).is_err());
        assert!(check_miss("/ns/ac/k", owed, &blobs(8)).is_err(), "entries have their own");
        assert!(check_miss("/ns/ac/k", owed, &Horizon { entries: 8, ..blobs(1) }).is_ok());
        let object = |sequence| Horizon { object: Some(sequence), ..blobs(1) };
        assert!(check_miss("/k", owed, &object(7)).is_ok());
        assert!(check_miss("/k", owed, &object(8)).is_ok(), "put by somebody who was not told");
        assert!(check_miss("/k", owed, &object(6)).is_err(), "an elder one of the key");
    }

    #[test]
    fn a_hit_is_never_older_than_what_was_acknowledged() {
        let puts = [
            put(1, PutOutcome::Acked(5)),
            put(2, PutOutcome::Acked(7)),
            put(3, PutOutcome::Unknown),
        ];
        let owed = Some(Owed { sequence: 7, body: BodyId(2), start: Instant(0) });
        let check = |owed, id| check_hit("/k", owed, &puts, Match::Whole(BodyId(id))).is_ok();
        assert!(check(owed, 2) && check(owed, 3) && check(None, 1));
        assert!(!check(owed, 1), "an older body");
        let owed = Owed { sequence: 7, body: BodyId(2), start: Instant(0) };
        let blobs = |blobs| Horizon { blobs, entries: 1, object: None };
        assert!(excuses("/k", owed, &blobs(8)) && !excuses("/k", owed, &blobs(7)));
    }

    #[test]
    fn a_body_of_another_node_is_no_older_either() {
        let puts = [put(1, PutOutcome::AckedElsewhere), put(2, PutOutcome::Acked(7))];
        let owed = |start| Some(Owed { sequence: 7, body: BodyId(2), start: Instant(start) });
        let check = |start| check_hit("/k", owed(start), &puts, Match::Whole(BodyId(1)));
        assert!(check(1_000_000).is_ok(), "too close to be told apart");
        assert!(check(10_000_000).is_err());
    }
}
