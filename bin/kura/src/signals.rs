//! The signals that a node hears.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// A signal that asks the node to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caught {
    /// SIGTERM: service managers.
    Terminate,
    /// SIGINT: somebody at a terminal.
    Interrupt,
    /// SIGUSR1: drain, and nothing else; a second one changes nothing.
    Drain,
}

impl Caught {
    /// Its number.
    pub(crate) fn number(self) -> u8 {
        let kind = match self {
            Self::Interrupt => SignalKind::interrupt(),
            Self::Drain => SignalKind::user_defined1(),
            Self::Terminate => SignalKind::terminate(),
        };
        u8::try_from(kind.as_raw_value()).unwrap_or(u8::MAX)
    }
}

/// The signals, caught from the moment this value is made. One that comes before anybody waits for
/// it is kept.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    drain: Signal,
}

impl Signals {
    /// Catches the signals. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// The system does not let us.
    pub(crate) fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            drain: signal(SignalKind::user_defined1())?,
        })
    }

    /// Waits for the next signal. Cancelling it loses none.
    pub(crate) async fn next(&mut self) -> Caught {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Caught::Terminate,
            _ = self.interrupt.recv() => Caught::Interrupt,
            _ = self.drain.recv() => Caught::Drain,
        }
    }

    /// Waits for a signal of somebody who does not want to wait for a drain.
    pub(crate) async fn impatient(&mut self) -> Caught {
        loop {
            match self.next().await {
                caught @ (Caught::Terminate | Caught::Interrupt) => return caught,
                Caught::Drain => {}
            }
        }
    }
}
