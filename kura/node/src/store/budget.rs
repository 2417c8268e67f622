//! A budget of bytes, shared by clients and by replication: reserved before the first byte comes,
//! given back on drop.
//!
//! Two lanes share it, so that neither can keep the other out:
//!
//! - Who waits is let in in order of arrival within its lane, and is passed by nobody of its lane who
//!   begins later. Only who holds a part already gets more of it at once or not at all: if two waited
//!   for what the other holds, both would wait for nothing.
//! - Replicas together hold at most their share, half of the budget.
//! - Clients may hold all that is free; while a replica waits, only what its share leaves. So room
//!   that clients give back goes to who waits, however many clients come.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::metrics::Level;

/// Bodies of clients that wait for room at once; further ones are refused. Too low: a burst is
/// refused that a moment's patience would take in. Too high: the last ones wait for nothing.
pub(crate) const CLIENTS_WAITING_MAX: usize = 256;

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
    /// Shows what is in use, at every moment.
    in_use: Level,
}

#[derive(Default)]
struct State {
    clients: LaneState,
    replicas: LaneState,
    /// Of what is held, what has been written: it lies on the volume.
    written_bytes: u64,
}

#[derive(Default)]
struct LaneState {
    held_bytes: u64,
    /// Who waits, in order of arrival. Of clients at most [`CLIENTS_WAITING_MAX`]; as many replicas as
    /// there are fetches under way at the most.
    waiting: VecDeque<(u64, oneshot::Sender<()>)>,
}

impl State {
    fn in_use_bytes(&self) -> u64 {
        self.clients.held_bytes + self.replicas.held_bytes
    }

    fn lane(&mut self, lane: Lane) -> &mut LaneState {
        match lane {
            Lane::Clients => &mut self.clients,
            Lane::Replicas => &mut self.replicas,
        }
    }
}

/// The budget has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exhausted {
    /// What others hold of it, or wait for.
    pub(crate) in_use_bytes: u64,
}

/// Why waiting is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoTurn {
    /// There never will be room: it is more than the lane may hold.
    TooLarge,
    /// [`CLIENTS_WAITING_MAX`] wait already.
    TooMany,
}

impl Budget {
    pub(crate) fn new(limit_bytes: u64) -> Arc<Self> {
        Self::shown(limit_bytes, Level::default())
    }

    /// A budget of which `in_use` shows the bytes in use.
    pub(crate) fn shown(limit_bytes: u64, in_use: Level) -> Arc<Self> {
        Arc::new(Self { limit_bytes, state: Mutex::default(), in_use })
    }

    pub(crate) fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    pub(crate) fn in_use_bytes(&self) -> u64 {
        self.state.lock().in_use_bytes()
    }

    /// Bytes that are held and were not written yet.
    pub(crate) fn to_come_bytes(&self) -> u64 {
        let state = self.state.lock();
        state.in_use_bytes().saturating_sub(state.written_bytes)
    }

    /// How many bodies of clients wait.
    pub(crate) fn clients_waiting(&self) -> usize {
        self.state.lock().clients.waiting.len()
    }

    /// Whether a body of `lane` waits.
    pub(crate) fn is_waited_for(&self, lane: Lane) -> bool {
        !self.state.lock().lane(lane).waiting.is_empty()
    }

    /// What `lane` can have now. Who waits in it already is not looked at.
    fn room_bytes(&self, state: &State, lane: Lane) -> u64 {
        let free = self.limit_bytes.saturating_sub(state.in_use_bytes());
        let share = share_bytes(self.limit_bytes);
        match lane {
            Lane::Clients if state.replicas.waiting.is_empty() => free,
            Lane::Clients => {
                free.min((self.limit_bytes - share).saturating_sub(state.clients.held_bytes))
            }
            Lane::Replicas => free.min(share.saturating_sub(state.replicas.held_bytes)),
        }
    }

    /// The most that `lane` may ever hold.
    fn reach_bytes(&self, lane: Lane) -> u64 {
        match lane {
            Lane::Clients => self.limit_bytes,
            Lane::Replicas => share_bytes(self.limit_bytes),
        }
    }

