//! A clean stop and a start change nothing that anybody can see of a node that is left alone.
//!
//! What is compared is made exact by when it is looked at, so that nothing has to be allowed for. Nobody
//! talks to the node, it has no peers, nothing else fills its disk, and no fault strikes. Reads copy
//! forward what is old, and that turns the ring; so everything is read once, the node comes to rest, and
//! then what it holds is taken down: which artifact in which version and place, and which segments are
//! old, middle and young. The same is taken down after the start, once the node is at rest again and
//! before anybody reads. Promises and grace that end meanwhile change nothing by themselves: they only
//! let go what some later write needs room for.
//!
//! Of the pool the objects are compared that lie there.
//!
//! Then everything is read once more. Those reads may turn the ring as well, so a miss is excused where
//! the segment, in which the artifact lay when the start was over, has left the ring since. That cannot
//! hide a loss at the start, because the places were compared before.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kura_core::{
    place::{Place, is_mark_in_places},
    record::{Area, SegmentId},
    ring::Generations,
};

use super::{Invariant, Violation};
use crate::{body::BodyId, holdings, image::Image};

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "restart_is_neutral",
    demands: "a clean stop ends within `drain_timeout`, and the start after it changes no answer, no \
              place, no number that the node tells of its rings, and not which segments are old, middle \
              and young",
    checked: "at every `restart` of a phase, for every key that anything was put to",
};

/// The segments of a ring by generation, each the eldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// Next to be evicted.
    pub old: Vec<SegmentId>,
    /// Between.
    pub middle: Vec<SegmentId>,
    /// Written last.
    pub young: Vec<SegmentId>,
}

/// What a node is to those who look at it while it is at rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// Where what it holds lies, by the path of the URL; what lies outside of rings and pool is a miss.
    pub places: BTreeMap<String, Place>,
    /// How its rings are split, by name.
    pub splits: BTreeMap<&'static str, Split>,
    /// The files of its pool. They are not compared.
    pub objects: BTreeSet<SegmentId>,
    /// What it says itself of its rings.
    pub told: serde_json::Value,
}

/// What a node answered to a GET of each path: which body, or a miss.
pub type Answers = BTreeMap<String, Option<BodyId>>;

/// How much was compared in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restarts {
    /// Clean stops and starts.
    pub restarts: u64,
    /// Those with segments in each generation of the ring of bodies.
    pub with_all_generations: u64,
    /// Answers that were the same body.
    pub hits: u64,
    /// Answers that were a miss both times.
    pub misses: u64,
}

impl Sight {
    /// Looks at what lies on a disk and in its catalog, and at what the node says of it.
    #[must_use]
    pub fn of(image: &Image<'_>, told: serde_json::Value) -> Self {
        let ring = image.ring().unwrap_or_default();
        let split = |area: Area| {
            let mut ids = ring.members_of(area).map(|member| member.id);
            let Generations { old, middle, .. } = ring.generations(area);
            let old = ids.by_ref().take(old).collect();
            let middle = ids.by_ref().take(middle).collect();
            Split { old, middle, young: ids.collect() }
        };
        let objects = image.below(Area::Pool.dir());
        let mut sight = Self {
            places: BTreeMap::new(),
            splits: [Area::Blobs, Area::Entries].map(|area| (area.dir(), split(area))).into(),
            objects: objects.filter_map(|(path, _)| object(path)).collect(),
            told,
        };
        let places = image.places.iter().filter_map(place);
        sight.places = places.filter(|(_, place)| sight.has(place.segment)).collect();
        sight
    }

    /// Whether a segment or an object is there.
    #[must_use]
    pub fn has(&self, id: SegmentId) -> bool {
        let in_split = |split: &Split| {
            [&split.old, &split.middle, &split.young].into_iter().any(|ids| ids.contains(&id))
        };
        match id.area() {
            Area::Pool => self.objects.contains(&id),
            Area::Blobs | Area::Entries => self.splits.values().any(in_split),
        }
    }

    /// Whether each generation of the ring of bodies has segments.
    #[must_use]
    pub fn has_all_generations(&self) -> bool {
        let is_filled = |it: &Split| {
            [&it.old, &it.middle, &it.young].into_iter().all(|segments| !segments.is_empty())
        };
        self.splits.get(Area::Blobs.dir()).is_some_and(is_filled)
    }
}

fn object(path: &str) -> Option<SegmentId> {
    let (_, name) = path.rsplit_once('/')?;
    SegmentId::from_file_name(Area::Pool, name)
}

fn place((key, row): &(Bytes, Bytes)) -> Option<(String, Place)> {
    if is_mark_in_places(key) {
        return None;
    }
    Some((holdings::path(key)?, Place::decode(row)?))
}

/// Judges what a node is after a start, by what it was before the stop.
///
/// # Errors
///
/// If anything differs.
pub fn check(node: &str, before: &Sight, after: &Sight) -> Result<(), Violation> {
    let violated = |why: String| Err(INVARIANT.violated(format!("{node}: {why}")));
    for (ring, was) in &before.splits {
        let is = after.splits.get(ring).cloned().unwrap_or_default();
        if *was != is {
            return violated(format!("{ring} was split {was:?}, and is {is:?} after a restart"));
        }
    }
    for path in before.places.keys().chain(after.places.keys()) {
        let (was, is) = (before.places.get(path), after.places.get(path));
        if was != is {
            return violated(format!("{path} lay at {was:?}, and lies at {is:?} after a restart"));
        }
    }
    if before.objects != after.objects {
        let (was, is) = (&before.objects, &after.objects);
        return violated(format!("the pool held {was:?}, and holds {is:?} after a restart"));
    }
    if before.told != after.told {
        let (was, is) = (&before.told, &after.told);
        return violated(format!("it said {was} of its rings, and says {is} after a restart"));
    }
    Ok(())
}

