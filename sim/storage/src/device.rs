//! When an operation on the device is done. Bytes queue behind one another, reads and writes in a
//! lane of their own; latencies overlap, except those of syncs. Slow calls and stalls come on top.

use std::time::Duration;

use kura_env::Instant;

use crate::{
    config::{SimDiskConfig, Slow},
    draw::Draw,
    stall::Stillness,
};

/// The queues of the device.
pub(crate) struct Device {
    reads_done: Instant,
    writes_done: Instant,
    syncs_done: Instant,
    calls: Slowness,
    reads: Slowness,
    syncs: Slowness,
    lies: Draw,
    stillness: Stillness,
}

/// When a write returns, and when its bytes are on the device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    pub(crate) returned: Instant,
    pub(crate) on_device: Instant,
}

impl Device {
    pub(crate) fn new(config: &SimDiskConfig) -> Self {
        let slowness =
            |slow, purpose| Slowness { slow, draw: Draw::keyed(config.seed, purpose, 0) };
        Self {
            reads_done: Instant(0),
            writes_done: Instant(0),
            syncs_done: Instant(0),
            calls: slowness(config.slow_calls, "slow calls"),
            reads: slowness(config.slow_reads, "slow reads"),
            syncs: slowness(config.slow_syncs, "slow syncs"),
            lies: Draw::keyed(config.seed, "lying syncs", 0),
            stillness: Stillness::new(config),
        }
    }

    /// A call that asks what memory knows.
    pub(crate) fn question(config: &SimDiskConfig, now: Instant) -> Instant {
        now + config.op_latency
    }

    /// A call that moves no bytes.
    pub(crate) fn call(&mut self, config: &SimDiskConfig, now: Instant) -> Instant {
        now + config.op_latency + self.calls.drawn()
    }

    pub(crate) fn read(&mut self, config: &SimDiskConfig, now: Instant, bytes: u64) -> Instant {
        let took = transfer(bytes, config.read_bytes_per_second);
        self.reads_done = self.stillness.end_of(self.reads_done.max(now), took);
        self.stillness.end_of(self.reads_done, config.op_latency + self.reads.drawn())
    }

    /// Bytes go to memory and are on their way to the device at once; the writer waits only where
    /// too many are on their way.
    pub(crate) fn write(&mut self, config: &SimDiskConfig, now: Instant, bytes: u64) -> Written {
        let took = transfer(bytes, config.write_bytes_per_second);
        self.writes_done = self.stillness.end_of(self.writes_done.max(now), took);
        let slack = transfer(config.writeback_bytes_max, config.write_bytes_per_second);
        let ahead = self.stillness.work_between(now, self.writes_done);
        let returned = match ahead.saturating_sub(slack) {
            Duration::ZERO => now,
            too_much => self.stillness.end_of(now, too_much),
        };
        Written { returned: returned + config.op_latency, on_device: self.writes_done }
    }

    /// Waits for what is on its way, then flushes.
    pub(crate) fn sync(
        &mut self,
        config: &SimDiskConfig,
        now: Instant,
        on_device: Instant,
    ) -> Instant {
        let begun = self.syncs_done.max(now).max(on_device);
        let took = config.sync_latency + self.syncs.drawn();
        self.syncs_done = self.stillness.end_of(begun, took);
        self.syncs_done
    }

    /// Whether the sync that ends now only says that it kept something. Draws nothing where none does.
    pub(crate) fn lies(&mut self, config: &SimDiskConfig) -> bool {
        let millionths = config.lying_sync_millionths;
        millionths > 0 && self.lies.below(1_000_000) < millionths.into()
    }

    /// Stands still from now on until then.
    pub(crate) fn stand_still(&mut self, now: Instant, until: Instant) {
        self.stillness.stand_still(now, until);
    }

    /// The queue is gone with the machine.
    pub(crate) fn clear(&mut self) {
        (self.reads_done, self.writes_done, self.syncs_done) = Default::default();
    }
}

/// One class of calls, with the choices that are drawn for it.
struct Slowness {
    slow: Slow,
    draw: Draw,
}

impl Slowness {
    /// How much longer the next call takes. Draws nothing where no call is slow.
    fn drawn(&mut self) -> Duration {
        if self.slow.millionths == 0 || self.draw.below(1_000_000) >= self.slow.millionths.into() {
            return Duration::ZERO;
        }
        Duration::from_nanos(self.draw.below(nanos(self.slow.longer).saturating_add(1)))
    }
}

