//! How often, and with which draws: a few rounds in each run of the suite, many by `cargo xtask endure`.

use std::{
    env,
    time::{SystemTime, UNIX_EPOCH},
};

/// Set by `cargo xtask endure`.
const FULL: &str = "KURA_ENDURE";
/// Repeats the draws of an earlier run.
pub const SEED: &str = "KURA_ENDURE_SEED";

/// What is done in each run of the suite, or in full.
pub fn rounds(brief: u64, full: u64) -> u64 {
    if env::var_os(FULL).is_some() { full } else { brief }
}

/// The seed of this run. Draws follow from it; when a process reaches which line does not.
pub fn seed(test: &str) -> u64 {
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.subsec_nanos());
    let seed = match env::var(SEED) {
        Ok(given) => given.parse().expect("a seed is a whole number"),
        Err(_) => u64::from(clock().expect("the clock is right")),
    };
    eprintln!("{test}: {SEED}={seed}");
    seed
}
