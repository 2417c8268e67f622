//! A clock that jumps, and an executor of one future on it: enough to run a disk without an engine.

#![allow(dead_code, reason = "each test crate uses its own part")]

use std::{
    collections::BTreeMap,
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use kura_env::{BoxFuture, Clock, EntropyStream, Instant, Wall};
use parking_lot::Mutex;

/// Time that stands still until nothing else can happen.
#[derive(Default)]
pub(crate) struct JumpingClock {
    state: Mutex<Timers>,
}

#[derive(Default)]
struct Timers {
    now: Instant,
    next_id: u64,
    waiting: BTreeMap<(Instant, u64), Waker>,
}

impl JumpingClock {
    pub(crate) fn shared() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Lets time pass while nobody does anything.
    pub(crate) fn pass(&self, duration: Duration) {
        let mut state = self.state.lock();
        state.now = state.now + duration;
    }

    /// Jumps to the next deadline; false if nobody waits.
    fn jump(&self) -> bool {
        let next = self.state.lock().waiting.pop_first();
        let Some(((deadline, _), waker)) = next else { return false };
        let mut state = self.state.lock();
        state.now = state.now.max(deadline);
        drop(state);
        waker.wake();
        true
    }

    /// Runs `work` until it is done, or until nothing can happen any more.
    pub(crate) fn run<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        let mut work = pin!(work);
        loop {
            if woken.0.swap(false, Ordering::Relaxed)
                && let Poll::Ready(value) = work.as_mut().poll(&mut context)
            {
                return Some(value);
            }
            if !woken.0.load(Ordering::Relaxed) && !self.jump() {
                return None;
            }
        }
    }

    /// Runs `work`, which must come to an end.
    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.run(work).expect("the work waits for what will never happen")
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A deadline that gives up its place when it is dropped.
struct Timer {
    clock: Arc<JumpingClock>,
    place: Option<(Instant, u64)>,
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.clock.state.lock().waiting.remove(&place);
        }
    }
}

/// The clock as the disk sees it.
pub(crate) struct Handle(pub(crate) Arc<JumpingClock>);

impl Clock for Handle {
    fn now(&self) -> Instant {
        self.0.state.lock().now
    }

    fn wall(&self) -> Wall {
        Wall(self.now().0 / 1_000_000)
    }

    fn sleep_until(&self, deadline: Instant) -> BoxFuture<'static, ()> {
        let mut timer = Timer { clock: Arc::clone(&self.0), place: None };
        Box::pin(poll_fn(move |context| {
            let mut state = timer.clock.state.lock();
            if state.now >= deadline {
                return Poll::Ready(());
            }
            let id = timer.place.map_or(state.next_id, |(_, id)| id);
            state.next_id = state.next_id.max(id + 1);
            state.waiting.insert((deadline, id), context.waker().clone());
            drop(state);
            timer.place = Some((deadline, id));
            Poll::Pending
        }))
    }
}

/// Numbers drawn from a seed (SplitMix64).
pub(crate) struct Draws(pub(crate) u64);

impl EntropyStream for Draws {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

impl Draws {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }
}