/// Judges the answers after a start, `asked`, by those before the stop. `found` is what the node was
/// when the start was over, `left` what it is now that everything was asked.
///
/// # Errors
///
/// If an answer differs, and that is not because what it was has left the ring since the start.
pub fn check_answers(
    node: &str,
    (before, asked): (&Answers, &Answers),
    (found, left): (&Sight, &Sight),
    counted: &mut Restarts,
) -> Result<(), Violation> {
    for (path, was) in before {
        let place = found.places.get(path);
        if was.is_some() && place.is_none() {
            continue; // It was evicted while everything was read before the stop.
        }
        let Some(is) = asked.get(path) else {
            return Err(
                INVARIANT.violated(format!("{node}: GET {path}: no answer after a restart"))
            );
        };
        let has_left = place.is_some_and(|place| !left.has(place.segment));
        if is.is_none() && has_left {
            continue;
        }
        if was != is {
            return Err(INVARIANT.violated(format!(
                "{node}: GET {path} was answered with {was:?}, and with {is:?} after a restart"
            )));
        }
        counted.hits += u64::from(was.is_some());
        counted.misses += u64::from(was.is_none());
    }
    Ok(())
}

/// Judges a run with phases that restart nodes, in which clients were acknowledged something.
///
/// # Errors
///
/// If nothing was ever compared, or never a ring with old, middle and young segments.
pub fn check_compared(restarts: Restarts) -> Result<(), Violation> {
    let Restarts { restarts: count, with_all_generations, hits, .. } = restarts;
    if count > 0 && with_all_generations > 0 && hits > 0 {
        return Ok(());
    }
    Err(INVARIANT.violated(format!("nothing was compared: {restarts:?}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::image::sample::Sample;

    fn sight() -> Sight {
        Sight::of(&Sample::sound().image(), json!({ "segments": 1 }))
    }

    #[test]
    fn what_is_in_the_ring_is_seen() {
        let sight = sight();
        assert_eq!(sight.places.keys().collect::<Vec<_>>(), ["/ns/key"]);
        assert_eq!(sight.splits["blobs"].young.len(), 1);
        assert!(sight.has(sight.places["/ns/key"].segment) && !sight.has_all_generations());
        let mut sample = Sample::sound();
        sample.files.remove("RING");
        let sight = Sight::of(&sample.image(), json!(null));
        assert!(sight.places.is_empty(), "a reference that leads out of the ring");
    }

    #[test]
    fn whatever_differs_is_reported() {
        let before = sight();
        assert!(check("n", &before, &before.clone()).is_ok());
        let differs = |change: &dyn Fn(&mut Sight)| {
            let mut after = before.clone();
            change(&mut after);
            check("n", &before, &after).is_err() && check("n", &after, &before).is_err()
        };
        assert!(differs(&|it| it.places.clear()));
        assert!(differs(&|it| {
            it.objects.insert(SegmentId::new(Area::Pool, 99));
        }));
        assert!(differs(&|it| it.told = json!({ "segments": 2 })));
        assert!(differs(&|it| {
            let split = it.splits.get_mut("blobs").unwrap();
            split.old.append(&mut split.young);
        }));
        assert!(differs(&|it| it.places.get_mut("/ns/key").unwrap().version.time += 1));
    }

    #[test]
    fn another_answer_is_reported_unless_its_segment_left_after_the_start() {
        let found = sight();
        let answers = |body: Option<u64>| Answers::from([("/ns/key".to_owned(), body.map(BodyId))]);
        let mut counted = Restarts::default();
        let mut judge = |was, is, left: &Sight| {
            let asked = (&answers(was), &answers(is));
            check_answers("n", asked, (&found, left), &mut counted).is_ok()
        };
        assert!(judge(Some(1), Some(1), &found));
        assert!(!judge(Some(1), Some(2), &found), "another body");
        assert!(!judge(Some(1), None, &found), "a miss");
        assert!(!judge(None, Some(1), &found), "it was a miss before");
        assert!(judge(Some(1), None, &Sight::default()), "evicted by what was read");
        assert_eq!((counted.hits, counted.misses), (1, 0));
        let none = Answers::new();
        let unasked = (&answers(Some(1)), &none);
        assert!(check_answers("n", unasked, (&found, &found), &mut counted).is_err());
    }

    #[test]
    fn a_run_that_compared_nothing_is_reported() {
        let some =
            Restarts { restarts: 1, with_all_generations: 1, hits: 1, ..Restarts::default() };
        assert!(check_compared(some).is_ok());
        assert!(check_compared(Restarts { hits: 0, ..some }).is_err());
        assert!(check_compared(Restarts { restarts: 0, ..some }).is_err());
        assert!(check_compared(Restarts { with_all_generations: 0, ..some }).is_err());
    }
}
