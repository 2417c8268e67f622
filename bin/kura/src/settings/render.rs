//! Settings for people: an example file, what is in force, help for flags.

use std::fmt::Write as _;

use super::{
    Origin, Settings,
    setting::{DefaultValue, Section, Setting},
    table::{SECTIONS, SETTINGS},
};

/// Columns of a comment in the example file.
const COMMENT_COLUMNS: usize = 96;

/// A TOML file with every setting and its default. Only what must be set is not commented out, so
/// that a node follows the defaults of its version.
pub(crate) fn example() -> String {
    let mut out = String::from(
        "# Configuration of a Kura node, with every setting and its default.\n\
         # To change one, remove the '#' in front of it. Flags win over KURA_* variables, variables\n\
         # over this file. What goes wrong too low and too high: `kura config docs`\n",
    );
    for section in &SECTIONS {
        let _ = write!(out, "\n# {}\n[{}]\n", section.about, section.name);
        for setting in settings_of(section) {
            out.push('\n');
            comment(&mut out, setting.meaning);
            comment(&mut out, &format!("Allowed: {}.", setting.kind.allowed()));
            let name = setting.name();
            let _ = match &setting.default {
                DefaultValue::Fixed(value) => writeln!(out, "#{name} = {value}"),
                DefaultValue::Required { example } => {
                    comment(&mut out, "Must be set, here, by variable or by flag.");
                    writeln!(out, "{name} = {example}")
                }
                DefaultValue::Derived { rule, example } => {
                    comment(&mut out, &format!("Default: {rule}. For example:"));
                    writeln!(out, "#{name} = {example}")
                }
            };
        }
    }
    out
}

/// The settings in force as a TOML file, each with where it comes from.
pub(crate) fn effective(settings: &Settings) -> String {
    let mut out = String::new();
    for section in &SECTIONS {
        let blank = if out.is_empty() { "" } else { "\n" };
        let _ = writeln!(out, "{blank}[{}]", section.name);
        let lines: Vec<_> = settings_of(section).map(|s| effective_line(settings, s)).collect();
        let columns = lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or(0);
        for (line, origin) in lines {
            let _ = writeln!(out, "{line:columns$}  # {origin}");
        }
    }
    out
}

fn effective_line(settings: &Settings, setting: &Setting) -> (String, String) {
    let name = setting.name();
    let default = match &setting.default {
        DefaultValue::Derived { rule, .. } => format!("default: {rule}"),
        DefaultValue::Fixed(_) | DefaultValue::Required { .. } => Origin::Default.to_string(),
    };
    match settings.entry(setting.key) {
        Some(entry) if entry.origin == Origin::Default => {
            (format!("{name} = {}", entry.value), default)
        }
        Some(entry) => (format!("{name} = {}", entry.value), entry.origin.to_string()),
        None => (format!("#{name} ="), default),
    }
}

/// The default, for a sentence in Markdown.
pub(super) fn default_of(setting: &Setting) -> String {
    match &setting.default {
        DefaultValue::Fixed(value) => format!("`{value}`"),
        DefaultValue::Required { .. } => "none: must be set".to_owned(),
        DefaultValue::Derived { rule, .. } => (*rule).to_owned(),
    }
}

/// What `--help` says about a setting.
pub(crate) fn flag_help(setting: &Setting) -> String {
    let default = match &setting.default {
        DefaultValue::Required { .. } => "must be set".to_owned(),
        DefaultValue::Fixed(value) => format!("default: {value}"),
        DefaultValue::Derived { rule, .. } => format!("default: {}", rule.replace('`', "")),
    };
    format!("{} [{}] [{default}]", setting.meaning, setting.variable)
}

pub(super) fn settings_of(section: &Section) -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(move |setting| setting.section() == section.name)
}

/// Writes `text` as lines of a comment, broken between words.
fn comment(out: &mut String, text: &str) {
    let mut column = 0;
    for word in text.split(' ') {
        let columns = word.chars().count() + 1;
        if column == 0 || column + columns > COMMENT_COLUMNS {
            let line_end = if column == 0 { "" } else { "\n" };
            let _ = write!(out, "{line_end}#");
            column = 1;
        }
        let _ = write!(out, " {word}");
        column += columns;
    }
    out.push('\n');
}
