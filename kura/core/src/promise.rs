//! Promises: for how long an artifact that was vouched for stays readable, and what that costs.
//!
//! A node that answers "it is here" promises that the artifact stays for [`Rules::promise_ms`]. The
//! mark that holds eviction back is made durable before the first answer that rests on it. So that
//! not every answer costs a write, marks reach further than needed, in steps of a quarter of the
//! promise: one write covers all answers of about that long. Times are wall times in milliseconds,
//! because a mark must outlive the process.

/// How long promises last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How long what is vouched for stays, in milliseconds. 0: nothing is promised. Too low: builds
    /// lose outputs that they were told exist. Too high: a small ring refuses writes.
    pub promise_ms: u64,
    /// How long a fresh write stays, in milliseconds.
    pub write_grace_ms: u64,
}

/// What stands in the way of evicting a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Nothing: it may go now.
    Free,
    /// It was promised, or holds fresh writes, for so many milliseconds from now on.
    Held {
        /// How long still.
        for_ms: u64,
    },
}

impl Rules {
    /// Between two marks of one segment lies at least this long.
    #[must_use]
    pub fn step_ms(self) -> u64 {
        (self.promise_ms / 4).max(1)
    }

    /// Until when an answer that is given now must hold.
    #[must_use]
    pub fn due_ms(self, now_ms: u64) -> u64 {
        now_ms.saturating_add(self.promise_ms)
    }

    /// The mark to be made if `marked_ms` does not cover an answer that is given now; `None` if it
    /// does.
    #[must_use]
    pub fn mark_ms(self, now_ms: u64, marked_ms: u64) -> Option<u64> {
        let due_ms = self.due_ms(now_ms);
        (marked_ms < due_ms).then(|| self.furthest_ms(now_ms))
    }

    /// The furthest mark that is made at this time. One further away was made under a wall clock that
    /// has been set back since, and counts until here when it is read back.
    #[must_use]
    pub fn furthest_ms(self, now_ms: u64) -> u64 {
        self.due_ms(now_ms).saturating_add(self.step_ms())
    }

    /// Whether a segment that is marked until `marked_ms`, and was last written by a client at
    /// `written_ms`, may be evicted. Neither may be later than what is made at `now_ms`.
    #[must_use]
    pub fn hold(self, now_ms: u64, marked_ms: u64, written_ms: u64) -> Hold {
        let until_ms = marked_ms.max(written_ms.saturating_add(self.write_grace_ms));
        match until_ms.checked_sub(now_ms) {
            Some(for_ms) if for_ms > 0 => Hold::Held { for_ms },
            Some(_) | None => Hold::Free,
        }
    }
}

/// Whether one more artifact of `bytes` may be vouched for where `promised_bytes` of
/// `capacity_bytes` are promised already, in one ring or in the pool. Above half of it a node could no
/// longer turn it, so the honest answer is "missing". One artifact that is larger than that may be
/// promised as long as it is the only one.
#[must_use]
pub fn may_vouch(promised_bytes: u64, bytes: u64, capacity_bytes: u64) -> bool {
    promised_bytes == 0 || promised_bytes.saturating_add(bytes) <= capacity_bytes / 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: Rules = Rules { promise_ms: 900_000, write_grace_ms: 60_000 };

    #[test]
    fn one_mark_covers_the_answers_of_a_quarter_of_a_promise() {
        let mark = RULES.mark_ms(1_000, 0).unwrap();
        assert_eq!(mark, 1_000 + 900_000 + 225_000);
        assert_eq!(RULES.mark_ms(1_000 + 225_000, mark), None);
        assert!(RULES.mark_ms(1_001 + 225_000, mark).is_some());
    }

    #[test]
    fn what_is_promised_or_fresh_is_held() {
        for (now, marked, written, hold) in [
            (1_000_000, 0, 0, Hold::Free),
            (1_000_000, 1_000_001, 0, Hold::Held { for_ms: 1 }),
            (1_000_000, 1_000_000, 0, Hold::Free),
            (1_000_000, 0, 940_001, Hold::Held { for_ms: 1 }),
            (1_000_000, 0, 940_000, Hold::Free),
            (1_000_000, 1_000_002, 940_001, Hold::Held { for_ms: 2 }),
            (1_000_000, 1_000_002, 1_000_000, Hold::Held { for_ms: 60_000 }),
        ] {
            assert_eq!(RULES.hold(now, marked, written), hold, "{now} {marked} {written}");
        }
    }

    #[test]
    fn half_of_the_ring_can_be_promised() {
        assert!(may_vouch(40, 10, 100));
        assert!(!may_vouch(41, 10, 100));
        assert!(!may_vouch(u64::MAX, 1, u64::MAX));
        assert!(may_vouch(0, 60, 100) && !may_vouch(1, 60, 100));
    }

    proptest! {
        #[test]
        fn an_answer_is_covered_for_its_whole_promise(
            now in 0_u64..1 << 50, earlier in 0_u64..1 << 50, promise in 0_u64..1 << 40,
        ) {
            let rules = Rules { promise_ms: promise, write_grace_ms: 0 };
            let earlier = rules.due_ms(earlier.min(now));
            let mark = rules.mark_ms(now, earlier).unwrap_or(earlier);
            prop_assert!(mark >= now + promise);
            prop_assert!(mark <= rules.furthest_ms(now));
            if promise > 0 {
                let held = matches!(rules.hold(now + promise - 1, mark, 0), Hold::Held { .. });
                prop_assert!(held);
            }
        }
    }
}
