//! Appends of one file in the order in which they were asked for, whichever threads carry them out.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use kura_env::DiskErrorKind;
use parking_lot::Mutex;
use tokio::sync::oneshot;

type Outcome = Result<(), DiskErrorKind>;

/// Appends of one file that a thread carries out before it serves other files.
pub(super) const APPENDS_PER_TURN: usize = 64;

/// Appends that wait. There is one entry per caller that still waits: dropping the call takes its
/// entry back, so the queue is as long as the callers are many.
#[derive(Clone, Default)]
pub(super) struct AppendQueue(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Whether a turn is queued or running. There is never more than one, which is what keeps the
    /// order.
    running: bool,
    waiting: VecDeque<Append>,
    next_ticket: u64,
}

/// One append that waits or is being carried out.
pub(super) struct Append {
    ticket: u64,
    pub(super) data: Vec<Bytes>,
    answer: oneshot::Sender<Outcome>,
}

impl Append {
    pub(super) fn answer(self, outcome: Outcome) {
        // Whoever gave up waiting does not need the answer.
        drop(self.answer.send(outcome));
    }
}

/// A caller's place in the queue; given up on drop.
pub(super) struct Place {
    queue: AppendQueue,
    ticket: u64,
    outcome: oneshot::Receiver<Outcome>,
}

impl Place {
    pub(super) async fn outcome(&mut self) -> Outcome {
        // Without an answer the turn panicked; how much was written, nobody knows.
        (&mut self.outcome).await.unwrap_or(Err(DiskErrorKind::Io))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.queue.0.lock();
        // Tickets ascend along the queue.
        if let Ok(index) = state.waiting.binary_search_by_key(&self.ticket, |entry| entry.ticket) {
            state.waiting.remove(index);
        }
    }
}

impl AppendQueue {
    /// Queues an append. The flag says whether the caller must start a turn.
    pub(super) fn push(&self, data: Vec<Bytes>) -> (Place, bool) {
        let (answer, outcome) = oneshot::channel();
        let mut state = self.0.lock();
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.waiting.push_back(Append { ticket, data, answer });
        let starts_turn = !state.running;
        state.running = true;
        (Place { queue: self.clone(), ticket, outcome }, starts_turn)
    }

    /// The next append of the running turn, or the end of the turn.
    pub(super) fn next(&self) -> Option<Append> {
        let mut state = self.0.lock();
        let next = state.waiting.pop_front();
        state.running = next.is_some();
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_was_dropped_before_its_turn_leaves_no_entry() {
        let queue = AppendQueue::default();
        let (_first, starts) = queue.push(vec![Bytes::from_static(b"1")]);
        assert!(starts);
        let (second, starts) = queue.push(vec![Bytes::from_static(b"2")]);
        assert!(!starts, "one turn at a time");
        let (_third, _) = queue.push(vec![Bytes::from_static(b"3")]);
        drop(second);
        assert_eq!(queue.next().unwrap().data, [Bytes::from_static(b"1")]);
        assert_eq!(queue.next().unwrap().data, [Bytes::from_static(b"3")]);
        assert!(queue.next().is_none());
        assert!(queue.push(Vec::new()).1, "the turn has ended");
    }
}
