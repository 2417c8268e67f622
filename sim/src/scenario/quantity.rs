//! Quantities with units, as production configurations write them: `8GiB`, `30s`, `30Mbit/s`, `20/s`.
//!
//! Every quantity becomes one integer of a fixed grain, so that drawing, scaling and comparing need no floats.

use std::fmt;

/// What a number measures, and the grain in which it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Nanoseconds.
    Duration,
    /// Bytes per second.
    ByteRate,
    /// Events, in millionths per second.
    Frequency,
    /// A plain count.
    Count,
    /// A share or a factor, in millionths.
    Ratio,
}

/// One in the grain of [`Unit::Ratio`] and [`Unit::Frequency`].
pub const MILLION: u64 = 1_000_000;

/// Suffixes of a unit and what one of them is worth as a fraction.
type Suffixes = &'static [(&'static str, u128, u128)];

const KI: u128 = 1024;
const BYTES: Suffixes = &[
    ("KiB", KI, 1),
    ("MiB", KI * KI, 1),
    ("GiB", KI * KI * KI, 1),
    ("TiB", KI * KI * KI * KI, 1),
    ("kB", 1_000, 1),
    ("MB", 1_000_000, 1),
    ("GB", 1_000_000_000, 1),
    ("B", 1, 1),
];
const DURATIONS: Suffixes = &[
    ("ns", 1, 1),
    ("us", 1_000, 1),
    ("ms", 1_000_000, 1),
    ("min", 60_000_000_000, 1),
    ("h", 3_600_000_000_000, 1),
    ("s", 1_000_000_000, 1),
];
const BYTE_RATES: Suffixes = &[
    ("KiB/s", KI, 1),
    ("MiB/s", KI * KI, 1),
    ("GiB/s", KI * KI * KI, 1),
    ("kbit/s", 125, 1),
    ("Mbit/s", 125_000, 1),
    ("Gbit/s", 125_000_000, 1),
    ("MB/s", 1_000_000, 1),
    ("GB/s", 1_000_000_000, 1),
    ("B/s", 1, 1),
];
const FREQUENCIES: Suffixes =
    &[("/s", 1_000_000, 1), ("/min", 1_000_000, 60), ("/h", 1_000_000, 3_600)];
const COUNTS: Suffixes = &[("", 1, 1)];
const RATIOS: Suffixes = &[("%", 10_000, 1), ("", 1_000_000, 1)];

impl Unit {
    fn suffixes(self) -> Suffixes {
        match self {
            Self::Bytes => BYTES,
            Self::Duration => DURATIONS,
            Self::ByteRate => BYTE_RATES,
            Self::Frequency => FREQUENCIES,
            Self::Count => COUNTS,
            Self::Ratio => RATIOS,
        }
    }

    /// What a value of this unit looks like, for people who wrote another one.
    #[must_use]
    pub fn example(self) -> &'static str {
        match self {
            Self::Bytes => "bytes such as \"8GiB\" or \"64KiB\"",
            Self::Duration => "a duration such as \"30s\" or \"200us\"",
            Self::ByteRate => "bytes per second such as \"2MiB/s\" or \"30Mbit/s\"",
            Self::Frequency => "events per time such as \"20/s\" or \"3/min\"",
            Self::Count => "a whole number",
            Self::Ratio => "a ratio such as 0.25 or \"25%\"",
        }
    }

    /// Reads a number with its suffix. `None` if it is of another form, or too large.
    #[must_use]
    pub fn parse(self, text: &str) -> Option<u64> {
        let text = text.trim();
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_');
        let (number, suffix) = text.split_at(end.unwrap_or(text.len()));
        let (digits, divisor) = decimal(number)?;
        if self == Self::Count && divisor > 1 {
            return None;
        }
        let suffix = suffix.trim();
        let zero_needs_none = digits == 0 && suffix.is_empty();
        let found = self.suffixes().iter().find(|(name, ..)| *name == suffix);
        let (_, times, over) = match found {
            Some(found) => *found,
            None if zero_needs_none => return Some(0),
            None => return None,
        };
        u64::try_from(digits.checked_mul(times)? / (divisor * over)).ok()
    }

    /// Writes a value so that [`Unit::parse`] reads it back: exactly, or for frequencies and long
    /// fractions, rounded to the grain.
    #[must_use]
    pub fn show(self, value: u64) -> String {
        match self {
            Self::Count => value.to_string(),
            Self::Ratio => fraction(value),
            Self::Frequency => format!("{}/s", fraction(value)),
            Self::Bytes | Self::Duration | Self::ByteRate => {
                let wide = u128::from(value);
                let fits = |(name, times, _): &&(&str, u128, u128)| {
                    let binary = name.contains('i') || self == Self::Duration || *times == 1;
                    value > 0 && binary && !name.contains("bit") && wide % times == 0
                };
                let best = self.suffixes().iter().filter(fits).max_by_key(|(_, times, _)| *times);
                best.map_or_else(
                    || "0".to_owned(),
                    |(name, times, _)| format!("{}{name}", wide / times),
                )
            }
        }
    }
}

/// Digits of a decimal number and the power of ten to divide them by.
fn decimal(text: &str) -> Option<(u128, u128)> {
    const DECIMALS_MAX: usize = 9;
    let text: String = text.chars().filter(|c| *c != '_').collect();
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    if whole.is_empty() || part.len() > DECIMALS_MAX || (part.is_empty() && text.contains('.')) {
        return None;
    }
    let digits = format!("{whole}{part}").parse().ok()?;
    Some((digits, 10_u128.pow(u32::try_from(part.len()).ok()?)))
}

fn fraction(millionths: u64) -> String {
    let text = format!("{}.{:06}", millionths / MILLION, millionths % MILLION);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes => "bytes",
            Self::Duration => "duration",
            Self::ByteRate => "bytes/s",
            Self::Frequency => "frequency",
            Self::Count => "count",
            Self::Ratio => "ratio",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_as_they_are_written_in_production() {
        let table = [
            (Unit::Bytes, "8GiB", Some(8 << 30)),
            (Unit::Bytes, "1.5 KiB", Some(1536)),
            (Unit::Bytes, "0", Some(0)),
            (Unit::Bytes, "8", None),
            (Unit::Bytes, "8 GiBs", None),
            (Unit::Duration, "200us", Some(200_000)),
            (Unit::Duration, "15min", Some(900_000_000_000)),
            (Unit::ByteRate, "30Mbit/s", Some(3_750_000)),
            (Unit::ByteRate, "2MiB/s", Some(2 << 20)),
            (Unit::Frequency, "20/s", Some(20_000_000)),
            (Unit::Frequency, "3/min", Some(50_000)),
            (Unit::Count, "1_000", Some(1000)),
            (Unit::Count, "1.5", None),
            (Unit::Ratio, "25%", Some(250_000)),
            (Unit::Ratio, "0.25", Some(250_000)),
            (Unit::Ratio, "-1", None),
            (Unit::Ratio, "1.", None),
            (Unit::Bytes, "99999999999999TiB", None),
        ];
        for (unit, text, expected) in table {
            assert_eq!(unit.parse(text), expected, "{unit} {text:?}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for unit in [Unit::Bytes, Unit::Duration, Unit::ByteRate, Unit::Count, Unit::Ratio] {
            for value in [0, 1, 999, 1024, 1_000_000, 3 << 30, 1_234_567_891] {
                assert_eq!(unit.parse(&unit.show(value)), Some(value), "{unit} {value}");
            }
        }
    }
}
