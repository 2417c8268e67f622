//! Others on the same file system: how much of it they want at any time. A function of time and seed
//! alone, so that nothing has to happen for them to come and go.

use std::time::Duration;

use kura_env::Instant;

use crate::{device::nanos, draw::Draw};

/// Somebody else who holds space of the file system.
///
/// Gets what it wants as far as there is room, and what was missing as soon as there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoTenant {
    /// What it holds at the most.
    pub bytes: u64,
    /// When it begins to take space.
    pub begins: Duration,
    /// When it gives all of it back, counted from `begins`. `None`: never.
    pub lasts: Option<Duration>,
    /// How it takes and gives.
    pub shape: TenantShape,
    /// The key of its random choices.
    pub seed: u64,
}

/// How a co-tenant takes and gives back space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TenantShape {
    /// All at once.
    Step,
    /// Evenly, until it holds everything so long after it began; gives back all at once.
    Ramp(Duration),
    /// Another drawn amount, from nothing to everything, each time that so much has passed.
    Noise(Duration),
}

impl CoTenant {
    /// How much it wants to hold at this time.
    #[must_use]
    pub fn wants_bytes(&self, now: Instant) -> u64 {
        let Some(since) = now.0.checked_sub(nanos(self.begins)) else { return 0 };
        if self.lasts.is_some_and(|lasts| since >= nanos(lasts)) {
            return 0;
        }
        match self.shape {
            TenantShape::Step => self.bytes,
            TenantShape::Ramp(over) => {
                let over = u128::from(nanos(over).max(1));
                let share = u128::from(since).min(over);
                u64::try_from(u128::from(self.bytes) * share / over).unwrap_or(self.bytes)
            }
            TenantShape::Noise(every) => {
                let interval = since / nanos(every).max(1);
                Draw::keyed(self.seed, "co-tenant", interval).below(self.bytes.saturating_add(1))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(shape: TenantShape) -> CoTenant {
        let seconds = Duration::from_secs;
        CoTenant { bytes: 1000, begins: seconds(10), lasts: Some(seconds(20)), shape, seed: 1 }
    }

    fn at(tenant: &CoTenant, seconds: u64) -> u64 {
        tenant.wants_bytes(Instant(seconds * 1_000_000_000))
    }

    #[test]
    fn a_step_is_there_all_at_once_and_gone_all_at_once() {
        let tenant = tenant(TenantShape::Step);
        let told = [0, 9, 10, 29, 30, 99].map(|seconds| at(&tenant, seconds));
        assert_eq!(told, [0, 0, 1000, 1000, 0, 0]);
        let stays = CoTenant { lasts: None, ..tenant };
        assert_eq!(at(&stays, 1 << 30), 1000);
    }

    #[test]
    fn a_ramp_rises_evenly_and_holds() {
        let tenant = tenant(TenantShape::Ramp(Duration::from_secs(10)));
        let told = [9, 10, 11, 15, 19, 20, 29, 30].map(|seconds| at(&tenant, seconds));
        assert_eq!(told, [0, 0, 100, 500, 900, 1000, 1000, 0]);
    }

    #[test]
    fn noise_takes_another_amount_each_time_and_the_seed_decides() {
        let tenant = CoTenant { lasts: None, ..tenant(TenantShape::Noise(Duration::from_secs(2))) };
        let told: Vec<u64> = (10..1010).map(|seconds| at(&tenant, seconds)).collect();
        assert!(told.chunks(2).all(|pair| pair[0] == pair[1]), "it stays for its interval");
        assert!(told.iter().all(|bytes| *bytes <= 1000));
        assert!(told.iter().any(|bytes| *bytes > 950) && told.iter().any(|bytes| *bytes < 50));
        let other = CoTenant { seed: 2, ..tenant };
        assert_ne!(told, (10..1010).map(|seconds| at(&other, seconds)).collect::<Vec<_>>());
    }
}
