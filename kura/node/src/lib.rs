//! The node: surface -> service -> store, over [`kura_env::Env`] alone.

pub mod config;
pub mod metrics;
