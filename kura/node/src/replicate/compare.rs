//! Comparing with a peer: range by range, the newest first, and only where sums differ.
//!
//! ```text
//! this node                                       the peer
//! a range and its sum              ->             the same: nothing
//!                                  <-             else its parts and their sums
//! a range and marks of all of its  ->
//! items, where those are few       <-             rows of the items that are not among them
//! ```
//!
//! What is told of a range takes its place in what is still to be asked, so that rows come in their order:
//! what is newer first. A pass that is cut goes on with what is left.

use std::{collections::VecDeque, time::Duration};

use futures_util::future::try_join_all;
use kura_core::{
    feed::{FeedRow, Fill},
    limits::{COMPARE_BYTES_MAX, PAGE_ROWS_MAX, PARTS_MAX, PeerLimits, SPANS_MAX},
    summary::{Item, Span, Sum},
    vain::Vain,
};

use super::{
    error::PeerError,
    fetch::Source,
    round::{Lacking, lacking},
    wire::{Ask, COMPARE, Compared, Part, Told},
};
use crate::{
    service::Refusal,
    store::{Held, Store},
};

/// Ranges that are looked at here for one request.
const LOOKS_MAX: usize = 8 * SPANS_MAX;
/// Those of them that are looked at together. Higher: fewer ways to the catalog. Lower: less that was looked at for
/// nothing, because the question was full before.
const LOOKS_AT_ONCE: usize = 32;
/// Ranges of a question that are answered at once.
const TOLD_AT_ONCE: usize = 16;
/// Rows that wait for newer ones. With more, ranges are asked about one by one, which adds none.
const WAITING_ROWS_MAX: usize = 4 * PAGE_ROWS_MAX;
/// Rows in one answer: a page, and what is left of a leaf.
const ANSWER_ROWS_MAX: usize = 2 * PAGE_ROWS_MAX;

/// What may be pending. An honest peer makes it some thousands.
const PENDING_MAX: usize = 32 * 1024;

/// How far a comparison has got. Kept when a pass is cut.
pub(crate) struct Comparison {
    /// What comes next is at the end.
    pending: Vec<Pending>,
    /// What of the peer's data fits here.
    fill: Fill,
    /// The peer told of more than can be pending.
    is_endless: bool,
    vain: Vain,
    /// Bodies that had come when the last page was told.
    delivered: u64,
    /// Waited for before the next page.
    pause: Duration,
}

#[derive(Clone)]
enum Pending {
    /// A range, and the peer's sum over it as far as that is known.
    Range(Span, Option<Sum>),
    /// To be fetched once all that is newer was told.
    Rows(VecDeque<FeedRow>),
}

/// What became of the next ranges.
#[derive(Default)]
pub(crate) struct Learned {
    /// Rows that the peer told.
    pub(crate) rows: u64,
    /// Those of them that are lacking here, and to be fetched.
    pub(crate) lacking: u64,
    /// Those of them that are lacking, and too far ahead of the clock here.
    pub(crate) ahead: Vec<FeedRow>,
    /// Of each range in their order.
    ranges: Vec<Range>,
}

/// What became of a range.
#[derive(Default)]
struct Range {
    /// Lacking here, the newest first, and newer than all `parts`.
    lacking: VecDeque<FeedRow>,
    /// Still to be asked about, the eldest first.
    parts: Vec<(Span, Sum)>,
}

impl Comparison {
    /// A comparison of everything, in which so many bytes are to be fetched at the most.
    pub(crate) fn new(capacity_bytes: u64, vain: Vain) -> Self {
        let pending = vec![Pending::Range(Span::ALL, None)];
        let (fill, pause) = (Fill::new(capacity_bytes), vain.pause());
        Self { pending, fill, vain, pause, ..Self::nothing() }
    }

    /// A comparison that has nothing more to tell.
    pub(crate) fn nothing() -> Self {
        let (vain, pause) = (Vain::default(), Duration::ZERO);
        let (pending, fill) = (Vec::new(), Fill::new(0));
        Self { pending, fill, is_endless: false, vain, delivered: 0, pause }
    }

