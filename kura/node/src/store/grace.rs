//! The times that promises and graces are measured by.
//!
//! Marks outlive the process, so they are wall times. Within one life they are measured by the wall
//! clock as it stood at the start, and the time that has passed since: a wall clock that is set back
//! makes no promise longer, and one that is set forward ends none early. What an earlier life wrote
//! is taken as it stands, but for marks further away than any that could be made now; so marks are
//! saved by the wall clock as it stands then.

use std::collections::BTreeMap;

use kura_core::{
    record::{Area, Flow, SegmentId},
    ring::{Member, Ring},
};
use kura_env::{Clock, Instant};

/// The wall clock of promises: never set.
#[derive(Clone, Copy, Debug)]
pub(super) struct SteadyWall {
    start_ms: u64,
    started: Instant,
}

impl SteadyWall {
    /// Goes on from the wall clock as it stands now.
    pub(super) fn starting(clock: &dyn Clock) -> Self {
        Self { start_ms: clock.wall().0, started: clock.now() }
    }

    /// In milliseconds.
    pub(super) fn now_ms(&self, now: Instant) -> u64 {
        let passed_ms = now.since(self.started).as_millis();
        self.start_ms.saturating_add(u64::try_from(passed_ms).unwrap_or(u64::MAX))
    }
}

impl SteadyWall {
    /// How far the wall clock has been set ahead since the start, in milliseconds; less than a second
    /// is none. Marks are saved so much later, because the next life begins by the wall clock.
    pub(super) fn wall_ahead_ms(&self, clock: &dyn Clock) -> i64 {
        let ahead_ms = clock.wall().0.cast_signed() - self.now_ms(clock.now()).cast_signed();
        if ahead_ms.abs() < 1_000 { 0 } else { ahead_ms }
    }
}

/// When clients wrote to each segment last.
#[derive(Default)]
pub(super) struct Graces {
    /// The segments of the rings that clients wrote to and no longer do, and when that ended, by
    /// [`SteadyWall`].
    ended_ms: BTreeMap<SegmentId, u64>,
}

impl Graces {
    /// What the rings tell of an earlier life: a segment was written to until the next one was opened
    /// for clients. Where a peer's clock was ahead of ours that may be in the future, and counts as
    /// now.
    pub(super) fn read_back(ring: &Ring, now_ms: u64) -> Self {
        let mut graces = Self::default();
        for area in [Area::Blobs, Area::Entries] {
            let mut live: Vec<Member> =
                ring.members_of(area).filter(|member| member.flow == Flow::Live).collect();
            live.sort_by_key(|member| member.id);
            for (member, later) in live.iter().zip(live.iter().skip(1)) {
                graces.ended_ms.insert(member.id, (later.age >> 16).min(now_ms));
            }
        }
        graces
    }

    /// The ring is another one: what clients no longer write to since is entered, and what has left
    /// it goes.
    pub(super) fn follow(&mut self, before: &Ring, ring: &Ring, now_ms: u64) {
        for area in [Area::Blobs, Area::Entries] {
            let newest = |ring: &Ring| ring.newest(area, Flow::Live).map(|member| member.id);
            if let Some(ended) = newest(before).filter(|id| newest(ring) != Some(*id)) {
                self.ended_ms.insert(ended, now_ms);
            }
        }
        self.ended_ms.retain(|id, _| ring.contains(*id));
    }

    /// When clients wrote to a segment last; now for the one that they write to, and 0 for one that
    /// they never wrote to.
    pub(super) fn written_ms(&self, member: &Member, now_ms: u64) -> u64 {
        match member.flow {
            Flow::CatchUp => 0,
            Flow::Live => self.ended_ms.get(&member.id).copied().unwrap_or(now_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kura_core::ring::Turn;

    use super::*;

    fn opened(ring: &Ring, flow: Flow, age_ms: u64) -> Ring {
        let turn = Turn { area: Area::Blobs, flow, next_sequence: 1, age: age_ms << 16 };
        ring.rotated(turn, 10, |_| false).unwrap().0
    }

    #[test]
    fn only_time_that_passes_moves_the_clock_of_promises() {
        let wall = SteadyWall { start_ms: 5_000, started: Instant::default() };
        assert_eq!(wall.now_ms(Instant::default()), 5_000);
        assert_eq!(wall.now_ms(Instant::default() + Duration::from_millis(1_500)), 6_500);
    }

    #[test]
    fn a_segment_is_fresh_until_the_next_one_and_never_from_the_future() {
        let one = opened(&Ring::default(), Flow::Live, 100);
        let caught_up = opened(&one, Flow::CatchUp, 50);
        let two = opened(&caught_up, Flow::Live, 200);
        let three = opened(&two, Flow::Live, 90_000);
        let written = |graces: &Graces, now_ms| {
            let members = three.members_of(Area::Blobs);
            members.map(|member| graces.written_ms(&member, now_ms)).collect::<Vec<_>>()
        };
        // By age: what was caught up with, and the three of clients.
        let read_back = Graces::read_back(&three, 1_000);
        assert_eq!(written(&read_back, 1_000), [0, 200, 1_000, 1_000]);
        assert_eq!(written(&read_back, 9_000), [0, 200, 1_000, 9_000], "from then on it ages");

        let mut graces = Graces::default();
        graces.follow(&one, &caught_up, 10);
        assert_eq!(graces.ended_ms.len(), 0, "what is caught up with ends no other");
        graces.follow(&caught_up, &two, 20);
        graces.follow(&two, &three, 30);
        assert_eq!(written(&graces, 40), [0, 20, 30, 40]);
        graces.follow(&three, &Ring::default(), 50);
        assert_eq!(graces.ended_ms.len(), 0, "what has left the ring is not kept");
    }
}
