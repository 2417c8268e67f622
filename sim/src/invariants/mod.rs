//! What must hold in every run, one file each. All are always checked, in every scenario.
//!
//! Each is a plain function from evidence to a verdict, so that its tests can show it fail.

pub mod acked_or_evicted;
pub mod appended_once;
pub mod back_is_served;
pub mod batches_bounded;
pub mod clocks_are_not_poisoned;
pub mod compared;
pub mod damage_is_told;
pub mod deleted_stays_gone;
pub mod disk_ceiling;
pub mod drain_loses_nothing;
pub mod feed_bounded;
pub mod fetch_settles;
pub mod fetched_once;
pub mod floor_is_kept;
pub mod ledger_equals_disk;
pub mod liars_are_contained;
pub mod link_is_used;
pub mod live_answers;
pub mod mesh_heals;
pub mod near_first;
pub mod never_full;
pub mod no_orphan_at_rest;
pub mod node_heals;
pub mod one_winner;
pub mod primary_is_there;
pub mod primary_is_warm;
pub mod primary_stays;
pub mod progress_is_visible;
pub mod promise_held;
pub mod puts_answered;
pub mod quiet_zone;
pub mod reads_are_quick;
pub mod reads_hit;
pub mod ready_is_complete;
pub mod reference_in_ring_or_miss;
pub mod refresh_bounded;
pub mod restart_is_neutral;
pub mod retries_bounded;
pub mod staging_bounded;
pub mod sums_follow_rows;
pub mod true_digest;
pub mod used_survives;
pub mod whole_body;
pub mod writes_independent_of_peers;
pub mod writes_resume;

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
pub const ALL: [Invariant; 45] = [
    whole_body::INVARIANT,
    true_digest::INVARIANT,
    acked_or_evicted::INVARIANT,
    deleted_stays_gone::INVARIANT,
    promise_held::INVARIANT,
    quiet_zone::INVARIANT,
    used_survives::INVARIANT,
    refresh_bounded::INVARIANT,
    reference_in_ring_or_miss::INVARIANT,
    staging_bounded::INVARIANT,
    no_orphan_at_rest::INVARIANT,
    back_is_served::INVARIANT,
    damage_is_told::INVARIANT,
    disk_ceiling::INVARIANT,
    never_full::INVARIANT,
    floor_is_kept::INVARIANT,
    ledger_equals_disk::INVARIANT,
    sums_follow_rows::INVARIANT,
    batches_bounded::INVARIANT,
    feed_bounded::INVARIANT,
    restart_is_neutral::INVARIANT,
    node_heals::INVARIANT,
    live_answers::INVARIANT,
    writes_resume::INVARIANT,
    puts_answered::INVARIANT,
    ready_is_complete::INVARIANT,
    mesh_heals::INVARIANT,
    one_winner::INVARIANT,
    clocks_are_not_poisoned::INVARIANT,
    liars_are_contained::INVARIANT,
    compared::INVARIANT,
    appended_once::INVARIANT,
    retries_bounded::INVARIANT,
    writes_independent_of_peers::INVARIANT,
    link_is_used::INVARIANT,
    fetch_settles::INVARIANT,
    near_first::INVARIANT,
    fetched_once::INVARIANT,
    reads_hit::INVARIANT,
    reads_are_quick::INVARIANT,
    primary_is_there::INVARIANT,
    primary_is_warm::INVARIANT,
    primary_stays::INVARIANT,
    drain_loses_nothing::INVARIANT,
    progress_is_visible::INVARIANT,
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
