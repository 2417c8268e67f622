//! The log: lines or JSON objects on standard error.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;

use crate::settings::Settings;

/// Starts the log, once in the life of the process.
pub(crate) fn start(settings: &Settings) {
    let filter = EnvFilter::new(settings.log_filter());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        // It would be told on standard error, which is what failed: a node outlives its log.
        .log_internal_errors(false);
    if settings.log_is_json() {
        log.json().flatten_event(true).init();
    } else {
        log.with_ansi(io::stderr().is_terminal()).init();
    }
}
