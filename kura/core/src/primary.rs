//! Which node of a region takes public traffic: decided by each for itself, from what the others last said.
//!
//! There is no vote. All order the same candidates in the same way, so that there is one primary while what they see agrees,
//! and none or two for a moment after it changed; one on each side of a partition.
//!
//! 1. who is in step with its peers *now*; with nobody at it yet, those of [`Rules::min_age`] and more before younger ones
//! 2. who was, by how long ago, and who is away from its peers no longer than twice as long counts the same
//! 3. who never was since its start, the fuller one by doubling
//! 4. who is about to stop
//!
//! Among equals it is who has been it for longest, by doubling, and then the one of the lowest number. So one that is fit stays, and
//! traffic does not move because somebody else has become fit as well, or came to take itself for the only one.

use std::time::Duration;

use crate::feed::Cursor;

/// How often nodes of a region say how they are. Longer: one that dies is missed later. Shorter: more requests while nothing
/// happens.
pub const PULSE_EVERY: Duration = Duration::from_secs(1);
/// How long a pulse is waited for, and stands for its node. Longer: a dead primary keeps the place. Shorter: one that is busy for a
/// moment loses it.
pub const PULSE_STANDS_FOR: Duration = Duration::from_secs(3);
/// For how long who is no longer the fittest stays primary until the fitter one says that it is: two are better than none.
pub const HANDS_OVER_FOR: Duration = Duration::from_secs(3);

/// Settings of the decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// From which age on a node is preferred where nobody is primary. Too low: one that just started takes the traffic of those
    /// whose caches are warm. Too high: after a start of all of them it makes no difference.
    pub min_age: Duration,
    /// For how long a node may lack what a peer of its region had, and is in step; for who is primary twice as long. Too low:
    /// a burst of writes moves the primary. Too high: it misses what was built meanwhile.
    pub lag_max: Duration,
}

/// A node that could be primary, as it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which. No other has this number.
    pub node: u64,
    /// Whether it answers reads and takes writes.
    pub is_serviceable: bool,
    /// Whether it is about to stop.
    pub is_leaving: bool,
    /// For how long it has run.
    pub age: Duration,
    /// Since when it lacks something that a peer of its region has; none: it never was in step since its start.
    pub lag: Option<Duration>,
    /// Bytes that it stores.
    pub bytes: u64,
    /// For how long it has been primary, as far as it knows.
    pub primary_for: Option<Duration>,
}

/// How fit a node is; the least is the fittest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fitness {
    /// In step, and primary or old enough.
    Warm,
    /// In step, and young.
    Young,
    /// It was in step: the logarithm of how many seconds ago.
    Behind(u32),
    /// It never was: sixty-four less the logarithm of what it stores.
    Cold(u32),
    /// About to stop.
    Leaving,
}

/// How candidates are compared.
#[derive(Clone, Copy)]
struct Order {
    rules: Rules,
    /// Whether one of them at the most says that it is primary.
    is_clear: bool,
}

impl Candidate {
    /// Whether it says that it is primary.
    #[must_use]
    pub fn is_primary(&self) -> bool {
        self.primary_for.is_some()
    }

    fn fitness(&self, Order { rules, is_clear }: Order) -> Fitness {
        let tolerance = if self.is_primary() { 2 } else { 1 };
        // Its age was looked at when it became primary, unless it heard of nobody else then.
        let is_old = self.age >= rules.min_age || self.is_primary() && is_clear;
        match self.lag {
            _ if self.is_leaving => Fitness::Leaving,
            Some(lag) if lag <= rules.lag_max.saturating_mul(tolerance) => match is_old {
                true => Fitness::Warm,
                false => Fitness::Young,
            },
            Some(lag) => Fitness::Behind(lag.as_secs().checked_ilog2().unwrap_or(0)),
            None => Fitness::Cold(u64::BITS - self.bytes.checked_ilog2().unwrap_or(0)),
        }
    }

    /// Before whom others stand back: the least.
    fn rank(&self, order: Order) -> (Fitness, u32, u64) {
        let held =
            self.primary_for.map(|time| time.as_secs().checked_ilog2().map_or(1, |it| it + 2));
        (self.fitness(order), u64::BITS + 2 - held.unwrap_or(0), self.node)
    }
}

/// Whether a node is primary, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it is.
    pub is_primary: bool,
    /// Who is fitter, if anybody.
    pub fitter: Option<u64>,
    /// In words.
    pub why: String,
}

