//! Decisions without effects: plain functions and types that `kura-node` asks at every fork.
//!
//! Nothing here is async, reads a clock, draws a number, logs, or touches a disk; so everything
//! here is tested as tables and properties.

pub mod address;
pub mod backoff;
pub mod bandwidth;
pub mod capacity;
pub mod device;
pub mod digest;
pub mod feed;
pub mod feed_rows;
pub mod framing;
pub mod hlc;
pub mod ledger;
pub mod limits;
pub mod nearness;
pub mod offers;
pub mod pace;
pub mod place;
pub mod primary;
pub mod promise;
pub mod readiness;
pub mod recency;
pub mod reconcile;
pub mod record;
pub mod recovery;
pub mod refresh;
pub mod resume;
pub mod ring;
pub mod scrub;
pub mod shares;
pub mod stamp;
pub mod summary;
pub mod tombstones;
pub mod tries;
pub mod vain;
