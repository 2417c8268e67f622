//! Tasks on tokio's threads, and CPU-heavy work on threads of its own.

use std::io;

use futures_util::{FutureExt, future::Shared};
use kura_env::{BoxFuture, TaskControl, TaskEnd, TaskHandle, Tasks};
use tokio::{runtime::Handle, task::AbortHandle};

use crate::threads::Pool;

/// Pieces of CPU-heavy work that are queued or running; further ones wait for their turn.
const COMPUTE_QUEUE_MAX: usize = 256;

/// Runs tasks on a tokio runtime.
pub struct HostTasks {
    runtime: Handle,
    compute: std::sync::Arc<Pool>,
}

struct HostTask {
    abort: AbortHandle,
    end: Shared<BoxFuture<'static, TaskEnd>>,
}

impl HostTasks {
    /// Tasks on `runtime`, and `compute_threads` threads for CPU-heavy work.
    ///
    /// # Errors
    ///
    /// If the system has no threads left.
    pub fn new(runtime: Handle, compute_threads: usize) -> io::Result<Self> {
        let compute = Pool::start("kura-compute", compute_threads, COMPUTE_QUEUE_MAX)?;
        Ok(Self { runtime, compute: std::sync::Arc::new(compute) })
    }
}

impl Tasks for HostTasks {
    fn spawn(&self, name: &'static str, work: BoxFuture<'static, ()>) -> TaskHandle {
        let task = self.runtime.spawn(work);
        let abort = task.abort_handle();
        let end = async move {
            match task.await {
                Ok(()) => TaskEnd::Done,
                Err(error) if error.is_panic() => {
                    tracing::error!(task = name, %error, "a task panicked");
                    TaskEnd::Panicked
                }
                Err(_) => TaskEnd::Aborted,
            }
        };
        TaskHandle::new(Box::new(HostTask { abort, end: end.boxed().shared() }))
    }

    fn compute(
        &self,
        _name: &'static str,
        _bytes: u64,
        work: Box<dyn FnOnce() + Send>,
    ) -> BoxFuture<'static, ()> {
        let pool = self.compute.clone();
        Box::pin(async move { pool.run(work).await })
    }
}

impl TaskControl for HostTask {
    fn abort(&self) {
        self.abort.abort();
    }

    fn join(&self) -> BoxFuture<'static, TaskEnd> {
        self.end.clone().boxed()
    }
}
