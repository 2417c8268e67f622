//! The simulated disk and catalog beside the real ones: the same drawn operations on both, and every
//! difference in what they tell that `docs/simulation.md` does not explain is a failure.

#![allow(clippy::unwrap_used, reason = "what cannot be set up fails its test")]

mod catalog;
mod catalog_pair;
mod differences;
mod disk;
mod draws;
mod killed;
mod operation;
mod pair;
mod rows;
mod run;
mod side;
