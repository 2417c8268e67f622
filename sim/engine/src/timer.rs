//! Timers: what happens at which virtual time. Each has an id that is never used again, so a
//! cancelled timer can never take another one's wake-up with it.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use kura_env::Instant;

use crate::{net::NetEvent, shared::Shared, task::Wait, world::World};

/// A change of the world at its time.
pub(crate) type WorldEvent = Box<dyn FnOnce(&World) + Send>;

pub(crate) enum Action {
    Wake(Waker),
    World(WorldEvent),
    Net(NetEvent),
}

/// Orders timers: by time, and among equals in the order in which they were set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TimerKey {
    pub(crate) at_nanos: u64,
    id: u64,
}

#[derive(Default)]
pub(crate) struct Timers {
    next_id: u64,
    queue: BTreeMap<TimerKey, Action>,
}

impl Timers {
    pub(crate) fn set(&mut self, at_nanos: u64, action: Action) -> TimerKey {
        let key = TimerKey { at_nanos, id: self.next_id };
        self.next_id += 1;
        self.queue.insert(key, action);
        key
    }

    /// Takes a timer back. What it would have done is returned to be dropped without a lock held.
    pub(crate) fn cancel(&mut self, key: TimerKey) -> Option<Action> {
        self.queue.remove(&key)
    }

    fn replace_waker(&mut self, key: TimerKey, waker: &Waker) -> Option<Action> {
        let action = self.queue.get_mut(&key)?;
        match action {
            Action::Wake(old) if old.will_wake(waker) => None,
            Action::Wake(_) | Action::World(_) | Action::Net(_) => {
                Some(std::mem::replace(action, Action::Wake(waker.clone())))
            }
        }
    }

    /// Takes the first timer that is due at `now_nanos`.
    pub(crate) fn pop_due(&mut self, now_nanos: u64) -> Option<(TimerKey, Action)> {
        let first = self.queue.first_entry()?;
        (first.key().at_nanos <= now_nanos).then(|| first.remove_entry())
    }

    pub(crate) fn next_at(&self) -> Option<u64> {
        self.queue.first_key_value().map(|(key, _)| key.at_nanos)
    }

    pub(crate) fn clear(&mut self) -> BTreeMap<TimerKey, Action> {
        std::mem::take(&mut self.queue)
    }
}

/// Waits for a virtual time. Its timer is set when it is first polled: a deadline in the past ends
/// at the next turn, not at once, so that a loop of such sleeps cannot starve the others.
pub(crate) struct Sleep {
    shared: Arc<Shared>,
    deadline: Instant,
    timer: Option<TimerKey>,
}

impl Sleep {
    pub(crate) fn new(shared: Arc<Shared>, deadline: Instant) -> Self {
        Self { shared, deadline, timer: None }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let now_nanos = self.shared.now_nanos();
        let stale;
        match self.timer {
            Some(key) if key.at_nanos <= now_nanos => return Poll::Ready(()),
            Some(key) => stale = self.shared.timers.lock().replace_waker(key, cx.waker()),
            None => {
                stale = None;
                let at_nanos = self.deadline.0.max(now_nanos);
                let action = Action::Wake(cx.waker().clone());
                let key = self.shared.timers.lock().set(at_nanos, action);
                self.timer = Some(key);
            }
        }
        drop(stale);
        self.shared.waiting(Wait::Time(self.deadline));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.timer {
            let cancelled = self.shared.timers.lock().cancel(key);
            drop(cancelled);
        }
    }
}