    /// Whether nothing of it is worth going on with.
    pub(crate) fn is_endless(&self) -> bool {
        self.is_endless
    }

    pub(crate) fn is_over(&self) -> bool {
        self.pending.is_empty()
    }

    /// The ranges that can be asked about next.
    fn next_ranges(&self) -> Vec<(Span, Option<Sum>)> {
        let rows = |pending: &Pending| match pending {
            Pending::Rows(rows) => rows.len(),
            Pending::Range(..) => 0,
        };
        let waiting: usize = self.pending.iter().map(rows).sum();
        let ranges_max = if waiting > WAITING_ROWS_MAX { 1 } else { LOOKS_MAX };
        let range = |pending: &Pending| match pending {
            Pending::Range(span, sum) => Some((*span, *sum)),
            Pending::Rows(_) => None,
        };
        self.pending.iter().rev().map_while(range).take(ranges_max).collect()
    }

    /// Asks about the next ranges.
    pub(crate) fn page<'a>(
        &self,
        source: Source<'a>,
    ) -> impl Future<Output = Result<Learned, PeerError>> + Send + use<'a> {
        let (ranges, is_endless, pause) = (self.next_ranges(), self.is_endless, self.pause);
        async move {
            source.wait_in_vain(pause).await;
            if is_endless {
                let told = format!("more than {PENDING_MAX} ranges that differ");
                return Err(PeerError::Answer(told));
            }
            let looked = look(source, ranges).await?;
            let asked: Vec<&Ask> = looked.iter().flatten().collect();
            let answers = if asked.is_empty() { Vec::new() } else { ask(source, &asked).await? };
            let (mut learned, mut answers) = (Learned::default(), answers.into_iter());
            for ask in looked {
                let Some(ask) = ask else {
                    learned.ranges.push(Range::default());
                    continue;
                };
                // The peer may tell of the first ranges alone.
                let Some(told) = answers.next() else { break };
                learned.take(source, ask.span(), told).await?;
            }
            Ok(learned)
        }
    }

    /// A round of fetching begins: bodies are counted from here on.
    pub(crate) fn begin_round(&mut self) {
        self.delivered = 0;
    }

    /// The pages in a row, up to now, of which nothing came.
    pub(crate) fn vain(&self) -> Vain {
        self.vain
    }

    /// A page was told, when so many bodies had come in this round.
    pub(crate) fn told(&mut self, delivered: u64) {
        self.pause = self.vain.told(delivered != self.delivered);
        self.delivered = delivered;
    }

    /// Takes in what was learned: gives what is to be fetched now. Once what is lacking fills the ring, the rest
    /// is older and would only drive out what is newer.
    pub(crate) fn take(&mut self, source: Source<'_>, learned: Learned) -> VecDeque<FeedRow> {
        let Some(left) = self.pending.len().checked_sub(learned.ranges.len()) else {
            return VecDeque::new();
        };
        self.pending.truncate(left);
        for Range { lacking, parts } in learned.ranges.into_iter().rev() {
            let parts = parts.into_iter().map(|(span, sum)| Pending::Range(span, Some(sum)));
            self.pending.extend(parts);
            if !lacking.is_empty() {
                self.pending.push(Pending::Rows(lacking));
            }
        }
        if self.pending.len() > PENDING_MAX {
            self.pending = vec![Pending::Range(Span::ALL, None)];
            self.is_endless = true;
        }
        let mut wanted = VecDeque::new();
        while let Some(Pending::Rows(_)) = self.pending.last() {
            let Some(Pending::Rows(mut rows)) = self.pending.pop() else { break };
            let fitting = rows.iter().take_while(|row| self.fill.fits(row.body_bytes)).count();
            let older = rows.split_off(fitting);
            wanted.extend(rows);
            if !older.is_empty() {
                source.shared.metrics.replication.older_than_fits.inc_by(older.len() as u64);
                tracing::warn!(
                    peer = source.name,
                    "the peer holds more than fits here: the rest is left"
                );
                self.pending.clear();
            }
        }
        wanted
    }
}

