//! What the node holds, in the order of time: the rows of `versions`, which follow from those of `places`,
//! and the sums over them that peers compare. See `kura_core::summary`.
//!
//! A row of `versions` is written in the batch that writes or removes its place, so that a crash leaves both
//! or neither. The sums in memory are moved once that batch is in the catalog; what a failed batch was about
//! stays as it was summed up before, until a batch about it gets through.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures_util::{
    future::try_join_all,
    stream::{self, StreamExt as _, TryStreamExt as _},
};
use kura_core::{
    address::Address,
    feed::FeedRow,
    place::{Place, contents_key, is_mark_in_places, parse_contents_row},
    record::{Area, SegmentId},
    summary::{Item, Position, Span, Sum, Summary, VERSIONS},
};
use kura_env::{Batch, BoxFuture, Catalog, CatalogError, Keyspace, Operation};
use parking_lot::Mutex;

use super::{
    CONTENTS_SPACE, PLACES_SPACE, Store,
    index::{Index, Look, Name},
};
use crate::service::Refusal;

/// item -> address.
pub(crate) const VERSIONS_SPACE: Keyspace = Keyspace(VERSIONS);
/// Rows that are read together.
const PAGE_ROWS: usize = 4096;
/// Look-ups that are under way at once: others wait for the catalog as well.
const LOOKS_AT_ONCE: usize = 32;
/// Items of ranges that join, up to which they are read together.
const JOINED_ITEMS_MAX: u64 = 1024;
/// Rows that are read of such ranges. With more in them, each is read by itself.
const JOINED_ROWS_MAX: usize = 2048;

/// Places that were just looked up, by key; `None` if there was none.
pub(super) type Known = BTreeMap<Bytes, Option<Place>>;

/// An artifact of which a batch changes the version.
pub(super) struct Move {
    key: Bytes,
    /// As far as it is summed up.
    before: Option<Item>,
    after: Option<Item>,
}

/// The item of what lies at a place.
pub(crate) fn item_of(key: &[u8], place: &Place) -> Item {
    Item::of(key, place.version, place.digest)
}

/// Adds to a batch the rows of `versions` that follow from what it does to places. `known` saves looking
/// those up.
pub(super) async fn add_versions(
    catalog: &dyn Catalog,
    batch: &mut Batch,
    known: &Known,
) -> Result<Vec<(Bytes, Option<Place>, Option<Place>)>, CatalogError> {
    let mut places: Known = BTreeMap::new();
    for operation in &batch.0 {
        let (key, place) = match operation {
            Operation::Put(PLACES_SPACE, key, row) => (key, Place::decode(row)),
            Operation::Delete(PLACES_SPACE, key) => (key, None),
            Operation::Put(..) | Operation::Delete(..) => continue,
        };
        if !is_mark_in_places(key) {
            places.insert(key.clone(), place);
        }
    }
    let befores = look_up(catalog, None, places.keys().cloned().collect(), known).await?;
    let mut changed = Vec::with_capacity(places.len());
    for ((key, after), before) in places.into_iter().zip(befores) {
        let item = |place: &Option<Place>| place.as_ref().map(|place| item_of(&key, place));
        let (old, new) = (item(&before), item(&after));
        if let Some(old) = old.filter(|_| old != new) {
            batch.delete(VERSIONS_SPACE, old.key());
        }
        // Also where nothing changes: a catalog may have lost rows of this keyspace alone.
        if let Some(new) = new {
            batch.put(VERSIONS_SPACE, new.key(), key.clone());
        }
        changed.push((key, before, after));
    }
    Ok(changed)
}

/// Where these artifacts lie, in their order.
pub(super) async fn look_up(
    catalog: &dyn Catalog,
    index: Option<&Index>,
    keys: Vec<Bytes>,
    known: &Known,
) -> Result<Vec<Option<Place>>, CatalogError> {
    let looks = keys.into_iter().map(|key| place_of(catalog, index, key, known));
    stream::iter(looks).buffered(LOOKS_AT_ONCE).try_collect().await
}

