//! What the store counts.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::{Registry, Unit},
};

use super::{Level, counter, counters};

/// Labels of what is counted by the class of work that the disk does.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ClassLabels {
    /// The name of the class.
    pub class: &'static str,
}

/// One line a counter: its name in code and in the text, and its help.
macro_rules! store_metrics {
    ($($name:ident: $help:literal,)*) => {
        /// Counters of the store.
        pub struct StoreMetrics {
            /// Bytes reserved for bodies in flight.
            pub staging_bytes: Level,
            /// Deletes of namespaces that are remembered.
            pub tombstones: Level,
            /// Turns at the disk that had to be waited for.
            pub disk_turn_waits: Family<ClassLabels, Counter>,
            /// Milliseconds of that.
            pub disk_turn_waited_ms: Family<ClassLabels, Counter>,
            /// Pieces of work that waited for no turn.
            pub disk_turns_skipped: Family<ClassLabels, Counter>,
            $(#[doc = $help] pub $name: Counter,)*
        }

        impl StoreMetrics {
            pub(super) fn new(registry: &mut Registry) -> Self {
                let registry = registry.sub_registry_with_prefix("store");
                let staging_bytes = Level::default();
                registry.register_with_unit(
                    "staging",
                    "Reserved for bodies in flight",
                    Unit::Bytes,
                    staging_bytes.clone(),
                );
                let tombstones = Level::default();
                registry.register(
                    "tombstones",
                    "Deletes of namespaces that are remembered",
                    tombstones.clone(),
                );
                let by_class = |registry: &mut Registry, name, help| counters(registry, name, help);
                Self {
                    staging_bytes,
                    tombstones,
                    disk_turn_waits: by_class(
                        registry,
                        "disk_turn_waits",
                        "Pieces of work of this class that waited for a turn at the disk",
                    ),
                    disk_turn_waited_ms: by_class(
                        registry,
                        "disk_turn_waited_ms",
                        "Milliseconds that those waited, all together",
                    ),
                    disk_turns_skipped: by_class(
                        registry,
                        "disk_turns_skipped",
                        "Pieces of work of this class that waited for no turn, because too many did",
                    ),
                    $($name: counter(registry, stringify!($name), $help),)*
                }
            }
        }
    };
}

store_metrics! {
    puts: "Bodies stored",
    repeated_puts: "Bodies under their own digest that were here already, and were not written again",
    put_bytes: "Bytes of bodies stored",
    segment_syncs: "Syncs of the newest segment, each of which serves all who wait",
    hits: "Reads that found their artifact",
    early_reads: "Reads that found their artifact while the store was still being read back",
    misses: "Reads that did not find their artifact",
    index_hits: "Looks that the index in memory answered",
    index_misses: "Looks that went to the catalog",
    wrong_places: "Reads whose place held another record or none, answered as a miss",
    damaged_reads: "Reads that met bytes other than those written",
    unreadable_reads: "Reads that the device failed; the place is read again a little later",
    suspects_dropped: "Places that the device failed to read, and that are not read again by themselves, because too many wait",
    scrubbed_records: "Records that the scrub read",
    scrubbed_bytes: "Bytes of records that the scrub read",
    scrub_passes: "Passes of the scrub that were completed",
    losses_given_up: "Artifacts that were lost so often that no peer is asked for them any more",
    forgotten: "References removed because they led to nothing",
    forgets_dropped: "References that lead to nothing and stay for now, because too much waits",
    uploads_abandoned: "Uploads that were not stored, or whose client left before it was told",
    rotations: "Turns of the ring",
    rotations_failed: "Turns of the ring that failed",
    segments_given_up: "Segments that take no more appends because one failed",
    sources_failed: "Bodies refused because they could not be read back from staging",
    freezes_failed: "Full segments that are read without a mapping",
    turns_held: "Turns of a ring that were refused because what had to go was promised or fresh",
    space_refused: "Writes refused because the volume had no room and nothing that could go",
    stalled_refused: "Writes and vouches refused because the volume did not answer",
    probes: "Blocks written and removed to see whether a volume takes changes again",
    evicted_objects: "Objects evicted from the pool",
    replicas_too_old: "Bodies of peers older than all that the ring has room for",
    replicas_deleted: "Bodies of peers that were not fetched or not stored, because their namespace was deleted since",
    replicas_not_asked_for: "Bodies of peers that were not fetched, because they are older than all that there is room for",
    refreshed: "Artifacts copied forward",
    refreshed_bytes: "Bytes of bodies copied forward",
    refreshes_by_read: "Copies ordered because of a read",
    refreshes_by_vouch: "Copies ordered because of a vouch",
    refreshes_by_turn: "Copies ordered because the ring cannot turn before",
    refreshes_joined: "Reads and vouches of what is being copied already",
    refreshes_unpaid: "Copies not made because the budget of the ring is spent",
    refreshes_shed: "Copies not made because too many wait",
    refreshes_failed: "Copies that failed",
    vouched: "Artifacts that were said to be here, with a promise",
    vouches_declined: "Artifacts that are here and were said to be missing, because nothing more can be promised",
    evicted_segments: "Segments evicted",
    evicted_artifacts: "Artifacts evicted",
    evicted_bytes: "Bytes of bodies evicted",
    evicted_for_space: "Segments evicted because the disk had no room for a new one",
    unlinked_first: "Segments unlinked before RING was saved, because the volume had no room for that",
    eviction_errors: "Steps of eviction that failed and are tried again",
    deletes: "Deletes of namespaces taken in, from clients and from peers",
    deleted_artifacts: "Artifacts taken out of the index because their namespace was deleted",
    deleted_bytes: "Bytes of bodies of those artifacts",
    purge_errors: "Steps of taking deleted artifacts out of the index that failed and are tried again",
    tombstones_forgotten: "Deletes of namespaces forgotten because later ones of others fill the bound",
    tombstones_lost: "Times that TOMBSTONES could not be read at a start, and deletes were forgotten",
    index_failures: "Batches that the catalog refused",
    own_returned: "Artifacts of this node itself that it did not hold any more and a peer did: its disk was put back, or lost them",
    replicas_known: "Bodies of peers that were here already, or superseded",
    staging_refused: "Bodies refused for lack of staging",
    staging_waited: "Bodies of clients that waited for staging and got it",
    staging_waits_timed_out: "Bodies of clients that waited for staging in vain",
    staging_waits_shed: "Bodies of clients that did not wait for staging because too many do",
    staging_stuck: "Times that a staging file could not be removed, and kept its reservation",
    staging_cleared: "Staging files of an earlier life removed at start",
    recovered_records: "Records adopted by recovery",
    recovered_deleted: "Records that recovery gave no name, because their namespace was deleted since",
    recovered_torn_tails: "Segments whose log ended before their file, found by recovery",
    recovered_gaps: "Stretches between records that are none, passed over by recovery",
    recovered_damaged: "Records passed over by recovery because their body is not the one written",
    recovered_read_errors: "Reads of recovery at which the device failed",
    recovered_unreadable: "Segments given up by recovery because they have no valid header",
    recovered_rings: "Rings made again from the segments because RING was lost",
    recovered_identities: "Identities drawn anew because IDENTITY was damaged",
    catalogs_damaged: "Catalogs that did not open, or not as far as their stamp, set aside and made again",
    catalogs_behind: "Catalogs that opened without what was synced, set aside and made again",
    catalogs_condemned: "Catalogs in which a read met damage; the next start makes them again",
    stamps_failed: "Times that the catalog could not be stamped; it is tried again",
    swept_orphans: "Segments outside of the ring, found by recovery and cleared up",
}
