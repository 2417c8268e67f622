//! One run on a thread of its own, timed.

use std::{sync::Arc, thread, time::Instant};

use serde::Serialize;
use sim::{
    report::RunReport,
    run::{self, Options},
    scenario::Document,
};

use crate::Failure;

/// A run and how long it took.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Timed {
    /// What it came to.
    #[serde(flatten)]
    pub(crate) report: RunReport,
    /// How long it took here.
    pub(crate) wall_seconds: f64,
}

/// Enough for the deepest nesting of futures in an unoptimised build.
const STACK_BYTES: usize = 16 << 20;

/// Runs a scenario on a fresh thread, as a world demands.
pub(crate) fn execute(
    document: Arc<Document>,
    seed: u64,
    options: Options,
) -> Result<Timed, Failure> {
    let work = move || {
        let begun = Instant::now();
        let result = run::run(&document, seed, options);
        (result, begun.elapsed().as_secs_f64())
    };
    let thread = thread::Builder::new().name("run".to_owned()).stack_size(STACK_BYTES);
    let running = thread.spawn(work).map_err(|error| Failure::Io("a thread".to_owned(), error))?;
    match running.join() {
        Ok((Ok(report), wall_seconds)) => Ok(Timed { report, wall_seconds }),
        Ok((Err(error), _)) => Err(Failure::Usage(error.to_string())),
        // A panic of the simulator itself has printed its message; a panic of a node is a verdict.
        Err(_) => Err(Failure::Usage(format!("the simulator itself panicked under seed {seed}"))),
    }
}
