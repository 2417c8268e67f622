//! Wherever a node serves, one is primary.

use std::time::Duration;

use super::{Invariant, Violation};

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "primary_is_there",
    demands: "in a zone in which a node answers reads and takes writes, none or several say that they are primary for at most \
              `primary_within` at a time, and five times as long in a minute; several are not looked at while nodes of the zone are kept apart, and for `primary_within` after that",
    checked: "four times a second, where `primary_within` is given",
};

/// Judges a zone in which for so long not exactly one node has been primary, but these.
///
/// # Errors
///
/// If it is too long.
pub fn check(
    zone: &str,
    primaries: &[&str],
    lasting: Duration,
    limit: Duration,
) -> Result<(), Violation> {
    if lasting <= limit {
        return Ok(());
    }
    let who = if primaries.is_empty() { "nobody".to_owned() } else { primaries.join(" and ") };
    Err(INVARIANT.violated(format!(
        "in zone {zone} {who} has been primary for {lasting:?}, the limit is {limit:?}"
    )))
}

/// Judges for how long within `window` not exactly one node was primary, all together.
///
/// # Errors
///
/// If it is more than five times what is allowed at a time.
pub fn check_often(
    zone: &str,
    total: Duration,
    limit: Duration,
    window: Duration,
) -> Result<(), Violation> {
    if total <= limit * 5 {
        return Ok(());
    }
    Err(INVARIANT.violated(format!(
        "in zone {zone} not exactly one node was primary for {total:?} within {window:?}, the limit is {:?}",
        limit * 5
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_or_several_for_too_long_are_reported() {
        let (short, long) = (Duration::from_secs(5), Duration::from_millis(5001));
        assert!(check("z", &[], short, short).is_ok());
        let violation = check("z", &[], long, short).unwrap_err();
        assert!(violation.reason.contains("nobody"), "{violation}");
        let often = |total| check_often("z", Duration::from_secs(total), short, short * 12);
        assert!(often(25).is_ok() && often(26).is_err());
        assert!(check("z", &["a", "b"], long, short).unwrap_err().reason.contains("a and b"));
    }
}
