//! A node whose process runs says so, whatever else it is doing: who restarts it goes by that.

use std::time::Duration;

use super::{Invariant, Violation};

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "live_answers",
    demands: "from a second after its start on a node answers `GET /up` with 200 within the scenario's \
              `up_within`, while it recovers, while its disk stalls, and under load",
    checked: "every second on every node that runs, where `up_within` is given",
};

/// Judges an answer: its status and how long it took, or why there was none.
///
/// # Errors
///
/// If it is another, or late, or did not come.
pub fn check(
    node: &str,
    answer: &Result<(u16, Duration), String>,
    limit: Duration,
) -> Result<(), Violation> {
    let reason = match answer {
        Ok((200, took)) if *took <= limit => return Ok(()),
        Ok((status, took)) => format!("{status} after {took:?}"),
        Err(cause) => cause.clone(),
    };
    Err(INVARIANT.violated(format!("{node}: GET /up: {reason}; the limit is {limit:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_answer_another_one_and_none_are_reported() {
        let limit = Duration::from_millis(50);
        let check = |answer| check("n", &answer, limit);
        assert!(check(Ok((200, limit))).is_ok());
        assert!(check(Ok((200, limit * 2))).is_err());
        assert!(check(Ok((503, Duration::ZERO))).is_err());
        assert!(check(Err("refused".to_owned())).is_err());
    }
}
