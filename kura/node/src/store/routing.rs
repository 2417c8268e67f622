//! Where a record goes: to a ring, for clients' writes or for what is caught up with, or to the pool.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use kura_core::{
    address::Space,
    capacity::RingCapacity,
    record::{Area, Flow},
};

use super::{
    appender::Appender,
    command::{Origin, Publish},
};

/// Where a record goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Route {
    /// To the open segment of a ring.
    Log(Area, Flow),
    /// To a file of its own.
    Pool,
}

/// What the way of a record depends on.
#[derive(Clone, Copy, Debug)]
struct Traits {
    area: Area,
    record_bytes: u64,
    /// The hybrid logical time of a body from a peer that takes nothing's place.
    new_since: Option<u64>,
}

/// Decides. `live_age` is the age of the segment that clients write to.
fn route(record: Traits, ring: RingCapacity, live_age: u64) -> Route {
    if record.record_bytes > ring.record_bytes_max() {
        return Route::Pool;
    }
    match record.new_since {
        // What takes the place of something here goes to the live segment, so that of two records
        // of one name the later one is the newer.
        Some(time) if time < live_age => Route::Log(record.area, Flow::CatchUp),
        Some(_) | None => Route::Log(record.area, Flow::Live),
    }
}

/// The ring for entries of this kind.
pub(super) fn area_of(space: Space) -> Area {
    match space {
        Space::Plain | Space::Cas => Area::Blobs,
        Space::Ac => Area::Entries,
    }
}

impl Appender {
    /// Takes from the front of `group` up to the second record of one name, by where they go. What is
    /// left for another time is not the first of its name: what it replaces is looked up again.
    pub(super) async fn route_all(
        &self,
        group: &mut VecDeque<Box<Publish>>,
        is_first: bool,
    ) -> BTreeMap<Route, VecDeque<Box<Publish>>> {
        let mut names = BTreeSet::new();
        let mut routed: BTreeMap<Route, VecDeque<Box<Publish>>> = BTreeMap::new();
        while let Some(mut publish) = group.pop_front() {
            // What goes to different places is indexed in another order than it came in, which must
            // not show.
            if !names.insert(publish.address.clone()) {
                group.push_front(publish);
                break;
            }
            if !is_first {
                publish.replaces = match self.current(&publish.address).await {
                    Ok(replaced) => replaced,
                    Err(refusal) => {
                        publish.reply.send(Err(refusal)).ok();
                        continue;
                    }
                };
            }
            let area = area_of(publish.address.space());
            let new_since = match publish.origin {
                // What was here, and was lost, is no news, however old it is.
                Origin::Peer(version) if self.losses.holds(&publish.address, version) => None,
                Origin::Peer(version) => publish.replaces.is_none().then_some(version.time),
                Origin::Client | Origin::Copied { .. } => None,
            };
            let record = Traits { area, record_bytes: publish.record_bytes(), new_since };
            let route = route(record, self.ring_capacity(area), self.live_age(area));
            routed.entry(route).or_default().push_back(publish);
        }
        routed
    }

    /// The age of what clients write now.
    fn live_age(&self, area: Area) -> u64 {
        self.ring.newest(area, Flow::Live).map_or(self.born, |member| member.age)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_records_go_to_the_pool_and_old_news_apart() {
        let ring = RingCapacity { segments_max: 5, segment_bytes: 800 };
        let way = |record_bytes, new_since| {
            route(Traits { area: Area::Blobs, record_bytes, new_since }, ring, 1000)
        };
        assert_eq!(way(100, None), Route::Log(Area::Blobs, Flow::Live));
        assert_eq!(way(101, None), Route::Pool);
        assert_eq!(way(101, Some(1)), Route::Pool);
        assert_eq!(way(100, Some(999)), Route::Log(Area::Blobs, Flow::CatchUp));
        assert_eq!(way(100, Some(1000)), Route::Log(Area::Blobs, Flow::Live));
    }
}