async fn place_of(
    catalog: &dyn Catalog,
    index: Option<&Index>,
    key: Bytes,
    known: &Known,
) -> Result<Option<Place>, CatalogError> {
    if let Some(place) = known.get(&key) {
        return Ok(*place);
    }
    if let Some(Look::Found(place)) = index.map(|index| index.look(Name::of(&key))) {
        return Ok(Some(place));
    }
    Ok(catalog.get(PLACES_SPACE, &key).await?.as_deref().and_then(Place::decode))
}

/// Sums over what is held.
#[derive(Default)]
pub(crate) struct Sums(Mutex<State>);

#[derive(Default)]
struct State {
    summary: Summary,
    /// What is summed up of artifacts whose last batch failed, and may be in the catalog all the same: until
    /// that is opened again.
    doubts: BTreeMap<Bytes, Option<Item>>,
    /// Segments that have rows and that no reader sees since the start: what lies in them is a miss, and not
    /// summed up.
    unseen: BTreeSet<SegmentId>,
    /// Where leaves begin that are to be divided.
    large: BTreeSet<Position>,
}

/// What is held in a range.
pub(crate) struct Held {
    pub(crate) sum: Sum,
    /// The items, where they are few.
    pub(crate) items: Option<Vec<Item>>,
}

impl State {
    fn change(&mut self, counted: Option<Item>, after: Option<Item>) {
        if counted == after {
            return;
        }
        if let Some(counted) = counted
            && !self.summary.remove(counted)
        {
            tracing::error!(?counted, "what goes was not summed up: peers were told too little");
        }
        self.large.extend(after.and_then(|after| self.summary.add(after)).map(|leaf| leaf.from));
    }
}

impl Sums {
    /// Reads all rows. What lies in the segments `unseen` is a miss.
    pub(super) async fn load(
        catalog: &dyn Catalog,
        unseen: BTreeSet<SegmentId>,
    ) -> Result<Self, CatalogError> {
        let mut left_out = BTreeSet::new();
        for segment in &unseen {
            leave_out(catalog, *segment, &mut left_out).await?;
        }
        let mut state = State { unseen, ..State::default() };
        let mut from = Vec::new();
        loop {
            let rows = catalog.range(VERSIONS_SPACE, &from, &[], PAGE_ROWS).await?;
            // In their order each leaf is full before the next one begins.
            let items = rows.iter().filter_map(|(key, _)| Item::of_key(key));
            for item in items.filter(|item| !left_out.contains(item)) {
                state.change(None, Some(item));
            }
            match rows.last() {
                Some((key, _)) if rows.len() == PAGE_ROWS => from = behind(key),
                _ => return Ok(Self(Mutex::new(state))),
            }
        }
    }

    /// What a batch changes of what is summed up.
    pub(super) fn moves(&self, changed: Vec<(Bytes, Option<Place>, Option<Place>)>) -> Vec<Move> {
        let state = self.0.lock();
        let moves = changed.into_iter().map(|(key, before, after)| {
            let before = before.filter(|place| !state.unseen.contains(&place.segment));
            let item = |place: Option<Place>| place.map(|place| item_of(&key, &place));
            let (before, after) = (item(before), item(after));
            Move { key, before, after }
        });
        moves.collect()
    }

    /// A batch is in the catalog.
    pub(super) fn moved(&self, moves: Vec<Move>) {
        let mut state = self.0.lock();
        for Move { key, before, after } in moves {
            let counted = state.doubts.remove(&key).unwrap_or(before);
            state.change(counted, after);
        }
    }

    /// A batch may or may not be in the catalog.
    pub(super) fn doubt(&self, moves: Vec<Move>) {
        let mut state = self.0.lock();
        for Move { key, before, .. } in moves {
            state.doubts.entry(key).or_insert(before);
        }
    }

    /// The catalog was opened: what was in doubt is there now, or is not.
    pub(super) async fn settle(
        &self,
        catalog: &dyn Catalog,
        index: &Index,
    ) -> Result<(), CatalogError> {
        let keys: Vec<Bytes> = self.0.lock().doubts.keys().cloned().collect();
        if keys.is_empty() {
            return Ok(());
        }
        // A reader may have told the index what was there before.
        keys.iter().for_each(|key| index.forget(Name::of(key)));
        let places = look_up(catalog, None, keys.clone(), &Known::new()).await?;
        let changed = keys.into_iter().zip(places).map(|(key, place)| (key, place, place));
        let moves = self.moves(changed.collect());
        // What lies in an unseen segment is not summed up, before or after.
        self.moved(moves.into_iter().map(|it| Move { after: it.before, ..it }).collect());
        Ok(())
    }

