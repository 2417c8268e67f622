//! What must hold in every run, one file each. All are always checked, in every scenario.
//!
//! Each is a plain function from evidence to a verdict, so that its tests can show it fail.

pub mod acked_or_evicted;
pub mod appended_once;
pub mod compared;
pub mod fetched_once;
pub mod link_is_used;
pub mod mesh_heals;
pub mod no_orphan_at_rest;
pub mod node_heals;
pub mod one_winner;
pub mod ready_is_complete;
pub mod reference_in_ring_or_miss;
pub mod retries_bounded;
pub mod staging_bounded;
pub mod true_digest;
pub mod whole_body;
pub mod writes_independent_of_peers;

/// What is known of an invariant without a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invariant {
    /// Its name, as verdicts print it.
    pub name: &'static str,
    /// What it demands, in one line.
    pub demands: &'static str,
    /// When it is checked.
    pub checked: &'static str,
}

/// Every invariant.
pub const ALL: [Invariant; 16] = [
    whole_body::INVARIANT,
    true_digest::INVARIANT,
    acked_or_evicted::INVARIANT,
    reference_in_ring_or_miss::INVARIANT,
    staging_bounded::INVARIANT,
    no_orphan_at_rest::INVARIANT,
    node_heals::INVARIANT,
    ready_is_complete::INVARIANT,
    mesh_heals::INVARIANT,
    one_winner::INVARIANT,
    compared::INVARIANT,
    appended_once::INVARIANT,
    retries_bounded::INVARIANT,
    writes_independent_of_peers::INVARIANT,
    link_is_used::INVARIANT,
    fetched_once::INVARIANT,
];

/// An invariant does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{invariant}: {reason}")]
pub struct Violation {
    /// Which.
    pub invariant: &'static str,
    /// What was seen, with the numbers.
    pub reason: String,
}

impl Invariant {
    /// A violation of this invariant.
    #[must_use]
    pub fn violated(&self, reason: String) -> Violation {
        Violation { invariant: self.name, reason }
    }
}

/// The invariants as a Markdown table; `docs/simulation.md` holds it.
#[must_use]
pub fn markdown() -> String {
    let row = |i: &Invariant| format!("| `{}` | {} | {} |\n", i.name, i.demands, i.checked);
    let rows: String = ALL.iter().map(row).collect();
    format!("| invariant | demands | checked |\n|---|---|---|\n{rows}")
}
