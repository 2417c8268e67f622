//! Group sync: one `fdatasync` for everybody who waits for the same file.
//!
//! ```text
//!   A writes, joins ──┐
//!   B writes, joins ──┴─> sync 1 begins ............ ends, answers A and B
//!                           C writes, joins ───────────┴─> sync 2 begins ...
//! ```
//!
//! A sync covers exactly those who had joined when it began: their writes had returned by then.
//! C joined later, and whether sync 1 saw its bytes nobody knows, so it waits for the next one.

use kura_env::DiskErrorKind;
use parking_lot::Mutex;
use tokio::sync::oneshot;

type Outcome = Result<(), DiskErrorKind>;

/// Who waits for a file to be synced.
#[derive(Default)]
pub(super) struct GroupSync {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whether a turn is queued or running. There is never more than one.
    running: bool,
    /// Those whom the next sync covers. One entry per call of `sync_data` that still waits, and
    /// per call that was given up since the running sync began.
    waiting: Vec<oneshot::Sender<Outcome>>,
    /// Once set it stays: after a failed sync the kernel may have dropped dirty pages, and a later
    /// sync of the same file would report success without them.
    failed: Option<DiskErrorKind>,
}

/// What a caller has to do after joining.
pub(super) struct Joined {
    /// Where the outcome arrives.
    pub(super) outcome: oneshot::Receiver<Outcome>,
    /// Whether the caller must see to it that [`GroupSync::turn`] runs.
    pub(super) starts_turn: bool,
}

impl GroupSync {
    /// Waits for the next sync to begin.
    pub(super) fn join(&self) -> Joined {
        let (answer, outcome) = oneshot::channel();
        let mut state = self.state.lock();
        if let Some(failed) = &state.failed {
            // The receiver is held two lines above, so somebody listens.
            drop(answer.send(Err(failed.clone())));
            return Joined { outcome, starts_turn: false };
        }
        state.waiting.push(answer);
        let starts_turn = !state.running;
        state.running = true;
        Joined { outcome, starts_turn }
    }

    /// Syncs until nobody waits any more.
    pub(super) fn turn(&self, mut sync: impl FnMut() -> Outcome) {
        loop {
            let covered = {
                let mut state = self.state.lock();
                if state.waiting.is_empty() {
                    state.running = false;
                    return;
                }
                std::mem::take(&mut state.waiting)
            };
            let outcome = sync();
            if let Err(kind) = &outcome {
                self.fail(kind);
            }
            for waiter in covered {
                // Whoever gave up waiting does not need the answer.
                drop(waiter.send(outcome.clone()));
            }
        }
    }

    fn fail(&self, kind: &DiskErrorKind) {
        let late = {
            let mut state = self.state.lock();
            state.failed = Some(kind.clone());
            std::mem::take(&mut state.waiting)
        };
        for waiter in late {
            drop(waiter.send(Err(kind.clone())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sync_covers_all_who_joined_before_it_began() {
        let group = GroupSync::default();
        let mut early: Vec<_> = (0..5).map(|_| group.join()).collect();
        assert_eq!(early.iter().filter(|joined| joined.starts_turn).count(), 1);

        let mut late = None;
        let mut syncs = 0;
        group.turn(|| {
            syncs += 1;
            if syncs == 1 {
                let joined = group.join();
                assert!(!joined.starts_turn, "the running turn takes whoever comes late");
                late = Some(joined);
            } else {
                let late = &mut late.as_mut().expect("joined during the first sync").outcome;
                assert!(late.try_recv().is_err(), "the first sync must not answer for it");
            }
            Ok(())
        });
        assert_eq!(syncs, 2);
        assert!(early.iter_mut().all(|joined| joined.outcome.try_recv() == Ok(Ok(()))));
        assert_eq!(late.unwrap().outcome.try_recv(), Ok(Ok(())));
        assert!(group.join().starts_turn, "the turn has ended");
    }

    #[test]
    fn a_file_whose_sync_failed_stays_failed() {
        let group = GroupSync::default();
        let mut first = group.join();
        let mut late = None;
        group.turn(|| {
            late = Some(group.join());
            Err(DiskErrorKind::Io)
        });
        let mut later = group.join();
        assert!(!later.starts_turn, "there is nothing left to try");
        for joined in [&mut first, late.as_mut().unwrap(), &mut later] {
            assert_eq!(joined.outcome.try_recv(), Ok(Err(DiskErrorKind::Io)));
        }
    }
}
