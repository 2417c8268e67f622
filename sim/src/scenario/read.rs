//! Reads a scenario file into values and ranges, strictly by the [`schema`](super::schema).

use std::{collections::BTreeMap, ops::Range};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    error::{Problem, ScenarioError},
    quantity::Unit,
    schema::{self, Field, Kind, Preset, Section, Shape},
    value::{self, Value, preset},
};

/// What stands in the file for one field: a value, or from where the seed draws it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// This value.
    Fixed(Value),
    /// A number between two others, both included; with `octaves` each order of magnitude is as
    /// likely as any other.
    Between {
        /// The least.
        from: u64,
        /// The greatest.
        to: u64,
        /// Whether orders of magnitude are even, not numbers.
        octaves: bool,
    },
    /// One of these.
    OneOf(Vec<Value>),
    /// A multiple of another field of the same unit.
    Times {
        /// The factor in millionths: a value or a range of its own.
        factor: Box<Written>,
        /// The path of the other field.
        of: String,
    },
}

/// A field of a file.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What the schema says of it.
    pub field: &'static Field,
    /// What was written, or the default.
    pub written: Written,
    /// Its line, from 1.
    pub line: usize,
}

/// A scenario file, read but not drawn.
#[derive(Clone, Debug)]
pub struct Document {
    /// The file as it was named.
    pub file: String,
    /// The comment at its top: the story.
    pub story: String,
    /// Every field, defaults included, by path: `disk.capacity`, `client.writers.keys`.
    pub entries: BTreeMap<String, Entry>,
    /// The tables of each named or listed section: names sorted for named ones, in the order of the
    /// file for listed ones.
    pub instances: BTreeMap<Section, Vec<String>>,
}

impl Document {
    /// An error about a field of this file.
    #[must_use]
    pub fn blame(&self, path: &str, problem: Problem) -> ScenarioError {
        let line = self.entries.get(path).map_or(0, |entry| entry.line);
        ScenarioError { file: self.file.clone(), line, key: path.to_owned(), problem }
    }
}

/// Reads `text`, which came from `file`.
///
/// # Errors
///
/// The first mistake, with its line and key.
pub fn read(file: &str, text: &str) -> Result<Document, ScenarioError> {
    let reader = Reader { file, text };
    let table = DeTable::parse(text).map_err(|error| {
        let problem = Problem::Syntax(error.message().to_owned());
        reader.error(error.span().unwrap_or(0..0), "", problem)
    })?;
    let mut document = Document {
        file: file.to_owned(),
        story: story(text),
        entries: BTreeMap::new(),
        instances: BTreeMap::new(),
    };
    reader.root(table.get_ref(), &mut document)?;
    reader.references(&document)?;
    Ok(document)
}

/// Replaces a field, written as `path=value` with the value as in a file; texts need no quotes.
///
/// # Errors
///
/// As for a file, with the whole argument in place of a line.
pub fn set(document: &mut Document, argument: &str) -> Result<(), ScenarioError> {
    let (path, value) = argument.split_once('=').unwrap_or((argument, ""));
    let (path, value) = (path.trim(), value.trim());
    let quoted = format!("{value:?}");
    let text = if DeValue::parse(value).is_ok() { value } else { quoted.as_str() };
    let reader = Reader { file: argument, text };
    let syntax = |error: toml::de::Error| {
        reader.error(0..0, path, Problem::Syntax(error.message().to_owned()))
    };
    let value = DeValue::parse(text).map_err(syntax)?;
    let Some(entry) = document.entries.get(path) else {
        let found = path.to_owned();
        let paths = || document.entries.keys().map(String::as_str);
        let allowed = match schema::nearest(path, paths()) {
            Some(nearest) => nearest.to_owned(),
            None => paths().collect::<Vec<_>>().join(", "),
        };
        let problem = Problem::Dangling { found, allowed };
        return Err(reader.error(0..0, path, problem));
    };
    let (field, line) = (entry.field, entry.line);
    let written = reader.written(field, path, &value)?;
    document.entries.insert(path.to_owned(), Entry { field, written, line });
    reader.references(document)
}

/// The comment lines at the top of a file.
fn story(text: &str) -> String {
    let lines = text.lines().take_while(|line| line.starts_with('#'));
    let lines: Vec<&str> = lines.map(|line| line.trim_start_matches('#').trim()).collect();
    lines.join("\n")
}

struct Reader<'a> {
    file: &'a str,
    text: &'a str,
}

/// The table of a section, under the path that its fields have.
struct Instance<'a, 'i> {
    section: Section,
    path: String,
    table: &'a DeTable<'i>,
    span: Range<usize>,
}

