//! A budget of bytes, shared by clients and by replication: reserved before the first byte comes,
//! given back on drop.
//!
//! Two lanes share it, so that neither can keep the other out:
//!
//! - Replicas together hold at most their share, half of the budget. They wait for room in order of
//!   arrival.
//! - Clients never wait. They may hold all that is free; while a replica waits, only what its share
//!   leaves. So room that clients give back goes to who waits, however many clients come.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// The part of a budget of `limit_bytes` that each lane can count on. What is larger may find no
/// room, however long it waits.
#[must_use]
pub const fn share_bytes(limit_bytes: u64) -> u64 {
    limit_bytes / 2
}

/// Who wants room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// A body that a client sends.
    Clients,
    /// A body that is fetched from a peer.
    Replicas,
}

/// Bytes that may be in use at once.
pub(crate) struct Budget {
    limit_bytes: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    client_bytes: u64,
    replica_bytes: u64,
    /// Replicas that wait, in order of arrival. As many as there are fetches under way at the most.
    waiting: VecDeque<(u64, oneshot::Sender<()>)>,
}

impl State {
    fn in_use_bytes(&self) -> u64 {
        self.client_bytes + self.replica_bytes
    }

    fn held_by(&mut self, lane: Lane) -> &mut u64 {
        match lane {
            Lane::Clients => &mut self.client_bytes,
            Lane::Replicas => &mut self.replica_bytes,
        }
    }
}

/// The budget has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exhausted {
    /// What others hold of it, or wait for.
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
        self.state.lock().in_use_bytes()
    }

    /// What `lane` can have now. Who waits in it already is not looked at.
    fn room_bytes(&self, state: &State, lane: Lane) -> u64 {
        let free = self.limit_bytes.saturating_sub(state.in_use_bytes());
        let share = share_bytes(self.limit_bytes);
        match lane {
            Lane::Clients if state.waiting.is_empty() => free,
            Lane::Clients => {
                free.min((self.limit_bytes - share).saturating_sub(state.client_bytes))
            }
            Lane::Replicas => free.min(share.saturating_sub(state.replica_bytes)),
        }
    }

    /// Reserves `bytes` for a replica as soon as there is room, in order of arrival. `None` if there
    /// never will be: it is more than the share of replicas.
    pub(crate) async fn wait(self: &Arc<Self>, bytes: u64) -> Option<Reservation> {
        if bytes > share_bytes(self.limit_bytes) {
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
        Some(Reservation { budget: self.clone(), lane: Lane::Replicas, bytes })
    }

    /// Lets in who waits first, as far as there is room.
    fn admit(&self, state: &mut State) {
        while let Some((bytes, _)) = state.waiting.front()
            && *bytes <= self.room_bytes(state, Lane::Replicas)
        {
            let Some((bytes, grant)) = state.waiting.pop_front() else { return };
            // Who went away meanwhile needs nothing.
            if grant.send(()).is_ok() {
                state.replica_bytes += bytes;
            }
        }
    }

    /// A reservation of nothing, which always fits.
    pub(crate) fn nothing(self: &Arc<Self>, lane: Lane) -> Reservation {
        Reservation { budget: self.clone(), lane, bytes: 0 }
    }

    /// Reserves `bytes`, now or not at all.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        lane: Lane,
        bytes: u64,
    ) -> Result<Reservation, Exhausted> {
        let mut reservation = self.nothing(lane);
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
            state.replica_bytes -= self.bytes;
        }
        state.waiting.retain(|(_, grant)| !grant.is_closed());
        self.budget.admit(&mut state);
    }
}

/// A part of a budget, given back on drop.
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    lane: Lane,
    bytes: u64,
}

impl Reservation {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reserves `more` on top. On refusal what was held stays held.
    pub(crate) fn grow(&mut self, more: u64) -> Result<(), Exhausted> {
        let mut state = self.budget.state.lock();
        // Who waits has come first.
        let is_late = self.lane == Lane::Replicas && !state.waiting.is_empty();
        let room_bytes = if is_late { 0 } else { self.budget.room_bytes(&state, self.lane) };
        if more > room_bytes {
            return Err(Exhausted { in_use_bytes: self.budget.limit_bytes - room_bytes });
        }
        *state.held_by(self.lane) += more;
        self.bytes += more;
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut state = self.budget.state.lock();
        *state.held_by(self.lane) -= self.bytes;
        self.budget.admit(&mut state);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        task::{Context, Poll, Waker},
    };

