//! Once nothing fails any more, every node comes back by itself, within a bound.

use std::time::Duration;

use super::{Invariant, Violation};

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "node_heals",
    demands: "after the last fault every node serves again within the scenario's `healed_within`",
    checked: "from the end of the last phase on",
};

/// What an operator sees of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// `/ready` says yes.
    Ready,
    /// `/ready` says no, and why.
    Unready(String),
    /// It does not answer.
    Silent(String),
}

impl Health {
    /// A silence explained by what the process said when it last ended by itself.
    #[must_use]
    pub fn because(self, last_words: &str) -> Self {
        match self {
            Self::Silent(reason) if !last_words.is_empty() => {
                Self::Silent(format!("{reason}; it gave up before: {last_words}"))
            }
            Self::Silent(_) | Self::Ready | Self::Unready(_) => self,
        }
    }
}

/// Judges a node `waited` after the last fault.
///
/// # Errors
///
/// If the bound has passed and it does not serve; the reason is what it says of itself.
pub fn check(
    node: &str,
    health: &Health,
    waited: Duration,
    bound: Duration,
) -> Result<(), Violation> {
    let reason = match health {
        Health::Ready => return Ok(()),
        Health::Unready(reason) => format!("not ready: {reason}"),
        Health::Silent(reason) => format!("no answer: {reason}"),
    };
    if waited < bound {
        return Ok(());
    }
    Err(INVARIANT.violated(format!("{node}: {waited:?} after the last fault {reason}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_not_ready_in_time_is_reported_with_its_reason() {
        let bound = Duration::from_secs(30);
        let unready = Health::Unready("recovering".to_owned());
        assert!(check("n", &unready, Duration::from_secs(29), bound).is_ok());
        assert!(check("n", &Health::Ready, bound, bound).is_ok());
        let violation = check("n", &unready, bound, bound).unwrap_err();
        assert!(violation.reason.contains("recovering"), "{violation}");
        assert!(check("n", &Health::Silent("refused".to_owned()), bound, bound).is_err());
    }
}
