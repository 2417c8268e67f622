//! A fixed number of named threads for calls that may block or burn CPU, so that they never stand
//! on a thread of the async runtime.

use std::{
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
    thread,
};

use parking_lot::{Condvar, Mutex};
use tokio::sync::{Semaphore, oneshot};

type Job = Box<dyn FnOnce() + Send>;

/// The threads and what waits for them. Once the pool is dropped the threads end after the jobs
/// they hold; nobody waits for them, because the last owner of a pool may be one of its own jobs.
pub(crate) struct Pool {
    queue: Arc<JobQueue>,
    room: Arc<Semaphore>,
}

struct JobQueue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

struct QueueState {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl Pool {
    /// Starts `threads` threads. At most `queue_max` jobs of [`Pool::run`] are in the queue or
    /// running; further ones wait without being queued.
    pub(crate) fn start(name: &'static str, threads: usize, queue_max: usize) -> io::Result<Self> {
        let queue = Arc::new(JobQueue {
            state: Mutex::new(QueueState { jobs: VecDeque::new(), closed: false }),
            changed: Condvar::new(),
        });
        let pool = Self { queue: queue.clone(), room: Arc::new(Semaphore::new(queue_max)) };
        for index in 0..threads {
            let queue = queue.clone();
            thread::Builder::new()
                .name(format!("{name}-{index}"))
                .spawn(move || queue.work_until_closed())?;
        }
        Ok(pool)
    }

    /// Runs `work` on one of the threads. A panic in it goes on in the caller. Work that was
    /// queued is done even if the returned future is dropped.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let room = self.room.clone().acquire_owned().await;
        let room = room.expect("the semaphore is never closed: only its owner could");
        let (done, result) = oneshot::channel();
        self.push(Box::new(move || {
            let outcome = catch_unwind(AssertUnwindSafe(work));
            drop(room);
            // The caller may have gone; the work took effect all the same.
            drop(done.send(outcome));
        }));
        match result.await.expect("a thread runs every job that was queued, and each job answers") {
            Ok(value) => value,
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Queues a job without waiting for room. For jobs that are bounded elsewhere.
    pub(crate) fn push(&self, job: Job) {
        self.queue.state.lock().jobs.push_back(job);
        self.queue.changed.notify_one();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.queue.state.lock().closed = true;
        self.queue.changed.notify_all();
    }
}

impl JobQueue {
    fn work_until_closed(&self) {
        while let Some(job) = self.next() {
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                // The panic hook has printed where; this thread serves others too and goes on.
                tracing::error!("a job on a pool thread panicked");
            }
        }
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            if state.closed {
                return None;
            }
            self.changed.wait(&mut state);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_panic_goes_on_in_the_caller_and_spares_the_thread() {
        let pool = Arc::new(Pool::start("test", 1, 2).unwrap());
        let other = pool.clone();
        let failed = tokio::spawn(async move { other.run(|| panic!("on purpose")).await }).await;
        assert!(failed.unwrap_err().is_panic());
        assert_eq!(pool.run(|| 7).await, 7);
    }

    #[tokio::test]
    async fn no_more_than_the_bound_is_queued() {
        let pool = Pool::start("test", 1, 2).unwrap();
        let (open, gate) = std::sync::mpsc::channel::<()>();
        let begun = Arc::new(AtomicUsize::new(0));
        let mut gate = Some(gate);
        let mut calls: Vec<_> = (0..3)
            .map(|_| {
                let gate = gate.take();
                let begun = begun.clone();
                Box::pin(pool.run(move || {
                    begun.fetch_add(1, Ordering::SeqCst);
                    if let Some(gate) = gate {
                        gate.recv().unwrap();
                    }
                }))
            })
            .collect();
        for call in &mut calls {
            assert!(futures_util::poll!(call.as_mut()).is_pending());
        }
        assert_eq!(pool.room.available_permits(), 0);
        assert!(pool.queue.state.lock().jobs.len() <= 2);
        open.send(()).unwrap();
        futures_util::future::join_all(calls).await;
        assert_eq!(begun.load(Ordering::SeqCst), 3);
    }
}
