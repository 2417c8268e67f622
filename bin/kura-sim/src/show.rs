//! What the program says, and to whom.

use std::{
    fmt::Display,
    io::{self, Write as _},
};

use sim::{
    invariants::link_is_used,
    report::{CatchUp, RunReport, Verdict},
};

use crate::Failure;

/// Writes a line to standard output.
pub(crate) fn say(line: &dyn Display) -> Result<(), Failure> {
    let failed = |error| Failure::Io("standard output".to_owned(), error);
    writeln!(io::stdout().lock(), "{line}").map_err(failed)
}

/// Writes a line to standard error. If even that fails, nobody listens.
pub(crate) fn complain(line: &dyn Display) {
    drop(writeln!(io::stderr().lock(), "kura-sim: {line}"));
}

/// The verdict as a word.
pub(crate) fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Violated => "VIOLATED",
        Verdict::NotHealed => "NOT HEALED",
    }
}

/// How often something happens in a second of wall time.
pub(crate) fn per_second(amount: f64, wall_seconds: f64) -> f64 {
    if wall_seconds > 0.0 { amount / wall_seconds } else { 0.0 }
}

/// The command that repeats a run.
pub(crate) fn replay(path: &str, seed: u64) -> String {
    format!("cargo run --profile sim -p kura-sim -- run {path} --seed {seed}")
}

/// A catch-up for people to read. Floats are for the eye alone.
fn catch_up(catch_up: &CatchUp) -> String {
    let CatchUp { phase, took_nanos, missing_bytes, gained_bytes, moved_bytes, .. } = catch_up;
    let seconds = *took_nanos as f64 / 1e9;
    let percent = link_is_used::share(catch_up, 0) as f64 / 1e4;
    let times = *moved_bytes as f64 / (*missing_bytes).max(1) as f64;
    format!(
        "  {phase}: {gained_bytes} of {missing_bytes} bytes of bodies came in {seconds:.1} s, \
         {percent:.2}% of what the links could carry; they carried {moved_bytes} bytes, {times:.4} \
         times what was missing\n"
    )
}

/// A run for people to read.
pub(crate) fn report(report: &RunReport, wall_seconds: f64, replay: &str) -> String {
    let RunReport { scenario, seed, verdict, sim_seconds, events, journal_hash, .. } = report;
    let mut text = format!("{scenario} seed {seed}: {}\n", word(*verdict));
    // A count of events is far below what a float holds exactly; this is only for the eye.
    let events_per_second =
        per_second(u32::try_from(*events).map_or(f64::MAX, f64::from), wall_seconds);
    text.push_str(&format!(
        "  {sim_seconds:.1} simulated seconds in {wall_seconds:.3} s: {:.0} times as fast as time, \
         {events} events, {events_per_second:.0} events/s\n",
        per_second(*sim_seconds, wall_seconds),
    ));
    text.push_str(&format!("  journal {journal_hash}\n"));
    text.push_str(&format!(
        "  answers {:?}, {} bodies of {} bytes read back whole, {} bytes acknowledged\n",
        report.statuses, report.hits, report.read_bytes, report.acked_bytes
    ));
    text.push_str(&format!("  faults fired {:?}\n", report.faults_fired));
    report.catch_ups.iter().for_each(|it| text.push_str(&catch_up(it)));
    if !report.drawn.is_empty() {
        let drawn: Vec<String> =
            report.drawn.iter().map(|(path, value)| format!("{path} = {value}")).collect();
        text.push_str(&format!("  drawn: {}\n", drawn.join(", ")));
    }
    if *verdict != Verdict::Pass {
        text.push_str(&format!("  {}: {}\n", report.invariant, report.reason));
        const LINES: usize = 20;
        let lines: Vec<&str> = report.timeline.lines().collect();
        text.push_str("  what happened last:\n");
        for line in &lines[lines.len().saturating_sub(LINES)..] {
            text.push_str(&format!("    {line}\n"));
        }
        text.push_str(&format!("  replay: {replay}\n"));
    }
    text.trim_end().to_owned()
}
