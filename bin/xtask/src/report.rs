//! What a person watching the run sees: lines, tables, and each step with the time it took.

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use crate::failure::Failure;

/// Prints a line.
pub(crate) fn line(text: &str) {
    // A closed pipe is the reader's choice and no failure of the chore.
    drop(writeln!(io::stdout().lock(), "{text}"));
}

/// Prints rows under a header, each column as wide as its widest cell.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(header.get(column).map(|name| name.len())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let join = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> =
            cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        line(padded.join("  ").trim_end());
    };
    join(&mut header.iter().copied());
    for row in rows {
        join(&mut row.iter().map(String::as_str));
    }
}

/// A duration as people read it: `0.4 s`, `12.3 s`, `3 min 05 s`.
pub(crate) fn time(duration: Duration) -> String {
    if duration < Duration::from_secs(60) {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        format!("{} min {:02} s", duration.as_secs() / 60, duration.as_secs() % 60)
    }
}

/// Steps in order; the first that fails ends the run, and what was done is summed up either way.
pub(crate) struct Steps {
    started: Instant,
    done: Vec<Vec<String>>,
}

impl Steps {
    /// No step yet; the total counts from here.
    pub(crate) fn start() -> Self {
        Self { started: Instant::now(), done: Vec::new() }
    }

    /// Runs one step and prints how long it took.
    ///
    /// # Errors
    ///
    /// What the step failed with, after the summary was printed.
    pub(crate) fn step<T>(
        &mut self,
        name: &str,
        work: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        line(&format!("\n== {name}"));
        let begun = Instant::now();
        let outcome = work();
        let took = time(begun.elapsed());
        let word = if outcome.is_ok() { "ok" } else { "FAILED" };
        line(&format!("== {name}: {word}, {took}"));
        self.done.push(vec![name.to_owned(), word.to_owned(), took]);
        if outcome.is_err() {
            self.summary();
        }
        outcome
    }

    /// Prints all steps and the total.
    pub(crate) fn summary(&self) {
        line("");
        let total = vec!["total".to_owned(), String::new(), time(self.started.elapsed())];
        let rows: Vec<Vec<String>> = self.done.iter().cloned().chain([total]).collect();
        table(&["step", "", "time"], &rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_like_speech() {
        assert_eq!(time(Duration::from_millis(440)), "0.4 s");
        assert_eq!(time(Duration::from_secs(185)), "3 min 05 s");
    }
}
