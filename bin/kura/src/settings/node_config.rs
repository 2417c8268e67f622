//! From settings to what a node is told.

use std::net::SocketAddr;

use kura_core::{
    feed_rows::FEED_ROWS_MAX,
    primary::{PULSE_EVERY, Rules},
};
use kura_node::config::{
    Durability, NodeConfig, PeerConfig, PrimaryConfig, StoreConfig, SurfaceConfig,
};

use super::{Settings, setting::Key, table::PROCESS_CRASH, value::Value, wrong_kind};

impl Settings {
    /// What the node is told.
    pub(crate) fn node_config(&self) -> NodeConfig {
        NodeConfig {
            listen: SocketAddr::new(self.address(Key::Bind), self.port(Key::Port)),
            store: self.store_config(),
            surface: SurfaceConfig {
                idle_timeout: self.duration(Key::IdleTimeout),
                header_timeout: self.duration(Key::HeaderTimeout),
                connections_max: self.connections_max(),
                drain_body_bytes_max: self.known_bytes(Key::DrainBodyMax),
                retry_after: self.duration(Key::RetryAfter),
                date_header: true,
            },
            peers: self.has_peer_plane().then(|| self.peer_config()),
            drain_timeout: self.duration(Key::DrainTimeout),
        }
    }

    fn peer_config(&self) -> PeerConfig {
        PeerConfig {
            listen: SocketAddr::new(self.address(Key::Bind), self.port(Key::PeerPort)),
            peers: self.peers().to_vec(),
            region: self.name(Key::Region).to_owned(),
            peer_wait: self.duration(Key::PeerWait),
            pass_timeout: self.duration(Key::PassTimeout),
            read_through: self.duration(Key::ReadThrough),
            bandwidth_bytes_per_second: self.known_bytes(Key::BandwidthLimit),
            limits: kura_core::limits::PeerLimits::OURS,
            primary: PrimaryConfig {
                rules: Rules {
                    min_age: self.duration(Key::PrimaryMinAge),
                    lag_max: self.duration(Key::PrimaryLagMax),
                },
                pulse_every: PULSE_EVERY,
            },
        }
    }

    fn store_config(&self) -> StoreConfig {
        let durability = match self.choice(Key::Durability) {
            PROCESS_CRASH => Durability::ProcessCrash,
            _ => Durability::PowerLoss,
        };
        StoreConfig {
            segment_bytes: self.known_bytes(Key::Segment),
            capacity_bytes: self.bytes(Key::Capacity),
            staging_elsewhere: self.staging_dir().is_some(),
            staging_bytes_max: self.known_bytes(Key::StagingMax),
            memory_bytes_max: self.known_bytes(Key::MemoryMax),
            memory_body_bytes_max: self.known_bytes(Key::MemoryBody),
            index_bytes_max: self.known_bytes(Key::IndexMax),
            body_bytes_max: self.known_bytes(Key::MaxBody),
            durability,
            promise: self.duration(Key::Promise),
            write_grace: self.duration(Key::WriteGrace),
            scrub_every: self.duration(Key::ScrubEvery),
            feed_rows_max: FEED_ROWS_MAX,
            scrub_bytes_per_second: self.known_bytes(Key::ScrubRate),
        }
    }

    /// Connections at once.
    pub(crate) fn connections_max(&self) -> usize {
        usize::try_from(self.count(Key::MaxConnections)).unwrap_or(usize::MAX)
    }

    fn port(&self, key: Key) -> u16 {
        let port = self.count(key);
        u16::try_from(port).unwrap_or_else(|_| wrong_kind(key, Some(&Value::Count(port))))
    }

    fn known_bytes(&self, key: Key) -> u64 {
        self.bytes(key).unwrap_or_else(|| wrong_kind(key, None))
    }
}
