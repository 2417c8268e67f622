//! The shape of Rust files.

use crate::{
    no_findings,
    tree::{self, Page},
};

/// Longer files have more than one subject.
const LINES_MAX: usize = 800;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["common", "helper", "helpers", "manager", "misc", "types", "utils"];

/// Marks of unfinished work. Spelled in two parts, so that this file has none.
const MARKS: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
];

/// The code of a source: comments and the insides of literals become blanks, lines stay.
fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let len = token_len(rest).max(first.len_utf8());
        let (token, after) = rest.split_at(len);
        if len == first.len_utf8() {
            out.push(first);
        } else {
            out.extend(token.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        }
        rest = after;
    }
    out
}

/// The length of the comment or literal that `rest` begins with; 0 if it begins with neither.
fn token_len(rest: &str) -> usize {
    let until = |end: &str, from: usize| {
        rest.get(from..)
            .and_then(|body| body.find(end))
            .map_or(rest.len(), |n| from + n + end.len())
    };
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return until("*/", 2);
    }
    if rest.starts_with('"') {
        return quoted_len(rest);
    }
    let hashes = rest.strip_prefix('r').map(|raw| raw.len() - raw.trim_start_matches('#').len());
    if let Some(hashes) = hashes.filter(|hashes| rest[1 + hashes..].starts_with('"')) {
        return until(&format!("\"{}", "#".repeat(hashes)), hashes + 2);
    }
    // A lifetime has no closing quote; of character literals only quotes and slashes matter.
    ["'\"'", "'\\\"'", "'/'", "'\\''"].iter().find(|c| rest.starts_with(**c)).map_or(0, |c| c.len())
}

