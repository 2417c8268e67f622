//! Real processes: `kura serve` on loopback, under a compiler cache, under clients that do everything
//! wrong, and through starts and ends of every kind.

#![allow(clippy::unwrap_used, reason = "what cannot be set up fails its test")]

mod acknowledged;
mod bed;
mod bodies;
mod catalog_gone;
mod ccache;
mod damage;
mod dev;
mod early;
mod five_nodes;
mod framing;
mod freeze;
mod full_disk;
mod http2;
mod kills;
mod liar;
mod life;
mod mesh;
mod mixed_load;
mod names;
mod no_space;
mod page;
mod power_cuts;
mod project;
mod quota;
mod read_only;
mod recovery_page;
mod repair;
mod silence;
mod staging;
mod staging_budget;
mod ten_disks;
