//! The page of documentation that lists every setting.

use std::fmt::Write as _;

use super::{
    render::{default_of, settings_of},
    setting::{Setting, Stakes},
    table::{SECTIONS, SETTINGS},
    value::Kind,
};
use crate::exit;

/// The page, as it stands in `docs/configuration.md`.
pub(crate) fn page() -> String {
    let mut out = String::from(PAGE_HEAD);
    out.push_str(
        "\n## All settings\n\n| TOML key | variable | flag | default |\n|---|---|---|---|\n",
    );
    for setting in &SETTINGS {
        let _ = writeln!(
            out,
            "| [`{0}`](#{1}) | `{2}` | `--{3}` | {4} |",
            setting.toml,
            anchor(setting),
            setting.variable,
            setting.flag,
            default_of(setting)
        );
    }
    for section in &SECTIONS {
        let _ = write!(out, "\n## `[{}]`\n\n{}\n", section.name, section.about);
        for setting in settings_of(section) {
            page_entry(&mut out, setting);
        }
    }
    out.push_str("\n## Exit codes of `kura`\n\n| code | meaning |\n|---|---|\n");
    for (code, meaning) in exit::TABLE {
        let _ = writeln!(out, "| {code} | {meaning} |");
    }
    out
}

const PAGE_HEAD: &str = "\
# Configuration

Made from the table in `bin/kura/src/settings/table.rs`; a test compares. Do not edit by hand:
`BLESS_DOCS=1 cargo test -p kura` writes it anew.

Only the data directory is needed to start: `kura serve --data-dir /var/lib/kura`.

Every setting can stand in a TOML file (`kura serve --config FILE`), in an environment variable, or on
the command line. A flag wins over a variable, a variable over the file, the file over the default.
`kura config example` prints a file to begin with; `kura config show` takes the same flags as `kura
serve` and prints what is in force and where each value comes from; `kura config docs` prints this page.

- **Sizes** are a whole number and a unit: `B`, `KiB`, `MiB`, `GiB`, `TiB` (powers of 1024) or `kB`,
  `MB`, `GB`, `TB` (powers of 1000). A number alone is bytes.
- **Times** are a whole number and a unit: `ms`, `s`, `m`, `h`. A number alone is milliseconds in a
  variable, whose name says so, and an error elsewhere.
- An empty variable counts as not set. A variable that begins with `KURA_` and is not listed here is
  ignored with a warning; an unknown key in the file is an error.
- A bad setting keeps the node from starting, with exit code 78. All problems are reported at once,
  each with its file and line, variable or flag, what was found and what is allowed.

There is no authentication in this version: whoever reaches the port can read and write the cache. The
peer plane is plain HTTP without authentication as well, and belongs on a private network.
";

fn page_entry(out: &mut String, setting: &Setting) {
    let _ = write!(out, "\n### `{}`\n\n{}\n\n", setting.toml, setting.meaning);
    if let Kind::Choice(choices) = &setting.kind {
        for choice in *choices {
            let _ = writeln!(out, "- `{}`: {}.", choice.name, choice.meaning);
        }
        out.push('\n');
    }
    let _ = writeln!(out, "- Variable `{}`, flag `--{}`", setting.variable, setting.flag);
    let _ = writeln!(out, "- Default: {}", default_of(setting));
    let _ = writeln!(out, "- Allowed: {}", setting.kind.allowed());
    let _ = match &setting.stakes {
        Stakes::Ends { too_low, too_high } => {
            writeln!(out, "- Too low: {too_low}\n- Too high: {too_high}")
        }
        Stakes::Choice(text) => writeln!(out, "- Mind: {text}"),
    };
}

/// How Markdown renderers name the heading of a setting.
fn anchor(setting: &Setting) -> String {
    setting.toml.replace('.', "")
}