/// What to ask about each range; nothing where there is nothing to ask. As many as may be asked at once.
async fn look(
    source: Source<'_>,
    ranges: Vec<(Span, Option<Sum>)>,
) -> Result<Vec<Option<Ask>>, PeerError> {
    let (store, metrics) = (&source.shared.store, &source.shared.metrics.replication);
    let PeerLimits { spans, items_known, message_bytes, .. } = source.limits;
    let (mut looked, mut asks) = (Vec::with_capacity(ranges.len()), 0);
    // Of a list without anything in it.
    let (mut question_bytes, question_bytes_max) = (2, message_bytes.min(COMPARE_BYTES_MAX));
    for some in ranges.chunks(LOOKS_AT_ONCE) {
        let mut worth = Vec::with_capacity(some.len());
        for (span, theirs) in some {
            let is_empty = theirs.is_some_and(|sum| sum.count == 0);
            if !is_empty && !store.wants_nothing_of(*span).await.map_err(PeerError::Store)? {
                worth.push(*span);
            }
        }
        let helds = store.held_of(&worth, items_known).await.map_err(PeerError::Store)?;
        let mut helds = worth.into_iter().zip(helds).peekable();
        for (span, theirs) in some {
            let Some((_, held)) = helds.next_if(|(worth, _)| worth == span) else {
                looked.push(None);
                continue;
            };
            if asks == spans {
                return Ok(looked);
            }
            metrics.ranges_compared.inc();
            let Held { sum, items } = held;
            if *theirs == Some(sum) {
                looked.push(None);
                continue;
            }
            let ask = match items {
                Some(items) => Ask::known(*span, items.iter().map(|item| item.mark()).collect()),
                None => Ask::sum(*span, sum),
            };
            let ask_bytes = serde_json::to_vec(&ask).expect("a range has names for keys").len();
            question_bytes += ask_bytes + 1;
            if asks > 0 && question_bytes > question_bytes_max {
                return Ok(looked);
            }
            looked.push(Some(ask));
            asks += 1;
        }
    }
    Ok(looked)
}

async fn ask(source: Source<'_>, asks: &[&Ask]) -> Result<Vec<Told>, PeerError> {
    let asked = serde_json::to_vec(asks).expect("ranges have names for keys");
    let PeerLimits { page_rows, parts, .. } = source.limits;
    let path = format!("{COMPARE}?rows={page_rows}&parts={parts}");
    let Compared { told, deletes } = source.client.ask_with(&path, asked.into()).await?;
    source.hear_deletes(deletes).await?;
    let rows: usize = told.iter().map(|told| told.rows.len()).sum();
    if told.is_empty() || told.len() > asks.len() || rows > ANSWER_ROWS_MAX {
        let what = format!("{} answers with {rows} rows to {} ranges", told.len(), asks.len());
        return Err(PeerError::Answer(what));
    }
    Ok(told)
}

impl Learned {
    /// What the peer told of a range.
    async fn take(&mut self, source: Source<'_>, span: Span, told: Told) -> Result<(), PeerError> {
        let parts = checked(span, &told).map_err(|what| {
            PeerError::Answer(format!(
                "{what}, of the range of times {} to {}",
                span.from.time, span.to.time
            ))
        })?;
        self.rows += told.rows.len() as u64;
        let Lacking { now: lacking, ahead } = lacking(source.shared, &told.rows).await?;
        self.lacking += lacking.len() as u64;
        self.ahead.extend(ahead);
        self.ranges.push(Range { lacking, parts });
        Ok(())
    }
}

