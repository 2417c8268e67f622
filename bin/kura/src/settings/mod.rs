//! Settings: from one table and three sources to what a node is told.
//!
//! A flag wins over a variable, a variable over the file, the file over the default. All sources
//! are read to their end and all problems reported together, also those of values that something
//! else overrides: they would surprise later.

mod checks;
mod derived;
mod environment;
mod file;
mod nearest;
mod node_config;
pub(crate) mod page;
mod peer_list;
mod problem;
pub(crate) mod render;
mod setting;
mod table;
#[cfg(test)]
mod tests;
mod units;
mod value;

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    net::IpAddr,
    path::Path,
    time::Duration,
};

pub(crate) use self::{
    file::SettingsFile,
    problem::{Origin, Problem, Warning},
    setting::{Key, Setting},
    table::{JSON, SETTINGS},
};
use self::{
    setting::DefaultValue,
    value::{Value, Written},
};

/// Everything that was said about settings, before any of it is understood.
#[derive(Debug)]
pub(crate) struct Sources<'a> {
    /// The file, if one was named.
    pub(crate) file: Option<&'a SettingsFile>,
    /// All variables of the process.
    pub(crate) variables: &'a [(OsString, OsString)],
    /// The flags that were given.
    pub(crate) flags: &'a [(Key, String)],
}

/// One source says something about one setting.
#[derive(Debug)]
pub(crate) struct Assignment {
    setting: &'static Setting,
    written: Written,
    origin: Origin,
}

/// A value in force.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    value: Value,
    origin: Origin,
}

/// All settings, checked, one by one and against each other.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    /// Those that have a value. Only the capacity may lack one: it follows from the disk.
    entries: BTreeMap<Key, Entry>,
    /// What is probably a mistake.
    warnings: Vec<Warning>,
}

impl Settings {
    /// Reads the file at `path`, if one is named, and understands it together with the rest.
    ///
    /// # Errors
    ///
    /// All problems at once, as [`Settings::resolve`].
    pub(crate) fn load(
        path: Option<&Path>,
        variables: &[(OsString, OsString)],
        flags: &[(Key, String)],
    ) -> Result<Self, Vec<Problem>> {
        match path.map(SettingsFile::read).transpose() {
            Ok(file) => Self::resolve(&Sources { file: file.as_ref(), variables, flags }),
            Err(problem) => {
                let rest = Self::resolve(&Sources { file: None, variables, flags }).err();
                // What the file would have set is unknown: neither missing nor in conflict.
                let unknown = |p: &Problem| {
                    use Problem::{Conflict, Missing, SamePort};
                    matches!(p, Missing { .. } | SamePort { .. } | Conflict(_))
                };
                let rest = rest.into_iter().flatten().filter(|p| !unknown(p));
                Err(std::iter::once(problem).chain(rest).collect())
            }
        }
    }

    /// Understands `sources`.
    ///
    /// # Errors
    ///
    /// All problems at once: first those of the file, by line, then of variables, of flags, and of
    /// settings against each other.
    pub(crate) fn resolve(sources: &Sources<'_>) -> Result<Self, Vec<Problem>> {
        let (from_file, mut problems) =
            sources.file.map(SettingsFile::assignments).unwrap_or_default();
        // What a file that cannot be read as TOML would have set is unknown: neither missing nor in
        // conflict.
        let file_unknown = problems.iter().any(|p| matches!(p, Problem::Syntax { .. }));
        let from_variables = environment::read(sources.variables);
        let from_flags = sources.flags.iter().map(|(key, text)| {
            let setting = key.setting();
            let origin = Origin::Flag(setting.flag);
            Assignment { setting, written: Written::Flag(text.clone()), origin }
        });

        let mut draft = Draft::default();
        draft.assign(from_file);
        problems.append(&mut draft.problems);
        problems.sort_by_key(Problem::line);
        problems.extend(from_variables.problems);
        draft.assign(from_variables.set);
        draft.assign(from_flags);
        problems.append(&mut draft.problems);
        problems.extend(draft.fill_in(file_unknown));

        let settings = Self { warnings: from_variables.warnings, ..draft.settings };
        if !file_unknown {
            problems.extend(checks::one_port_for_two(&settings));
            let conflicts = checks::conflicts(&settings).into_iter().map(Box::new);
            problems.extend(conflicts.map(Problem::Conflict));
        }
        if problems.is_empty() { Ok(settings) } else { Err(problems) }
    }

    /// What is probably a mistake, for the log.
    pub(crate) fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The directory that holds everything.
    pub(crate) fn data_dir(&self) -> &Path {
        match self.value(Key::DataDir) {
            Some(Value::Path(path)) => path,
            found => wrong_kind(Key::DataDir, found),
        }
    }

    /// The directory that was chosen for bodies in flight, if it is not the data directory's own.
    pub(crate) fn staging_dir(&self) -> Option<&Path> {
        match self.value(Key::StagingDir) {
            None => None,
            Some(Value::Path(path)) if is_tmp_of(path, self.data_dir()) => None,
            Some(Value::Path(path)) => Some(path),
            found @ Some(_) => wrong_kind(Key::StagingDir, found),
        }
    }

    /// Where the directory for bodies in flight was set.
    pub(crate) fn staging_dir_origin(&self) -> Option<&Origin> {
        self.entry(Key::StagingDir).map(|entry| &entry.origin)
    }