    /// Nothing is left of a segment.
    pub(super) fn is_gone(&self, segment: SegmentId) {
        self.0.lock().unseen.remove(&segment);
    }

    /// Divides the leaves that became too large.
    pub(super) async fn divide(&self, catalog: &dyn Catalog) -> Result<(), CatalogError> {
        loop {
            let leaf = {
                let mut state = self.0.lock();
                if !state.doubts.is_empty() {
                    // Nobody can say which items they have.
                    return Ok(());
                }
                let Some(begin) = state.large.pop_first() else { return Ok(()) };
                state.summary.large_leaf(begin)
            };
            let Some(leaf) = leaf else { continue };
            match self.all_items(catalog, leaf).await {
                Ok(items) => self.0.lock().summary.divide(leaf, &items),
                Err(error) => {
                    self.0.lock().large.insert(leaf.from);
                    return Err(error);
                }
            }
        }
    }

    /// What is held in a range; its items, if they are `items_max` at the most.
    async fn held(
        &self,
        catalog: &dyn Catalog,
        span: Span,
        items_max: usize,
    ) -> Result<Held, CatalogError> {
        let cover = self.0.lock().summary.cover(span);
        if cover.known.count <= items_max as u64 {
            let (items, is_cut) = self.items(catalog, span, items_max + 1).await?;
            if !is_cut {
                return Ok(Held { sum: Sum::of(&items), items: Some(items) });
            }
        }
        let mut sum = cover.known;
        for edge in cover.edges {
            sum += Sum::of(&self.all_items(catalog, edge).await?);
        }
        Ok(Held { sum, items: None })
    }

    /// As [`Sums::held`], of several ranges, the newest first. Those of a few items that join are read together: what a
    /// range costs is the way to the catalog and back, and not its rows.
    async fn held_of(
        &self,
        catalog: &dyn Catalog,
        spans: &[Span],
        items_max: usize,
    ) -> Result<Vec<Held>, CatalogError> {
        let groups = {
            let state = self.0.lock();
            let count = |span: &Span| state.summary.cover(*span).known.count;
            joined(spans, count, items_max as u64)
        };
        let mut reads = Vec::with_capacity(groups.len());
        for group in groups {
            reads.push(self.held_joined(catalog, group, items_max));
        }
        Ok(try_join_all(reads).await?.into_iter().flatten().collect())
    }

    /// What is held in each of some ranges that join, the newest first.
    fn held_joined<'a>(
        &'a self,
        catalog: &'a dyn Catalog,
        spans: &'a [Span],
        items_max: usize,
    ) -> BoxFuture<'a, Result<Vec<Held>, CatalogError>> {
        Box::pin(async move {
            if let [newest, .., eldest] = spans {
                let whole = Span { from: eldest.from, to: newest.to };
                let (items, is_cut) = self.items(catalog, whole, JOINED_ROWS_MAX).await?;
                if !is_cut {
                    return Ok(spans
                        .iter()
                        .map(|span| part_of(&items, *span, items_max))
                        .collect());
                }
            }
            let mut helds = Vec::with_capacity(spans.len());
            for span in spans {
                helds.push(self.held(catalog, *span, items_max).await?);
            }
            Ok(helds)
        })
    }

    async fn all_items(
        &self,
        catalog: &dyn Catalog,
        span: Span,
    ) -> Result<Vec<Item>, CatalogError> {
        Ok(self.items(catalog, span, usize::MAX).await?.0)
    }

    /// Whether something older than `at` is summed up.
    async fn has_before(&self, catalog: &dyn Catalog, at: Position) -> Result<bool, CatalogError> {
        let eldest = self.0.lock().summary.eldest_leaf();
        let Some(leaf) = eldest.filter(|leaf| leaf.from < at) else { return Ok(false) };
        if leaf.to <= at {
            return Ok(true);
        }
        Ok(!self.all_items(catalog, Span { to: at, ..leaf }).await?.is_empty())
    }

    /// The items of a range, from `rows_max` rows at the most; and whether there may be more.
    async fn items(
        &self,
        catalog: &dyn Catalog,
        span: Span,
        rows_max: usize,
    ) -> Result<(Vec<Item>, bool), CatalogError> {
        let mut rows = rows(catalog, span, rows_max).await?;
        let is_cut = rows.len() == rows_max;
        let unseen = self.0.lock().unseen.clone();
        if !unseen.is_empty() {
            let keys = rows.iter().map(|(_, key)| key.clone()).collect();
            let places = look_up(catalog, None, keys, &Known::new()).await?;
            let mut places = places.into_iter();
            let is_seen = |place: Place| !unseen.contains(&place.segment);
            rows.retain(|_| places.next().flatten().is_none_or(is_seen));
        }
        Ok((rows.into_iter().map(|(item, _)| item).collect(), is_cut))
    }
}

