//! Settings in environment variables. The environment itself is read in `main` and handed over.

use std::ffi::{OsStr, OsString};

use super::{
    Assignment, nearest,
    problem::{Origin, Problem, Warning},
    setting::{Setting, VARIABLE_PREFIX},
    table::SETTINGS,
    value::Written,
};

/// What the variables of a process say.
#[derive(Debug, Default)]
pub(crate) struct FromVariables {
    /// What they set.
    pub(crate) set: Vec<Assignment>,
    /// What is wrong with them.
    pub(crate) problems: Vec<Problem>,
    /// What is probably a mistake.
    pub(crate) warnings: Vec<Warning>,
}

/// Reads `variables`. An empty one counts as not set, because that is how compose files and
/// manifests leave a variable out. An unknown one is only a warning: the variables of a process are
/// shared with whatever started it, and a newer setting must not keep an older node from starting.
pub(crate) fn read(variables: &[(OsString, OsString)]) -> FromVariables {
    let mut out = FromVariables::default();
    // By name, so that the same mistakes are reported in the same order wherever they are made.
    let mut variables: Vec<_> = variables.iter().collect();
    variables.sort();
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with(VARIABLE_PREFIX)) else {
            continue;
        };
        match Setting::by_variable(name) {
            Some(setting) => assign(&mut out, setting, value),
            None => {
                let nearest = nearest::among(name, SETTINGS.iter().map(|s| s.variable));
                out.warnings.push(Warning::UnknownVariable { name: name.to_owned(), nearest });
            }
        }
    }
    out
}

fn assign(out: &mut FromVariables, setting: &'static Setting, value: &OsStr) {
    let origin = Origin::Variable(setting.variable);
    match value.to_str() {
        Some("") => {}
        Some(text) => {
            let written = Written::Variable(text.to_owned());
            out.set.push(Assignment { setting, written, origin });
        }
        None => out.problems.push(Problem::VariableNotText { origin }),
    }
}
