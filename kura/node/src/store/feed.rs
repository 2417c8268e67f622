//! The node's own feed is kept within its bound: whatever is committed goes by here.
//!
//! 1. the floor rises in memory, so that nobody begins to read below it
//! 2. the rows go and the floor is written, in the batch that adds the new ones
//!
//! So a crash finds both or neither, and whoever reads rows looks at the floor once more behind that.

use std::sync::Arc;

use kura_core::{
    feed::{floor_key, parse_feed_key},
    feed_rows::{Changes, Cut, FeedRows},
};
use kura_env::{Batch, CatalogError, Env, Operation};
use parking_lot::Mutex;

use super::{FEED_SPACE, rows};
use crate::{config::StoreConfig, metrics::Metrics};

/// Rows that are read at once at the start.
const PAGE_ROWS: usize = 4096;

/// What the feed holds, and from where on.
pub(super) struct Feed(Mutex<FeedRows>);

/// What a batch that was bounded does to the feed.
pub(super) struct Bounded {
    changes: Changes,
    cut: Cut,
}

impl Feed {
    /// What the catalog has of it.
    pub(super) async fn load(env: &Env, config: &StoreConfig) -> Result<Arc<Self>, CatalogError> {
        let (catalog, rows_max) = (&*env.catalog, config.feed_rows_max);
        let mut feed = FeedRows::new(rows_max, rows::feed_floor(catalog).await?);
        let mut from = Vec::new();
        loop {
            let page = catalog.range(FEED_SPACE, &from, &[], PAGE_ROWS).await?;
            // Behind them lie watermarks, and the floor.
            page.iter().filter_map(|(key, _)| parse_feed_key(key)).for_each(|it| feed.insert(it));
            match page.last() {
                Some((key, _)) if page.len() == PAGE_ROWS => from = [key, &[0][..]].concat(),
                _ => return Ok(Arc::new(Self(Mutex::new(feed)))),
            }
        }
    }

    /// Followers below it must compare everything.
    pub(super) fn floor(&self) -> u64 {
        self.0.lock().floor()
    }

    /// Has a batch keep the feed within its bound. To be told of by [`Feed::committed`].
    pub(super) fn bound(&self, batch: &mut Batch) -> Bounded {
        let (mut changes, mut floor) = (Changes::default(), 0);
        for operation in &batch.0 {
            match operation {
                Operation::Put(FEED_SPACE, key, value) if key[..] == floor_key() => {
                    floor = rows::read_feed_floor(Some(value));
                }
                Operation::Put(FEED_SPACE, key, _) => {
                    changes.puts.extend(parse_feed_key(key));
                }
                Operation::Delete(FEED_SPACE, key) => {
                    changes.deletes.extend(parse_feed_key(key));
                }
                Operation::Put(..) | Operation::Delete(..) => {}
            }
        }
        let mut feed = self.0.lock();
        feed.raise_floor(floor);
        let cut = feed.decide(&changes);
        feed.raise_floor(cut.floor);
        drop(feed);
        if !cut.left_out.is_empty() || !cut.dropped.is_empty() {
            batch.0.retain(|operation| match operation {
                Operation::Put(FEED_SPACE, key, _) => {
                    parse_feed_key(key).is_none_or(|it| !cut.left_out.contains(&it))
                }
                Operation::Put(..) | Operation::Delete(..) => true,
            });
            rows::drop_feed_rows(batch, &cut.dropped);
            rows::add_feed_floor(batch, cut.floor);
        }
        Bounded { changes, cut }
    }

    /// The batch is in the catalog.
    pub(super) fn committed(&self, Bounded { changes, cut }: Bounded, metrics: &Metrics) {
        metrics.replication.feed_rows_dropped.inc_by(cut.excess);
        self.0.lock().change(&changes, &cut);
    }
}