/// Divides ranges, of which each lies before the one in front of it, into those that are read together: they join, and
/// have few items each and all together. `count` says about how many a range has.
fn joined(spans: &[Span], count: impl Fn(&Span) -> u64, items_max: u64) -> Vec<&[Span]> {
    let (mut groups, mut begin, mut items) = (Vec::new(), 0, 0);
    for (at, span) in spans.iter().enumerate() {
        let here = count(span);
        let joins = at > begin
            && spans[at - 1].from == span.to
            && here <= items_max
            && items + here <= JOINED_ITEMS_MAX;
        if at > begin && !joins {
            groups.push(&spans[begin..at]);
            (begin, items) = (at, 0);
        }
        // Nothing joins one that has many.
        items += if here <= items_max { here } else { JOINED_ITEMS_MAX };
    }
    if begin < spans.len() {
        groups.push(&spans[begin..]);
    }
    groups
}

/// What of all `items` of several ranges, in their order, lies in one of them.
fn part_of(items: &[Item], span: Span, items_max: usize) -> Held {
    let before = |end: Position| items.partition_point(|item| item.position() < end);
    let items = &items[before(span.from)..before(span.to)];
    Held { sum: Sum::of(items), items: (items.len() <= items_max).then(|| items.to_vec()) }
}

/// Collects the items of what lies in a segment.
async fn leave_out(
    catalog: &dyn Catalog,
    segment: SegmentId,
    left_out: &mut BTreeSet<Item>,
) -> Result<(), CatalogError> {
    let (mut from, to) = (contents_key(segment, 0), contents_key(SegmentId(segment.0 + 1), 0));
    loop {
        let rows = catalog.range(CONTENTS_SPACE, &from, &to, PAGE_ROWS).await?;
        let keys = rows.iter().filter_map(|(_, row)| parse_contents_row(row));
        let keys: Vec<Bytes> = keys.map(|(_, key)| Bytes::copy_from_slice(key)).collect();
        let places = look_up(catalog, None, keys.clone(), &Known::new()).await?;
        let here = keys.iter().zip(places).filter_map(|(key, place)| Some((key, place?)));
        let here = here.filter(|(_, place)| place.segment == segment);
        left_out.extend(here.map(|(key, place)| item_of(key, &place)));
        match rows.last() {
            Some((key, _)) if rows.len() == PAGE_ROWS => from = behind(key),
            _ => return Ok(()),
        }
    }
}

/// The items of a range and the keys of their artifacts, `rows_max` at the most.
async fn rows(
    catalog: &dyn Catalog,
    span: Span,
    rows_max: usize,
) -> Result<Vec<(Item, Bytes)>, CatalogError> {
    let (mut from, to) = (span.from.key(), span.to.key());
    let mut found = Vec::new();
    loop {
        let page = PAGE_ROWS.min(rows_max - found.len());
        let rows = catalog.range(VERSIONS_SPACE, &from, &to, page).await?;
        let next = rows.last().filter(|_| rows.len() == page).map(|(key, _)| behind(key));
        found.extend(rows.into_iter().filter_map(|(key, row)| Some((Item::of_key(&key)?, row))));
        match next {
            Some(next) if found.len() < rows_max => from = next,
            _ => return Ok(found),
        }
    }
}

