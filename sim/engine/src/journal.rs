//! The journal: a rolling hash over all events of a run, and on request a line for each, so that
//! two runs that should be equal can be compared event by event.
//!
//! What goes in are times, ids, kinds and lengths. Never the bytes of bodies (ciphertext differs
//! from run to run) and never an address in memory.

use std::{fmt, hash::Hasher as _};

use siphasher::sip128::{Hasher128 as _, SipHasher13};

/// What kind of event a line tells of. The number goes into the hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Event {
    Spawn = 1,
    Poll = 2,
    End = 3,
    Timer = 4,
    World = 5,
    Note = 6,
    Node = 7,
    Compute = 8,
    Listen = 9,
    Connect = 10,
    Establish = 11,
    Refuse = 12,
    Deliver = 13,
    Eof = 14,
    Reset = 15,
    Close = 16,
    Fault = 17,
}

impl Event {
    fn name(self) -> &'static str {
        match self {
            Self::Spawn => "spawn",
            Self::Poll => "poll",
            Self::End => "end",
            Self::Timer => "timer",
            Self::World => "world",
            Self::Note => "note",
            Self::Node => "node",
            Self::Compute => "compute",
            Self::Listen => "listen",
            Self::Connect => "connect",
            Self::Establish => "establish",
            Self::Refuse => "refuse",
            Self::Deliver => "deliver",
            Self::Eof => "eof",
            Self::Reset => "reset",
            Self::Close => "close",
            Self::Fault => "fault",
        }
    }
}

/// The hash over everything that happened so far. Shown as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JournalHash(pub u128);

impl fmt::Display for JournalHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for JournalHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Takes the lines of a journal, one call each, without a line end: number of the event, virtual
/// nanoseconds, kind, text. It must not call back into the world.
pub type Recorder = Box<dyn FnMut(&str) + Send>;

pub(crate) struct Journal {
    hasher: SipHasher13,
    events: u64,
    recorder: Option<Recorder>,
}

impl Journal {
    pub(crate) fn new() -> Self {
        Self { hasher: SipHasher13::new_with_keys(0, 0), events: 0, recorder: None }
    }

    /// Takes up one event. `text` is only asked for while a recorder listens.
    pub(crate) fn record(
        &mut self,
        at_nanos: u64,
        event: Event,
        numbers: [u64; 2],
        text: impl FnOnce() -> String,
    ) {
        let mut block = [0; 25];
        block[0] = event as u8;
        block[1..9].copy_from_slice(&at_nanos.to_le_bytes());
        block[9..17].copy_from_slice(&numbers[0].to_le_bytes());
        block[17..25].copy_from_slice(&numbers[1].to_le_bytes());
        self.hasher.write(&block);
        self.events += 1;
        if let Some(recorder) = &mut self.recorder {
            recorder(&format!("{} {at_nanos} {} {}", self.events, event.name(), text()));
        }
    }

    /// Takes up an event that others tell of, with its text in the hash.
    pub(crate) fn note(&mut self, at_nanos: u64, kind: &str, text: &str) {
        self.hasher.write(kind.as_bytes());
        self.hasher.write(&[0xff]);
        self.hasher.write(text.as_bytes());
        let lengths = [kind.len(), text.len()]
            .map(|len| u64::try_from(len).expect("a length fits into 64 bits"));
        self.record(at_nanos, Event::Note, lengths, || format!("{kind} {text}"));
    }

    pub(crate) fn hash(&self) -> JournalHash {
        JournalHash(self.hasher.finish128().as_u128())
    }

    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    /// Sets who listens and returns who did.
    pub(crate) fn set_recorder(&mut self, recorder: Option<Recorder>) -> Option<Recorder> {
        std::mem::replace(&mut self.recorder, recorder)
    }
}