/// Decides whether `me` is primary, among `others` of its region that it heard of in [`PULSE_STANDS_FOR`]. `refused_for` is how
/// long somebody fitter has been there already.
#[must_use]
pub fn decide(
    me: &Candidate,
    others: &[Candidate],
    rules: Rules,
    refused_for: Duration,
) -> Verdict {
    let others = || others.iter().filter(|other| other.is_serviceable && other.node != me.node);
    let claims = others().filter(|other| other.is_primary()).count();
    let mine = usize::from(me.is_serviceable && me.is_primary());
    let order = Order { rules, is_clear: claims + mine < 2 };
    let fittest = others().min_by_key(|other| other.rank(order));
    let fitter = fittest.filter(|other| !me.is_serviceable || other.rank(order) < me.rank(order));
    let (is_primary, why) = match fitter {
        _ if !me.is_serviceable => (false, "it does not serve".to_owned()),
        None if me.is_leaving => (true, "about to stop, and nobody else is there".to_owned()),
        None => (true, format!("the fittest of {} that serve", 1 + others().count())),
        Some(other) if me.is_primary() && !other.is_primary() && refused_for < HANDS_OVER_FOR => {
            (true, format!("until {:016x}, which is fitter, takes over", other.node))
        }
        Some(other) => (false, format!("{:016x} is fitter", other.node)),
    };
    Verdict { is_primary, fitter: fitter.map(|other| other.node), why }
}

/// How far a node is behind one peer, in time.
///
/// A peer tells from time to time where its feed ends; once the node has read on to there, it was in step as of when that was told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lag {
    /// When it told of its feed for the first time.
    first_told_at: Option<Duration>,
    /// As of when the node had everything.
    in_step_at: Option<Duration>,
    /// The end of the feed that is to be reached next, and when it was told.
    next: Option<(Duration, Cursor)>,
    /// The latest that was told.
    latest: Option<(Duration, Cursor)>,
    /// How far the feed was read.
    reached: Option<Cursor>,
    /// Which start of the peer told this.
    start: Option<u64>,
}

impl Lag {
    /// At `now` the peer says that its feed ends at `head`, in this start of it. Another start begins its feed above all that
    /// it gave out before, or somewhere else on a disk that was put back: what is lacking of it counts from now.
    pub fn told(&mut self, head: Cursor, start: Option<u64>, now: Duration) {
        let is_other =
            self.latest.is_some_and(|(_, latest)| latest.incarnation != head.incarnation);
        if is_other || self.start != start {
            let in_step_at = self.in_step_at.map(|_| now);
            *self =
                Self { in_step_at, first_told_at: self.first_told_at, start, ..Self::default() };
        }
        self.first_told_at.get_or_insert(now);
        self.latest = Some((now, head));
        self.next.get_or_insert((now, head));
        self.settle();
    }

    /// Everything below `cursor` is here.
    pub fn reached(&mut self, cursor: Cursor) {
        self.reached = Some(cursor);
        self.settle();
    }

    fn settle(&mut self) {
        let Some(reached) = self.reached else { return };
        let is_reached = |(_, head): &(Duration, Cursor)| {
            reached.incarnation == head.incarnation && reached.sequence >= head.sequence
        };
        if let Some((told, _)) = self.next.take_if(|next| is_reached(next)) {
            self.in_step_at = Some(told);
            match self.latest {
                Some(latest) if is_reached(&latest) => self.in_step_at = Some(latest.0),
                latest => self.next = latest,
            }
        }
    }

    /// Since when something may be lacking that the peer has told of; none if it never told of anything.
    #[must_use]
    pub fn since(&self, now: Duration) -> Option<Duration> {
        let since = self.in_step_at.or(self.first_told_at)?;
        Some(if self.next.is_none() { Duration::ZERO } else { now.saturating_sub(since) })
    }

