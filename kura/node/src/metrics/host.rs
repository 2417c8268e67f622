//! What the world of a node counts about itself: the real one counts its disk calls, its catalog and
//! the pages that it could not read. The node shows it and knows nothing of it.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::counter::ConstCounter,
    registry::Registry,
};

/// A counter of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostCounter {
    /// Its name, to which `kura_host_` and `_total` are added.
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// How many there were since the process started.
    pub value: u64,
}

type Source = Box<dyn Fn() -> Vec<HostCounter> + Send + Sync>;

/// Counters of the world, asked for whenever somebody looks.
#[derive(Clone, Default)]
pub struct HostMetrics(Arc<OnceLock<Source>>);

impl HostMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let host = Self::default();
        registry.sub_registry_with_prefix("host").register_collector(Box::new(host.clone()));
        host
    }

    /// Shows what `source` says from now on. Only the first source counts.
    pub fn ask(&self, source: impl Fn() -> Vec<HostCounter> + Send + Sync + 'static) {
        self.0.set(Box::new(source)).ok();
    }
}

impl fmt::Debug for HostMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostMetrics").finish_non_exhaustive()
    }
}

impl Collector for HostMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for HostCounter { name, help, value } in self.0.get().map_or(Vec::new(), |ask| ask()) {
            let counter = ConstCounter::new(value);
            let described = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            counter.encode(described)?;
        }
        Ok(())
    }
}
