//! The public surface of a whole node in the simulated world, spoken to byte by byte.

mod bed;
mod connections;
mod framing;
mod http2;
mod requests;
