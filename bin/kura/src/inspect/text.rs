//! Text for people: columns that stand below one another, sizes and times with units.

use std::time::{Duration, UNIX_EPOCH};

use kura_core::address::Address;
use kura_node::inspect::Name;

pub(super) use crate::status::size;

/// What stands where there is nothing.
pub(super) const NOTHING: &str = "-";

/// On which side a column has its blanks.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Left,
    Right,
}

/// Rows below a head, in columns as wide as they must be.
pub(super) fn table<const N: usize>(head: [(&str, Side); N], rows: &[[String; N]]) -> String {
    let head_row = head.map(|(name, _)| name.to_owned());
    let all: Vec<&[String; N]> = std::iter::once(&head_row).chain(rows).collect();
    let width = |column: usize| all.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..N).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &&[String; N]| {
        let cells =
            row.iter().zip(&widths).zip(&head).map(|((cell, width), (_, side))| match side {
                Side::Left => format!("{cell:<width$}"),
                Side::Right => format!("{cell:>width$}"),
            });
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    all.iter().map(line).collect()
}

/// A wall time in milliseconds; nothing for 0.
pub(super) fn time(wall_ms: u64) -> String {
    if wall_ms == 0 {
        return NOTHING.to_owned();
    }
    match UNIX_EPOCH.checked_add(Duration::from_millis(wall_ms)) {
        Some(at) if wall_ms < LAST_MS => httpdate::fmt_http_date(at),
        Some(_) | None => format!("{wall_ms} ms"),
    }
}

/// The wall time in a hybrid logical one.
pub(super) fn hlc_time(hlc: u64) -> String {
    time(hlc >> 16)
}

/// No date has a name from here on.
const LAST_MS: u64 = 253_402_300_800_000;

/// So many of something.
pub(crate) fn count(number: u64, noun: &str) -> String {
    match (number, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{number} {stem}ies"),
        (_, None) => format!("{number} {noun}s"),
    }
}

/// The path under which a client asks for an artifact.
pub(super) fn path_of(address: &Address) -> String {
    Name::from(address).to_string()
}

/// Notes, problems and how many of these there are.
pub(super) fn verdict(notes: &[String], problems: &[String]) -> String {
    let notes = notes.iter().map(|note| format!("note: {note}\n"));
    let told = problems.iter().map(|problem| format!("problem: {problem}\n"));
    let sum = match problems.len() {
        0 => "no problem was found\n".to_owned(),
        1 => "1 problem was found\n".to_owned(),
        number => format!("{number} problems were found\n"),
    };
    notes.chain(told).chain(std::iter::once(sum)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |a: &str, b: &str| [a.to_owned(), b.to_owned()];
        let text = table(
            [("NAME", Side::Left), ("BYTES", Side::Right)],
            &[row("a", "5"), row("longer", "123456")],
        );
        assert_eq!(text, "NAME     BYTES\na            5\nlonger  123456\n");
    }

    #[test]
    fn times_are_told_as_dates_and_none_as_nothing() {
        assert_eq!(time(0), "-");
        assert_eq!(time(1_500), "Thu, 01 Jan 1970 00:00:01 GMT");
        assert_eq!(hlc_time(1_500 << 16 | 7), time(1_500));
        assert_eq!(time(u64::MAX), format!("{} ms", u64::MAX));
    }

    #[test]
    fn nouns_are_counted() {
        let shown = [count(1, "body"), count(2, "body"), count(0, "file"), count(1, "file")];
        assert_eq!(shown, ["1 body", "2 bodies", "0 files", "1 file"]);
    }

    #[test]
    fn problems_come_last_and_are_counted() {
        let (notes, problems) = (["n".to_owned()], ["p".to_owned(), "q".to_owned()]);
        assert_eq!(verdict(&notes, &[]), "note: n\nno problem was found\n");
        let text = "note: n\nproblem: p\nproblem: q\n2 problems were found\n";
        assert_eq!(verdict(&notes, &problems), text);
    }
}
