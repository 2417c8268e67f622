//! A page of commands and of what they print: read, and compared without its numbers.

/// Commands, and what is shown below them.
pub(crate) struct Block {
    /// The nearest heading above.
    pub(crate) heading: String,
    pub(crate) steps: Vec<Step>,
    /// What all of them print together, if that is shown.
    pub(crate) shown: Option<String>,
}

/// One command, and the code with which it ends.
#[derive(Clone)]
pub(crate) struct Step {
    pub(crate) command: String,
    pub(crate) code: i32,
}

/// Stands for any number of lines.
const ANY: &str = "...";
/// Begins what a command ends with, if that is not 0.
const ENDS: &str = "# ends with ";

/// The blocks of a page: `sh`, each with the `text` that follows it.
pub(crate) fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut heading = "";
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(title) = line.strip_prefix('#') {
            heading = title.trim_start_matches('#').trim();
        } else if let Some(language) = line.strip_prefix("```") {
            let inside: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            match (language, blocks.last_mut()) {
                ("sh", _) => {
                    let steps = inside.into_iter().map(step).collect();
                    blocks.push(Block { heading: heading.to_owned(), steps, shown: None });
                }
                ("text", Some(block)) if block.shown.is_none() && block.heading == heading => {
                    block.shown = Some(inside.join("\n"));
                }
                (language, _) => panic!("{heading}: a block of {language:?} that nobody reads"),
            }
        }
    }
    blocks
}

fn step(line: &str) -> Step {
    let (command, code) = line.split_once(ENDS).unwrap_or((line, "0"));
    let code = code.parse().unwrap_or_else(|_| panic!("{line:?} ends with no code"));
    Step { command: command.trim().to_owned(), code }
}

/// Whether `said` is what is shown, but for numbers and widths.
pub(crate) fn same(shown: &str, said: &str) -> bool {
    let (shown, said) = (normal(shown), normal(said));
    matches(&shown, &said)
}

fn matches(shown: &[String], said: &[String]) -> bool {
    match shown {
        [] => said.is_empty(),
        [any, rest @ ..] if any == ANY => (0..=said.len()).any(|from| matches(rest, &said[from..])),
        [line, rest @ ..] => said.first() == Some(line) && matches(rest, &said[1..]),
    }
}

/// The lines of a text that are not empty, with `0` for every number and size, and one blank between words.
pub(crate) fn normal(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| without_numbers(&without_dates(line))).collect()
}

/// `DATE` for each date as HTTP has it.
fn without_dates(line: &str) -> String {
    const BYTES: usize = "Sat, 21 Nov 2026 20:13:16 GMT".len();
    let mut line = line.to_owned();
    while let Some(end) = line.find(" GMT").map(|at| at + " GMT".len()).filter(|at| *at >= BYTES) {
        line.replace_range(end - BYTES..end, "DATE");
    }
    line
}

fn without_numbers(line: &str) -> String {
    let words: Vec<String> = line.split_whitespace().map(without_number).collect();
    words.join(" ")
}

/// A word in which each run of digits, in hexadecimal if it is a long one, is `0`, and its unit is gone.
fn without_number(word: &str) -> String {
    const UNITS: [&str; 6] = ["PiB", "TiB", "GiB", "MiB", "KiB", "B"];
    let mut out = String::new();
    let mut rest = word;
    while let Some(first) = rest.chars().next() {
        let hexadecimal = rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len());
        let decimal = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let is_number = first.is_ascii_digit();
        let len = match (hexadecimal >= 16, is_number) {
            (true, _) => hexadecimal,
            (false, true) => decimal,
            (false, false) => {
                out.push(first);
                rest = &rest[first.len_utf8()..];
                continue;
            }
        };
        out.push('0');
        rest = &rest[len..];
        rest = UNITS.iter().find_map(|unit| rest.strip_prefix(unit)).unwrap_or(rest);
    }
    out
}
