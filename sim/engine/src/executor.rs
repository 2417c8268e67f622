//! The executor: one event at a time. Timers that are due come first, in their order; then one of
//! the ready tasks, chosen by the schedule key; and only when nothing is ready does time jump to
//! the next timer.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use kura_env::{BoxFuture, TaskEnd, TaskHandle};

use crate::{
    entropy::KeyedStream,
    host::{Life, NodeId},
    journal::Event,
    outcome::PanicReport,
    shared::Shared,
    task::{Control, Task, TaskFuture, Turn},
    timer::Action,
    world::World,
};

pub(crate) struct Executor {
    /// Chooses among the ready tasks.
    choice: KeyedStream,
    /// Those that have not ended, by their ids, which are never used again.
    tasks: BTreeMap<u64, Arc<Task>>,
    /// Of each node that stands still, the tasks that could be polled if it did not.
    frozen: BTreeMap<NodeId, Vec<Arc<Task>>>,
    next_id: u64,
    pub(crate) events: u64,
    pub(crate) polls: u64,
    pub(crate) timers: u64,
}

/// What one turn of the executor did.
pub(crate) enum Step {
    /// Something happened at the present time.
    Ran,
    /// Time moved to the next timer.
    Moved,
    /// The next timer lies behind the deadline.
    Deadline,
    /// Nothing can ever happen again.
    Nothing,
    Panicked(PanicReport),
}

impl Executor {
    pub(crate) fn new(choice: KeyedStream) -> Self {
        let (tasks, frozen) = (BTreeMap::new(), BTreeMap::new());
        Self { choice, tasks, frozen, next_id: 0, events: 0, polls: 0, timers: 0 }
    }

    pub(crate) fn tasks(&self) -> Vec<Arc<Task>> {
        self.tasks.values().cloned().collect()
    }

    pub(crate) fn spawned(&self) -> u64 {
        self.next_id
    }
}

impl Shared {
    /// Starts a task in a life of a node. In a life that is over nothing starts.
    pub(crate) fn spawn(
        self: &Arc<Self>,
        life: Life,
        name: Arc<str>,
        work: BoxFuture<'static, ()>,
    ) -> Arc<Task> {
        let alive = self.alive(life);
        let id = {
            let mut executor = self.executor.lock();
            executor.next_id += 1;
            executor.next_id
        };
        let task = Task::new(id, name, life.node, work, Arc::clone(&self.ready));
        if alive {
            self.record(Event::Spawn, [id, u64::from(life.node.number())], || {
                format!("{} {} {id}", life.node, task.name)
            });
            self.executor.lock().tasks.insert(id, Arc::clone(&task));
            Waker::from(Arc::clone(&task)).wake();
        } else {
            let (future, _) = task.finish(TaskEnd::Aborted);
            self.bury(future.into_iter().collect());
        }
        task
    }

    pub(crate) fn handle(self: &Arc<Self>, task: Arc<Task>) -> TaskHandle {
        TaskHandle::new(Box::new(Control { shared: Arc::clone(self), task }))
    }

    /// Ends all tasks of a node (or of all, for `None`): none is polled again.
    pub(crate) fn end_tasks(&self, node: Option<NodeId>) {
        let doomed: Vec<Arc<Task>> = {
            let mut executor = self.executor.lock();
            let ids: Vec<u64> = executor
                .tasks
                .values()
                .filter(|task| node.is_none_or(|node| task.node == node))
                .map(|task| task.id)
                .collect();
            ids.iter().filter_map(|id| executor.tasks.remove(id)).collect()
        };
        let mut futures: Vec<TaskFuture> = Vec::new();
        for task in doomed {
            let (future, joiners) = task.finish(TaskEnd::Aborted);
            futures.extend(future);
            joiners.into_iter().for_each(Waker::wake);
        }
        self.bury(futures);
    }

