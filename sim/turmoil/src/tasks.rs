//! Tasks on the runtime that turmoil gives each host: one thread, ordered by the seed.

use futures_util::{FutureExt, future::Shared};
use kura_env::{BoxFuture, TaskControl, TaskEnd, TaskHandle, Tasks};
use tokio::task::AbortHandle;

/// Runs tasks on the runtime of the host that asks.
pub(crate) struct TurmoilTasks;

struct TurmoilTask {
    abort: AbortHandle,
    end: Shared<BoxFuture<'static, TaskEnd>>,
}

impl Tasks for TurmoilTasks {
    fn spawn(&self, _name: &'static str, work: BoxFuture<'static, ()>) -> TaskHandle {
        let task = tokio::spawn(work);
        let abort = task.abort_handle();
        let end = async move {
            match task.await {
                Ok(()) => TaskEnd::Done,
                // turmoil ends the whole run at a panic.
                Err(error) if error.is_panic() => TaskEnd::Panicked,
                Err(_) => TaskEnd::Aborted,
            }
        };
        TaskHandle::new(Box::new(TurmoilTask { abort, end: end.boxed().shared() }))
    }

    /// Costs no virtual time: turmoil models no processor.
    fn compute(
        &self,
        _name: &'static str,
        _bytes: u64,
        work: Box<dyn FnOnce() + Send>,
    ) -> BoxFuture<'static, ()> {
        Box::pin(async move { work() })
    }
}

impl TaskControl for TurmoilTask {
    fn abort(&self) {
        self.abort.abort();
    }

    fn join(&self) -> BoxFuture<'static, TaskEnd> {
        self.end.clone().boxed()
    }
}
