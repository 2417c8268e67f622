//! Several nodes in the simulated world: what one takes in, the others come to have.
#![allow(clippy::unwrap_used, reason = "what cannot be set up fails its test")]

mod bed;
mod clocks;
mod primary;
mod puppet;
mod read_through;
mod resume;
mod stories;
mod trouble;
