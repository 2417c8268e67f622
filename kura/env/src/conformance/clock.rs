//! What every [`Clock`] keeps: time never goes back, and no sleep ends early.

use std::{sync::Arc, time::Duration};

use futures_util::{
    future::{join, join_all},
    poll,
};

use crate::{Clock, Elapsed, Instant, timeout};

/// Long enough to be seen on a real clock, short enough to wait for.
const TICK: Duration = Duration::from_millis(20);

/// Holds `clock` to its contract.
///
/// # Panics
///
/// Where the contract is broken.
pub async fn suite(clock: Arc<dyn Clock>) {
    sleeps_end_at_or_after_their_deadline(&*clock).await;
    a_deadline_in_the_past_is_over_at_once(&*clock).await;
    sleeps_run_side_by_side(&*clock).await;
    a_dropped_sleep_disturbs_nobody(&*clock).await;
    a_timeout_ends_what_is_not_done(&*clock).await;
    the_wall_clock_moves_with_the_monotonic_one(&*clock).await;
}

async fn sleeps_end_at_or_after_their_deadline(clock: &dyn Clock) {
    for factor in 0..3 {
        let wait = TICK * factor;
        let before = clock.now();
        clock.sleep(wait).await;
        assert!(clock.now().since(before) >= wait, "a sleep of {wait:?} ended early");
    }
    let deadline = clock.now() + TICK;
    clock.sleep_until(deadline).await;
    assert!(clock.now() >= deadline, "the deadline had not passed");
}

async fn a_deadline_in_the_past_is_over_at_once(clock: &dyn Clock) {
    // Over before a sleep that was begun earlier and has time to run.
    let mut later = clock.sleep(TICK * 1000);
    assert!(poll!(&mut later).is_pending(), "a sleep of many ticks is over at once");
    clock.sleep_until(Instant(0)).await;
    assert!(poll!(&mut later).is_pending(), "a deadline in the past took a thousand ticks");
}

async fn sleeps_run_side_by_side(clock: &dyn Clock) {
    let start = clock.now();
    let sleeps = [3_u32, 1, 2].map(|factor| async move {
        clock.sleep(TICK * factor).await;
        (factor, clock.now())
    });
    for (factor, end) in join_all(sleeps).await {
        assert!(end.since(start) >= TICK * factor, "the sleep of {factor} ticks ended early");
    }
}

async fn a_dropped_sleep_disturbs_nobody(clock: &dyn Clock) {
    let mut dropped = clock.sleep(TICK);
    assert!(poll!(&mut dropped).is_pending());
    let before = clock.now();
    let ((), ()) = join(clock.sleep(TICK * 2), async { drop(dropped) }).await;
    assert!(clock.now().since(before) >= TICK * 2, "the other sleep ended early");
}

async fn a_timeout_ends_what_is_not_done(clock: &dyn Clock) {
    let before = clock.now();
    let never = timeout(clock, TICK, std::future::pending::<()>()).await;
    assert_eq!(never, Err(Elapsed { limit: TICK }));
    assert!(clock.now().since(before) >= TICK, "time was up early");
    assert_eq!(timeout(clock, Duration::ZERO, async { 7 }).await, Ok(7), "what is ready wins");
    assert_eq!(timeout(clock, Duration::MAX, async { 7 }).await, Ok(7), "no end is a limit too");
}

async fn the_wall_clock_moves_with_the_monotonic_one(clock: &dyn Clock) {
    // How far it moves is not asked: it may be slewed, or set while the suite runs.
    let before = clock.wall();
    assert!(before.0 > 0, "the wall clock stands at the epoch");
    let mut moved = false;
    for _ in 0..50 {
        clock.sleep(TICK).await;
        moved |= clock.wall() != before;
    }
    assert!(moved, "the wall clock stands still");
}