/// The parts in what a peer told of a range, if that can be: rows in the range, the newest first; parts in it,
/// each behind the one before and all before the rows, and not again the range itself.
fn checked(span: Span, told: &Told) -> Result<Vec<(Span, Sum)>, &'static str> {
    let times = span.from.time..=span.to.time;
    if !told.rows.iter().all(|row| times.contains(&row.time())) {
        return Err("rows outside");
    }
    if !told.rows.is_sorted_by(|newer, older| newer.time() >= older.time()) {
        return Err("rows in disorder");
    }
    if told.parts.len() as u64 > PARTS_MAX + 1 {
        return Err("too many parts");
    }
    let parts: Vec<(Span, Sum)> = told.parts.iter().map(Part::read).collect();
    let mut end = span.from;
    for (part, _) in &parts {
        if part.is_empty() || part.from < end || part.to > span.to || *part == span {
            return Err("parts that are none");
        }
        end = part.to;
    }
    if told.rows.last().is_some_and(|row| row.time() < end.time) {
        return Err("rows that are older than a part");
    }
    Ok(parts)
}

/// What a peer that asks is told: of each range in turn, until the answer is long enough.
pub(crate) async fn tell(
    store: &Store,
    asks: &[Ask],
    limits: PeerLimits,
) -> Result<Compared, Refusal> {
    let (mut told, mut rows_left) = (Vec::with_capacity(asks.len()), limits.page_rows);
    let mut asks = asks;
    while rows_left > 0 && !asks.is_empty() {
        let (now, later) = asks.split_at(at_once(store, asks, rows_left));
        asks = later;
        let mut answers = Vec::with_capacity(now.len());
        for ask in now {
            answers.push(tell_of(store, ask, rows_left, limits));
        }
        for answer in try_join_all(answers).await? {
            rows_left = rows_left.saturating_sub(answer.rows.len());
            told.push(answer);
            if rows_left == 0 {
                break;
            }
        }
    }
    Ok(Compared { told, deletes: store.deletes_print() })
}

/// Of how many of the next ranges the answers are made at once: as far as those likely fit into what is left of the
/// answer, so that little is read for nothing; one at the least.
fn at_once(store: &Store, asks: &[Ask], rows_left: usize) -> usize {
    let mut rows = 0;
    let fits = |ask: &&Ask| {
        let known = ask.known.as_ref().map_or(0, Vec::len);
        let held = usize::try_from(store.about_how_many(ask.span())).unwrap_or(usize::MAX);
        rows += held.saturating_sub(known);
        ask.known.is_none() || rows <= rows_left
    };
    asks.iter().take(TOLD_AT_ONCE).take_while(fits).count().max(1)
}

/// What is told of one range.
async fn tell_of(
    store: &Store,
    ask: &Ask,
    rows_max: usize,
    limits: PeerLimits,
) -> Result<Told, Refusal> {
    match &ask.known {
        Some(known) => tell_unknown(store, ask.span(), known, rows_max).await,
        None => tell_parts(store, ask, rows_max, limits).await,
    }
}

/// The rows of a range that are not among the known ones, as far as they fit, and what is left of the range.
async fn tell_unknown(
    store: &Store,
    span: Span,
    known: &[u64],
    rows_max: usize,
) -> Result<Told, Refusal> {
    if span.is_empty() {
        return Ok(Told::default());
    }
    let mut known = known.to_vec();
    known.sort_unstable();
    let end = store.newest_of(span, rows_max as u64);
    let is_unknown = |item: Item| known.binary_search(&item.mark()).is_err();
    let (rows, told_from) = store.versions(end, rows_max, is_unknown).await?;
    let rest = Span { from: span.from, to: told_from };
    let mut parts = Vec::new();
    if !rest.is_empty() {
        let sum = store.held(rest, 0).await?.sum;
        parts.extend((sum.count > 0).then(|| Part::new(rest, sum)));
    }
    Ok(Told { rows: rows.iter().map(Into::into).collect(), parts })
}

