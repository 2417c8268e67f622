//! Where work runs, and who owns it. There are no detached tasks.

use crate::BoxFuture;

/// The executor.
///
/// Contract: a task runs until it is done, until its [`TaskHandle`] is dropped or aborted, or until
/// its node dies. Its future is dropped then, at a point where it awaited; never in the middle of a
/// poll. A panic in a task ends that task only and is reported by [`TaskHandle::join`]; in the
/// simulator it also fails the run.
pub trait Tasks: Send + Sync {
    /// Starts `work`. The name is for people who read a dump of tasks.
    fn spawn(&self, name: &'static str, work: BoxFuture<'static, ()>) -> TaskHandle;

    /// Runs CPU-heavy `work` where it delays no other task, and waits for it. `bytes` is how much
    /// it goes through, by which the simulator knows what it costs.
    ///
    /// Work that has begun ends even when the returned future is dropped.
    fn compute(
        &self,
        name: &'static str,
        bytes: u64,
        work: Box<dyn FnOnce() + Send>,
    ) -> BoxFuture<'static, ()>;
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskEnd {
    /// Its future was ready.
    Done,
    /// It was aborted, or its node died.
    Aborted,
    /// It panicked.
    Panicked,
}

/// What an executor gives to a [`TaskHandle`].
pub trait TaskControl: Send + Sync {
    /// Ends the task at its next await. Does nothing if it has ended.
    fn abort(&self);

    /// Waits for the task to end.
    fn join(&self) -> BoxFuture<'static, TaskEnd>;
}

/// Ownership of a running task: dropping it aborts the task.
#[must_use = "dropping the handle aborts the task"]
pub struct TaskHandle(Box<dyn TaskControl>);

impl TaskHandle {
    /// Wraps what the executor gave.
    pub fn new(control: Box<dyn TaskControl>) -> Self {
        Self(control)
    }

    /// Ends the task at its next await.
    pub fn abort(&self) {
        self.0.abort();
    }

    /// Waits for the task to end. The handle still owns the task: keep it until then.
    pub fn join(&self) -> BoxFuture<'static, TaskEnd> {
        self.0.join()
    }
}

impl Drop for TaskHandle {
    fn drop(&mut self) {
        self.0.abort();
    }
}
