//! Effects: every change to the disk has a number and a name, and somebody may be asked before it
//! happens. This is where crash points come from.

use std::time::Duration;

use kura_env::{DiskEffect, DiskErrorKind};

use crate::config::Crash;

/// One life of a node on a device: everything done through the handles of one
/// [`SimDisk::attach`](crate::SimDisk::attach).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LifeId(pub u64);

/// A change that is about to happen.
///
/// Syncs are asked when their time is up, not when they begin: until then they have no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Counts the effects of the device from 1, through all its lives.
    pub number: u64,
    /// Whose change it is.
    pub life: LifeId,
    /// What changes.
    pub change: DiskEffect,
}

/// What shall become of an effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EffectVerdict {
    /// It happens.
    Go,
    /// The life ends and the effect does not happen.
    CrashBefore(Crash),
    /// The life ends in the middle: of an append or a write a drawn prefix happens, of anything
    /// else all or nothing, drawn.
    CrashWithin(Crash),
    /// The effect happens and the life ends before its caller hears of it.
    CrashAfter(Crash),
    /// It fails and does not happen. A failed `sync_data` leaves its pages clean in memory and old
    /// on the device.
    Fail(DiskErrorKind),
    /// A drawn prefix of an append or a write happens, then it fails. The same as `Fail` for
    /// anything else.
    FailWithin(DiskErrorKind),
    /// It happens, and takes so much longer.
    Stall(Duration),
}

/// Who is asked before an effect and told after it. Called without any lock of the disk held, so it
/// may inspect the disk; it must not attach, crash or write.
pub trait EffectHook: Send {
    /// Decides.
    fn before(&mut self, effect: &Effect) -> EffectVerdict;

    /// Learns how an effect ended that did not end its life.
    fn after(&mut self, effect: &Effect, outcome: &Result<(), DiskErrorKind>) {
        let _ = (effect, outcome);
    }
}

impl<F: FnMut(&Effect) -> EffectVerdict + Send> EffectHook for F {
    fn before(&mut self, effect: &Effect) -> EffectVerdict {
        self(effect)
    }
}

/// A crash that the effect hook asked for: the life has ended, and what remains is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrashReport {
    /// At which effect.
    pub effect: Effect,
    /// How.
    pub crash: Crash,
}

/// Who is told of a crash that the effect hook asked for.
pub type OnCrash = Box<dyn FnMut(&CrashReport) + Send>;
