//! What hyper wants of a runtime, from [`Tasks`]: tasks that somebody owns.
//!
//! hyper gets no timer. Its own time-out for heads also runs between the requests of a connection
//! and knows nothing of the version sniffing in front of it; `activity` keeps one set of deadlines
//! for all of a connection instead.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use kura_env::{TaskHandle, Tasks};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::pace::NextStream;

/// Tasks that die with this set.
pub(crate) struct TaskSet {
    tasks: Arc<dyn Tasks>,
    members: Arc<Mutex<Members>>,
}

#[derive(Default)]
struct Members {
    next: u64,
    running: BTreeMap<u64, TaskHandle>,
    /// Tasks at their end, whose handles are still held. Emptied whenever a task is spawned, so
    /// there are never more than ran at once.
    ended: Vec<u64>,
}

impl TaskSet {
    pub(crate) fn new(tasks: Arc<dyn Tasks>) -> Arc<Self> {
        Arc::new(Self { tasks, members: Arc::default() })
    }

    /// Starts `work` as a member of the set.
    pub(crate) fn spawn(
        &self,
        name: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let id = {
            let mut members = self.members.lock();
            members.reap();
            members.next += 1;
            members.next
        };
        let members = self.members.clone();
        // The lock is not held while an executor is at work that may run the task at once. So the
        // task may end before its handle is here; `reap` keeps such an end until the next time.
        let handle = self.tasks.spawn(
            name,
            Box::pin(async move {
                work.await;
                members.lock().ended.push(id);
            }),
        );
        self.members.lock().running.insert(id, handle);
    }

    /// Waits until every task that is now in the set has ended.
    pub(crate) async fn join(&self) {
        loop {
            let first = self.members.lock().running.pop_first();
            let Some((_, handle)) = first else { return };
            handle.join().await;
        }
    }
}

impl Members {
    fn reap(&mut self) {
        let Self { running, ended, .. } = self;
        ended.retain(|id| running.remove(id).is_none());
    }
}

impl Drop for TaskSet {
    fn drop(&mut self) {
        // A task holds the members, so they would outlive the set, and it them.
        let running = std::mem::take(&mut self.members.lock().running);
        drop(running);
    }
}

/// Runs the streams of an HTTP/2 connection as tasks of its set.
#[derive(Clone)]
pub(crate) struct HyperExecutor {
    /// Weak, because each stream holds its executor: the set would never be dropped.
    streams: Weak<TaskSet>,
    next: NextStream,
    idle_timeout: Duration,
}

impl HyperExecutor {
    pub(crate) fn new(streams: &Arc<TaskSet>, next: NextStream, idle_timeout: Duration) -> Self {
        Self { streams: Arc::downgrade(streams), next, idle_timeout }
    }
}

impl<F> hyper::rt::Executor<F> for HyperExecutor
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, work: F) {
        // Without its set the connection is gone, and nobody waits for the stream.
        if let Some(streams) = self.streams.upgrade() {
            let (pace, idle_timeout) = (self.next.take(), self.idle_timeout);
            streams.spawn("http2 stream", async move {
                let Some(pace) = pace else {
                    work.await;
                    return;
                };
                tokio::select! {
                    biased;
                    _ = work => {}
                    // The work is dropped, which resets the stream.
                    () = pace.stalled(idle_timeout) => {
                        tracing::debug!(?idle_timeout, "a stream stood still and is reset");
                    }
                }
            });
        }
    }
}

/// Is closed once and then open for everybody. It wakes those who wait in the order in which they
/// came; a watch channel wakes them in an order that differs from run to run.
pub(crate) struct Latch(Semaphore);

impl Latch {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Semaphore::new(0)))
    }

    pub(crate) fn release(&self) {
        self.0.close();
    }

    pub(crate) async fn released(&self) {
        let nothing = self.0.acquire().await;
        assert!(nothing.is_err(), "a latch has no permits to give");
    }
}
