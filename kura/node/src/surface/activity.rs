//! What moves on one connection, and until when it may stand still.
//!
//! - A head must be complete `header_timeout` after its first byte; the first one that long after
//!   the connection was accepted, so that silent connections go as well.
//! - Otherwise some byte must move, in either direction, every `idle_timeout`. There is no limit on
//!   how long a body takes while it moves. While the socket has no room, bytes that leave it count:
//!   it takes more only once a good part of it is free, which on a slow link can take minutes.
//! - Time in which the client waits for the node (a [`Turn`] is held) does not count.
//! - A connection that lingers after its last answer ends [`LINGER_MAX`] later.

use std::{sync::Arc, time::Duration};

use kura_core::framing::{Framing, Phase, Violation};
use kura_env::{Clock, Instant};
use parking_lot::Mutex;

use crate::{config::SurfaceConfig, metrics::CloseReason};

/// How long a connection on which the last answer was sent waits for the client to stop sending.
pub(crate) const LINGER_MAX: Duration = Duration::from_secs(5);

/// What moves on one connection. Shared by its stream, its requests and its watch.
pub(crate) struct Activity {
    clock: Arc<dyn Clock>,
    moves: Mutex<Moves>,
}

struct Moves {
    framing: Framing,
    /// When the head that is arriving began.
    head_began: Instant,
    /// When a byte last moved in either direction, or the node's turn last ended.
    moved: Instant,
    /// Bytes that the socket held when it last refused to take more.
    unsent_bytes: Option<u64>,
    /// How many things the client waits for.
    turns: usize,
    /// Requests handed to the service so far, which is the number of the next one.
    requests: u64,
    /// Since when the connection only waits for the client to stop sending.
    lingering: Option<Instant>,
}

/// Why a connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expired {
    /// A deadline passed.
    Closed(CloseReason),
    /// The client went on sending long after its last answer.
    Lingered,
}

impl Activity {
    /// Begins now, with the connection accepted.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        let now = clock.now();
        let moves = Mutex::new(Moves {
            framing: Framing::default(),
            head_began: now,
            moved: now,
            unsent_bytes: None,
            turns: 0,
            requests: 0,
            lingering: None,
        });
        Arc::new(Self { clock, moves })
    }

    /// Bytes came from the client.
    pub(crate) fn received(&self, bytes: &[u8]) {
        let now = self.clock.now();
        let mut moves = self.moves.lock();
        moves.moved = now;
        // A head may begin anywhere in `bytes`, behind a body too, but not before now.
        if !matches!(moves.framing.phase(), Phase::Head | Phase::Opening) {
            moves.head_began = now;
        }
        moves.framing.feed(bytes);
    }

    /// Bytes went to the client. While answers are on their way a head that has begun may wait.
    pub(crate) fn sent(&self) {
        let now = self.clock.now();
        let mut moves = self.moves.lock();
        moves.moved = now;
        moves.unsent_bytes = None;
        if moves.framing.phase() == Phase::Head {
            moves.head_began = now;
        }
    }

    /// The socket has no room, and holds `bytes` that did not reach the client yet. Fewer than the
    /// last time is bytes that moved.
    pub(crate) fn waits(&self, bytes: Option<u64>) {
        let now = self.clock.now();
        let mut moves = self.moves.lock();
        if moves.unsent_bytes.zip(bytes).is_some_and(|(before, bytes)| bytes < before) {
            moves.moved = now;
        }
        moves.unsent_bytes = bytes;
    }

    /// Takes the number of the next request, and tells whether its frame was refused. To be called
    /// once a request, in their order on the connection.
    pub(crate) fn next_request(&self) -> Option<Violation> {
        let mut moves = self.moves.lock();
        let number = moves.requests;
        moves.requests += 1;
        let refusal = moves.framing.refusal()?;
        (number >= refusal.request).then_some(refusal.violation)
    }

    /// From now on the client waits for the node, until the turn is dropped.
    pub(crate) fn turn(self: &Arc<Self>) -> Turn {
        self.moves.lock().turns += 1;
        Turn(self.clone())
    }

    /// The last answer is out. Whether the client may still be sending, so that closing now would
    /// reset the connection and could take the answer with it.
    pub(crate) fn linger(&self) -> bool {
        let now = self.clock.now();
        let mut moves = self.moves.lock();
        let sending = match moves.framing.phase() {
            Phase::Head | Phase::Body | Phase::Refused => true,
            Phase::Opening | Phase::Between | Phase::Http2 => false,
        };
        if sending && moves.lingering.is_none() {
            moves.lingering = Some(now);
        }
        sending
    }

    /// Waits until the connection is to be closed.
    pub(crate) async fn expired(&self, config: &SurfaceConfig) -> Expired {
        loop {
            let now = self.clock.now();
            let (deadline, why) = self.deadline(now, config);
            if deadline <= now {
                return why;
            }
            // A head that begins while we sleep has an earlier deadline than the one we sleep for,
            // but none earlier than this.
            let next_look = now + config.header_timeout.min(LINGER_MAX);
            self.clock.sleep_until(deadline.min(next_look)).await;
        }
    }

    fn deadline(&self, now: Instant, config: &SurfaceConfig) -> (Instant, Expired) {
        let moves = self.moves.lock();
        if let Some(since) = moves.lingering {
            return (since + LINGER_MAX, Expired::Lingered);
        }
        let idle = Expired::Closed(CloseReason::Idle);
        if moves.turns > 0 {
            return (now + config.idle_timeout, idle);
        }
        match moves.framing.phase() {
            Phase::Opening | Phase::Head => {
                (moves.head_began + config.header_timeout, Expired::Closed(CloseReason::Header))
            }
            Phase::Body | Phase::Between | Phase::Http2 | Phase::Refused => {
                (moves.moved + config.idle_timeout, idle)
            }
        }
    }
}

/// Held while the client waits for the node and not the other way round.
pub(crate) struct Turn(Arc<Activity>);

impl Drop for Turn {
    fn drop(&mut self) {
        let now = self.0.clock.now();
        let mut moves = self.0.moves.lock();
        moves.turns -= 1;
        moves.moved = now;
        if moves.framing.phase() == Phase::Head {
            moves.head_began = now;
        }
    }
}
