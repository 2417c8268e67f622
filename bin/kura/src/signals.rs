//! The signals that a node hears, and the end of the process that started it.

use std::{io, thread};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};

/// A signal that asks the node to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caught {
    /// SIGTERM: service managers.
    Terminate,
    /// SIGINT: somebody at a terminal.
    Interrupt,
    /// SIGUSR1: drain, and nothing else; a second one changes nothing.
    Drain,
    /// Standard input was closed, which whoever started the node held open.
    ParentGone,
}

impl Caught {
    /// Its number.
    pub(crate) fn number(self) -> u8 {
        let kind = match self {
            Self::Interrupt => SignalKind::interrupt(),
            Self::Drain => SignalKind::user_defined1(),
            Self::Terminate => SignalKind::terminate(),
            // The signal of those whose terminal has gone.
            Self::ParentGone => SignalKind::hangup(),
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
    /// Until the parent has gone, where that counts.
    parent: Option<oneshot::Receiver<()>>,
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
            parent: None,
        })
    }

    /// Watches standard input from now on: its end counts as a signal, whatever ended the process
    /// at the other end.
    pub(crate) fn hear_parent(&mut self) {
        let (gone, parent) = oneshot::channel();
        // Reading cannot be cancelled, so nobody waits for the thread either.
        thread::spawn(move || {
            // An error is an end as well.
            io::copy(&mut io::stdin().lock(), &mut io::sink()).ok();
            gone.send(()).ok();
        });
        self.parent = Some(parent);
    }

    /// Waits for the next signal. Cancelling it loses none.
    pub(crate) async fn next(&mut self) -> Caught {
        let Self { parent, .. } = self;
        let parent_gone = async {
            match parent {
                Some(gone) => {
                    gone.await.ok();
                    *parent = None;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Caught::Terminate,
            _ = self.interrupt.recv() => Caught::Interrupt,
            _ = self.drain.recv() => Caught::Drain,
            () = parent_gone => Caught::ParentGone,
        }
    }

    /// Waits for a signal of somebody who does not want to wait for a drain.
    pub(crate) async fn impatient(&mut self) -> Caught {
        loop {
            match self.next().await {
                caught @ (Caught::Terminate | Caught::Interrupt) => return caught,
                Caught::Drain | Caught::ParentGone => {}
            }
        }
    }
}
