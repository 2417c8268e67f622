//! The node: surface -> service -> store, over [`kura_env::Env`] alone.

pub mod config;
pub mod identity;
pub mod metrics;
pub mod node;
pub mod service;
pub mod store;
pub mod surface;
