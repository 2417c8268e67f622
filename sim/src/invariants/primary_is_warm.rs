//! Who is primary holds what others hold.

use std::time::Duration;

use super::{Invariant, Violation};
use crate::holdings::Holdings;

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "primary_is_warm",
    demands: "a primary does not lack a tenth or more of what another node of its zone holds that serves as well, and that lacks \
              less of what the primary holds, for longer than `primary_within` and twice `primary_lag_max`",
    checked: "every second, where `primary_within` is given",
};

/// Whether `mine` lacks a tenth or more of what is in `theirs`.
#[must_use]
pub fn is_cold(mine: &Holdings, theirs: &Holdings) -> bool {
    let lacking = theirs.iter().filter(|(key, held)| !held.is_met_by(mine.get(*key))).count();
    lacking > 0 && lacking * 10 >= theirs.len()
}

/// Judges a primary that has been cold for so long beside `other`.
///
/// # Errors
///
/// If it is too long.
pub fn check(
    (node, other): (&str, &str),
    lasting: Duration,
    limit: Duration,
) -> Result<(), Violation> {
    if lasting <= limit {
        return Ok(());
    }
    Err(INVARIANT.violated(format!(
        "{node} is primary and has lacked a tenth or more of what {other} holds for {lasting:?}, the limit is {limit:?}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::holdings::sample::holdings;

    #[test]
    fn who_lacks_a_tenth_is_cold_and_a_cold_primary_is_reported() {
        let names: Vec<String> = (0..10).map(|number| format!("k{number}")).collect();
        let of = |count: usize| {
            let rows: Vec<_> = names.iter().take(count).map(|name| (name.as_str(), 1)).collect();
            holdings(&rows)
        };
        assert!(!is_cold(&of(10), &of(10)) && is_cold(&of(9), &of(10)) && !is_cold(&of(0), &of(0)));
        let (short, long) = (Duration::from_secs(5), Duration::from_secs(6));
        assert!(check(("a", "b"), short, short).is_ok() && check(("a", "b"), long, short).is_err());
    }
}
