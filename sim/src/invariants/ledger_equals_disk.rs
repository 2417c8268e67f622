//! The node's books say what its disk holds.

use std::time::Duration;

use kura_core::ledger::{Account, Ledger};
use kura_env::Instant;

use super::{Invariant, Violation};

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "ledger_equals_disk",
    demands: "the ledger of a node says of every account what a walk of its disk finds: at rest to the \
              byte, but for the catalog; while it works, it does not say the same wrong thing of \
              segments, objects or unlinked files for longer than 5 s",
    checked: "at rest, and four times a second on every node that is not made to stand still",
};

/// What the books may be behind while work is under way.
const BEHIND_MAX: Duration = Duration::from_secs(5);

/// What a walk of the disk finds, in the accounts of the ledger.
#[must_use]
pub fn walked<'a>(files: impl Iterator<Item = (&'a str, u64)>, unlinked_bytes: u64) -> Ledger {
    let mut walked = Ledger::default();
    for (path, allocated_bytes) in files {
        walked.add(Account::of_path(path), allocated_bytes);
    }
    walked.set(Account::Unlinked, unlinked_bytes);
    walked
}

/// The first of these accounts that the books are wrong about.
fn wrong(ledger: &Ledger, walked: &Ledger, accounts: &[Account]) -> Option<Account> {
    accounts.iter().find(|account| ledger.get(**account) != walked.get(**account)).copied()
}

fn told(ledger: &Ledger, walked: &Ledger, wrong: Account) -> String {
    let (says, holds) = (ledger.get(wrong), walked.get(wrong));
    format!("{} holds {holds} bytes, and the ledger says {says}", wrong.name())
}

/// Judges the books of a node at rest.
///
/// # Errors
///
/// At the first account that differs from the disk.
pub fn check_rest(node: &str, ledger: &Ledger, walked: &Ledger) -> Result<(), Violation> {
    let exact = Account::ALL.into_iter().filter(|account| *account != Account::Catalog);
    let exact: Vec<Account> = exact.collect();
    match wrong(ledger, walked, &exact) {
        None => Ok(()),
        Some(account) => {
            let told = told(ledger, walked, account);
            Err(INVARIANT.violated(format!("{node}: at rest, {told}")))
        }
    }
}

/// For how long the books have been wrong while the node worked.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// Since when, and what the ledger has said of that account all the time.
    since: Option<(Instant, Account, u64)>,
}

impl Watch {
    /// Judges one look; `None` while the node does not serve.
    ///
    /// # Errors
    ///
    /// If the books have been wrong for longer than a call of the disk may take.
    pub fn check(
        &mut self,
        node: &str,
        now: Instant,
        sight: Option<(&Ledger, &Ledger)>,
    ) -> Result<(), Violation> {
        let kept = [Account::Blobs, Account::Entries, Account::Pool, Account::Unlinked];
        let wrong = sight.and_then(|(ledger, walked)| {
            let account = wrong(ledger, walked, &kept)?;
            Some((account, ledger.get(account), told(ledger, walked, account)))
        });
        let Some((account, says, told)) = wrong else {
            self.since = None;
            return Ok(());
        };
        // Books that move follow what happens: something is always under way.
        let (since, ..) = match self.since {
            Some(before) if (before.1, before.2) == (account, says) => before,
            Some(_) | None => *self.since.insert((now, account, says)),
        };
        if now.since(since) <= BEHIND_MAX {
            return Ok(());
        }
        Err(INVARIANT.violated(format!("{node}: for {BEHIND_MAX:?} {told}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        let files = [("blobs/1.seg", 10), ("tmp/1.part", 2), ("catalog/log", 5), ("RING", 4)];
        walked(files.into_iter(), 7)
    }

    #[test]
    fn every_account_but_the_catalog_has_to_fit() {
        assert!(check_rest("n", &ledger(), &ledger()).is_ok());
        for account in Account::ALL {
            let mut wrong = ledger();
            wrong.add(account, 1);
            let verdict = check_rest("n", &wrong, &ledger());
            assert_eq!(verdict.is_ok(), account == Account::Catalog, "{}", account.name());
        }
    }

    #[test]
    fn books_that_stay_wrong_are_reported_and_those_that_follow_are_not() {
        let second = |n: u64| Instant(n * 1_000_000_000);
        let mut wrong = ledger();
        wrong.set(Account::Unlinked, 0);
        let mut watch = Watch::default();
        assert!(watch.check("n", second(0), Some((&wrong, &ledger()))).is_ok());
        assert!(watch.check("n", second(4), Some((&ledger(), &ledger()))).is_ok());
        assert!(watch.check("n", second(5), Some((&wrong, &ledger()))).is_ok());
        assert!(watch.check("n", second(8), None).is_ok());
        assert!(watch.check("n", second(9), Some((&wrong, &ledger()))).is_ok());
        let mut moving = wrong;
        moving.set(Account::Unlinked, 3);
        assert!(watch.check("n", second(15), Some((&moving, &ledger()))).is_ok());
        assert!(watch.check("n", second(16), Some((&wrong, &ledger()))).is_ok());
        assert!(watch.check("n", second(22), Some((&wrong, &ledger()))).is_err());
    }
}
