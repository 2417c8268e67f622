//! What power loss does to a page that no sync covered.

use crate::{
    content::{PAGE_BYTES, SECTOR_BYTES},
    draw::Draw,
};

/// What becomes of one dirty page.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    Kept,
    Dropped,
    /// One bit per sector: set where the new bytes arrived.
    Torn {
        sectors: u64,
    },
}

impl Fate {
    /// `bias` leans a whole file one way or the other: pages that all arrive but one find other
    /// mistakes than an even mixture does.
    pub(crate) fn sampled(bias: u64, draw: &mut Draw) -> Self {
        let (kept, torn) = match bias {
            0 => (90, 5),
            1 => (10, 5),
            2 => (50, 40),
            3 => (98, 1),
            _ => (45, 10),
        };
        let drawn = draw.below(100);
        if drawn < kept {
            Self::Kept
        } else if drawn < kept + torn {
            Self::Torn { sectors: draw.below(1 << (PAGE_BYTES / SECTOR_BYTES)) }
        } else {
            Self::Dropped
        }
    }
}
