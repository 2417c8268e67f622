//! What replication counts.

use prometheus_client::{metrics::counter::Counter, registry::Registry};

use super::counter;

/// One line a counter: its name in code and in the text, and its help.
macro_rules! replication_metrics {
    ($($name:ident: $help:literal,)*) => {
        /// Counters of replication.
        pub struct ReplicationMetrics {
            $(#[doc = $help] pub $name: Counter,)*
        }

        impl ReplicationMetrics {
            pub(super) fn new(registry: &mut Registry) -> Self {
                let registry = registry.sub_registry_with_prefix("replication");
                Self {
                    $($name: counter(registry, stringify!($name), $help),)*
                }
            }
        }
    };
}

replication_metrics! {
    peer_failures: "Talks with a peer that ended in an error and are tried again",
    passes_begun: "Passes over all that a peer holds",
    passes_completed: "Passes that were completed",
    feeds_gone: "Feeds that did not reach back to the cursor, so that a pass was needed",
    fetched: "Artifacts fetched and stored",
    fetched_bytes: "Bytes of bodies fetched and stored",
    fetch_failures: "Bodies that did not come, and are tried again",
    missing: "Artifacts that a peer listed and did not have any more",
    declined: "Artifacts that this node cannot take",
    set_aside: "Artifacts that are not tried any more",
    rows_unknown: "Rows of a peer without a meaning here",
}
