//! Values of fields: what TOML holds, read as what the schema wants.

use toml::de::DeValue;

use super::{
    quantity::Unit,
    schema::{Field, Kind, NODES_MAX, Preset},
};

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number in the grain of its field's unit.
    Number(u64),
    /// A text or a chosen word.
    Text(String),
    /// A list of texts.
    Texts(Vec<String>),
    /// A list of counts.
    Counts(Vec<u64>),
    /// A flag.
    Flag(bool),
}

/// Reads a value as one of this kind; `None` if it is of another form or out of bounds.
pub(super) fn read(kind: Kind, found: &DeValue<'_>) -> Option<Value> {
    match kind {
        Kind::Number(unit, min, max) => {
            number(unit, found).filter(|number| (min..=max).contains(number)).map(Value::Number)
        }
        Kind::Choice(words) => found
            .as_str()
            .filter(|word| words.contains(word))
            .map(|word| Value::Text(word.to_owned())),
        Kind::Text => found.as_str().map(|text| Value::Text(text.to_owned())),
        Kind::Texts => texts(found).map(Value::Texts),
        Kind::Nodes => nodes(found).map(Value::Texts),
        Kind::Counts => found.as_array().and_then(|list| {
            let counts = list.iter().map(|value| number(Unit::Count, value.get_ref()));
            counts.collect::<Option<Vec<u64>>>().map(Value::Counts)
        }),
        Kind::Flag => found.as_bool().map(Value::Flag),
    }
}

/// The value of a field that is not written; `None` if it must be.
pub(super) fn preset(field: &Field) -> Option<Value> {
    let Preset::Is(text) = field.preset else { return None };
    let list = || text.split_whitespace().map(str::to_owned).collect::<Vec<String>>();
    Some(match field.kind {
        Kind::Number(unit, ..) => Value::Number(unit.parse(text)?),
        Kind::Choice(_) | Kind::Text => Value::Text(text.to_owned()),
        Kind::Texts => Value::Texts(list()),
        Kind::Nodes => Value::Texts(numbered(text.parse().ok()?)),
        Kind::Counts => Value::Counts(list().iter().filter_map(|text| text.parse().ok()).collect()),
        Kind::Flag => Value::Flag(text == "true"),
    })
}

fn number(unit: Unit, value: &DeValue<'_>) -> Option<u64> {
    match value {
        DeValue::String(text) => unit.parse(text),
        // Bare numbers are bytes, counts and ratios; anything else needs its unit.
        DeValue::Integer(number) if number.radix() == 10 => match unit {
            Unit::Bytes => unit.parse(&format!("{}B", number.as_str())),
            Unit::Count | Unit::Ratio => unit.parse(number.as_str()),
            Unit::Duration | Unit::ByteRate | Unit::Frequency => {
                (number.as_str() == "0").then_some(0)
            }
        },
        DeValue::Float(number) if unit == Unit::Ratio => unit.parse(number.as_str()),
        DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => None,
    }
}

fn texts(value: &DeValue<'_>) -> Option<Vec<String>> {
    let list = value.as_array()?;
    list.iter().map(|value| value.get_ref().as_str().map(str::to_owned)).collect()
}

fn nodes(value: &DeValue<'_>) -> Option<Vec<String>> {
    let names = match number(Unit::Count, value) {
        Some(count) => numbered(count.min(NODES_MAX + 1)),
        None => texts(value)?,
    };
    let legal = !names.is_empty() && u64::try_from(names.len()).is_ok_and(|len| len <= NODES_MAX);
    legal.then_some(names)
}

fn numbered(count: u64) -> Vec<String> {
    (1..=count).map(|number| format!("node-{number}")).collect()
}
