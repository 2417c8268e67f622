//! What state the volume is in, told from how the calls that change it end.

use std::time::Duration;

/// A call that has not returned for this long makes the volume count as stalled. Too low: a long sync on
/// a slow disk looks like a stall. Too high: writers hang, and nobody is told.
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
    /// Changes fail for another reason, such as `EIO`.
    Failing,
    /// A change was asked for [`STALL_AFTER`] ago and has neither happened nor failed.
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

    /// The state after a call returned. [`Self::Stalled`] is no state that a call leaves behind.
    #[must_use]
    pub fn after(self, call: Call, end: End) -> Self {
        match (end, self) {
            (End::Full, _) => Self::Full,
            (End::ReadOnly, _) => Self::ReadOnly,
            (End::Failed, _) => Self::Failing,
            // Names can be changed on a full volume, and on one whose blocks cannot be written.
            (End::Well, Self::Full | Self::Failing) if call == Call::Names => self,
            (End::Well, _) => Self::Writable,
        }
    }
}

/// What a call changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Bytes: appends, writes, allocations and their syncs. They need room, or show that there was.
    Bytes,
    /// Names: creations, renames, unlinks and the syncs of directories.
    Names,
}

/// How a call returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It did what it was asked.
    Well,
    /// There was no room for it.
    Full,
    /// The volume is read-only.
    ReadOnly,
    /// Anything else went wrong.
    Failed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_ends_with_a_call_that_it_would_have_failed() {
        use DeviceState::{Failing, Full, ReadOnly, Writable};
        for (before, call, end, after) in [
            (Writable, Call::Bytes, End::Well, Writable),
            (Writable, Call::Bytes, End::Full, Full),
            (Writable, Call::Names, End::ReadOnly, ReadOnly),
            (Writable, Call::Bytes, End::Failed, Failing),
            (Full, Call::Names, End::Well, Full),
            (Full, Call::Bytes, End::Well, Writable),
            (Full, Call::Names, End::ReadOnly, ReadOnly),
            (ReadOnly, Call::Names, End::Well, Writable),
            (ReadOnly, Call::Bytes, End::Full, Full),
            (Failing, Call::Names, End::Well, Failing),
            (Failing, Call::Bytes, End::Well, Writable),
        ] {
            assert_eq!(before.after(call, end), after, "{before:?} {call:?} {end:?}");
        }
    }

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<_> = DeviceState::ALL.map(DeviceState::name).into();
        assert_eq!(names.len(), DeviceState::ALL.len());
    }
}
