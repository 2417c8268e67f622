//! Turns at the disk: what no client waits for asks here before it goes to the disk, and clients say that they are there.
//!
//! Clients never wait here. What the page cache answers at once is not even counted: a read is polled before anybody is
//! told of it. Who decides is [`Shares`].

use std::{collections::BTreeMap, pin::pin, sync::Arc, task::Poll, time::Duration};

use futures_util::poll;
use kura_core::shares::{Asked, Class, PATIENCE, Shares, Ticket};
use kura_env::{Clock, Instant, timeout};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::metrics::{ClassLabels, Metrics};

/// For whom the disk works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// A client waits for it.
    Clients,
    /// Nobody does, and it has a share.
    Background(Class),
    /// The store itself needs it to go on. It is nobody's share, and never waits.
    Own,
}

/// Who works at the disk of a store.
pub(super) struct Turns {
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    shares: Shares,
    /// As many as wait in `shares`.
    waiting: BTreeMap<Ticket, oneshot::Sender<()>>,
}

/// A turn at the disk, until it is dropped.
pub(super) struct Turn {
    turns: Arc<Turns>,
    class: Class,
    bytes: u64,
    /// While it waits.
    ticket: Option<Ticket>,
    is_alone: bool,
}

impl Turn {
    /// Whether clients have nothing to do with the disk.
    pub(super) fn is_alone(&self) -> bool {
        self.is_alone
    }
}

/// A client's work at the disk, until it is dropped.
struct Busy<'a> {
    turns: &'a Turns,
    bytes: u64,
}

impl Turns {
    pub(super) fn new(clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { clock, metrics, state: Mutex::default() })
    }

    fn labels(class: Class) -> ClassLabels {
        ClassLabels { class: class.name() }
    }

    fn now(&self) -> Duration {
        self.clock.now().since(Instant::default())
    }

    /// Does `work` of so many bytes, when `whose` turn it is.
    pub(super) async fn at<T>(
        self: &Arc<Self>,
        whose: Work,
        bytes: u64,
        work: impl Future<Output = T>,
    ) -> T {
        match whose {
            Work::Clients => self.for_client(bytes, work).await,
            Work::Background(class) => {
                let _turn = self.turn(class, bytes).await;
                work.await
            }
            Work::Own => work.await,
        }
    }

    /// Does `work` that a client waits for.
    async fn for_client<T>(&self, bytes: u64, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        if let Poll::Ready(done) = poll!(work.as_mut()) {
            return done;
        }
        self.state.lock().shares.client_begins(bytes);
        let _busy = Busy { turns: self, bytes };
        work.await
    }

    /// Waits for a turn. What is done in it must not wait for another one.
    pub(super) async fn turn(self: &Arc<Self>, class: Class, bytes: u64) -> Turn {
        let (turns, began) = (self.clone(), self.now());
        let mut turn = Turn { turns, class, bytes, ticket: None, is_alone: false };
        let mut named = {
            let mut state = self.state.lock();
            match state.shares.ask(class, bytes, began) {
                Asked::Alone => {
                    turn.is_alone = true;
                    return turn;
                }
                Asked::OutOfTurn => {
                    let skipped = &self.metrics.store.disk_turns_skipped;
                    skipped.get_or_create(&Self::labels(class)).inc();
                    return turn;
                }
                Asked::Waits(ticket) => {
                    turn.ticket = Some(ticket);
                    let (name, named) = oneshot::channel();
                    state.waiting.insert(ticket, name);
                    state.go_on(began);
                    named
                }
            }
        };
        // Whoever goes names the next one; nobody goes for as long as clients come without end.
        while timeout(&*self.clock, PATIENCE, &mut named).await.is_err() {
            self.state.lock().go_on(self.now());
        }
        turn.ticket = None;
        let waited = self.now().saturating_sub(began);
        if !waited.is_zero() {
            let (store, labels) = (&self.metrics.store, Self::labels(class));
            let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
            store.disk_turn_waits.get_or_create(&labels).inc();
            store.disk_turn_waited_ms.get_or_create(&labels).inc_by(waited_ms);
        }
        turn
    }
}

impl State {
    /// Names all who begin now.
    fn go_on(&mut self, now: Duration) {
        while let Some(ticket) = self.shares.next(now) {
            // Who does not wait any more says so itself, and gives back what it was named for.
            self.waiting.remove(&ticket).map(|name| name.send(()));
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let now = self.turns.now();
        let mut state = self.turns.state.lock();
        match self.ticket.filter(|ticket| state.waiting.remove(ticket).is_some()) {
            Some(ticket) => state.shares.leaves(ticket),
            None => state.shares.ends(self.class, self.bytes),
        }
        state.go_on(now);
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let now = self.turns.now();
        let mut state = self.turns.state.lock();
        state.shares.client_ends(self.bytes, now);
        state.go_on(now);
    }
}
