//! A load balancer as clients of one group have it: it asks every node whether it is primary, and sends them there.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use kura_env::timeout;
use parking_lot::Mutex;

use super::{
    actor::Target,
    connection::{Connection, Failure, Place},
};

/// How often each node is asked.
const EVERY: Duration = Duration::from_secs(1);
/// How long an answer may take.
const WAIT: Duration = Duration::from_secs(1);

/// Which of some nodes answers that it is primary.
pub struct Balancer {
    place: Place,
    targets: Vec<Target>,
    /// The one that requests go to.
    chosen: Mutex<Target>,
}

impl Balancer {
    /// One that sends everything to the first of `targets` until one says that it is primary; nothing without any.
    #[must_use]
    pub fn new(place: Place, targets: Vec<Target>) -> Option<Arc<Self>> {
        let first = *targets.first()?;
        Some(Arc::new(Self { place, targets, chosen: Mutex::new(first) }))
    }

    /// Where requests go now. Who was primary last is asked while nobody is.
    #[must_use]
    pub fn target(&self) -> Target {
        *self.chosen.lock()
    }

    /// Looks who is primary, until it is dropped.
    pub async fn run(self: Arc<Self>) {
        let clock = self.place.clock.clone();
        loop {
            let began = clock.now();
            let said = join_all(self.targets.iter().map(|target| self.is_primary(*target))).await;
            let primaries = || self.targets.iter().zip(&said).filter(|(_, is_it)| **is_it);
            let stays = primaries().any(|(target, _)| target.node == self.target().node);
            if let Some((target, _)) = primaries().next()
                && !stays
            {
                *self.chosen.lock() = *target;
            }
            clock.sleep_until((began + EVERY).max(clock.now())).await;
        }
    }

    async fn is_primary(&self, target: Target) -> bool {
        let asking = async {
            let mut connection = Connection::open(&self.place, target.addr).await?;
            Ok::<_, Failure>(connection.text("/primary").await?.0)
        };
        matches!(timeout(&*self.place.clock, WAIT, asking).await, Ok(Ok(200)))
    }
}