/// The first key behind `key`.
fn behind(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

impl Store {
    /// What is held in a range; its items, if they are `items_max` at the most.
    pub(crate) async fn held(&self, span: Span, items_max: usize) -> Result<Held, Refusal> {
        let held = self.0.sums.held(&*self.0.env.catalog, span, items_max).await;
        held.map_err(Refusal::Catalog)
    }

    /// As [`Store::held`], of several ranges, of which each lies before the one in front of it.
    pub(crate) async fn held_of(
        &self,
        spans: &[Span],
        items_max: usize,
    ) -> Result<Vec<Held>, Refusal> {
        let helds = self.0.sums.held_of(&*self.0.env.catalog, spans, items_max).await;
        helds.map_err(Refusal::Catalog)
    }

    /// About how many items a range holds: without those of leaves that it cuts.
    pub(crate) fn about_how_many(&self, span: Span) -> u64 {
        self.0.sums.0.lock().summary.cover(span).known.count
    }

    /// The artifacts in a range of which `is_wanted` says yes to the item, the newest first: about `rows_max`,
    /// less those that are a miss by now, and where what is left of the range ends.
    pub(crate) async fn versions(
        &self,
        span: Span,
        rows_max: usize,
        is_wanted: impl Fn(Item) -> bool + Send,
    ) -> Result<(Vec<FeedRow>, Position), Refusal> {
        let rows = rows(&*self.0.env.catalog, span, usize::MAX).await.map_err(Refusal::Catalog)?;
        let (mut wanted, mut told_from) = (Vec::new(), span.from);
        let mut last = span.to;
        for (item, key) in rows.into_iter().rev() {
            // What shares a position is told together.
            if wanted.len() >= rows_max && item.position() < last {
                told_from = last;
                break;
            }
            last = item.position();
            if is_wanted(item) {
                wanted.push((item, key));
            }
        }
        let mut looks = Vec::with_capacity(wanted.len());
        for (item, key) in wanted {
            looks.push(self.row_of(item, key));
        }
        let rows: Vec<_> = stream::iter(looks).buffered(LOOKS_AT_ONCE).try_collect().await?;
        Ok((rows.into_iter().flatten().collect(), told_from))
    }

    /// The row of an item; nothing if that was replaced since, or lies in what is to be evicted.
    fn row_of(&self, item: Item, key: Bytes) -> BoxFuture<'_, Result<Option<FeedRow>, Refusal>> {
        Box::pin(async move {
            let Ok(address) = Address::decode(&key) else { return Ok(None) };
            let Some(place) = self.version(&address).await? else { return Ok(None) };
            let Place { version, body_bytes, digest, .. } = place;
            let is_same = item_of(&key, &place) == item;
            Ok(is_same.then_some(FeedRow { address, version, body_bytes, digest }))
        })
    }

    /// A range divided into at most so many parts, the eldest first.
    pub(crate) fn parts(&self, span: Span, parts_max: u64) -> Vec<Span> {
        self.0.sums.0.lock().summary.parts(span, parts_max)
    }

    /// The end of a range that holds about so many items.
    pub(crate) fn newest_of(&self, span: Span, items: u64) -> Span {
        self.0.sums.0.lock().summary.newest(span, items)
    }

    /// Whether nothing of this range is wanted, whatever it is: it is older than what there is room for, and
    /// nothing here is as old, so that it cannot be a later version of what is here either. What was lost is
    /// wanted back however old it is.
    ///
    /// # Errors
    ///
    /// [`Refusal::Catalog`].
    pub(crate) async fn wants_nothing_of(&self, span: Span) -> Result<bool, Refusal> {
        let ring = self.0.view.ring();
        let is_too_old = |area: Area| {
            ring.is_too_old(area, span.to.time, self.0.capacity.ring(area).segments_max)
        };
        if !is_too_old(Area::Blobs) || !is_too_old(Area::Entries) {
            return Ok(false);
        }
        let large_bytes = self.0.capacity.ring(Area::Blobs).record_bytes_max();
        // Of versions of one time the node decides, and not the position.
        let behind = Position { time: span.to.time.saturating_add(1), print: 0 };
        if !self.has_younger_objects(large_bytes, span.to.time)
            || self.0.losses.has_any_of(span.from.time..=span.to.time)
        {
            return Ok(false);
        }
        let has_before = self.0.sums.has_before(&*self.0.env.catalog, behind).await;
        Ok(!has_before.map_err(Refusal::Catalog)?)
    }

    /// The range over which the sums in memory are not those of these items, which are all that the catalog
    /// has, with where they lie; for checks of a store at rest. `None` while the catalog is not open.
    #[must_use]
    pub fn wrong_sum(&self, items: &[(Item, SegmentId)]) -> Option<Span> {
        let state = self.0.sums.0.lock();
        let seen = items.iter().filter(|(_, segment)| !state.unseen.contains(segment));
        let seen: Vec<Item> = seen.map(|(item, _)| *item).collect();
        if state.doubts.is_empty() { state.summary.wrong(&seen) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(time: u64) -> Option<Item> {
        Some(Item { time, print: u128::from(time) << 70 })
    }

    fn moves(before: Option<Item>, after: Option<Item>) -> Vec<Move> {
        vec![Move { key: Bytes::from_static(b"key"), before, after }]
    }

    fn wrong(sums: &Sums, items: &[Item]) -> bool {
        sums.0.lock().summary.wrong(items).is_some()
    }

    fn span(from: u64, to: u64) -> Span {
        let at = |time| Position { time, print: 0 };
        Span { from: at(from), to: at(to) }
    }

    #[test]
    fn ranges_of_few_items_that_join_are_read_together() {
        let sizes = |spans: &[(u64, u64)], most: u64| {
            let spans: Vec<Span> = spans.iter().map(|(from, to)| span(*from, *to)).collect();
            // As many items as time.
            let groups = joined(&spans, |span| span.to.time - span.from.time, most);
            let all: Vec<Span> = groups.iter().flat_map(|group| group.to_vec()).collect();
            assert_eq!(all, spans, "each range once, and in its order");
            groups.iter().map(|group| group.len()).collect::<Vec<_>>()
        };
        assert_eq!(sizes(&[], 96), [0; 0]);
        assert_eq!(sizes(&[(40, 50), (30, 40), (20, 30)], 96), [3]);
        assert_eq!(sizes(&[(40, 50), (30, 39), (20, 30)], 96), [1, 2], "they do not all join");
        assert_eq!(sizes(&[(300, 350), (200, 300), (150, 200), (100, 150)], 96), [1, 1, 2]);
        assert_eq!(sizes(&[(800, 1600), (400, 800), (0, 400)], 1000), [1, 2], "{JOINED_ITEMS_MAX}");
    }

    #[test]
    fn what_is_read_together_is_that_of_each_range() {
        let items: Vec<Item> = (10..20).filter_map(item).collect();
        let held = part_of(&items, span(12, 15), 3);
        assert_eq!((held.sum, held.items), (Sum::of(&items[2..5]), Some(items[2..5].to_vec())));
        let held = part_of(&items, span(12, 16), 3);
        assert_eq!((held.sum.count, held.items), (4, None));
        assert_eq!(part_of(&items, span(20, 30), 3).sum, Sum::default());
    }

    #[test]
    fn what_a_refused_batch_did_all_the_same_is_summed_up_once() {
        let sums = Sums::default();
        sums.moved(moves(None, item(1)));
        assert!(!wrong(&sums, &[item(1).unwrap()]));
        // It was refused twice, and the first time it was there all the same.
        sums.doubt(moves(item(1), item(2)));
        sums.doubt(moves(item(2), item(2)));
        assert!(!wrong(&sums, &[item(1).unwrap()]), "nothing is moved yet");
        sums.moved(moves(item(2), item(2)));
        assert!(!wrong(&sums, &[item(2).unwrap()]));
        // What is refused and never comes is summed up as before.
        sums.doubt(moves(item(2), None));
        sums.moved(moves(item(2), item(3)));
        assert!(!wrong(&sums, &[item(3).unwrap()]));
        assert!(sums.0.lock().doubts.is_empty());
        sums.moved(moves(item(3), None));
        assert!(!wrong(&sums, &[]));
    }
}
