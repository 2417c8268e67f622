//! A budget of bytes: reserved before the first byte comes, given back on drop.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Bytes that may be in use at once.
pub(crate) struct Budget {
    limit_bytes: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    in_use_bytes: u64,
    /// Those who wait, in order of arrival. As many as there are fetches under way at the most.
    waiting: VecDeque<(u64, oneshot::Sender<()>)>,
}

/// The budget has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exhausted {
    /// What others hold of it.
    pub(crate) in_use_bytes: u64,
}

impl Budget {
    pub(crate) fn new(limit_bytes: u64) -> Arc<Self> {
        Arc::new(Self { limit_bytes, state: Mutex::default() })
    }

    pub(crate) fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    pub(crate) fn in_use_bytes(&self) -> u64 {
        self.state.lock().in_use_bytes
    }

    /// Reserves `bytes` as soon as there is room, in order of arrival. `None` if there never will
    /// be: it is more than the whole budget.
    pub(crate) async fn wait(self: &Arc<Self>, bytes: u64) -> Option<Reservation> {
        if bytes > self.limit_bytes {
            return None;
        }
        let mut turn = Turn { budget: self, bytes, granted: None };
        {
            let mut state = self.state.lock();
            let (grant, granted) = oneshot::channel();
            state.waiting.push_back((bytes, grant));
            turn.granted = Some(granted);
            self.admit(&mut state);
        }
        // The sender is dropped only together with the budget.
        if let Some(granted) = &mut turn.granted {
            granted.await.ok()?;
        }
        turn.granted = None;
        Some(Reservation { budget: self.clone(), bytes })
    }

    /// Lets in who waits first, as far as there is room.
    fn admit(&self, state: &mut State) {
        while let Some((bytes, _)) = state.waiting.front()
            && state.in_use_bytes + bytes <= self.limit_bytes
        {
            let Some((bytes, grant)) = state.waiting.pop_front() else { return };
            // Who went away meanwhile needs nothing.
            if grant.send(()).is_ok() {
                state.in_use_bytes += bytes;
            }
        }
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

/// A place in the queue of those who wait. Given up half-way, it gives back what it was granted.
struct Turn<'a> {
    budget: &'a Arc<Budget>,
    bytes: u64,
    granted: Option<oneshot::Receiver<()>>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let Some(mut granted) = self.granted.take() else { return };
        let mut state = self.budget.state.lock();
        granted.close();
        if granted.try_recv().is_ok() {
            state.in_use_bytes -= self.bytes;
        }
        state.waiting.retain(|(_, grant)| !grant.is_closed());
        self.budget.admit(&mut state);
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
        let mut state = self.budget.state.lock();
        match state.in_use_bytes.checked_add(more) {
            Some(sum) if sum <= self.budget.limit_bytes => {
                state.in_use_bytes = sum;
                self.bytes += more;
                Ok(())
            }
            Some(_) | None => Err(Exhausted { in_use_bytes: state.in_use_bytes }),
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut state = self.budget.state.lock();
        state.in_use_bytes -= self.bytes;
        self.budget.admit(&mut state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_let_in_in_order_of_arrival_and_may_go_away() {
        use std::task::{Context, Poll, Waker};
        let budget = Budget::new(10);
        let held = budget.reserve(8).unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        let (mut large, mut gone, mut small) =
            (Box::pin(budget.wait(9)), Box::pin(budget.wait(9)), Box::pin(budget.wait(1)));
        for waiting in [&mut large, &mut gone, &mut small] {
            assert!(waiting.as_mut().poll(&mut cx).is_pending(), "the small one waits its turn");
        }
        drop(gone);
        drop(held);
        let Poll::Ready(Some(first)) = large.as_mut().poll(&mut cx) else { panic!("its turn") };
        let Poll::Ready(Some(last)) = small.as_mut().poll(&mut cx) else { panic!("fits beside") };
        assert_eq!((first.bytes(), last.bytes(), budget.in_use_bytes()), (9, 1, 10));
        // A grant that nobody took comes back.
        let mut late = Box::pin(budget.wait(5));
        assert!(late.as_mut().poll(&mut cx).is_pending());
        drop((first, last));
        assert_eq!(budget.in_use_bytes(), 5);
        drop(late);
        assert_eq!(budget.in_use_bytes(), 0);
        let Poll::Ready(None) = Box::pin(budget.wait(11)).as_mut().poll(&mut cx) else {
            panic!("never fits")
        };
    }

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
