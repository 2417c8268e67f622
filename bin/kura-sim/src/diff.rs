//! `kura-sim diff`: where two journals part.

use std::{
    collections::VecDeque,
    fs::File,
    io::{BufRead as _, BufReader, Lines},
    path::Path,
};

use sim::report::EXIT_DIFFERENT;

use crate::{Failure, show::say};

/// Events shown before the first difference, and after it.
const CONTEXT: usize = 10;

type Journal = Lines<BufReader<File>>;

/// Compares two journals line by line; a line is an event.
pub(crate) fn diff(first: &Path, second: &Path) -> Result<u8, Failure> {
    let (mut left, mut right) = (open(first)?, open(second)?);
    let mut before: VecDeque<String> = VecDeque::new();
    let mut count: u64 = 0;
    loop {
        let (a, b) = (next(&mut left, first)?, next(&mut right, second)?);
        match (a, b) {
            (None, None) => {
                say(&format!("equal: {count} events"))?;
                return Ok(0);
            }
            (Some(a), Some(b)) if a == b => {
                count += 1;
                before.push_back(a);
                if before.len() > CONTEXT {
                    before.pop_front();
                }
            }
            (a, b) => {
                say(&format!("equal for {count} events, then they differ"))?;
                for line in &before {
                    say(&format!("  {line}"))?;
                }
                side('<', a, (&mut left, first))?;
                side('>', b, (&mut right, second))?;
                return Ok(EXIT_DIFFERENT);
            }
        }
    }
}

/// The first event of one side that differs, and what follows.
fn side(
    mark: char,
    line: Option<String>,
    (rest, path): (&mut Journal, &Path),
) -> Result<(), Failure> {
    let mut line = line;
    for _ in 0..=CONTEXT {
        match &line {
            Some(event) => say(&format!("{mark} {event}"))?,
            None => return say(&format!("{mark} (the journal ends)")),
        }
        line = next(rest, path)?;
    }
    Ok(())
}

fn open(path: &Path) -> Result<Journal, Failure> {
    let file = File::open(path).map_err(|error| Failure::Io(path.display().to_string(), error))?;
    Ok(BufReader::new(file).lines())
}

fn next(journal: &mut Journal, path: &Path) -> Result<Option<String>, Failure> {
    journal.next().transpose().map_err(|error| Failure::Io(path.display().to_string(), error))
}
