//! Settings from their sources to what is in force, as tables.

mod documentation;
mod problems;
mod values;

use std::{ffi::OsString, path::PathBuf};

use super::{Key, Problem, Settings, SettingsFile, Sources};

/// What somebody said, in all three sources.
#[derive(Clone, Debug, Default)]
struct Said {
    file: Option<SettingsFile>,
    variables: Vec<(OsString, OsString)>,
    flags: Vec<(Key, String)>,
}

impl Said {
    /// The least that is accepted.
    fn least() -> Self {
        Self::default().flag(Key::DataDir, "/data")
    }

    fn file(mut self, text: &str) -> Self {
        self.file = Some(SettingsFile { path: PathBuf::from("kura.toml"), text: text.to_owned() });
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    fn flag(mut self, key: Key, value: &str) -> Self {
        self.flags.push((key, value.to_owned()));
        self
    }

    fn resolve(&self) -> Result<Settings, Vec<Problem>> {
        let Self { file, variables, flags } = self;
        Settings::resolve(&Sources { file: file.as_ref(), variables, flags })
    }

    /// The settings, which must be good.
    fn settings(&self) -> Settings {
        self.resolve().unwrap_or_else(|problems| panic!("{self:?}: {problems:#?}"))
    }

    /// What is wrong, as people read it.
    fn problems(&self) -> Vec<String> {
        let problems = self.resolve().expect_err("nothing is wrong");
        problems.iter().map(ToString::to_string).collect()
    }
}

/// The value of a setting as TOML writes it, and where it comes from.
fn in_force(settings: &Settings, key: Key) -> (String, String) {
    let entry = settings.entry(key).unwrap_or_else(|| panic!("{key:?} has no value"));
    (entry.value.to_string(), entry.origin.to_string())
}
