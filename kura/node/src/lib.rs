//! The node: surface -> service -> store, over [`kura_env::Env`] alone.

pub mod config;
pub mod device;
pub mod identity;
pub mod inspect;
pub mod metrics;
pub mod node;
mod replicate;
pub mod service;
pub mod store;
pub mod surface;
mod told;
pub mod verify;