fn quoted_len(rest: &str) -> usize {
    let mut escaped = false;
    for (position, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return position + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Whether `word` stands at `position` as a whole word.
fn is_word(text: &str, position: usize, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let before = text[..position].chars().next_back();
    let after = text[position + word.len()..].chars().next();
    !before.is_some_and(part) && !after.is_some_and(part)
}

fn line_of(text: &str, position: usize) -> usize {
    text[..position].matches('\n').count() + 1
}

fn places(page: &Page, code: &str, positions: impl Iterator<Item = usize>) -> Vec<String> {
    positions.map(|position| format!("{}:{}", page.path, line_of(code, position))).collect()
}

#[test]
fn every_file_says_first_what_it_is_for() {
    let findings: Vec<String> = tree::sources()
        .into_iter()
        .filter(|page| {
            let first = page.text.lines().next().unwrap_or_default();
            first.strip_prefix("//! ").is_none_or(|says| says.len() < 10 || says.starts_with('('))
        })
        .map(|page| page.path)
        .collect();
    no_findings("the first line must be `//!` and a sentence:", &findings);
}

#[test]
fn no_file_is_too_long() {
    let findings: Vec<String> = tree::sources()
        .into_iter()
        .filter(|page| page.text.lines().count() > LINES_MAX)
        .map(|page| page.path)
        .collect();
    no_findings(&format!("over {LINES_MAX} lines:"), &findings);
}

#[test]
fn file_names_say_what_is_inside() {
    let empty = |page: &Page| EMPTY_NAMES.contains(&page.stem());
    let findings: Vec<String> =
        tree::sources().into_iter().filter(empty).map(|page| page.path).collect();
    no_findings("these names say nothing:", &findings);
}

/// Positions of `select!` whose block does not begin with `biased;`.
fn unbiased(code: &str) -> Vec<usize> {
    let biased = |position: usize| {
        let body = code[position + "select!".len()..].trim_start();
        body.trim_start_matches(['{', '(']).trim_start().starts_with("biased;")
    };
    code.match_indices("select!")
        .map(|(position, _)| position)
        .filter(|position| is_word(code, *position, "select") && !biased(*position))
        .collect()
}

#[test]
fn every_select_is_biased() {
    let mut findings = Vec::new();
    for page in tree::sources() {
        let code = code(&page.text);
        findings.extend(places(&page, &code, unbiased(&code).into_iter()));
    }
    no_findings("an unbiased `select!` differs from run to run:", &findings);
}

#[test]
fn unsafe_code_stays_in_the_host() {
    let mut findings = Vec::new();
    for page in tree::sources().iter().filter(|page| !page.path.starts_with("kura/host/")) {
        let code = code(&page.text);
        for word in ["unsafe", "unsafe_code"] {
            let found = code.match_indices(word).map(|(position, _)| position);
            findings.extend(places(page, &code, found.filter(|p| is_word(&code, *p, word))));
        }
    }
    no_findings("only kura/host may:", &findings);
}

#[test]
fn no_test_is_ignored() {
    let mut findings = Vec::new();
    for page in tree::sources() {
        let code = code(&page.text);
        findings.extend(places(&page, &code, code.match_indices("#[ignore").map(|(p, _)| p)));
    }
    no_findings("a test that cannot run says SKIPPED and why:", &findings);
}

#[test]
fn node_code_has_no_branch_for_the_simulator() {
    let mut findings = Vec::new();
    let shared = ["kura/core/", "kura/env/", "kura/node/"];
    for page in tree::sources() {
        if !shared.iter().any(|directory| page.path.starts_with(directory)) {
            continue;
        }
        let code = code(&page.text);
        let branches = code.match_indices("cfg").map(|(position, _)| position);
        let branches = branches.filter(|position| {
            is_word(&code, *position, "cfg") && !code[*position..].starts_with("cfg(test)")
        });
        findings.extend(places(&page, &code, branches));
    }
    no_findings(
        "the seam is the trait; `cfg` other than `test` makes two nodes of one:",
        &findings,
    );
}

/// Lines that open a block of Rust in a comment for documentation.
fn examples(page: &Page) -> Vec<String> {
    let mut findings = Vec::new();
    let mut open = false;
    for (number, line) in page.lines() {
        let line = line.trim_start();
        let comment = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"));
        let fence = comment.and_then(|comment| comment.trim_start().strip_prefix("```"));
        if let Some(language) = fence {
            open = !open;
            if open && (language.is_empty() || language.starts_with("rust")) {
                findings.push(format!("{}:{number}", page.path));
            }
        }
    }
    findings
}

#[test]
fn no_example_goes_unrun() {
    let findings: Vec<String> = tree::sources().iter().flat_map(examples).collect();
    no_findings("no step runs examples in comments; name the block's language:", &findings);
}

#[test]
fn examples_are_told_by_their_language() {
    let page = |text: &str| Page { path: "p".to_owned(), text: text.to_owned() };
    assert!(examples(&page("//! ```text\n//! a\n//! ```\n")).is_empty());
    assert_eq!(examples(&page("/// ```\n/// a\n/// ```\n")), ["p:1"]);
}

#[test]
fn nothing_is_left_unfinished() {
    let mut findings = Vec::new();
    for page in tree::sources() {
        for (number, line) in page.lines() {
            if MARKS.iter().any(|mark| line.contains(mark)) {
                findings.push(format!("{}:{number}", page.path));
            }
        }
    }
    no_findings("unfinished work belongs to an issue:", &findings);
}

#[test]
fn comments_and_literals_are_no_code() {
    let text = "let a = \"x \\\" y\"; // z\nlet b = r#\"u \" v\"#; /* w */ let c = '\"'; f::<'a>()";
    let code = code(text);
    for hidden in ["x", "y", "z", "u", "v", "w"] {
        assert!(!code.contains(hidden), "{hidden} in {code}");
    }
    for shown in ["let a =", "let b =", "let c =", "f::<'a>()"] {
        assert!(code.contains(shown), "{shown} not in {code}");
    }
    assert_eq!(code.lines().count(), 2);
}

#[test]
fn only_a_biased_select_passes() {
    assert!(unbiased("tokio::select! {\n    biased;\n    a = b => {} }").is_empty());
    assert!(unbiased("x_select! { a = b => {} }").is_empty());
    assert_eq!(unbiased("tokio::select! { a = b => {} }"), [7]);
}