fn transfer(bytes: u64, bytes_per_second: u64) -> Duration {
    if bytes_per_second == 0 {
        return Duration::ZERO;
    }
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(bytes_per_second);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> (SimDiskConfig, Device) {
        let config = config();
        let device = Device::new(&config);
        (config, device)
    }

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
        let (config, mut device) = device();
        device.write(&config, Instant(0), 5_000);
        assert_eq!(millis(device.read(&config, Instant(0), 100)), 101);
        assert_eq!(millis(device.read(&config, Instant(0), 100)), 201);
    }

    #[test]
    fn a_write_returns_from_memory_until_too_much_is_on_its_way() {
        let (config, mut device) = device();
        let first = device.write(&config, Instant(0), 100);
        assert_eq!((millis(first.returned), millis(first.on_device)), (1, 100));
        let second = device.write(&config, Instant(0), 100);
        assert_eq!((millis(second.returned), millis(second.on_device)), (101, 200));
    }

    #[test]
    fn a_sync_waits_for_its_bytes_and_for_other_syncs() {
        let (config, mut device) = device();
        let written = device.write(&config, Instant(0), 50);
        assert_eq!(millis(device.sync(&config, Instant(0), written.on_device)), 60);
        assert_eq!(millis(device.sync(&config, Instant(0), Instant(0))), 70);
    }

    #[test]
    fn so_many_calls_are_slow_and_by_so_much() {
        let slow_syncs = Slow { millionths: 250_000, longer: Duration::from_secs(1) };
        let config = SimDiskConfig { slow_syncs, ..config() };
        let run = |seed| -> Vec<u64> {
            let mut device = Device::new(&SimDiskConfig { seed, ..config.clone() });
            let hour = |n: u64| Instant(n * 3_600_000_000_000);
            (0..1000)
                .map(|n| millis(device.sync(&config, hour(n), Instant(0))) - millis(hour(n)))
                .collect()
        };
        let took = run(1);
        let slow = took.iter().filter(|took| **took > 10).count();
        assert!((200..300).contains(&slow), "{slow} of 1000 were slow");
        assert!(took.iter().all(|took| (10..=1010).contains(took)));
        assert!(took.iter().any(|took| *took > 800), "some take nearly as long as they may");
        assert_eq!(run(1), took, "the seed decides");
        assert_ne!(run(2), took);
    }

    #[test]
    fn a_device_that_stands_still_holds_reads_and_syncs_and_no_writer() {
        let stalls =
            crate::config::Stalls { every: Duration::from_secs(10), lasts: Duration::from_secs(5) };
        let config = SimDiskConfig { stalls: Some(stalls), ..config() };
        let mut device = Device::new(&config);
        // A read of fifteen seconds of work meets one stall in each interval of ten.
        assert_eq!(millis(device.read(&config, Instant(0), 10_000)) / 1000, 20);
        let begins = (0..10_000).find(|at| {
            let mut device = Device::new(&config);
            millis(device.sync(&config, Instant(at * 1_000_000), Instant(0))) > at + 100
        });
        let within = Instant((begins.expect("there is a stall") + 1000) * 1_000_000);
        let mut device = Device::new(&config);
        let written = device.write(&config, within, 1);
        assert_eq!(written.returned.0 - within.0, 1_000_000, "it goes to memory");
        assert!(millis(written.on_device) - millis(within) >= 3_000, "and no further");
        assert_eq!(device.call(&config, within).0 - within.0, 1_000_000);
        assert!(millis(device.read(&config, within, 1)) - millis(within) >= 3_000);
    }

    #[test]
    fn a_device_that_is_told_to_stand_still_does_so_once() {
        let (config, mut device) = device();
        let at = |millis: u64| Instant(millis * 1_000_000);
        let begun = device.read(&config, at(0), 50);
        device.stand_still(at(10), at(1_000));
        assert_eq!(millis(begun), 51, "what has begun is done in its time");
        assert_eq!(millis(device.read(&config, at(20), 50)), 1_051);
        let written = device.write(&config, at(20), 50);
        assert_eq!((millis(written.returned), millis(written.on_device)), (21, 1_050));
        assert_eq!(millis(device.call(&config, at(20))), 21);
        assert_eq!(millis(device.sync(&config, at(20), at(0))), 1_010);
        assert_eq!(millis(device.read(&config, at(2_000), 50)), 2_051);
    }

    #[test]
    fn who_writes_too_much_while_it_stands_still_waits() {
        let stalls =
            crate::config::Stalls { every: Duration::from_secs(10), lasts: Duration::from_secs(5) };
        let config = SimDiskConfig { stalls: Some(stalls), ..config() };
        let mut device = Device::new(&config);
        // A hundred bytes may be on their way; each of the others takes its millisecond.
        let written = device.write(&config, Instant(0), 10_100);
        assert_eq!(millis(written.returned) / 1000, 20, "ten seconds of work and two stalls");
    }
}
