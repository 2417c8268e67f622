//! One round of fetching from a peer: as much as can be had now, as many requests at once as may be.

use std::collections::VecDeque;

use futures_util::stream::{self, FuturesUnordered, StreamExt as _, TryStreamExt as _};
use kura_core::{
    feed::FeedRow,
    limits::{BATCH_ROWS_MAX, FETCHES_MAX, LEFTOVERS_MAX, PAGE_ROWS_MAX},
    tries::{ASIDE_MAX, Streak},
};
use kura_env::{BoxFuture, Instant};

use super::{
    Shared,
    compare::{Comparison, Learned},
    error::PeerError,
    fetch::{Fetched, Source, fetch, take_unit},
    read_through::RoundOffers,
    wire::Row,
};

/// Rows that are put aside because somebody else fetches them: twice as many as one peer has asked for at once. Higher: what
/// is told is remembered for longer. Lower: behind one that is slow nothing else is found to be fetched.
const BUSY_MAX: usize = 2 * FETCHES_MAX * BATCH_ROWS_MAX;
/// Rows that are looked up at once. Higher: the catalog is waited for less often. Lower: others wait less for it.
const LOOKS_AT_ONCE: usize = 32;

/// What a round left.
pub(crate) struct Outcome {
    pub(crate) fetched: Fetched,
    /// What is still to be asked for.
    pub(crate) left: VecDeque<FeedRow>,
    /// Why the round ended before its end: our own store, or the comparison.
    pub(crate) broken: Option<PeerError>,
    /// It ended because of the time, with more to do.
    pub(crate) is_cut_short: bool,
}

/// Fetches `wanted` and what `comparison` still has to tell, until nothing is left that can be done now.
/// Rows that `is_suspect` says yes to are asked for alone.
///
/// Nothing new begins once the peer cannot be reached or fails time after time, our own store fails,
/// too much is left over, or it is past `until`; what is under way ends.
pub(crate) async fn round<'a>(
    source: Source<'a>,
    wanted: VecDeque<FeedRow>,
    comparison: &mut Comparison,
    is_suspect: &'a (dyn Fn(&FeedRow) -> bool + Send + Sync),
    until: Option<Instant>,
) -> Outcome {
    let mut queue = Queue::new(source, is_suspect, wanted);
    let (mut fetched, mut streak) = (Fetched::default(), Streak::default());
    let mut under_way: FuturesUnordered<Work<'_>> = FuturesUnordered::new();
    let mut page: Option<Page<'_>> = None;
    let mut broken = None;
    let is_late = || until.is_some_and(|until| source.shared.env.clock.now() >= until);
    loop {
        let leftovers = fetched.failed.len() + fetched.untried.len();
        let goes_on = broken.is_none()
            && !fetched.is_unreachable
            && !is_late()
            && !streak.is_over()
            && leftovers < LEFTOVERS_MAX;
        // Before the look at what is claimed, so that nothing is missed between the two.
        let released = source.shared.claims.released();
        if goes_on {
            queue.begin(&mut under_way);
        }
        if goes_on && queue.is_hungry() && page.is_none() && !comparison.is_over() {
            page = Some(Box::pin(comparison.page(source)));
        }
        let awaits_others = goes_on && !queue.busy.is_empty();
        if page.is_none() && under_way.is_empty() && !awaits_others {
            break;
        }
        tokio::select! {
            biased;
            Some((rows, done)) = under_way.next() => match done {
                Ok(mut done) => {
                    source.shared.mesh.resolved(source.name, &done);
                    streak.note(done.is_answer(), done.is_cut);
                    queue.resolve(&rows, std::mem::take(&mut done.later));
                    fetched.add(done);
                }
                Err(error) => {
                    queue.wanted.extend(rows);
                    broken.get_or_insert(error);
                }
            },
            learned = next_page(&mut page) => match learned {
                Ok(mut learned) => {
                    source.shared.mesh.learned(source.name, &learned);
                    put_off(source, &mut fetched, std::mem::take(&mut learned.ahead));
                    comparison.told(fetched.delivered);
                    let more = comparison.take(source, learned);
                    queue.add(more);
                }
                Err(error) => broken = Some(error),
            },
            () = released, if awaits_others => {}
            () = late(source, until), if awaits_others => {}
        }
    }
    drop((under_way, page));
    let left = queue.left(broken.is_none()).await;
    let is_cut_short = is_late() && !(left.is_empty() && comparison.is_over());
    Outcome { fetched, left, broken, is_cut_short }
}

