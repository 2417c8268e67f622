//! Who fetches what: each artifact is fetched from one peer at a time.

use std::{collections::BTreeSet, pin::Pin, sync::Arc};

use kura_core::address::Address;
use parking_lot::Mutex;
use tokio::sync::{Notify, futures::Notified};

/// Artifacts that are being fetched, from whatever peer. As many as the units that
/// all followers together have under way.
pub(crate) struct Claims {
    held: Mutex<BTreeSet<Address>>,
    released: Notify,
}

/// The right to fetch an artifact, given up on drop.
pub(crate) struct Claim {
    claims: Arc<Claims>,
    address: Address,
}

impl Claims {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { held: Mutex::default(), released: Notify::new() })
    }

    /// Claims `address`; nothing if somebody fetches it already.
    pub(crate) fn try_claim(self: &Arc<Self>, address: &Address) -> Option<Claim> {
        let is_new = self.held.lock().insert(address.clone());
        is_new.then(|| Claim { claims: self.clone(), address: address.clone() })
    }

    /// Whether somebody fetches `address`.
    pub(crate) fn is_claimed(&self, address: &Address) -> bool {
        self.held.lock().contains(address)
    }

    /// Resolves when a claim is given up, also one that is before this is waited for.
    pub(crate) fn released(&self) -> Pin<Box<Notified<'_>>> {
        let mut released = Box::pin(self.released.notified());
        released.as_mut().enable();
        released
    }

    /// Waits until nobody fetches `address`.
    pub(crate) async fn free(&self, address: &Address) {
        loop {
            // Before the look, so that nothing is missed between the two.
            let released = self.released();
            if !self.held.lock().contains(address) {
                return;
            }
            released.await;
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.held.lock().remove(&self.address);
        self.claims.released.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use kura_core::address::Space;

    use super::*;

    #[test]
    fn an_artifact_is_claimed_once_until_the_claim_is_dropped() {
        let claims = Claims::new();
        let address = Address::new("team", Space::Plain, "key").unwrap();
        let claim = claims.try_claim(&address).unwrap();
        assert!(claims.try_claim(&address).is_none() && claims.is_claimed(&address));
        drop(claim);
        assert!(!claims.is_claimed(&address));
        assert!(claims.try_claim(&address).is_some());
    }
}
