//! What a node counts. One [`Metrics`] a node, with a registry of its own: several nodes share a
//! process in the simulator.
//!
//! Labels are closed sets, so the number of series is bounded by this file.

mod host;
mod replication;
mod space;
mod store;

use std::{fmt, sync::atomic::AtomicI64};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

pub use host::{HostCounter, HostMetrics};
pub use replication::{ReasonLabels, ReplicationMetrics};
pub use space::{SpaceLevels, SpaceMetrics};
pub use store::{ClassLabels, StoreMetrics};

/// A gauge of whole numbers.
pub type Level = Gauge<i64, AtomicI64>;

/// Everything a node counts.
pub struct Metrics {
    registry: Registry,
    public: PortMetrics,
    peers: PortMetrics,
    /// The store.
    pub store: StoreMetrics,
    /// Replication.
    pub replication: ReplicationMetrics,
    /// The space that the store may take, and takes.
    pub space: SpaceMetrics,
    /// The world that the node lives in.
    pub host: HostMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("kura");
        let public = PortMetrics::new(&mut registry);
        let peers = PortMetrics::new(registry.sub_registry_with_prefix("peer"));
        let store = StoreMetrics::new(&mut registry);
        let replication = ReplicationMetrics::new(&mut registry);
        let space = SpaceMetrics::new(&mut registry);
        let host = HostMetrics::new(&mut registry);
        Self { registry, public, peers, store, replication, space, host }
    }
}

impl Metrics {
    /// What is counted at a port.
    #[must_use]
    pub fn port(&self, port: Port) -> &PortMetrics {
        match port {
            Port::Public => &self.public,
            Port::Peers => &self.peers,
        }
    }

    /// Everything in the text format of OpenMetrics.
    ///
    /// Within a family the series are sorted: the registry keeps them in an order that differs from
    /// run to run, and two runs of one simulation must give the same bytes.
    #[must_use]
    pub fn render(&self) -> String {
        self.space.refresh();
        let mut text = String::new();
        text::encode(&mut text, &self.registry).expect(
            "writing to a string does not fail, and no label of ours refuses to be encoded",
        );
        let mut sorted = String::with_capacity(text.len());
        let mut series: Vec<&str> = Vec::new();
        for line in text.lines() {
            if line.starts_with('#') {
                flush_sorted(&mut series, &mut sorted);
                sorted.push_str(line);
                sorted.push('\n');
            } else {
                series.push(line);
            }
        }
        flush_sorted(&mut series, &mut sorted);
        sorted
    }
}

fn flush_sorted(series: &mut Vec<&str>, into: &mut String) {
    series.sort_unstable();
    for line in series.drain(..) {
        into.push_str(line);
        into.push('\n');
    }
}

/// Lets an enum be the value of a label, under its name.
macro_rules! label_value {
    ($label:ty) => {
        impl EncodeLabelValue for $label {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
                EncodeLabelValue::encode(&self.name(), encoder)
            }
        }
    };
}

/// What a request was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SurfaceLabel {
    /// Content-addressed artifacts.
    Cas,
    /// Action results.
    Ac,
    /// Artifacts under plain keys.
    Plain,
    /// `/up`, `/ready`, `/metrics`, `/status`.
    Pages,
    /// Nothing that has a name: refused before its path was understood.
    None,
}

impl SurfaceLabel {
    fn name(self) -> &'static str {
        match self {
            Self::Cas => "cas",
            Self::Ac => "ac",
            Self::Plain => "plain",
            Self::Pages => "pages",
            Self::None => "none",
        }
    }
}

label_value!(SurfaceLabel);

/// Which kind of request it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MethodLabel {
    /// `GET`.
    Get,
    /// `HEAD`.
    Head,
    /// `PUT`.
    Put,
    /// `DELETE`.
    Delete,
    /// Any other.
    Other,
}

impl MethodLabel {
    fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Other => "other",
        }
    }
}

label_value!(MethodLabel);

/// Labels of `kura_http_requests_total`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// Its method.
    pub method: MethodLabel,
    /// What it was about.
    pub surface: SurfaceLabel,
    /// What was answered.
    pub status: u16,
}

/// Labels of `kura_http_refusals_total`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RefusalLabels {
    /// The row of the table of outcomes.
    pub reason: &'static str,
}

/// Which way bytes went, seen from the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From clients.
    In,
    /// To clients.
    Out,
}

impl Direction {
    fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

label_value!(Direction);

/// Labels of `kura_connection_bytes_total`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DirectionLabels {
    /// Which way.
    pub direction: Direction,
}

/// Why the node closed a connection that the client had not given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// No byte moved for too long.
    Idle,
    /// The head of a request did not arrive in time.
    Header,
    /// The frame of a request left its end in doubt.
    Guard,
    /// The node drains.
    Drain,
}

impl CloseReason {
    fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Header => "header",
            Self::Guard => "guard",
            Self::Drain => "drain",
        }
    }
}

