//! Decisions without effects: plain functions and types that `kura-node` asks at every fork.
//!
//! Nothing here is async, reads a clock, draws a number, logs, or touches a disk; so everything
//! here is tested as tables and properties.

pub mod address;
pub mod digest;