    /// Whether all that the peer told of was here at some time.
    #[must_use]
    pub fn was_in_step(&self) -> bool {
        self.in_step_at.is_some()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const RULES: Rules = Rules { min_age: seconds(600), lag_max: seconds(30) };

    fn warm(node: u64) -> Candidate {
        Candidate {
            node,
            is_serviceable: true,
            is_leaving: false,
            age: seconds(600),
            lag: Some(Duration::ZERO),
            bytes: 1 << 30,
            primary_for: None,
        }
    }

    fn young(node: u64) -> Candidate {
        Candidate { age: seconds(599), ..warm(node) }
    }

    fn behind(node: u64, lag: u64) -> Candidate {
        Candidate { lag: Some(seconds(lag)), ..warm(node) }
    }

    fn cold(node: u64, bytes: u64) -> Candidate {
        Candidate { lag: None, bytes, ..young(node) }
    }

    fn leaving(node: u64) -> Candidate {
        Candidate { is_leaving: true, ..warm(node) }
    }

    fn dead(node: u64) -> Candidate {
        Candidate { is_serviceable: false, ..warm(node) }
    }

    fn primary(candidate: Candidate) -> Candidate {
        Candidate { primary_for: Some(seconds(100)), ..candidate }
    }

    fn just_primary(candidate: Candidate) -> Candidate {
        Candidate { primary_for: Some(seconds(1)), ..candidate }
    }

    /// Who of them is primary, once all have decided; a time-out for handing over is over.
    fn primaries(all: &[Candidate]) -> Vec<u64> {
        let is_it = |me: &&Candidate| decide(me, all, RULES, HANDS_OVER_FOR).is_primary;
        all.iter().filter(is_it).map(|me| me.node).collect()
    }

    #[test]
    fn the_fittest_is_primary_and_who_is_it_stays_while_it_is_fit() {
        for (all, who) in [
            (vec![cold(1, 0)], vec![1]),
            (vec![warm(1)], vec![1]),
            (vec![dead(1)], vec![]),
            (vec![warm(2), warm(1)], vec![1]),
            (vec![young(1), warm(2)], vec![2]),
            // Who is it, and in step, stays.
            (vec![primary(young(2)), warm(1)], vec![2]),
            (vec![warm(1), primary(warm(2))], vec![2]),
            (vec![warm(1), primary(behind(2, 60))], vec![2]),
            (vec![warm(1), primary(behind(2, 61))], vec![1]),
            (vec![behind(1, 31), young(2)], vec![2]),
            (vec![behind(1, 30), young(2)], vec![1]),
            // Nobody is in step: who was last, and a little more or less is no reason to move.
            (vec![behind(1, 400), behind(2, 100)], vec![2]),
            (vec![primary(behind(1, 120)), behind(2, 100)], vec![1]),
            (vec![primary(behind(1, 400)), behind(2, 100)], vec![2]),
            (vec![behind(1, 9999), cold(2, 1 << 40)], vec![1]),
            // The fuller one.
            (vec![cold(1, 0), cold(2, 1)], vec![1]),
            (vec![cold(1, 1000), cold(2, 3000)], vec![2]),
            (vec![primary(cold(1, 1100)), cold(2, 1900)], vec![1]),
            // One that is empty is primary only while nobody else serves.
            (vec![primary(cold(1, 0)), young(2)], vec![2]),
            (vec![primary(cold(1, 0)), dead(2)], vec![1]),
            (vec![primary(leaving(1)), cold(2, 0)], vec![2]),
            (vec![primary(leaving(1)), dead(2)], vec![1]),
            // Two that were apart: who just came to take itself for the only one stands back.
            (vec![just_primary(young(1)), primary(warm(2))], vec![2]),
            (vec![just_primary(warm(1)), primary(warm(2))], vec![2]),
            (vec![just_primary(warm(1)), primary(young(2))], vec![1]),
            (vec![primary(cold(1, 1)), just_primary(cold(2, 1))], vec![1]),
            (vec![warm(1), just_primary(warm(2))], vec![2]),
            (vec![primary(warm(1)), primary(warm(2))], vec![1]),
            (vec![primary(cold(1, 9)), primary(warm(2))], vec![2]),
        ] {
            assert_eq!(primaries(&all), who, "{all:?}");
        }
    }

    #[test]
    fn who_is_primary_stays_so_until_the_fitter_one_takes_over_or_does_not() {
        let me = primary(leaving(1));
        let is_primary = |other: Candidate, refused: u64| {
            decide(&me, &[other], RULES, seconds(refused)).is_primary
        };
        assert!(is_primary(warm(2), 0) && is_primary(warm(2), 2));
        assert!(!is_primary(warm(2), 3), "it had its time");
        assert!(!is_primary(primary(warm(2)), 0), "it has taken over");
        assert!(is_primary(dead(2), 99));
        let told = decide(&me, &[primary(warm(2)), dead(3)], RULES, Duration::ZERO);
        assert_eq!(told.fitter, Some(2));
    }

    prop_compose! {
        fn candidate()(
            node in 1_u64..9,
            is_serviceable in proptest::bool::weighted(0.8),
            is_leaving in proptest::bool::weighted(0.2),
            age in 0_u64..1200,
            lag in proptest::option::of(0_u64..200),
            bytes in 0_u64..9,
            primary_for in proptest::option::of(0_u64..200),
        ) -> Candidate {
            let (age, lag, primary_for) = (seconds(age), lag.map(seconds), primary_for.map(seconds));
            Candidate { node, is_serviceable, is_leaving, age, lag, bytes, primary_for }
        }
    }

    proptest! {
        #[test]
        fn one_is_primary_where_all_see_the_same(all in proptest::collection::vec(candidate(), 1..9)) {
            let mut all = all;
            all.sort_by_key(|it| it.node);
            all.dedup_by_key(|it| it.node);
            let expected = usize::from(all.iter().any(|it| it.is_serviceable));
            let chosen = primaries(&all);
            prop_assert_eq!(chosen.len(), expected);
            // Having decided, they decide the same again.
            let settled: Vec<Candidate> = all
                .iter()
                .map(|it| {
                    let is_it = chosen.contains(&it.node);
                    Candidate { primary_for: is_it.then(|| it.primary_for.unwrap_or_default()), ..*it }
                })
                .collect();
            prop_assert_eq!(primaries(&settled), chosen.clone());
            // None that never was in step while one is, and none that leaves while one does not.
            let of = |node: u64| all.iter().find(|it| it.node == node).unwrap();
            let better = all.iter().any(|it| {
                it.is_serviceable && !it.is_leaving && it.lag.is_some_and(|lag| lag <= RULES.lag_max)
            });
            let is_good = |node: &u64| {
                let it = of(*node);
                !it.is_leaving && it.lag.is_some_and(|lag| lag <= RULES.lag_max * 2)
            };
            prop_assert!(!better || chosen.iter().all(is_good));
        }
    }

    #[test]
    fn lag_is_the_time_since_all_that_was_told_was_here() {
        let at = |sequence| Cursor { incarnation: 1, sequence };
        let mut lag = Lag::default();
        let lags = |lag: &Lag, now: u64| lag.since(seconds(now)).map(|it| it.as_secs());
        assert_eq!(lags(&lag, 5), None);
        lag.told(at(10), Some(1), seconds(5));
        lag.reached(at(9));
        assert_eq!((lags(&lag, 6), lag.was_in_step()), (Some(1), false), "since it was heard");
        lag.reached(at(10));
        assert!(lag.was_in_step());
        assert_eq!(lags(&lag, 60), Some(0), "nothing was told since");
        lag.told(at(20), Some(1), seconds(61));
        assert_eq!(lags(&lag, 61), Some(56), "whatever came since the last time may be lacking");
        // Under steady writes the latest end is never reached, and the one before is.
        lag.told(at(30), Some(1), seconds(62));
        lag.reached(at(25));
        assert_eq!(lags(&lag, 63), Some(2));
        lag.told(at(40), Some(1), seconds(63));
        lag.reached(at(35));
        assert_eq!(lags(&lag, 64), Some(2));
        lag.reached(at(40));
        assert_eq!(lags(&lag, 64), Some(0));
        // The peer starts again, far above where its feed ended before: until now nothing of it could be had.
        lag.told(at(1000), Some(2), seconds(70));
        assert_eq!(lags(&lag, 72), Some(2));
        lag.reached(at(1000));
        assert_eq!(lags(&lag, 72), Some(0));
        // It was put back to an earlier end, and what was read is that of before.
        lag.told(at(900), Some(3), seconds(80));
        assert_eq!(lags(&lag, 81), Some(1), "what it has now was not read");
        lag.reached(at(900));
        assert_eq!(lags(&lag, 81), Some(0));
        // It comes back with other data.
        lag.told(Cursor { incarnation: 2, sequence: 3 }, Some(4), seconds(90));
        lag.reached(at(950));
        assert_eq!(lags(&lag, 95), Some(5), "that was the feed of another one");
        lag.reached(Cursor { incarnation: 2, sequence: 3 });
        assert_eq!(lags(&lag, 95), Some(0));
    }
}
