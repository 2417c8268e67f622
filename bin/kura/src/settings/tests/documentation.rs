//! The example file, the listing of what is in force, and the page of documentation.

use std::{fs, path::Path};

use super::{Key, Said};
use crate::settings::{SETTINGS, page, render, setting::DefaultValue};

/// The example with its settings switched on.
fn example_in_force() -> String {
    let lines = render::example();
    let lines = lines.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') => rest,
        Some(_) | None => line,
    });
    lines.fold(String::new(), |text, line| text + line + "\n")
}

#[test]
fn the_example_sets_nothing_but_what_must_be_set() {
    let settings = Said::default().file(&render::example()).settings();
    for setting in &SETTINGS {
        let origin = settings.entry(setting.key).map_or(String::new(), |it| it.origin.to_string());
        let required = matches!(setting.default, DefaultValue::Required { .. });
        assert_eq!(origin.starts_with("kura.toml:"), required, "{}: {origin}", setting.toml);
    }
}

#[test]
fn the_example_read_back_is_the_defaults() {
    let settings = Said::default().file(&example_in_force()).settings();
    for setting in &SETTINGS {
        let entry = settings.entry(setting.key).unwrap_or_else(|| panic!("{}", setting.toml));
        assert!(entry.origin.to_string().starts_with("kura.toml:"), "{}", setting.toml);
        if let DefaultValue::Fixed(value) = &setting.default {
            assert_eq!(&entry.value, value, "{}", setting.toml);
        }
    }
}

#[test]
fn lines_of_the_example_fit_a_terminal() {
    for line in render::example().lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
}

#[test]
fn what_is_shown_as_in_force_reads_back_the_same() {
    let said = Said::least()
        .flag(Key::Capacity, "10GiB")
        .flag(Key::DataDir, "/with \"quotes\" and \\")
        .variable("KURA_RETRY_AFTER_MS", "1500");
    let settings = said.settings();
    let shown = render::effective(&settings);
    let again = Said::default().file(&shown).settings();
    for setting in &SETTINGS {
        let value = |settings: &crate::settings::Settings| {
            settings.entry(setting.key).map(|entry| entry.value.to_string())
        };
        assert_eq!(value(&settings), value(&again), "{}", setting.toml);
    }
    let line = |name: &str| shown.lines().find(|it| it.starts_with(name)).unwrap().to_owned();
    assert!(line("retry_after").ends_with("  # variable KURA_RETRY_AFTER_MS"), "{shown}");
    assert!(line("capacity").ends_with("  # flag --cas-capacity"), "{shown}");
    assert!(line("port").ends_with("  # default"), "{shown}");
}

#[test]
fn a_default_that_follows_from_the_disk_is_shown_as_a_comment() {
    let shown = render::effective(&Said::least().settings());
    let line = shown.lines().find(|line| line.starts_with("#capacity =")).unwrap();
    assert!(line.ends_with("# default: half of the file system that holds the data directory"));
}

/// Set `BLESS_DOCS` to write the page instead of comparing it.
#[test]
fn the_page_in_docs_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    if std::env::var_os("BLESS_DOCS").is_some() {
        fs::write(&path, page::page()).unwrap();
    }
    let page_in_docs = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        page_in_docs == page::page(),
        "docs/configuration.md differs from the table of settings: run `BLESS_DOCS=1 cargo test -p kura`"
    );
}
