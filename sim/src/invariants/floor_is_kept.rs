//! Others may fill the disk of a node at any time; the node gets out of the way by itself.

use std::time::Duration;

use kura_env::Instant;

use super::{Invariant, Violation};

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "floor_is_kept",
    demands: "a node that serves leaves its disk below the floor no longer than promises, write grace \
              and 15 s take, as long as it holds segments or objects that may go and readers hold none",
    checked: "four times a second on every node, but where nodes are made to stand still",
};

/// What a node has, beside its promises, to notice and to make room.
const TIME: Duration = Duration::from_secs(15);

/// The disk of a node at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    /// What is left of it.
    pub available_bytes: u64,
    /// What always has to be.
    pub floor_bytes: u64,
    /// Segments and objects that may go once nothing in them is promised.
    pub may_go: u64,
}

/// For how long a node has been below its floor.
#[derive(Clone, Debug)]
pub struct Watch {
    bound: Duration,
    since: Option<Instant>,
}

impl Watch {
    /// Watches a node that holds what was promised or just written for `held` at most.
    #[must_use]
    pub fn new(held: Duration) -> Self {
        Self { bound: held + TIME, since: None }
    }

    /// Judges one look; `None` while the node does not serve.
    ///
    /// # Errors
    ///
    /// If it has been below its floor for too long.
    pub fn check(
        &mut self,
        node: &str,
        now: Instant,
        sight: Option<Sight>,
    ) -> Result<(), Violation> {
        let short = sight.filter(|it| it.available_bytes < it.floor_bytes && it.may_go > 0);
        let Some(Sight { available_bytes, floor_bytes, may_go }) = short else {
            self.since = None;
            return Ok(());
        };
        let since = *self.since.get_or_insert(now);
        if now.since(since) <= self.bound {
            return Ok(());
        }
        Err(INVARIANT.violated(format!(
            "{node}: {available_bytes} bytes are left for more than {:?}, the floor is {floor_bytes}, \
             and {may_go} segments and objects could go",
            self.bound
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_stays_below_with_something_to_give_is_reported() {
        let second = |n: u64| Instant(n * 1_000_000_000);
        let low = Sight { available_bytes: 1, floor_bytes: 2, may_go: 1 };
        let mut watch = Watch::new(Duration::from_secs(5));
        assert!(watch.check("n", second(0), Some(low)).is_ok());
        assert!(watch.check("n", second(20), Some(low)).is_ok());
        assert!(watch.check("n", second(21), Some(low)).is_err());
        assert!(watch.check("n", second(22), None).is_ok());
        assert!(watch.check("n", second(40), Some(low)).is_ok());
        let bare = Sight { may_go: 0, ..low };
        assert!(watch.check("n", second(99), Some(bare)).is_ok());
        let enough = Sight { available_bytes: 2, ..low };
        assert!(watch.check("n", second(200), Some(enough)).is_ok());
    }
}
