//! Forgetting what cannot be read any more: it is a miss from then on, and asked from the peers.

use kura_core::{
    address::Address,
    feed::FeedRow,
    place::{Place, place_key},
    record::Area,
};
use kura_env::Batch;

use super::{PLACES_SPACE, appender::Appender, versions::Known};

impl Appender {
    /// Removes the reference of `address` to `place`, if it still stands. A large object goes with it:
    /// it would keep the room that its repair needs.
    pub(super) async fn forget(&mut self, address: &Address, place: Place) {
        let key = place_key(address);
        let row = self.env.catalog.get(PLACES_SPACE, &key).await;
        let stands = matches!(row, Ok(Some(row)) if Place::decode(&row) == Some(place));
        if !stands {
            return;
        }
        let mut batch = Batch::default();
        batch.delete(PLACES_SPACE, key.clone());
        let known = Known::from([(key.into(), Some(place))]);
        if let Err(refusal) = self.commit(batch, &known).await {
            tracing::warn!(%refusal, "a reference that leads to nothing could not be removed");
            return;
        }
        self.metrics.store.forgotten.inc();
        // What was evicted meanwhile is not wanted back.
        if self.view.segment(place.segment).is_none() {
            return;
        }
        let Place { version, body_bytes, digest, segment, .. } = place;
        let row = FeedRow { address: address.clone(), version, body_bytes, digest };
        if !self.losses.add(row) {
            self.metrics.store.losses_given_up.inc();
        }
        if segment.area() == Area::Pool
            && let Err(refusal) = self.remove_object(segment).await
        {
            tracing::warn!(%segment, %refusal, "cleared up later");
        }
    }
}
