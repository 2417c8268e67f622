//! Requests for bodies that may be under way: a few to each peer, whatever becomes of those to others, and beyond those as many to
//! all of them together.

use std::{pin::pin, sync::Arc};

use futures_util::future::{Either, select};
use kura_core::limits::{FETCHES_OF_ALL_MAX, FETCHES_OWN};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Those to one peer.
pub(crate) struct Requests {
    own: Semaphore,
    of_all: Arc<Semaphore>,
}

impl Requests {
    /// What is left to all peers beyond what each has for itself.
    pub(crate) fn of_all() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(FETCHES_OF_ALL_MAX))
    }

    /// Those to a peer that shares `of_all` with others.
    pub(crate) fn to_peer(of_all: Arc<Semaphore>) -> Self {
        Self { own: Semaphore::new(FETCHES_OWN), of_all }
    }

    /// One, that waits for no other.
    pub(crate) fn alone() -> Self {
        Self { own: Semaphore::new(1), of_all: Arc::new(Semaphore::new(0)) }
    }

    /// Waits until one more may be under way, which it is until what is returned is dropped; one of the peer's own first.
    pub(crate) async fn begin(&self) -> Option<SemaphorePermit<'_>> {
        let (own, of_all) = (pin!(self.own.acquire()), pin!(self.of_all.acquire()));
        match select(own, of_all).await {
            Either::Left((permit, _)) | Either::Right((permit, _)) => permit.ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn who_has_all_others_leaves_each_peer_its_own() {
        let of_all = Requests::of_all();
        let [slow, slower, quick] = [(); 3].map(|()| Requests::to_peer(of_all.clone()));
        let take = |peer: &Requests, count: usize| {
            let taken = (0..count).map_while(|_| peer.begin().now_or_never());
            taken.map(|permit| std::mem::forget(permit.unwrap())).count()
        };
        assert_eq!(take(&slow, 16) + take(&slower, 99), FETCHES_OF_ALL_MAX + 2 * FETCHES_OWN);
        assert_eq!(take(&quick, 99), FETCHES_OWN);
        let first = Requests::to_peer(of_all);
        let permit = first.begin().now_or_never().unwrap();
        assert_eq!(take(&first, 99), FETCHES_OWN - 1);
        drop(permit);
        assert_eq!(take(&first, 99), 1, "what ends makes room");
    }
}