impl Reader<'_> {
    fn error(&self, span: Range<usize>, key: &str, problem: Problem) -> ScenarioError {
        let line = self.line(&span);
        ScenarioError { file: self.file.to_owned(), line, key: key.to_owned(), problem }
    }

    fn line(&self, span: &Range<usize>) -> usize {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        before.bytes().filter(|byte| *byte == b'\n').count() + 1
    }

    fn illegal(&self, value: &Spanned<DeValue<'_>>, path: &str, allowed: String) -> ScenarioError {
        let found = self.text.get(value.span()).unwrap_or_default().to_owned();
        self.error(value.span(), path, Problem::Illegal { found, allowed })
    }

    fn root(&self, table: &DeTable<'_>, document: &mut Document) -> Result<(), ScenarioError> {
        let known = || Section::ALL.into_iter().map(Section::key).filter(|key| !key.is_empty());
        let allowed = || Section::Root.fields().map(|field| field.key).chain(known());
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if !allowed().any(|known| known == name) {
                let nearest = schema::nearest(name, allowed());
                let problem = Problem::Unknown { allowed: allowed().collect(), nearest };
                return Err(self.error(key.span(), name, problem));
            }
        }
        let root = Instance { section: Section::Root, path: String::new(), table, span: 0..0 };
        self.fields(&root, document)?;
        for section in Section::ALL.into_iter().filter(|section| *section != Section::Root) {
            self.section(section, table, document)?;
        }
        Ok(())
    }

    fn section(
        &self,
        section: Section,
        table: &DeTable<'_>,
        document: &mut Document,
    ) -> Result<(), ScenarioError> {
        let key = section.key();
        let Some(value) = table.get(key) else {
            if section.shape() == Shape::Single {
                let empty = DeTable::new();
                let path = key.to_owned();
                self.fields(&Instance { section, path, table: &empty, span: 0..0 }, document)?;
            }
            document.instances.insert(section, Vec::new());
            return Ok(());
        };
        let mut names = Vec::new();
        for instance in self.instances(section, value)? {
            self.fields(&instance, document)?;
            names.push(instance.path.split_once('.').map_or("", |(_, name)| name).to_owned());
        }
        document.instances.insert(section, names);
        Ok(())
    }

    /// The tables of a section.
    fn instances<'v, 'i>(
        &self,
        section: Section,
        value: &'v Spanned<DeValue<'i>>,
    ) -> Result<Vec<Instance<'v, 'i>>, ScenarioError> {
        let key = section.key();
        let not_a_table =
            |value| self.illegal(value, key, format!("a table under {}", section.header()));
        let instance = |path, value: &'v Spanned<DeValue<'i>>| {
            let table = value.get_ref().as_table().ok_or_else(|| not_a_table(value))?;
            Ok(Instance { section, path, table, span: value.span() })
        };
        match section.shape() {
            Shape::Single => Ok(vec![instance(key.to_owned(), value)?]),
            Shape::Named => {
                let tables = value.get_ref().as_table().ok_or_else(|| not_a_table(value))?;
                let named = tables.iter();
                named
                    .map(|(name, value)| instance(format!("{key}.{}", name.get_ref()), value))
                    .collect()
            }
            Shape::Listed => {
                let list = value.get_ref().as_array().ok_or_else(|| not_a_table(value))?;
                let mut found: Vec<Instance<'v, 'i>> = Vec::new();
                for (position, value) in list.iter().enumerate() {
                    let name = value.get_ref().get("name").and_then(|name| name.get_ref().as_str());
                    let path = format!("{key}.{}", name.unwrap_or(&position.to_string()));
                    if found.iter().any(|other| other.path == path) {
                        return Err(self.illegal(value, &path, "each name once".to_owned()));
                    }
                    found.push(instance(path, value)?);
                }
                Ok(found)
            }
        }
    }

    /// The fields of one table: what is written, then the defaults of what is not.
    fn fields(
        &self,
        instance: &Instance<'_, '_>,
        document: &mut Document,
    ) -> Result<(), ScenarioError> {
        let Instance { section, path, table, span } = instance;
        let join = |key: &str| {
            if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
        };
        for (key, value) in table.iter() {
            let name = key.get_ref().as_ref();
            let path = join(name);
            let Some(field) = schema::find(*section, name) else {
                if *section == Section::Root {
                    continue; // a section's table; its name was checked
                }
                let keys = || section.fields().map(|field| field.key);
                let nearest = schema::nearest(name, keys());
                let problem = Problem::Unknown { allowed: keys().collect(), nearest };
                return Err(self.error(key.span(), &path, problem));
            };
            let written = self.written(field, &path, value)?;
            let line = self.line(&key.span());
            document.entries.insert(path, Entry { field, written, line });
        }
        for field in section.fields() {
            let path = join(field.key);
            if document.entries.contains_key(&path) {
                continue;
            }
            let Some(value) = preset(field) else {
                let problem = Problem::Missing { allowed: field.allowed() };
                return Err(self.error(span.clone(), &path, problem));
            };
            let line = self.line(span);
            document.entries.insert(path, Entry { field, written: Written::Fixed(value), line });
        }
        Ok(())
    }

    /// A value or a range.
    fn written(
        &self,
        field: &'static Field,
        path: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<Written, ScenarioError> {
        let Some(table) = value.get_ref().as_table() else {
            return self.value(field.kind, path, value).map(Written::Fixed);
        };
        let forms = "{ from = , to = }, { from = , to = , octaves = true }, { one_of = [...] } or \
                     { times = , of = \"path\" }";
        let wrong = || self.illegal(value, path, format!("{}, or {forms}", field.allowed()));
        let mut keys: Vec<&str> = table.keys().map(|key| key.get_ref().as_ref()).collect();
        keys.sort_unstable();
        let part = |key: &str| table.get(key).ok_or_else(wrong);
        match (field.kind, keys.as_slice()) {
            (Kind::Number(..), ["from", "to"] | ["from", "octaves", "to"]) => {
                let from = self.number(field.kind, path, part("from")?)?;
                let to = self.number(field.kind, path, part("to")?)?;
                let octaves = match table.get("octaves") {
                    Some(flag) => flag.get_ref().as_bool().ok_or_else(wrong)?,
                    None => false,
                };
                if from > to {
                    return Err(wrong());
                }
                Ok(Written::Between { from, to, octaves })
            }
            (_, ["one_of"]) => {
                let list = part("one_of")?.get_ref().as_array().ok_or_else(wrong)?;
                let values = list.iter().map(|value| self.value(field.kind, path, value));
                let values: Vec<Value> = values.collect::<Result<_, _>>()?;
                if values.is_empty() { Err(wrong()) } else { Ok(Written::OneOf(values)) }
            }
            (Kind::Number(..), ["of", "times"]) => {
                let of = part("of")?.get_ref().as_str().ok_or_else(wrong)?.to_owned();
                let factor = self.written(&FACTOR, path, part("times")?)?;
                if matches!(factor, Written::Times { .. }) {
                    return Err(wrong());
                }
                Ok(Written::Times { factor: Box::new(factor), of })
            }
            _ => Err(wrong()),
        }
    }

    fn number(
        &self,
        kind: Kind,
        path: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<u64, ScenarioError> {
        match self.value(kind, path, value)? {
            Value::Number(number) => Ok(number),
            Value::Text(_) | Value::Texts(_) | Value::Counts(_) | Value::Flag(_) => {
                Err(self.illegal(value, path, "a number".to_owned()))
            }
        }
    }

    fn value(
        &self,
        kind: Kind,
        path: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<Value, ScenarioError> {
        let read = value::read(kind, value.get_ref());
        read.ok_or_else(|| {
            let field = Field { kind, ..FACTOR };
            self.illegal(value, path, field.allowed())
        })
    }

    /// Every `of` must name a field of the same unit, and no two may name each other.
    fn references(&self, document: &Document) -> Result<(), ScenarioError> {
        const CHAIN_MAX: usize = 8;
        let unit = |entry: &Entry| match entry.field.kind {
            Kind::Number(unit, ..) => Some(unit),
            Kind::Choice(_)
            | Kind::Text
            | Kind::Texts
            | Kind::Nodes
            | Kind::Counts
            | Kind::Flag => None,
        };
        for (path, entry) in &document.entries {
            let mut next = entry;
            for step in 0.. {
                let Written::Times { of, .. } = &next.written else { break };
                let target = document.entries.get(of).filter(|target| unit(target) == unit(entry));
                let Some(target) = target.filter(|_| step < CHAIN_MAX) else {
                    let same =
                        document.entries.iter().filter(|(_, other)| unit(other) == unit(entry));
                    let allowed: Vec<&str> = same.map(|(path, _)| path.as_str()).collect();
                    let problem =
                        Problem::Dangling { found: of.clone(), allowed: allowed.join(", ") };
                    return Err(document.blame(path, problem));
                };
                next = target;
            }
        }
        Ok(())
    }
}

/// What `times` holds.
static FACTOR: Field = Field {
    section: Section::Root,
    key: "times",
    kind: Kind::Number(Unit::Ratio, 0, 1_000_000_000_000),
    preset: Preset::Required,
    scaled: false,
    meaning: "a factor",
};
