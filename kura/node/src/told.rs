//! What is told to people line by line: as much of it as they may read, and how much there is.

/// Lines of one kind that are told; further ones are counted.
const TOLD_MAX: usize = 100;

/// Adds one more line of a kind of which there are `count`.
pub(crate) fn tell(lines: &mut Vec<String>, count: &mut u64, line: String) {
    *count += 1;
    if lines.len() < TOLD_MAX {
        lines.push(line);
    }
}

/// Lines of one kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    lines: Vec<String>,
    count: u64,
}

impl Told {
    /// One more line.
    pub(crate) fn push(&mut self, line: String) {
        tell(&mut self.lines, &mut self.count, line);
    }

    /// The first lines, and how many there are in all.
    pub(crate) fn into_parts(self) -> (Vec<String>, u64) {
        (self.lines, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_counted_and_the_first_are_told() {
        let mut told = Told::default();
        (0..250).for_each(|n| told.push(n.to_string()));
        let (lines, count) = told.into_parts();
        assert_eq!((lines.len(), count), (TOLD_MAX, 250));
        assert_eq!(lines.last().map(String::as_str), Some("99"));
    }
}
