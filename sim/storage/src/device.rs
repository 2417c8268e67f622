//! When an operation on the device is done. Bytes queue behind one another, reads and writes in a
//! lane of their own; latencies overlap, except those of syncs.

use std::time::Duration;

use kura_env::Instant;

use crate::config::SimDiskConfig;

/// The queues of the device.
#[derive(Default)]
pub(crate) struct Device {
    reads_done: Instant,
    writes_done: Instant,
    syncs_done: Instant,
}

/// When a write returns, and when its bytes are on the device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    pub(crate) returned: Instant,
    pub(crate) on_device: Instant,
}

impl Device {
    /// A call that moves no bytes.
    pub(crate) fn call(config: &SimDiskConfig, now: Instant) -> Instant {
        now + config.op_latency
    }

    pub(crate) fn read(&mut self, config: &SimDiskConfig, now: Instant, bytes: u64) -> Instant {
        let took = transfer(bytes, config.read_bytes_per_second);
        self.reads_done = self.reads_done.max(now) + took;
        self.reads_done + config.op_latency
    }

    /// Bytes go to memory and are on their way to the device at once; the writer waits only where
    /// too many are on their way.
    pub(crate) fn write(&mut self, config: &SimDiskConfig, now: Instant, bytes: u64) -> Written {
        let took = transfer(bytes, config.write_bytes_per_second);
        self.writes_done = self.writes_done.max(now) + took;
        let slack = transfer(config.writeback_bytes_max, config.write_bytes_per_second);
        let throttled = self.writes_done.0.saturating_sub(nanos(slack));
        let returned = Instant(throttled).max(now) + config.op_latency;
        Written { returned, on_device: self.writes_done }
    }

    /// Waits for what is on its way, then flushes.
    pub(crate) fn sync(
        &mut self,
        config: &SimDiskConfig,
        now: Instant,
        on_device: Instant,
    ) -> Instant {
        self.syncs_done = self.syncs_done.max(now).max(on_device) + config.sync_latency;
        self.syncs_done
    }

    /// The queue is gone with the machine.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

fn transfer(bytes: u64, bytes_per_second: u64) -> Duration {
    if bytes_per_second == 0 {
        return Duration::ZERO;
    }
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(bytes_per_second);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> SimDiskConfig {
        SimDiskConfig {
            read_bytes_per_second: 1_000,
            write_bytes_per_second: 1_000,
            op_latency: Duration::from_millis(1),
            sync_latency: Duration::from_millis(10),
            writeback_bytes_max: 100,
            ..SimDiskConfig::default()
        }
    }

    fn millis(instant: Instant) -> u64 {
        instant.0 / 1_000_000
    }

    #[test]
    fn reads_queue_behind_each_other_and_not_behind_writes() {
        let (config, mut device) = (config(), Device::default());
        device.write(&config, Instant(0), 5_000);
        assert_eq!(millis(device.read(&config, Instant(0), 100)), 101);
        assert_eq!(millis(device.read(&config, Instant(0), 100)), 201);
    }

    #[test]
    fn a_write_returns_from_memory_until_too_much_is_on_its_way() {
        let (config, mut device) = (config(), Device::default());
        let first = device.write(&config, Instant(0), 100);
        assert_eq!((millis(first.returned), millis(first.on_device)), (1, 100));
        let second = device.write(&config, Instant(0), 100);
        assert_eq!((millis(second.returned), millis(second.on_device)), (101, 200));
    }

    #[test]
    fn a_sync_waits_for_its_bytes_and_for_other_syncs() {
        let (config, mut device) = (config(), Device::default());
        let written = device.write(&config, Instant(0), 50);
        assert_eq!(millis(device.sync(&config, Instant(0), written.on_device)), 60);
        assert_eq!(millis(device.sync(&config, Instant(0), Instant(0))), 70);
    }
}
