//! Real processes: `kura serve` on loopback, under a compiler cache, under clients that do everything
//! wrong, and through starts and ends of every kind.

#![allow(clippy::unwrap_used, reason = "what cannot be set up fails its test")]

mod bed;
mod bodies;
mod ccache;
mod damage;
mod dev;
mod early;
mod framing;
mod full_disk;
mod http2;
mod life;
mod mesh;
mod mixed_load;
mod names;
mod page;
mod project;
mod recovery_page;
mod repair;
mod silence;
mod small_disk;
mod staging;
mod staging_budget;
mod ten_disks;