label_value!(CloseReason);

/// Labels of `kura_connection_closes_total`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CloseLabels {
    /// Why.
    pub reason: CloseReason,
}

/// Where somebody asks something of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// The public surface.
    Public,
    /// The peer plane.
    Peers,
}

/// What is counted at a port.
pub struct PortMetrics {
    /// Requests.
    pub http: HttpMetrics,
    /// Connections.
    pub connections: ConnectionMetrics,
}

impl PortMetrics {
    fn new(registry: &mut Registry) -> Self {
        Self { http: HttpMetrics::new(registry), connections: ConnectionMetrics::new(registry) }
    }
}

/// Counters of the requests at a port.
pub struct HttpMetrics {
    /// Answers, by method, surface and status.
    pub requests: Family<RequestLabels, Counter>,
    /// Requests that were not carried out, by the row of the table of outcomes. Also counts those
    /// that were answered as a miss.
    pub refusals: Family<RefusalLabels, Counter>,
    /// Bytes of refused bodies that were read and thrown away so that the client saw its answer.
    pub drained_bytes: Counter,
    /// Bodies that broke off on their way to the client.
    pub broken_bodies: Counter,
}

impl HttpMetrics {
    fn new(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("http");
        Self {
            requests: counters(registry, "requests", "Answers"),
            refusals: counters(registry, "refusals", "Requests that were not carried out"),
            drained_bytes: counter(
                registry,
                "drained_bytes",
                "Bytes of refused bodies that were read and thrown away",
            ),
            broken_bodies: counter(
                registry,
                "broken_bodies",
                "Bodies that broke off on their way to the client",
            ),
        }
    }
}

/// Counters of the connections at a port.
pub struct ConnectionMetrics {
    /// Open now.
    pub open: Level,
    /// Accepted since start.
    pub accepted: Counter,
    /// How often accepting waited because all places were taken.
    pub cap_waits: Counter,
    /// How often accepting failed and was tried again.
    pub accept_failures: Counter,
    /// Closed by the node, by reason.
    pub closes: Family<CloseLabels, Counter>,
    /// Bytes on the wire.
    pub bytes: Family<DirectionLabels, Counter>,
}

impl ConnectionMetrics {
    fn new(registry: &mut Registry) -> Self {
        let open = Level::default();
        registry.register("connections", "Connections that are open now", open.clone());
        let registry = registry.sub_registry_with_prefix("connection");
        Self {
            open,
            accepted: counter(registry, "accepted", "Connections accepted"),
            cap_waits: counter(
                registry,
                "cap_waits",
                "Times that accepting waited for a free place",
            ),
            accept_failures: counter(registry, "accept_failures", "Times that accepting failed"),
            closes: counters(registry, "closes", "Connections that the node closed"),
            bytes: counters(registry, "bytes", "Bytes on the wire"),
        }
    }

    /// The counters of bytes from clients and to clients, for a connection to keep.
    #[must_use]
    pub fn byte_counters(&self) -> (Counter, Counter) {
        let of = |direction| self.bytes.get_or_create(&DirectionLabels { direction }).clone();
        (of(Direction::In), of(Direction::Out))
    }
}

/// Makes and registers a counter; its name gets `_total` behind it.
fn counter(registry: &mut Registry, name: &'static str, help: &'static str) -> Counter {
    let counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}

/// Makes and registers counters that are told apart by labels.
fn counters<L>(
    registry: &mut Registry,
    name: &'static str,
    help: &'static str,
) -> Family<L, Counter>
where
    L: EncodeLabelSet + Clone + fmt::Debug + Eq + std::hash::Hash + Send + Sync + 'static,
{
    let family = Family::default();
    registry.register(name, help, family.clone());
    family
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_world_counts_is_shown() {
        let metrics = Metrics::default();
        metrics.host.ask(|| vec![HostCounter { name: "faults", help: "Faults", value: 3 }]);
        let text = metrics.render();
        assert!(
            text.contains("# TYPE kura_host_faults counter\nkura_host_faults_total 3\n"),
            "{text}"
        );
    }

    #[test]
    fn the_text_is_the_same_whatever_the_order_of_events() {
        let render = |statuses: &[u16]| {
            let metrics = Metrics::default();
            for &status in statuses {
                let labels =
                    RequestLabels { method: MethodLabel::Get, surface: SurfaceLabel::Cas, status };
                metrics.port(Port::Public).http.requests.get_or_create(&labels).inc();
            }
            metrics.store.staging_bytes.set(7);
            metrics.render()
        };
        let text = render(&[200, 404, 503]);
        assert_eq!(text, render(&[503, 404, 200]));
        for line in [
            "kura_http_requests_total{method=\"GET\",surface=\"cas\",status=\"404\"} 1",
            "kura_store_staging_bytes 7",
            "kura_connections 0",
            "kura_peer_connections 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
