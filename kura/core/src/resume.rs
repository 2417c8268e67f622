//! Large bodies from peers that broke in the middle: whether what came is kept to be gone on with, for how long, and
//! what counts as having got on.

use std::time::Duration;

use crate::limits::SMALL_BODY_BYTES;

/// How long a part is kept while nobody fetches the rest. Too low: it is gone before the longest pause after a failure is
/// over. Too high: room stays taken for what nobody delivers.
pub const KEPT_MAX: Duration = Duration::from_secs(120);
/// The same while another replica waits for room: long enough for a peer that blinks.
pub const KEPT_WAITED_FOR_MAX: Duration = Duration::from_secs(10);
/// How often it is looked at whether what is kept is still worth its room. Far below the patience of a client that waits
/// for room.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// What has come of a body is looked at in steps of a sixteenth of it, within these bounds. So a body that breaks again
/// and again is asked for sixteen times, or once a MiB, if each time it moves on by no more than it has to.
pub const STEP_BYTES_MIN: u64 = 64 * 1024;
const STEP_BYTES_MAX: u64 = 1024 * 1024;
const STEPS: u64 = 16;

/// How often a body that breaks and gets on each time is gone on with at once. Then others come to their turn: the claim on
/// it is given up, and what came is kept for whoever asks next, which may be another peer that does not break.
pub const GOES_ON_MAX: usize = 8;

/// Whether so much of a body is worth being kept. What fits into a batch is asked for again.
#[must_use]
pub fn is_resumable(body_bytes: u64, received_bytes: u64) -> bool {
    body_bytes > SMALL_BODY_BYTES && received_bytes > 0
}

/// Whether a body that had come as far as `before_bytes` and now as far as `after_bytes` got on.
#[must_use]
pub fn has_moved_on(body_bytes: u64, before_bytes: u64, after_bytes: u64) -> bool {
    let step_bytes = (body_bytes / STEPS).clamp(STEP_BYTES_MIN, STEP_BYTES_MAX);
    after_bytes.saturating_sub(before_bytes) >= step_bytes
}

/// Who waits for the room that bodies on their way in hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Bodies of clients.
    pub clients: bool,
    /// Other bodies from peers.
    pub replicas: bool,
}

/// Why a part of a body is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenUp {
    /// Nobody went on with it in time.
    Late,
    /// Somebody waits for its room.
    Room,
    /// The artifact is here, is deleted, or is wanted in another version.
    Unwanted,
    /// There are as many younger ones as are kept.
    Crowded,
    /// It was gone on with, and what came of that is not what the row says.
    WrongDigest,
}

impl GivenUp {
    /// Its name where it is counted.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::Room => "room",
            Self::Unwanted => "unwanted",
            Self::Crowded => "crowded",
            Self::WrongDigest => "wrong_digest",
        }
    }
}

/// Whether a part is given up that nobody has gone on with for `kept`, and why. A client never waits for one: its patience
/// is short. Another replica waits for a moment, because the peer that broke may be back at once.
#[must_use]
pub fn give_up(kept: Duration, waiting: Waiting, is_wanted: bool) -> Option<GivenUp> {
    if !is_wanted {
        return Some(GivenUp::Unwanted);
    }
    let is_in_the_way = waiting.clients || waiting.replicas && kept >= KEPT_WAITED_FOR_MAX;
    if is_in_the_way {
        return Some(GivenUp::Room);
    }
    (kept >= KEPT_MAX).then_some(GivenUp::Late)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backoff::PAUSE_MAX;

    const KIB: u64 = 1024;
    const MIB: u64 = 1024 * KIB;

    #[test]
    fn what_fits_into_a_batch_is_not_kept() {
        for (body_bytes, received_bytes, is_kept) in [
            (SMALL_BODY_BYTES, SMALL_BODY_BYTES - 1, false),
            (SMALL_BODY_BYTES + 1, 1, true),
            (SMALL_BODY_BYTES + 1, 0, false),
            (MIB, MIB - 1, true),
        ] {
            assert_eq!(is_resumable(body_bytes, received_bytes), is_kept, "{received_bytes}");
        }
    }

    #[test]
    fn a_body_gets_on_by_steps() {
        for (body_bytes, before, after, moved) in [
            (100 * KIB, 0, 64 * KIB - 1, false),
            (100 * KIB, 0, 64 * KIB, true),
            (100 * KIB, 64 * KIB, 99 * KIB, false),
            (4 * MIB, 0, 256 * KIB - 1, false),
            (4 * MIB, MIB, MIB + 256 * KIB, true),
            (1024 * MIB, 5 * MIB, 6 * MIB - 1, false),
            (1024 * MIB, 5 * MIB, 6 * MIB, true),
            // It began anew.
            (4 * MIB, 3 * MIB, MIB, false),
        ] {
            let told = format!("{before} to {after} of {body_bytes}");
            assert_eq!(has_moved_on(body_bytes, before, after), moved, "{told}");
        }
    }

    #[test]
    fn a_body_that_moves_no_faster_than_it_has_to_is_asked_for_a_bounded_number_of_times() {
        for body_bytes in [65 * KIB, MIB, 16 * MIB, 100 * MIB + 7] {
            let (mut reached, mut times) = (0, 0);
            for after in 0..=body_bytes / KIB {
                if has_moved_on(body_bytes, reached, after * KIB) {
                    (reached, times) = (after * KIB, times + 1);
                }
            }
            assert!(times <= STEPS.max(body_bytes / MIB), "{times} for {body_bytes}");
        }
    }

    #[test]
    fn a_part_outlives_the_longest_pause_and_stands_in_nobodys_way() {
        assert!(KEPT_MAX > PAUSE_MAX);
        let nobody = Waiting::default();
        let replicas = Waiting { replicas: true, ..nobody };
        let clients = Waiting { clients: true, ..nobody };
        for (seconds, waiting, is_wanted, given_up) in [
            (0, nobody, true, None),
            (0, nobody, false, Some(GivenUp::Unwanted)),
            (119, nobody, true, None),
            (120, nobody, true, Some(GivenUp::Late)),
            (9, replicas, true, None),
            (10, replicas, true, Some(GivenUp::Room)),
            (0, clients, true, Some(GivenUp::Room)),
            (200, clients, false, Some(GivenUp::Unwanted)),
        ] {
            let kept = Duration::from_secs(seconds);
            assert_eq!(give_up(kept, waiting, is_wanted), given_up, "{seconds} {waiting:?}");
        }
    }
}
