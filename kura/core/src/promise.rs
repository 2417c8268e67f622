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
        (marked_ms < due_ms).then(|| due_ms.saturating_add(self.step_ms()))
    }

    /// A mark as it may still count. One further away than any that could have been made by now was
    /// made under a wall clock that has been set back since; it counts for one promise from now.
    #[must_use]
    pub fn trusted_ms(self, now_ms: u64, marked_ms: u64) -> u64 {
        let furthest_ms = self.due_ms(now_ms).saturating_add(self.step_ms());
        if marked_ms > furthest_ms { furthest_ms } else { marked_ms }
    }

    /// Whether a segment that is marked until `marked_ms`, and was last written by a client at
    /// `written_ms`, may be evicted.
    #[must_use]
    pub fn hold(self, now_ms: u64, marked_ms: u64, written_ms: u64) -> Hold {
        let fresh_ms = written_ms.saturating_add(self.write_grace_ms);
        // A write from the future was made before the wall clock was set back.
        let fresh_ms = fresh_ms.min(now_ms.saturating_add(self.write_grace_ms));
        let until_ms = self.trusted_ms(now_ms, marked_ms).max(fresh_ms);
        match until_ms.checked_sub(now_ms) {
            Some(for_ms) if for_ms > 0 => Hold::Held { for_ms },
            Some(_) | None => Hold::Free,
        }
    }
}

/// Whether one more artifact of `bytes` may be vouched for where `promised_bytes` of
/// `capacity_bytes` are promised already. Above half of the ring a node could no longer turn it, so
/// the honest answer is "missing".
#[must_use]
pub fn may_vouch(promised_bytes: u64, bytes: u64, capacity_bytes: u64) -> bool {
    promised_bytes.saturating_add(bytes) <= capacity_bytes / 2
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
            // The clock was set back: a mark counts for a promise and a step, a write for its grace.
            (1_000_000, u64::MAX, 0, Hold::Held { for_ms: 1_125_000 }),
            (1_000_000, 0, u64::MAX, Hold::Held { for_ms: 60_000 }),
        ] {
            assert_eq!(RULES.hold(now, marked, written), hold, "{now} {marked} {written}");
        }
    }

    #[test]
    fn half_of_the_ring_can_be_promised() {
        assert!(may_vouch(40, 10, 100));
        assert!(!may_vouch(41, 10, 100));
        assert!(!may_vouch(u64::MAX, 1, u64::MAX));
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
            prop_assert_eq!(rules.trusted_ms(now, mark.min(rules.due_ms(now))), mark.min(now + promise));
            if promise > 0 {
                let held = matches!(rules.hold(now + promise - 1, mark, 0), Hold::Held { .. });
                prop_assert!(held);
            }
        }
    }
}
