//! The history of a run as a rolling hash: every change of a disk, every connection, every piece
//! of bytes that arrives, and everything that the story tells.

use std::{fmt::Write as _, sync::Arc};

use kura_env::Instant;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

/// The history of a run, shared by all hosts.
#[derive(Clone, Default)]
pub(crate) struct Journal(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    hash: Sha256,
    events: u64,
    line: String,
}

impl Journal {
    /// Something happened on a host.
    pub(crate) fn record(&self, at: Instant, host: &str, what: std::fmt::Arguments<'_>) {
        let mut state = self.0.lock();
        let State { hash, events, line } = &mut *state;
        line.clear();
        // Writing into a string cannot fail.
        writeln!(line, "{} {host} {what}", at.0).ok();
        hash.update(line.as_bytes());
        *events += 1;
    }

    /// How much happened.
    pub(crate) fn events(&self) -> u64 {
        self.0.lock().events
    }

    /// The hash over all of it.
    pub(crate) fn hash(&self) -> String {
        let hash = self.0.lock().hash.clone().finalize();
        let mut text = String::new();
        for byte in hash.iter().take(16) {
            // As above.
            write!(text, "{byte:02x}").ok();
        }
        text
    }
}
