//! The public surface of a whole node in the simulated world, spoken to byte by byte.
#![allow(clippy::unwrap_used, reason = "what cannot be set up fails its test")]

mod bed;
mod connections;
mod framing;
mod http2;
mod requests;
mod trouble;
