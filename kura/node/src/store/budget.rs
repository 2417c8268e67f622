//! A budget of bytes: reserved before the first byte comes, given back on drop.

use std::sync::Arc;

use parking_lot::Mutex;

/// Bytes that may be in use at once.
pub(crate) struct Budget {
    limit_bytes: u64,
    in_use_bytes: Mutex<u64>,
}

/// The budget has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exhausted {
    /// What others hold of it.
    pub(crate) in_use_bytes: u64,
}

impl Budget {
    pub(crate) fn new(limit_bytes: u64) -> Arc<Self> {
        Arc::new(Self { limit_bytes, in_use_bytes: Mutex::new(0) })
    }

    pub(crate) fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    pub(crate) fn in_use_bytes(&self) -> u64 {
        *self.in_use_bytes.lock()
    }

    /// A reservation of nothing, which always fits.
    pub(crate) fn nothing(self: &Arc<Self>) -> Reservation {
        Reservation { budget: self.clone(), bytes: 0 }
    }

    /// Reserves `bytes`, now or not at all.
    pub(crate) fn reserve(self: &Arc<Self>, bytes: u64) -> Result<Reservation, Exhausted> {
        let mut reservation = self.nothing();
        reservation.grow(bytes)?;
        Ok(reservation)
    }
}

/// A part of a budget, given back on drop.
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Reservation {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reserves `more` on top. On refusal what was held stays held.
    pub(crate) fn grow(&mut self, more: u64) -> Result<(), Exhausted> {
        let mut in_use = self.budget.in_use_bytes.lock();
        match in_use.checked_add(more) {
            Some(sum) if sum <= self.budget.limit_bytes => {
                *in_use = sum;
                self.bytes += more;
                Ok(())
            }
            Some(_) | None => Err(Exhausted { in_use_bytes: *in_use }),
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        *self.budget.in_use_bytes.lock() -= self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_comes_back_on_drop_and_never_exceeds_the_limit() {
        let budget = Budget::new(10);
        let mut first = budget.reserve(6).unwrap();
        assert_eq!(budget.reserve(5).err(), Some(Exhausted { in_use_bytes: 6 }));
        let second = budget.reserve(3).unwrap();
        assert!(first.grow(2).is_err() && first.grow(u64::MAX).is_err());
        first.grow(1).unwrap();
        assert_eq!((first.bytes(), budget.in_use_bytes()), (7, 10));
        drop(first);
        drop(second);
        assert_eq!(budget.in_use_bytes(), 0);
    }
}