/// Waits until it is past `until`, for ever without one.
async fn late(source: Source<'_>, until: Option<Instant>) {
    match until {
        Some(until) => source.shared.env.clock.sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// What is still to be asked for in a round.
struct Queue<'a> {
    source: Source<'a>,
    is_suspect: &'a (dyn Fn(&FeedRow) -> bool + Send + Sync),
    wanted: VecDeque<FeedRow>,
    /// Somebody else fetched these when their turn came. What is here is not offered by this peer.
    busy: VecDeque<FeedRow>,
    offers: RoundOffers<'a>,
}

impl<'a> Queue<'a> {
    fn new(
        source: Source<'a>,
        is_suspect: &'a (dyn Fn(&FeedRow) -> bool + Send + Sync),
        wanted: VecDeque<FeedRow>,
    ) -> Self {
        let offers = RoundOffers::of(source);
        offers.put(&wanted);
        Self { source, is_suspect, wanted, busy: VecDeque::new(), offers }
    }

    /// These are to be fetched as well.
    fn add(&mut self, rows: impl IntoIterator<Item = FeedRow>) {
        let before = self.wanted.len();
        self.wanted.extend(rows);
        self.offers.put(self.wanted.range(before..));
    }

    /// `rows` were asked for, and of them these are to be asked for `later`.
    fn resolve(&mut self, rows: &[FeedRow], later: Vec<FeedRow>) {
        let is_later = |row: &FeedRow| later.iter().any(|it| it.address == row.address);
        let done: Vec<_> = rows.iter().filter(|row| !is_later(row)).cloned().collect();
        self.offers.take(&done);
        self.add(later);
    }

    /// Begins as many requests as may be under way.
    fn begin(&mut self, under_way: &mut FuturesUnordered<Work<'a>>) {
        while under_way.len() < FETCHES_MAX
            && let Some(unit) = self.take()
        {
            under_way.push(work(self.source, unit));
        }
    }

    /// Whether more should be told.
    fn is_hungry(&self) -> bool {
        self.wanted.len() < PAGE_ROWS_MAX && self.busy.len() < BUSY_MAX
    }

    /// The rows of the next request: none that somebody else fetches. These are put aside, and looked at again when nothing
    /// else is left, or too many are.
    fn take(&mut self) -> Option<Vec<FeedRow>> {
        let mut has_looked = false;
        loop {
            if self.wanted.is_empty() || self.busy.len() >= BUSY_MAX {
                if has_looked || !self.look_again() {
                    return None;
                }
                has_looked = true;
            }
            let unit = take_unit(&mut self.wanted, self.is_suspect, self.source.limits);
            let (busy, free) = part(self.source, unit);
            if !busy.is_empty() {
                self.source.shared.metrics.replication.claim_waits.inc();
                self.offers.put_aside(&busy);
                self.busy.extend(busy);
            }
            if !free.is_empty() {
                return Some(free);
            }
        }
    }

    /// Of what was put aside, what nobody fetches any more is to be fetched first, or is here: some of it at a time. Whether
    /// there is any.
    fn look_again(&mut self) -> bool {
        let mut looked = 0;
        let all = self.busy.len();
        while looked < all {
            let some = BATCH_ROWS_MAX.min(all - looked);
            let (busy, free) = part(self.source, self.busy.drain(..some).collect());
            self.busy.extend(busy);
            looked += some;
            if !free.is_empty() {
                self.offers.put(&free);
                free.into_iter().rev().for_each(|row| self.wanted.push_front(row));
                return true;
            }
        }
        false
    }

    /// All of it; where our own store answers, but for what came from others.
    async fn left(self, store_answers: bool) -> VecDeque<FeedRow> {
        let Self { source, mut wanted, busy, offers, .. } = self;
        // From here on nothing is left to this peer.
        drop(offers);
        let look = |row: FeedRow| async move {
            // What cannot be told is asked for.
            let lacks = !store_answers || source.shared.store.lacks(&row).await.unwrap_or(true);
            lacks.then_some(row)
        };
        let lacking = stream::iter(busy).map(look).buffered(LOOKS_AT_ONCE);
        wanted.extend(lacking.filter_map(std::future::ready).collect::<Vec<_>>().await);
        wanted
    }
}

/// Leaves `rows` for when their versions are no longer too far ahead. More than can be set aside need not be kept:
/// one is enough to know that there are some.
pub(crate) fn put_off(source: Source<'_>, fetched: &mut Fetched, rows: Vec<FeedRow>) {
    for row in rows {
        source.is_ahead(&row);
        if fetched.declined.len() <= ASIDE_MAX {
            fetched.declined.push(row);
        }
    }
}

/// A fetch that is under way, and the rows it is about.
type Work<'a> = BoxFuture<'a, (Vec<FeedRow>, Result<Fetched, PeerError>)>;

/// Fetches `unit` once what of it nearer ones hold has been left to them. What somebody else fetches then is to be asked for
/// later.
fn work(source: Source<'_>, unit: Vec<FeedRow>) -> Work<'_> {
    Box::pin(async move {
        let rows = unit.clone();
        source.shared.sources.leave(source.number, &unit).await;
        let (mut busy, free) = part(source, unit);
        let fetched = fetch(source, free).await.map(|(mut fetched, taken)| {
            busy.extend(taken);
            fetched.later.append(&mut busy);
            fetched
        });
        (rows, fetched)
    })
}

/// Those of `rows` that somebody else fetches, and the others. What is left to a nearer one is among those: it is waited for,
/// because behind it is what that one did not come to name yet.
fn part(source: Source<'_>, rows: Vec<FeedRow>) -> (Vec<FeedRow>, Vec<FeedRow>) {
    let Source { shared, number, .. } = source;
    let is_busy = |row: &FeedRow| {
        shared.claims.is_claimed(&row.address) && !shared.sources.is_left(number, row)
    };
    rows.into_iter().partition(is_busy)
}

/// A page of the comparison that is under way.
type Page<'a> = BoxFuture<'a, Result<Learned, PeerError>>;

/// Waits for the page that is under way, for ever if there is none. What is dropped half-way stays
/// under way.
async fn next_page(page: &mut Option<Page<'_>>) -> Result<Learned, PeerError> {
    match page {
        Some(under_way) => {
            let learned = under_way.await;
            *page = None;
            learned
        }
        None => std::future::pending().await,
    }
}

/// What of the rows that a peer tells is to be fetched.
#[derive(Default)]
pub(crate) struct Lacking {
    /// These would take the place of what is here.
    pub(crate) now: VecDeque<FeedRow>,
    /// These as well, and their versions are too far ahead of the clock here.
    pub(crate) ahead: Vec<FeedRow>,
}

/// The rows that would take the place of what is here. Those without a meaning here are counted.
pub(crate) async fn lacking(shared: &Shared, rows: &[Row]) -> Result<Lacking, PeerError> {
    let store = &shared.store;
    let looks: Vec<_> = rows.iter().map(|row| look(shared, row)).collect();
    let mut looked = stream::iter(looks).buffered(LOOKS_AT_ONCE);
    let mut lacking = Lacking::default();
    while let Some(row) = looked.try_next().await? {
        match row {
            Some(row) if store.too_far_ahead(&row).is_some() => lacking.ahead.push(row),
            Some(row) => lacking.now.push_back(row),
            None => {}
        }
    }
    Ok(lacking)
}

/// A row, unless what is here is as new as it.
fn look<'a>(shared: &'a Shared, row: &Row) -> BoxFuture<'a, Result<Option<FeedRow>, PeerError>> {
    let row = row.read();
    Box::pin(async move {
        let Some(row) = row else {
            shared.metrics.replication.rows_unknown.inc();
            return Ok(None);
        };
        let lacks = shared.store.lacks(&row).await.map_err(PeerError::Store)?;
        Ok(lacks.then_some(row))
    })
}
