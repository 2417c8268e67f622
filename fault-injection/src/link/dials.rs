//! What can be turned on a link while it runs, and what it has done.

use std::time::Duration;

/// An end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// Where the way forth begins.
    Near,
    /// Where it ends.
    Far,
}

/// A direction over a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// From the near end to the far one.
    Forth,
    /// From the far end to the near one.
    Back,
}

impl End {
    /// The way of what this end sends.
    #[must_use]
    pub fn out(self) -> Way {
        match self {
            Self::Near => Way::Forth,
            Self::Far => Way::Back,
        }
    }
}

impl Way {
    /// The other one.
    #[must_use]
    pub fn reverse(self) -> Self {
        match self {
            Self::Forth => Self::Back,
            Self::Back => Self::Forth,
        }
    }
}

/// What becomes of the bytes that arrive at the end of a way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flow {
    /// They are delivered.
    #[default]
    Open,
    /// They wait, and with them whoever sends more than [`BUFFER_BYTES_MAX`](super::BUFFER_BYTES_MAX), until this
    /// changes: a cable that is pulled out and put back.
    Held,
    /// They are thrown away, and the connections that there are never deliver another byte this way, whatever changes
    /// and whether they lost one or not: as behind a firewall that forgot them. A stream with a hole in it would be a lie
    /// that no network tells.
    Swallowed,
}

/// The dials of one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dial {
    /// How fast bytes go, all connections taken together; `None`: as fast as they come.
    pub bytes_per_second: Option<u64>,
    /// How long each byte is on its way. What has set out keeps the delay that it set out with.
    pub delay: Duration,
    /// What becomes of them at the end.
    pub flow: Flow,
    /// A connection is cut after so many bytes that it delivered this way.
    pub cut_after_bytes: Option<u64>,
}

/// All dials of a link. The default is a link that does nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dials {
    /// From the near end to the far one.
    pub forth: Dial,
    /// From the far end to the near one.
    pub back: Dial,
    /// Whether connections are closed at once, those that are there and those that come.
    pub refuses: bool,
}

impl Dials {
    /// The same dials for both ways.
    #[must_use]
    pub fn both(dial: Dial) -> Self {
        Self { forth: dial, back: dial, refuses: false }
    }

    /// No connection stays, and none comes about.
    #[must_use]
    pub fn refusing() -> Self {
        Self { refuses: true, ..Self::default() }
    }

    /// The dials of one way.
    #[must_use]
    pub fn way(&self, way: Way) -> &Dial {
        match way {
            Way::Forth => &self.forth,
            Way::Back => &self.back,
        }
    }
}

/// What a link did one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WayCounts {
    /// Bytes that were delivered.
    pub delivered_bytes: u64,
    /// Bytes that were swallowed.
    pub swallowed_bytes: u64,
    /// Pieces that waited because of the rate.
    pub throttled: u64,
    /// Pieces that waited at the end of a way that was held.
    pub held: u64,
}

/// What a link did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounts {
    /// Connections that came in.
    pub accepted: u64,
    /// Of those: closed at once because the link refuses.
    pub refused: u64,
    /// Of those: closed because the target took none.
    pub unreachable: u64,
    /// Of those: never reached the target because a way swallowed what it takes to connect.
    pub lost: u64,
    /// Connections that were cut: because the link began to refuse, or after so many bytes.
    pub cut: u64,
    /// Connections that are open now.
    pub open: u64,
    /// What went forth.
    pub forth: WayCounts,
    /// What went back.
    pub back: WayCounts,
}

impl LinkCounts {
    /// What was done one way.
    #[must_use]
    pub fn way(&self, way: Way) -> &WayCounts {
        match way {
            Way::Forth => &self.forth,
            Way::Back => &self.back,
        }
    }

    pub(super) fn way_mut(&mut self, way: Way) -> &mut WayCounts {
        match way {
            Way::Forth => &mut self.forth,
            Way::Back => &mut self.back,
        }
    }
}
