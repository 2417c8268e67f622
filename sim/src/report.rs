//! What a run came to.

use std::collections::BTreeMap;

use fault_injection::Plan;
use serde::Serialize;

/// The verdict of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Everything held.
    Pass,
    /// An invariant or an expectation did not hold.
    Violated,
    /// A node did not come back within its bound.
    NotHealed,
}

impl Verdict {
    /// The exit code of a program that ran it.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Violated => 1,
            Self::NotHealed => 3,
        }
    }
}

/// The exit code for two runs that should have been equal.
pub const EXIT_DIFFERENT: u8 = 4;

/// A class of disk effects as a crash point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CrashPoint {
    /// How often it happened.
    pub crossed: u64,
    /// How often a crash came there.
    pub crashed: u64,
    /// How many effects behind the first crash, and behind the second, it happened for the first time; 0 if it
    /// did not.
    pub behind: [u64; 2],
}

/// What moved in a catch-up: from the beginning of a phase with `ready` or `agree` and without clients until its
/// nodes were ready, or lacked nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CatchUp {
    /// The phase.
    pub phase: String,
    /// How long it took.
    pub took_nanos: u64,
    /// Bytes of bodies that the nodes lacked as it began, and that a peer could deliver.
    pub missing_bytes: u64,
    /// Bytes of bodies that the nodes held when it was over and not before, by their catalogs.
    pub gained_bytes: u64,
    /// Bytes of any kind that the links between the other nodes and these carried to them.
    pub moved_bytes: u64,
    /// What those links could carry in a second, all together.
    pub capacity_bytes_per_second: u64,
    /// Of the longest way between one of the nodes and another one.
    pub round_trip_nanos: u64,
    /// Segments that were evicted meanwhile, on any node.
    pub evicted_segments: u64,
}

/// What a run came to: a function of scenario, seed, schedule and build. Wall time is measured by
/// whoever ran it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunReport {
    /// The scenario's name.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// What it came to.
    pub verdict: Verdict,
    /// Which invariant did not hold; empty if all did.
    pub invariant: String,
    /// What was seen; empty if it passed.
    pub reason: String,
    /// Simulated time.
    pub sim_seconds: f64,
    /// Turns of the executor.
    pub events: u64,
    /// The rolling hash over all events.
    pub journal_hash: String,
    /// By class of fault, how often it struck. One that never did is in here with 0.
    pub faults_fired: BTreeMap<String, u64>,
    /// By class of disk effect.
    pub crash_points: BTreeMap<String, CrashPoint>,
    /// The faults as they were drawn.
    pub plan: Plan,
    /// What the seed chose, by path of the field, in production units.
    pub drawn: BTreeMap<String, String>,
    /// Answers to clients, by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Bodies read back whole.
    pub hits: u64,
    /// Bytes of those.
    pub read_bytes: u64,
    /// Bytes of bodies that were acknowledged.
    pub acked_bytes: u64,
    /// What moved while nodes caught up, in order.
    pub catch_ups: Vec<CatchUp>,
    /// What happened, in order.
    #[serde(skip)]
    pub timeline: String,
}
