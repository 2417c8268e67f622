//! One suite per trait. Each is a plain function over the trait object, so that `host`, `sim` and
//! any wrapper of `fault-injection` are held to the same contract. A suite panics where the
//! contract is broken.

pub mod catalog;
pub mod clock;
pub mod disk;
pub mod entropy;
pub mod net;
pub mod tasks;