    /// One turn.
    pub(crate) fn step(self: &Arc<Self>, world: &World, deadline_nanos: u64) -> Step {
        let now_nanos = self.now_nanos();
        let due = self.timers.lock().pop_due(now_nanos);
        let step = if let Some((_, action)) = due {
            self.fire(world, action);
            Step::Ran
        } else if let Some(task) = self.choose() {
            self.turn(&task)
        } else {
            return self.move_time(deadline_nanos);
        };
        self.bury_all();
        match self.panic.lock().take() {
            Some(report) => Step::Panicked(report),
            None => step,
        }
    }

    fn move_time(&self, deadline_nanos: u64) -> Step {
        match self.timers.lock().next_at() {
            None => Step::Nothing,
            Some(at_nanos) if at_nanos > deadline_nanos => Step::Deadline,
            Some(at_nanos) => {
                self.set_now_nanos(at_nanos);
                Step::Moved
            }
        }
    }

    fn fire(self: &Arc<Self>, world: &World, action: Action) {
        {
            let mut executor = self.executor.lock();
            executor.events += 1;
            executor.timers += 1;
        }
        match action {
            Action::Wake(waker) => {
                self.record(Event::Timer, [0, 0], String::new);
                waker.wake();
            }
            Action::World(event) => {
                self.record(Event::World, [0, 0], String::new);
                self.guarded(NodeId::OPERATOR, "a world event", || event(world));
            }
            Action::Net(event) => self.with_net(|net, turn| net.happen(event, turn)),
        }
    }

    fn choose(&self) -> Option<Arc<Task>> {
        loop {
            let chosen = {
                let mut ready = self.ready.lock();
                match ready.len() {
                    0 => return None,
                    1 => ready.pop(),
                    len => {
                        let position = self.executor.lock().choice.position(len);
                        Some(ready.swap_remove(position))
                    }
                }
            };
            let task = chosen?;
            match self.executor.lock().frozen.get_mut(&task.node) {
                // It counts as queued until its node moves again.
                Some(waiting) => waiting.push(task),
                None => return Some(task),
            }
        }
    }

    /// No task of the node is polled until it is thawed.
    pub(crate) fn freeze(&self, node: NodeId) {
        self.executor.lock().frozen.entry(node).or_default();
    }

    /// The tasks of the node are polled again, first of all those that could have been meanwhile.
    pub(crate) fn thaw(&self, node: NodeId) {
        let waiting = self.executor.lock().frozen.remove(&node);
        self.ready.lock().extend(waiting.into_iter().flatten());
    }

    fn turn(&self, task: &Arc<Task>) -> Step {
        let mut future = match task.begin(self.now_nanos()) {
            Turn::Nothing => return Step::Ran,
            Turn::Abort(future) => {
                self.finish(task, future, TaskEnd::Aborted);
                return Step::Ran;
            }
            Turn::Poll(future) => future,
        };
        {
            let mut executor = self.executor.lock();
            executor.events += 1;
            executor.polls += 1;
        }
        self.record(Event::Poll, [task.id, 0], || {
            format!("{} {} {}", task.node, task.name, task.id)
        });
        self.set_current(Some(Arc::clone(task)));
        let waker = Waker::from(Arc::clone(task));
        let mut context = Context::from_waker(&waker);
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut context)));
        self.set_current(None);
        match polled {
            Ok(Poll::Pending) => {
                let dead = task.put_back(future);
                self.bury(dead.into_iter().collect());
                Step::Ran
            }
            Ok(Poll::Ready(())) => {
                self.finish(task, Some(future), TaskEnd::Done);
                Step::Ran
            }
            Err(payload) => {
                self.finish(task, Some(future), TaskEnd::Panicked);
                if self.config.panic_ends_run {
                    Step::Panicked(self.panic_report(task.node, &task.name, &*payload))
                } else {
                    Step::Ran
                }
            }
        }
    }

    /// Drops the future and then tells those who wait for the end.
    fn finish(&self, task: &Arc<Task>, future: Option<TaskFuture>, end: TaskEnd) {
        self.record(Event::End, [task.id, end as u64], || {
            format!("{} {} {} {end:?}", task.node, task.name, task.id)
        });
        self.bury(future.into_iter().collect());
        self.executor.lock().tasks.remove(&task.id);
        let (_, joiners) = task.finish(end);
        joiners.into_iter().for_each(Waker::wake);
    }
}
