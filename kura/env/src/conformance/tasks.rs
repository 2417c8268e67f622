//! What every [`Tasks`] keeps: work runs, belongs to its handle, and ends with it.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::future::{join, join_all};

use crate::{Clock, TaskEnd, Tasks};

/// How long the suite looks before it says that something does not happen.
const LOOK: Duration = Duration::from_millis(50);

/// Holds `tasks` to their contract, but for panics: see [`panics`].
///
/// # Panics
///
/// Where the contract is broken.
pub async fn suite(tasks: Arc<dyn Tasks>, clock: Arc<dyn Clock>) {
    a_task_runs_without_being_joined(&*tasks, &*clock).await;
    joining_tells_how_it_ended_however_often(&*tasks).await;
    tasks_run_side_by_side(&*tasks, &clock).await;
    an_abort_drops_the_future(&*tasks, &*clock).await;
    dropping_the_handle_drops_the_future(&*tasks, &*clock).await;
    a_task_owns_the_tasks_it_starts(&tasks, &*clock).await;
    compute_runs_to_its_end(&*tasks, &*clock).await;
}

/// A panic ends its task alone and is reported. Apart from [`suite`], because in the simulator it
/// also fails the run.
///
/// # Panics
///
/// Where the contract is broken.
pub async fn panics(tasks: Arc<dyn Tasks>) {
    let panicking = tasks.spawn("panicking", Box::pin(async { panic!("on purpose") }));
    let other = tasks.spawn("other", Box::pin(async {}));
    assert_eq!(panicking.join().await, TaskEnd::Panicked);
    assert_eq!(panicking.join().await, TaskEnd::Panicked, "also when asked again");
    assert_eq!(other.join().await, TaskEnd::Done);
}

/// Counts itself away when its task's future is dropped.
struct Alive(Arc<AtomicU32>);

impl Alive {
    fn new(count: &Arc<AtomicU32>) -> Self {
        count.fetch_add(1, SeqCst);
        Self(count.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// Waits until `count` is zero. A limit would be a guess about the machine; who runs the suite
/// brings one.
async fn until_zero(count: &AtomicU32, clock: &dyn Clock) {
    while count.load(SeqCst) != 0 {
        clock.sleep(Duration::from_millis(1)).await;
    }
}

async fn a_task_runs_without_being_joined(tasks: &dyn Tasks, clock: &dyn Clock) {
    let left = Arc::new(AtomicU32::new(1));
    let counter = left.clone();
    let _task = tasks.spawn(
        "counts",
        Box::pin(async move {
            counter.fetch_sub(1, SeqCst);
        }),
    );
    until_zero(&left, clock).await;
}

async fn joining_tells_how_it_ended_however_often(tasks: &dyn Tasks) {
    let task = tasks.spawn("done", Box::pin(async {}));
    let (first, second) = join(task.join(), task.join()).await;
    assert_eq!((first, second, task.join().await), (TaskEnd::Done, TaskEnd::Done, TaskEnd::Done));
    task.abort();
    assert_eq!(task.join().await, TaskEnd::Done, "an abort after the end changes nothing");
}

async fn tasks_run_side_by_side(tasks: &dyn Tasks, clock: &Arc<dyn Clock>) {
    // Each waits for all others to have begun.
    let missing = Arc::new(AtomicU32::new(16));
    let running: Vec<_> = (0..16)
        .map(|_| {
            let (missing, clock) = (missing.clone(), clock.clone());
            let work = async move {
                missing.fetch_sub(1, SeqCst);
                until_zero(&missing, &*clock).await;
            };
            tasks.spawn("meets the others", Box::pin(work))
        })
        .collect();
    let ends = join_all(running.iter().map(|task| task.join())).await;
    assert!(ends.iter().all(|end| *end == TaskEnd::Done), "{ends:?}");
}

async fn an_abort_drops_the_future(tasks: &dyn Tasks, clock: &dyn Clock) {
    let alive = Arc::new(AtomicU32::new(0));
    let held = Alive::new(&alive);
    let work = async move {
        let _held = held;
        pending::<()>().await;
    };
    let task = tasks.spawn("waits for ever", Box::pin(work));
    clock.sleep(LOOK).await;
    assert_eq!(alive.load(SeqCst), 1, "it ended by itself");
    task.abort();
    assert_eq!(task.join().await, TaskEnd::Aborted);
    assert_eq!(alive.load(SeqCst), 0, "joined, and its future is still there");
}

async fn dropping_the_handle_drops_the_future(tasks: &dyn Tasks, clock: &dyn Clock) {
    let alive = Arc::new(AtomicU32::new(0));
    let waiting = |begun: bool| {
        let held = Alive::new(&alive);
        let work = async move {
            let _held = held;
            pending::<()>().await;
        };
        (tasks.spawn("waits for ever", Box::pin(work)), begun)
    };
    for (task, begun) in [waiting(true), waiting(false)] {
        if begun {
            clock.sleep(LOOK).await;
        }
        let end = task.join();
        drop(task);
        assert_eq!(end.await, TaskEnd::Aborted);
    }
    until_zero(&alive, clock).await;
}

async fn a_task_owns_the_tasks_it_starts(tasks: &Arc<dyn Tasks>, clock: &dyn Clock) {
    let alive = Arc::new(AtomicU32::new(0));
    let (parent_held, child_held) = (Alive::new(&alive), Alive::new(&alive));
    let spawner = tasks.clone();
    let parent = async move {
        let _held = parent_held;
        let child = async move {
            let _held = child_held;
            pending::<()>().await;
        };
        let child = spawner.spawn("child", Box::pin(child));
        child.join().await;
    };
    let parent = tasks.spawn("parent", Box::pin(parent));
    clock.sleep(LOOK).await;
    assert_eq!(alive.load(SeqCst), 2, "parent and child wait");
    drop(parent);
    until_zero(&alive, clock).await;
}

async fn compute_runs_to_its_end(tasks: &dyn Tasks, clock: &dyn Clock) {
    let left = Arc::new(AtomicU32::new(3));
    let work = |left: &Arc<AtomicU32>| -> Box<dyn FnOnce() + Send> {
        let left = left.clone();
        Box::new(move || {
            left.fetch_sub(1, SeqCst);
        })
    };
    tasks.compute("counts", 1024, work(&left)).await;
    assert_eq!(left.load(SeqCst), 2, "compute returned before its work was done");
    join(tasks.compute("counts", 0, work(&left)), tasks.compute("counts", 0, work(&left))).await;
    until_zero(&left, clock).await;
}
