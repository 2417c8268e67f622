//! One task: its future, who waits for its end, and what it waits for itself.

use std::{
    fmt,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use kura_env::{BoxFuture, Instant, TaskControl, TaskEnd};
use parking_lot::Mutex;

use crate::{host::NodeId, shared::Shared};

pub(crate) type TaskFuture = BoxFuture<'static, ()>;

/// What a task was told to wait for when it was last polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    Time(Instant),
    Cpu(Instant),
    Accept(SocketAddr),
    Connect(SocketAddr),
    Read(SocketAddr),
    Write(SocketAddr),
    Join(u64),
    Other(&'static str),
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(at) => write!(f, "time {}", Seconds(at.0)),
            Self::Cpu(at) => write!(f, "its CPU at {}", Seconds(at.0)),
            Self::Accept(addr) => write!(f, "a connection to {addr}"),
            Self::Connect(addr) => write!(f, "an answer from {addr}"),
            Self::Read(addr) => write!(f, "bytes from {addr}"),
            Self::Write(addr) => write!(f, "room to write to {addr}"),
            Self::Join(id) => write!(f, "the end of task {id}"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

/// Virtual nanoseconds, shown as seconds.
pub(crate) struct Seconds(pub(crate) u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}s", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

/// The tasks that can be polled. A task is in here at most once.
pub(crate) type ReadyQueue = Mutex<Vec<Arc<Task>>>;

pub(crate) struct Task {
    pub(crate) id: u64,
    pub(crate) name: Arc<str>,
    pub(crate) node: NodeId,
    state: Mutex<State>,
    /// At most [`WAITS_MAX`], of the last poll.
    waits: Mutex<Vec<Wait>>,
    ready: Arc<ReadyQueue>,
}

/// How many things that a task waits for are kept for the dump.
const WAITS_MAX: usize = 8;

struct State {
    /// `None` while it is polled, and after the end.
    future: Option<TaskFuture>,
    queued: bool,
    aborted: bool,
    end: Option<TaskEnd>,
    joiners: Vec<Waker>,
    since_nanos: u64,
}

/// What the executor has to do with a task that it took from the queue.
pub(crate) enum Turn {
    Poll(TaskFuture),
    /// It was aborted: drop the future and call [`Task::finish`].
    Abort(Option<TaskFuture>),
    /// It ended while it stood in the queue.
    Nothing,
}

impl Task {
    pub(crate) fn new(
        id: u64,
        name: Arc<str>,
        node: NodeId,
        future: TaskFuture,
        ready: Arc<ReadyQueue>,
    ) -> Arc<Self> {
        let state = State {
            future: Some(future),
            queued: false,
            aborted: false,
            end: None,
            joiners: Vec::new(),
            since_nanos: 0,
        };
        let (state, waits) = (Mutex::new(state), Mutex::default());
        Arc::new(Self { id, name, node, state, waits, ready })
    }

    /// Takes the task up for its turn.
    pub(crate) fn begin(&self, now_nanos: u64) -> Turn {
        let mut state = self.state.lock();
        state.queued = false;
        if state.end.is_some() {
            return Turn::Nothing;
        }
        if state.aborted {
            return Turn::Abort(state.future.take());
        }
        state.since_nanos = now_nanos;
        self.waits.lock().clear();
        state.future.take().map_or(Turn::Nothing, Turn::Poll)
    }

    /// Puts the future back after a poll, or returns it to be dropped if the task ended meanwhile.
    pub(crate) fn put_back(&self, future: TaskFuture) -> Option<TaskFuture> {
        let mut state = self.state.lock();
        if state.end.is_some() {
            return Some(future);
        }
        state.future = Some(future);
        None
    }

    /// Marks the end, if nobody did before, and returns what to drop and whom to wake, to be done
    /// without a lock held.
    pub(crate) fn finish(&self, end: TaskEnd) -> (Option<TaskFuture>, Vec<Waker>) {
        let mut state = self.state.lock();
        state.end.get_or_insert(end);
        (state.future.take(), std::mem::take(&mut state.joiners))
    }

    pub(crate) fn add_wait(&self, wait: Wait) {
        let mut waits = self.waits.lock();
        if waits.len() < WAITS_MAX && !waits.contains(&wait) {
            waits.push(wait);
        }
    }

    pub(crate) fn line(&self, node_name: &str) -> TaskLine {
        let (queued, since_nanos) = {
            let state = self.state.lock();
            (state.queued, state.since_nanos)
        };
        let waits = self.waits.lock();
        let waits_for = if queued {
            "its turn".to_owned()
        } else if waits.is_empty() {
            "another task".to_owned()
        } else {
            waits.iter().map(Wait::to_string).collect::<Vec<_>>().join(" or ")
        };
        TaskLine {
            id: self.id,
            name: self.name.to_string(),
            node: node_name.to_owned(),
            since: Instant(since_nanos),
            waits_for,
        }
    }

    /// Whether the task must be put into the queue by whoever asked.
    fn enqueue(&self) -> bool {
        let mut state = self.state.lock();
        let enqueue = state.end.is_none() && !state.queued;
        state.queued |= enqueue;
        enqueue
    }

    fn abort(self: &Arc<Self>) {
        {
            let mut state = self.state.lock();
            if state.end.is_some() || state.aborted {
                return;
            }
            state.aborted = true;
        }
        // The future is dropped at the task's next turn and not here: the caller may hold locks
        // that the drop wants.
        self.wake_by_ref();
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        if self.enqueue() {
            let ready = Arc::clone(&self.ready);
            ready.lock().push(self);
        }
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.enqueue() {
            self.ready.lock().push(Arc::clone(self));
        }
    }
}

/// One line of a dump: a task that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskLine {
    /// Its number, in the order of spawning.
    pub id: u64,
    /// The name it was spawned with.
    pub name: String,
    /// The name of its node.
    pub node: String,
    /// When it was last polled.
    pub since: Instant,
    /// What it waits for, in words.
    pub waits_for: String,
}

impl fmt::Display for TaskLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, name, node, since, waits_for } = self;
        write!(f, "{node}/{name} ({id}) since {} for {waits_for}", Seconds(since.0))
    }
}

/// What a [`kura_env::TaskHandle`] holds.
pub(crate) struct Control {
    pub(crate) shared: Arc<Shared>,
    pub(crate) task: Arc<Task>,
}

impl TaskControl for Control {
    fn abort(&self) {
        self.task.abort();
    }

    fn join(&self) -> BoxFuture<'static, TaskEnd> {
        Box::pin(Join { shared: Arc::clone(&self.shared), task: Arc::clone(&self.task) })
    }
}

struct Join {
    shared: Arc<Shared>,
    task: Arc<Task>,
}

impl Future for Join {
    type Output = TaskEnd;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TaskEnd> {
        {
            let mut state = self.task.state.lock();
            if let Some(end) = state.end {
                return Poll::Ready(end);
            }
            if !state.joiners.iter().any(|joiner| joiner.will_wake(cx.waker())) {
                state.joiners.push(cx.waker().clone());
            }
        }
        self.shared.waiting(Wait::Join(self.task.id));
        Poll::Pending
    }
}
