//! What a peer holds, page by page, the newest first.

use std::collections::VecDeque;

use kura_core::{
    feed::{FeedRow, Fill},
    limits::PAGE_ROWS_MAX,
};

use super::{
    error::PeerError,
    fetch::Source,
    round::lacking,
    wire::{LIST, ListPage},
};

/// How far the listing of a peer was read. Kept when a pass is cut.
pub(crate) struct Listing {
    next: Next,
    /// What of the peer's data fits the ring here.
    fill: Fill,
}

#[derive(Clone, Copy)]
enum Next {
    Begin,
    At(u64, u64),
    End,
}

/// A page, and what of it is lacking here.
pub(crate) struct Listed {
    pub(crate) rows: u64,
    pub(crate) lacking: VecDeque<FeedRow>,
    next: Option<(u64, u64)>,
}

impl Listing {
    /// A listing from its beginning, of which so many bytes are to be fetched at the most.
    pub(crate) fn new(capacity_bytes: u64) -> Self {
        Self { next: Next::Begin, fill: Fill::new(capacity_bytes) }
    }

    /// A listing that has nothing more to tell.
    pub(crate) fn nothing() -> Self {
        Self { next: Next::End, fill: Fill::new(0) }
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.next, Next::End)
    }

    /// Asks for the next page.
    pub(crate) fn page<'a>(
        &self,
        source: Source<'a>,
    ) -> impl Future<Output = Result<Listed, PeerError>> + Send + use<'a> {
        let place = match self.next {
            Next::Begin | Next::End => String::new(),
            Next::At(segment, offset) => format!("&segment={segment}&offset={offset}"),
        };
        async move {
            let path = format!("{LIST}?rows={PAGE_ROWS_MAX}{place}");
            let ListPage { rows, next } = source.client.ask(&path).await?;
            let lacking = lacking(source.shared, &rows).await?;
            Ok(Listed { rows: rows.len() as u64, lacking, next })
        }
    }

    /// Takes a page in: moves on, and gives what of it is to be fetched. Once what is lacking fills
    /// the ring, the rest is older and would only drive out what is newer.
    pub(crate) fn take(&mut self, source: Source<'_>, listed: Listed) -> VecDeque<FeedRow> {
        let Listed { mut lacking, next, .. } = listed;
        let fitting = lacking.iter().take_while(|row| self.fill.fits(row.body_bytes)).count();
        let older = lacking.split_off(fitting);
        self.next = next.map_or(Next::End, |(segment, offset)| Next::At(segment, offset));
        if !older.is_empty() {
            source.shared.metrics.replication.older_than_fits.inc_by(older.len() as u64);
            tracing::warn!(
                peer = source.name,
                "the peer holds more than fits here: the rest is left"
            );
            self.next = Next::End;
        }
        lacking
    }
}
