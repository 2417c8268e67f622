//! The nodes while they run: waiting for them to be ready, to end, or for somebody to stop them.

use std::{
    future::{Future as _, poll_fn},
    io,
    path::Path,
    process::ExitStatus,
    task::Poll,
    time::Duration,
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinSet,
    time::{Instant, interval, sleep_until, timeout},
};

use super::{
    Home,
    node::{Place, Running},
    text,
};
use crate::{
    ask::NodeUrl,
    complain,
    exit::Exit,
    print,
    settings::Key,
    signals::{Caught, Signals},
};

/// How often a node that is not ready yet is asked whether it is.
const ASK_INTERVAL: Duration = Duration::from_millis(50);
/// How long it may take to answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// When to say that somebody is still waited for.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long nodes may take to end: to drain, to close their stores, and a little more.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a process may take to be gone after it was killed.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// What ends the mesh.
pub(super) struct Stops {
    signals: Signals,
    /// The terminal was closed.
    hangup: Signal,
}

impl Stops {
    /// Catches signals from now on. Must be called within a tokio runtime.
    pub(super) fn catch() -> io::Result<Self> {
        Ok(Self { signals: Signals::catch()?, hangup: signal(SignalKind::hangup())? })
    }

    async fn next(&mut self) -> Caught {
        tokio::select! {
            biased;
            caught = self.signals.next() => caught,
            _ = self.hangup.recv() => Caught::ParentGone,
        }
    }
}

/// The nodes that run.
#[derive(Default)]
pub(super) struct Mesh {
    running: Vec<Running>,
}

impl Mesh {
    /// Starts one more node.
    pub(super) fn start(
        &mut self,
        program: &Path,
        place: &Place,
        flags: &[(Key, String)],
    ) -> io::Result<()> {
        self.running.push(Running::start(program, place, flags)?);
        Ok(())
    }

    /// Runs until somebody stops it, or no node is left.
    pub(super) async fn live(mut self, places: &[Place], home: &Home, mut stops: Stops) -> Exit {
        // Whether somebody reads what is said makes no difference to the nodes.
        print(&text::greeting(places, home));
        let began = Instant::now();
        let mut asking = JoinSet::new();
        for place in places {
            let (number, url) = (place.number, place.url());
            asking.spawn(async move {
                ready(&url).await;
                number
            });
        }
        let mut waiting: Vec<&Place> = places.iter().collect();
        let mut patience = Some(began + PATIENCE);
        while !self.running.is_empty() {
            let was_waiting = !waiting.is_empty();
            tokio::select! {
                biased;
                _ = stops.next() => {
                    return self.stop(&mut stops).await;
                }
                (number, status) = self.next_end() => {
                    complain(&ended_by_itself(number, &status, self.running.len()));
                    waiting.retain(|place| place.number != number);
                }
                Some(Ok(number)) = asking.join_next() => {
                    waiting.retain(|place| place.number != number);
                }
                () = out_of(patience) => {
                    patience = None;
                    if was_waiting {
                        print(&text::still_waiting(&waiting));
                    }
                }
            }
            if was_waiting && waiting.is_empty() && !self.running.is_empty() {
                let is_running =
                    |place: &&Place| self.running.iter().any(|it| it.number == place.number);
                let running: Vec<&Place> = places.iter().filter(is_running).collect();
                print(&text::ready(&running, began.elapsed()));
            }
        }
        Exit::Io
    }

    /// Lets all nodes drain, and kills those that take too long, or all when somebody is impatient.
    async fn stop(&mut self, stops: &mut Stops) -> Exit {
        print(&format!("\nstopping {} (once more to kill)\n", text::nodes(self.running.len())));
        self.running.iter_mut().for_each(Running::stop);
        let deadline = Instant::now() + STOP_TIMEOUT;
        while !self.running.is_empty() {
            let (why, exit) = tokio::select! {
                biased;
                (number, status) = self.next_end() => {
                    if !status.as_ref().is_ok_and(ExitStatus::success) {
                        let how = told(&status);
                        complain(&format!("kura: node-{number} did not end well: {how}\n"));
                    }
                    continue;
                }
                caught = stops.next() => ("killed", Exit::Impatient(caught.number())),
                () = sleep_until(deadline) => ("killed: out of time", Exit::Clean),
            };
            print(&format!("{} {why}\n", text::nodes(self.running.len())));
            self.kill().await;
            return exit;
        }
        print("stopped\n");
        Exit::Clean
    }

    /// Kills all nodes that are left, and waits until they are gone.
    async fn kill(&mut self) {
        self.running.iter_mut().for_each(Running::kill);
        let gone = async {
            while !self.running.is_empty() {
                // How it ended is known: it was killed.
                drop(self.next_end().await);
            }
        };
        if timeout(KILL_TIMEOUT, gone).await.is_err() {
            complain("kura: a node is still there after it was killed\n");
        }
    }

    /// Waits until some node has ended, and takes it out. For ever if there is none.
    async fn next_end(&mut self) -> (u16, io::Result<ExitStatus>) {
        let (place, status) = {
            let mut ends: Vec<_> =
                self.running.iter_mut().map(|node| Box::pin(node.process.wait())).collect();
            poll_fn(|context| {
                for (place, end) in ends.iter_mut().enumerate() {
                    if let Poll::Ready(status) = end.as_mut().poll(context) {
                        return Poll::Ready((place, status));
                    }
                }
                Poll::Pending
            })
            .await
        };
        let mut node = self.running.remove(place);
        // Its last words come before the news of its end.
        timeout(ASK_TIMEOUT, node.said()).await.ok();
        (node.number, status)
    }
}

/// Waits until a node says that it is ready.
async fn ready(node: &NodeUrl) {
    let mut ticks = interval(ASK_INTERVAL);
    loop {
        ticks.tick().await;
        if node.get("/ready", ASK_TIMEOUT).await.is_ok_and(|page| page.status == 200) {
            return;
        }
    }
}

async fn out_of(patience: Option<Instant>) {
    match patience {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}

fn ended_by_itself(number: u16, status: &io::Result<ExitStatus>, left: usize) -> String {
    let rest = match left {
        0 => "no node is left".to_owned(),
        _ => format!("it is not started again, {} left", text::nodes(left)),
    };
    format!("kura: node-{number} ended by itself ({}); {rest}\n", told(status))
}

fn told(status: &io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => status.to_string(),
        Err(error) => format!("how is not known: {error}"),
    }
}
