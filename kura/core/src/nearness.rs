//! Which of several peers that hold the same is asked for it: the nearest, unless it turns out to be busy.
//!
//! Who is further away leaves what a nearer peer was heard to hold to that one, for [`LEAVES_FOR`] at the most. One that
//! did not deliver in that time is busy, whatever the cause, and nothing is left to it for [`RESTS_FOR`]: then all are
//! asked, and each delivers as much as it can. So a nearer one costs those five seconds in each half minute at the worst.

use std::time::Duration;

/// How long a body is left to a nearer peer. Shorter: one that is busy for a moment is not left anything, and bodies come
/// over the longer way. Longer: one that hangs holds up what others could deliver.
pub const LEAVES_FOR: Duration = Duration::from_secs(5);
/// For how long nothing is left to a peer that did not deliver in time.
pub const RESTS_FOR: Duration = Duration::from_secs(30);

/// How many times as far another one must be to be further away. A first request takes two round trips, one over a connection
/// that is kept takes one, and neither is measured alone on the way.
const TIMES: u32 = 4;
/// What of a round trip says nothing: how long a busy process takes to answer.
const SLACK: Duration = Duration::from_millis(5);

/// How far away a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Distance {
    /// Whether it is in another region.
    pub is_elsewhere: bool,
    /// How long it took to say hello.
    pub took: Duration,
}

impl Distance {
    /// Whether what both hold is rather asked of this one than of `other`.
    #[must_use]
    pub fn is_nearer_than(self, other: Self) -> bool {
        if self.is_elsewhere != other.is_elsewhere {
            return other.is_elsewhere;
        }
        other.took > self.took.saturating_mul(TIMES).saturating_add(SLACK)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(is_elsewhere: bool, millis: u64) -> Distance {
        Distance { is_elsewhere, took: Duration::from_millis(millis) }
    }

    #[test]
    fn the_region_counts_first_and_then_the_way() {
        for (one, other, is_nearer) in [
            (at(false, 0), at(false, 0), false),
            (at(false, 0), at(false, 5), false),
            (at(false, 0), at(false, 6), true),
            (at(false, 10), at(false, 20), false),
            (at(false, 10), at(false, 45), false),
            (at(false, 10), at(false, 46), true),
            (at(false, 500), at(true, 1), true),
            (at(true, 1), at(false, 500), false),
            (at(true, 1), at(true, 40), true),
        ] {
            assert_eq!(one.is_nearer_than(other), is_nearer, "{one:?} {other:?}");
        }
    }

    proptest! {
        /// Nobody waits for one that waits for it, over however many others.
        #[test]
        fn it_is_an_order(
            a in (any::<bool>(), 0_u64..1000), b in (any::<bool>(), 0_u64..1000), c in (any::<bool>(), 0_u64..1000),
        ) {
            let [a, b, c] = [a, b, c].map(|(is_elsewhere, millis)| at(is_elsewhere, millis));
            prop_assert!(!a.is_nearer_than(a));
            prop_assert!(!(a.is_nearer_than(b) && b.is_nearer_than(a)));
            prop_assert!(!(a.is_nearer_than(b) && b.is_nearer_than(c)) || a.is_nearer_than(c));
        }
    }
}
