//! The store in the simulated world: what it keeps, what it gives back, and what it makes of damage.
#![allow(clippy::unwrap_used, reason = "what cannot be set up fails its test")]

mod bed;
mod catalog;
mod deletes;
mod device;
mod feed;
mod inspect;
mod large;
mod promises;
mod reading;
mod recovery;
mod repair;
mod restart;
mod scrub;
mod sick;
mod staging;
mod stories;
mod trouble;
mod verify;
