//! Draws every range of a scenario from the seed, each by a stream named by its field's path, so
//! that adding a field changes no other draw.

use std::collections::BTreeMap;

use super::{
    quantity::MILLION,
    read::{Document, Written},
    schema::{Kind, Section},
    value::Value,
};
use crate::draw::Draw;

/// The values of a scenario under one seed, in production units: not yet divided by its scale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawn {
    values: BTreeMap<String, Value>,
    /// What the seed chose, as text, by path.
    pub chosen: BTreeMap<String, String>,
    scale: u64,
    scaled: Vec<String>,
}

/// Draws what `document` leaves open.
#[must_use]
pub fn draw(document: &Document, seed: u64) -> Drawn {
    let mut values = BTreeMap::new();
    let mut chosen = BTreeMap::new();
    for (path, entry) in &document.entries {
        let value = resolve(document, path, seed);
        if !matches!(entry.written, Written::Fixed(_)) {
            chosen.insert(path.clone(), show(entry.field.kind, &value));
        }
        values.insert(path.clone(), value);
    }
    let scaled = document.entries.iter().filter(|(_, entry)| entry.field.scaled);
    let scaled = scaled.map(|(path, _)| path.clone()).collect();
    let scale = match values.get("scale") {
        Some(Value::Number(scale)) => *scale,
        Some(Value::Text(_) | Value::Texts(_) | Value::Counts(_) | Value::Flag(_)) | None => 1,
    };
    Drawn { values, chosen, scale, scaled }
}

fn resolve(document: &Document, path: &str, seed: u64) -> Value {
    let entry = document.entries.get(path).expect("references were checked when it was read");
    match &entry.written {
        Written::Times { factor, of } => {
            let Value::Number(base) = resolve(document, of, seed) else {
                return Value::Number(0); // the reader allows numbers only
            };
            let factor = match pick(factor, seed, path) {
                Value::Number(factor) => factor,
                Value::Text(_) | Value::Texts(_) | Value::Counts(_) | Value::Flag(_) => MILLION,
            };
            let product = u128::from(base) * u128::from(factor) / u128::from(MILLION);
            let product = u64::try_from(product).unwrap_or(u64::MAX);
            match entry.field.kind {
                Kind::Number(_, min, max) => Value::Number(product.clamp(min, max)),
                Kind::Choice(_)
                | Kind::Text
                | Kind::Texts
                | Kind::Nodes
                | Kind::Counts
                | Kind::Flag => Value::Number(product),
            }
        }
        written @ (Written::Fixed(_) | Written::Between { .. } | Written::OneOf(_)) => {
            pick(written, seed, path)
        }
    }
}

fn pick(written: &Written, seed: u64, path: &str) -> Value {
    let mut draw = Draw::named(seed, path);
    match written {
        Written::Fixed(value) => value.clone(),
        Written::Between { from, to, octaves: false } => Value::Number(draw.between(*from, *to)),
        Written::Between { from, to, octaves: true } => Value::Number(draw.octaves(*from, *to)),
        Written::OneOf(values) => {
            let count = u64::try_from(values.len()).unwrap_or(u64::MAX);
            let position = usize::try_from(draw.below(count)).unwrap_or(0);
            values[position].clone()
        }
        // The reader refuses a factor that is itself a multiple.
        Written::Times { .. } => Value::Number(MILLION),
    }
}

/// A value as text.
fn show(kind: Kind, value: &Value) -> String {
    match (value, kind) {
        (Value::Number(number), Kind::Number(unit, ..)) => unit.show(*number),
        (Value::Number(number), _) => number.to_string(),
        (Value::Text(text), _) => text.clone(),
        (Value::Texts(texts), _) => texts.join(" "),
        (Value::Counts(counts), _) => format!("{counts:?}"),
        (Value::Flag(flag), _) => flag.to_string(),
    }
}

/// The fields of one table of a drawn scenario. Its getters are for fields that the schema has, of
/// the kind that it says: anything else is a mistake of ours, and panics.
pub struct Table<'a> {
    drawn: &'a Drawn,
    path: String,
}

impl Drawn {
    /// The only table of `section`.
    #[must_use]
    pub fn table(&self, section: Section) -> Table<'_> {
        Table { drawn: self, path: section.key().to_owned() }
    }

    /// The table `name` of `section`.
    #[must_use]
    pub fn named(&self, section: Section, name: &str) -> Table<'_> {
        Table { drawn: self, path: format!("{}.{name}", section.key()) }
    }

    /// The factor by which bytes were divided.
    #[must_use]
    pub fn scale(&self) -> u64 {
        self.scale
    }
}

impl Table<'_> {
    /// The path of a field in here.
    #[must_use]
    pub fn path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn value(&self, key: &str) -> &Value {
        let path = self.path(key);
        let value = self.drawn.values.get(&path);
        value.unwrap_or_else(|| panic!("the schema has no field {path}"))
    }

    /// A number, divided by the scale if it is one of bytes. What is not zero stays so.
    #[must_use]
    pub fn number(&self, key: &str) -> u64 {
        let Value::Number(number) = self.value(key) else {
            panic!("{} is not a number", self.path(key))
        };
        let scaled = self.drawn.scaled.contains(&self.path(key));
        if scaled && *number > 0 { (number / self.drawn.scale).max(1) } else { *number }
    }

    /// A duration.
    #[must_use]
    pub fn duration(&self, key: &str) -> std::time::Duration {
        std::time::Duration::from_nanos(self.number(key))
    }

    /// A text or chosen word.
    #[must_use]
    pub fn text(&self, key: &str) -> &str {
        let Value::Text(text) = self.value(key) else { panic!("{} is not a text", self.path(key)) };
        text
    }

    /// A yes or no.
    #[must_use]
    pub fn flag(&self, key: &str) -> bool {
        let Value::Flag(flag) = self.value(key) else { panic!("{} is not a flag", self.path(key)) };
        *flag
    }

    /// A list of texts.
    #[must_use]
    pub fn texts(&self, key: &str) -> &[String] {
        let Value::Texts(texts) = self.value(key) else {
            panic!("{} is not a list of texts", self.path(key))
        };
        texts
    }

    /// A list of counts.
    #[must_use]
    pub fn counts(&self, key: &str) -> &[u64] {
        let Value::Counts(counts) = self.value(key) else {
            panic!("{} is not a list of counts", self.path(key))
        };
        counts
    }
}
