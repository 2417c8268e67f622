//! What crosses crates, in the simulated world: the store after crashes and damage.

#[path = "world/bed.rs"]
mod bed;
#[path = "world/store.rs"]
mod store;