/// The parts of a range, if the sum over it is another one here; where it holds little, its rows.
async fn tell_parts(
    store: &Store,
    ask: &Ask,
    rows_max: usize,
    limits: PeerLimits,
) -> Result<Told, Refusal> {
    let span = ask.span();
    let held = store.held(span, limits.items_known).await?;
    if ask.sum.map(Part::sum) == Some(held.sum) {
        return Ok(Told::default());
    }
    let parts = store.parts(span, limits.parts);
    if held.items.is_some() || parts.len() < 2 {
        return tell_unknown(store, span, &[], rows_max).await;
    }
    let mut told = Vec::with_capacity(parts.len());
    for part in parts {
        let sum = store.held(part, 0).await?.sum;
        told.extend((sum.count > 0).then(|| Part::new(part, sum)));
    }
    Ok(Told { rows: Vec::new(), parts: told })
}

#[cfg(test)]
mod tests {
    use kura_core::{
        address::{Address, Space},
        digest::Digest,
        record::Version,
        summary::Position,
    };

    use super::*;

    fn at(time: u64) -> Position {
        Position { time, print: 0 }
    }

    fn span(from: u64, to: u64) -> Span {
        Span { from: at(from), to: at(to) }
    }

    fn row(time: u64) -> FeedRow {
        FeedRow {
            address: Address::new("team", Space::Plain, time.to_string()).unwrap(),
            version: Version { time, node: 1 },
            body_bytes: 1,
            digest: Digest::of(b""),
        }
    }

    fn told(rows: &[u64], parts: &[(u64, u64)]) -> Told {
        let sum = Sum::of(&[Item { time: 1, print: 1 }]);
        Told {
            rows: rows.iter().map(|time| (&row(*time)).into()).collect(),
            parts: parts.iter().map(|(from, to)| Part::new(span(*from, *to), sum)).collect(),
        }
    }

    #[test]
    fn what_cannot_be_true_of_a_range_is_refused() {
        let range = span(10, 20);
        let check = |rows: &[u64], parts: &[(u64, u64)]| {
            checked(range, &told(rows, parts)).map(|parts| parts.len())
        };
        assert_eq!(check(&[], &[]), Ok(0));
        assert_eq!(check(&[19, 15, 15], &[(10, 12), (13, 15)]), Ok(2));
        assert_eq!(check(&[9], &[]), Err("rows outside"));
        assert_eq!(check(&[21], &[]), Err("rows outside"));
        assert_eq!(check(&[15, 16], &[]), Err("rows in disorder"));
        assert_eq!(check(&[14], &[(10, 15)]), Err("rows that are older than a part"));
        for parts in [&[(10, 20)][..], &[(9, 12)], &[(12, 21)], &[(13, 15), (10, 12)], &[(12, 12)]]
        {
            assert_eq!(check(&[], parts), Err("parts that are none"), "{parts:?}");
        }
        let many: Vec<(u64, u64)> = (10..20).map(|at| (at, at + 1)).collect();
        assert_eq!(check(&[], &many), Ok(10));
        let more = Told {
            parts: (0..=PARTS_MAX + 1).map(|_| told(&[], &[(10, 11)]).parts[0]).collect(),
            ..told(&[], &[])
        };
        assert_eq!(checked(range, &more), Err("too many parts"));
    }

    #[test]
    fn rows_wait_until_what_is_newer_was_told() {
        let mut comparison = Comparison::new(u64::MAX, Vain::default());
        assert_eq!(comparison.next_ranges(), [(Span::ALL, None)]);
        comparison.pending = vec![
            Pending::Range(span(0, 5), None),
            Pending::Rows(VecDeque::from([row(6)])),
            Pending::Range(span(7, 8), None),
            Pending::Range(span(8, 9), None),
        ];
        assert_eq!(comparison.next_ranges(), [(span(8, 9), None), (span(7, 8), None)]);
        let rows = VecDeque::from(vec![row(6); WAITING_ROWS_MAX + 1]);
        comparison.pending[1] = Pending::Rows(rows);
        assert_eq!(comparison.next_ranges(), [(span(8, 9), None)]);
        assert!(!comparison.is_over() && Comparison::nothing().is_over());
    }
}
