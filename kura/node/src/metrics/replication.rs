//! What replication counts.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::{Level, counter, counters};

/// Labels of what is counted by its reason.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabels {
    /// The name of the reason.
    pub reason: &'static str,
}

/// One line a counter or a gauge: its name in code and in the text, and its help.
macro_rules! replication_metrics {
    (
        counters { $($name:ident: $help:literal,)* }
        by_reason { $($family:ident: $family_help:literal,)* }
        gauges { $($level:ident: $level_help:literal,)* }
    ) => {
        /// Counters and gauges of replication.
        pub struct ReplicationMetrics {
            $(#[doc = $help] pub $name: Counter,)*
            $(#[doc = $family_help] pub $family: Family<ReasonLabels, Counter>,)*
            $(#[doc = $level_help] pub $level: Level,)*
        }

        impl ReplicationMetrics {
            pub(super) fn new(registry: &mut Registry) -> Self {
                let registry = registry.sub_registry_with_prefix("replication");
                Self {
                    $($name: counter(registry, stringify!($name), $help),)*
                    $($family: counters(registry, stringify!($family), $family_help),)*
                    $($level: {
                        let level = Level::default();
                        registry.register(stringify!($level), $level_help, level.clone());
                        level
                    },)*
                }
            }
        }
    };
}

replication_metrics! {
    counters {
        peer_failures: "Talks with a peer that ended in an error and are tried again",
        idle_timeouts: "Streams from peers that stood still and were given up",
        repairs_asked_for: "Artifacts that the device lost and that a peer was asked for",
        passes_begun: "Passes over all that a peer holds",
        passes_completed: "Passes that were completed",
        passes_cut: "Passes that took too long and went on after a pause",
        ranges_compared: "Ranges of what is held whose sums were looked at for a pass",
        feed_rows_dropped: "Rows that the feed of this node gave up because it is bounded",
        vain_pages: "Pages of peers that were waited for, because nothing came of many before them",
        peers_restarted: "Peers that were in another start than before, so that they were compared with again",
        feeds_gone: "Feeds that did not reach back to the cursor, so that a pass was needed",
        fetched: "Artifacts fetched and stored",
        fetched_bytes: "Bytes of bodies fetched and stored",
        fetch_failures: "Requests for bodies that ended early or failed, and are tried again",
        resumed: "Large bodies that broke in the middle and were gone on with",
        resumed_bytes: "Bytes of those that did not have to come again, each time",
        unreadable: "Artifacts that a peer holds and could not read",
        missing: "Artifacts that a peer told of and did not have any more",
        declined: "Artifacts that this node cannot take",
        too_far_ahead: "Versions of peers that were left for later, because they are too far ahead of the clock",
        older_than_fits: "Artifacts that a pass left out, because newer ones fill the ring",
        set_aside: "Artifacts that failed too often and rest before they are tried again",
        rows_unknown: "Rows of a peer without a meaning here",
        deletes_unknown: "Deletes that a peer told of whose namespace cannot be one here",
        limits_raised: "Limits of peers that were below the least there may be and were taken for that",
        claim_waits: "Fetches that waited, or were put off, because another peer was delivering the artifact",
        left_to_nearer: "Artifacts that were left to a nearer peer for a moment, because that holds them as well",
        nearer_late: "Times that a nearer peer did not deliver in time what was left to it",
        room_waits: "Fetches that waited for room in memory or staging",
        read_through_hits: "Reads of what was not here yet that a peer of the region delivered in time",
        read_through_late: "Reads that a peer of the region did not deliver to in time, and that were misses",
        read_through_failures: "Reads for which a peer of the region was asked in vain, and that were misses",
        read_through_shed: "Reads that no peer was asked for, because too many were fetched for already",
        offers_forgotten: "Artifacts that peers of the region hold and reads do not find, because too many are offered",
        bandwidth_waits: "Pieces of bodies from and to peers that waited for the ceiling on bandwidth",
        bandwidth_waited_ms: "Milliseconds that those waited, all together",
        primary_changes: "Times that this node became primary of its region, or stopped being it",
        pulses_missed: "Questions to a peer how it is that were not answered",
        audience_left_behind: "Peers that had not read the feed to its end when the node stopped in good order",
        served: "Bodies that were sent to peers, or begun",
        served_missing: "Bodies that a peer asked for and that are not here",
        served_unreadable: "Bodies that a peer asked for and that could not be read",
        not_now_told: "Answers to peers that the node reads its data back",
        failures_told: "Answers to peers that the store failed",
    }
    by_reason {
        partials_dropped: "Parts of large bodies that were kept to be gone on with and were given up",
    }
    gauges {
        partials_kept: "Parts of large bodies that are kept while nobody fetches the rest",
        primary: "Whether this node is primary of its region",
        lag_ms: "Milliseconds since which this node may lack something that a peer of its region has; -1: it never had all",
        lag: "Rows of the feeds of all peers that were not read yet",
        passes_under_way: "Passes that are under way now, or cut and to go on",
        peers_given_up: "Peers that readiness does not wait for any longer",
        bandwidth_configured_limit_bytes_per_second: "Bytes of bodies in a second that are fetched from peers at the most, and that are served to them; 0: no limit",
        isolated: "Whether this node is empty and compared with none of its peers",
        set_aside_now: "Artifacts that rest before they are tried again",
    }
}
