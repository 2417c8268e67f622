//! When the device stands still. Each interval of time has one stall in it, whose moment follows from
//! the seed and the number of the interval alone.

use std::time::Duration;

use kura_env::Instant;

use crate::{config::SimDiskConfig, device::nanos, draw::Draw};

/// The stalls of a device.
pub(crate) struct Stillness {
    seed: u64,
    /// Nanoseconds of an interval; 0: the device never stands still.
    every: u64,
    lasts: u64,
    /// The interval that was asked for last, and when its stall begins.
    last: (u64, u64),
    /// From when to when it stands still beside that, told from outside.
    once: (u64, u64),
}

impl Stillness {
    /// # Panics
    ///
    /// If stalls last longer than half of their interval.
    pub(crate) fn new(config: &SimDiskConfig) -> Self {
        let (every, lasts) = config.stalls.map_or((0, 0), |s| (nanos(s.every), nanos(s.lasts)));
        assert!(lasts <= every / 2, "a device that stands still for most of the time");
        let mut stillness = Self { seed: config.seed, every, lasts, last: (0, 0), once: (0, 0) };
        stillness.last = (0, stillness.drawn(0));
        stillness
    }

    /// Stands still from now on until then. What has begun is done in its time.
    pub(crate) fn stand_still(&mut self, now: Instant, until: Instant) {
        self.once = (now.0, until.0.max(self.once.1));
    }

    /// When work can begin at `from` at the earliest.
    fn moves_from(&self, from: Instant) -> Instant {
        let (begins, ends) = self.once;
        if (begins..ends).contains(&from.0) { Instant(ends) } else { from }
    }

    /// When work is done that begins at `from` at the earliest and takes so long.
    pub(crate) fn end_of(&mut self, from: Instant, took: Duration) -> Instant {
        let from = self.moves_from(from);
        let mut end = from.0.saturating_add(nanos(took));
        if self.every == 0 || self.lasts == 0 {
            return Instant(end);
        }
        let mut interval = from.0 / self.every;
        loop {
            let begins = self.begins(interval);
            let ends = begins.saturating_add(self.lasts);
            if begins >= end.max(from.0 + 1) {
                return Instant(end);
            }
            // What had begun goes on where it was; what had not waits for the end.
            end = end.saturating_add(ends.saturating_sub(begins.max(from.0)));
            interval += 1;
        }
    }

    /// How much of this time the device could work.
    pub(crate) fn work_between(&mut self, from: Instant, to: Instant) -> Duration {
        let from = self.moves_from(from);
        let mut work = to.0.saturating_sub(from.0);
        if self.every > 0 && self.lasts > 0 && work > 0 {
            for interval in from.0 / self.every..=to.0 / self.every {
                let begins = self.begins(interval);
                let ends = begins.saturating_add(self.lasts).min(to.0);
                work -= ends.saturating_sub(begins.max(from.0));
            }
        }
        Duration::from_nanos(work)
    }

    fn begins(&mut self, interval: u64) -> u64 {
        if self.last.0 != interval {
            self.last = (interval, self.drawn(interval));
        }
        self.last.1
    }

    fn drawn(&self, interval: u64) -> u64 {
        let mut draw = Draw::keyed(self.seed, "stall", interval);
        interval.saturating_mul(self.every).saturating_add(draw.below(self.every - self.lasts + 1))
    }
}
