//! What state the volume is in, told from how the calls that change it end.

use std::time::Duration;

/// For so long no sync may have returned while a call waits, before the volume counts as stalled.
/// Too low: one long sync on a slow disk looks like a stall. Too high: writers hang, and nobody is told.
pub const STALL_AFTER: Duration = Duration::from_secs(10);

/// What the volume can do. Reads are tried in every state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceState {
    /// It takes changes.
    #[default]
    Writable,
    /// It has no room, or a quota is used up.
    Full,
    /// It takes no changes at all: the system made it read-only, mostly after an error.
    ReadOnly,
    /// Changes fail with `EIO`.
    Failing,
    /// A call waits, and no sync has returned for [`STALL_AFTER`].
    Stalled,
}

impl DeviceState {
    /// All of them, from the best to the worst.
    pub const ALL: [Self; 5] =
        [Self::Writable, Self::Full, Self::ReadOnly, Self::Failing, Self::Stalled];

    /// Its name in answers, metrics and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Writable => "writable",
            Self::Full => "full",
            Self::ReadOnly => "read-only",
            Self::Failing => "failing",
            Self::Stalled => "stalled",
        }
    }

    /// The state after a change returned. [`Self::Stalled`] is no state that a change leaves behind.
    ///
    /// Only a probe that ends well ends a bad state: names can be changed on a full volume, and bytes
    /// written to blocks that were reserved before, so the end of any other call says too little.
    #[must_use]
    pub fn after(self, end: End, is_probe: bool) -> Self {
        match end {
            End::Well if is_probe => Self::Writable,
            End::Well => self,
            End::Full => Self::Full,
            End::ReadOnly => Self::ReadOnly,
            End::Failed => Self::Failing,
        }
    }
}

/// How a change returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It did what it was asked.
    Well,
    /// There was no room for it.
    Full,
    /// The volume is read-only.
    ReadOnly,
    /// The device failed.
    Failed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_tells_the_state_and_only_a_probe_ends_it() {
        use DeviceState::{Failing, Full, ReadOnly, Writable};
        for (before, end, is_probe, after) in [
            (Writable, End::Well, false, Writable),
            (Writable, End::Full, false, Full),
            (Writable, End::ReadOnly, false, ReadOnly),
            (Writable, End::Failed, false, Failing),
            (Full, End::Well, false, Full),
            (Full, End::Well, true, Writable),
            (Full, End::ReadOnly, true, ReadOnly),
            (ReadOnly, End::Well, false, ReadOnly),
            (ReadOnly, End::Full, false, Full),
            (Failing, End::Well, true, Writable),
        ] {
            assert_eq!(before.after(end, is_probe), after, "{before:?} {end:?} {is_probe}");
        }
    }

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<_> = DeviceState::ALL.map(DeviceState::name).into();
        assert_eq!(names.len(), DeviceState::ALL.len());
    }
}
