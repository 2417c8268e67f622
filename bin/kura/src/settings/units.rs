//! Sizes and times with a unit: `10GiB`, `1500ms`. Whole numbers only, so that what is read is
//! exactly what was written.

use std::time::Duration;

/// Units of size and their bytes, largest first. Powers of 1024, and the powers of 1000 that disks
/// are sold by.
const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

/// Units of time and their milliseconds, largest first.
const TIMES: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Why a number with a unit could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnitError {
    /// It does not begin with a digit.
    #[error("which does not begin with a number")]
    NoNumber,
    /// A fraction.
    #[error("which is not whole; use a smaller unit")]
    Fraction,
    /// A single letter that some read as 1000 and some as 1024.
    #[error(
        "whose unit can be read in two ways; write \"{number}{letter}iB\" (1024) or \"{number}{letter}B\" (1000)"
    )]
    Ambiguous { number: String, letter: char },
    /// No such unit.
    #[error("whose unit {found:?} is not known; units are {known}")]
    Unknown { found: String, known: String },
    /// More than 64 bits hold.
    #[error("which is too high")]
    Overflow,
}

/// Reads a size in bytes. Without a unit it is bytes; units may be written in any case.
///
/// # Errors
///
/// Why it cannot be read.
pub(crate) fn read_bytes(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = split(text)?;
    if unit.is_empty() {
        return multiply(number, 1);
    }
    if let Some(letter) = single_letter(unit) {
        return Err(UnitError::Ambiguous { number: number.to_owned(), letter });
    }
    let known = SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
    known.map_or_else(|| Err(unknown(unit, &SIZES)), |(_, bytes)| multiply(number, *bytes))
}

/// Reads a time with its unit.
///
/// # Errors
///
/// Why it cannot be read; a missing unit is an unknown one.
pub(crate) fn read_duration(text: &str) -> Result<Duration, UnitError> {
    let (number, unit) = split(text)?;
    let known = TIMES.iter().find(|(name, _)| *name == unit);
    known.map_or_else(
        || Err(unknown(unit, &TIMES)),
        |(_, millis)| multiply(number, *millis).map(Duration::from_millis),
    )
}

/// A size in the largest binary unit that divides it, which reads back as the same number.
pub(crate) fn show_bytes(bytes: u64) -> String {
    let binary = SIZES.iter().filter(|(name, _)| name.ends_with("iB"));
    largest(bytes, binary).unwrap_or_else(|| format!("{bytes}B"))
}

/// A time in the largest unit that divides it, which reads back as the same time. What is below a
/// millisecond is not shown.
pub(crate) fn show_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    largest(millis, TIMES.iter()).unwrap_or_else(|| "0s".to_owned())
}

fn largest<'a>(amount: u64, mut units: impl Iterator<Item = &'a (&'a str, u64)>) -> Option<String> {
    let (name, size) = units.find(|(_, size)| amount >= *size && amount.is_multiple_of(*size))?;
    Some(format!("{}{name}", amount / size))
}

/// The number in front and the unit behind, spaces around each removed.
fn split(text: &str) -> Result<(&str, &str), UnitError> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    if number.is_empty() {
        return Err(UnitError::NoNumber);
    }
    if rest.starts_with(['.', ',']) {
        return Err(UnitError::Fraction);
    }
    Ok((number, rest.trim_start()))
}

fn multiply(number: &str, unit: u64) -> Result<u64, UnitError> {
    number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).ok_or(UnitError::Overflow)
}

fn single_letter(unit: &str) -> Option<char> {
    let mut letters = unit.chars();
    let letter = letters.next()?.to_ascii_uppercase();
    (letters.next().is_none() && matches!(letter, 'K' | 'M' | 'G' | 'T')).then_some(letter)
}

fn unknown(found: &str, units: &[(&str, u64)]) -> UnitError {
    let known: Vec<_> = units.iter().rev().map(|(name, _)| *name).collect();
    UnitError::Unknown { found: found.to_owned(), known: known.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown_unit(found: &str, known: &str) -> UnitError {
        UnitError::Unknown { found: found.to_owned(), known: known.to_owned() }
    }

    #[test]
    fn sizes_are_read_with_and_without_a_unit() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("1B", 1),
            ("1KiB", 1024),
            ("1kB", 1000),
            ("1KB", 1000),
            ("10GiB", 10 * 1024 * 1024 * 1024),
            (" 10 gib ", 10 * 1024 * 1024 * 1024),
            ("512MiB", 512 * 1024 * 1024),
            ("512MB", 512_000_000),
            ("2TiB", 2 * 1024 * 1024 * 1024 * 1024),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(read_bytes(text), Ok(bytes), "{text:?}");
        }
    }

    #[test]
    fn sizes_that_are_unclear_are_refused() {
        let sizes = "B, kB, KiB, MB, MiB, GB, GiB, TB, TiB";
        for (text, error) in [
            ("", UnitError::NoNumber),
            ("GiB", UnitError::NoNumber),
            ("-1", UnitError::NoNumber),
            ("1.5GiB", UnitError::Fraction),
            ("1,5GiB", UnitError::Fraction),
            ("10g", UnitError::Ambiguous { number: "10".to_owned(), letter: 'G' }),
            ("10 GiBs", unknown_unit("GiBs", sizes)),
            ("1_000", unknown_unit("_000", sizes)),
            ("18446744073709551616", UnitError::Overflow),
            ("16777216TiB", UnitError::Overflow),
        ] {
            assert_eq!(read_bytes(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn times_are_read_with_a_unit_only() {
        for (text, millis) in
            [("0s", 0), ("30s", 30_000), ("1500ms", 1500), ("15m", 900_000), (" 2 h ", 7_200_000)]
        {
            assert_eq!(read_duration(text), Ok(Duration::from_millis(millis)), "{text:?}");
        }
        let times = "ms, s, m, h";
        for (text, error) in [
            ("", UnitError::NoNumber),
            ("30", unknown_unit("", times)),
            ("30S", unknown_unit("S", times)),
            ("30sec", unknown_unit("sec", times)),
            ("0.5s", UnitError::Fraction),
            ("-1s", UnitError::NoNumber),
            ("99999999999999999h", UnitError::Overflow),
        ] {
            assert_eq!(read_duration(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn what_is_shown_reads_back_the_same() {
        for (bytes, shown) in [
            (0, "0B"),
            (1000, "1000B"),
            (1024, "1KiB"),
            (1536, "1536B"),
            (512 << 20, "512MiB"),
            (3 << 29, "1536MiB"),
            (8 << 30, "8GiB"),
            (u64::MAX, "18446744073709551615B"),
        ] {
            assert_eq!(show_bytes(bytes), shown);
            assert_eq!(read_bytes(shown), Ok(bytes));
        }
        for (millis, shown) in [
            (0, "0s"),
            (1, "1ms"),
            (1500, "1500ms"),
            (30_000, "30s"),
            (90_000, "90s"),
            (7_200_000, "2h"),
        ] {
            assert_eq!(show_duration(Duration::from_millis(millis)), shown);
            assert_eq!(read_duration(shown), Ok(Duration::from_millis(millis)));
        }
    }
}