    use super::{
        Lane::{Clients, Replicas},
        *,
    };

    fn poll<F: Future>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
        future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn who_waits_is_let_in_in_order_of_arrival_and_may_go_away() {
        let budget = Budget::new(20);
        let held = budget.reserve(Replicas, 8).unwrap();
        let (mut large, mut gone, mut small) =
            (Box::pin(budget.wait(9)), Box::pin(budget.wait(9)), Box::pin(budget.wait(1)));
        for waiting in [&mut large, &mut gone, &mut small] {
            assert!(poll(waiting).is_pending(), "the small one waits its turn");
        }
        assert!(budget.reserve(Replicas, 1).is_err(), "who does not wait is not let in first");
        drop(gone);
        drop(held);
        let Poll::Ready(Some(first)) = poll(&mut large) else { panic!("its turn") };
        let Poll::Ready(Some(last)) = poll(&mut small) else { panic!("fits beside") };
        assert_eq!((first.bytes(), last.bytes(), budget.in_use_bytes()), (9, 1, 10));
        // A grant that nobody took comes back.
        let mut late = Box::pin(budget.wait(5));
        assert!(poll(&mut late).is_pending());
        drop((first, last));
        assert_eq!(budget.in_use_bytes(), 5);
        drop(late);
        assert_eq!(budget.in_use_bytes(), 0);
        let Poll::Ready(None) = poll(&mut Box::pin(budget.wait(11))) else {
            panic!("never fits the share of replicas")
        };
    }

    #[test]
    fn what_is_reserved_comes_back_on_drop_and_never_exceeds_the_limit() {
        let budget = Budget::new(10);
        let mut first = budget.reserve(Clients, 6).unwrap();
        assert_eq!(budget.reserve(Clients, 5).err(), Some(Exhausted { in_use_bytes: 6 }));
        let second = budget.reserve(Clients, 3).unwrap();
        assert!(first.grow(2).is_err() && first.grow(u64::MAX).is_err());
        first.grow(1).unwrap();
        assert_eq!((first.bytes(), budget.in_use_bytes()), (7, 10));
        drop(first);
        drop(second);
        assert_eq!(budget.in_use_bytes(), 0);
    }

    #[test]
    fn replicas_leave_clients_their_part() {
        let budget = Budget::new(10);
        let mut replicas: Vec<_> = (0..4).map(|_| Box::pin(budget.wait(2))).collect();
        let mut granted = Vec::new();
        for replica in &mut replicas {
            if let Poll::Ready(Some(reservation)) = poll(replica) {
                granted.push(reservation);
            }
        }
        assert_eq!(granted.len(), 2, "a third would be over half of the budget");
        let client = budget.reserve(Clients, 5).unwrap();
        assert_eq!(
            budget.reserve(Clients, 1).err(),
            Some(Exhausted { in_use_bytes: 10 }),
            "the last byte is kept for who waits"
        );
        drop((client, granted));
    }

    #[test]
    fn room_that_clients_give_back_goes_to_who_waits_however_many_clients_come() {
        let budget = Budget::new(10);
        let mut clients: VecDeque<_> =
            (0..5).map(|_| budget.reserve(Clients, 2).unwrap()).collect();
        let mut replica = Box::pin(budget.wait(5));
        for _ in 0..3 {
            assert!(poll(&mut replica).is_pending());
            clients.pop_front();
            // Another one comes at once, as they do under load.
            clients.extend(budget.reserve(Clients, 2));
        }
        let Poll::Ready(Some(replica)) = poll(&mut replica) else { panic!("kept out by clients") };
        assert_eq!((clients.len(), budget.in_use_bytes()), (2, 9));
        drop(replica);
        assert!(budget.reserve(Clients, 6).is_ok(), "nobody waits: all that is free");
    }
}
