//! Client actors: they speak real HTTP to the nodes, and remember what they were told.
//!
//! Honest ones put, get and head as build tools do; others die in the middle of a body, fall
//! silent, or lie about its digest or length. Everything an actor does follows from its own stream
//! of random numbers.
//!
//! They reach the world through a [`Place`](connection::Place) alone: given a real one, the same actors, readers and
//! history judge real nodes.

mod actor;
mod balancer;
mod clean;
pub mod connection;
mod keys;
mod read;
mod upload;

pub use actor::{Actor, ActorWorld, Once, Target};
pub use balancer::Balancer;
pub use clean::{Cleaner, OnDisk};
pub use keys::{Key, KeyNumber, Keys};
pub use read::{Ask, Reader, Seen};
pub use upload::{Break, BrokenOff, Pace, Upload};