    /// Whether bodies in flight may lie on another file system than the data.
    pub(crate) fn may_stage_on_other_file_system(&self) -> bool {
        match self.value(Key::OtherFileSystem) {
            Some(Value::Switch(is_on)) => *is_on,
            found => wrong_kind(Key::OtherFileSystem, found),
        }
    }

    /// The filter of the log.
    pub(crate) fn log_filter(&self) -> &str {
        match self.value(Key::LogFilter) {
            Some(Value::LogFilter(filter)) => filter,
            found => wrong_kind(Key::LogFilter, found),
        }
    }

    /// Whether the log is JSON.
    pub(crate) fn log_is_json(&self) -> bool {
        self.choice(Key::LogFormat) == JSON
    }

    fn entry(&self, key: Key) -> Option<&Entry> {
        self.entries.get(&key)
    }

    fn value(&self, key: Key) -> Option<&Value> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The bytes of a setting; unset where the default follows from the disk, or, while settings
    /// are still being checked, where what was written cannot be read.
    fn bytes(&self, key: Key) -> Option<u64> {
        match self.value(key) {
            None => None,
            Some(Value::Bytes(bytes)) => Some(*bytes),
            found => wrong_kind(key, found),
        }
    }

    fn duration(&self, key: Key) -> Duration {
        match self.value(key) {
            Some(Value::Duration(duration)) => *duration,
            found => wrong_kind(key, found),
        }
    }

    fn count(&self, key: Key) -> u64 {
        match self.value(key) {
            Some(Value::Count(count)) => *count,
            found => wrong_kind(key, found),
        }
    }

    fn address(&self, key: Key) -> IpAddr {
        match self.value(key) {
            Some(Value::Address(address)) => *address,
            found => wrong_kind(key, found),
        }
    }

    fn name(&self, key: Key) -> &str {
        match self.value(key) {
            Some(Value::Name(name)) => name,
            found => wrong_kind(key, found),
        }
    }

    fn peers(&self) -> &[String] {
        match self.value(Key::Peers) {
            // Absent only while settings are being checked, where what was written cannot be read.
            None => &[],
            Some(Value::Peers(peers)) => peers,
            found => wrong_kind(Key::Peers, found),
        }
    }

    /// Whether peers are served: there are some, or somebody set the port for them.
    fn has_peer_plane(&self) -> bool {
        let port_is_set = self.entry(Key::PeerPort).is_some_and(|it| it.origin != Origin::Default);
        port_is_set || !self.peers().is_empty()
    }

    fn choice(&self, key: Key) -> &'static str {
        match self.value(key) {
            Some(Value::Choice(name)) => name,
            found => wrong_kind(key, found),
        }
    }
}

/// Settings in the making.
#[derive(Default)]
struct Draft {
    settings: Settings,
    /// What somebody set and nobody can read: no default may take its place.
    unreadable: BTreeSet<Key>,
    problems: Vec<Problem>,
}

impl Draft {
    /// Takes over what a source says, over what earlier ones said.
    fn assign(&mut self, assignments: impl IntoIterator<Item = Assignment>) {
        for Assignment { setting, written, origin } in assignments {
            match setting.kind.read(&written) {
                Ok(value) => {
                    self.unreadable.remove(&setting.key);
                    self.settings.entries.insert(setting.key, Entry { value, origin });
                }
                Err(why) => {
                    self.unreadable.insert(setting.key);
                    self.settings.entries.remove(&setting.key);
                    self.problems.push(Problem::BadValue { origin, setting, found: written, why });
                }
            }
        }
    }

    /// Gives every setting that nobody set its default, and reports those that have none.
    fn fill_in(&mut self, file_unknown: bool) -> Vec<Problem> {
        let mut missing = Vec::new();
        for setting in &SETTINGS {
            match &setting.default {
                DefaultValue::Fixed(value) => self.offer(setting.key, Some(value.clone())),
                DefaultValue::Required { example } => {
                    if !file_unknown && !self.is_set(setting.key) {
                        missing.push(Problem::Missing { setting, example });
                    }
                }
                DefaultValue::Derived { .. } => {}
            }
        }
        // In this order: the second follows from the first.
        self.offer(Key::Segment, derived::segment(self));
        self.offer(Key::MaxBody, derived::max_body(&self.settings));
        missing
    }

    /// Sets a default, where there is one and nobody set anything.
    fn offer(&mut self, key: Key, default: Option<Value>) {
        if let Some(value) = default.filter(|_| !self.is_set(key)) {
            self.settings.entries.insert(key, Entry { value, origin: Origin::Default });
        }
    }

    /// Whether somebody set it, be it to something that cannot be read.
    fn is_set(&self, key: Key) -> bool {
        self.settings.entries.contains_key(&key) || self.unreadable.contains(&key)
    }
}

/// Whether `path` is what staging is by default.
fn is_tmp_of(path: &Path, data_dir: &Path) -> bool {
    path.parent() == Some(data_dir) && path.file_name() == Some("tmp".as_ref())
}

/// The table says one thing about the kind of a setting and the code that asks another.
fn wrong_kind(key: Key, found: Option<&Value>) -> ! {
    panic!("the setting {key:?} is asked for as something else than the table says: {found:?}")
}
