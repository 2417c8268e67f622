//! What crosses crates, in the simulated world: the store after crashes and damage, and the surface
//! against ill-behaved clients.
#![allow(clippy::unwrap_used, reason = "what cannot be set up fails its test")]

#[path = "world/bed.rs"]
mod bed;
#[path = "world/store.rs"]
mod store;
#[path = "world/surface.rs"]
mod surface;