    /// Reserves `bytes` as soon as there is room, in order of arrival. Dropped before that, it leaves
    /// the queue.
    ///
    /// A client may wait for more than half of the budget; it has that only while no replica waits.
    pub(crate) async fn wait(
        self: &Arc<Self>,
        lane: Lane,
        bytes: u64,
    ) -> Result<Reservation, NoTurn> {
        if bytes > self.reach_bytes(lane) {
            return Err(NoTurn::TooLarge);
        }
        let mut turn = Turn { budget: self, lane, bytes, granted: None };
        {
            let mut state = self.state.lock();
            if lane == Lane::Clients && state.clients.waiting.len() >= CLIENTS_WAITING_MAX {
                return Err(NoTurn::TooMany);
            }
            let (grant, granted) = oneshot::channel();
            state.lane(lane).waiting.push_back((bytes, grant));
            turn.granted = Some(granted);
            self.admit(&mut state);
        }
        // The sender is dropped only together with the budget, which this future holds.
        if let Some(granted) = &mut turn.granted {
            granted.await.map_err(|_| NoTurn::TooMany)?;
        }
        turn.granted = None;
        Ok(Reservation { budget: self.clone(), lane, bytes, written_bytes: 0 })
    }

    /// Lets in who waits first in each lane, as far as there is room. Replicas before clients: once
    /// none of them waits, clients may have all that is free.
    fn admit(&self, state: &mut State) {
        for lane in [Lane::Replicas, Lane::Clients] {
            while let Some((bytes, _)) = state.lane(lane).waiting.front()
                && *bytes <= self.room_bytes(state, lane)
            {
                let Some((bytes, grant)) = state.lane(lane).waiting.pop_front() else { break };
                // Who went away meanwhile needs nothing.
                if grant.send(()).is_ok() {
                    state.lane(lane).held_bytes += bytes;
                }
            }
        }
        self.show(state);
    }

    fn show(&self, state: &State) {
        self.in_use.set(i64::try_from(state.in_use_bytes()).unwrap_or(i64::MAX));
    }

    /// A reservation of nothing, which always fits.
    pub(crate) fn nothing(self: &Arc<Self>, lane: Lane) -> Reservation {
        Reservation { budget: self.clone(), lane, bytes: 0, written_bytes: 0 }
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
    lane: Lane,
    bytes: u64,
    granted: Option<oneshot::Receiver<()>>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let Some(mut granted) = self.granted.take() else { return };
        let mut state = self.budget.state.lock();
        granted.close();
        let lane = state.lane(self.lane);
        if granted.try_recv().is_ok() {
            lane.held_bytes -= self.bytes;
        }
        lane.waiting.retain(|(_, grant)| !grant.is_closed());
        self.budget.admit(&mut state);
    }
}

/// A part of a budget, given back on drop.
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    lane: Lane,
    bytes: u64,
    /// At most `bytes`.
    written_bytes: u64,
}

impl Reservation {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// So much of what is reserved has been written.
    pub(crate) fn wrote(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes - self.written_bytes);
        self.written_bytes += bytes;
        self.budget.state.lock().written_bytes += bytes;
    }

    /// Reserves `more` on top, now or not at all. On refusal what was held stays held.
    pub(crate) fn grow(&mut self, more: u64) -> Result<(), Exhausted> {
        let mut state = self.budget.state.lock();
        // Who waits has come first. Who holds a part already must be able to end, or nobody gets it.
        let is_late = self.bytes == 0 && !state.lane(self.lane).waiting.is_empty();
        let room_bytes = if is_late { 0 } else { self.budget.room_bytes(&state, self.lane) };
        if more > room_bytes {
            return Err(Exhausted { in_use_bytes: self.budget.limit_bytes - room_bytes });
        }
        state.lane(self.lane).held_bytes += more;
        self.bytes += more;
        self.budget.show(&state);
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut state = self.budget.state.lock();
        state.lane(self.lane).held_bytes -= self.bytes;
        state.written_bytes -= self.written_bytes;
        self.budget.admit(&mut state);
    }
}

#[cfg(test)]
mod tests;
