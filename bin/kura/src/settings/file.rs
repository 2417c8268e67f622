//! Settings in a TOML file, each with its line.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Assignment, nearest,
    problem::{Origin, Problem},
    setting::Setting,
    table::{SECTIONS, SETTINGS},
    value::Written,
};

/// No configuration is longer. Keeps `--config /dev/zero` from filling the memory.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A file that was read, and not understood yet.
#[derive(Clone, Debug)]
pub(crate) struct SettingsFile {
    /// Its path, as it was given.
    pub(crate) path: PathBuf,
    /// What is in it.
    pub(crate) text: String,
}

impl SettingsFile {
    /// Reads the file at `path`.
    ///
    /// # Errors
    ///
    /// It cannot be read, is too long, or is not text.
    pub(crate) fn read(path: &Path) -> Result<Self, Problem> {
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
            .map_err(|cause| Problem::Unreadable { path: path.to_owned(), cause })?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(Problem::FileTooLong { path: path.to_owned(), bytes_max: FILE_BYTES_MAX });
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self { path: path.to_owned(), text }),
            Err(error) => {
                let line = line_at(error.as_bytes(), error.utf8_error().valid_up_to());
                let origin = Origin::File { path: Arc::new(path.to_owned()), line };
                Err(Problem::FileNotText { origin })
            }
        }
    }

    /// What the file sets, and what is wrong with it. A file that is not TOML sets nothing.
    pub(crate) fn assignments(&self) -> (Vec<Assignment>, Vec<Problem>) {
        let mut reader =
            Reader { file: self, path: Arc::new(self.path.clone()), set: vec![], problems: vec![] };
        let (table, errors) = DeTable::parse_recoverable(&self.text);
        if errors.is_empty() {
            reader.read_root(table.get_ref());
        }
        for error in errors {
            let origin = reader.origin(error.span().map_or(0, |span| span.start));
            let message = error.message().trim_end().replace('\n', ", ");
            reader.problems.push(Problem::Syntax { origin, message });
        }
        (reader.set, reader.problems)
    }
}

struct Reader<'a> {
    file: &'a SettingsFile,
    path: Arc<PathBuf>,
    set: Vec<Assignment>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn read_root(&mut self, root: &DeTable<'_>) {
        for (name, value) in root {
            let section = SECTIONS.iter().find(|section| section.name == name.get_ref());
            let origin = self.origin(name.span().start);
            match (section, value.get_ref().as_table()) {
                (Some(section), Some(table)) => self.read_section(section.name, table),
                (Some(section), None) => {
                    self.problems.push(Problem::NotASection { origin, section: section.name });
                }
                (None, Some(_)) => {
                    let section = name.get_ref().to_string();
                    let names = SECTIONS.iter().map(|section| section.name);
                    let nearest = nearest::among(&section, names);
                    self.problems.push(Problem::UnknownSection { origin, section, nearest });
                }
                (None, None) => self.unknown_key(origin, name.get_ref()),
            }
        }
    }

    fn read_section(&mut self, section: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let path = format!("{section}.{}", name.get_ref());
            if let Some(setting) = Setting::by_toml(&path) {
                let origin = self.origin(value.span().start);
                self.set.push(Assignment { setting, written: written(value), origin });
            } else {
                let origin = self.origin(name.span().start);
                self.unknown_key(origin, &path);
            }
        }
    }

    fn unknown_key(&mut self, origin: Origin, key: &str) {
        let paths = || SETTINGS.iter().map(|setting| setting.toml);
        // A key that stands in no section, or in the wrong one, may still have the right name.
        let name = key.rsplit_once('.').map_or(key, |(_, name)| name);
        let nearest = nearest::among(key, paths()).or_else(|| {
            nearest::among(name, SETTINGS.iter().map(Setting::name)).and_then(|near| {
                SETTINGS.iter().find(|setting| setting.name() == near).map(|s| s.toml)
            })
        });
        self.problems.push(Problem::UnknownKey { origin, key: key.to_owned(), nearest });
    }

    fn origin(&self, offset: usize) -> Origin {
        let line = line_at(self.file.text.as_bytes(), offset);
        Origin::File { path: Arc::clone(&self.path), line }
    }
}

fn written(value: &Spanned<DeValue<'_>>) -> Written {
    match value.get_ref() {
        DeValue::String(text) => Written::TomlString(text.to_string()),
        DeValue::Integer(integer) => {
            Written::TomlInteger { digits: integer.as_str().to_owned(), radix: integer.radix() }
        }
        DeValue::Array(items) if items.iter().all(|item| item.get_ref().is_str()) => {
            let texts = items.iter().filter_map(|item| item.get_ref().as_str());
            Written::TomlStrings(texts.map(str::to_owned).collect())
        }
        DeValue::Boolean(is_on) => Written::TomlBoolean(*is_on),
        other @ (DeValue::Float(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_)) => Written::TomlOther(other.type_str()),
    }
}

/// The line, counted from 1, in which the byte at `offset` stands.
fn line_at(text: &[u8], offset: usize) -> usize {
    let before = &text[..offset.min(text.len())];
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}
