//! How a run ended, and what everybody was waiting for at that moment.

use std::fmt;

use kura_env::Instant;

use crate::task::{Seconds, TaskLine};

/// How [`crate::World::run_until`] ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The goal was reached.
    Goal,
    /// The deadline came first.
    Deadline,
    /// Nothing was runnable, no timer was set, and the goal was not reached.
    Deadlock(Dump),
    /// A task, a drop or a world event panicked.
    Panic {
        /// Which one, and what it said.
        report: PanicReport,
        /// The tasks at that moment.
        dump: Dump,
    },
    /// Too many events happened without time moving: a livelock.
    Stalled(Dump),
}

impl Outcome {
    /// Whether the goal was reached.
    #[must_use]
    pub fn is_goal(&self) -> bool {
        matches!(self, Self::Goal)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Goal => f.write_str("the goal was reached"),
            Self::Deadline => f.write_str("the deadline passed"),
            Self::Deadlock(dump) => write!(f, "deadlock: nobody can go on\n{dump}"),
            Self::Panic { report, dump } => write!(f, "{report}\n{dump}"),
            Self::Stalled(dump) => write!(f, "livelock: time does not move\n{dump}"),
        }
    }
}

/// A panic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PanicReport {
    /// The name of the task.
    pub task: String,
    /// The name of its node.
    pub node: String,
    /// What it said.
    pub message: String,
}

impl fmt::Display for PanicReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "panic in {} on {}: {}", self.task, self.node, self.message)
    }
}

/// All tasks that have not ended, in the order in which they were spawned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dump {
    /// When it was taken.
    pub at: Instant,
    /// The tasks.
    pub tasks: Vec<TaskLine>,
}

impl fmt::Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tasks at {}", self.tasks.len(), Seconds(self.at.0))?;
        for task in &self.tasks {
            write!(f, "\n  {task}")?;
        }
        Ok(())
    }
}

/// What a run has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Turns of the executor: polls, timers, network events, world events.
    pub events: u64,
    /// Polls of tasks.
    pub polls: u64,
    /// Timers that fired, of any kind.
    pub timers: u64,
    /// Tasks spawned.
    pub tasks_spawned: u64,
    /// Bytes that arrived at the end of a connection.
    pub bytes_delivered: u64,
    /// Virtual time, in nanoseconds since the world began.
    pub sim_nanos: u64,
}
