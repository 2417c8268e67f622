//! A node's own feed does not grow for ever.

use kura_core::feed::parse_feed_key;
use kura_env::Row;

use super::{Invariant, Violation};

/// This invariant.
pub const INVARIANT: Invariant = Invariant {
    name: "feed_bounded",
    demands: "the feed of a node has no more rows than `node.feed_rows`",
    checked: "on the catalog of every node, at rest",
};

/// Judges the rows of the keyspace `feed`.
///
/// # Errors
///
/// If there are more than `rows_max`, watermarks and the floor left aside.
pub fn check(node: &str, feed: &[Row], rows_max: u64) -> Result<(), Violation> {
    let rows = feed.iter().filter(|(key, _)| parse_feed_key(key).is_some()).count() as u64;
    if rows <= rows_max {
        return Ok(());
    }
    Err(INVARIANT.violated(format!("{node}: {rows} rows in its feed, the bound is {rows_max}")))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kura_core::feed::{feed_key, floor_key};

    use super::*;

    #[test]
    fn a_row_too_many_is_reported() {
        let row = |key: &[u8]| (Bytes::copy_from_slice(key), Bytes::new());
        let mut feed = vec![row(&feed_key(7)), row(&feed_key(9)), row(&floor_key())];
        assert!(check("n", &feed, 2).is_ok());
        feed.push(row(&feed_key(10)));
        assert!(check("n", &feed, 2).is_err());
    }
}
