//! Pages and other text: links that lead somewhere, one word for one thing, nothing of one machine.

use std::collections::BTreeSet;

use crate::{
    no_findings,
    tree::{self, Page},
};

/// Words for which the glossary has another one.
const SYNONYMS: &[(&str, &str)] = &[
    ("artefact", "artifact"),
    ("chunk store", "store"),
    ("garbage collect", "eviction, or sweep"),
    ("janitor", "sweep"),
    ("metadata store", "catalog"),
    ("scratch file", "staging file"),
    ("spool", "staging"),
    ("temp file", "staging file"),
    ("vacuum", "eviction, or sweep"),
    ("write-ahead log", "segment"),
];

/// Where directories of a person's or a builder's machine begin.
const MACHINE_PATHS: &[&str] = &["/home/", "/root/", "/Users/", "/work/", "/workspace/"];

/// These files hold the tables above, or explain them.
fn is_exempt(path: &str) -> bool {
    path.starts_with("tests/tests/tidy/") || path == "docs/glossary.md" || path == "Cargo.lock"
}

fn markdown() -> Vec<Page> {
    tree::pages(|path| path.ends_with(".md"))
}

/// The targets of a page's links, with their line. Code blocks and code spans hold no links.
fn links(page: &Page) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_block = false;
    for (number, line) in page.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        }
        if in_block {
            continue;
        }
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("code");
        for part in prose.split("](").skip(1) {
            if let Some((target, _)) = part.split_once(')') {
                found.push((number, target.to_owned()));
            }
        }
    }
    found
}

/// The anchors that headings of a page make.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|heading| {
            let words = heading.trim_start_matches('#').trim().to_lowercase();
            let kept =
                words.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

/// Joins a link to the directory of the page that holds it; nothing if it leaves the repository.
fn resolve(page: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

#[test]
fn links_lead_somewhere() {
    let mut findings = Vec::new();
    for page in markdown() {
        for (number, link) in links(&page) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target =
                if file.is_empty() { Some(page.path.clone()) } else { resolve(&page.path, file) };
            let target = target.filter(|path| tree::root().join(path).exists());
            let leads = target.is_some_and(|path| {
                anchor.is_empty() || anchors(&tree::text(&path)).contains(anchor)
            });
            if !leads {
                findings.push(format!("{}:{number}: {link}", page.path));
            }
        }
    }
    no_findings("these links lead nowhere:", &findings);
}

#[test]
fn every_page_can_be_reached_from_the_readme() {
    let pages = markdown();
    let mut reached = BTreeSet::from(["README.md".to_owned()]);
    let mut pending = vec!["README.md".to_owned()];
    while let Some(path) = pending.pop() {
        let Some(page) = pages.iter().find(|page| page.path == path) else { continue };
        for (_, link) in links(page) {
            let file = link.split('#').next().unwrap_or_default();
            if let Some(target) = resolve(&page.path, file)
                && reached.insert(target.clone())
            {
                pending.push(target);
            }
        }
    }
    let listed = |path: &str| {
        let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
        reached.contains(path) || (!directory.is_empty() && reached.contains(directory))
    };
    let findings: Vec<String> =
        pages.into_iter().map(|page| page.path).filter(|path| !listed(path)).collect();
    no_findings("no way leads here from README.md:", &findings);
}

#[test]
fn one_thing_has_one_word() {
    let mut findings = Vec::new();
    for page in tree::pages(|path| path.ends_with(".md") || path.ends_with(".rs")) {
        if is_exempt(&page.path) {
            continue;
        }
        for (number, line) in page.lines() {
            let line = line.to_lowercase();
            for (word, instead) in SYNONYMS.iter().filter(|(word, _)| line.contains(word)) {
                findings.push(format!("{}:{number}: {word}: say {instead}", page.path));
            }
        }
    }
    no_findings("docs/glossary.md has another word:", &findings);
}

#[test]
fn nothing_names_a_place_on_one_machine() {
    let mut findings = Vec::new();
    for page in tree::pages(|path| !is_exempt(path)) {
        for (number, line) in page.lines() {
            if MACHINE_PATHS.iter().any(|place| line.contains(place)) {
                findings.push(format!("{}:{number}: {}", page.path, line.trim()));
            }
        }
    }
    no_findings("paths of one machine:", &findings);
}

#[test]
fn the_glossary_knows_the_words_it_sends_people_to() {
    let glossary = tree::text("docs/glossary.md");
    for (_, instead) in SYNONYMS {
        let term = instead.split([',', ' ']).next().unwrap_or_default();
        assert!(glossary.contains(&format!("**{term}**")), "docs/glossary.md has no **{term}**");
    }
}

#[test]
fn anchors_are_made_as_in_a_browser() {
    let anchors = anchors("# A title\n## What `tidy` holds, and why\ntext\n");
    let expected = ["a-title", "what-tidy-holds-and-why"].map(str::to_owned);
    assert_eq!(anchors, BTreeSet::from(expected));
}

#[test]
fn links_stay_in_the_repository() {
    assert_eq!(resolve("docs/a.md", "../README.md").as_deref(), Some("README.md"));
    assert_eq!(resolve("docs/a.md", "decisions").as_deref(), Some("docs/decisions"));
    assert_eq!(resolve("README.md", "../secret"), None);
}
