//! Refresh: what is read or vouched for in the old part of the ring is copied forward, within a
//! budget, so that what is used survives and the copies never turn the ring by themselves.
//!
//! The budget is a purse. It starts with the size of the old part, fills by one byte for each byte
//! that clients write, and holds no more than it started with. So over any stretch of time the copies
//! are at most what was written plus the old part once: a hot set larger than the ring cannot make
//! the ring chase itself. A vouch is a promise and goes first: it may use a share of the purse that
//! reads may not touch. What was promised and holds up the whole ring is copied whatever the purse
//! holds: no more than half of a ring is vouched for one by one, so these copies are at most what was
//! written.

/// Why an artifact is to be copied forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trigger {
    /// It was read.
    Read,
    /// It was said to be here.
    Vouch,
    /// It was said to be here, and the ring cannot turn before it is copied.
    Turn,
}

/// Bytes that may be copied forward now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purse {
    /// What it holds at the most: the size of the old part.
    size_bytes: u64,
    /// At all times at most `size_bytes`.
    left_bytes: u64,
}

impl Purse {
    /// A full purse for a ring whose old part has `old_bytes`.
    #[must_use]
    pub fn new(old_bytes: u64) -> Self {
        Self { size_bytes: old_bytes, left_bytes: old_bytes }
    }

    /// What can be spent, in bytes.
    #[must_use]
    pub fn left_bytes(&self) -> u64 {
        self.left_bytes
    }

    /// A client's write of `bytes` was appended.
    pub fn earn(&mut self, bytes: u64) {
        self.left_bytes = self.left_bytes.saturating_add(bytes).min(self.size_bytes);
    }

    /// Pays for a copy of `bytes`, if that may be; [`Trigger::Turn`] always may, and takes what there
    /// is. What was spent, which is what a copy that is not made gives back; `None` is a refusal.
    #[must_use]
    pub fn spend(&mut self, trigger: Trigger, bytes: u64) -> Option<u64> {
        let kept_bytes = match trigger {
            Trigger::Read => self.size_bytes / 4,
            Trigger::Vouch => 0,
            Trigger::Turn => {
                let spent = bytes.min(self.left_bytes);
                self.left_bytes -= spent;
                return Some(spent);
            }
        };
        let rest = self.left_bytes.checked_sub(bytes).filter(|rest| *rest >= kept_bytes)?;
        self.left_bytes = rest;
        Some(bytes)
    }

    /// The ring has another size now.
    pub fn resize(&mut self, old_bytes: u64) {
        self.size_bytes = old_bytes;
        self.left_bytes = self.left_bytes.min(old_bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn vouches_may_use_what_reads_must_leave() {
        let mut purse = Purse::new(100);
        assert_eq!(purse.spend(Trigger::Read, 75), Some(75));
        assert_eq!(purse.spend(Trigger::Read, 1), None, "a quarter is kept for vouches");
        assert_eq!(purse.spend(Trigger::Vouch, 25), Some(25));
        assert_eq!(purse.spend(Trigger::Vouch, 1), None);
        purse.earn(30);
        assert_eq!(purse.spend(Trigger::Read, 6), None);
        assert_eq!(purse.spend(Trigger::Read, 5), Some(5));
        purse.earn(u64::MAX);
        assert_eq!(purse.left_bytes(), 100);
        purse.resize(10);
        assert_eq!(purse.left_bytes(), 10);
        assert_eq!(purse.spend(Trigger::Turn, 11), Some(10), "what there was");
        assert_eq!((purse.left_bytes(), purse.spend(Trigger::Vouch, 1)), (0, None));
    }

    proptest! {
        #[test]
        fn copies_never_exceed_writes_plus_the_old_part(
            steps in proptest::collection::vec((0_u64..200, any::<bool>(), any::<bool>()), 0..200),
        ) {
            let mut purse = Purse::new(500);
            let (mut written, mut copied) = (0, 0);
            for (bytes, is_write, is_vouch) in steps {
                let trigger = if is_vouch { Trigger::Vouch } else { Trigger::Read };
                if is_write {
                    purse.earn(bytes);
                    written += bytes;
                } else if let Some(spent) = purse.spend(trigger, bytes) {
                    prop_assert_eq!(spent, bytes);
                    copied += bytes;
                }
                prop_assert!(copied <= written + 500);
            }
        }
    }
}
